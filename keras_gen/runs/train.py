"""One training run: data, model, `fit`, and what is left in its folder."""

import contextlib
import functools
import importlib.util
import itertools
import pathlib
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import yaml

from keras_gen import data, distributions, losses, networks, objectives, regularizers, serving
from keras_gen._files import PathLike, atomic_write, folder_lock
from keras_gen._serialization import constructor_arguments
from keras_gen.evaluation.figures import are_images
from keras_gen.fitting import CheckpointError, Checkpoints
from keras_gen.fitting.multi_worker import heeding_workers, outside
from keras_gen.models import GAN, VAE, GenerativeModel, RegularizedAutoencoder
from keras_gen.runs.callbacks import MetricsFile, Pictures, Summaries
from keras_gen.runs.config import (
    AutoencoderConfig,
    GANConfig,
    RunConfig,
    VAEConfig,
    as_dict,
    first_difference,
    read,
)
from keras_gen.runs.environment import record_environment
from keras_gen.runs.folder import load_run
from keras_gen.runs.report import write_report
from keras_gen.runs.strategies import from_chief, is_chief, strategy_of

_SHOWN = (
    2**28
)  # bytes of training examples at most that pictures of an autoencoder's samples are made with


def train(config: RunConfig) -> pathlib.Path:
    """Train what `config` describes and leave a folder.

    The folder holds `config.yaml`, `environment.yaml` (versions, devices, git commit), `metrics.csv`, `checkpoints/`, `model.keras`,
    for images `samples-*.png` and `reconstructions-*.png`, `report.html`, and where TensorBoard is installed `tensorboard/`. The
    SavedModel goes to `config.savedmodels/config.name/<next integer>`.

    Args:
        config: `AutoencoderConfig`, `VAEConfig` or `GANConfig`.

    Returns:
        Path of the folder.

    Raises:
        ValueError: If the data or a setting cannot be; nothing is left then.
        NonFiniteError, CheckpointError, PublishError, OSError: If training, or writing what it leaves, cannot go on; `resume` can.
    """
    strategy = strategy_of(config.strategy)
    model, train_data, test_data = _prepare(config, strategy)
    with heeding_workers(strategy):
        folder = _new_folder(config, strategy)
        with folder_lock(folder) if is_chief(strategy) else contextlib.nullcontext():
            return _run(config, folder, strategy, model, train_data, test_data)


def resume(run: PathLike, config: RunConfig | None = None) -> pathlib.Path:
    """Go on with a run that was stopped, from its newest checkpoint, as if it had not been.

    Args:
        run: Folder of the run.
        config: What the run's configuration is thought to be; whatever its `config.yaml` says if None.

    Returns:
        Path of the folder.

    Raises:
        ValueError: If the folder has no run, or one that is finished, in use, or of another configuration.
        Others: As `train`.
    """
    folder, saved = pathlib.Path(run), read(run)
    different = config and first_difference(saved, config)
    if different:
        field, there, here = different
        raise ValueError(
            f"Expected the configuration of {folder}, in which {field} is {there!r}. Received: {here!r}. Leave it out to go on, or "
            "train anew without --resume."
        )
    strategy = strategy_of(saved.strategy)
    try:
        with (
            heeding_workers(strategy),
            alone(folder, wait=False) if is_chief(strategy) else contextlib.nullcontext(),
        ):
            if (folder / "model.keras").exists():
                raise ValueError(
                    f"Expected a run that was stopped. Received: {folder}, which is finished. `keras-gen export {folder}` publishes "
                    "its model."
                )
            return _run(saved, folder, strategy, *_prepare(saved, strategy))
    except BlockingIOError:
        raise ValueError(
            f"Expected a run that was stopped. Received: {folder}, which another process is training."
        ) from None


