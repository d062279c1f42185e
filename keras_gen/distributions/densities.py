"""Probability densities that you fit to the latents of a trained model."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_gen._arguments import positive_int
from keras_gen._typing import Distribution, TensorLike
from keras_gen.distributions.priors import Prior


@keras.saving.register_keras_serializable("keras_gen")
class FittedMixture(Prior):
    """Gaussian mixture Σ_k π_k N(β_k, C_k) that is fitted to given latents.

    The component k has the weight π_k, the mean β_k and the full covariance matrix C_k. `fit`
    estimates these three from latents. The training of a model does not change them. Before `fit`,
    the mixture is the standard normal distribution.

    To generate data, an autoencoder decodes samples of this mixture. This is called ex-post density
    estimation (Ghosh et al. 2020, arXiv:1903.12436).

    Args:
        event_size: Number of latent dimensions.
        num_components: Number of Gaussians in the mixture. Default: 10.
        **kwargs: Arguments `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Example:

    >>> density = FittedMixture(event_size=2, num_components=1)
    >>> density.fit([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
    >>> density.distribution().mean().numpy()
    array([1., 1.], dtype=float32)
    """

    def __init__(self, event_size: int, num_components: int = 10, **kwargs: Any) -> None:
        super().__init__(event_size, **kwargs)
        self.num_components = positive_int(self, "num_components", num_components)
        mean_shape = (num_components, event_size)
        self.logits = self._add_fitted_weight("logits", (num_components,))
        self.mean = self._add_fitted_weight("mean", mean_shape)
        self.scale_tril = self._add_fitted_weight("scale_tril", (*mean_shape, event_size))
        self.scale_tril.assign(tf.eye(event_size, batch_shape=(num_components,)))

    def _add_fitted_weight(self, name: str, shape: tuple[int, ...]) -> keras.Variable:
        """Add a non-trainable weight, filled with zeros."""
        return self.add_weight(shape, "zeros", name=name, trainable=False, autocast=False)

    def fit(self, latents: npt.ArrayLike, seed: int = 0) -> None:
        """Fit the mixture to latents with scikit-learn's expectation-maximization algorithm.

        Args:
            latents: Array `[n, event_size]`, with one row per example. n must be at least
                `num_components`.
            seed: Seed of the k-means clustering from which the algorithm starts. Default: 0.

        Raises:
            ValueError: If `latents` does not have the shape `[n, event_size]`, or if n is smaller
                than `num_components`.
        """
        from sklearn.mixture import GaussianMixture

        latents = np.asarray(latents, np.float64)
        size_fits = latents.ndim == 2 and latents.shape[1] == self.event_size
        if not size_fits or len(latents) < self.num_components:
            raise ValueError(
                f"`latents` must have the shape (n, {self.event_size}), where n is at least "
                f"{self.num_components}, the number of components. Received: shape {latents.shape}."
            )
        mixture = GaussianMixture(
            self.num_components, covariance_type="full", random_state=seed
        ).fit(latents)
        self.logits.assign(np.log(mixture.weights_))
        self.mean.assign(mixture.means_)
        self.scale_tril.assign(np.linalg.cholesky(mixture.covariances_))

    def distribution(self, condition: TensorLike | None = None) -> Distribution:
        """Return the mixture as a `tfd.Distribution` with event shape `[event_size]`."""
        from tensorflow_probability import distributions as tfd

        mean = tf.convert_to_tensor(self.mean)
        components = tfd.MultivariateNormalTriL(mean, tf.convert_to_tensor(self.scale_tril))
        weights = tfd.Categorical(tf.convert_to_tensor(self.logits))
        return tfd.MixtureSameFamily(weights, components)
