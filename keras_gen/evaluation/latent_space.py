"""Compute the latents of examples, embed latents with t-SNE, and decode paths between latents."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_gen._arguments import positive_int
from keras_gen._typing import TensorLike
from keras_gen.models import GenerativeModel

_TRAVERSED = 10  # largest number of latents that `traverse` selects itself


def latents(
    model: GenerativeModel,
    x: TensorLike | tf.data.Dataset,
    condition: TensorLike | None = None,
    batch_size: int = 500,
) -> np.ndarray:
    """Return one latent vector per example, `[n, number of latents]`.

    For an autoencoder, the latent vector is the flattened output of the encoder. For a
    vector-quantized autoencoder, it is the concatenation of the codebook vectors of the example.
    For a VAE whose posterior q(z | x) is a normal distribution, it is the mean of q(z | x). For a
    VAE whose posterior is a normalizing flow, it is the flow's output for the mean of the flow's
    base distribution. For a hierarchical VAE, one such vector per layer is computed, and the
    vectors are concatenated.

    Args:
        model: A keras_gen model with an encoder.
        x: Examples `[n, *data_shape]`, or a `tf.data.Dataset` of batches of such examples.
        condition: Labels `[n]` if the model is conditional, otherwise None.
        batch_size: Number of examples per forward pass. Default: 500.

    Raises:
        ValueError: If the model has no encoder. If there are no examples, or if the examples have
            the wrong shape or values out of range. If a conditional model gets no labels, or if a
            model that is not conditional gets labels.

    Example:

    >>> from keras_gen import RegularizedAutoencoder, networks
    >>> autoencoder = RegularizedAutoencoder(networks.mlp((4,), (2,)), networks.mlp((2,), (4,)))
    >>> latents(autoencoder, np.eye(4)).shape
    (4, 2)
    """
    batch_size = positive_int(None, "batch_size", batch_size)
    x, condition = model.data_check.examples(x, condition)
    parts = []
    for start in range(0, len(x), batch_size):
        rows = slice(start, start + batch_size)
        labels = None if condition is None else tf.constant(condition[rows])
        parts.append(np.asarray(model.latents(tf.constant(x[rows]), labels)))
    return np.concatenate(parts)


def tsne(latents: npt.ArrayLike, seed: int = 0) -> np.ndarray:
    """Compute two coordinates per example from its latents, with t-SNE.

    t-SNE (van der Maaten & Hinton 2008) places similar latents close together. Distances between
    groups of points have little meaning. The optimization starts from the first two principal
    components of the latents. If each example has only two latents, the latents are returned
    unchanged. If each example has one latent, this latent is the first coordinate, and the second
    coordinate is 0. In all other cases, if the latents of all examples are equal, all coordinates
    are 0.

    Args:
        latents: Latents `[n, latents]` of at least 5 examples.
        seed: Seed of t-SNE. Default: 0.

    Returns:
        Points `[n, 2]`.

    Raises:
        ValueError: If `latents` is not a matrix with at least 5 rows, or contains NaN or infinite
            values.

    Example:

    >>> tsne(np.random.default_rng(0).normal(size=(20, 5))).shape
    (20, 2)
    """
    latents = np.asarray(latents)
    if latents.ndim != 2 or len(latents) < 5:
        raise ValueError(
            "`latents` must be an array (n, latents) of at least 5 examples. "
            f"Received: shape {latents.shape}."
        )
    if not np.isfinite(latents).all():
        raise ValueError("`latents` must be finite. Received: NaN or infinite values.")
    if latents.shape[1] <= 2:
        return np.hstack([latents, np.zeros((len(latents), 2 - latents.shape[1]))])
    spread = np.ptp(latents, axis=0).max()
    if spread == 0:  # for equal examples, scikit-learn would end the process
        return np.zeros((len(latents), 2))
    from sklearn.manifold import TSNE

    perplexity = min(30, (len(latents) - 1) / 4)
    embedding = TSNE(perplexity=perplexity, init="pca", random_state=seed)
    return np.asarray(embedding.fit_transform(latents / spread))


def traverse(
    model: GenerativeModel,
    latents: npt.ArrayLike,
    dimensions: Sequence[int] | np.ndarray | None = None,
    num_steps: int = 11,
    condition: int | None = None,
) -> np.ndarray:
    """Vary one latent at a time, and decode the results.

    The varied latent takes `num_steps` equally spaced values, from its 1st to its 99th percentile.
    All other latents have their mean values. The percentiles and the means are computed over the n
    vectors in the argument `latents`.

    Args:
        model: A keras_gen model.
        latents: Latents of examples, or samples of the prior, `[n, latents]`.
        dimensions: Indices of the latents to vary. Default: the ten latents with the largest
            variance. For a hierarchical VAE, these are latents of the bottom layer, because
            `decode` uses no other layer.
        num_steps: Number of values of the varied latent. Default: 11.
        condition: The label of all decoded data if the model is conditional, otherwise None.

    Returns:
        Decoded data `[dimensions, num_steps, *data_shape]`.

    Raises:
        ValueError: If `latents` is not a matrix with at least one row. If a conditional model gets
            no label, or if any other model gets a label.

    Example:

    >>> from keras_gen import RegularizedAutoencoder, networks
    >>> autoencoder = RegularizedAutoencoder(networks.mlp((4,), (2,)), networks.mlp((2,), (4,)))
    >>> traverse(autoencoder, np.eye(2)).shape
    (2, 11, 4)
    """
    latents = np.asarray(latents, np.float32)
    if latents.ndim != 2 or not len(latents):
        raise ValueError(
            "`latents` must be an array (n, latents) of at least one example. "
            f"Received: shape {latents.shape}."
        )
    if dimensions is None:
        variances = latents.var(axis=0)[: model.num_decoded]
        dimensions = np.argsort(-variances, kind="stable")[:_TRAVERSED]
    walks = np.tile(latents.mean(axis=0), (len(dimensions), num_steps, 1))
    for walk, dimension in zip(walks, dimensions, strict=True):
        low, high = np.quantile(latents[:, dimension], [0.01, 0.99])
        walk[:, dimension] = np.linspace(low, high, num_steps)
    labels = None if condition is None else np.full(len(dimensions), condition)
    return _decode_walks(model, walks, labels)


def interpolate(
    model: GenerativeModel,
    start: npt.ArrayLike,
    end: npt.ArrayLike,
    num_steps: int = 11,
    condition: npt.ArrayLike | None = None,
    spherical: bool = False,
) -> np.ndarray:
    """Decode latents along paths from start vectors to end vectors.

    Args:
        model: A keras_gen model.
        start: Latents `[n, latents]` at the start of each path.
        end: Latents `[n, latents]` at the end of each path.
        num_steps: Number of points per path, including start and end. Default: 11.
        condition: Labels `[n]`, one per path, if the model is conditional, otherwise None.
        spherical: Whether each path is an arc of a great circle around 0 instead of a straight
            line. Default: False. Arcs are useful for samples of a normal prior, because in high
            dimensions these samples lie near a sphere (White 2016, arXiv:1609.04468).

    Returns:
        Decoded data `[n, num_steps, *data_shape]`.

    Raises:
        ValueError: If `start` and `end` are not matrices of the same shape. If a conditional model
            gets no labels, or if any other model gets labels.

    Example:

    >>> from keras_gen import RegularizedAutoencoder, networks
    >>> autoencoder = RegularizedAutoencoder(networks.mlp((4,), (2,)), networks.mlp((2,), (4,)))
    >>> interpolate(autoencoder, [[0.0, 1.0]], [[1.0, 0.0]], num_steps=5).shape
    (1, 5, 4)
    """
    # float64, because float32 would not show that vectors are exactly opposite
    start = np.asarray(start, np.float64)
    end = np.asarray(end, np.float64)
    if start.shape != end.shape or start.ndim != 2:
        raise ValueError(
            "`start` and `end` must be arrays (n, latents) of the same shape. "
            f"Received: shapes {start.shape} and {end.shape}."
        )
    start = start[:, None]
    end = end[:, None]
    share = np.linspace(0, 1, num_steps)[:, None]
    if spherical:
        walks = _along_great_circle(start, end, share)
    else:
        walks = (1 - share) * start + share * end
    return _decode_walks(model, walks, condition)


def _along_great_circle(start: np.ndarray, end: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Interpolate between pairs of vectors by spherical linear interpolation (slerp).

    If the two vectors of a pair are parallel, interpolate along a straight line instead.

    Args:
        start: First vector of each of the n pairs, `[n, 1, latents]`.
        end: Second vector of each pair, `[n, 1, latents]`.
        share: Positions at which each path is computed, `[steps, 1]`. Position 0 is the first
            vector, and position 1 is the second vector.

    Returns:
        Latents `[n, steps, latents]`.
    """
    start_length = np.linalg.norm(start, axis=-1, keepdims=True)
    end_length = np.linalg.norm(end, axis=-1, keepdims=True)
    product = np.sum(start * end, axis=-1, keepdims=True)
    cosine = product / np.maximum(start_length * end_length, 1e-30)
    angle = np.arccos(np.clip(cosine, -1, 1))
    sine = np.sin(angle)
    straight = sine < 1e-4  # opposite vectors (no unique circle), or angle 0
    sine = np.where(straight, 1, sine)
    start_weight = np.where(straight, 1 - share, np.sin((1 - share) * angle) / sine)
    end_weight = np.where(straight, share, np.sin(share * angle) / sine)
    return start_weight * start + end_weight * end


def _decode_walks(
    model: GenerativeModel, walks: np.ndarray, condition: npt.ArrayLike | None
) -> np.ndarray:
    """Decode latents `[paths, steps, latents]` into data `[paths, steps, *data_shape]`.

    `condition` contains one label per path if the model is conditional, otherwise it is None.
    """
    rows, steps, size = walks.shape
    labels = () if condition is None else (tf.constant(np.repeat(condition, steps)),)
    decoded = np.asarray(model.decode(tf.constant(walks.reshape(-1, size), tf.float32), *labels))
    return decoded.reshape(rows, steps, *decoded.shape[1:])