def describe(config: RunConfig) -> str:
    """What `train` would do, in words: the configuration, data, parameters, and the time of a step, which is measured. Leaves nothing.

    Args:
        config: `AutoencoderConfig`, `VAEConfig` or `GANConfig`.
    """
    model, train_data, test_data = _prepare(
        config, strategy_of("mirrored" if config.strategy == "mirrored" else "single")
    )
    steps, counted = len(train_data), 20
    ends = [time.perf_counter()]
    clock = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter())
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a training that is none
        model.fit(train_data.repeat(), steps_per_epoch=1 + counted, verbose=0, callbacks=[clock])
    first, step = ends[1] - ends[0], float(np.median(np.diff(ends[1:])))
    parts = constructor_arguments(model).items()
    parameters = {
        name: part.count_params() for name, part in parts if isinstance(part, keras.layers.Layer)
    }
    return "\n".join(
        [
            yaml.safe_dump(as_dict(config), sort_keys=False),
            f"examples    {_count(train_data):,} to train with, {_count(test_data):,} to validate, each {model.data_check.shape}",
            f"steps       {steps:,} an epoch, {config.epochs * steps:,} in all",
            *(f"parameters  {count:>12,} in {name}" for name, count in parameters.items()),
            f"parameters  {sum(parameters.values()):>12,} in all",
            f"time        {1000 * step:.1f} ms a step (median of {counted}), the first {first:.1f} s",
            f"            {config.epochs * steps * step / 60:.1f} min in all, without validation and pictures",
        ]
    )


def _prepare(config, strategy):
    """`(model, train, test)`: seeded, compiled for the devices of a strategy, and data that have been looked at."""
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    train_data, test_data = load_data(config)
    labels = isinstance(train_data.element_spec, tuple)
    data_shape = tuple(
        (train_data.element_spec[0] if labels else train_data.element_spec).shape[1:]
    )
    num_classes = 1 + max(int(y.numpy().max()) for _, y in train_data) if labels else None
    with strategy.scope():
        return (
            build(config, data_shape, config.epochs * len(train_data), num_classes),
            train_data,
            test_data,
        )


def load_data(config: RunConfig, labels: bool = False) -> tuple[tf.data.Dataset, tf.data.Dataset]:
    """`(train, test)` of a configuration, with labels where its model sees them, or they are asked for."""
    labels = (
        labels
        or getattr(config, "conditional", False)
        or getattr(config, "prior", None) == "conditional"
    )
    return data.load(
        config.data,
        config.batch_size,
        labels,
        config.data_dir,
        seed=config.seed,
        skip_corrupt=config.skip_corrupt,
        binarize=config.binarize,
    )


def _run(config, folder, strategy, model, train_data, test_data):
    """Train from the newest checkpoint, if any, and leave everything in the folder."""
    callbacks, chief = [], is_chief(strategy)
    if getattr(config, "patience", None):
        monitor, mode = (
            ("val_elbo", "max") if isinstance(config, VAEConfig) else ("val_loss", "min")
        )
        callbacks.append(
            keras.callbacks.EarlyStopping(
                monitor, patience=config.patience, mode=mode, restore_best_weights=True
            )
        )
    if chief:
        record_environment(folder)
        callbacks += _records(config, folder, train_data, test_data)
    callbacks.append(Checkpoints(folder / "checkpoints", config.checkpoint_every))
    verbose = (
        0 if not chief else "auto" if sys.stdout.isatty() else 2
    )  # a progress bar is for a terminal
    with _advice(folder):
        model.fit(
            train_data,
            validation_data=test_data,
            epochs=config.epochs,
            callbacks=callbacks,
            verbose=verbose,
        )
        if not chief:
            return folder
        model = outside(model)
        if isinstance(model, RegularizedAutoencoder):
            model.fit_latent_density(train_data)
        with atomic_write(folder / "model.keras") as unfinished:
            model.save(unfinished)
        write_report(folder)
    try:
        version = serving.publish(load_run(folder), config.savedmodels / config.name)
    except serving.PublishError as error:
        raise serving.PublishError(
            f"{error} The model is trained: `keras-gen export {folder}` publishes it."
        ) from error
    print(f"\nThe run is in {folder}, the SavedModel in {version}.")
    return folder


def _records(config, folder, train_data, test_data):
    """The callbacks that leave something for the eye in the folder."""
    examples = next(test_data.unbatch().batch(500).as_numpy_iterator())
    callbacks = [MetricsFile(folder / "metrics.csv")]
    if are_images(tf.nest.flatten(examples)[0]):
        shown = tf.nest.map_structure(lambda values: values[:50], examples)
        callbacks.append(Pictures(folder, shown, _some(train_data), config.pictures_every))
    if importlib.util.find_spec("tensorboard"):
        callbacks.append(Summaries(folder / "tensorboard", examples, config.pictures_every))
    return callbacks


