"""Runs with a density that is fitted to latents, during a training and after it."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from keras_gen import cli
from keras_gen.distributions import FittedFlow, FittedMixture, StandardNormal
from keras_gen.runs import RunFolder
from keras_gen.runs import evaluate as finished
from keras_gen.runs import train as run
from keras_gen.runs.recipes import AutoencoderConfig, GANConfig, VAEConfig, build

pytestmark = pytest.mark.usefixtures("unverified")
SEEDS = tf.range(30, dtype=tf.int64)
SMALL = {"network": "mlp", "hidden": (8,), "latent_size": 3, "epochs": 2, "batch_size": 16}


@pytest.fixture
def settings(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, size=(40, 6, 6), dtype=np.uint8)
    np.savez(tmp_path / "digits.npz", x=x, y=np.arange(40) % 3)
    folders = {"runs": tmp_path / "runs", "savedmodels": tmp_path / "savedmodels"}
    return {"data": str(tmp_path / "digits.npz"), "images_every": 1, **SMALL, **folders}


@pytest.fixture(autouse=True)
def quick_flow(monkeypatch):
    quick = functools.partialmethod(FittedFlow.fit, num_steps=5)
    monkeypatch.setattr(FittedFlow, "fit", quick)


def log_prob(distribution, z):
    return distribution.distribution().log_prob(z).numpy().mean()


def test_a_run_fits_the_density_and_another_one_afterwards(settings, tmp_path, capsys):
    folder = RunFolder(run.train(VAEConfig(latent_density="mixture", **settings)))
    assert "latent_density: mixture\n" in folder.config_file.read_text()
    model = folder.load_model()
    assert isinstance(model.density, FittedMixture)
    latents = model.generate_rows(SEEDS)["latents"]
    np.testing.assert_allclose(latents, model.density.sample_rows(SEEDS), atol=1e-5)
    assert log_prob(model.density, latents) > log_prob(StandardNormal(3), latents) + 0.05
    served = tf.saved_model.load(str(tmp_path / "savedmodels" / "vae" / "1")).signatures
    np.testing.assert_allclose(served["generate"](seed=SEEDS)["latents"], latents, atol=1e-5)

    folder.evaluation_file.write_text('{"scores": [], "comments": []}')
    cli.main(["fit-density", str(folder.path), "--density", "flow"])
    output = capsys.readouterr().out
    assert "The run contains the density: fitted_flow" in output
    assert f"`keras-gen export {folder.path}`" in output
    assert "latent_density: flow\n" in folder.config_file.read_text()
    assert "latent_density: flow" in folder.training_card()
    assert not folder.evaluation_file.exists()
    again = folder.load_model()
    assert isinstance(again.density, FittedFlow)
    for old, new in zip(model.trainable_weights, again.trainable_weights, strict=True):
        np.testing.assert_array_equal(old, new)
    assert len(again.optimizer.variables) == len(model.optimizer.variables)
    version = finished.export(folder.path)
    assert "density: FittedFlow(event_size=3" in (
        version / "assets.extra" / "MODEL_CARD.md"
    ).read_text("utf-8")
    served = tf.saved_model.load(str(version)).signatures["generate"]
    np.testing.assert_allclose(served(seed=SEEDS)["outputs"], again.generate(seed=SEEDS), atol=1e-5)


@pytest.mark.usefixtures("unpublished")
def test_a_run_of_an_autoencoder_has_the_density_that_was_asked_for(settings):
    folder = run.train(AutoencoderConfig(latent_density="flow", **settings))
    assert isinstance(RunFolder(folder).load_model().prior, FittedFlow)
    RunFolder(folder).evaluation_file.write_text('{"scores": [], "comments": []}')
    density = finished.fit_density(folder, "mixture", num_components=4)
    assert not RunFolder(folder).evaluation_file.exists()  # it had scores of other samples
    assert "latent_density: mixture" in RunFolder(folder).report_file.read_text("utf-8")
    assert (density.num_components, density.fitted_components) == (4, 4)
    assert RunFolder(folder).read_config().latent_density == "mixture"
    density = finished.fit_density(folder)
    assert density.num_components is None
    assert 1 <= density.fitted_components <= 10
    loaded = RunFolder(folder).load_model()
    assert repr(loaded.prior) == "FittedMixture(event_size=3, num_components=None)"
    found = loaded.prior.sample_rows(SEEDS)
    np.testing.assert_allclose(found, density.sample_rows(SEEDS), atol=1e-5)


@pytest.mark.usefixtures("unpublished")
def test_only_runs_of_autoencoders_and_vaes_have_densities(settings):
    del settings["hidden"], settings["network"]
    gan = run.train(GANConfig(**settings))
    with pytest.raises(ValueError, match=r"autoencoder or a VAE\. Received: .* a GAN"):
        finished.fit_density(gan)
    RunFolder(gan).model_file.unlink()
    RunFolder(gan).save_model(build(AutoencoderConfig(latent_size=2), (4,), 1))
    with pytest.raises(ValueError, match="must be the folder of the run of an autoencoder"):
        finished.fit_density(gan)  # the configuration has no setting for the density


@pytest.mark.usefixtures("unpublished")
def test_settings_that_do_not_fit_are_refused(settings, tmp_path):
    conditional = {**settings, "conditional": True}
    with pytest.raises(ValueError, match="A latent density needs a model without labels"):
        run.train(VAEConfig(latent_density="flow", **conditional))
    assert not (tmp_path / "runs").exists()
    folder = run.train(VAEConfig(**conditional))
    before = (folder / "model.keras").read_bytes()
    with pytest.raises(ValueError, match="A latent density needs a model without labels"):
        finished.fit_density(folder)
    with pytest.raises(ValueError, match="`num_components` must be None for density='flow'"):
        finished.fit_density(folder, "flow", num_components=3)
    assert (folder / "model.keras").read_bytes() == before
    assert RunFolder(folder).read_config().latent_density is None


def test_a_vae_without_a_density_does_not_read_its_data_before_the_training():
    def refuse():
        raise AssertionError("the order of the data would change")

    dataset = tf.data.Dataset.from_generator(refuse, output_signature=tf.TensorSpec((None, 3)))
    assert run._before_sampling(VAEConfig(), dataset) is None
    assert build(VAEConfig(latent_size=2, network="mlp"), (4,), 1).density is None
    table = build(VAEConfig(latent_size=2, network="mlp", latent_density="flow"), (4,), 1)
    assert isinstance(table.density, FittedFlow)
    default = build(AutoencoderConfig(latent_size=2), (4,), 1)
    assert repr(default.prior) == "FittedMixture(event_size=2, num_components=10)"
