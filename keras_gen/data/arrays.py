"""Reader of arrays, and data sets as arrays."""

import zipfile
import zlib

import numpy as np
import tensorflow as tf


def as_arrays(
    dataset: tf.data.Dataset, count: int | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """`(x, y or None)` of a data set of batches of `x`, `(x, y)` or `(x, y, sample_weight)`.

    Args:
        dataset: Batches.
        count: How many examples at most; all if None.

    Raises:
        ValueError: If there is none, no end of them, or they are in another form.
    """
    if count is None and dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "Expected a data set that ends. Received: one that repeats. Take a part of it: dataset.take(100)."
        )
    spec = dataset.element_spec
    if not all(
        isinstance(part, tf.TensorSpec) and part.shape.rank != 0
        for part in (spec if isinstance(spec, tuple) else (spec,))
    ):
        raise ValueError(
            f"Expected a data set of batches of x or (x, y): dataset.batch(100). Received: elements {spec}."
        )
    batches = dataset if count is None else dataset.unbatch().batch(count).take(1)
    batches = [
        batch if isinstance(batch, tuple) else (batch,) for batch in batches.as_numpy_iterator()
    ]
    if not batches:
        raise ValueError("Expected at least one batch. Received: an empty data set.")
    columns = [np.concatenate(column) for column in zip(*batches, strict=True)]
    return columns[0], columns[1] if len(columns) > 1 else None


def npz_arrays(path):
    """`(x_train, y_train, x_test, y_test)` of an .npz; the labels may be None, and so may the test set."""
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            names = sorted(arrays)
            found = {
                name: arrays[name]
                for name in names
                if name in ("x", "y", "x_train", "y_train", "x_test", "y_test")
            }
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"Expected {path} to be an .npz of plain arrays. Received: {error}. Write it anew with np.savez."
        ) from error
    if "x_train" in found and "x_test" in found:
        return [found.get(key) for key in ("x_train", "y_train", "x_test", "y_test")]
    if "x" not in found:
        raise ValueError(
            f"Expected {path} to hold x_train and x_test, or x. Received: {names}. Save the data under these names."
        )
    return [found["x"], found.get("y"), None, None]


def read_arrays(seed, x_train, y_train, x_test, y_test):
    given = (
        [("x", x_train, y_train)]
        if x_test is None
        else [("x_train", x_train, y_train), ("x_test", x_test, y_test)]
    )
    for name, x, y in given:
        _check_array(name, x)
        if y is not None and np.shape(y) != (len(x),):
            raise ValueError(
                f"Expected one label for each of the {len(x)} examples of {name}. Received: labels {np.shape(y)}."
            )
    if x_test is None:
        order = np.random.default_rng(seed).permutation(len(x_train))
        train, test = order[len(order) // 10 :], order[: len(order) // 10]
        x_train, x_test = x_train[train], x_train[test]
        y_train, y_test = (y_train[train], y_train[test]) if y_train is not None else (None, None)
    if x_train.shape[1:] != x_test.shape[1:]:
        raise ValueError(
            f"Expected x_train and x_test of one shape. Received: {x_train.shape} and {x_test.shape}."
        )
    binary = max(x_train.max(initial=0), x_test.max(initial=0)) <= 1
    splits = []
    for x, y in ((x_train, y_train), (x_test, y_test)):
        if (binary and x.dtype.kind in "iu") or x.dtype == bool:
            x = x.astype(np.float32)
        if x.dtype not in (np.uint8, np.uint16) and x.size and not (x.min() >= 0 and x.max() <= 1):
            raise ValueError(
                f"Expected numbers in [0, 1], or uint8 or uint16 pixels. Received: {x.dtype} from {x.min():g} to {x.max():g}. "
                "Scale them: (x - x.min()) / (x.max() - x.min())."
            )
        x = x[..., None] if x.ndim == 3 else x
        splits.append(tf.data.Dataset.from_tensor_slices(x if y is None else (x, y)))
    return splits


def _check_array(name, x):
    """Check that an array can be examples: numbers, one example a row, finite."""
    if x.dtype.kind not in "biuf":
        raise ValueError(f"Expected {name} as numbers. Received: an array of {x.dtype}.")
    if not 2 <= x.ndim <= 4 or 0 in x.shape[1:]:
        raise ValueError(
            f"Expected {name} as rows (n, columns) or images (n, height, width) or (n, height, width, channels). Received: shape "
            f"{x.shape}. Reshape it."
        )
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        first = np.argwhere(~np.isfinite(x))[0]
        bad = np.count_nonzero(~np.isfinite(x).reshape(len(x), -1).all(axis=1))
        raise ValueError(
            f"Expected finite numbers. Received: {x[tuple(first)]} at {first.tolist()} of {name}; such numbers are in {bad} of "
            f"{len(x)} examples. Mend or remove these."
        )
