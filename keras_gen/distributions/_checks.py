"""Check the distributions that a user passes to a model."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_gen._startup import import_tensorflow_probability
from keras_gen.distributions.likelihoods import Likelihood
from keras_gen.distributions.posteriors import Posterior
from keras_gen.distributions.priors import Prior


def check_posterior(posterior: Any, argument: str = "posterior") -> None:
    """Raise a `ValueError` if the object that a user passed as `argument` is no `Posterior`."""
    if not isinstance(posterior, Posterior):
        raise ValueError(
            f"`{argument}` must be a keras_gen.distributions.Posterior, such as "
            f"DiagonalNormal(event_size=8). Received: {posterior!r}"
        )


def check_likelihood(likelihood: Any) -> None:
    """Raise a `ValueError` if the object that a user passed is no `Likelihood`."""
    if not isinstance(likelihood, Likelihood):
        raise ValueError(
            "`likelihood` must be a keras_gen.distributions.Likelihood, such as "
            f"Bernoulli((28, 28, 1)). Received: {likelihood!r}"
        )


def check_prior(
    prior: Prior, event_size: int, labels: bool = False, argument: str = "prior"
) -> None:
    """Check that `prior` is a `Prior` with the model's number of latent dimensions.

    Args:
        prior: The object that the user passed as the prior.
        event_size: Number of latent dimensions of the model.
        labels: Whether the prior may depend on labels. Default: False.
        argument: Name of the argument that received the prior, for the error message.

    Raises:
        ValueError: If `prior` is not a `Prior`, if `prior.event_size` differs from `event_size`, or
            if the prior depends on labels although `labels` is False.
    """
    if not isinstance(prior, Prior):
        raise ValueError(
            f"`{argument}` must be a keras_gen.distributions.Prior. Received: {prior!r}. To use a "
            "distribution of TensorFlow Probability (tfd), return it from a subclass of Prior, "
            "which the model can save:\n"
            "@keras.saving.register_keras_serializable()\n"
            "class MyPrior(keras_gen.distributions.Prior):\n"
            "    def distribution(self, condition=None):\n"
            "        return tfd.Independent(tfd.Laplace(tf.zeros(self.event_size), 1.0), 1)"
        )
    if prior.event_size != event_size:
        raise ValueError(
            f"`{argument}` must be over {event_size} latents. Received: {prior.name} with "
            f"event_size={prior.event_size}. Make the prior with event_size={event_size}."
        )
    if prior.num_classes and not labels:
        raise ValueError(
            f"`{argument}` must not depend on labels, because this model takes no labels. "
            f"Received: {prior.name}. Use this prior with a VAE or a GAN."
        )


def check_distribution(prior: Prior) -> None:
    """Check the event shape, the batch shape and the dtype of a prior's distribution.

    The event shape must be `[prior.event_size]`, the batch shape `[]`, and the dtype float32. If
    the prior depends on labels, the function checks the distribution for one label.

    Args:
        prior: A prior that `check_prior` accepted. The function builds the prior, which is a Keras
            layer, if it is not built yet.

    Raises:
        ValueError: If the event shape, the batch shape or the dtype is not the required one.
    """
    import_tensorflow_probability()
    if not prior.built:
        prior.build(None)
    if prior.num_classes:
        distribution = prior.distribution(tf.zeros(1, tf.int32))[0]
    else:
        distribution = prior.distribution()
    event_shape = tuple(distribution.event_shape)
    batch_shape = tuple(distribution.batch_shape)
    fits = event_shape == (prior.event_size,) and batch_shape == ()
    if not fits or distribution.dtype != tf.float32:
        raise ValueError(
            f"{prior.name}.distribution() must have the event shape ({prior.event_size},), the "
            f"batch shape () and the dtype float32. Received: event shape {event_shape}, batch "
            f"shape {batch_shape}, dtype {distribution.dtype.name}. "
            "tfd.Independent(distribution, 1) turns a batch dimension into an event dimension."
        )
