"""Convert data sets of single examples to data sets of float32 batches."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

from keras_gen._errors import marked_message
from keras_gen._files import PathLike

_MEMORY_LIMIT = 2**30  # largest size in bytes of a data set that is kept in memory
# The limit for image files is lower. A training step takes longer than decoding its images again.
_FILES_LIMIT = 2**29
_SHUFFLE_BUFFER = 10_000  # number of examples, for data sets that are not in memory
_LOADING_BATCH = 10 * 2**20  # size in bytes of the examples that one thread reads at once
READ_AT_ONCE = 8  # number of small files that are decoded in one step of a loop
_ALIGNMENT = 64  # bytes; TensorFlow uses a NumPy array without a copy if it has this alignment


class Splits(NamedTuple):
    """A training and a test data set. Each element is one example, `x` or `(x, label)`."""

    train: tf.data.Dataset
    test: tf.data.Dataset


@dataclasses.dataclass(frozen=True)
class IndexedExamples:
    """A data set whose examples can be read by their index.

    The functions `read` and `read_quickly` read the examples with the given indices, and return
    them in one tensor. The indices can have any order.
    """

    count: int
    spec: tf.TensorSpec
    """The shape and dtype of one example, without its label."""
    read: Callable[[tf.Tensor], tf.Tensor]
    """Function that can read every undamaged file. Its errors name the damaged file."""
    read_quickly: Callable[[tf.Tensor], tf.Tensor]
    """Function that takes less time than `read`, but cannot read every file.

    If it raises a TensorFlow error, the caller must call `read` instead."""
    labels: np.ndarray | None

    def cardinality(self) -> int:
        """Return the number of examples, like the method of `tf.data.Dataset`."""
        return self.count


Examples: TypeAlias = tf.data.Dataset | IndexedExamples


def has_labels(examples: Examples) -> bool:
    """Return whether each example has a label."""
    if isinstance(examples, IndexedExamples):
        return examples.labels is not None
    return isinstance(examples.element_spec, tuple)


def without_labels(examples: Examples) -> Examples:
    """Remove the labels from a data set. If the data set has no labels, return it unchanged."""
    if isinstance(examples, IndexedExamples):
        return dataclasses.replace(examples, labels=None)
    return examples.map(lambda x, *_: x)


def example_spec(examples: Examples) -> tf.TensorSpec:
    """Return the shape and dtype of one example, without its label."""
    if isinstance(examples, IndexedExamples):
        return examples.spec
    return tf.nest.flatten(examples.element_spec)[0]


def are_images(examples: Examples) -> bool:
    """Return whether each example has the three axes of an image, `[height, width, channels]`."""
    return example_spec(examples).shape.rank == 3


def resized(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Scale an image until it covers `size`, and cut out its center.

    The proportions of the image do not change. The interpolation is cubic and antialiased, as in
    `PIL.ImageOps.fit`.

    Args:
        image: Pixels `[height, width, channels]`. Floats are in [0, 1].
        size: Height and width of the result, in pixels.
    """
    old = tf.cast(tf.shape(image)[:2], tf.float32)
    new = tf.constant(size, tf.float32)
    scale = tf.repeat(tf.reduce_max(new / old), 2)
    pixels = tf.raw_ops.ScaleAndTranslate(
        images=image[None],
        size=size,
        scale=scale,
        translation=(new - scale * old) / 2,
        kernel_type="keyscubic",
        antialias=True,
    )[0]
    if image.dtype.is_floating:
        return tf.cast(tf.clip_by_value(pixels, 0, 1), image.dtype)
    return tf.saturate_cast(tf.round(pixels), image.dtype)


