"""The recipe of the variational autoencoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
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
    min_training_images,
)

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

    from keras_gen import distributions, objectives
    from keras_gen._columns import Column
    from keras_gen.models import VAE


_MIN_IMAGES = 1000  # a mixture with 10 components then has 100 images per component


@dataclasses.dataclass(frozen=True)
class VAEConfig(NetworkConfig):
    """Train a variational autoencoder: minimize -E[log p(x|z)] + KL(q(z|x) || p(z))."""

    name: str = "vae"
    """Name of the run and of the SavedModel."""
    network: Literal["mlp", "conv", "residual"] = "conv"
    """Encoder and decoder: perceptrons (mlp), convolutions, residual networks. Tables need mlp."""
    latent_size: int = 10
    """Number of latent dimensions."""
    posterior: Literal["diagonal", "full", "flow"] = "diagonal"
    """Posterior q(z|x): normal with diagonal or full covariance, or autoregressive flows."""
    conditional: bool = False
    """Condition the encoder and the decoder on the labels of the data."""
    prior: Literal["standard", "learned", "mixture", "vamp", "conditional"] = "standard"
    """Prior p(z): N(0, I), learned normal, normal mixture, VampPrior, or one normal per label."""
    prior_components: int = 20
    """Number of components of the mixture prior or the VampPrior."""
    likelihood: Literal[
        "bernoulli", "continuous_bernoulli", "normal", "categorical", "logistic_mixture", "columns"
    ] = "bernoulli"
    """Likelihood p(x|z). Use columns for tables; categorical, logistic_mixture for 8-bit pixels."""
    scale: float | Literal["shared", "optimal", "per_element"] = "optimal"
    """σ of the normal likelihood: a number, learned (shared), computed (optimal), per_element."""
    column_scale: Literal["optimal", "learned", "decoded", "mixture"] = "mixture"
    """Numbers in tables: one σ per column (optimal, learned), per entry (decoded), or a mixture."""
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
    """Nats of KL per example without penalty. Only a KL above this value increases the loss."""
    latent_density: Literal["mixture", "flow"] | None = None
    """Density fitted to latents, to generate samples: mixture of 10 normals, flow, or none."""
    learning_rate: float = 2e-3
    """Initial learning rate of Adam."""
    patience: int | None = None
    """Stop after this many epochs without a higher val_elbo, and restore the best weights."""

    @property
    def needs_labels(self) -> bool:
        """Whether the networks or the prior depend on the labels of the data."""
        return self.conditional or self.prior == "conditional"

    @property
    def needs_after_fit(self) -> bool:
        """Whether a density is fitted to the latents after the training."""
        return self.latent_density is not None


def build(
    config: VAEConfig,
    data_shape: tuple[int, ...],
    steps: int,
    num_classes: int | None = None,
) -> VAE:
    """Build and compile the VAE that `config` describes.

    Args:
        config: The settings.
        data_shape: Shape of one example.
        steps: Number of training steps of the whole run, for the learning-rate schedule.
        num_classes: Number of classes if `config.needs_labels` is True, otherwise None.

    Raises:
        ValueError: If a setting is invalid, or if `num_classes` is None although the prior depends
            on labels.
    """
    from keras_gen.models import VAE

    check_unused(config, "it is for tables", "column_scale")
    posterior = posterior_of(config.posterior, config.latent_size)
    likelihood = likelihood_of(config, data_shape)
    prior = _prior(config, num_classes)
    make_encoder, make_decoder = encoder_and_decoder(config, data_shape)
    labels = num_classes if config.conditional else None
    model = VAE(
        encoder=make_encoder(data_shape, (posterior.parameter_size,), num_classes=labels),
        decoder=make_decoder((config.latent_size,), likelihood.parameter_shape, num_classes=labels),
        posterior=posterior,
        likelihood=likelihood,
        prior=prior,
        density=latent_density(config.latent_density, config.latent_size),
        seed=config.seed,
        name=config.name,
    )
    return _compiled(model, config, steps, objective_of(config))


def build_for_table(config: VAEConfig, columns: Sequence[Column], steps: int) -> VAE:
    """Build and compile the VAE that `config` describes, for the rows of a table.

    Args:
        config: The settings.
        columns: The columns of the table.
        steps: Number of training steps of the whole run, for the learning-rate schedule.

    Raises:
        ValueError: If a setting is invalid, or cannot be used for tables, such as a convolutional
            network.
    """
    from keras_gen import distributions, networks
    from keras_gen.models import VAE

    check_table_settings(config, network="mlp", likelihood="columns", conditional=False)
    check_unused(config, "it is for likelihood='normal'", "scale")
    if config.prior == "conditional":
        raise ValueError(
            "`prior` must be 'standard', 'learned', 'mixture' or 'vamp' for a table. Received: "
            "prior='conditional'. A label is a column like any other: "
            "`keras-gen sample RUN --given NAME=VALUE` generates rows with a given label."
        )
    posterior = posterior_of(config.posterior, config.latent_size)
    likelihood = distributions.Columns(columns, scale=config.column_scale)
    make_encoder, make_decoder = encoder_and_decoder(config, likelihood.event_shape)
    model = VAE(
        encoder=make_encoder(
            likelihood.event_shape,
            (posterior.parameter_size,),
            features=networks.ColumnFeatures(columns),
        ),
        decoder=make_decoder((config.latent_size,), likelihood.parameter_shape),
        posterior=posterior,
        likelihood=likelihood,
        prior=_prior(config, None),
        density=latent_density(config.latent_density, config.latent_size),
        seed=config.seed,
        name=config.name,
    )
    return _compiled(model, config, steps, objective_of(config, TABLE_DEFAULTS))


def _compiled(model: VAE, config: VAEConfig, steps: int, objective: objectives.Objective) -> VAE:
    model.compile(
        adam(config, steps, config.learning_rate),
        objective=objective,
        steps_per_execution=config.steps_per_execution,
    )
    return model


def posterior_of(kind: str, event_size: int) -> distributions.Posterior:
    """Return a posterior of `event_size` latents. `kind` is a value of the setting `posterior`."""
    from keras_gen import distributions

    if kind == "diagonal":
        return distributions.DiagonalNormal(event_size)
    if kind == "full":
        return distributions.FullCovarianceNormal(event_size)
    return distributions.InverseAutoregressiveNormal(event_size)


def likelihood_of(config: Any, data_shape: tuple[int, ...]) -> distributions.Likelihood:
    """Return the likelihood of data that are not a table.

    Args:
        config: Settings with the fields `likelihood` and `scale`, such as a `VAEConfig`.
        data_shape: Shape of one example.

    Raises:
        ValueError: If the likelihood is for tables, or if `scale` is given for a likelihood other
            than the normal one.
    """
    from keras_gen import distributions

    if config.likelihood != "normal":
        check_unused(config, "it is for likelihood='normal'", "scale")
    if config.likelihood == "bernoulli":
        return distributions.Bernoulli(data_shape)
    if config.likelihood == "continuous_bernoulli":
        return distributions.ContinuousBernoulli(data_shape)
    if config.likelihood == "normal":
        return distributions.Normal(data_shape, scale=config.scale)
    if config.likelihood == "columns":
        raise ValueError(
            "`likelihood` must not be 'columns' for data that are not a table. Received: "
            "likelihood='columns'. Omit `likelihood`, or choose one for images."
        )
    if config.likelihood == "logistic_mixture":
        return distributions.DiscretizedLogisticMixture(data_shape)
    return distributions.Categorical(data_shape)


def _prior(config: VAEConfig, num_classes: int | None) -> distributions.Prior:
    from keras_gen import distributions

    size = config.latent_size
    if config.prior not in ("mixture", "vamp"):
        check_unused(config, f"prior={config.prior!r} has no components", "prior_components")
    if config.prior == "standard":
        return distributions.StandardNormal(size)
    if config.prior == "learned":
        return distributions.LearnedNormal(size)
    if config.prior == "mixture":
        return distributions.NormalMixture(size, num_components=config.prior_components)
    if config.prior == "vamp":
        return distributions.VampPrior(size, num_components=config.prior_components)
    if num_classes is None:
        raise ValueError(
            "`num_classes` must be the number of classes for prior='conditional'. "
            "Received: num_classes=None."
        )
    return distributions.ConditionalNormal(size, num_classes=num_classes)


def objective_of(
    config: Any, defaults: Mapping[str, Any] = MappingProxyType({})
) -> objectives.Objective:
    """Return the objective that settings describe.

    Args:
        config: Settings with the fields `objective`, `num_samples`, `doubly_reparameterized`,
            `kl_weight`, `kl_warm_up` and `free_bits`, such as a `VAEConfig`.
        defaults: Defaults of the fields for these data, where they differ from those of the class.

    Raises:
        ValueError: If a setting of the other objective does not have its default.
    """
    from keras_gen import objectives

    if config.objective == "iwae":
        elbo_settings = ("kl_weight", "kl_warm_up", "free_bits")
        check_unused(config, "the IWAE bound contains no KL", *elbo_settings, defaults=defaults)
        return objectives.IWAE(config.num_samples, config.doubly_reparameterized)
    check_unused(config, "it is for objective='iwae'", "doubly_reparameterized")
    kl_weight: float | objectives.LinearWarmUp = config.kl_weight
    if config.kl_warm_up:
        kl_weight = objectives.LinearWarmUp(config.kl_warm_up, config.kl_weight)
    return objectives.ELBO(kl_weight, config.num_samples, config.free_bits)


def fit_latent_density(model: VAE, data: np.ndarray | tf.data.Dataset) -> None:
    """Fit the density of the model to latents of `data`."""
    model.fit_latent_density(data)


TABLE_DEFAULTS = {
    "network": "mlp",
    "hidden": (128, 128),
    "likelihood": "columns",
    "latent_size": 8,
    "prior": "mixture",
    "kl_weight": 0.5,  # generated rows keep more of the dependencies between columns
    "epochs": 200,
    "batch_size": 64,
}
"""Defaults of `VAEConfig` for tables, by field. Other fields keep their usual default."""


def image_defaults(
    config: VAEConfig, data_shape: tuple[int, ...], steps_per_epoch: int
) -> dict[str, Any]:
    """Return the defaults for images of the shape `data_shape`, by field.

    With more than about 1,000 training images, the standard prior and no labels, a mixture is
    fitted to the latents. In a test on 3,886 photographs of flowers, images of latents from the
    mixture showed flowers. Images of latents from the standard normal prior did not.
    """
    defaults: dict[str, Any] = {"likelihood": "normal", "latent_size": 128, "batch_size": 64}
    enough = min_training_images(config, steps_per_epoch) >= _MIN_IMAGES
    if enough and config.prior == "standard" and not config.conditional:
        defaults["latent_density"] = "mixture"
    return defaults_of_photographs(config, data_shape, steps_per_epoch, min_steps=8000, **defaults)


RECIPE = Recipe(
    title="A variational autoencoder",
    config=VAEConfig,
    build=build,
    build_for_table=build_for_table,
    table_defaults=TABLE_DEFAULTS,
    image_defaults=image_defaults,
    after_fit=fit_latent_density,
    examples=(
        "keras-gen train vae --posterior full --prior mixture --prior-components 10",
        "keras-gen train vae --conditional --prior conditional",
        "keras-gen train vae --data fashion_mnist --objective iwae --num-samples 5 "
        "--doubly-reparameterized",
    ),
)
"""The recipe of `keras-gen train vae`."""
