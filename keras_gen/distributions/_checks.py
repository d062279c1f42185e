"""Checks of a prior."""

from __future__ import annotations

import tensorflow as tf

from keras_gen.distributions.priors import Prior


def check_prior(prior: Prior, event_size: int, labels: bool = False) -> None:
    """Check that a prior is one, is over the latents there are and, unless `labels` are allowed, depends on none.

    Args:
        prior: What the user handed over.
        event_size: Number of latents.
        labels: Whether it may depend on labels.

    Raises:
        ValueError: With what was expected, what was received and what to do.
    """
    if not isinstance(prior, Prior):
        raise ValueError(
            f"`prior` is a keras_gen.distributions.Prior. Received: {prior!r}. Put a tfd distribution into one, so that it is saved "
            "with the model:\n@keras.saving.register_keras_serializable()\nclass MyPrior(keras_gen.distributions.Prior):\n"
            "    def distribution(self, condition=None):\n"
            "        return tfd.Independent(tfd.Laplace(tf.zeros(self.event_size), 1.0), 1)"
        )
    if prior.event_size != event_size:
        raise ValueError(
            f"Expected `prior` over {event_size} latents. Received: {prior.name} with event_size={prior.event_size}. Give the prior "
            "and the networks the same size."
        )
    if prior.num_classes and not labels:
        raise ValueError(
            f"Expected `prior` without a condition, since this model has no labels. Received: {prior.name}. Use a VAE for it."
        )


def check_distribution(prior: Prior) -> None:
    """Build a prior and check that its distribution is one over vectors: `[event_size]` the event, no batch, float32.

    Args:
        prior: One that `check_prior` let pass.

    Raises:
        ValueError: If its distribution is another.
    """
    if not prior.built:
        prior.build(None)
    distribution = (
        prior.distribution(tf.zeros(1, tf.int32))[0] if prior.num_classes else prior.distribution()
    )
    if (
        distribution.event_shape != (prior.event_size,)
        or distribution.batch_shape != ()
        or distribution.dtype != tf.float32
    ):
        raise ValueError(
            f"Expected {prior.name}.distribution() of event shape ({prior.event_size},), without a batch, in float32. Received: event "
            f"shape {tuple(distribution.event_shape)}, batch shape {tuple(distribution.batch_shape)}, {distribution.dtype.name}. "
            "tfd.Independent(distribution, 1) makes one distribution of a batch."
        )
