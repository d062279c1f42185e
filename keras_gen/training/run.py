"""One training run: data, model, `fit`, and what is left in its folder."""

import dataclasses
import functools
import itertools
import pathlib

import keras
import numpy as np
import yaml

from keras_gen import data, distributions, losses, networks, objectives, regularizers, serving
from keras_gen.models import GAN, VAE, RegularizedAutoencoder
from keras_gen.models.saved import load_run
from keras_gen.training.callbacks import Pictures, generate, save_grid
from keras_gen.training.config import AutoencoderConfig, GANConfig, VAEConfig


def train(config):
    """Train what `config` describes and leave a folder.

    The folder holds `config.yaml`, `metrics.csv`, `model.keras` and, for images, `samples-*.png` and `reconstructions-*.png`.
    The SavedModel goes to `config.savedmodels/config.name/<next integer>`.

    Args:
        config: `AutoencoderConfig`, `VAEConfig` or `GANConfig`.

    Returns:
        Path of the folder.
    """
    keras.utils.set_random_seed(config.seed)
    labels = getattr(config, "conditional", False) or getattr(config, "prior", None) == "conditional"
    train_data, test_data = data.load(config.data, config.batch_size, labels, config.data_dir, seed=config.seed)
    data_shape = tuple((train_data.element_spec[0] if labels else train_data.element_spec).shape[1:])
    num_classes = 1 + max(int(y.numpy().max()) for _, y in train_data) if labels else None
    model = build(config, data_shape, config.epochs * len(train_data), num_classes)

    folder = _new_folder(config.runs, config.name)
    (folder / "config.yaml").write_text(yaml.safe_dump(_as_plain(config), sort_keys=False))
    callbacks = [keras.callbacks.CSVLogger(str(folder / "metrics.csv"))]
    if len(data_shape) == 3 and data_shape[-1] in (1, 3):
        images = next(test_data.unbatch().batch(50).as_numpy_iterator())
        callbacks.append(Pictures(folder, images, train_data, config.pictures_every))
    model.fit(train_data, validation_data=test_data, epochs=config.epochs, callbacks=callbacks)
    if isinstance(model, RegularizedAutoencoder) and model.prior is None:
        model.fit_latent_density(train_data)

    model.save(folder / "model.keras")
    version = serving.publish(folder, config.savedmodels / config.name)
    print(f"\nThe run is in {folder}, the SavedModel in {version}.")
    return folder


@functools.singledispatch
def build(config, data_shape, steps, num_classes=None):
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
        seed=config.seed,
        name=config.name,
    )
    of_latents = {
        regularizers.LatentL1: config.latent_l1,
        regularizers.LatentL2: config.latent_l2,
        regularizers.Contractive: config.contractive,
    }
    chosen = [kind(weight) for kind, weight in of_latents.items() if weight]
    model.compile(_adam(config, steps), loss=config.loss, regularizers=chosen)
    return model


@build.register
def _(config: VAEConfig, data_shape, steps, num_classes=None):
    encoder, decoder = _networks(config.network)
    posterior = {
        "diagonal": distributions.DiagonalNormal,
        "full": distributions.FullCovarianceNormal,
        "flow": distributions.InverseAutoregressiveNormal,
    }[config.posterior](config.latent_size)
    likelihood = {
        "bernoulli": distributions.Bernoulli,
        "continuous_bernoulli": distributions.ContinuousBernoulli,
        "normal": functools.partial(distributions.Normal, scale=config.scale),
        "categorical": distributions.Categorical,
    }[config.likelihood](data_shape)
    prior = {
        "standard": distributions.StandardNormal,
        "learned": distributions.LearnedNormal,
        "mixture": functools.partial(distributions.NormalMixture, num_components=config.prior_components),
        "conditional": functools.partial(distributions.ConditionalNormal, num_classes=num_classes),
        "vamp": functools.partial(distributions.VampPrior, num_components=config.prior_components),
    }[config.prior](config.latent_size)
    if config.objective == "iwae":
        objective = objectives.IWAE(config.num_samples)
    else:
        kl_weight = objectives.LinearWarmUp(config.kl_warm_up, config.kl_weight) if config.kl_warm_up else config.kl_weight
        objective = objectives.ELBO(kl_weight, config.num_samples, config.free_bits)
    model = VAE(
        encoder(data_shape, (posterior.parameter_size,), num_classes=num_classes if config.conditional else None),
        decoder((config.latent_size,), likelihood.parameter_shape, num_classes=num_classes if config.conditional else None),
        posterior,
        likelihood,
        prior,
        seed=config.seed,
        name=config.name,
    )
    model.compile(_adam(config, steps), objective=objective)
    return model


