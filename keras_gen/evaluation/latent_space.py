"""The codes of examples: where they lie, and what lies along a latent and between two of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_gen._typing import TensorLike
from keras_gen.models import VAE, GenerativeModel, RegularizedAutoencoder

_SHOWN = 10  # latents at most, where none are named


def codes(
    model: RegularizedAutoencoder | VAE,
    x: TensorLike | tf.data.Dataset,
    condition: TensorLike | None = None,
    batch_size: int = 500,
) -> np.ndarray:
    """The code of each example, `[n, latents]`: of an autoencoder what its encoder puts out, of a VAE the mean of q(z | x).

    Args:
        model: A `RegularizedAutoencoder` or a `VAE`.
        x: Examples `[n, *data_shape]`.
        condition: Labels `[n]` for a conditional model.
        batch_size: Examples at a time.

    Raises:
        ValueError: If the examples are of another shape, out of range or none, or their labels are missing or too many.

    Example:

    >>> from keras_gen import RegularizedAutoencoder, networks
    >>> autoencoder = RegularizedAutoencoder(networks.mlp((4,), (2,)), networks.mlp((2,), (4,)))
    >>> codes(autoencoder, np.eye(4)).shape
    (4, 2)
    """
    x, condition = model.data_check.examples(x, condition)
    parts = []
    for start in range(0, len(x), batch_size):
        labels = () if condition is None else (tf.constant(condition[start : start + batch_size]),)
        code = model.encode(tf.constant(x[start : start + batch_size]), *labels)
        parts.append(
            np.asarray(model.posterior.point(code) if hasattr(model, "posterior") else code)
        )
    return np.concatenate(parts).reshape(len(x), -1)


def map_codes(codes: npt.ArrayLike, seed: int = 0) -> np.ndarray:
    """Codes `[n, latents]` in the plane, `[n, 2]`: as they are if they are two, or by t-SNE, which keeps neighbours together.

    (van der Maaten & Hinton 2008; scikit-learn's, from the principal components.) Distances between groups mean little.

    Args:
        codes: At least 5 of them.
        seed: Seed of t-SNE.

    Raises:
        ValueError: If they are no such array, or not finite.

    Example:

    >>> map_codes(np.random.default_rng(0).normal(size=(20, 5))).shape
    (20, 2)
    """
    codes = np.asarray(codes)
    if codes.ndim != 2 or len(codes) < 5:
        raise ValueError(
            f"Expected at least 5 codes, an array (n, latents). Received: shape {codes.shape}."
        )
    if not np.isfinite(codes).all():
        raise ValueError("Expected finite codes. Received: NaN or infinite ones.")
    if codes.shape[1] <= 2:
        return np.hstack([codes, np.zeros((len(codes), 2 - codes.shape[1]))])
    spread = np.ptp(codes, axis=0).max()
    if spread == 0:  # which t-SNE does not survive
        return np.zeros((len(codes), 2))
    from sklearn.manifold import TSNE

    return TSNE(
        perplexity=min(30, (len(codes) - 1) / 4), init="pca", random_state=seed
    ).fit_transform(codes / spread)


def traverse(
    model: GenerativeModel,
    codes: npt.ArrayLike,
    dimensions: Sequence[int] | np.ndarray | None = None,
    num_steps: int = 11,
    condition: int | None = None,
) -> np.ndarray:
    """What each latent does: it goes through the values that it has among the codes, while the others stay at their means.

    Args:
        model: A keras_gen model that can `decode`.
        codes: Codes of examples `[n, latents]`, or draws from the prior; a latent goes from their 1st to their 99th percentile.
        dimensions: Which latents; the ten of the largest variance among the codes if None.
        num_steps: Values of each.
        condition: A label for a conditional model.

    Returns:
        `[dimensions, num_steps, *data_shape]`.

    Raises:
        ValueError: If the codes are no such array, or a label is missing or too many.

    Example:

    >>> from keras_gen import RegularizedAutoencoder, networks
    >>> autoencoder = RegularizedAutoencoder(networks.mlp((4,), (2,)), networks.mlp((2,), (4,)))
    >>> traverse(autoencoder, np.eye(2)).shape
    (2, 11, 4)
    """
    codes = np.asarray(codes, np.float32)
    if codes.ndim != 2 or not len(codes):
        raise ValueError(
            f"Expected at least one code, an array (n, latents). Received: shape {codes.shape}."
        )
    if dimensions is None:
        dimensions = np.argsort(-codes.var(axis=0), kind="stable")[:_SHOWN]
    latents = np.tile(codes.mean(axis=0), (len(dimensions), num_steps, 1))
    for row, dimension in zip(latents, dimensions, strict=True):
        low, high = np.quantile(codes[:, dimension], [0.01, 0.99])
        row[:, dimension] = np.linspace(low, high, num_steps)
    return _decoded(
        model, latents, None if condition is None else np.full(len(dimensions), condition)
    )


def interpolate(
    model: GenerativeModel,
    start: npt.ArrayLike,
    end: npt.ArrayLike,
    num_steps: int = 11,
    condition: npt.ArrayLike | None = None,
    spherical: bool = False,
) -> np.ndarray:
    """What lies between two codes.

    Args:
        model: A keras_gen model that can `decode`.
        start, end: Codes `[n, latents]`.
        num_steps: Images of each row, both ends included.
        condition: Labels `[n]` for a conditional model.
        spherical: Go along the great circle, where draws of a normal prior lie in high dimensions (White 2016,
            arXiv:1609.04468), rather than straight.

    Returns:
        `[n, num_steps, *data_shape]`.

    Raises:
        ValueError: If both sides are no such arrays of one shape, or labels are missing or too many.

    Example:

    >>> from keras_gen import RegularizedAutoencoder, networks
    >>> autoencoder = RegularizedAutoencoder(networks.mlp((4,), (2,)), networks.mlp((2,), (4,)))
    >>> interpolate(autoencoder, [[0.0, 1.0]], [[1.0, 0.0]], num_steps=5).shape
    (1, 5, 4)
    """
    start, end = np.asarray(start, np.float32), np.asarray(end, np.float32)
    if start.shape != end.shape or start.ndim != 2:
        raise ValueError(
            f"Expected as many starts as ends, arrays (n, latents). Received: shapes {start.shape} and {end.shape}."
        )
    start, end = start[:, None], end[:, None]
    share = np.linspace(0, 1, num_steps)[:, None]
    from_start, from_end = 1 - share, share
    if spherical:
        lengths = np.linalg.norm(start, axis=-1, keepdims=True) * np.linalg.norm(
            end, axis=-1, keepdims=True
        )
        angle = np.arccos(
            np.clip(np.sum(start * end, axis=-1, keepdims=True) / np.maximum(lengths, 1e-30), -1, 1)
        )
        straight = np.sin(angle) < 1e-4  # and no one circle
        sine = np.where(straight, 1, np.sin(angle))
        from_start, from_end = (
            np.where(straight, weight, np.sin(weight * angle) / sine)
            for weight in (from_start, from_end)
        )
    return _decoded(model, from_start * start + from_end * end, condition)


def _decoded(model, latents, condition):
    """Decoded latents `[rows, steps, n]`, each row under its own label if any."""
    rows, steps, size = latents.shape
    labels = () if condition is None else (tf.constant(np.repeat(condition, steps)),)
    decoded = np.asarray(model.decode(tf.constant(latents.reshape(-1, size), tf.float32), *labels))
    return decoded.reshape(rows, steps, *decoded.shape[1:])
