"""Prior distributions p(z) over the latents."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_gen._arguments import positive_int
from keras_gen._labels import checked_labels
from keras_gen._serialization import SerializableLayer
from keras_gen._typing import Distribution, TensorLike
from keras_gen.distributions.posteriors import Posterior, positive_scale


class Prior(SerializableLayer):
    """Base class of the priors p(z), the distributions over the latents.

    To use another `tfd.Distribution` as a prior, derive a class from `Prior`. A prior is a Keras
    layer, so it can have weights. Make each weight in the constructor, with
    `add_weight(..., autocast=False)`. A model that uses the prior trains and saves these weights.

    Args:
        event_size: Number of latent dimensions.
        **kwargs: Arguments `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Example: a custom prior, which Keras can save and load with a model.

    >>> from tensorflow_probability import distributions as tfd
    >>> @keras.saving.register_keras_serializable()
    ... class Laplace(Prior):
    ...     def distribution(self, condition=None):
    ...         return tfd.Independent(tfd.Laplace(tf.zeros(self.event_size), 1.0), 1)
    >>> Laplace(event_size=3).distribution().event_shape.as_list()
    [3]
    """

    num_classes: int | None = None
    """Number of classes if the prior depends on labels. None for any other prior."""

    def __init__(self, event_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.event_size = positive_int(self, "event_size", event_size)
        # A `tf.function` that is made from a method holds only a weak reference to `self`. The
        # lambda refers to `self` and therefore keeps it alive.
        self._sample_rows = tf.function(
            lambda seeds, labels: self._sample_each_row(seeds, labels),
            input_signature=[tf.TensorSpec((None,), tf.int64)] * 2,
        )

    def distribution(self, condition: TensorLike | None = None) -> Distribution:
        """Return the prior as a `tfd.Distribution` with event shape `[event_size]`.

        In a subclass, make the distribution in this method and not in the constructor. A
        distribution that is made in the constructor does not change when the weights change.

        Args:
            condition: Labels `[batch]` if the prior depends on labels, otherwise None. With labels,
                the distribution has the batch shape `[batch]`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must return a `tfd.Distribution` from `distribution()`."
        )

    def connect(
        self, encoder: keras.Model, posterior: Posterior, support: tuple[float, float]
    ) -> None:
        """Receive the encoder and the posterior of the VAE that uses this prior.

        The constructor of the VAE calls this method once. By default, the method does nothing.
        Override it if your prior, like `VampPrior`, needs the encoder.

        Args:
            encoder: The encoder of the VAE.
            posterior: The posterior of the VAE.
            support: Smallest and largest value that the likelihood of the VAE allows in the data.
        """

    def sample_rows(self, seeds: TensorLike, condition: TensorLike | None = None) -> tf.Tensor:
        """Sample one latent vector per seed.

        Each vector depends only on its own seed and label, not on the rest of the batch.

        Args:
            seeds: Seeds, int64 `[batch]`.
            condition: Labels `[batch]`, integers from 0 to `num_classes` − 1, if the prior depends
                on labels. Other priors ignore this argument.

        Returns:
            Latent vectors, float32 `[batch, event_size]`.

        Raises:
            ValueError: If the prior depends on labels, and the labels are missing or invalid. In a
                TensorFlow graph, an assertion fails if a label is less than 0, or greater than
                `num_classes` − 1.
        """
        seeds = tf.cast(seeds, tf.int64)
        labels = tf.zeros_like(seeds)
        if self.num_classes:
            labels = tf.cast(self._checked_labels(condition, seeds), tf.int64)
        return self._sample_rows(seeds, labels)

    def _checked_labels(
        self, condition: TensorLike | None, len_of: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Check the labels that a conditional prior receives, and return them as a tensor.

        Args:
            condition: Labels `[batch]`, integers from 0 to `num_classes` − 1.
            len_of: A tensor with one element per label. If None, the number of labels is not
                checked.

        Raises:
            ValueError: If the labels are missing or invalid.
        """
        assert self.num_classes is not None  # otherwise the prior has no labels
        if condition is None:
            raise ValueError(
                f"{self.name} depends on labels. Pass them: `distribution(condition)`."
            )
        return checked_labels(condition, self.num_classes, len_of=len_of, owner=self.name)

    def _sample_each_row(self, seeds: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Sample one latent vector per pair of a seed and a label."""
        shared = None if self.num_classes else self.distribution()

        def sample_row(seed_and_label: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            seed, label = seed_and_label
            distribution = shared or self.distribution(label[None])[0]
            return tf.cast(distribution.sample(seed=tf.bitcast(seed, tf.int32)), tf.float32)

        row = tf.TensorSpec((self.event_size,), tf.float32)
        return tf.map_fn(sample_row, (seeds, labels), fn_output_signature=row)


@keras.saving.register_keras_serializable("keras_gen")
class StandardNormal(Prior):
    """Standard normal prior p(z) = N(0, I).

    Args:
        event_size: Number of latent dimensions.
        **kwargs: Arguments `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Example:

    >>> StandardNormal(event_size=2).distribution().log_prob([0.0, 0.0]).numpy().round(4)
    np.float32(-1.8379)
    """

    def distribution(self, condition: TensorLike | None = None) -> Distribution:
        """Return N(0, I) with event shape `[event_size]`."""
        from tensorflow_probability import distributions as tfd

        return tfd.Independent(tfd.Normal(tf.zeros(self.event_size), 1.0), 1)


@keras.saving.register_keras_serializable("keras_gen")
class LearnedNormal(Prior):
    """Normal prior p(z) = N(β, diag η²) with a trainable mean β and standard deviation η.

    Before training, β is 0 and η is 1, so the prior is N(0, I).

    Args:
        event_size: Number of latent dimensions.
        **kwargs: Arguments `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Example:

    >>> LearnedNormal(event_size=2).distribution().stddev().numpy().tolist()
    [1.0, 1.0]
    """

    def __init__(self, event_size: int, **kwargs: Any) -> None:
        super().__init__(event_size, **kwargs)
        self.mean = self.add_weight((event_size,), "zeros", name="mean", autocast=False)
        self.raw_scale = self.add_weight((event_size,), "zeros", name="raw_scale", autocast=False)

    def distribution(self, condition: TensorLike | None = None) -> Distribution:
        """Return N(β, diag η²) with event shape `[event_size]`."""
        from tensorflow_probability import distributions as tfd

        mean = tf.convert_to_tensor(self.mean)
        return tfd.Independent(tfd.Normal(mean, positive_scale(self.raw_scale)), 1)


@keras.saving.register_keras_serializable("keras_gen")
class ConditionalNormal(Prior):
    """Normal prior p(z | y) = N(β(y), diag η²(y)) for labels y.

    A network with one hidden layer computes the mean β and the standard deviation η from the label.

    Args:
        event_size: Number of latent dimensions.
        num_classes: Number of classes. Labels are integers from 0 to num_classes − 1.
        hidden_size: Number of units in the hidden layer. Default: 64.
        **kwargs: Arguments `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Example:

    >>> prior = ConditionalNormal(event_size=2, num_classes=10)
    >>> prior.distribution(tf.constant([3, 1])).batch_shape.as_list()
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
        """Return one normal distribution N(β(y), diag η²(y)) for each label y.

        The network of the prior computes the mean β and the standard deviation η from the label.

        Args:
            condition: Labels `[batch]`, integers from 0 to `num_classes` − 1.

        Raises:
            ValueError: If `condition` is None, or has the wrong shape or dtype. If a label is less
                than 0, or greater than `num_classes` − 1. In a TensorFlow graph, an assertion fails
                for such a label.
        """
        from tensorflow_probability import distributions as tfd

        labels = self._checked_labels(condition)
        mean, raw_scale = tf.split(self.network(tf.cast(labels, tf.int32)), 2, axis=-1)
        return tfd.Independent(tfd.Normal(mean, positive_scale(raw_scale)), 1)


