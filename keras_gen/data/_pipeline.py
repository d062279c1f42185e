"""Convert data sets of single examples to data sets of float32 batches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import tensorflow as tf

from keras_gen._errors import marked_message
from keras_gen._files import PathLike

_MEMORY_LIMIT = 2**30  # largest size in bytes of a data set that is kept in memory
_SHUFFLE_BUFFER = 10_000  # number of examples, for data sets that are not in memory


class Splits(NamedTuple):
    """A training and a test data set. Each element is one example, `x` or `(x, label)`."""

    train: tf.data.Dataset
    test: tf.data.Dataset


def without_labels(examples: tf.data.Dataset) -> tf.data.Dataset:
    """Return the data set without labels. A data set without labels is returned unchanged."""
    return examples.map(lambda x, *_: x)


def to_batches(
    examples: tf.data.Dataset, batch_size: int, *, shuffle: bool, seed: int, binarize: bool
) -> tf.data.Dataset:
    """Return a data set of batches with float32 values in [0, 1].

    If all examples together need at most `_MEMORY_LIMIT` bytes, the examples are decoded once and
    kept in memory. Otherwise they are decoded again in every epoch.

    Args:
        examples: Data set of single examples `x` or `(x, label)`. If `x` is an integer tensor, it
            is divided by the largest value of its dtype, such as 255 for uint8. If `x` is a float
            tensor, its values must lie in [0, 1].
        batch_size: Examples per batch. The last batch may be smaller.
        shuffle: Whether to shuffle the examples, in a new order in every epoch.
        seed: Seed of the order of the examples, and of the binarized pixels.
        binarize: Whether to replace each pixel value p in [0, 1] by a random number, which is 1
            with probability p and otherwise 0. If `shuffle` is True, these numbers are sampled
            again in every epoch. If `shuffle` is False, every epoch has the same numbers.
    """
    options = tf.data.Options()
    # With autotuning by tf.data, the first batch of every second epoch was two seconds late.
    options.autotune.enabled = False
    count = int(examples.cardinality())
    in_memory = _fits_in_memory(examples)
    stored: Any = None
    if in_memory:
        # Not `cache()`: if its first reader stopped early, it would be incomplete for all readers.
        stored = next(iter(examples.batch(count).with_options(options)))
        # Shuffling and batching indices instead of examples is faster.
        examples = tf.data.Dataset.range(count)
    if shuffle and count != 0:
        examples = examples.shuffle(count if in_memory else _SHUFFLE_BUFFER, seed=seed)
    # If all batches have the same size, the graph knows the batch size.
    equal_batches = count > 0 and count % batch_size == 0
    batches = examples.batch(batch_size, drop_remainder=equal_batches)
    if binarize:
        seeds = tf.data.Dataset.random(seed, rerandomize_each_iteration=shuffle)
        batches = tf.data.Dataset.zip((batches, seeds))

    # One `map` with all steps, because each further `map` would cost time in every batch.
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
    """Return whether the total size of the examples is known and at most `_MEMORY_LIMIT` bytes."""
    count = int(examples.cardinality())
    x = tf.nest.flatten(examples.element_spec)[0]
    if count <= 0 or not x.shape.is_fully_defined():
        return False
    return bool(count * x.shape.num_elements() * x.dtype.size <= _MEMORY_LIMIT)


@contextlib.contextmanager
def reading_errors(source: PathLike) -> Iterator[None]:
    """Turn TensorFlow's errors about damaged data into a `ValueError`.

    Args:
        source: Name of the data set, for the error message.
    """
    try:
        yield
    except tf.errors.DataLossError as error:
        raise ValueError(
            f"Expected undamaged records in {source}. Received: {error.message}. The files are "
            "damaged: download or copy the data set again."
        ) from None
    except tf.errors.InvalidArgumentError as error:
        message = marked_message(error)
        if message is None:
            raise
        raise ValueError(message) from None
