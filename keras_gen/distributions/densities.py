"""Probability densities that you fit to the latents of a trained model."""

from __future__ import annotations

import math
import warnings
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_gen._arguments import is_integer, positive_int
from keras_gen._typing import Distribution, TensorLike
from keras_gen.distributions.posteriors import SMALLEST_SCALE, autoregressive_masks
from keras_gen.distributions.priors import Prior

_NUMBERS_OF_COMPONENTS = (*range(1, 11), 12, 14, 17, 20, 24, 28, 34, 40, 48, 56, 64)
"""Numbers of components from which the Bayesian information criterion chooses one."""
_COMPARED_ON = 10_000  # largest number of latents on which numbers of components are compared
_LOGIT_OF_UNUSED = -1e4  # exp(−10000) is 0 in float32
_BATCH = 256  # number of latents per training step of a flow
_LEARNING_RATE = 2e-3  # at the start of the training of a flow
_EVALUATIONS = 30  # number of times that the held-out latents of a flow are evaluated
_LARGEST_LOG_SCALE = 3.0


class FittedDensity(Prior):
    """Base class of the densities that are fitted to the latents of a trained model.

    A model fits its density with `fit_latent_density`, and `generate` then samples latents from the
    density. This is called ex-post density estimation (Ghosh et al. 2020, arXiv:1903.12436).

    A subclass implements `fit` and `distribution`. It makes all its weights in the constructor with
    `add_weight(..., trainable=False, autocast=False)`, because the training of the model must not
    change them.

    Args:
        event_size: Number of latent dimensions.
        **kwargs: Arguments `name`, `dtype` and `trainable` of `keras.layers.Layer`.
    """

    def fit(self, latents: npt.ArrayLike, seed: int = 0) -> None:
        """Fit the density to latents.

        Args:
            latents: Array `[n, event_size]`, with one row per example.
            seed: Seed of all random numbers. The same latents and the same seed give the same
                density. Default: 0.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement `fit`, which fits the density to latents."
        )

    def _add_fitted_weight(self, name: str, shape: tuple[int, ...]) -> keras.Variable:
        """Add a non-trainable weight, filled with zeros."""
        return self.add_weight(shape, "zeros", name=name, trainable=False, autocast=False)

    def _checked_latents(self, latents: npt.ArrayLike, at_least: int, why: str) -> np.ndarray:
        """Check the latents that `fit` receives, and return them as a float64 array.

        Args:
            latents: The latents.
            at_least: Smallest number of rows.
            why: The reason for this number, for the error message.
        """
        array = np.asarray(latents, np.float64)
        size_fits = array.ndim == 2 and array.shape[1] == self.event_size
        if not size_fits or len(array) < at_least:
            raise ValueError(
                f"`latents` must have the shape (n, {self.event_size}), where n is at least "
                f"{at_least}{why}. Received: shape {array.shape}."
            )
        if not np.all(np.isfinite(array)):
            row = int(np.argmin(np.isfinite(array).all(axis=1)))
            raise ValueError(
                f"`latents` must be finite numbers. Received: NaN or infinity in row {row}. Train "
                "the model with a lower learning rate."
            )
        return array


@keras.saving.register_keras_serializable("keras_gen")
class FittedMixture(FittedDensity):
    """Gaussian mixture Σ_k π_k N(β_k, C_k) that is fitted to given latents.

    The component k has the weight π_k, the mean β_k and the full covariance matrix C_k. `fit`
    estimates the weights, the means and the covariance matrices from latents. The training of a
    model does not change them. Before `fit`, the mixture is the standard normal distribution.

    To generate data, an autoencoder decodes samples of this mixture. This is called ex-post density
    estimation (Ghosh et al. 2020, arXiv:1903.12436).

    Args:
        event_size: Number of latent dimensions.
        num_components: Number of Gaussians in the mixture. If None, `fit` chooses a number from 1
            to 64 by the Bayesian information criterion (BIC). Default: 10.
        **kwargs: Arguments `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Example:

    >>> density = FittedMixture(event_size=2, num_components=1)
    >>> density.fit([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
    >>> density.distribution().mean().numpy()
    array([1., 1.], dtype=float32)
    """

    def __init__(self, event_size: int, num_components: int | None = 10, **kwargs: Any) -> None:
        super().__init__(event_size, **kwargs)
        if num_components is not None:
            num_components = positive_int(self, "num_components", num_components)
        self.num_components = num_components
        # The number of weights must not change in `fit`, because checkpoints and traced graphs
        # contain the weights.
        size = _NUMBERS_OF_COMPONENTS[-1] if num_components is None else num_components
        self.logits = self._add_fitted_weight("logits", (size,))
        self.mean = self._add_fitted_weight("mean", (size, event_size))
        self.scale_tril = self._add_fitted_weight("scale_tril", (size, event_size, event_size))
        self.scale_tril.assign(tf.eye(event_size, batch_shape=(size,)))

    @property
    def fitted_components(self) -> int:
        """Number of Gaussians that have a weight above 0."""
        return int(np.sum(np.asarray(self.logits) > _LOGIT_OF_UNUSED))

    def fit(self, latents: npt.ArrayLike, seed: int = 0) -> None:
        """Fit the mixture to latents with scikit-learn's expectation-maximization algorithm.

        If `num_components` is None, `fit` first chooses the number of components. It fits mixtures
        with more and more components to at most 10,000 of the latents, until the Bayesian
        information criterion (BIC) rises. It then uses the number with the lowest BIC.

        Args:
            latents: Array `[n, event_size]`, with one row per example. n must be at least 2, and at
                least `num_components`.
            seed: Seed of the k-means clustering from which the algorithm starts, and of the choice
                of the 10,000 latents. Default: 0.

        Raises:
            ValueError: If `latents` does not have the shape `[n, event_size]`, if n is too small,
                or if a latent is not a finite number.
        """
        from sklearn.mixture import GaussianMixture

        number = self.num_components
        why = ", the number of components"
        if number is None:
            latents = self._checked_latents(latents, 2, "")
            number = _number_of_components(latents, seed)
        else:
            latents = self._checked_latents(latents, number, why)
        mixture = GaussianMixture(number, covariance_type="full", random_state=seed).fit(latents)
        unused = self.logits.shape[0] - number
        logits = np.pad(np.log(mixture.weights_), (0, unused), constant_values=_LOGIT_OF_UNUSED)
        identities = np.broadcast_to(np.eye(self.event_size), (unused, *self.scale_tril.shape[1:]))
        scale_tril = np.linalg.cholesky(mixture.covariances_)
        self.logits.assign(logits)
        self.mean.assign(np.pad(mixture.means_, ((0, unused), (0, 0))))
        self.scale_tril.assign(np.concatenate([scale_tril, identities]))

    def distribution(self, condition: TensorLike | None = None) -> Distribution:
        """Return the mixture as a `tfd.Distribution` with event shape `[event_size]`."""
        from tensorflow_probability import distributions as tfd

        mean = tf.convert_to_tensor(self.mean)
        components = tfd.MultivariateNormalTriL(mean, tf.convert_to_tensor(self.scale_tril))
        weights = tfd.Categorical(tf.convert_to_tensor(self.logits))
        return tfd.MixtureSameFamily(weights, components)


def _number_of_components(latents: np.ndarray, seed: int) -> int:
    """Choose the number of components of a Gaussian mixture.

    The function fits mixtures with more and more components to at most 10,000 of the latents, until
    the Bayesian information criterion (BIC) increases. There are at most 64 components, and not
    more components than latents. The function returns the number with the lowest BIC.

    Args:
        latents: Array with one latent vector per row.
        seed: Seed of the fits, and of the choice of the 10,000 latents.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    if len(latents) > _COMPARED_ON:
        latents = np.random.default_rng(seed).choice(latents, _COMPARED_ON, replace=False)
    best = (math.inf, 1)
    for number in _NUMBERS_OF_COMPONENTS:
        if number > len(latents):
            break
        mixture = GaussianMixture(number, covariance_type="full", random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            bic = mixture.fit(latents).bic(latents)
        if bic > best[0]:
            break
        best = (bic, number)
    return best[1]


@keras.saving.register_keras_serializable("keras_gen")
class FittedFlow(FittedDensity):
    """Masked autoregressive flow that is fitted to given latents.

    The source is Papamakarios et al. 2017, arXiv:1705.07057. A sample of the density is a sample of
    N(0, I) that is transformed by `num_flows` flows. Each flow replaces its input u by

    z_i = u_i exp(s_i) + m_i,

    where s_i and m_i are computed from z_1 … z_{i−1}. In each flow, a masked network with one
    hidden layer computes all s_i and m_i. Between two flows, the order of the elements is reversed.
    The last transformation scales and shifts each element to the standard deviation and the mean of
    the latents. Before `fit`, the density is the standard normal distribution.

    A flow can approximate densities that are not close to a mixture of few Gaussians. `log_prob`
    takes one pass through the networks. Sampling takes `event_size` passes per flow, one after the
    other. Therefore sampling is slow for hundreds of latent dimensions.

    Args:
        event_size: Number of latent dimensions.
        num_flows: Number of flows. Default: 5.
        hidden_size: Number of units in the hidden layer of each network. Default: 128.
        **kwargs: Arguments `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Example:

    >>> density = FittedFlow(event_size=2, num_flows=1, hidden_size=4)
    >>> density.fit([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]], num_steps=10)
    >>> density.sample_rows([1, 2, 3]).shape.as_list()
    [3, 2]
    """

    def __init__(
        self, event_size: int, num_flows: int = 5, hidden_size: int = 128, **kwargs: Any
    ) -> None:
        super().__init__(event_size, **kwargs)
        self.num_flows = positive_int(self, "num_flows", num_flows)
        self.hidden_size = positive_int(self, "hidden_size", hidden_size)
        outputs = 2 * event_size  # m and s
        shapes = {
            "hidden_kernel": (num_flows, event_size, hidden_size),
            "hidden_bias": (num_flows, hidden_size),
            "output_kernel": (num_flows, hidden_size, outputs),
            "output_bias": (num_flows, outputs),
        }
        self.network_weights = [
            self._add_fitted_weight(name, shape) for name, shape in shapes.items()
        ]
        self.mean = self._add_fitted_weight("mean", (event_size,))
        self.scale = self._add_fitted_weight("scale", (event_size,))
        self.scale.assign(tf.ones(event_size))

    def fit(self, latents: npt.ArrayLike, seed: int = 0, num_steps: int = 3000) -> None:
        """Fit the flow to latents by maximum likelihood, with the optimizer Adam.

        A random tenth of the latents is held out. During the training, the log-likelihood of the
        held-out latents is computed up to 30 times. At the end, the flow gets the weights for which
        this log-likelihood was highest.

        Args:
            latents: Array `[n, event_size]`, with one row per example. n must be at least 2.
            seed: Seed of the initial weights, of the choice of the held-out latents, and of the
                training batches. Default: 0.
            num_steps: Number of training steps, each with 256 latents. Default: 3000.

        Raises:
            ValueError: If `latents` does not have the shape `[n, event_size]`, if n is less than 2,
                if a latent is not a finite number, or if `num_steps` is not a positive integer.
        """
        latents = self._checked_latents(latents, 2, "")
        num_steps = positive_int(None, "num_steps", num_steps)
        mean = latents.mean(axis=0)
        scale = np.maximum(latents.std(axis=0), SMALLEST_SCALE)
        random = np.random.default_rng(seed)
        rows = random.permutation((latents - mean) / scale).astype(np.float32)
        held_out, rows = np.split(rows, [max(1, len(rows) // 10)])
        weights = [keras.Variable(values) for values in self._initial_weights(random)]
        schedule = keras.optimizers.schedules.CosineDecay(_LEARNING_RATE, num_steps)
        optimizer = keras.optimizers.Adam(schedule, name="adam")

        def loss(batch: tf.Tensor) -> tf.Tensor:
            flow = self._standardized([tf.convert_to_tensor(weight) for weight in weights])
            return -tf.reduce_mean(flow.log_prob(batch))

        def step(batch: tf.Tensor) -> None:
            with tf.GradientTape() as tape:
                value = loss(batch)
            optimizer.apply(tape.gradient(value, [weight.value for weight in weights]), weights)

        signature = [tf.TensorSpec((None, self.event_size), tf.float32)]
        train_step = tf.function(step, input_signature=signature)
        evaluate = tf.function(loss, input_signature=signature)
        best = (math.inf, [weight.numpy() for weight in weights])
        every = math.ceil(num_steps / _EVALUATIONS)
        for number in range(1, num_steps + 1):
            train_step(rows[random.integers(len(rows), size=_BATCH)])
            if number % every == 0 or number == num_steps:
                value = float(evaluate(held_out))
                if value < best[0]:
                    best = (value, [weight.numpy() for weight in weights])
        for own, values in zip(self.network_weights, best[1], strict=True):
            own.assign(values)
        self.mean.assign(mean)
        self.scale.assign(scale)

    def _initial_weights(self, random: np.random.Generator) -> list[np.ndarray]:
        """Return random weights with which `fit` starts to train the networks of the flows.

        With these weights, the density of the standardized latents is N(0, I).
        """
        kernel, bias, *output = [
            np.zeros(tuple(weight.shape), np.float32) for weight in self.network_weights
        ]
        limit = math.sqrt(6 / (self.event_size + self.hidden_size))
        kernel += random.uniform(-limit, limit, kernel.shape)
        bias += random.uniform(-1, 1, bias.shape)
        return [kernel, bias, *output]

    def _standardized(self, network_weights: list[tf.Tensor]) -> Distribution:
        """Return the density of standardized latents, which have mean 0 and standard deviation 1.

        Args:
            network_weights: The weights of the flow's networks. The first axis of each tensor has
                one element per network.
        """
        from tensorflow_probability import bijectors as tfb
        from tensorflow_probability import distributions as tfd

        steps: list[Any] = []
        for weights_of_flow in zip(*map(tf.unstack, network_weights), strict=True):
            if steps:
                steps.append(tfb.Permute(list(range(self.event_size))[::-1]))
            steps.append(tfb.MaskedAutoregressiveFlow(self._network(*weights_of_flow)))
        in_order_of_composition = steps[::-1]  # a chain applies its last bijector first
        base = tfd.Independent(tfd.Normal(tf.zeros(self.event_size), 1.0), 1)
        return tfd.TransformedDistribution(base, tfb.Chain(in_order_of_composition))

    def _network(
        self,
        hidden_kernel: tf.Tensor,
        hidden_bias: tf.Tensor,
        output_kernel: tf.Tensor,
        output_bias: tf.Tensor,
    ) -> Any:
        """Return a function from latents to the tuple (shifts m, log-scales s)."""
        hidden_mask, output_mask = autoregressive_masks(self.event_size, self.hidden_size)
        hidden_kernel *= hidden_mask.astype(np.float32)
        output_kernel *= output_mask.astype(np.float32)

        def shift_and_log_scale(z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            hidden = tf.tanh(tf.tensordot(z, hidden_kernel, 1) + hidden_bias)
            output = tf.tensordot(hidden, output_kernel, 1) + output_bias
            shift, log_scale = tf.split(output, 2, axis=-1)
            # The log-scale is bounded, so that its exponential stays finite.
            return shift, _LARGEST_LOG_SCALE * tf.tanh(log_scale / _LARGEST_LOG_SCALE)

        return shift_and_log_scale

    def distribution(self, condition: TensorLike | None = None) -> Distribution:
        """Return the flow as a `tfd.Distribution` with event shape `[event_size]`."""
        from tensorflow_probability import bijectors as tfb
        from tensorflow_probability import distributions as tfd

        flow = self._standardized([tf.convert_to_tensor(each) for each in self.network_weights])
        shift = tfb.Shift(tf.convert_to_tensor(self.mean))
        scale = tfb.Scale(tf.convert_to_tensor(self.scale))
        return tfd.TransformedDistribution(
            flow.distribution, tfb.Chain([shift, scale, flow.bijector])
        )

    def _sample_each_row(self, seeds: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Sample one latent vector per seed. The networks compute all vectors in parallel."""
        row = tf.TensorSpec((self.event_size,), tf.float32)

        def sample_noise(seed: tf.Tensor) -> tf.Tensor:
            return tf.random.stateless_normal((self.event_size,), tf.bitcast(seed, tf.int32))

        noise = tf.map_fn(sample_noise, seeds, fn_output_signature=row)
        return self.distribution().bijector.forward(noise)


