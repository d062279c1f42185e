"""Turn single examples into batches of float32 values."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import tensorflow as tf

from keras_gen._errors import marked_message
from keras_gen._files import PathLike

_MEMORY_LIMIT = 2**30  # bytes of decoded examples that are kept in memory
_SHUFFLE_BUFFER = 10_000  # examples, for data sets that are not kept in memory


class Splits(NamedTuple):
    """Training and test examples, each `x` or `(x, label)`, one at a time."""

    train: tf.data.Dataset
    test: tf.data.Dataset


def without_labels(examples: tf.data.Dataset) -> tf.data.Dataset:
    """Return the examples without their labels, if they have any."""
    return examples.map(lambda x, *_: x)


def to_batches(
    examples: tf.data.Dataset, batch_size: int, *, shuffle: bool, seed: int, binarize: bool
) -> tf.data.Dataset:
    """Return batches of float32 examples in [0, 1].

    Examples that need at most `_MEMORY_LIMIT` bytes are decoded once and kept in memory. All other
    examples are decoded in every epoch.

    Args:
        examples: Single examples `x` or `(x, label)`. `x` is an integer tensor, which is divided
            by the maximum of its dtype, or a float tensor.
        batch_size: Examples per batch. The last batch may be smaller.
        shuffle: Whether the order changes in every epoch.
        seed: Seed of the order and of the binarized pixels.
        binarize: Sample each pixel as 0 or 1, with its value as the probability of 1. With
            `shuffle`, the pixels are resampled in every epoch; otherwise they stay the same.
    """
    options = tf.data.Options()
    # The autotuner delayed the first batch of every other epoch by two seconds.
    options.autotune.enabled = False
    count = int(examples.cardinality())
    in_memory = _fits_in_memory(examples)
    stored: Any = None
    if in_memory:
        # `cache()` would stay truncated for all readers if the first one stopped halfway.
        stored = next(iter(examples.batch(count).with_options(options)))
        # Only indices pass through shuffling and batching, which is faster.
        examples = tf.data.Dataset.range(count)
    if shuffle and count != 0:
        examples = examples.shuffle(count if in_memory else _SHUFFLE_BUFFER, seed=seed)
    # If there is no smaller last batch, the graph knows the batch size.
    equal_batches = count > 0 and count % batch_size == 0
    batches = examples.batch(batch_size, drop_remainder=equal_batches)
    if binarize:
        seeds = tf.data.Dataset.random(seed, rerandomize_each_iteration=shuffle)
        batches = tf.data.Dataset.zip((batches, seeds))

    # One function for all steps, because each call of `map` takes time in every batch.
    def finish(batch: Any, pixel_seed: tf.Tensor | None = None) -> Any:
        if in_memory:
            batch = tf.nest.map_structure(lambda values: tf.gather(values, batch), stored)
        x, *labels = tf.nest.flatten(batch)
        scale = x.dtype.max if x.dtype.is_integer else 1.0
        x = tf.cast(x, tf.float32) / scale
        if binarize:
            uniform = tf.random.stateless_uniform(tf.shape(x), (pixel_seed, 0))
            x = tf.cast(uniform < x, tf.float32)
        return (x, *labels) if labels else x

    return batches.map(finish).prefetch(2).with_options(options)


def _fits_in_memory(examples: tf.data.Dataset) -> bool:
    """Return whether the examples have a known size of at most `_MEMORY_LIMIT` bytes."""
    count = int(examples.cardinality())
    x = tf.nest.flatten(examples.element_spec)[0]
    if count <= 0 or not x.shape.is_fully_defined():
        return False
    return bool(count * x.shape.num_elements() * x.dtype.size <= _MEMORY_LIMIT)


@contextlib.contextmanager
def reading_errors(source: PathLike) -> Iterator[None]:
    """Raise TensorFlow's errors about damaged data as `ValueError`.

    Args:
        source: What is read, for the error message.
    """
    try:
        yield
    except tf.errors.DataLossError as error:
        raise ValueError(
            f"Expected undamaged records in {source}. Received: {error.message}. Prepare the data "
            "set again, or copy it again."
        ) from None
    except tf.errors.InvalidArgumentError as error:
        message = marked_message(error)
        if message is None:
            raise
        raise ValueError(message) from None