@keras.saving.register_keras_serializable("keras_gen")
class NormalMixture(Prior):
    """Gaussian mixture prior p(z) = Σ_k π_k N(β_k, diag η_k²).

    The weights π_k, the means β_k and the standard deviations η_k of the components k are
    trainable. The KL divergence of a posterior from this prior has no closed form. Therefore it is
    estimated from samples.

    Args:
        event_size: Number of latent dimensions.
        num_components: Number of Gaussians in the mixture. Default: 10.
        **kwargs: Arguments `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Example:

    >>> NormalMixture(event_size=2, num_components=10).distribution().event_shape.as_list()
    [2]
    """

    def __init__(self, event_size: int, num_components: int = 10, **kwargs: Any) -> None:
        super().__init__(event_size, **kwargs)
        self.num_components = positive_int(self, "num_components", num_components)
        shape = (num_components, event_size)
        spread = keras.initializers.RandomNormal(stddev=1.0)
        self.logits = self.add_weight((num_components,), "zeros", name="logits", autocast=False)
        self.mean = self.add_weight(shape, spread, name="mean", autocast=False)
        self.raw_scale = self.add_weight(shape, "zeros", name="raw_scale", autocast=False)

    def distribution(self, condition: TensorLike | None = None) -> Distribution:
        """Return the mixture as a `tfd.Distribution` with event shape `[event_size]`."""
        from tensorflow_probability import distributions as tfd

        components = tfd.Normal(tf.convert_to_tensor(self.mean), positive_scale(self.raw_scale))
        weights = tfd.Categorical(tf.convert_to_tensor(self.logits))
        return tfd.MixtureSameFamily(weights, tfd.Independent(components, 1))


