"""Read arrays from .npz files, and convert data sets to arrays."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np
import tensorflow as tf

from keras_gen.data._pipeline import Splits, reading_errors

_LABELS = ("y_train", "y_test", "y")  # names of the arrays of labels in an .npz file


def as_arrays(
    dataset: tf.data.Dataset, count: int | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Convert a data set of batches to two arrays: the data `x`, and the labels `y`.

    Args:
        dataset: Batches of `x`, `(x, y)` or `(x, y, sample_weight)`.
        count: Maximum number of examples to return. Default: all examples.

    Returns:
        `(x, y)`, each with one row per example. If the data set has no labels, `y` is None. Sample
        weights are omitted.

    Raises:
        ValueError: If the data set is empty. If a batch is not `x`, `(x, y)` or
            `(x, y, sample_weight)`. If `count` is None and the data set repeats without end.

    Example:
        >>> dataset = tf.data.Dataset.from_tensor_slices(([0.5, 0.25, 1.0], [0, 1, 0])).batch(2)
        >>> as_arrays(dataset, count=2)
        (array([0.5 , 0.25], dtype=float32), array([0, 1], dtype=int32))
    """
    if count is None and dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "Expected a finite data set. Received: a data set that repeats without end. Use a part "
            "of it, such as the first 100 batches: `dataset.take(100)`."
        )
    spec = dataset.element_spec
    parts = spec if isinstance(spec, tuple) else (spec,)
    if not all(isinstance(part, tf.TensorSpec) and part.shape.rank != 0 for part in parts):
        raise ValueError(
            "Expected a data set of batches of `x` or `(x, y)`, such as `dataset.batch(100)`. "
            f"Received: elements {spec}."
        )
    if count is not None:
        dataset = dataset.unbatch().batch(count).take(1)
    with reading_errors("the data set"):
        batches = [tf.nest.flatten(batch) for batch in dataset.as_numpy_iterator()]
    if not batches:
        raise ValueError("Expected at least one batch. Received: an empty data set.")
    columns = [np.concatenate(column) for column in zip(*batches, strict=True)]
    return columns[0], columns[1] if len(columns) > 1 else None


@dataclasses.dataclass(frozen=True)
class LabeledArray:
    """An array `x` with one example per row, and an optional array `y` of labels."""

    x: np.ndarray
    y: np.ndarray | None = None

    def __getitem__(self, indices: np.ndarray) -> LabeledArray:
        """Return the examples at `indices`, with their labels."""
        return LabeledArray(self.x[indices], None if self.y is None else self.y[indices])


def read_npz(path: pathlib.Path, seed: int, labels: bool = False) -> Splits:
    """Read training and test examples from an .npz file.

    The file contains either the arrays `x_train` and `x_test`, or the array `x`. In the second
    case, a random tenth of the examples become the test examples.

    Args:
        path: The file. It can also contain labels, in `y_train` and `y_test`, or in `y`.
        seed: Seed of the random choice of test examples from `x`.
        labels: Whether to check the values of the labels and convert them to integers. A text label
            is replaced by the index of its class in the sorted list of classes. If False, the
            labels are returned unchanged.

    Raises:
        ValueError: If the file cannot be read, lacks these arrays, or contains invalid arrays.
    """
    names = ("x", "y", "x_train", "y_train", "x_test", "y_test")
    try:
        with path.open("rb") as file, np.load(file) as archive:
            received = sorted(archive)
            arrays = {name: archive[name] for name in names if name in archive}
    except Exception as error:  # damaged files raise errors of many classes
        raise ValueError(
            f"Expected {path} to be an .npz file of numeric arrays. Reading the file failed: "
            f"{error}. Write the file again with `np.savez`."
        ) from error
    if "x_train" in arrays and "x_test" in arrays:
        if labels:
            arrays |= _numbered({name: arrays[name] for name in _LABELS[:2] if name in arrays})
        train = LabeledArray(arrays["x_train"], arrays.get("y_train"))
        test = LabeledArray(arrays["x_test"], arrays.get("y_test"))
        return to_splits(train, test)
    if "x" in arrays:
        if labels:
            arrays |= _numbered({name: arrays[name] for name in _LABELS[2:] if name in arrays})
        return hold_out(LabeledArray(arrays["x"], arrays.get("y")), seed)
    raise ValueError(
        f"Expected {path} to contain x_train and x_test, or x. Received: {received}. Save the "
        "examples under the expected names, such as `np.savez(path, x=x)`."
    )


def npz_classes(path: pathlib.Path) -> list[str] | None:
    """Return the names of the classes, if the labels in an .npz file are text.

    Args:
        path: The .npz file.

    Returns:
        The sorted names. The function `read_npz` replaces each label by its index in this list. The
        result is None if the labels are numbers, if the file has no labels, or if the file cannot
        be read.
    """
    try:
        with path.open("rb") as file, np.load(file) as archive:
            split = "x_train" in archive and "x_test" in archive
            names = _LABELS[:2] if split else _LABELS[2:]
            arrays = {name: archive[name] for name in names if name in archive}
    except Exception:  # damaged files raise errors of many classes
        return None  # `read_npz` raises the error
    if not arrays or not _are_text(arrays):
        return None
    classes: list[str] = np.unique(np.concatenate([*arrays.values()])).tolist()
    return classes


