"""Registering kinds of models, and what `train` asks a configuration and a model."""

import ast
import dataclasses
import inspect
import itertools
import shlex
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from support import tiny

from keras_gen import cli, data
from keras_gen._columns import Column
from keras_gen.data import images
from keras_gen.runs import RECIPES, Recipe, RunConfig, RunFolder, config_file, register
from keras_gen.runs import train as run
from keras_gen.runs.recipes import (
    AutoencoderConfig,
    GANConfig,
    HierarchicalVAEConfig,
    VAEConfig,
    VQVAEConfig,
    build_for_table,
    for_images,
    for_table,
    image_defaults,
    kind_of,
)


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
    RECIPES["tiny"] = dataclasses.replace(TINY, build_for_table=lambda *given: tiny("gan"))
    for source in (config.data, "penguins"):
        with pytest.raises(ValueError, match=r"`patience` needs a model .* Received: patience=3"):
            run.train(dataclasses.replace(config, data=source))
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
    assert run._num_classes(config, [(None, [0, 0])], [(None, [0])]) == 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (AutoencoderConfig(network="conv", hidden=(64,)), "`hidden` must be .* for network='conv'"),
        (VAEConfig(network="residual", hidden=(64,)), "`hidden` must be .* network='residual'"),
        (VAEConfig(network="mlp", filters=(8,)), r"`filters` must be \(\) for network='mlp'"),
        (GANConfig(network="dcgan", blocks=2), "`blocks` must be 1 for network='dcgan'"),
        (GANConfig(network="mlp", blocks=2), "`blocks` must be 1 for network='mlp'"),
        (
            GANConfig(network="mlp", spectral_normalization=True),
            "`spectral_normalization` must be False for network='mlp'",
        ),
    ],
)
def test_settings_of_other_networks_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        RECIPES[kind_of(config)].build(config, (8, 8, 1), 10, None)


@pytest.mark.parametrize("config", [VAEConfig(), AutoencoderConfig(network="conv"), GANConfig()])
def test_networks_of_images_need_images(config):
    with pytest.raises(ValueError, match=r"for examples of shape \(9,\)\. Use network='mlp'"):
        RECIPES[kind_of(config)].build(config, (9,), 10, None)


def kernel_shapes(network):
    """Return the shapes of all kernels, without the shortcuts of residual blocks."""
    shapes = [tuple(weight.shape) for weight in network.weights]
    return [shape for shape in shapes if len(shape) > 1 and shape[:2] != (1, 1)]


def test_filters_hidden_and_blocks_reach_the_networks():
    image = (8, 8, 1)
    vae = run.build(VAEConfig(filters=(3, 5), latent_size=2), image, 10)
    assert kernel_shapes(vae.encoder) == [(3, 3, 1, 3), (3, 3, 3, 5), (20, 4)]
    assert kernel_shapes(vae.decoder)[:2] == [(2, 20), (3, 3, 3, 5)]
    config = VAEConfig(network="residual", filters=(3, 5), blocks=2, latent_size=2)
    vae = run.build(config, image, 10)
    widths = [shape[-1] for shape in kernel_shapes(vae.encoder)]
    assert widths == [3, *[3] * 4, *[5] * 4, 4]
    widths = [shape[-1] for shape in kernel_shapes(vae.decoder)]
    assert widths == [20, *[3] * 4, *[3] * 4, 1]
    for network in ("dcgan", "residual"):
        gan = run.build(GANConfig(network=network, filters=(6, 9), latent_size=2), image, 10)
        assert gan.discriminator.get_layer(index=1).kernel.shape[-1] == 6
        assert kernel_shapes(gan.discriminator)[-1] == (36, 1)
        assert kernel_shapes(gan.generator)[0] == (2, 2 * 2 * 4)
    gan = run.build(GANConfig(filters=(2, 1), latent_size=2), image, 10)
    assert kernel_shapes(gan.generator)[0] == (2, 2 * 2 * 1)  # at least one filter
    gan = run.build(GANConfig(network="mlp", hidden=(7, 6), latent_size=2), (9,), 10)
    assert kernel_shapes(gan.generator) == [(2, 6), (6, 7), (7, 9)]
    assert kernel_shapes(gan.discriminator) == [(9, 7), (7, 6), (6, 1)]


