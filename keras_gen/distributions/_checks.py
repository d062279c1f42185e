"""Checks of a prior that a user hands over."""

from __future__ import annotations

import tensorflow as tf

from keras_gen.distributions.priors import Prior


def check_prior(prior: Prior, event_size: int, labels: bool = False) -> None:
    """Check that a prior is a `Prior` over the given number of latents.

    Args:
        prior: What the user gave.
        event_size: Number of latents of the model.
        labels: Whether the prior may depend on labels.

    Raises:
        ValueError: If it is something else, has another size, or depends on labels that the model
            does not have.
    """
    if not isinstance(prior, Prior):
        raise ValueError(
            f"`prior` must be a keras_gen.distributions.Prior. Received: {prior!r}. Return a tfd "
            "distribution from a Prior of your own, so that it is saved with the model:\n"
            "@keras.saving.register_keras_serializable()\n"
            "class MyPrior(keras_gen.distributions.Prior):\n"
            "    def distribution(self, condition=None):\n"
            "        return tfd.Independent(tfd.Laplace(tf.zeros(self.event_size), 1.0), 1)"
        )
    if prior.event_size != event_size:
        raise ValueError(
            f"`prior` must be over {event_size} latents. Received: {prior.name} with "
            f"event_size={prior.event_size}. Give the prior and the networks the same size."
        )
    if prior.num_classes and not labels:
        raise ValueError(
            "`prior` must not depend on labels, since this model has none. Received: "
            f"{prior.name}. Use a VAE for it."
        )


def check_distribution(prior: Prior) -> None:
    """Check that a prior's distribution is over vectors, without a batch shape, in float32.

    Args:
        prior: A prior that `check_prior` accepted. It is built if it is not yet.

    Raises:
        ValueError: If the distribution has another event shape, batch shape or dtype.
    """
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
            f"{prior.name}.distribution() must have the event shape ({prior.event_size},), no "
            f"batch shape, and the dtype float32. Received: event shape {event_shape}, batch shape "
            f"{batch_shape}, {distribution.dtype.name}. tfd.Independent(distribution, 1) turns a "
            "batch dimension into an event dimension."
        )