def to_batches(
    examples: Examples,
    batch_size: int,
    *,
    shuffle: bool,
    seed: int,
    binarize: bool,
    flip: bool = False,
) -> tf.data.Dataset:
    """Return a data set of float32 batches.

    Small data sets are decoded once and kept in memory. Large data sets, and data sets of unknown
    size, are decoded again in every epoch. The limit is `_FILES_LIMIT` bytes for image files, and
    `_MEMORY_LIMIT` bytes for other data sets.

    Args:
        examples: Single examples `x` or `(x, label)`. If `x` is an integer tensor, it is divided by
            the largest value of its dtype, such as 255 for uint8. Floats keep their values.
        batch_size: Examples per batch. The last batch may be smaller.
        shuffle: Whether to shuffle the examples, in a new order in every epoch.
        seed: Seed of the order of the examples, of the binarized pixels, and of the choice of the
            images to flip.
        binarize: Whether to replace each pixel value p in [0, 1] by a random number, which is 1
            with probability p and otherwise 0. If `shuffle` is True, these numbers are sampled
            again in every epoch. If `shuffle` is False, every epoch has the same numbers.
        flip: Whether to exchange left and right of each image with probability 1/2. If `shuffle` is
            True, the images to flip are sampled again in every epoch. If `shuffle` is False, the
            same images are flipped in every epoch. Default: False.
    """
    options = tf.data.Options()
    # With autotuning by tf.data, the first batch of every second epoch was two seconds late.
    options.autotune.enabled = False
    # To rewrite its graph, tf.data would copy all examples in memory: 0.5 s per GiB of examples.
    options.experimental_optimization.apply_default_optimizations = False
    in_memory = _fits_in_memory(examples)
    lookup = _lookup(examples, in_memory, options)
    count = int(examples.cardinality())
    # Shuffling and batching indices instead of examples is faster.
    elements: Any = examples if lookup is None else tf.data.Dataset.range(count)
    if shuffle:
        elements = elements.shuffle(_SHUFFLE_BUFFER if lookup is None else count, seed=seed)
    # If all batches have the same size, the graph knows the batch size.
    equal_batches = count > 0 and count % batch_size == 0
    batches = elements.batch(batch_size, drop_remainder=equal_batches)
    if isinstance(examples, IndexedExamples) and not in_memory:
        batches = _read_batches(examples, batches)
    is_random = binarize or flip
    if is_random:
        seeds = tf.data.Dataset.random(seed, rerandomize_each_iteration=shuffle)
        batches = tf.data.Dataset.zip((batches, seeds))

    # One `map` with all steps, because each further `map` would cost time in every batch.
    # AutoGraph has nothing to convert here, and would need most of the time of `load`.
    @tf.autograph.experimental.do_not_convert
    def finish(*element: Any) -> Any:
        # `map` passes the components of a tuple as separate arguments.
        batch = tf.nest.flatten(element)
        batch_seed = batch.pop() if is_random else None
        if lookup is not None:
            batch = tf.nest.flatten(lookup(*batch))
        x, *labels = batch
        x = _to_floats(x)
        if flip:
            uniform = tf.random.stateless_uniform((tf.shape(x)[0], 1, 1, 1), (batch_seed, 1))
            x = tf.where(uniform < 0.5, x, tf.reverse(x, [2]))
        if binarize:
            uniform = tf.random.stateless_uniform(tf.shape(x), (batch_seed, 0))
            x = tf.cast(uniform < x, tf.float32)
        return (x, *labels) if labels else x

    # One call at a time, because for examples in memory several threads would be slower.
    return batches.map(finish).prefetch(2).with_options(options)


def _to_floats(x: tf.Tensor) -> tf.Tensor:
    """Convert a tensor to float32.

    Integers are divided by the largest value of their dtype, for instance by 255. Floats keep their
    values.
    """
    if x.dtype == tf.uint8:
        # On CPUs, this operation is faster than a cast and a division. It multiplies by 1/255.
        return tf.quantization.dequantize(tf.bitcast(x, tf.quint8), 0.0, 1.0)
    if x.dtype.is_integer:
        return tf.cast(x, tf.float32) / x.dtype.max
    return tf.cast(x, tf.float32)


def _fits_in_memory(examples: Examples) -> bool:
    """Return whether the total size of the examples is known and does not exceed the limit."""
    count = int(examples.cardinality())
    x = example_spec(examples)
    if count <= 0 or not x.shape.is_fully_defined():
        return False
    limit = _FILES_LIMIT if isinstance(examples, IndexedExamples) else _MEMORY_LIMIT
    return bool(count * x.shape.num_elements() * x.dtype.size <= limit)