def test_the_networks_of_a_vector_quantized_autoencoder():
    sizes = {"vector_size": 3, "num_codes": 6}
    model = run.build(VQVAEConfig(filters=(5, 7), **sizes), (8, 8, 1), 10)
    widths = [shape[-1] for shape in kernel_shapes(model.encoder)]
    assert widths[:2] == [5, 7]
    reversed_widths = [shape[-2] for shape in kernel_shapes(model.decoder)]
    assert [width for width in reversed_widths if width in (5, 7)][:2] == [7, 5]
    assert model.prior.code_shape == (2, 2, 1)
    mlp = {"network": "mlp", "hidden": (9, 8), "positions": 4, "num_codebooks": 3}
    model = run.build(VQVAEConfig(**mlp, **sizes), (5,), 10)
    assert kernel_shapes(model.encoder) == [(5, 9), (9, 8), (8, 12)]
    assert kernel_shapes(model.decoder) == [(12, 8), (8, 9), (9, 5)]
    assert model.prior.code_shape == (4, 3)


def test_what_a_kind_does_before_it_generates_samples():
    calls = []
    model = SimpleNamespace(
        fit_latent_density=lambda data: calls.append(("density", data)),
        fit_prior=lambda data, verbose: calls.append(("prior", data, verbose)),
    )
    for kind in ("autoencoder", "vae", "vq_vae"):
        RECIPES[kind].after_fit(model, kind)
    # a console that is no terminal gets one line per epoch
    assert calls == [("density", "autoencoder"), ("density", "vae"), ("prior", "vq_vae", 2)]
    assert RECIPES["gan"].after_fit is None


def test_networks_of_runs_without_the_field_filters_are_those_of_version_0_1_0():
    """Their depth did not depend on the size of the images."""
    for kind, filters in (("gan", (64, 128)), ("vae", (32, 64)), ("autoencoder", ())):
        assert config_file.from_yaml(f"model: {kind}", "config.yaml").filters == filters
    config = config_file.from_yaml("model: gan\nfilters: []", "config.yaml")
    assert config == GANConfig()
    old = run.build(config_file.from_yaml("model: gan", "config.yaml"), (64, 64, 3), 10)
    assert kernel_shapes(old.generator)[1:] == [(4, 4, 32, 64), (4, 4, 3, 32)]
    assert kernel_shapes(old.discriminator)[:2] == [(4, 4, 3, 64), (4, 4, 64, 128)]


def test_the_size_and_the_flip_reach_the_data(tmp_path):
    x = np.random.default_rng(0).random((20, 8, 12, 1), np.float32)
    path = tmp_path / "x.npz"
    np.savez(path, x_train=x, x_test=x)
    train, test = run.load_data(GANConfig(data=str(path), image_size=(4, 5), flip=True))
    assert train.element_spec.shape[1:] == test.element_spec.shape[1:] == (4, 5, 1)
    expected = data.load(path, 64, image_size=(4, 5), flip=True)
    for mine, theirs in zip((train, test), expected, strict=True):
        np.testing.assert_array_equal(next(iter(mine)), next(iter(theirs)))
    assert not np.array_equal(next(iter(train)), next(iter(data.load(path, 64)[0])))


@pytest.mark.parametrize("setting", [{"image_size": (8, 8)}, {"flip": True}, {"filters": (3,)}])
@pytest.mark.parametrize("config", [VAEConfig, AutoencoderConfig])
def test_settings_of_images_are_refused_for_a_table(config, setting):
    (name,) = setting
    with pytest.raises(ValueError, match=f"`{name}` must be "):
        run._prepare(for_table(config(data="penguins", **setting)), run.create_strategy("single"))


def test_the_defaults_for_a_table():
    common = {"hidden": (128, 128), "batch_size": 64}
    of_autoencoder = {"loss": "columns", "latent_size": 4, "epochs": 100}
    expected = AutoencoderConfig(data="x.csv", **common, **of_autoencoder)
    assert for_table(AutoencoderConfig(data="x.csv")) == expected
    of_vae = {"network": "mlp", "likelihood": "columns", "latent_size": 8, "epochs": 200}
    of_vae |= {"prior": "mixture", "kl_weight": 0.5}
    assert for_table(VAEConfig(data="x.csv")) == VAEConfig(data="x.csv", **common, **of_vae)


