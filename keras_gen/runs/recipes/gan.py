"""The recipe of the generative adversarial network."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from keras_gen.runs.recipes.recipe import (
    NetworkConfig,
    Recipe,
    adam,
    check_unused,
    defaults_of_photographs,
    min_training_images,
    network_arguments,
)

if TYPE_CHECKING:
    import keras

    from keras_gen import losses
    from keras_gen.models import GAN
    from keras_gen.runs.recipes.recipe import Builders

_FEW_IMAGES = 10_000


@dataclasses.dataclass(frozen=True)
class GANConfig(NetworkConfig):
    """Train a GAN: a generator and a discriminator, each with its own optimizer."""

    name: str = "gan"
    """Name of the run and of the SavedModel."""
    batch_size: int = 64
    """Examples per training step, summed over all devices."""
    epochs: int = 45
    """Number of passes over the training data."""
    network: Literal["dcgan", "residual", "mlp"] = "dcgan"
    """Networks: DCGAN or residual networks for images, or multilayer perceptrons (mlp)."""
    latent_size: int = 64
    """Number of latent dimensions."""
    conditional: bool = False
    """Condition the generator and the discriminator on the labels of the data."""
    loss: Literal[
        "non_saturating", "minimax", "least_squares", "hinge", "wasserstein", "relativistic"
    ] = "non_saturating"
    """Adversarial loss of the generator and the discriminator."""
    label_smoothing: float = 0.0
    """One-sided label smoothing for real examples (only with loss non_saturating or minimax)."""
    penalties: tuple[Literal["gradient_penalty", "dragan", "r1", "r2"], ...] = ("r1",)
    """Penalties on the gradient norm of the discriminator. No value means no penalty."""
    penalty_weight: float | None = None
    """Weight of the penalties. Default: 0.1 for r1 and r2, 10 for gradient_penalty and dragan."""
    penalty_every: int | None = None
    """Interval in steps between penalties, and their factor. Default: 16 for r1 and r2, else 1."""
    spectral_normalization: bool = False
    """Keep the largest singular value of each kernel of the discriminator at 1."""
    discriminator_steps: int = 1
    """Discriminator updates per generator update."""
    ema_momentum: float | None = 0.999
    """Generate with a moving average of the weights (EMA) that has this momentum, such as 0.999."""
    augment: tuple[Literal["color", "translation", "cutout"], ...] = ()
    """Random changes of all images before the discriminator. Useful with few training images."""
    generator_learning_rate: float = 1e-3
    """Initial learning rate of Adam for the generator."""
    discriminator_learning_rate: float = 4e-4
    """Initial learning rate of Adam for the discriminator."""
    beta_1: float = 0.5
    """Decay rate of the running mean of gradients in Adam, for generator and discriminator."""
    schedule: Literal["cosine", "constant"] = "constant"
    """Schedule of both learning rates: cosine decay to 0, or constant."""

    @property
    def needs_labels(self) -> bool:
        """Whether the generator and the discriminator depend on the labels of the data."""
        return self.conditional


def build(
    config: GANConfig,
    data_shape: tuple[int, ...],
    steps: int,
    num_classes: int | None = None,
) -> GAN:
    """Build and compile the GAN that `config` describes.

    Args:
        config: The settings.
        data_shape: Shape of one example.
        steps: Number of training steps of the whole run, for the two learning-rate schedules.
        num_classes: Number of classes if `config.needs_labels` is True, otherwise None.

    Raises:
        ValueError: If a setting is invalid.
    """
    from keras_gen import augmentations
    from keras_gen.models import GAN

    if not config.penalties:
        check_unused(config, "there are no penalties", "penalty_weight", "penalty_every")
    labels = num_classes if config.conditional else None
    generator, discriminator = _networks(config, data_shape, labels)
    loss = _loss(config)
    model = GAN(
        generator=generator,
        discriminator=discriminator,
        seed=config.seed,
        name=config.name,
    )
    model.compile(
        generator_optimizer=adam(
            config, steps, config.generator_learning_rate, beta_1=config.beta_1
        ),
        discriminator_optimizer=adam(
            config,
            config.discriminator_steps * steps,
            config.discriminator_learning_rate,
            beta_1=config.beta_1,
        ),
        loss=loss,
        penalties=[_penalty(config, name) for name in config.penalties],
        discriminator_steps=config.discriminator_steps,
        ema_momentum=config.ema_momentum,
        augment=augmentations.DiffAugment(config.augment) if config.augment else None,
        steps_per_execution=config.steps_per_execution,
    )
    return model


def _penalty(config: GANConfig, name: str) -> losses.Penalty:
    """Make the penalty `name`. A weight or an interval that is None gets its default."""
    from keras_gen import losses

    penalty, weight, every = {
        "gradient_penalty": (losses.GradientPenalty, 10.0, 1),
        "dragan": (losses.DRAGAN, 10.0, 1),
        "r1": (losses.R1, 0.1, 16),
        "r2": (losses.R2, 0.1, 16),
    }[name]
    if config.penalty_weight is not None:
        weight = config.penalty_weight
    if config.penalty_every is not None:
        every = config.penalty_every
    return penalty(weight, every=every)


def _networks(
    config: GANConfig, data_shape: tuple[int, ...], num_classes: int | None
) -> tuple[keras.Model, keras.Model]:
    """Build the generator and the discriminator.

    With `network="mlp"`, the generator has the same hidden layers as the discriminator, in reverse
    order. With other networks, `config.filters` contains the number of filters of each layer of the
    discriminator. The generator then has half as many filters per layer, in reverse order. If
    `config.filters` is empty, the numbers of filters of both networks follow from the image size.

    Args:
        config: The settings.
        data_shape: Shape of one example.
        num_classes: Number of classes, or None for networks without labels.

    Returns:
        `(generator, discriminator)`.

    Raises:
        ValueError: If a setting is invalid.
    """
    from keras_gen import networks

    arguments = network_arguments(config, data_shape)
    if config.network == "mlp":
        if config.spectral_normalization:
            raise ValueError(
                "`spectral_normalization` must be False for network='mlp'. Received: "
                "spectral_normalization=True. Use network='dcgan' or network='residual'."
            )
        generator = networks.mlp(
            (config.latent_size,),
            data_shape,
            hidden=arguments["hidden"][::-1],
            output_activation="sigmoid",
            num_classes=num_classes,
        )
        discriminator = networks.mlp(
            data_shape, (1,), activation="leaky_relu", num_classes=num_classes, **arguments
        )
        return generator, discriminator
    halves = tuple(max(filters // 2, 1) for filters in reversed(config.filters)) or None
    builders: Builders = {
        "dcgan": (networks.dcgan_generator, networks.dcgan_discriminator),
        "residual": (networks.residual_generator, networks.residual_discriminator),
    }
    make_generator, make_discriminator = builders[config.network]
    generator = make_generator(
        config.latent_size,
        data_shape,
        num_classes=num_classes,
        **{**arguments, "filters": halves},
    )
    discriminator = make_discriminator(
        data_shape,
        num_classes=num_classes,
        spectral_normalization=config.spectral_normalization,
        **arguments,
    )
    return generator, discriminator


def _loss(config: GANConfig) -> losses.AdversarialLoss:
    from keras_gen import losses

    if config.loss == "non_saturating":
        return losses.NonSaturating(config.label_smoothing)
    if config.loss == "minimax":
        return losses.Minimax(config.label_smoothing)
    if config.label_smoothing:
        raise ValueError(
            "`label_smoothing` must be 0 unless `loss` is 'non_saturating' or 'minimax'. "
            f"Received: label_smoothing={config.label_smoothing!r} with loss={config.loss!r}."
        )
    if config.loss == "least_squares":
        return losses.LeastSquares()
    if config.loss == "hinge":
        return losses.Hinge()
    if config.loss == "wasserstein":
        return losses.Wasserstein()
    return losses.RelativisticPairing()


def image_defaults(
    config: GANConfig, data_shape: tuple[int, ...], steps_per_epoch: int
) -> dict[str, Any]:
    """Return the defaults for images of the shape `data_shape`, by field.

    For images in colour, and for images above 32×32, the training of a DCGAN has batches of 16
    images and at least 40,000 steps. If there are fewer than about 10,000 training images, the
    images that the discriminator receives are translated at random. `color` and `cutout` are not
    among the defaults. With them, some of the generated images had grey rectangles.
    """
    few = min_training_images(config, steps_per_epoch) < _FEW_IMAGES
    defaults: dict[str, Any] = {"augment": ("translation",)} if few else {}
    if config.network == "dcgan":
        defaults |= {"batch_size": 16, "min_steps": 40_000}
    else:
        defaults["min_steps"] = 5000
    return defaults_of_photographs(config, data_shape, steps_per_epoch, **defaults)


RECIPE = Recipe(
    title="A generative adversarial network",
    config=GANConfig,
    build=build,
    image_defaults=image_defaults,
    examples=(
        "keras-gen train gan --conditional",
        "keras-gen train gan --loss hinge --spectral-normalization --discriminator-steps 2",
        "keras-gen train gan --loss wasserstein --penalties gradient_penalty",
    ),
)
"""The recipe of `keras-gen train gan`."""
