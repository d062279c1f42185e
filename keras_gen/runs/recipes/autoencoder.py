"""The recipe of the regularized autoencoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from keras_gen.runs.recipes.recipe import (
    NetworkConfig,
    Recipe,
    adam,
    check_table_settings,
    check_unused,
    defaults_of_photographs,
    encoder_and_decoder,
    latent_density,
)

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

    from keras_gen._columns import Column
    from keras_gen.models import RegularizedAutoencoder


@dataclasses.dataclass(frozen=True)
class AutoencoderConfig(NetworkConfig):
    """Train an autoencoder: minimize the reconstruction loss L(x, x̂) and a penalty on weights."""

    name: str = "autoencoder"
    """Name of the run and of the SavedModel."""
    epochs: int = 30
    """Number of passes over the training data."""
    network: Literal["mlp", "conv", "residual"] = "mlp"
    """Encoder and decoder: perceptrons (mlp), convolutions, residual networks. Tables need mlp."""
    latent_size: int = 32
    """Number of latent dimensions."""
    l2: float = 1e-6
    """Weight of the sum of the squared kernel weights of encoder and decoder."""
    latent_l1: float = 0.0
    """Weight of the sum of the absolute latents (sparse autoencoder)."""
    latent_l2: float = 0.0
    """Weight of half the sum of the squared latents (regularized autoencoder, RAE)."""
    contractive: float = 0.0
    """Weight of the squared norm of the Jacobian of the encoder (contractive autoencoder)."""
    loss: str = "binary_crossentropy"
    """Reconstruction loss L: the name of a Keras loss, such as mse, or columns for a table."""
    column_scale: Literal["optimal", "learned", "decoded", "mixture"] = "optimal"
    """Numbers in tables: one σ per column (optimal, learned), per entry (decoded), or a mixture."""
    latent_density: Literal["mixture", "flow"] = "mixture"
    """Density fitted to the latents, to generate samples: mixture of 10 normals, or a flow."""
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
        num_classes: Ignored, because an autoencoder does not depend on labels.

    Raises:
        ValueError: If a setting is invalid, or if `config.loss` is `"columns"`, which is only for
            tables.
    """
    import keras

    from keras_gen.models import RegularizedAutoencoder

    if config.loss == "columns":
        raise ValueError(
            "`loss` must be the name of a Keras loss for data that are not a table. Received: "
            "loss='columns'. Omit `loss`, or choose a loss such as 'mse'."
        )
    check_unused(config, "it is for tables", "column_scale")
    make_encoder, make_decoder = encoder_and_decoder(config, data_shape)
    latent_shape = (config.latent_size,)
    l2 = keras.regularizers.L2(config.l2)
    model = RegularizedAutoencoder(
        encoder=make_encoder(data_shape, latent_shape, kernel_regularizer=l2),
        decoder=make_decoder(
            latent_shape, data_shape, kernel_regularizer=l2, output_activation="sigmoid"
        ),
        prior=latent_density(config.latent_density, config.latent_size),
        seed=config.seed,
        name=config.name,
    )
    _compile(model, config, steps, config.loss)
    return model


def build_for_table(
    config: AutoencoderConfig, columns: Sequence[Column], steps: int
) -> RegularizedAutoencoder:
    """Build and compile the autoencoder that `config` describes, for the rows of a table.

    Args:
        config: The settings.
        columns: The columns of the table.
        steps: Number of training steps of the whole run, for the learning-rate schedule.

    Raises:
        ValueError: If a setting is invalid, or cannot be used for tables, such as a convolutional
            network.
    """
    import keras

    from keras_gen import distributions, networks
    from keras_gen.models import RegularizedAutoencoder

    check_table_settings(config, network="mlp", loss="columns", contractive=0.0)
    likelihood = distributions.Columns(columns, scale=config.column_scale)
    make_encoder, make_decoder = encoder_and_decoder(config, likelihood.event_shape)
    latent_shape = (config.latent_size,)
    l2 = keras.regularizers.L2(config.l2)
    features = networks.ColumnFeatures(columns)
    model = RegularizedAutoencoder(
        encoder=make_encoder(
            likelihood.event_shape, latent_shape, kernel_regularizer=l2, features=features
        ),
        decoder=make_decoder(latent_shape, likelihood.parameter_shape, kernel_regularizer=l2),
        prior=latent_density(config.latent_density, config.latent_size),
        likelihood=likelihood,
        seed=config.seed,
        name=config.name,
    )
    _compile(model, config, steps, likelihood)
    return model


def _compile(
    model: RegularizedAutoencoder, config: AutoencoderConfig, steps: int, loss: Any
) -> None:
    from keras_gen import regularizers

    weights = {
        regularizers.LatentL1: config.latent_l1,
        regularizers.LatentL2: config.latent_l2,
        regularizers.Contractive: config.contractive,
    }
    model.compile(
        adam(config, steps, config.learning_rate),
        loss=loss,
        regularizers=[regularizer(weight) for regularizer, weight in weights.items() if weight],
        steps_per_execution=config.steps_per_execution,
    )


def fit_latent_density(model: RegularizedAutoencoder, data: np.ndarray | tf.data.Dataset) -> None:
    """Fit a density to the latents of `data`, so that the model can generate samples."""
    model.fit_latent_density(data)


TABLE_DEFAULTS = {
    "hidden": (128, 128),
    "loss": "columns",
    "latent_size": 4,
    "epochs": 100,
    "batch_size": 64,
}
"""Defaults of `AutoencoderConfig` for tables, by field. Other fields keep their usual default."""


def image_defaults(
    config: AutoencoderConfig, data_shape: tuple[int, ...], steps_per_epoch: int
) -> dict[str, Any]:
    """Return the defaults for images of the shape `data_shape`, by field."""
    return defaults_of_photographs(
        config,
        data_shape,
        steps_per_epoch,
        min_steps=16_000,
        network="conv",
        loss="mse",
        latent_size=128,
        l2=1e-7,
        latent_l2=1e-5,
        learning_rate=2e-3,
        batch_size=32,
    )


RECIPE = Recipe(
    title="A regularized autoencoder",
    config=AutoencoderConfig,
    build=build,
    build_for_table=build_for_table,
    table_defaults=TABLE_DEFAULTS,
    image_defaults=image_defaults,
    after_fit=fit_latent_density,
    examples=(
        "keras-gen train autoencoder --data table.csv",
        "keras-gen train autoencoder --data images/ --network conv --name photos",
        "keras-gen train autoencoder --loss mse --contractive 0.1",
    ),
)
"""The recipe of `keras-gen train autoencoder`."""