def test_the_defaults_for_photographs():
    """They are used for images in colour, and for images above 32×32 pixels."""
    colored = for_images(VAEConfig(), (32, 32, 3), 31)
    grey = VAEConfig(latent_size=128, epochs=130, batch_size=64, latent_density="mixture")
    assert colored == dataclasses.replace(grey, likelihood="normal")
    assert for_images(VAEConfig(), (33, 20, 1), 31) == grey
    assert for_images(VAEConfig(), (20, 33, 1), 31) == grey
    for unchanged in ((32, 32, 1), (100,)):
        assert for_images(VAEConfig(), unchanged, 31) == VAEConfig()
    binary = VAEConfig(binarize=True)
    assert for_images(binary, (8, 8, 3), 31) == dataclasses.replace(grey, binarize=True)
    chosen = VAEConfig(likelihood="logistic_mixture", latent_size=3, epochs=2, prior="mixture")
    expected = dataclasses.replace(chosen, batch_size=64)
    assert for_images(chosen, (8, 8, 3), 31) == expected
    conditional = VAEConfig(conditional=True)
    assert for_images(conditional, (8, 8, 3), 31).latent_density is None
    few = VAEConfig(batch_size=100)
    assert for_images(few, (8, 8, 3), 10).latent_density is None
    assert for_images(few, (8, 8, 3), 11).latent_density == "mixture"


@pytest.mark.parametrize(
    ("steps", "epochs"), [(1, 300), (13, 300), (14, 286), (100, 40), (4000, 40)]
)
def test_few_images_are_passed_more_often(steps, epochs):
    """An epoch has `steps` steps with the usual batch size, 128, and twice as many with 64."""
    assert for_images(VAEConfig(), (8, 8, 3), steps).epochs == epochs


@pytest.mark.usefixtures("registered")
def test_the_defaults_for_photographs_of_other_kinds():
    of_any_network = {"latent_size": 128, "l2": 1e-7, "latent_l2": 1e-5, "learning_rate": 2e-3}
    of_autoencoder = {"network": "conv", "loss": "mse", **of_any_network}
    expected = AutoencoderConfig(epochs=160, batch_size=32, **of_autoencoder)
    assert for_images(AutoencoderConfig(), (8, 8, 3), 25) == expected
    expected = AutoencoderConfig(epochs=300, batch_size=100, **of_autoencoder)
    assert for_images(AutoencoderConfig(batch_size=100), (8, 8, 3), 25) == expected
    of_several = {"network": "conv", "event_sizes": (64, 32), "likelihood": "normal"}
    expected = HierarchicalVAEConfig(epochs=80, **of_several)
    assert for_images(HierarchicalVAEConfig(), (8, 8, 3), 25) == expected
    expected = VQVAEConfig(epochs=80, likelihood="normal")
    assert for_images(VQVAEConfig(), (8, 8, 3), 25) == expected
    expected = GANConfig(epochs=200, batch_size=16, augment=("translation",))
    assert for_images(GANConfig(), (8, 8, 3), 50) == expected
    assert for_images(GANConfig(), (8, 8, 3), 157).augment == ("translation",)
    assert for_images(GANConfig(), (8, 8, 3), 158).augment == ()
    residual = GANConfig(network="residual")
    expected = dataclasses.replace(residual, epochs=100, augment=("translation",))
    assert for_images(residual, (8, 8, 3), 50) == expected
    perceptrons = AutoencoderConfig(hidden=(9,), binarize=True)
    expected = dataclasses.replace(perceptrons, epochs=160, batch_size=32, **of_any_network)
    assert for_images(perceptrons, (8, 8, 3), 25) == expected
    assert for_images(TinyConfig(), (8, 8, 3), 25) == TinyConfig()


@pytest.fixture
def photographs(tmp_path):
    """A file with 30 images of 8×8×3."""
    path = tmp_path / "photos.npz"
    np.savez(path, x=np.random.default_rng(0).random((30, 8, 8, 3), np.float32))
    return str(path)


@pytest.mark.parametrize("kind", ["vae", "autoencoder", "gan", "hierarchical_vae", "vq_vae"])
def test_each_kind_is_built_with_its_defaults_for_photographs(kind, photographs):
    config = RECIPES[kind].config(data=photographs, batch_size=9)
    given = []

    def set_defaults(defaults):
        given.append(defaults)
        return dataclasses.replace(config, **defaults)

    prepared = run._prepare(config, run.create_strategy("single"), set_defaults)
    assert given == [image_defaults(config, (8, 8, 3), 3)]
    assert prepared.config == for_images(config, (8, 8, 3), 3) != config
    assert prepared.model.data_shape == (8, 8, 3)
    assert prepared.note.startswith("Defaults for images of 8×8×3: ")
    as_it_is = run._prepare(config, run.create_strategy("single"))
    assert (as_it_is.config, as_it_is.note) == (config, "")


