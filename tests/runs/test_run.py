"""Training runs, and the work on finished ones: the files, the settings, the callbacks."""

import csv
import dataclasses
import functools
import json
import math
import pathlib
import re
import subprocess
import threading
import types
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from keras.utils import load_img
from support import IMAGE, compiled_for_publishing, conditional_vae, tiny_gan, tiny_vae

from keras_gen import data, evaluation, serving
from keras_gen import losses as losses_of_gans
from keras_gen.evaluation.figures import save_grid
from keras_gen.fitting import CheckpointError, Checkpoints
from keras_gen.runs import RunFolder, callbacks, config_file
from keras_gen.runs import evaluate as finished
from keras_gen.runs import train as run
from keras_gen.runs.callbacks import ImageSamples, Summaries
from keras_gen.runs.environment import record_environment
from keras_gen.runs.recipes import (
    AutoencoderConfig,
    GANConfig,
    HierarchicalVAEConfig,
    VAEConfig,
    VQVAEConfig,
    build,
)
from keras_gen.runs.recipes.vae import likelihood_of, posterior_of

pytestmark = pytest.mark.usefixtures("unverified")
CONFIGS = {
    "autoencoder": AutoencoderConfig(network="conv", latent_size=3),
    "vae": VAEConfig(network="mlp", likelihood="normal"),
    "gan": GANConfig(latent_size=4, penalties=()),
    "hierarchical_vae": HierarchicalVAEConfig(
        event_sizes=(4, 3), hidden=(16,), upper_hidden=(8,), likelihood="normal"
    ),
    "vq_vae": VQVAEConfig(num_codes=8, prior_width=8, prior_depth=1, prior_epochs=1),
}


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez(path, x=np.random.default_rng(0).integers(0, 256, size=(40, 12, 12), dtype=np.uint8))
    return path


@pytest.fixture
def config(kind, digits, tmp_path):
    folders = {"runs": tmp_path / "runs", "savedmodels": tmp_path / "savedmodels"}
    return dataclasses.replace(
        CONFIGS[kind], data=str(digits), epochs=3, batch_size=16, images_every=2, **folders
    )


def test_a_run_writes_its_files(kind, config, tmp_path, capsys):
    folder = run.train(config)
    assert folder == tmp_path / "runs" / kind
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    assert saved["model"] == kind
    assert {key: saved[key] for key in ("epochs", "batch_size", "seed")} == {
        "epochs": 3,
        "batch_size": 16,
        "seed": 0,
    }
    assert saved.keys() == {"model", *(field.name for field in dataclasses.fields(config))}
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())
    files = {"config.yaml", "environment.yaml", "metrics.csv", "model.keras", "report.html"}
    assert {*files, "checkpoints"} <= {path.name for path in folder.iterdir()}
    images = {path.name for path in folder.glob("*.png")}
    kinds = {
        "autoencoder": ["reconstructions", "samples"],
        "vae": ["reconstructions", "samples"],
        "gan": ["samples"],
        "hierarchical_vae": ["reconstructions", "samples"],
        "vq_vae": ["reconstructions", "samples"],
    }[kind]
    assert images == {f"{name}-00{epoch}.png" for name in kinds for epoch in (2, 3)}
    model = keras.saving.load_model(folder / "model.keras")
    assert int(model.optimizer.iterations) == 9
    assert (
        "serving_default"
        in tf.saved_model.load(str(tmp_path / "savedmodels" / kind / "1")).signatures
    )
    output = capsys.readouterr().out
    assert re.search(r"Epoch 3/3\n3/3 - .* - loss: \S+", output)
    assert "None" not in output
    assert str(folder) in output
    if kind != "autoencoder":  # the rest is the same for every kind
        return
    assert run.train(config).name == f"{kind}-2"
    assert sorted(path.name for path in (tmp_path / "savedmodels" / kind).iterdir()) == ["1", "2"]
    with (tmp_path / "runs" / f"{kind}-2" / "metrics.csv").open() as file:
        assert list(csv.DictReader(file)) == rows  # the same seed, the same run


def test_a_table_trains_without_images(tmp_path):
    np.savetxt(tmp_path / "table.csv", np.random.default_rng(0).random((40, 5)), delimiter=",")
    config = VAEConfig(
        data=str(tmp_path / "table.csv"),
        network="mlp",
        latent_size=2,
        epochs=1,
        runs=tmp_path,
        savedmodels=tmp_path / "s",
    )
    folder = run.train(config)
    assert not list(folder.glob("*.png"))
    assert np.load(finished.sample(folder, num_samples=7)).shape == (7, 5)
    assert np.load(finished.sample(folder, 3, output=tmp_path / "samples.bin")).shape == (3, 5)


