"""Models that version 0.1.0 saved: they load, and continue to train as they would have there."""

import pathlib
import shutil
import zipfile

import h5py
import keras
import numpy as np
import pytest
from support import IMAGE

LEGACY = pathlib.Path(__file__).parents[1] / "legacy"
EXPECTED = np.load(LEGACY / "expected.npz")
IMAGES = np.random.default_rng(0).random((20, *IMAGE), dtype=np.float32)
LABELS = np.arange(20) % 4
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def loaded(name):
    return keras.saving.load_model(LEGACY / f"{name}.keras")


def check(name, found):
    np.testing.assert_allclose(found, EXPECTED[name], **CLOSE, err_msg=name)


def check_flow_vae(model):
    check("flow_vae_reconstruct", model.reconstruct(IMAGES[:3], LABELS[:3]))
    check("flow_vae_generate", model.generate(2, seed=3, condition=[0, 1]))
    check("flow_vae_score", model.score(IMAGES[:3], LABELS[:3]))


def check_next_epoch(model):
    model.fit(IMAGES, LABELS, epochs=1, verbose=0, shuffle=False)
    check("flow_vae_after_another_epoch", model.reconstruct(IMAGES[:3], LABELS[:3]))


def test_a_vae_whose_posterior_and_likelihood_have_weights():
    check_flow_vae(loaded("flow_vae"))


def test_its_optimizer_continues_where_it_stopped():
    check_next_epoch(loaded("flow_vae"))


def test_it_loads_again_when_it_is_saved_by_this_version(tmp_path):
    loaded("flow_vae").save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    check_flow_vae(model)
    check_next_epoch(model)


def test_a_weights_file_of_the_old_version(tmp_path):
    with zipfile.ZipFile(LEGACY / "flow_vae.keras") as archive:
        archive.extract("model.weights.h5", tmp_path)
    model = loaded("flow_vae")
    model.set_weights([weight + 1 for weight in model.get_weights()])
    model.load_weights(tmp_path / "model.weights.h5")
    check_flow_vae(model)


def test_weights_of_this_version_replace_those_of_the_old_file(tmp_path):
    other = loaded("flow_vae")
    other.set_weights([weight + 1 for weight in other.get_weights()])
    other.save_weights(tmp_path / "other.weights.h5")
    model = loaded("flow_vae")
    model.load_weights(tmp_path / "other.weights.h5")
    for found, expected in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_vae_with_the_optimal_scale_and_a_prior_of_its_encoder():
    model = loaded("vamp_vae")
    check("vamp_vae_reconstruct", model.reconstruct(IMAGES[:3]))
    check("vamp_vae_score", model.score(IMAGES[:3]))
    check("vamp_vae_variance", model.likelihood.variance)


def test_an_autoencoder():
    model = loaded("autoencoder")
    check("autoencoder_score", model.score(IMAGES[:3]))
    check("autoencoder_generate", model.generate(2, seed=3))
    check("autoencoder_loss", model.evaluate(IMAGES, verbose=0))


def test_a_conditional_gan():
    model = loaded("conditional_gan")
    check("conditional_gan_generate", model.generate(2, seed=3, condition=[0, 1]))
    check("conditional_gan_discriminate", model.discriminate(IMAGES[:3], LABELS[:3]))


def without_entry(source, target, entry):
    """Copy a `.keras` file, without one entry of its weights."""
    folder = target.with_suffix("")
    shutil.unpack_archive(source, folder, "zip")
    with h5py.File(folder / "model.weights.h5", "a") as weights:
        del weights[entry]
    with zipfile.ZipFile(target, "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    return target


@pytest.mark.parametrize("entry", ["vars/8", "vars", "layers/normal_mixture/vars/0"])
def test_an_old_file_in_which_an_entry_is_missing_is_refused(entry, tmp_path):
    file = without_entry(LEGACY / "flow_vae.keras", tmp_path / "model.keras", entry)
    with pytest.raises(ValueError, match="could not be loaded"):
        keras.saving.load_model(file)


NETWORKS = "layers/inverse_autoregressive_normal/networks"


@pytest.mark.parametrize(
    "entry",
    [
        "layers/normal/vars/0",
        "layers/inverse_autoregressive_normal",
        f"{NETWORKS}/autoregressive_network/context_layer/vars/1",
    ],
)
def test_a_new_file_in_which_an_entry_is_missing_is_refused(entry, tmp_path):
    loaded("flow_vae").save(tmp_path / "whole.keras")
    file = without_entry(tmp_path / "whole.keras", tmp_path / "model.keras", entry)
    with pytest.raises(ValueError, match="could not be loaded"):
        keras.saving.load_model(file)