@pytest.mark.parametrize("chosen", [{}, {"batch_size": 50}])
def test_the_data_have_the_batch_size_for_photographs_unless_the_user_chose_one(chosen, tmp_path):
    path = tmp_path / "photos.npz"
    np.savez(path, x=np.random.default_rng(0).random((200, 8, 8, 3), np.float32))
    config = AutoencoderConfig(data=str(path), **chosen)
    prepared = run._prepare(
        config,
        run.create_strategy("single"),
        lambda defaults: dataclasses.replace(config, **defaults),
    )
    size = chosen.get("batch_size", 32)
    assert prepared.config.batch_size == len(next(iter(prepared.train_data))) == size


def test_each_image_file_is_decoded_once_although_the_batch_size_changes(tmp_path, monkeypatch):
    for i in range(20):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)
        keras.utils.save_img(tmp_path / f"{i:02}.png", pixels, scale=False)
    decoded = []
    read_files = images._read_files

    def record(paths):
        decoded.extend(paths)
        return read_files(paths)

    monkeypatch.setattr(images, "_read_files", record)
    images._plain_decoder.cache_clear()  # otherwise it may be traced with the original function
    config = AutoencoderConfig(data=str(tmp_path))
    prepared = run._prepare(
        config,
        run.create_strategy("single"),
        lambda defaults: dataclasses.replace(config, **defaults),
    )
    images._plain_decoder.cache_clear()
    assert prepared.config.batch_size != config.batch_size
    assert len(decoded) == len(set(decoded)) == 20


def test_many_photographs_get_a_density_of_latents_unless_it_is_turned_off(tmp_path, capsys):
    path = tmp_path / "photos.npz"
    np.savez(path, x=np.random.default_rng(0).random((1200, 8, 8, 3), np.float32))
    command = ["train", "--dry-run", "vae", "--data", str(path), "--batch-size", "64"]
    cli.main(command)
    output = capsys.readouterr().out
    assert "latent_density: mixture\n" in output
    assert "--latent-density mixture" in output
    cli.main([*command, "--latent-density", "None"])
    output = capsys.readouterr().out
    assert "latent_density: null\n" in output
    assert "--latent-density" not in output


def test_the_command_line_says_which_defaults_are_those_for_photographs(photographs, capsys):
    command = ["train", "--dry-run", "vae", "--data", photographs, "--network", "mlp"]
    cli.main([*command, "--hidden", "9", "--batch-size", "9", "--latent-size", "3"])
    settings, _, rest = capsys.readouterr().out.partition("\n\n")
    chosen = {"network": "mlp", "hidden": (9,), "batch_size": 9, "latent_size": 3}
    expected = VAEConfig(data=photographs, likelihood="normal", epochs=300, **chosen)
    assert config_file.from_yaml(settings, "the output") == expected
    assert rest.startswith(
        "Defaults for images of 8×8×3: `--likelihood normal --epochs 300`. To change a default, "
        "pass its flag.\n\n"
    )


@pytest.mark.parametrize("field", ["seed", "skip_corrupt"])
def test_defaults_for_images_that_come_too_late_are_refused(field, photographs, monkeypatch):
    recipe = dataclasses.replace(RECIPES["vae"], image_defaults=lambda *given: {field: 7})
    monkeypatch.setitem(RECIPES, "vae", recipe)
    config = VAEConfig(data=photographs)
    expected = rf"`{field}` must have the same default for all data.*{field}=7 .* recipe 'vae'"
    with pytest.raises(ValueError, match=expected):
        run._prepare(
            config,
            run.create_strategy("single"),
            lambda defaults: dataclasses.replace(config, **defaults),
        )


@pytest.mark.slow
def test_a_run_on_photographs_names_and_stores_their_defaults(photographs, tmp_path, capsys):
    command = ["train", "vae", "--data", photographs, "--network", "mlp", "--hidden", "9"]
    command += ["--epochs", "1", "--latent-size", "3", "--runs", str(tmp_path / "runs")]
    cli.main([*command, "--savedmodels", str(tmp_path / "savedmodels")])
    printed = capsys.readouterr().out
    expected = "Defaults for images of 8×8×3: `--likelihood normal --batch-size 64`. "
    assert printed.startswith(expected)
    config = RunFolder(tmp_path / "runs" / "vae").read_config()
    assert (config.likelihood, config.batch_size) == ("normal", 64)