def test_every_setting_reaches_the_model():
    image = (8, 8, 1)
    bound = {
        "kl_weight": 0.5,
        "kl_warm_up": 7,
        "free_bits": 2.0,
        "num_samples": 3,
        "learning_rate": 0.125,
        "seed": 9,
    }
    expected = {
        "diagonal": "DiagonalNormal",
        "full": "FullCovarianceNormal",
        "flow": "InverseAutoregressiveNormal",
    }
    assert {name: type(posterior_of(name, 3)).__name__ for name in expected} == expected
    expected = {
        "bernoulli": "Bernoulli",
        "continuous_bernoulli": "ContinuousBernoulli",
        "normal": "Normal",
        "categorical": "Categorical",
        "logistic_mixture": "DiscretizedLogisticMixture",
    }
    found = {name: likelihood_of(VAEConfig(likelihood=name), image) for name in expected}
    assert {name: type(likelihood).__name__ for name, likelihood in found.items()} == expected
    with pytest.raises(ValueError, match="number of classes for prior='conditional'"):
        build(VAEConfig(prior="conditional"), image, 10)
    distributions = {
        "posterior": "full",
        "prior": "mixture",
        "prior_components": 4,
        "likelihood": "normal",
        "scale": 0.25,
    }
    vae = build(VAEConfig(latent_size=5, **bound, **distributions), image, 10)
    assert (
        repr(vae.objective)
        == "ELBO(kl_weight=LinearWarmUp(steps=7, end=0.5), num_samples=3, free_bits=2.0, mmd=None)"
    )
    assert repr(vae.posterior) == "FullCovarianceNormal(event_size=5)"
    assert (vae.prior.num_components, vae.likelihood.scale, vae.seed) == (4, 0.25, 9)
    assert float(vae.optimizer.learning_rate) == 0.125
    assert repr(build(VAEConfig(objective="iwae", num_samples=5), image, 10).objective).startswith(
        "IWAE(num_samples=5"
    )
    autoencoder = build(
        AutoencoderConfig(l2=0.5, loss="mse", learning_rate=0.25, latent_size=3), image, 10
    )
    kernels = [
        variable.numpy() for variable in autoencoder.variables if variable.path.endswith("kernel")
    ]
    assert float(autoencoder.regularization_loss()) == pytest.approx(
        0.5 * sum(np.square(kernel).sum() for kernel in kernels), rel=1e-5
    )
    assert (
        autoencoder.loss,
        float(autoencoder.optimizer.learning_rate),
        autoencoder.latent_shape,
    ) == ("mse", 0.25, (3,))
    gan = build(
        GANConfig(
            generator_learning_rate=0.5,
            discriminator_learning_rate=0.25,
            beta_1=0.125,
            latent_size=6,
        ),
        image,
        10,
    )
    assert [(float(o.learning_rate), o.beta_1) for o in gan.optimizer.optimizers] == [
        (0.5, 0.125),
        (0.25, 0.125),
    ]
    assert float(gan.optimizer.learning_rate) == 0.5  # the generator's, for loggers that show one
    assert (gan.prior.event_size, repr(gan.loss), repr(gan.penalties)) == (
        6,
        "NonSaturating(label_smoothing=0.0)",
        "(R1(weight=0.1, every=16),)",
    )
    assert gan.ema_momentum == 0.999
    plain = build(GANConfig(penalties=(), ema_momentum=None), image, 10)
    assert (plain.penalties, plain.ema_momentum) == ((), None)
    names = ("gradient_penalty", "dragan", "r2")
    several = build(GANConfig(penalties=names), image, 10).penalties
    assert [(each.weight, each.every) for each in several] == [(10.0, 1), (10.0, 1), (0.1, 16)]
    losses = {
        "loss": "minimax",
        "label_smoothing": 0.1,
        "penalties": ("r1", "dragan"),
        "penalty_weight": 2.0,
        "penalty_every": 4,
    }
    more = {
        "discriminator_steps": 2,
        "ema_momentum": 0.9,
        "spectral_normalization": True,
        "conditional": True,
        "augment": ("color", "cutout"),
    }
    gan = build(GANConfig(**losses, **more), image, 10, num_classes=3)
    assert repr(gan.loss) == "Minimax(label_smoothing=0.1)"
    assert (
        repr(gan.penalties)
        == "(R1(weight=2.0, every=4), DRAGAN(weight=2.0, target=1.0, noise=0.5, every=4))"
    )
    assert (gan.discriminator_steps, gan.ema_momentum, gan.num_classes) == (2, 0.9, 3)
    assert gan.augment.changes == ("color", "cutout")
    expected = {
        "least_squares": losses_of_gans.LeastSquares,
        "hinge": losses_of_gans.Hinge,
        "wasserstein": losses_of_gans.Wasserstein,
        "relativistic": losses_of_gans.RelativisticPairing,
    }
    for name, cls in expected.items():
        with pytest.raises(ValueError, match=f"must be 0 unless .* with loss='{name}'"):
            build(GANConfig(loss=name, label_smoothing=0.1), image, 10, 3)
        assert type(build(GANConfig(loss=name, filters=(2, 2)), image, 10).loss) is cls
    assert any(
        isinstance(layer, keras.layers.SpectralNormalization) for layer in gan.discriminator.layers
    )
    autoencoder = build(
        AutoencoderConfig(latent_l1=0.5, latent_l2=0.25, contractive=0.125), image, 10
    )
    assert (
        repr(autoencoder.regularizers)
        == "(LatentL1(weight=0.5), LatentL2(weight=0.25), Contractive(weight=0.125))"
    )


@pytest.mark.parametrize(  # each once; test_combinations.py has every pair
    ("prior", "likelihood"),
    [
        ("standard", "bernoulli"),
        ("learned", "continuous_bernoulli"),
        ("mixture", "normal"),
        ("vamp", "categorical"),
    ],
)
def test_every_prior_and_likelihood_trains_and_is_saved(prior, likelihood, tmp_path):
    components = {"prior_components": 3} if prior in ("mixture", "vamp") else {}
    config = VAEConfig(
        prior=prior, likelihood=likelihood, latent_size=2, network="conv", **components
    )
    model = build(config, (8, 8, 1), 10)
    model.run_eagerly = True
    x = (np.random.default_rng(0).integers(0, 256, size=(12, 8, 8, 1)) / 255).astype("float32")
    assert np.isfinite(model.fit(x, validation_data=x, verbose=0).history["val_loss"][0])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    loaded.run_eagerly = True
    np.testing.assert_allclose(loaded.generate(3, seed=1), model.generate(3, seed=1), atol=1e-6)
    assert loaded.evaluate(x, verbose=0, return_dict=True) == model.evaluate(
        x, verbose=0, return_dict=True
    )