@keras.saving.register_keras_serializable("keras_gen")
class VampPrior(Prior):
    """VampPrior p(z) = (1/K) Σ_k q(z | u_k), a mixture of the posteriors of K pseudo-inputs u_k.

    The source is Tomczak & Welling 2018, arXiv:1705.07120. Pseudo-inputs are trainable weights with
    the shape of one example. The encoder of the VAE computes the posteriors q(z | u_k). If the
    likelihood of the VAE allows only data in [0, 1], the pseudo-inputs also lie in [0, 1]. The
    constructor of the VAE calls the method `connect`, which makes the pseudo-inputs. The KL
    divergence of a posterior from this prior has no closed form. Therefore it is estimated from
    samples.

    Args:
        event_size: Number of latent dimensions.
        num_components: K, the number of pseudo-inputs. Default: 50.
        **kwargs: Arguments `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Example:

    >>> from keras_gen import networks
    >>> from keras_gen.distributions import DiagonalNormal
    >>> prior = VampPrior(event_size=2, num_components=5)
    >>> prior.connect(networks.mlp((28, 28, 1), (4,)), DiagonalNormal(2), support=(0.0, 1.0))
    >>> prior.distribution().event_shape.as_list()
    [2]
    """

    def __init__(self, event_size: int, num_components: int = 50, **kwargs: Any) -> None:
        super().__init__(event_size, **kwargs)
        self.num_components = positive_int(self, "num_components", num_components)

    def connect(
        self, encoder: keras.Model, posterior: Posterior, support: tuple[float, float]
    ) -> None:
        """Make the pseudo-inputs, and store the encoder that computes their posteriors.

        Pseudo-inputs are trainable weights with the shape of one example. The prior is the mixture
        of their posteriors. The constructor of the VAE calls this method.

        Args:
            encoder: The encoder of the VAE. The encoder must have no input for labels.
            posterior: The posterior of the VAE. The posterior must have no weights.
            support: Smallest and largest value that the likelihood of the VAE allows in the data.

        Raises:
            ValueError: If the prior was passed to a VAE before, if the posterior has weights, or if
                the encoder has an input for labels.
        """
        if hasattr(self, "raw_inputs"):
            raise ValueError(
                f"{self.name} belongs to a VAE already. Make a new VampPrior for each VAE."
            )
        if posterior.variables:
            raise ValueError(
                "`VampPrior` needs a posterior without weights. Received: "
                f"posterior={posterior}, which has weights. Use DiagonalNormal or "
                "FullCovarianceNormal."
            )
        if isinstance(encoder.input_shape, list):
            raise ValueError(
                "`VampPrior` passes learned inputs through the encoder, and has no labels for "
                "these inputs. "
                f"Received: {encoder.name}, which takes labels. Give labels to the decoder only."
            )
        self.raw_inputs = self.add_weight(
            (self.num_components, *encoder.input_shape[1:]),
            keras.initializers.RandomNormal(stddev=0.5),
            name="raw_inputs",
            autocast=False,
        )
        squash = tf.sigmoid if tuple(support) == (0.0, 1.0) else tf.identity

        def component_posteriors() -> Distribution:
            inputs = squash(tf.convert_to_tensor(self.raw_inputs))
            return posterior(encoder(inputs, training=False))

        self._component_posteriors = component_posteriors

    def distribution(self, condition: TensorLike | None = None) -> Distribution:
        """Return the mixture of the posteriors q(z | u_k) of the pseudo-inputs u_k.

        The mixture is a `tfd.Distribution` with event shape `[event_size]`.

        Raises:
            ValueError: If the prior does not belong to a VAE yet. To make a VAE with this prior,
                call `VAE(..., prior=prior)`.
        """
        from tensorflow_probability import distributions as tfd

        if not hasattr(self, "_component_posteriors"):
            raise ValueError(
                f"{self.name} is a mixture of the posteriors of a VAE. Give it to a VAE first: "
                "`VAE(..., prior=prior)`."
            )
        weights = tfd.Categorical(tf.zeros(self.num_components))
        return tfd.MixtureSameFamily(weights, self._component_posteriors())