@pytest.mark.parametrize("kind", ["gan", "hierarchical_vae", "vq_vae"])
def test_large_grey_images_have_defaults_that_build_a_model(kind, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).random((30, 36, 36), np.float32))
    config = RECIPES[kind].config(data=str(tmp_path / "x.npz"), batch_size=9)
    prepared = run._prepare(
        config,
        run.create_strategy("single"),
        lambda defaults: dataclasses.replace(config, **defaults),
    )
    assert prepared.config.epochs == 300
    assert prepared.model.data_shape == (36, 36, 1)
    if kind != "gan":
        assert prepared.config.likelihood == "bernoulli"


def test_defaults_that_are_not_used_are_not_named(photographs, capsys):
    command = ["train", "--dry-run", "vae", "--data", photographs, "--network", "mlp"]
    command += ["--likelihood", "bernoulli", "--latent-size", "10", "--epochs", "40"]
    cli.main([*command, "--batch-size", "128"])
    settings, _, rest = capsys.readouterr().out.partition("\n\n")
    expected = VAEConfig(data=photographs, network="mlp")
    assert config_file.from_yaml(settings, "the output") == expected
    assert rest.startswith("examples ")


@pytest.mark.parametrize(
    ("setting", "expected"),
    [({"loss": "mse"}, "'columns'"), ({"network": "conv"}, "'mlp'"), ({"contractive": 0.1}, "0.0")],
)
def test_settings_that_an_autoencoder_of_a_table_lacks_are_refused(setting, expected):
    [name] = setting
    columns = data.read_table("penguins").columns
    config = for_table(AutoencoderConfig(data="penguins", **setting))
    with pytest.raises(ValueError, match=f"`{name}` must be {expected} for a table"):
        build_for_table(config, columns, 10)


def test_settings_of_images_are_refused_for_a_kind_that_does_not_check_them(monkeypatch):
    built = []
    recipe = dataclasses.replace(RECIPES["vae"], build_for_table=lambda *given: built.append(given))
    monkeypatch.setitem(RECIPES, "vae", recipe)
    build_for_table(VAEConfig(data="x.csv"), (), 10)
    assert built == [(VAEConfig(data="x.csv"), (), 10)]
    with pytest.raises(ValueError, match=r"`flip` must be False for a table\. Received: flip=True"):
        build_for_table(VAEConfig(data="x.csv", flip=True), (), 10)


@pytest.mark.parametrize(
    ("settings", "shapes"),
    [
        (
            {"event_sizes": (5, 3, 2), "hidden": (9, 8), "upper_hidden": (7, 6)},
            [
                [64, 9, 8, 10],
                [5, 7, 6, 6],
                [3, 7, 6, 4],
                [5, 8, 9, 64],
                [3, 6, 7, 10],
                [2, 6, 7, 6],
            ],
        ),
        (
            {
                "event_sizes": [5, 3, 2],
                "upper_hidden": [7],
                "hidden": [9, 8],
                "inference": "top_down",
            },
            [
                [64, 9, 8, 7],
                [7, 7, 7],
                [7, 7, 7],
                [5, 8, 9, 64],
                [3, 7, 10],
                [2, 7, 6],
            ],
        ),
        (
            {"event_sizes": (3, 2), "hidden": (9,), "upper_hidden": (), "posterior": "full"},
            [[64, 9, 9], [3, 5], [3, 9, 64], [2, 6]],
        ),
    ],
)
def test_the_layers_of_a_hierarchical_vae_reach_the_networks(settings, shapes, tmp_path):
    doubly = "inference" not in settings
    config = HierarchicalVAEConfig(
        **settings, objective="iwae", num_samples=3, doubly_reparameterized=doubly
    )
    model = run.build(config, (8, 8, 1), 10)
    found = []
    for network in (*model.encoders, *model.decoders):
        dense = [layer for layer in network.layers if isinstance(layer, keras.layers.Dense)]
        found.append([dense[0].kernel.shape[0], *(layer.units for layer in dense)])
    assert found == shapes
    assert (model.inference, repr(model.objective)) == (
        config.inference,
        f"IWAE(num_samples=3, doubly_reparameterized={doubly})",
    )
    RunFolder(tmp_path).write_config(config)
    assert RunFolder(tmp_path).read_config() == config