@pytest.mark.usefixtures("unpublished")
@pytest.mark.parametrize("kind", ["vae", "gan"])
def test_a_conditional_run_generates_each_label_in_turn(kind, tmp_path):
    x, y = (
        np.random.default_rng(0).integers(0, 256, size=(40, 12, 12), dtype=np.uint8),
        np.arange(40) % 3,
    )
    np.savez(tmp_path / "labelled.npz", x=x, y=y)
    folders = {"runs": tmp_path, "savedmodels": tmp_path / "s"}
    config = (
        VAEConfig(prior="conditional", latent_size=2)
        if kind == "vae"
        else GANConfig(latent_size=2, penalties=())
    )
    config = dataclasses.replace(
        config, data=str(tmp_path / "labelled.npz"), conditional=True, epochs=1, **folders
    )
    folder = run.train(config)
    images = (
        {"samples-001.png", "reconstructions-001.png"} if kind == "vae" else {"samples-001.png"}
    )
    assert {path.name for path in folder.glob("*.png")} == images
    model = RunFolder(folder).load_model()
    assert model.num_classes == 3
    samples = np.load(finished.sample(folder, 4, seed=5, output=tmp_path / "x.npy"))
    np.testing.assert_allclose(
        samples, model.generate(4, seed=5, condition=[0, 1, 2, 0]), atol=1e-6
    )


@pytest.mark.usefixtures("unpublished")
def test_the_samples_of_a_run_are_those_of_its_model(digits, tmp_path):
    config = dataclasses.replace(
        CONFIGS["vae"], data=str(digits), epochs=1, runs=tmp_path, savedmodels=tmp_path / "s"
    )
    folder = run.train(config)
    expected = RunFolder(folder).load_model().generate(12, seed=5)
    np.testing.assert_array_equal(
        np.load(finished.sample(folder, 12, seed=5, output=tmp_path / "a" / "b" / "x.npy")),
        expected,
    )
    assert load_img(finished.sample(folder, 12, seed=5)).size == (10 * 12 * 2, 2 * 12 * 2)
    array = finished.sample(folder, 12, seed=5, output=tmp_path / "x.NPY")
    np.testing.assert_array_equal(np.load(array), expected)
    with pytest.raises(
        ValueError, match=r"The folder of a finished run must contain model\.keras\. Received"
    ):
        RunFolder(tmp_path).load_model()


def test_a_grid_shows_each_image_in_its_place(tmp_path):
    images = np.linspace(0, 1, 7)[:, None, None, None] * np.ones((7, 3, 2, 1))
    save_grid(tmp_path / "grid.png", images, columns=3, zoom=2)
    image = np.asarray(load_img(tmp_path / "grid.png", color_mode="grayscale"))
    assert image.shape == (18, 12)
    assert image[3::6, 2::4].ravel().tolist() == [0, 42, 85, 127, 170, 212, 255, 0, 0]


@pytest.mark.parametrize("kind", [AutoencoderConfig, VAEConfig, GANConfig])
def test_several_steps_per_execution_need_one_device(kind):
    assert build(kind(steps_per_execution=5), (8, 8, 1), 10).steps_per_execution == 5
    with pytest.raises(
        ValueError,
        match=r"`steps_per_execution` must be 1 .* Received: .*=2 .* Use .* strategy='single'",
    ):
        kind(steps_per_execution=2, strategy="mirrored")


def test_a_configuration_of_another_kind_is_refused():
    expected = "`config` must be .* of a registered kind: AutoencoderConfig, VAEConfig, "
    with pytest.raises(ValueError, match=expected):
        build({"epochs": 1}, (28, 28, 1), steps=1)


def rates_at(optimizer, steps):
    """Return the learning rates at some steps."""
    rates = []
    for step in steps:
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    return rates