def density_to_fit(
    density: FittedDensity | int | None,
    num_components: int | None,
    event_size: int,
    current: Prior | None,
) -> FittedDensity:
    """Choose or make the density that the method `fit_latent_density` of a model then fits.

    Args:
        density: The argument `density` of `fit_latent_density`. In version 0.1.0, the second
            argument of this method was the number of components. Therefore an integer is accepted
            here as the number of components.
        num_components: The argument `num_components` of `fit_latent_density`.
        event_size: Number of latent dimensions of the model.
        current: The current density or prior of the model, or None.

    Returns:
        `density` if it is a `FittedDensity`. Otherwise `current`, if the model has a density and no
        number of components is requested, or if `current` is a `FittedMixture` with the requested
        number. In all other cases, a new `FittedMixture`.

    Raises:
        ValueError: If the arguments are invalid, or if `current` is a prior that is not a
            `FittedDensity`.
    """
    if is_integer(density):
        num_components = int(density)
        density = None
    if density is not None and num_components is not None:
        raise ValueError(
            "Expected either `density` or `num_components`. Received: both. Pass the number to the "
            f"density: FittedMixture({event_size}, num_components={num_components!r})."
        )
    if current is not None and not isinstance(current, FittedDensity):
        raise ValueError(
            f"The model already has the prior {current.name}, which is not a FittedDensity. Make "
            "another model from the same networks, without `prior`: "
            "RegularizedAutoencoder(autoencoder.encoder, autoencoder.decoder)."
        )
    if density is not None:
        return check_density(density, event_size)
    if num_components is None:
        return FittedMixture(event_size) if current is None else current
    if isinstance(current, FittedMixture) and current.num_components == num_components:
        return current
    return FittedMixture(event_size, num_components)


def check_density(density: object, event_size: int) -> FittedDensity:
    """Return the density if it is a `FittedDensity` over `event_size` latents.

    Raises:
        ValueError: If it is another object, or has another number of latents.
    """
    if not isinstance(density, FittedDensity) or density.event_size != event_size:
        raise ValueError(
            f"`density` must be a keras_gen.distributions.FittedDensity over {event_size} latents, "
            f"such as FittedMixture({event_size}) or FittedFlow({event_size}). "
            f"Received: {density!r}."
        )
    return density
