"""The recipe of the hierarchical variational autoencoder."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any, Literal

from keras_gen.runs.recipes.recipe import (
    NetworkConfig,
    Recipe,
    adam,
    defaults_of_photographs,
    encoder_and_decoder,
)
from keras_gen.runs.recipes.vae import likelihood_of, objective_of, posterior_of

if TYPE_CHECKING:
    import keras

    from keras_gen import distributions
    from keras_gen.models import HierarchicalVAE


@dataclasses.dataclass(frozen=True)
class HierarchicalVAEConfig(NetworkConfig):
    """Train a VAE with several layers of latents: p(x, z) = p(x|z_1) p(z_1|z_2) … p(z_L)."""

    name: str = "hierarchical_vae"
    """Name of the run and of the SavedModel."""
    event_sizes: tuple[int, ...] = (32, 16)
    """Number of latents of each layer, from bottom to top."""
    inference: Literal["bottom_up", "top_down"] = "bottom_up"
    """bottom_up: q(z_1|x) q(z_2|z_1) …. top_down: ladder VAE, q(z_L|x) q(z_i|z_(i+1), x)."""
    network: Literal["mlp", "conv", "residual"] = "mlp"
    """First encoder and decoder: perceptrons, convolutions or residual networks."""
    upper_hidden: tuple[int, ...] = (128,)
    """Hidden units of the encoders above the first. The decoders reverse the order."""
    posterior: Literal["diagonal", "full", "flow"] = "diagonal"
    """Posterior of each layer: normal with diagonal or full covariance, or autoregressive flows."""
    conditional: bool = False
    """Condition all encoders and decoders on the labels of the data."""
    likelihood: Literal[
        "bernoulli", "continuous_bernoulli", "normal", "categorical", "logistic_mixture"
    ] = "bernoulli"
    """Likelihood p(x|z_1). Use categorical or logistic_mixture only for 8-bit pixels."""
    scale: float | Literal["shared", "optimal", "per_element"] = "optimal"
    """σ of the normal likelihood: a number, learned (shared), computed (optimal), per_element."""
    objective: Literal["elbo", "iwae"] = "elbo"
    """Lower bound of log p(x) that the training maximizes."""
    num_samples: int = 1
    """Samples of z per example. More samples tighten the IWAE bound and reduce ELBO noise."""
    doubly_reparameterized: bool = False
    """Train the encoder with the doubly reparameterized gradient (only with objective iwae)."""
    kl_weight: float = 1.0
    """Weight of the KL in the ELBO. A weight other than 1 gives a beta-VAE."""
    kl_warm_up: int = 0
    """Training steps during which the weight of the KL rises from 0 to kl_weight."""
    free_bits: float = 0.0
    """Nats of KL per layer and example without penalty. Only a higher KL increases the loss."""
    learning_rate: float = 2e-3
    """Initial learning rate of Adam."""
    patience: int | None = None
    """Stop after this many epochs without a higher val_elbo, and restore the best weights."""

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        for name in ("event_sizes", "upper_hidden"):
            sizes = tuple(getattr(self, name))
            object.__setattr__(self, name, sizes)
            if (not sizes and name == "event_sizes") or any(size < 1 for size in sizes):
                raise ValueError(
                    f"`{name}` must be positive numbers, such as 32 16. Received: {name}={sizes!r}."
                )

    @property
    def needs_labels(self) -> bool:
        """Whether the networks depend on the labels of the data."""
        return self.conditional


def build(
    config: HierarchicalVAEConfig,
    data_shape: tuple[int, ...],
    steps: int,
    num_classes: int | None = None,
) -> HierarchicalVAE:
    """Build and compile the hierarchical VAE that `config` describes.

    Args:
        config: The settings.
        data_shape: Shape of one example.
        steps: Number of training steps of the whole run, for the learning-rate schedule.
        num_classes: Number of classes if `config.needs_labels` is True, otherwise None.

    Raises:
        ValueError: If a setting is invalid.
    """
    from keras_gen.models import HierarchicalVAE

    posteriors = [posterior_of(config.posterior, size) for size in config.event_sizes]
    likelihood = likelihood_of(config, data_shape)
    labels = num_classes if config.conditional else None
    model = HierarchicalVAE(
        encoders=_encoders(config, data_shape, posteriors, labels),
        decoders=_decoders(config, data_shape, likelihood, labels),
        posteriors=posteriors,
        likelihood=likelihood,
        inference=config.inference,
        seed=config.seed,
        name=config.name,
    )
    model.compile(
        adam(config, steps, config.learning_rate),
        objective=objective_of(config),
        steps_per_execution=config.steps_per_execution,
    )
    return model


def _encoders(
    config: HierarchicalVAEConfig,
    data_shape: tuple[int, ...],
    posteriors: list[distributions.Posterior],
    num_classes: int | None,
) -> list[keras.Model]:
    """Return the encoder of each layer.

    With bottom-up inference, each encoder outputs the parameters of a posterior. With top-down
    inference, all encoders output the same number of features. This number is the last entry of
    `config.upper_hidden`, or of `config.hidden` if `config.upper_hidden` is empty.
    """
    from keras_gen import networks

    make_encoder, _ = encoder_and_decoder(config, data_shape)
    hidden = config.upper_hidden
    if config.inference == "bottom_up":
        inputs = list(config.event_sizes[:-1])
        outputs = [posterior.parameter_size for posterior in posteriors]
    else:
        features = (*config.hidden, *hidden)[-1]
        outputs = [features] * len(posteriors)
        inputs = outputs[:-1]
    first = make_encoder(data_shape, (outputs[0],), num_classes=num_classes)
    upper = [
        networks.mlp((size,), (output,), hidden=hidden, num_classes=num_classes)
        for size, output in zip(inputs, outputs[1:], strict=True)
    ]
    return [first, *upper]


def _decoders(
    config: HierarchicalVAEConfig,
    data_shape: tuple[int, ...],
    likelihood: distributions.Likelihood,
    num_classes: int | None,
) -> list[keras.Model]:
    """Return the decoder of each layer."""
    from keras_gen import networks

    _, make_decoder = encoder_and_decoder(config, data_shape)
    sizes = config.event_sizes
    first = make_decoder((sizes[0],), likelihood.parameter_shape, num_classes=num_classes)
    upper = [
        networks.mlp(
            (size,), (2 * below,), hidden=config.upper_hidden[::-1], num_classes=num_classes
        )
        for below, size in itertools.pairwise(sizes)
    ]
    return [first, *upper]


def image_defaults(
    config: HierarchicalVAEConfig, data_shape: tuple[int, ...], steps_per_epoch: int
) -> dict[str, Any]:
    """Return the defaults for images of the shape `data_shape`, by field."""
    return defaults_of_photographs(
        config,
        data_shape,
        steps_per_epoch,
        likelihood="normal",
        network="conv",
        event_sizes=(64, 32),
    )


RECIPE = Recipe(
    title="A hierarchical variational autoencoder",
    config=HierarchicalVAEConfig,
    build=build,
    image_defaults=image_defaults,
    examples=(
        "keras-gen train hierarchical_vae --event-sizes 100 50 --hidden 200 200",
        "keras-gen train hierarchical_vae --event-sizes 64 32 16 --inference top_down",
        "keras-gen train hierarchical_vae --network conv --kl-warm-up 1000 --free-bits 1",
    ),
)
"""The recipe of `keras-gen train hierarchical_vae`."""