@pytest.mark.usefixtures("unpublished")
def test_schedule_and_clipping_reach_every_optimizer(digits, tmp_path):
    def rates(steps, **settings):
        adam = build(
            VAEConfig(network="mlp", learning_rate=0.5, clip_norm=2.0, **settings), (8, 8, 1), 10
        ).optimizer
        assert adam.global_clipnorm == 2.0
        return rates_at(adam, steps)

    assert rates([0, 5, 10]) == pytest.approx([0.5, 0.25, 0.0], abs=1e-6)
    assert rates([0, 2, 4, 7, 10], warm_up=4) == pytest.approx(
        [0.0, 0.25, 0.5, 0.25, 0.0], abs=1e-6
    )
    assert rates([0, 2, 4, 10], warm_up=4, schedule="constant") == pytest.approx(
        [0.0, 0.25, 0.5, 0.5], abs=1e-6
    )
    assert rates([0, 10], schedule="constant") == [0.5, 0.5]
    assert rates([5, 10, 11], warm_up=10) == pytest.approx([0.25, 0.5, 0.0], abs=1e-6)
    gan = build(GANConfig(discriminator_steps=2, schedule="cosine"), (8, 8, 1), 10)
    for optimizer, steps, start in zip(
        gan.optimizer.optimizers, (10, 20), (1e-3, 4e-4), strict=True
    ):
        rates_of_gan = rates_at(optimizer, [0, steps // 2, steps])
        assert rates_of_gan == pytest.approx([start, start / 2, 0], abs=1e-9)
    config = GANConfig(
        latent_size=2,
        penalties=(),
        schedule="cosine",
        discriminator_steps=2,
        clip_norm=2.0,
        data=str(digits),
        batch_size=16,
    )
    config = dataclasses.replace(config, epochs=2, runs=tmp_path, savedmodels=tmp_path / "s")
    optimizers = RunFolder(run.train(config)).load_model().optimizer.optimizers
    assert [(float(each.learning_rate), each.global_clipnorm) for each in optimizers] == [
        (0.0, 2.0),
        (0.0, 2.0),
    ]  # at the end


@pytest.mark.parametrize("source", ["penguins", "digits"])
def test_the_schedule_covers_all_epochs(source, digits):
    config = VAEConfig(
        data=str(digits) if source == "digits" else source,
        network="mlp",
        likelihood="bernoulli" if source == "digits" else "columns",
        learning_rate=0.5,
        batch_size=16,
        epochs=4,
    )
    rows = 36 if source == "digits" else data.read_table("penguins").train.shape[0]
    steps = 4 * math.ceil(rows / 16)
    optimizer = run._prepare(config, run.create_strategy("single")).model.optimizer
    found = rates_at(optimizer, [0, steps // 2, steps])
    assert found == pytest.approx([0.5, 0.25, 0.0], abs=1e-6)


@pytest.mark.usefixtures("unpublished")
def test_patience_stops_a_training_and_restores_its_best_weights(digits, tmp_path):
    folders = {"runs": tmp_path, "savedmodels": tmp_path / "s"}
    config = VAEConfig(
        network="mlp",
        latent_size=2,
        learning_rate=1.0,
        schedule="constant",
        patience=2,
        epochs=20,
        **folders,
    )
    folder = run.train(dataclasses.replace(config, data=str(digits), batch_size=16))
    with (folder / "metrics.csv").open() as file:
        elbos = [float(row["val_elbo"]) for row in csv.DictReader(file)]
    best = int(np.argmax(elbos))
    assert len(elbos) == best + 3 < 20
    _, test = run.data.load(digits)
    evaluated = RunFolder(folder).load_model().evaluate(test, verbose=0, return_dict=True)
    assert evaluated["elbo"] == pytest.approx(elbos[best], rel=1e-5)
    assert {path.name for path in folder.glob("samples-*.png")} == {f"samples-{len(elbos):03d}.png"}


def test_a_dry_run_describes_the_training_and_writes_nothing(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = run.describe(
        VAEConfig(network="mlp", latent_size=2, data=str(digits), batch_size=16, epochs=7)
    )
    assert "latent_size: 2\n" in text
    assert "36 to train with, 4 to validate, each (12, 12, 1)" in text
    assert "3 per epoch, 21 in total" in text
    encoder = 144 * 512 + 512 + 512 * 256 + 256 + 256 * 4 + 4
    assert f"{encoder:,} in encoder" in text
    time = r"time +(\d+\.\d) ms per step \(median of 20\), the first step \d+\.\d s"
    step = float(re.search(time, text)[1]) / 1000
    epoch, total = re.search(r"(\d+\.\d) s per epoch, (\d+\.\d) min in total", text).groups()
    assert float(epoch) == pytest.approx(3 * step, abs=0.06)
    assert float(total) == pytest.approx(21 * step / 60, abs=0.06)
    memory = float(re.search(r"memory +(\d+\.\d\d) GiB of main memory", text)[1])
    status = pathlib.Path("/proc/self/status").read_text()
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 2**20
    assert 0.5 * peak < memory < 1.01 * peak
    assert not list(tmp_path.iterdir())


def test_a_dry_run_of_a_table_shows_its_columns_and_the_time(monkeypatch):
    monkeypatch.setattr(run, "_time_steps", lambda model, train_data: (2.5, 0.25))
    usage = types.SimpleNamespace(ru_maxrss=100 * 2**20)  # in KiB
    monkeypatch.setattr(run.resource, "getrusage", lambda who: usage)
    config = VAEConfig(data="penguins", network="mlp", likelihood="columns", epochs=6)
    table = data.read_table("penguins")
    lines = run.describe(dataclasses.replace(config, batch_size=100)).splitlines()
    text = "\n".join(lines)
    assert f"\n{table}\n" in text
    assert "310 to train with, 34 to validate" in text
    assert "memory      100.00 GiB" in text
    assert "250.0 ms per step" in text
    assert "the first step 2.5 s" in text
    assert "1.0 s per epoch, 0.1 min in total" in text


def test_the_time_of_a_step_is_a_median_without_the_first_step(monkeypatch):
    """The first step takes 7 seconds, because it traces the graph; the later ones 1, 2, 3, …"""
    seconds = iter([100, 107, *(107 + np.cumsum(range(1, 30)))])
    monkeypatch.setattr(run.time, "perf_counter", lambda: float(next(seconds)))

    def fit(dataset, steps_per_epoch, verbose, callbacks):
        warnings.warn("a warning about this model would confuse the user", stacklevel=1)
        assert verbose == 0
        for step in range(steps_per_epoch):
            for callback in callbacks:
                callback.on_train_batch_end(step, {})

    model = types.SimpleNamespace(fit=fit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, later = run._time_steps(model, tf.data.Dataset.range(3))
    assert (first, later) == (7.0, np.median(range(1, 21)))


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [("single", "single"), ("mirrored", "mirrored"), ("multiworker", "single")],
)
def test_a_dry_run_uses_the_devices_of_this_machine(strategy, expected, monkeypatch):
    def stop(name):
        raise InterruptedError(name)

    monkeypatch.setattr(run, "create_strategy", stop)
    with pytest.raises(InterruptedError, match=f"^{expected}$"):
        run.describe(VAEConfig(strategy=strategy))


def test_only_an_unfinished_run_with_the_same_settings_is_resumed(tmp_path, monkeypatch):
    config = VAEConfig(name="digits", epochs=3, runs=tmp_path)
    folder, _ = RunFolder.create(config)
    resumed = []
    monkeypatch.setattr(run, "_prepare", lambda config, strategy: ("prepared", config))
    monkeypatch.setattr(run, "_fit_and_save", lambda *args: resumed.append(args))
    other = dataclasses.replace(config, epochs=4)
    with pytest.raises(ValueError, match=r"`epochs` must be 3, as in .*digits\. Received: 4\."):
        run.resume(folder.path, other)
    with folder.lock(), pytest.raises(ValueError, match="which another process is training"):
        run.resume(folder.path)
    assert not resumed
    assert run.resume(folder.path) == folder.path
    moved = dataclasses.replace(config, runs=tmp_path / "other", name="other")
    assert run.resume(folder.path, moved) == folder.path
    found = [(prepared, folder.path) for prepared, folder, _ in resumed]
    assert found == [(("prepared", config), folder.path)] * 2
    folder.model_file.touch()
    with pytest.raises(
        ValueError, match=r"Only an unfinished run .*`keras_gen\.runs\.evaluate\.exp"
    ):
        run.resume(folder.path)
    assert len(resumed) == 2


def test_a_new_run_waits_while_another_process_uses_its_folder(tmp_path, monkeypatch):
    config = VAEConfig(runs=tmp_path)
    folder, _ = RunFolder.create(config)
    trained = []
    monkeypatch.setattr(run, "_prepare", lambda *args: run._Prepared(config, None, None, None))
    monkeypatch.setattr(run, "_create_folder", lambda *args: folder)
    monkeypatch.setattr(run, "_fit_and_save", lambda *args: trained.append(args[0].config))
    failures = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    training = threading.Thread(target=run.train, args=(config,))
    with folder.lock():
        training.start()
        training.join(0.2)
        assert training.is_alive()
    training.join(20)
    assert (trained, failures) == ([config], [])


def test_a_worker_that_is_not_the_chief_prints_and_records_nothing(tmp_path, monkeypatch, capsys):
    """It has checkpoints of its own. If it has a disk of its own, it also has a folder there."""
    given = []
    model = types.SimpleNamespace(fit=lambda data, **arguments: given.append(arguments))
    monkeypatch.setattr(run, "is_chief", lambda strategy: False)
    monkeypatch.setattr(run, "broadcast_from_chief", lambda strategy, number: 3)
    config = VAEConfig(name="digits", runs=tmp_path / "new" / "runs", epochs=7)
    monkeypatch.setattr(run, "_prepare", lambda *args: run._Prepared(config, model, None, None))
    for _ in range(2):
        folder = RunFolder(run.train(config))
        assert folder.path == tmp_path / "new" / "runs" / "digits-3"
        assert folder.read_config() == config
        assert [path.name for path in folder.path.iterdir()] == ["config.yaml"]
        folder.config_file.unlink()
    assert capsys.readouterr().out == ""
    assert [(each["verbose"], each["epochs"]) for each in given] == [(0, 7)] * 2
    assert [type(callback) for callback in given[0]["callbacks"]] == [Checkpoints]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, CheckpointError, ValueError])
def test_an_interrupted_training_says_how_to_resume_it(error):
    with pytest.raises(error) as stopped, run._hint_to_resume(RunFolder("runs/my run")):
        raise error
    hint = "`keras_gen.runs.train.resume('runs/my run')` continues the training."
    expected = [] if error is ValueError else [hint]
    assert getattr(stopped.value, "__notes__", []) == expected


def test_a_model_that_is_not_published_is_saved_and_can_be_exported(tmp_path, monkeypatch):
    def publish(model, base, **arguments):
        raise serving.PublishError(f"{base.name} has no space left.")

    monkeypatch.setattr(serving, "publish", publish)
    monkeypatch.setattr(RunFolder, "load_model", lambda folder: None)
    expected = (
        r"vae has no space left\. The model is trained and saved\. "
        r"`keras_gen\.runs\.evaluate\.export\('.*'\)` publishes the model\."
    )
    with pytest.raises(serving.PublishError, match=expected):
        run._publish(VAEConfig(savedmodels=tmp_path), RunFolder(tmp_path / "run"))


def test_how_many_examples_the_callbacks_of_a_run_use(tmp_path):
    random = np.random.default_rng(0)
    images = tf.data.Dataset.from_tensor_slices(random.random((501, 2, 2, 1))).batch(64)
    prepared = run._Prepared(VAEConfig(), None, images, images)
    callbacks = run._recording_callbacks(prepared, RunFolder(tmp_path))
    counts = {
        ImageSamples: lambda callback: len(callback.inputs[0]),
        Summaries: lambda callback: len(callback.examples[0]),
    }
    found = {type(each): counts[type(each)](each) for each in callbacks if type(each) in counts}
    assert found == {ImageSamples: 50, Summaries: 500}


@pytest.mark.parametrize(("count", "size"), [(10_001, 1), (17, 2**22)])
def test_a_density_for_samples_is_fitted_to_at_most_10000_examples_and_256_mib(count, size):
    example = tf.zeros((1, size), tf.uint8)  # as float32, 16 of the large ones are 256 MiB
    dataset = tf.data.Dataset.from_tensors(example).repeat(count)
    assert run._some_examples(dataset).shape == (count - 1, size)


@pytest.mark.parametrize("deterministic", [False, True])
def test_deterministic_runs_use_deterministic_operations(deterministic, digits, monkeypatch):
    """This cannot be undone in a process, so the test only sees that it is asked for."""
    asked = []
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: asked.append(True))
    config = VAEConfig(network="mlp", latent_size=2, data=str(digits), deterministic=deterministic)
    run._prepare(config, tf.distribute.get_strategy())
    assert bool(asked) == deterministic


@pytest.mark.usefixtures("unpublished")
def test_tensorboard_has_curves_samples_and_the_kl_of_each_dimension(digits, tmp_path):
    folders = {"runs": tmp_path, "savedmodels": tmp_path / "s"}
    folder = run.train(
        VAEConfig(
            network="mlp", latent_size=3, data=str(digits), epochs=3, images_every=3, **folders
        )
    )
    found = {}
    for file in (folder / "tensorboard").rglob("events.*"):
        for record in tf.data.TFRecordDataset([str(file)]):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                found[file.parent.name, value.tag, event.step] = tf.make_ndarray(value.tensor)
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for epoch, row in enumerate(rows):
        assert found["train", "epoch_loss", epoch] == pytest.approx(float(row["loss"]), rel=1e-5)
        assert found["validation", "epoch_elbo", epoch] == pytest.approx(
            float(row["val_elbo"]), rel=1e-5
        )
        of_dimensions = [
            found["examples", f"kl_per_dimension/{dimension:03d}", epoch] for dimension in range(3)
        ]
        assert sum(of_dimensions) == pytest.approx(float(row["val_kl_loss"]), rel=1e-4)
    image = tf.io.decode_png(found["examples", "samples", 2][2])
    assert image.shape == (10 * 12, 10 * 12, 1)
    assert ("examples", "samples", 0) not in found
    assert ("examples", "samples", 1) not in found


def test_images_are_written_every_few_epochs_and_once_at_the_end(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(ImageSamples, "_write", lambda callback, epoch: written.append(epoch))
    callback = ImageSamples(RunFolder(tmp_path), np.zeros((2, 4, 4, 1)), every=3)
    callback.set_params({"epochs": 9})
    callback.set_model(tiny_vae()[0])
    callback.model.history = types.SimpleNamespace(epoch=[*range(9)])
    for epoch in range(9):
        callback.on_epoch_end(epoch)
    assert written == [3, 6]
    callback.on_train_end()
    assert written == [3, 6, 9]


def test_each_row_of_images_is_followed_by_its_reconstructions(tmp_path, monkeypatch):
    images = np.arange(25.0)[:, None, None, None] / 100
    model = types.SimpleNamespace(
        distribute_strategy=None, reconstruct=lambda x: x + 0.5, history=None
    )
    shown = {}
    monkeypatch.setattr(callbacks, "without_strategy", lambda model: model)
    monkeypatch.setattr(callbacks, "generate_samples", lambda *args: None)
    monkeypatch.setattr(callbacks, "save_grid", lambda path, x: shown.update({path.name: x}))
    callback = ImageSamples(RunFolder(tmp_path), images)
    callback.set_model(model)
    callback._write(12)
    assert shown.keys() == {"samples-012.png", "reconstructions-012.png"}
    first, second, last = np.arange(10), np.arange(10, 20), np.arange(20, 25)
    order = [first, first + 50, second, second + 50, last, last + 50]
    found = shown["reconstructions-012.png"].ravel()
    np.testing.assert_allclose(100 * found, np.concatenate(order))


def test_tensorboard_can_be_read_during_the_training(tmp_path, images, monkeypatch):
    def count_records():
        files = map(str, (tmp_path / "examples").glob("events.*"))
        return sum(1 for file in files for _ in tf.data.TFRecordDataset([file]))

    monkeypatch.setattr(callbacks, "generate_samples", lambda *args: np.zeros((100, *IMAGE)))
    summaries = Summaries(tmp_path, images, every=1)
    summaries.set_model(types.SimpleNamespace(has_log_likelihood=False, optimizer=None))
    summaries.on_train_begin()
    for epoch in range(2):
        summaries.on_epoch_end(epoch, {})
        assert count_records() == 2 + epoch  # the version of the file, and an image per epoch
    summaries.on_train_end()


@pytest.mark.parametrize("callback", [ImageSamples, Summaries])
def test_how_often_images_are_written_is_checked_before_the_training(callback, images, tmp_path):
    expected = f"`every` of {callback.__name__} must be an integer of at least 1. Received: every=0"
    with pytest.raises(ValueError, match=re.escape(expected)):
        callback(RunFolder(tmp_path), images, every=0)


def test_a_run_records_its_environment(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(run.pathlib.Path(__file__).parent)
        record_environment(tmp_path / "environment.yaml")
    (first,) = yaml.safe_load((tmp_path / "environment.yaml").read_text())
    assert first["versions"]["tensorflow"] == tf.__version__
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        cwd=run.pathlib.Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (first["git_commit"] or "").removesuffix("-dirty") == head.stdout.strip()
    assert any(device.startswith("CPU:") for device in first["devices"])
    assert [*first][:2] == ["started", "git_commit"]
    first["versions"]["keras"] = "3.0.0"
    (tmp_path / "environment.yaml").write_text(yaml.safe_dump([first]))
    with pytest.warns(
        UserWarning,
        match=rf"started with keras 3\.0\.0 and is resumed with {keras.__version__}",
    ) as warned:
        record_environment(tmp_path / "environment.yaml")
    assert [warning.filename for warning in warned] == [__file__]  # one package has changed
    assert len(yaml.safe_load((tmp_path / "environment.yaml").read_text())) == 2


def test_outside_a_git_repository_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    record_environment("environment.yaml")
    assert yaml.safe_load((tmp_path / "environment.yaml").read_text())[0]["git_commit"] is None


@pytest.mark.parametrize(
    "config",
    [
        AutoencoderConfig(latent_l1=1e-6, patience=3, deterministic=True),
        VAEConfig(likelihood="normal", scale=0.25, data_dir="a b", clip_norm=0.5),
        VAEConfig(scale="shared", conditional=True, image_size=(64, 48), flip=True),
        VAEConfig(network="residual", filters=(8, 16), blocks=2),
        GANConfig(penalties=("r1", "dragan"), ema_momentum=0.999),
        GANConfig(),
    ],
)
def test_a_configuration_is_read_back_from_its_file(config, tmp_path):
    RunFolder(tmp_path).write_config(config)
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == config_file.to_dict(config)
    assert RunFolder(tmp_path).read_config() == config


@pytest.mark.parametrize(
    "setting",
    [
        "epochs",
        "batch_size",
        "patience",
        "learning_rate",
        "clip_norm",
        "checkpoint_every",
        "steps_per_execution",
    ],
)
def test_settings_that_must_be_positive_are_refused(setting):
    with pytest.raises(
        ValueError, match=f"`{setting}` must be greater than 0. Received: {setting}=0"
    ):
        VAEConfig(**{setting: 0})
    with pytest.raises(ValueError, match=f"`{setting}` must be greater than 0"):
        HierarchicalVAEConfig(**{setting: 0})


@pytest.mark.usefixtures("unpublished")
@pytest.mark.filterwarnings("ignore:.*is not a likelihood")
def test_an_evaluation_writes_its_table_figures_and_report_in_the_folder(tmp_path, monkeypatch):
    np.savez(
        tmp_path / "x.npz",
        x=np.random.default_rng(0).random((100, 8, 8)).astype("float32"),
        y=np.arange(100) % 3,
    )
    config = VAEConfig(
        network="mlp",
        latent_size=3,
        data=str(tmp_path / "x.npz"),
        epochs=1,
        runs=tmp_path,
        savedmodels=tmp_path / "s",
    )
    folder = run.train(config)
    result = finished.evaluate(folder, num_samples=5)
    model = RunFolder(folder).load_model()
    _, test_data = data.load(config.data, 100)
    test = np.concatenate(list(test_data.as_numpy_iterator()))
    losses = model.evaluate(test, verbose=0, return_dict=True)
    saved = {
        score["name"]: score["value"]
        for score in json.loads((folder / "evaluation.json").read_text())["scores"]
    }
    assert saved["elbo"] == pytest.approx(losses["elbo"], rel=1e-6)
    assert saved == {score.name: score.value for score in result.scores}
    assert {"traversals.png", "interpolations.png", "codes.png"} <= {
        path.name for path in folder.glob("*.png")
    }
    names = {"traversals", "interpolations", "latents", "anomalies"}
    assert names <= RunFolder(folder).figures().keys()
    report = (folder / "report.html").read_text().lower()
    assert "traversals" in report
    assert "with the largest anomaly scores" in report
    assert "fid" not in saved
    pixels = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    pixels.save(tmp_path / "pixels.keras")
    result = finished.evaluate(folder, num_samples=5, extractor=tmp_path / "pixels.keras")
    train = np.concatenate(list(run.load_data(config)[0].unbatch().batch(10).as_numpy_iterator()))
    extractor = evaluation.Extractor(pixels, "pixels")
    quality = evaluation.sample_quality(model, test, train[:10], extractor)
    found = {score.name: score for score in result.scores}
    assert found["FID"].value == pytest.approx(quality.scores["fid"], rel=1e-4)
    assert "extractor pixels" in found["FID"].protocol
    keras.Sequential([keras.Input((9, 8, 1)), keras.layers.Flatten()]).save(tmp_path / "9.keras")
    expected = r"must have the shape \(9, 8, 1\) of the inputs of the extractor 9.*\(8, 8, 1\)"
    with pytest.raises(ValueError, match=expected):
        finished.evaluate(folder, num_samples=5, extractor=tmp_path / "9.keras")
    (folder / "evaluation.json").unlink()
    monkeypatch.setattr(evaluation, "save_latent_figures", lambda model, *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        finished.evaluate(folder, num_samples=5)
    assert (folder / "evaluation.json").is_file()  # although a figure could not be made


@pytest.mark.usefixtures("unpublished")
def test_the_files_of_an_audit(tmp_path, monkeypatch):
    """The audit itself is tested elsewhere; here it returns what it is told."""
    x = np.random.default_rng(0).random((20, 8, 8)).astype("float32")
    np.savez(tmp_path / "x.npz", x=x)
    config = VAEConfig(
        network="mlp",
        latent_size=3,
        learning_rate=0.5,
        batch_size=6,
        data=str(tmp_path / "x.npz"),
        runs=tmp_path,
    )
    folder, _ = RunFolder.create(config)
    folder.save_model(build(config, (8, 8, 1), 10))
    gain = evaluation.Interval(0.5, 0.25, 0.75)
    expected = evaluation.IndependenceAudit(gain, gain, gain, gain, gain, np.eye(3), (0, 1), 4)
    given = {}

    def audit_independence(model, train, test, labels, **arguments):
        given.update(arguments, batches=len(train()), test=test, labels=labels)
        given["rates"] = rates_at(model.optimizer, [0, 4, 5, 9])
        return expected

    monkeypatch.setattr(evaluation, "audit_independence", audit_independence)
    result = finished.audit(folder.path, epochs=3, num_seeds=2, images=4, num_samples=20)
    assert result is expected
    assert given.pop("test").shape == (2, 8, 8, 1)
    expected_arguments = {"epochs": 3, "seeds": (0, 1), "images": 4, "num_samples": 20}
    # the schedule covers the 9 steps of the audit, and its middle is step 4.5
    start, before, after, end = given.pop("rates")
    assert (start, before + after, end) == pytest.approx((0.5, 0.5, 0.0), abs=1e-6)
    assert given == {**expected_arguments, "batches": 3, "labels": None}
    saved = json.loads(folder.audit_file.read_text())
    assert saved["elbo_gain"] == [0.5, 0.25, 0.75]
    assert saved["words"] == str(expected).split("\n")
    assert load_img(folder.correlations_file).size[0] > 100
    assert "Was independence adequate?" in folder.report_file.read_text()


@pytest.mark.parametrize("config", [GANConfig(), AutoencoderConfig()])
def test_an_audit_needs_a_vae(config, digits, tmp_path):
    config = dataclasses.replace(config, latent_size=2, data=str(digits), runs=tmp_path)
    folder, _ = RunFolder.create(config)
    folder.save_model(build(config, (12, 12, 1), 10))
    with pytest.raises(ValueError, match=r"the run of a VAE .* Received: .*, the run of a "):
        finished.audit(folder)


@pytest.mark.parametrize("make", [tiny_vae, tiny_gan, conditional_vae])
@pytest.mark.parametrize("binarize", [False, True])
def test_samples_that_are_means_are_compared_with_grey_values(
    make, binarize, tmp_path, monkeypatch
):
    """A VAE of binary pixels generates probabilities; a GAN generates what it was trained with."""
    x = np.random.default_rng(0).random((60, *IMAGE))
    np.savez(tmp_path / "x.npz", x_train=x[:50], x_test=x[50:], y_train=[2] * 50, y_test=[1] * 10)
    model = compiled_for_publishing(make)
    config = VAEConfig(data=str(tmp_path / "x.npz"), conditional=make is conditional_vae)
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.write_config(dataclasses.replace(config, binarize=binarize))
    folder.save_model(model)
    given = {}

    def summarize(model, test, labels, other_real, num_samples, **arguments):
        arguments.update(test=test, labels=labels, other_real=other_real, num_samples=num_samples)
        return given.update(arguments) or evaluation.Evaluation([], [])

    monkeypatch.setattr(evaluation, "summarize", summarize)
    shown = []
    folder.write_classes(["a", "b", "c"])

    def save_latent_figures(model, path, test, labels, seed, names):
        assert (seed, names) == (3, ["a", "b", "c"])
        shown.append(labels)

    monkeypatch.setattr(evaluation, "save_latent_figures", save_latent_figures)
    monkeypatch.setattr(finished.anomalies, "save_anomalies", lambda *args: shown.append(args[3]))
    finished.evaluate(folder, 7, seed=3)

    def is_binary(name):
        return set(np.unique(given[name])) == {0, 1}

    binary_samples = binarize and make is tiny_gan
    found = [is_binary(name) for name in ("test", "real", "other_real")]
    assert found == [binarize, binary_samples, binary_samples]
    grey = binarize and not binary_samples
    assert given["split"] == ("test in grey values" if grey else "test")
    assert (len(given["test"]), len(given["other_real"])) == (10, 10)
    assert (given["num_samples"], given["seed"]) == (7, 3)
    y = [1] * 10
    labels = y if make is conditional_vae else None
    assert given["labels"] == labels if labels is None else given["labels"].tolist() == labels
    assert shown[0].tolist() == y  # the plot of the latents has colors in any case
    assert len(shown) == (1 if make is tiny_gan else 2)


@pytest.mark.parametrize("png", [False, True])
def test_a_run_is_exported_to_the_folder_of_its_configuration(png, tmp_path, monkeypatch):
    published = []

    def publish(model, base, png, card, class_names):
        published.append((base, png, "learning_rate" in card, class_names))
        return base / "1"

    monkeypatch.setattr(serving, "publish", publish)
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.save_model(compiled_for_publishing())
    assert finished.export(folder, png=png) == pathlib.Path("savedmodels", "run", "1")
    folder.write_config(AutoencoderConfig(name="mine", savedmodels=tmp_path / "s"))
    folder.write_classes(["a", "b"])
    finished.export(folder, png=png)
    finished.export(folder, tmp_path / "other", png)
    assert published == [
        (pathlib.Path("savedmodels", "run"), png, False, None),
        (tmp_path / "s" / "mine", png, True, ["a", "b"]),
        (tmp_path / "other", png, True, ["a", "b"]),
    ]


def test_an_audit_writes_its_result_into_the_folder(tmp_path, monkeypatch):
    quick = functools.partial(evaluation.audit_independence, refinement_steps=20)
    monkeypatch.setattr(evaluation, "audit_independence", quick)
    np.savez(
        tmp_path / "x.npz",
        x=np.random.default_rng(0).random((60, 8, 8)).astype("float32"),
        y=np.arange(60) % 3,
    )
    config = VAEConfig(
        network="mlp",
        latent_size=3,
        conditional=True,
        prior="conditional",
        data=str(tmp_path / "x.npz"),
        batch_size=27,
    )
    folder = run.train(
        dataclasses.replace(
            config, binarize=True, epochs=1, runs=tmp_path, savedmodels=tmp_path / "s"
        )
    )
    weights = RunFolder(folder).load_model().get_weights()
    result = finished.audit(folder, epochs=1, num_seeds=2, images=3, num_samples=20)
    saved = json.loads((folder / "audit.json").read_text())
    assert saved["elbo_gain"] == list(result.elbo_gain)
    assert np.shape(saved["correlations"]) == (3, 3)
    assert "Was independence adequate?" in (folder / "report.html").read_text()
    assert load_img(folder / "correlations.png").size[0] > 100
    assert all(
        np.array_equal(a, b)
        for a, b in zip(weights, RunFolder(folder).load_model().get_weights(), strict=True)
    )
    seen = {}
    monkeypatch.setattr(
        evaluation,
        "summarize",
        lambda *args, **kwargs: seen.update(kwargs, test=args[1], others=args[3]),
    )
    with pytest.raises(AttributeError):  # there is no result to save
        finished.evaluate(folder)
    assert set(np.unique(seen["test"])) == {0, 1}
    # a VAE of binarized pixels generates grey values, so it is compared with grey values
    assert min(len(np.unique(seen[name])) for name in ("real", "others")) > 2
    assert seen["split"] == "test in grey values"
    (folder / "model.keras").unlink()
    RunFolder(folder).save_model(build(GANConfig(latent_size=2), (8, 8, 1), 10))
    with pytest.raises(ValueError, match=r"the run of a VAE.* Received: .*, the run of a GAN"):
        finished.audit(folder)
