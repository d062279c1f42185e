"""Registering kinds of models, and what `train` asks a configuration and a model."""

import ast
import dataclasses
import inspect
import itertools

import keras
import numpy as np
import pytest
from support import tiny

from keras_gen.runs import RECIPES, Recipe, RunConfig, RunFolder, register
from keras_gen.runs import train as run
from keras_gen.runs.recipes import AutoencoderConfig, GANConfig, VAEConfig, kind_of


@dataclasses.dataclass(frozen=True)
class TinyConfig(RunConfig):
    """Train a tiny GAN."""

    name: str = "tiny"
    """Name of the run and of the SavedModel."""
    patience: int | None = None
    """Early stopping."""


def build_tiny(config, data_shape, steps, num_classes):
    return tiny("gan")


TINY = Recipe("A tiny GAN", TinyConfig, build_tiny)


@pytest.fixture
def registered():
    """`register("tiny", TINY)`, for one test."""
    register("tiny", TINY)
    yield
    del RECIPES["tiny"]


@pytest.mark.usefixtures("registered")
def test_a_registered_kind_is_built_saved_and_described(tmp_path):
    assert kind_of(TinyConfig()) == "tiny"
    assert run.build(TinyConfig(), (8, 8, 1), 1).data_shape == (8, 8, 1)
    RunFolder(tmp_path).write_config(TinyConfig(epochs=7))
    assert (tmp_path / "config.yaml").read_text().startswith("model: tiny\n")
    assert RunFolder(tmp_path).read_config() == TinyConfig(epochs=7)


@pytest.mark.parametrize(
    ("kind", "recipe", "message"),
    [
        ("vae", TINY, r"`kind` must be a new name\. Received: kind='vae'"),
        ("My Kind", TINY, r"`kind` must consist of lower-case letters.*Received: kind='My Kind'"),
        ("other", TinyConfig, r"`recipe` must be a keras_gen\.runs\.Recipe\. Received"),
        ("other", dataclasses.replace(TINY, config=VAEConfig), r"Received: VAEConfig, which"),
    ],
)
def test_a_wrong_registration_is_refused(kind, recipe, message):
    before = dict(RECIPES)
    with pytest.raises(ValueError, match=message):
        register(kind, recipe)
    assert before == RECIPES


class Undecorated(RunConfig):
    """Has no decorator, so that its fields would be ignored."""

    latent_size: int = 3


@pytest.mark.parametrize("config", [dict, Undecorated, VAEConfig()])
def test_a_recipe_needs_a_configuration_class(config):
    with pytest.raises(ValueError, match=r"must be a dataclass derived from .*RunConfig.*Received"):
        Recipe("A model", config, build_tiny)


@pytest.mark.parametrize("kind", RECIPES)
def test_the_help_of_each_field_is_one_line(kind):
    """Line breaks in a help text break the script that completes commands in bash."""
    for config in (RunConfig, RECIPES[kind].config):
        (tree,) = ast.parse(inspect.getsource(config)).body
        documented = []
        for field, docstring in itertools.pairwise(tree.body):
            if isinstance(field, ast.AnnAssign):
                assert "\n" not in docstring.value.value
                documented.append(field.target.id)
        assert documented == list(config.__annotations__)


def test_the_configuration_says_whether_the_model_needs_labels():
    without = [AutoencoderConfig(), VAEConfig(), GANConfig()]
    conditional = [
        VAEConfig(conditional=True),
        VAEConfig(prior="conditional"),
        GANConfig(conditional=True),
    ]
    assert [config.needs_labels for config in without] == [False] * 3
    assert [config.needs_labels for config in conditional] == [True] * 3


@pytest.mark.usefixtures("registered")
def test_early_stopping_needs_a_model_with_a_monitor(tmp_path):
    """The error comes before a file is written."""
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).random((20, 8, 8)))
    config = TinyConfig(data=str(tmp_path / "x.npz"), patience=3, runs=tmp_path / "runs")
    with pytest.raises(ValueError, match=r"`patience` needs a model .* Received: patience=3"):
        run.train(config)
    assert not (tmp_path / "runs").exists()
    stopping = run._early_stopping(VAEConfig(patience=3), tiny("vae"))
    assert [(each.monitor, each.mode) for each in stopping] == [("val_elbo", "max")]
    stopping = run._early_stopping(AutoencoderConfig(patience=3), tiny("autoencoder"))
    assert [(each.monitor, each.mode) for each in stopping] == [("val_loss", "min")]


def write_class_folders(folder, counts):
    """Write images in one folder per class: label 0 is black, label 1 a bit brighter, …"""
    for label, count in enumerate(counts):
        (folder / f"class-{label}").mkdir(parents=True)
        for index in range(count):
            image = np.full((8, 8, 1), label / len(counts))
            keras.utils.save_img(folder / f"class-{label}" / f"{index}.png", image, scale=False)


def test_the_number_of_classes_is_metadata_or_counted_in_both_splits(tmp_path, monkeypatch):
    write_class_folders(tmp_path / "images", [9, 9, 9])
    config = VAEConfig(data=str(tmp_path / "images"), conditional=True, network="mlp")
    with monkeypatch.context() as patch:
        patch.setattr(run, "tf", None)  # counting labels would need it
        assert run._num_classes(config, None, None) == 3
    y = {"y_train": np.arange(20) % 3, "y_test": np.arange(10) % 5}
    x = {"x_train": np.zeros((20, 8, 8)), "x_test": np.zeros((10, 8, 8))}
    np.savez(tmp_path / "x.npz", **x, **y)
    config = dataclasses.replace(config, data=str(tmp_path / "x.npz"))
    assert run._prepare(config, run.create_strategy("single")).model.num_classes == 5


@pytest.mark.parametrize("kind", ["autoencoder", "vae"])
def test_hidden_layers_are_refused_for_networks_that_have_none(kind):
    config = RECIPES[kind].config(network="conv", hidden=(64,))
    with pytest.raises(ValueError, match="`hidden` contains the units of the layers"):
        RECIPES[kind].build(config, (8, 8, 1), 10, None)