def _lookup(
    examples: Examples, in_memory: bool, options: tf.data.Options
) -> Callable[..., Any] | None:
    """Return a function that maps a vector of indices to the batch of examples with these indices.

    If the examples are files and `in_memory` is False, the function has a second argument: the
    decoded images of the batch. If the examples can only be read one after the other, and
    `in_memory` is False, return None.

    Args:
        examples: The examples.
        in_memory: Whether to read all examples now, and keep them in memory.
        options: Options for the `tf.data.Dataset` that reads the examples.
    """
    if isinstance(examples, IndexedExamples):
        images = _read_all(examples) if in_memory else None
        labels = None if examples.labels is None else tf.constant(examples.labels)

        def look_up(indices: tf.Tensor, x: tf.Tensor | None = None) -> Any:
            x = x if images is None else tf.gather(images, indices)
            return x if labels is None else (x, tf.gather(labels, indices))

        return look_up
    if not in_memory:
        return None
    # Not `cache()`: if its first reader stopped early, it would be incomplete for all readers.
    stored = next(iter(examples.batch(examples.cardinality()).with_options(options)))

    def gather(indices: tf.Tensor) -> Any:
        return tf.nest.map_structure(lambda values: tf.gather(values, indices), stored)

    return gather


def _read_batches(examples: IndexedExamples, batches: tf.data.Dataset) -> tf.data.Dataset:
    """Read the examples of each batch in several threads.

    A graph cannot catch errors, but a data set can skip the elements that raise them. Therefore
    each batch becomes two elements. The first one reads the examples with `examples.read_quickly`,
    and is skipped if that fails. The second one reads the examples with `examples.read`, but only
    if the first one was skipped.

    Args:
        examples: The examples.
        batches: Data set of batches of indices.

    Returns:
        Data set of pairs `(indices, examples)`, in the order of `batches`.
    """
    nothing = tf.zeros((0, *examples.spec.shape), examples.spec.dtype)
    # AutoGraph has nothing to convert here, and would need most of the time of `load`.
    as_written = tf.autograph.experimental.do_not_convert

    @as_written
    def twice(indices: tf.Tensor) -> Any:
        return tf.stack((indices, indices)), tf.constant((False, True))

    @as_written
    def read_first(indices: tf.Tensor, is_second: tf.Tensor) -> Any:
        x = tf.cond(is_second, lambda: nothing, lambda: examples.read_quickly(indices))
        return indices, is_second, x

    @as_written
    def read_second(was_read: tf.Tensor, element: Any) -> Any:
        indices, is_second, x = element
        x = tf.cond(is_second & ~was_read, lambda: examples.read(indices), lambda: x)
        return ~is_second, (indices, x)

    @as_written
    def is_read(indices: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return tf.size(x) > 0

    elements = batches.map(twice).unbatch()
    # Every second call returns nothing, so that half of these calls read a batch.
    read = elements.map(read_first, num_parallel_calls=2 * _num_cpus()).ignore_errors()
    completed = read.scan(False, read_second).filter(is_read)
    return completed.apply(tf.data.experimental.assert_cardinality(batches.cardinality()))


def _read_all(examples: IndexedExamples) -> tf.Tensor:
    """Read all examples into one tensor, without a second copy of the examples in memory."""
    shape = (examples.count, *examples.spec.shape)
    dtype = examples.spec.dtype.as_numpy_dtype
    size = int(np.prod(shape)) * examples.spec.dtype.size
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    stored = memory[start : start + size].view(dtype).reshape(shape)
    batch_size = max(1, _LOADING_BATCH * examples.count // size)
    if batch_size >= READ_AT_ONCE:
        batch_size -= batch_size % READ_AT_ONCE

    def read_batch(first: int) -> None:
        last = min(first + batch_size, examples.count)
        with tf.device("CPU:0"):
            indices = tf.range(first, last, dtype=tf.int64)
            try:
                x = examples.read_quickly(indices)
            except tf.errors.OpError:
                x = examples.read(indices)
            stored[first:last] = x.numpy()

    # The threads call the functions directly. A `tf.data.Dataset` would optimize its graph once per
    # split.
    with concurrent.futures.ThreadPoolExecutor(_num_cpus()) as pool:
        for _ in pool.map(read_batch, range(0, examples.count, batch_size)):
            pass
    return tf.experimental.dlpack.from_dlpack(stored.__dlpack__())  # shares the memory


def _num_cpus() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


@contextlib.contextmanager
def reading_errors(source: PathLike) -> Iterator[None]:
    """Turn errors about damaged data into a `ValueError` without marks.

    These are TensorFlow's errors about damaged records, and errors that contain a message of the
    function `mark`, such as the message about a damaged image file. Other errors are not changed.

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
    except (tf.errors.InvalidArgumentError, ValueError) as error:
        message = marked_message(error)
        if message is None:
            raise
        raise ValueError(message) from None
