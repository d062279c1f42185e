"""Priors p(z), as Keras layers, since a prior may own weights."""

import keras
import tensorflow as tf

from keras_gen.serialization import deserialize_arguments, serialize_arguments


class Prior(keras.layers.Layer):
    """A distribution over the latents. Derive from it to use any `tfd` distribution as a prior.

    Args:
        event_size: Number of latent dimensions.
        **kwargs: `name`, `dtype` and `trainable` of the Keras layer.

    Example: a prior of your own, saved and loaded with the model.

    >>> from tensorflow_probability import distributions as tfd
    >>> @keras.saving.register_keras_serializable()
    ... class Laplace(Prior):
    ...     def distribution(self, condition=None):
    ...         return tfd.Independent(tfd.Laplace(tf.zeros(self.event_size), 1.0), 1)
    >>> Laplace(event_size=3).distribution().event_shape.as_list()
    [3]
    """

    def __init__(self, event_size, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(event_size, int) or event_size < 1:
            raise ValueError(
                f"`event_size` of {type(self).__name__} is the number of latent dimensions, an int of at least 1. "
                f"Received: event_size={event_size!r}"
            )
        self.event_size = event_size
        self.built = True

    def distribution(self, condition=None):
        """The prior as a `tfd.Distribution` with event shape `[event_size]`.

        Build it here, not in the constructor: a distribution made once from a variable does not follow that variable.
        """
        raise NotImplementedError(f"{type(self).__name__} must return a `tfd.Distribution` from `distribution()`.")

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.int64)])
    def sample_rows(self, seeds):
        """One latent vector a seed, the same whatever other seeds stand beside it.

        Args:
            seeds: int64 `[batch]`.

        Returns:
            float32 `[batch, event_size]`.
        """
        distribution = self.distribution()
        return tf.map_fn(
            lambda seed: tf.cast(distribution.sample(seed=tf.bitcast(seed, tf.int32)), tf.float32),
            seeds,
            fn_output_signature=tf.TensorSpec((self.event_size,), tf.float32),
        )

    def get_config(self):
        """The constructor's arguments and those of the layer."""
        return {**super().get_config(), **serialize_arguments(self)}

    @classmethod
    def from_config(cls, config):
        """The prior that `get_config` describes."""
        return cls(**deserialize_arguments(config))


@keras.saving.register_keras_serializable("keras_gen")
class StandardNormal(Prior):
    """p(z) = N(0, I) (MATH 2).

    Example:

    >>> StandardNormal(event_size=2).distribution().log_prob([0.0, 0.0]).numpy().round(4)
    np.float32(-1.8379)
    """

    def distribution(self, condition=None):
        """N(0, I) over `[event_size]`."""
        from tensorflow_probability import distributions as tfd

        return tfd.Independent(tfd.Normal(tf.zeros(self.event_size), 1.0), 1)
