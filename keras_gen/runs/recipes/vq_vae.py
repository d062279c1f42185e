"""The recipe of the vector-quantized autoencoder."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any, Literal

from keras_gen.runs.recipes.recipe import (
    NetworkConfig,
    Recipe,
    adam,
    defaults_of_photographs,
    network_arguments,
)
from keras_gen.runs.recipes.vae import likelihood_of

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from keras_gen.models import VectorQuantizedAutoencoder


@dataclasses.dataclass(frozen=True)
class VQVAEConfig(NetworkConfig):
    """Train a vector-quantized autoencoder: latents are codes, with a transformer as prior."""

    name: str = "vq_vae"
    """Name of the run and of the SavedModel."""
    network: Literal["conv", "mlp"] = "conv"
    """Encoder and decoder: convolutions (conv) or perceptrons (mlp)."""
    positions: int = 16
    """Number of latent vectors per example (only mlp). With conv, it follows from the filters."""
    vector_size: int = 16
    """Number of elements of each latent vector."""
    num_codes: int = 128
    """Number of vectors in each codebook."""
    num_codebooks: int = 1
    """Number of codebooks. Each latent vector is split into as many parts."""
    codebook: Literal["moving_average", "gradient"] = "moving_average"
    """How the codebook is trained: as moving averages of the latent vectors, or by the gradient."""
    commitment: float = 0.25
    """Weight of the squared distance between latent vectors and their codebook vectors."""
    decay: float = 0.99
    """Decay factor of the moving averages of the codebook and of the usage of its vectors."""
    restart_below: float = 0.01
    """Replace codebook vectors whose usage is below this fraction of the mean usage. 0: never."""
    likelihood: Literal[
        "bernoulli", "continuous_bernoulli", "normal", "categorical", "logistic_mixture"
    ] = "bernoulli"
    """Likelihood of the pixels. Use categorical or logistic_mixture only for 8-bit pixels."""
    scale: float | Literal["shared", "optimal", "per_element"] = "optimal"
    """σ of the normal likelihood: a number, learned (shared), computed (optimal), per_element."""
    prior_width: int = 64
    """Features per position of the transformer that is the prior of the codes."""
    prior_depth: int = 3
    """Number of blocks of the transformer."""
    prior_epochs: int = 10
    """Number of passes over the codes of the training data, in which the transformer is fitted."""
    learning_rate: float = 2e-3
    """Initial learning rate of Adam."""
    patience: int | None = None
    """Stop after this many epochs without a lower val_reconstruction_loss. Restore best weights."""
    images_every: int = 1000
    """Epochs between images. The prior is fitted each time. The last epoch always writes images."""


def build(
    config: VQVAEConfig,
    data_shape: tuple[int, ...],
    steps: int,
    num_classes: int | None = None,
) -> VectorQuantizedAutoencoder:
    """Build and compile the vector-quantized autoencoder that `config` describes.

    Args:
        config: The settings.
        data_shape: Shape of one example.
        steps: Number of training steps of the whole run, for the learning-rate schedule.
        num_classes: Unused, because this model does not depend on labels.

    Raises:
        ValueError: If a setting is invalid.
    """
    from keras_gen import networks
    from keras_gen.distributions import TransformerPrior
    from keras_gen.models import VectorQuantizedAutoencoder

    likelihood = likelihood_of(config, data_shape)
    encoder, decoder = _networks(config, data_shape, likelihood.parameter_shape)
    model = VectorQuantizedAutoencoder(
        encoder=encoder,
        decoder=decoder,
        quantizer=networks.VectorQuantizer(
            config.num_codes,
            config.num_codebooks,
            config.codebook,
            config.commitment,
            config.decay,
            config.restart_below,
        ),
        likelihood=likelihood,
        prior=TransformerPrior(
            (*encoder.output_shape[1:-1], config.num_codebooks),
            config.num_codes,
            width=config.prior_width,
            depth=config.prior_depth,
            epochs=config.prior_epochs,
        ),
        seed=config.seed,
        name=config.name,
    )
    model.compile(
        adam(config, steps, config.learning_rate), steps_per_execution=config.steps_per_execution
    )
    return model


def _networks(
    config: VQVAEConfig, data_shape: tuple[int, ...], parameter_shape: tuple[int, ...]
) -> tuple[keras.Model, keras.Model]:
    """Return the encoder and the decoder."""
    from keras_gen import networks

    arguments = network_arguments(config, data_shape)
    if config.network == "mlp":
        latent_shape = (config.positions, config.vector_size)
        hidden = arguments["hidden"]
        return (
            networks.mlp(data_shape, latent_shape, hidden=hidden),
            networks.mlp(latent_shape, parameter_shape, hidden=hidden[::-1]),
        )
    filters = arguments["filters"]
    encoder = networks.conv_grid_encoder(data_shape, config.vector_size, filters)
    decoder = networks.conv_grid_decoder(
        encoder.output_shape[1:], parameter_shape, None if filters is None else filters[::-1]
    )
    return encoder, decoder


def fit_prior(model: VectorQuantizedAutoencoder, data: np.ndarray | tf.data.Dataset) -> None:
    """Fit the prior to the codes of `data`, so that the model can generate samples.

    A code is the index of a vector in a codebook.
    """
    model.fit_prior(data, verbose="auto" if sys.stdout.isatty() else 2)


def image_defaults(
    config: VQVAEConfig, data_shape: tuple[int, ...], steps_per_epoch: int
) -> dict[str, Any]:
    """Return the defaults for images of the shape `data_shape`, by field."""
    return defaults_of_photographs(config, data_shape, steps_per_epoch, likelihood="normal")


RECIPE = Recipe(
    title="A vector-quantized autoencoder",
    config=VQVAEConfig,
    build=build,
    image_defaults=image_defaults,
    after_fit=fit_prior,
    examples=(
        "keras-gen train vq_vae",
        "keras-gen train vq_vae --data fashion_mnist --num-codes 256 --filters 64 128",
        "keras-gen train vq_vae --codebook gradient --num-codebooks 2",
    ),
)
"""The recipe of `keras-gen train vq_vae`."""
