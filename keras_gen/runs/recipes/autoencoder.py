"""The recipe of the regularized autoencoder."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from keras_gen.runs.recipes.recipe import Recipe, RunConfig, adam, encoder_and_decoder

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

    from keras_gen.models import RegularizedAutoencoder


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig(RunConfig):
    """Train a regularized autoencoder: minimize E[L(x, x̂)] + λ‖W‖²."""

    name: str = "autoencoder"
    """Name of the run and of the SavedModel."""
    epochs: int = 30
    """Number of passes over the training data."""
    network: Literal["mlp", "conv"] = "mlp"
    """Encoder and decoder: multilayer perceptrons (mlp), or convolutions of stride 2 (conv)."""
    latent_size: int = 32
    """Number of latent dimensions."""
    l2: float = 1e-6
    """Weight λ of the sum of the squared kernel weights."""
    latent_l1: float = 0.0
    """Weight of the sum of the absolute latents (sparse autoencoder)."""
    latent_l2: float = 0.0
    """Weight of half the sum of the squared latents (RAE)."""
    contractive: float = 0.0
    """Weight of the squared norm of the Jacobian of the encoder (contractive autoencoder)."""
    loss: str = "binary_crossentropy"
    """Reconstruction loss L: the name of a Keras loss, such as mse."""
    learning_rate: float = 1e-3
    """Initial learning rate of Adam."""
    patience: int | None = None
    """Stop after this many epochs without a lower val_loss, and restore the best weights."""


def build(
    config: AutoencoderConfig,
    data_shape: tuple[int, ...],
    steps: int,
    num_classes: int | None = None,
) -> RegularizedAutoencoder:
    """Build and compile the autoencoder that `config` describes.

    Args:
        config: The settings.
        data_shape: Shape of one example.
        steps: Number of training steps of the whole run, for the learning-rate schedule.
        num_classes: Unused, because this model does not depend on labels.
    """
    import keras

    from keras_gen import distributions, regularizers
    from keras_gen.models import RegularizedAutoencoder

    make_encoder, make_decoder = encoder_and_decoder(config.network)
    latent_shape = (config.latent_size,)
    l2 = keras.regularizers.L2(config.l2)
    model = RegularizedAutoencoder(
        encoder=make_encoder(data_shape, latent_shape, kernel_regularizer=l2),
        decoder=make_decoder(
            latent_shape, data_shape, kernel_regularizer=l2, output_activation="sigmoid"
        ),
        prior=distributions.FittedMixture(config.latent_size),
        seed=config.seed,
        name=config.name,
    )
    weights = {
        regularizers.LatentL1: config.latent_l1,
        regularizers.LatentL2: config.latent_l2,
        regularizers.Contractive: config.contractive,
    }
    model.compile(
        adam(config, steps, config.learning_rate),
        loss=config.loss,
        regularizers=[regularizer(weight) for regularizer, weight in weights.items() if weight],
        steps_per_execution=config.steps_per_execution,
    )
    return model


def fit_latent_density(model: RegularizedAutoencoder, data: np.ndarray | tf.data.Dataset) -> None:
    """Fit a density to the latents of `data`. The model can then decode samples of the density."""
    model.fit_latent_density(data)


RECIPE = Recipe(
    title="A regularized autoencoder",
    config=AutoencoderConfig,
    build=build,
    after_fit=fit_latent_density,
    examples=(
        "keras-gen train autoencoder",
        "keras-gen train autoencoder --data images/ --network conv --name photos",
        "keras-gen train autoencoder --data table.csv --loss mse --contractive 0.1",
    ),
)
"""The recipe of `keras-gen train autoencoder`."""