def _numbered(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert arrays of labels to integers.

    If the labels are text, each label is replaced by the index of its class in the sorted list of
    classes. The list contains the classes of all arrays.

    Args:
        arrays: Dictionary from the name of each array to its labels.

    Raises:
        ValueError: If the labels are neither text nor integers of at least 0.
    """
    if arrays and _are_text(arrays):
        names = np.unique(np.concatenate([*arrays.values()]))
        return {name: np.searchsorted(names, labels) for name, labels in arrays.items()}
    return {name: _as_integers(name, labels) for name, labels in arrays.items()}


def _are_text(arrays: dict[str, np.ndarray]) -> bool:
    return all(labels.dtype.kind == "U" and labels.ndim == 1 for labels in arrays.values())


def _as_integers(name: str, labels: np.ndarray) -> np.ndarray:
    """Convert labels to int64. Raise a `ValueError` if a label is not an integer of at least 0."""
    expected = f"Expected {name} as labels: integers from 0, or text."
    if labels.dtype.kind not in "biuf":
        raise ValueError(
            f"{expected} Received: an array of dtype {labels.dtype}. Convert the labels to "
            f"integers, or to text: {name}.astype(str)."
        )
    valid = np.isfinite(labels) & (labels >= 0) & (labels == np.floor(labels))
    if not valid.all():
        index = np.argwhere(~valid)[0]
        raise ValueError(
            f"{expected} Received: {labels[tuple(index)]} at index {index.tolist()} of {name}. "
            "Number the classes: np.unique(labels, return_inverse=True)[1]."
        )
    return labels.astype(np.int64)


def hold_out(examples: LabeledArray, seed: int) -> Splits:
    """Check the examples, and split them into training and test examples.

    The test examples are a random tenth of the examples.
    """
    _check_examples("x", examples)
    order = np.random.default_rng(seed).permutation(len(examples.x))
    num_test = len(order) // 10
    return _to_datasets(examples[order[num_test:]], examples[order[:num_test]])


def to_splits(train: LabeledArray, test: LabeledArray) -> Splits:
    """Check training and test examples, and convert them to data sets."""
    _check_examples("x_train", train)
    _check_examples("x_test", test)
    if train.x.shape[1:] != test.x.shape[1:]:
        raise ValueError(
            "Expected x_train and x_test with examples of the same shape. Received: x_train of "
            f"shape {train.x.shape} and x_test of shape {test.x.shape}."
        )
    return _to_datasets(train, test)


def _to_datasets(train: LabeledArray, test: LabeledArray) -> Splits:
    """Convert training and test examples to data sets."""
    binary = max(train.x.max(initial=0), test.x.max(initial=0)) <= 1
    return Splits(_to_dataset(train, binary), _to_dataset(test, binary))


def _to_dataset(examples: LabeledArray, binary: bool) -> tf.data.Dataset:
    """Convert examples to a data set. Images `[n, height, width]` get a channel axis of size 1.

    Args:
        examples: Examples of any numeric dtype.
        binary: Whether integers in `examples` are the values 0 and 1. If False, integers are
            pixels, from 0 to 255 (uint8) or from 0 to 65,535 (uint16).

    Raises:
        ValueError: If the examples are neither pixels of these dtypes nor numbers in [0, 1].
    """
    x = examples.x
    if x.dtype == bool or (binary and x.dtype.kind in "iu"):
        x = x.astype(np.float32)
    is_pixels = x.dtype in (np.uint8, np.uint16)
    if not is_pixels and x.size and not (x.min() >= 0 and x.max() <= 1):
        raise ValueError(
            "Expected numbers in [0, 1], or uint8 or uint16 pixels. Received: "
            f"{x.dtype} values from {x.min():g} to {x.max():g}. Scale them to [0, 1]: "
            "(x - x.min()) / (x.max() - x.min())."
        )
    if x.ndim == 3:
        x = x[..., None]
    return tf.data.Dataset.from_tensor_slices(x if examples.y is None else (x, examples.y))


def _check_examples(name: str, examples: LabeledArray) -> None:
    """Check an array of examples, and the labels of the examples.

    All elements of the array must be finite numbers. The shape must be `[n, columns]` for rows, or
    `[n, height, width]` or `[n, height, width, channels]` for images. If there are labels, there
    must be one label per example.

    Args:
        name: Name of the array, for error messages.
        examples: The array `x`, and the labels `y`, which can be None.

    Raises:
        ValueError: If the array or the labels are invalid.
    """
    x = examples.x
    if x.dtype.kind not in "biuf":
        raise ValueError(
            f"Expected {name} as numbers. Received: an array of dtype {x.dtype}. Convert the array "
            "to numbers."
        )
    if not 2 <= x.ndim <= 4 or 0 in x.shape[1:]:
        raise ValueError(
            f"Expected {name} as rows (n, columns), or as images (n, height, width) or "
            f"(n, height, width, channels). Received: shape {x.shape}. Reshape {name}."
        )
    finite = np.isfinite(x)
    if not finite.all():
        index = np.argwhere(~finite)[0]
        num_invalid = np.count_nonzero(~finite.reshape(len(x), -1).all(axis=1))
        raise ValueError(
            f"Expected finite numbers. Received: {x[tuple(index)]} at index {index.tolist()} of "
            f"{name}. NaN or infinity occurs in {num_invalid} of {len(x)} examples. Replace these "
            "values, or remove these examples."
        )
    if examples.y is not None and np.shape(examples.y) != (len(x),):
        raise ValueError(
            f"Expected one label for each of the {len(x)} examples of {name}, an array of shape "
            f"({len(x)},). Received: labels of shape {np.shape(examples.y)}."
        )