@contextlib.contextmanager
def _advice(folder):
    """Say how to go on, if training is stopped by what may be over the next time."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, OSError, CheckpointError) as error:
        error.add_note(f"`keras-gen train --resume {folder}` goes on.")
        raise


def _some(dataset):
    """Up to 10,000 examples of a data set as an array, as many as fit; the data set's own order is that of training alone."""
    spec = (
        dataset.element_spec[0] if isinstance(dataset.element_spec, tuple) else dataset.element_spec
    )
    count = min(10_000, _SHOWN // (4 * spec.shape[1:].num_elements()))
    x = dataset.map(lambda x, *_: x).unbatch().batch(count)
    return next(x.as_numpy_iterator())


def _count(dataset):
    return sum(len(tf.nest.flatten(batch)[0]) for batch in dataset)


@functools.singledispatch
def build(
    config: RunConfig, data_shape: tuple[int, ...], steps: int, num_classes: int | None = None
) -> GenerativeModel:
    """The compiled model that `config` describes.

    Args:
        config: `AutoencoderConfig`, `VAEConfig` or `GANConfig`.
        data_shape: Shape of one example.
        steps: Training steps of the whole run, for the learning-rate schedule.
        num_classes: Number of labels of a conditional VAE or GAN.
    """
    raise ValueError(f"Expected an AutoencoderConfig, VAEConfig or GANConfig. Received: {config!r}")


@build.register
def _(config: AutoencoderConfig, data_shape, steps, num_classes=None):
    encoder, decoder = _networks(config.network)
    l2, latent_shape = keras.regularizers.L2(config.l2), (config.latent_size,)
    model = RegularizedAutoencoder(
        encoder(data_shape, latent_shape, kernel_regularizer=l2),
        decoder(latent_shape, data_shape, kernel_regularizer=l2, output_activation="sigmoid"),
        prior=distributions.FittedMixture(config.latent_size),
        seed=config.seed,
        name=config.name,
    )
    of_latents = {
        regularizers.LatentL1: config.latent_l1,
        regularizers.LatentL2: config.latent_l2,
        regularizers.Contractive: config.contractive,
    }
    chosen = [kind(weight) for kind, weight in of_latents.items() if weight]
    optimizer = adam(config, steps, config.learning_rate)
    model.compile(
        optimizer,
        loss=config.loss,
        regularizers=chosen,
        steps_per_execution=config.steps_per_execution,
    )
    return model


@build.register
def _(config: VAEConfig, data_shape, steps, num_classes=None):
    encoder, decoder = _networks(config.network)
    posteriors: dict[str, Callable[..., distributions.Posterior]] = {
        "diagonal": distributions.DiagonalNormal,
        "full": distributions.FullCovarianceNormal,
        "flow": distributions.InverseAutoregressiveNormal,
    }
    posterior = posteriors[config.posterior](config.latent_size)
    likelihoods: dict[str, Callable[..., distributions.Likelihood]] = {
        "bernoulli": distributions.Bernoulli,
        "continuous_bernoulli": distributions.ContinuousBernoulli,
        "normal": functools.partial(distributions.Normal, scale=config.scale),
        "categorical": distributions.Categorical,
    }
    likelihood = likelihoods[config.likelihood](data_shape)
    priors: dict[str, Callable[..., distributions.Prior]] = {
        "standard": distributions.StandardNormal,
        "learned": distributions.LearnedNormal,
        "mixture": functools.partial(
            distributions.NormalMixture, num_components=config.prior_components
        ),
        "conditional": functools.partial(distributions.ConditionalNormal, num_classes=num_classes),
        "vamp": functools.partial(distributions.VampPrior, num_components=config.prior_components),
    }
    prior = priors[config.prior](config.latent_size)
    if config.objective == "iwae":
        objective: objectives.Objective = objectives.IWAE(config.num_samples)
    else:
        kl_weight = (
            objectives.LinearWarmUp(config.kl_warm_up, config.kl_weight)
            if config.kl_warm_up
            else config.kl_weight
        )
        objective = objectives.ELBO(kl_weight, config.num_samples, config.free_bits)
    model = VAE(
        encoder(
            data_shape,
            (posterior.parameter_size,),
            num_classes=num_classes if config.conditional else None,
        ),
        decoder(
            (config.latent_size,),
            likelihood.parameter_shape,
            num_classes=num_classes if config.conditional else None,
        ),
        posterior,
        likelihood,
        prior,
        seed=config.seed,
        name=config.name,
    )
    optimizer = adam(config, steps, config.learning_rate)
    model.compile(optimizer, objective=objective, steps_per_execution=config.steps_per_execution)
    return model


@build.register
def _(config: GANConfig, data_shape, steps, num_classes=None):
    num_classes = num_classes if config.conditional else None
    if config.label_smoothing and config.loss not in ("non_saturating", "minimax"):
        raise ValueError(
            f"Expected label smoothing with the loss non_saturating or minimax. Received: loss {config.loss}."
        )
    chosen: dict[str, Callable[[], losses.AdversarialLoss]] = {
        "non_saturating": functools.partial(losses.NonSaturating, config.label_smoothing),
        "minimax": functools.partial(losses.Minimax, config.label_smoothing),
        "least_squares": losses.LeastSquares,
        "hinge": losses.Hinge,
        "wasserstein": losses.Wasserstein,
        "relativistic": losses.RelativisticPairing,
    }
    loss = chosen[config.loss]()
    penalty = {
        "gradient_penalty": losses.GradientPenalty,
        "dragan": losses.DRAGAN,
        "r1": losses.R1,
        "r2": losses.R2,
    }
    model = GAN(
        networks.dcgan_generator(config.latent_size, data_shape, num_classes=num_classes),
        networks.dcgan_discriminator(
            data_shape,
            num_classes=num_classes,
            spectral_normalization=config.spectral_normalization,
        ),
        seed=config.seed,
        name=config.name,
    )
    model.compile(
        adam(config, steps, config.generator_learning_rate, beta_1=config.beta_1),
        adam(
            config,
            config.discriminator_steps * steps,
            config.discriminator_learning_rate,
            beta_1=config.beta_1,
        ),
        loss,
        [
            penalty[name](config.penalty_weight, every=config.penalty_every)
            for name in config.penalties
        ],
        config.discriminator_steps,
        config.ema_momentum,
        steps_per_execution=config.steps_per_execution,
    )
    return model


def _networks(network):
    if network == "mlp":
        wide = functools.partial(networks.mlp, hidden=(512, 256))
        return wide, functools.partial(networks.mlp, hidden=(256, 512))
    return networks.conv_encoder, networks.conv_decoder


def adam(
    config: RunConfig, steps: int, learning_rate: float, **kwargs: Any
) -> keras.optimizers.Adam:
    """Adam with the learning rate's schedule, of `steps` in all, and the clipping of a configuration."""
    if config.schedule == "cosine" or config.warm_up:
        learning_rate = keras.optimizers.schedules.CosineDecay(
            0.0 if config.warm_up else learning_rate,
            max(steps - config.warm_up, 1),
            alpha=0.0 if config.schedule == "cosine" else 1.0,
            warmup_target=learning_rate if config.warm_up else None,
            warmup_steps=config.warm_up,
        )
    return keras.optimizers.Adam(learning_rate, global_clipnorm=config.clip_norm, **kwargs)


def _new_folder(config, strategy):
    """`runs/name`, or the first of `name-2`, `name-3`, … that is free, with the configuration; all workers have the chief's."""
    number = 0
    if is_chief(strategy):
        number = _free(config.runs, config.name)
        _write_config(config, _numbered(config.runs, config.name, number))
    folder = _numbered(config.runs, config.name, from_chief(strategy, number))
    if not (folder / "config.yaml").exists():  # of a worker with a disk of its own
        folder.mkdir(parents=True, exist_ok=True)
        _write_config(config, folder)
    return folder


def _write_config(config, folder):
    with atomic_write(folder / "config.yaml") as unfinished:
        unfinished.write_text(yaml.safe_dump(as_dict(config), sort_keys=False))


def _free(runs, name):
    """The first number whose folder could be created."""
    for number in itertools.count(1):
        with contextlib.suppress(FileExistsError):
            _numbered(runs, name, number).mkdir(parents=True)
            return number
    raise AssertionError  # the numbers do not end


def _numbered(runs, name, number):
    return runs / (name if number == 1 else f"{name}-{number}")