@pytest.mark.parametrize("kind", [VAEConfig, HierarchicalVAEConfig])
@pytest.mark.parametrize(
    "setting", [{"kl_weight": 0.5}, {"kl_warm_up": 100}, {"free_bits": 1.0}], ids=str
)
def test_the_iwae_does_not_ignore_a_setting_of_the_elbo(kind, setting):
    [name] = setting
    with pytest.raises(ValueError, match=f"`{name}` has no effect, because the IWAE bound contain"):
        run.build(kind(objective="iwae", **setting), (8, 8, 1), 10)


@pytest.mark.parametrize(
    "config",
    [
        VAEConfig(scale=0.5),
        VAEConfig(likelihood="categorical", scale="shared"),
        HierarchicalVAEConfig(scale=0.5),
        VQVAEConfig(scale=0.5),
        VAEConfig(prior_components=30),
        VAEConfig(prior="learned", prior_components=30),
        VAEConfig(column_scale="learned"),
        AutoencoderConfig(column_scale="learned"),
        GANConfig(penalties=(), penalty_weight=0.5),
        GANConfig(penalties=(), penalty_every=4),
    ],
    ids=str,
)
def test_a_setting_without_effect_is_an_error(config):
    usual = type(config)()
    last = [
        field.name
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != getattr(usual, field.name)
    ][-1]
    with pytest.raises(ValueError, match=f"`{last}` has no effect, because .*Omit `{last}`"):
        run.build(config, (8, 8, 1), 10)


@pytest.mark.parametrize("kind", [VAEConfig, HierarchicalVAEConfig])
def test_the_elbo_has_no_doubly_reparameterized_gradient(kind):
    with pytest.raises(ValueError, match="no effect, because it is for objective='iwae'"):
        run.build(kind(doubly_reparameterized=True), (8, 8, 1), 10)


def test_the_default_weight_of_the_kl_for_tables_is_no_setting_of_the_user():
    config = for_table(VAEConfig(objective="iwae", num_samples=2))
    assert config.kl_weight == 0.5
    columns = [Column("height", "real", decimals=None)]
    model = build_for_table(config, columns, 10)
    with pytest.raises(ValueError, match="`scale` has no effect"):
        build_for_table(dataclasses.replace(config, scale=0.5), columns, 10)
    assert repr(model.objective) == "IWAE(num_samples=2, doubly_reparameterized=False)"
    with pytest.raises(ValueError, match="`kl_weight` has no effect, because the IWAE"):
        build_for_table(dataclasses.replace(config, kl_weight=0.25), columns, 10)


def test_a_conditional_hierarchical_vae_has_labels_in_every_network():
    config = HierarchicalVAEConfig(network="conv", filters=(4,), conditional=True)
    assert config.needs_labels
    model = run.build(config, (8, 8, 1), 10, 4)
    assert model.num_classes == 4
    assert all(len(network.inputs) == 2 for network in (*model.encoders, *model.decoders))
    assert not HierarchicalVAEConfig().needs_labels


@pytest.mark.parametrize("settings", [{"event_sizes": ()}, {"upper_hidden": (3, 0)}])
def test_sizes_of_layers_must_be_positive(settings):
    [name] = settings
    with pytest.raises(ValueError, match=f"`{name}` must be positive numbers.*Received: {name}="):
        HierarchicalVAEConfig(**settings)
    smallest = HierarchicalVAEConfig(event_sizes=(1,), upper_hidden=(1,))
    assert (smallest.event_sizes, smallest.upper_hidden) == ((1,), (1,))


@pytest.mark.parametrize("kind", ["autoencoder", "vae", "gan"])
def test_every_kind_has_the_flags_of_images(kind):
    flags = "--network residual --filters 8 16 --blocks 2 --image-size 32 48 --flip"
    config = cli._parse(["train", kind, *flags.split()]).command.config
    assert config == RECIPES[kind].config(
        network="residual", filters=(8, 16), blocks=2, image_size=(32, 48), flip=True
    )
    config = cli._parse(["train", kind, "--network", "mlp", "--hidden", "9", "8"]).command.config
    assert config == RECIPES[kind].config(network="mlp", hidden=(9, 8))


@pytest.mark.parametrize(
    "example", [example for recipe in RECIPES.values() for example in recipe.examples]
)
def test_an_example_of_the_help_builds_its_model(example):
    config = cli._parse(shlex.split(example)[1:]).command.config
    if config.data.endswith(".csv"):
        model = build_for_table(for_table(config), data.read_table("penguins").columns, 10)
    else:
        model = run.build(config, (8, 8, 1), 10, 10 if config.needs_labels else None)
    assert model.name == config.name
    assert model.compiled
