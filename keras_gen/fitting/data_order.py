"""Read the data of a resumed training in the order of an uninterrupted training."""

from __future__ import annotations

import types
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def continue_order(arguments: dict[str, Any], epoch: int, seed: int) -> dict[str, Any]:
    """Change the arguments of `fit` so that a resumed training reads the data in the right order.

    In the right order, each remaining epoch reads the same batches as it would have read without
    the interruption. The function handles three types of data:

    * Arrays with `shuffle=True`: the function replaces the arrays by a `tf.data.Dataset` that is
      shuffled with `seed`. It then handles this data set like one that the user passed.
    * `tf.data.Dataset`: if `steps_per_epoch` is given, the function skips the batches of the
      finished epochs. Otherwise it skips the shuffle seeds of the finished epochs.
    * Generator with `steps_per_epoch`: the function reads the batches of the finished epochs, but
      nobody uses these batches.

    All other data stay the same. Call the function also for a training that starts from the
    beginning, with `epoch=0`. Otherwise this training would shuffle arrays in another order than
    the resumed training.

    Args:
        arguments: Dictionary of all arguments of `fit` by name.
        epoch: Number of epochs that were finished before the interruption.
        seed: Seed for shuffling the data, if the data are arrays.

    Returns:
        A dictionary of all arguments of `fit`.
    """
    x = arguments["x"]
    steps = arguments.get("steps_per_epoch")
    if hasattr(x, "__array__") and arguments["shuffle"]:
        arguments = _arrays_as_dataset(arguments, seed)
        x = arguments["x"]
    if isinstance(x, tf.data.Dataset) and steps:
        return {**arguments, "x": x.skip(epoch * steps)}
    if isinstance(x, tf.data.Dataset):
        for _ in range(epoch):
            iter(x)  # each new iterator takes the shuffle seed of one epoch
        return {**arguments, "x": _with_lazy_iterators(x)}
    if isinstance(x, types.GeneratorType) and steps:
        for _ in range(epoch * steps):
            next(x)
    return arguments


def _with_lazy_iterators(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Return a copy of a data set whose order does not depend on iterators that are never read.

    A shuffled data set has a sequence of shuffle seeds. Each new iterator takes the next seed, even
    if nobody reads the iterator. Keras makes some iterators that it never reads. An iterator of the
    returned data set takes a seed only when its first element is read.
    """
    lazy = tf.data.Dataset.range(1).flat_map(lambda _: dataset)
    lazy = lazy.with_options(dataset.options())  # `flat_map` drops the options
    return lazy.apply(tf.data.experimental.assert_cardinality(dataset.cardinality()))


def _arrays_as_dataset(arguments: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return the arguments of `fit` with a shuffled `tf.data.Dataset` instead of arrays.

    If the arguments contain `validation_split` and no `validation_data`, the last examples become
    `validation_data`, as in Keras.

    Args:
        arguments: Dictionary of all arguments of `fit` by name.
        seed: Seed for shuffling the examples.
    """
    given = [arguments[name] for name in ("x", "y", "sample_weight")]
    examples: list[Any] = [None if part is None else np.asarray(part) for part in given]
    count = len(examples[0])
    batch_size = arguments["batch_size"] or 32
    changed: dict[str, Any] = {
        "y": None,
        "sample_weight": None,
        "batch_size": None,
        "shuffle": False,
        "validation_split": 0.0,
        "validation_batch_size": arguments.get("validation_batch_size") or batch_size,
    }
    if arguments["validation_split"] and arguments["validation_data"] is None:
        count = int(count * (1 - arguments["validation_split"]))
        held_out = [None if part is None else part[count:] for part in examples]
        changed["validation_data"] = tuple(held_out)
        examples = [None if part is None else part[:count] for part in examples]
    dataset = tf.data.Dataset.from_tensor_slices(keras.utils.pack_x_y_sample_weight(*examples))
    options = tf.data.Options()
    options.autotune.enabled = False  # tf.data's autotuner delayed every other epoch by seconds
    dataset = dataset.shuffle(count, seed=seed).batch(batch_size).prefetch(2)
    dataset = dataset.with_options(options)
    if arguments.get("steps_per_epoch"):
        dataset = dataset.repeat()
    return {**arguments, **changed, "x": dataset}
