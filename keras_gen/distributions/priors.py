"""Priors p(z), as Keras layers, since a prior may own weights."""

from __future__ import annotations

from typing import Any, Self

import keras
import tensorflow as tf

from keras_gen._arguments import positive_int
from keras_gen._serialization import deserialize_arguments, serialize_arguments
from keras_gen._typing import Distribution, TensorLike
from keras_gen.distributions.posteriors import Posterior, positive_scale


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

    num_classes: int | None = None
    """Number of labels that the prior depends on; None for one that does not."""

    def __init__(self, event_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.event_size = positive_int(self, "event_size", event_size)
        # a lambda, since a tf.function of a method holds its object weakly and may outlive it
        self._sample_rows = tf.function(
            lambda seeds, labels: self._draw(seeds, labels),
            input_signature=[tf.TensorSpec((None,), tf.int64)] * 2,
        )

    def distribution(self, condition: TensorLike | None = None) -> Distribution:
        """The prior as a `tfd.Distribution` with event shape `[event_size]`; one for each label of `condition` if it depends on them.

        Build it here, not in the constructor: a distribution made once from a variable does not follow that variable.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must return a `tfd.Distribution` from `distribution()`."
        )

    def connect(
        self, encoder: keras.Model, posterior: Posterior, support: tuple[float, float]
    ) -> None:
        """Called once by the VAE that the prior is given to; a prior that is made of the encoder keeps what it needs.

        Args:
            encoder: The VAE's encoder.
            posterior: Its posterior family.
            support: Smallest and largest value that its data may take.
        """

    def sample_rows(self, seeds: TensorLike, condition: TensorLike | None = None) -> tf.Tensor:
        """One latent vector a seed, the same whatever other seeds stand beside it.

        Args:
            seeds: int64 `[batch]`.
            condition: Labels `[batch]`, if the prior depends on them.

        Returns:
            float32 `[batch, event_size]`.
        """
        seeds = tf.cast(seeds, tf.int64)
        return self._sample_rows(
            seeds, tf.cast(condition, tf.int64) if self.num_classes else tf.zeros_like(seeds)
        )

    def _draw(self, seeds, labels):
        shared = None if self.num_classes else self.distribution()

        def row(seed_and_label):
            seed, label = seed_and_label
            distribution = shared or self.distribution(label[None])[0]
            return tf.cast(distribution.sample(seed=tf.bitcast(seed, tf.int32)), tf.float32)

        return tf.map_fn(
            row, (seeds, labels), fn_output_signature=tf.TensorSpec((self.event_size,), tf.float32)
        )

    def get_build_config(self) -> None:
        """Nothing: the model that a prior is given to builds it."""

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments and those of the layer."""
        return {**super().get_config(), **serialize_arguments(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The prior that `get_config` describes."""
        return cls(**deserialize_arguments(config))


@keras.saving.register_keras_serializable("keras_gen")
class StandardNormal(Prior):
    """p(z) = N(0, I) (MATH 2).

    Example:

    >>> StandardNormal(event_size=2).distribution().log_prob([0.0, 0.0]).numpy().round(4)
    np.float32(-1.8379)
    """

    def distribution(self, condition: TensorLike | None = None) -> Distribution:
        """N(0, I) over `[event_size]`."""
        from tensorflow_probability import distributions as tfd

        return tfd.Independent(tfd.Normal(tf.zeros(self.event_size), 1.0), 1)


@keras.saving.register_keras_serializable("keras_gen")
class LearnedNormal(Prior):
    """p(z) = N(β, diag η²) with β and η learned with the model (MATH 3); N(0, I) at first.

    Example:

    >>> LearnedNormal(event_size=2).distribution().stddev().numpy().tolist()
    [1.0, 1.0]
    """

    def __init__(self, event_size: int, **kwargs: Any) -> None:
        super().__init__(event_size, **kwargs)
        self.mean = self.add_weight((event_size,), "zeros", name="mean", autocast=False)
        self.raw_scale = self.add_weight((event_size,), "zeros", name="raw_scale", autocast=False)

    def distribution(self, condition: TensorLike | None = None) -> Distribution:
        """N(β, diag η²) over `[event_size]`."""
        from tensorflow_probability import distributions as tfd

        return tfd.Independent(
            tfd.Normal(tf.convert_to_tensor(self.mean), positive_scale(self.raw_scale)), 1
        )


@keras.saving.register_keras_serializable("keras_gen")
class ConditionalNormal(Prior):
    """p(z | y) = N(β(y), diag η²(y)) for labels y, by a network of one hidden layer: the notes' p(z | x, θ) (MATH 2).

    Args:
        event_size: Number of latent dimensions.
        num_classes: Number of labels, 0 … num_classes − 1.
        hidden_size: Units of the hidden layer.
        **kwargs: `name`, `dtype` and `trainable` of the Keras layer.

    Example:

    >>> ConditionalNormal(event_size=2, num_classes=10).distribution(tf.constant([3, 1])).batch_shape.as_list()
    [2]
    """

    def __init__(
        self, event_size: int, num_classes: int, hidden_size: int = 64, **kwargs: Any
    ) -> None:
        super().__init__(event_size, **kwargs)
        self.num_classes = positive_int(self, "num_classes", num_classes)
        self.hidden_size = positive_int(self, "hidden_size", hidden_size)
        self.network = keras.Sequential(
            [
                keras.Input((), dtype="int32"),
                keras.layers.Embedding(num_classes, hidden_size, dtype="float32"),
                keras.layers.Activation("tanh", dtype="float32"),
                keras.layers.Dense(2 * event_size, dtype="float32"),
            ]
        )

    def distribution(self, condition: TensorLike | None = None) -> Distribution:
        """One N(β(y), diag η²(y)) over `[event_size]` for each label of `condition`, `[batch]`."""
        from tensorflow_probability import distributions as tfd

        if condition is None:
            raise ValueError(f"{self.name} depends on labels: say which, distribution(condition).")
        mean, raw_scale = tf.split(self.network(tf.cast(condition, tf.int32)), 2, axis=-1)
        return tfd.Independent(tfd.Normal(mean, positive_scale(raw_scale)), 1)


@keras.saving.register_keras_serializable("keras_gen")
class NormalMixture(Prior):
    """p(z) = Σ_k π_k N(β_k, diag η_k²), all learned with the model; its divergence can only be sampled.

    Args:
        event_size: Number of latent dimensions.
        num_components: Number of normals in the mixture.
        **kwargs: `name`, `dtype` and `trainable` of the Keras layer.

    Example:

    >>> NormalMixture(event_size=2, num_components=10).distribution().event_shape.as_list()
    [2]
    """

    def __init__(self, event_size: int, num_components: int = 10, **kwargs: Any) -> None:
        super().__init__(event_size, **kwargs)
        self.num_components = positive_int(self, "num_components", num_components)
        shape = (num_components, event_size)
        self.logits = self.add_weight((num_components,), "zeros", name="logits", autocast=False)
        self.mean = self.add_weight(
            shape, keras.initializers.RandomNormal(stddev=1.0), name="mean", autocast=False
        )
        self.raw_scale = self.add_weight(shape, "zeros", name="raw_scale", autocast=False)

    def distribution(self, condition: TensorLike | None = None) -> Distribution:
        """The mixture over `[event_size]`."""
        from tensorflow_probability import distributions as tfd

        components = tfd.Normal(tf.convert_to_tensor(self.mean), positive_scale(self.raw_scale))
        return tfd.MixtureSameFamily(
            tfd.Categorical(tf.convert_to_tensor(self.logits)), tfd.Independent(components, 1)
        )


@keras.saving.register_keras_serializable("keras_gen")
class VampPrior(Prior):
    """p(z) = 1/K Σ_k q(z | u_k), the posteriors of K learned pseudo-inputs (Tomczak & Welling 2018, arXiv:1705.07120).

    The pseudo-inputs are made when a VAE is given the prior, and go through that VAE's encoder. Where data lie in [0, 1], they do.

    Args:
        event_size: Number of latent dimensions.
        num_components: K, the number of pseudo-inputs.
        **kwargs: `name`, `dtype` and `trainable` of the Keras layer.
    """

    def __init__(self, event_size: int, num_components: int = 50, **kwargs: Any) -> None:
        super().__init__(event_size, **kwargs)
        self.num_components = positive_int(self, "num_components", num_components)

    def connect(
        self, encoder: keras.Model, posterior: Posterior, support: tuple[float, float]
    ) -> None:
        """Make the pseudo-inputs and remember the way through the encoder, which stays the VAE's own layer."""
        if posterior.variables:
            raise ValueError(
                f"A VampPrior asks for densities of others' draws, for which flows are too slow. Received: {posterior}."
            )
        if isinstance(encoder.input_shape, list):
            raise ValueError(
                "A VampPrior sends pseudo-inputs through the encoder and has no labels for them: leave them to the decoder."
            )
        shape = (self.num_components, *encoder.input_shape[1:])
        self.raw_inputs = self.add_weight(
            shape, keras.initializers.RandomNormal(stddev=0.5), name="raw_inputs", autocast=False
        )
        squash = tf.sigmoid if tuple(support) == (0.0, 1.0) else tf.identity
        self._posteriors = lambda: posterior(
            encoder(squash(tf.convert_to_tensor(self.raw_inputs)), training=False)
        )

    def distribution(self, condition: TensorLike | None = None) -> Distribution:
        """The mixture over `[event_size]`."""
        from tensorflow_probability import distributions as tfd

        if not hasattr(self, "_posteriors"):
            raise ValueError(
                "A VampPrior is a mixture of its VAE's posteriors: give it to a VAE first, VAE(..., prior=prior)."
            )
        return tfd.MixtureSameFamily(
            tfd.Categorical(tf.zeros(self.num_components)), self._posteriors()
        )
