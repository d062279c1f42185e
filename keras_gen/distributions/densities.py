"""Densities fitted to latents."""

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
    """Σ_k π_k N(β_k, Σ_k) of full covariances, fitted to given codes and not trained: the latent density of an autoencoder.

    (Ghosh et al. 2020, arXiv:1903.12436, "ex-post density estimation".) Before `fit` it is N(0, I).

    Args:
        event_size: Number of latent dimensions.
        num_components: Number of normals in the mixture.
        **kwargs: `name`, `dtype` and `trainable` of the Keras layer.

    Example:

    >>> density = FittedMixture(event_size=2, num_components=1)
    >>> density.fit([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
    >>> density.distribution().mean().numpy()
    array([1., 1.], dtype=float32)
    """

    def __init__(self, event_size: int, num_components: int = 10, **kwargs: Any) -> None:
        super().__init__(event_size, **kwargs)
        self.num_components = positive_int(self, "num_components", num_components)
        shape = (num_components, event_size)
        frozen = {"trainable": False, "autocast": False}
        self.logits = self.add_weight((num_components,), "zeros", name="logits", **frozen)
        self.mean = self.add_weight(shape, "zeros", name="mean", **frozen)
        self.scale_tril = self.add_weight(
            (*shape, event_size), "zeros", name="scale_tril", **frozen
        )
        self.scale_tril.assign(tf.eye(event_size, batch_shape=(num_components,)))

    def fit(self, codes: npt.ArrayLike, seed: int = 0) -> None:
        """Fit the mixture with scikit-learn's expectation maximization.

        Args:
            codes: Latents `[n, event_size]`, at least as many as there are components.
            seed: Seed of the first assignment to components.
        """
        from sklearn.mixture import GaussianMixture

        codes = np.asarray(codes, np.float64)
        if codes.ndim != 2 or codes.shape[1] != self.event_size or len(codes) < self.num_components:
            raise ValueError(
                f"Expected codes of shape (n, {self.event_size}) with n of at least {self.num_components}, the number of components. "
                f"Received: shape {codes.shape}."
            )
        mixture = GaussianMixture(
            self.num_components, covariance_type="full", random_state=seed
        ).fit(codes)
        self.logits.assign(np.log(mixture.weights_))
        self.mean.assign(mixture.means_)
        self.scale_tril.assign(np.linalg.cholesky(mixture.covariances_))

    def distribution(self, condition: TensorLike | None = None) -> Distribution:
        """The mixture over `[event_size]`."""
        from tensorflow_probability import distributions as tfd

        components = tfd.MultivariateNormalTriL(
            tf.convert_to_tensor(self.mean), tf.convert_to_tensor(self.scale_tril)
        )
        return tfd.MixtureSameFamily(tfd.Categorical(tf.convert_to_tensor(self.logits)), components)