@build.register
def _(config: GANConfig, data_shape, steps, num_classes=None):
    num_classes = num_classes if config.conditional else None
    if config.label_smoothing and config.loss not in ("non_saturating", "minimax"):
        raise ValueError(f"Expected label smoothing with the loss non_saturating or minimax. Received: loss {config.loss}.")
    loss = {
        "non_saturating": functools.partial(losses.NonSaturating, config.label_smoothing),
        "minimax": functools.partial(losses.Minimax, config.label_smoothing),
        "least_squares": losses.LeastSquares,
        "hinge": losses.Hinge,
        "wasserstein": losses.Wasserstein,
        "relativistic": losses.RelativisticPairing,
    }[config.loss]()
    penalty = {"gradient_penalty": losses.GradientPenalty, "dragan": losses.DRAGAN, "r1": losses.R1, "r2": losses.R2}
    model = GAN(
        networks.dcgan_generator(config.latent_size, data_shape, num_classes=num_classes),
        networks.dcgan_discriminator(data_shape, num_classes=num_classes, spectral_normalization=config.spectral_normalization),
        seed=config.seed,
        name=config.name,
    )
    model.compile(
        keras.optimizers.Adam(config.generator_learning_rate, config.beta_1),
        keras.optimizers.Adam(config.discriminator_learning_rate, config.beta_1),
        loss,
        [penalty[name](config.penalty_weight, every=config.penalty_every) for name in config.penalties],
        config.discriminator_steps,
        config.ema_momentum,
    )
    return model


def sample(run, num_samples=100, seed=0, output=None):
    """Write samples of a run's model as one picture, or as an .npy of rows if they are no images.

    Args:
        run: Folder of the run.
        num_samples: How many.
        seed: Their seed.
        output: File to write; `samples.png` or `samples.npy` in the run's folder if None.

    Returns:
        Path of the file.
    """
    samples = np.asarray(generate(load_run(run), num_samples, seed))
    are_images = samples.ndim == 4 and samples.shape[-1] in (1, 3)
    output = pathlib.Path(output or pathlib.Path(run) / ("samples.png" if are_images else "samples.npy"))
    output.parent.mkdir(parents=True, exist_ok=True)
    if are_images and output.suffix != ".npy":
        save_grid(output, samples)
    else:
        np.save(output, samples)
    return output


def export(run, base=None, png=False):
    """Publish a run's model as the next version.

    Args:
        run: Folder of the run.
        base: Folder of the model's versions; where the run put its own if None.
        png: Offer each signature also with images as PNG.

    Returns:
        Path of the version.
    """
    if base is None and (pathlib.Path(run) / "config.yaml").is_file():
        config = yaml.safe_load((pathlib.Path(run) / "config.yaml").read_text())
        base = pathlib.Path(config["savedmodels"]) / config["name"]
    return serving.publish(run, base or pathlib.Path("savedmodels") / pathlib.Path(run).name, png)


def _networks(network):
    if network == "mlp":
        wide = functools.partial(networks.mlp, hidden=(512, 256))
        return wide, functools.partial(networks.mlp, hidden=(256, 512))
    return networks.conv_encoder, networks.conv_decoder


def _adam(config, steps):
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(config.learning_rate, steps))


def _new_folder(runs, name):
    """`runs/name`, or the first of `name-2`, `name-3`, … that is free, created."""
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    folder = next(runs / free for free in names if not (runs / free).exists())
    folder.mkdir(parents=True)
    return folder


def _as_plain(config):
    fields = {key: str(value) if isinstance(value, pathlib.Path) else value for key, value in dataclasses.asdict(config).items()}
    return {"model": type(config).__name__.removesuffix("Config").lower(), **fields}
