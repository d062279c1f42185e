"""Data sets: every source, its splits, labels and errors."""

import gc
import re
import shutil
import time
import unicodedata
import urllib.error
import weakref

import keras
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import keras_gen
from keras_gen import data, networks

RANDOM = np.random.default_rng(0)


def concatenated(dataset):
    return np.concatenate(list(dataset.as_numpy_iterator()))


def write_images(folder, count=20):
    for i in range(count):
        keras.utils.save_img(
            folder / f"{i:02d}.png", RANDOM.integers(0, 256, (6, 4, 1)), scale=False
        )


def test_mnist_mini_is_as_its_readme_describes():
    train, test = data.load("mnist_mini", batch_size=500, labels=True)
    for split, count in ((train, 1000), (test, 200)):
        batches = list(split.as_numpy_iterator())
        images, labels = (np.concatenate(part) for part in zip(*batches, strict=True))
        assert images.shape == (10 * count, 28, 28, 1)
        assert (images.dtype, images.min(), images.max()) == (np.float32, 0, 1)
        assert np.bincount(labels).tolist() == [count] * 10
        assert len(np.unique(images.reshape(len(images), -1), axis=0)) > 0.99 * len(images)
    size = sum(file.stat().st_size for file in data.MNIST_MINI.parent.rglob("*") if file.is_file())
    assert size <= 5_000_000
    assert "CC BY-SA 3.0" in (data.MNIST_MINI.parent / "README.md").read_text()


@pytest.mark.parametrize(("batch_size", "static"), [(5, 5), (6, None)])
def test_batches_in_memory_equal_those_of_a_plain_pipeline(tmp_path, batch_size, static):
    """The plain pipeline shuffles and batches the examples themselves, instead of their indices.

    The batch size is static if it divides 20.
    """
    x = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 1), dtype=np.uint8)
    y = np.arange(20)
    np.savez(tmp_path / "digits.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    train, test = data.load(tmp_path / "digits.npz", batch_size, labels=True, seed=3)
    examples = tf.data.Dataset.from_tensor_slices((x / np.float32(255), y))
    shuffled = examples.shuffle(len(x), seed=3)
    for loaded, plain in ((train, shuffled), (train, shuffled), (test, examples)):
        batches = loaded.as_numpy_iterator()
        expected_batches = plain.batch(batch_size).as_numpy_iterator()
        for batch, expected in zip(batches, expected_batches, strict=True):
            np.testing.assert_allclose(batch[0], expected[0], rtol=1.2e-7)  # one unit of rounding
            np.testing.assert_array_equal(batch[1], expected[1])
    assert train.element_spec[0].shape[0] == static


def test_training_data_are_reshuffled_every_epoch_and_test_data_never(tmp_path):
    np.savez(
        tmp_path / "numbers.npz",
        x_train=np.arange(100)[:, None] / 100,
        x_test=np.arange(10)[:, None] / 10,
    )
    train, test = data.load(tmp_path / "numbers.npz", batch_size=7, seed=3)
    first, second = concatenated(train), concatenated(train)
    assert not np.array_equal(first, second)
    np.testing.assert_allclose(np.sort(first[:, 0]), np.arange(100) / 100, rtol=1e-6)
    np.testing.assert_allclose(concatenated(test)[:, 0], np.arange(10) / 10, rtol=1e-6)
    again, _ = data.load(tmp_path / "numbers.npz", batch_size=7, seed=3)
    np.testing.assert_array_equal(concatenated(again), first)
    assert [len(batch) for batch in train] == [7] * 14 + [2]


def test_later_readers_get_all_data_if_one_stops_halfway():
    for split, count in zip(data.load("mnist_mini", batch_size=300), (10_000, 2000), strict=True):
        next(iter(split))
        next(split.unbatch().batch(50).as_numpy_iterator())
        assert [sum(len(batch) for batch in split) for _ in range(2)] == [count, count]


def test_npz_of_pixels_gets_a_channel_and_is_divided_by_255(tmp_path):
    x = RANDOM.integers(0, 256, size=(40, 5, 4), dtype=np.uint8)
    y = RANDOM.integers(0, 3, size=40)
    np.savez(tmp_path / "x.npz", x=x, y=y)
    train, test = data.load(tmp_path / "x.npz", batch_size=100, labels=True)
    (train_x, train_y), (test_x, test_y) = next(iter(train)), next(iter(test))
    assert (train_x.shape, test_x.shape) == ((36, 5, 4, 1), (4, 5, 4, 1))
    pixels = (np.concatenate([train_x, test_x])[..., 0] * 255).round().astype(np.uint8)
    labels = np.concatenate([train_y, test_y])
    loaded = {(image.tobytes(), label) for image, label in zip(pixels, labels, strict=True)}
    assert loaded == {(image.tobytes(), label) for image, label in zip(x, y, strict=True)}


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool, np.float32])
def test_binary_images_stay_binary_and_16_bit_pixels_are_divided_by_65535(tmp_path, dtype):
    binary = RANDOM.integers(0, 2, size=(30, 4)).astype(dtype)
    np.savez(tmp_path / "binary.npz", x_train=binary, x_test=binary)
    np.testing.assert_array_equal(concatenated(data.load(tmp_path / "binary.npz")[1]), binary)
    deep = RANDOM.integers(0, 2**16, size=(30, 4)).astype(np.uint16)
    np.savez(tmp_path / "deep.npz", x_train=deep, x_test=deep)
    np.testing.assert_allclose(
        concatenated(data.load(tmp_path / "deep.npz")[1]), deep / 65535, rtol=1e-6
    )
    dark = RANDOM.integers(0, 3, size=(30, 4)).astype(np.uint8)
    np.savez(tmp_path / "dark.npz", x_train=dark, x_test=dark)
    np.testing.assert_allclose(
        concatenated(data.load(tmp_path / "dark.npz")[1]), dark / 255, rtol=1e-6
    )
    np.savez(tmp_path / "counts.npz", x=np.arange(40, dtype=np.int64)[:, None])
    with pytest.raises(ValueError, match="Received: int64 values from"):
        data.load(tmp_path / "counts.npz")


def test_csv_with_and_without_a_header(tmp_path):
    table = RANDOM.random((30, 3))
    np.savetxt(tmp_path / "plain.csv", table, delimiter=",")
    train, test = data.load(tmp_path / "plain.csv", batch_size=30)
    np.testing.assert_allclose(
        np.sort(np.concatenate([concatenated(train), concatenated(test)]), axis=0),
        np.sort(table, axis=0),
        rtol=1e-5,
    )
    labelled = np.column_stack(
        [RANDOM.integers(0, 2, size=30), RANDOM.integers(0, 256, size=(30, 16))]
    )
    np.savetxt(
        tmp_path / "levels.csv",
        labelled,
        delimiter=",",
        header="label," + ",".join("abcdefghijklmnop"),
        comments="",
        fmt="%d",
    )
    train, _ = data.load(tmp_path / "levels.csv", batch_size=30, labels=True)
    x, y = next(iter(train))
    # the same test rows, as version 0.1.0 chooses them
    order = np.random.default_rng(0).permutation(30)[3:]
    expected = {tuple(row) for row in labelled[order]}
    loaded = np.column_stack([y, np.round(np.asarray(x) * 255)])
    np.testing.assert_allclose(np.asarray(x) * 255, loaded[:, 1:], atol=1e-4)
    assert {tuple(row) for row in loaded} == expected


@pytest.mark.parametrize("color", [1, 3])
@pytest.mark.parametrize("layout", ["flat", "classes", "splits"])
def test_a_folder_of_images(tmp_path, layout, color):
    images = RANDOM.integers(0, 256, size=(20, 6, 4, color), dtype=np.uint8)
    for i, image in enumerate(images):
        folder = {
            "flat": "",
            "classes": f"class{i % 2}",
            "splits": f"{'train' if i < 15 else 'test'}/class{i % 2}",
        }[layout]
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(tmp_path / folder / f"{i:02d}.png", image, scale=False)
    labels = layout != "flat"
    train, test = data.load(tmp_path, batch_size=20, labels=labels)
    splits = [next(iter(split)) for split in (train, test)]
    x = [split[0] if labels else split for split in splits]
    assert [len(part) for part in x] == ([15, 5] if layout == "splits" else [18, 2])
    loaded = np.sort(np.concatenate(x), axis=0)
    np.testing.assert_allclose(loaded, np.sort(images / 255.0, axis=0), atol=1e-6)
    if labels:
        y = np.concatenate([split[1] for split in splits])
        np.testing.assert_array_equal(np.unique(y), np.arange(data.number_of_classes(tmp_path)))
    resized, _ = data.load(tmp_path, batch_size=20, image_size=(3, 2))
    assert resized.element_spec.shape.as_list() == [None, 3, 2, color]


def store_tfds(folder, name, examples, label):
    """Store a TFDS data set, the last two examples as test data."""
    features = {"image": tfds.features.Image(shape=examples[0]["image"].shape), "label": label}
    splits = {"train": enumerate(examples[:-2]), "test": enumerate(examples[-2:])}
    tfds.dataset_builders.store_as_tfds_dataset(
        name,
        version="1.0.0",
        features=tfds.features.FeaturesDict(features),
        data_dir=folder,
        disable_shuffling=True,
        split_datasets=splits,
    )


def test_a_tfds_data_set_is_found_by_name(tmp_path):
    pixels = RANDOM.integers(0, 256, size=(10, 6, 6, 1), dtype=np.uint8)
    examples = [{"image": image, "label": i % 2} for i, image in enumerate(pixels)]
    store_tfds(tmp_path, "tiny", examples, tfds.features.ClassLabel(num_classes=3))
    train, test = data.load("tiny", batch_size=8, data_dir=tmp_path)
    np.testing.assert_allclose(
        np.sort(concatenated(train), axis=0), np.sort(pixels[:8] / 255.0, axis=0), atol=1e-6
    )
    np.testing.assert_allclose(concatenated(test), pixels[8:] / 255.0, atol=1e-6)
    resized, _ = data.load("tiny", data_dir=tmp_path, image_size=(3, 3))
    assert resized.element_spec.shape.as_list() == [None, 3, 3, 1]
    assert data.number_of_classes("tiny", data_dir=tmp_path) == 3
    store_tfds(tmp_path, "unlabeled", examples, tfds.features.Scalar(np.int64))
    assert data.number_of_classes("unlabeled", data_dir=tmp_path) is None


SMOOTH = np.round(
    127
    + 60 * np.sin(np.arange(40)[:, None, None] / 5 + np.arange(3))
    + 60 * np.cos(np.arange(60)[:, None] / 7 + np.arange(3) * 2)
).astype(np.uint8)
"""A color image of 40×60 pixels without sharp edges."""


@pytest.mark.parametrize("size", [(16, 16), (20, 10), (8, 30), (40, 60), (60, 90)])
@pytest.mark.parametrize("kind", ["tfds", "uint8", "uint16", "float32"])
def test_images_are_scaled_to_cover_the_size_and_cropped_as_pillow_does(tmp_path, kind, size):
    """Pillow rounds between its two passes, so that it can differ by two grey values."""
    if kind == "tfds":
        labels = tfds.features.ClassLabel(num_classes=2)
        store_tfds(tmp_path, "smooth", [{"image": SMOOTH, "label": 1}] * 10, labels)
        train, test = data.load("smooth", data_dir=tmp_path, image_size=size)
    else:
        image = SMOOTH / np.float32(255) if kind == "float32" else SMOOTH.astype(kind)
        image = image * 257 if kind == "uint16" else image
        path = write(tmp_path / "x.npz", x_train=image[None], x_test=image[None], y_train=[1])
        train, test = data.load(path, image_size=size)
    expected = np.asarray(PIL.ImageOps.fit(PIL.Image.fromarray(SMOOTH), size[::-1])) / 255
    for split in (train, test):
        for image in concatenated(split):
            np.testing.assert_allclose(image, expected, atol=2.1 / 255)


def test_stripes_of_one_pixel_become_grey_and_edges_do_not_leave_the_range(tmp_path):
    stripes = np.tile(np.float32([[0, 1]]), (1, 200, 100))
    edge = np.repeat(np.float32([[0, 1]]), 100, axis=1)[None].repeat(200, axis=1)
    path = write(tmp_path / "x.npz", x_train=np.concatenate([stripes, edge]), x_test=edge)
    train, test = data.load(path, image_size=(9, 9))
    images = concatenated(train)[..., 0]
    np.testing.assert_allclose(min(images, key=np.std), 0.5, atol=0.03)
    assert (concatenated(test).min(), concatenated(test).max()) == (0, 1)


@pytest.mark.parametrize("labels", [False, True])
def test_training_images_are_flipped_at_random_and_test_images_never(tmp_path, labels):
    """The column of ones tells the side. Each pass, half of the images are flipped."""
    x = np.zeros((400, 3, 4, 3), np.float32)
    x[:, :, 0, 0] = 1
    x[:, 0, :, 1] = np.linspace(0, 1, 400)[:, None]
    y = np.arange(400)
    path = write(tmp_path / "x.npz", x_train=x, x_test=x, y_train=y, y_test=y)
    passes = []
    for _ in range(2):
        train, test = data.load(path, batch_size=50, labels=labels, flip=True, seed=3)
        for _ in range(2):
            batches = list(train.as_numpy_iterator())
            images = np.concatenate([batch[0] if labels else batch for batch in batches])
            order = np.argsort(images[:, 0, 0, 1])
            images = images[order]
            if labels:
                assert np.concatenate([y for _, y in batches])[order].tolist() == y.tolist()
            flipped = images[:, 0, 3, 0] == 1
            expected = np.where(flipped[:, None, None, None], x[:, :, ::-1], x)
            np.testing.assert_array_equal(images, expected)
            assert 150 < flipped.sum() < 250
            passes.append(flipped)
        held_out = [batch[0] if labels else batch for batch in test.as_numpy_iterator()]
        np.testing.assert_array_equal(np.concatenate(held_out), x)
    assert not np.array_equal(passes[0], passes[1])
    np.testing.assert_array_equal(passes[:2], passes[2:])


@pytest.mark.parametrize("arguments", [{"flip": True}, {"image_size": (3, 3)}])
@pytest.mark.parametrize("source", ["penguins", "rows.npz", "pixels.csv"])
def test_size_and_flip_are_for_images_only(tmp_path, arguments, source):
    write(tmp_path / "rows.npz", x=np.zeros((20, 9), np.float32))
    np.savetxt(tmp_path / "pixels.csv", RANDOM.random((20, 9)), delimiter=",")
    path = source if source == "penguins" else tmp_path / source
    name = next(iter(arguments))
    with pytest.raises(ValueError, match=f"`{name}` must be .* unless the examples are images"):
        data.load(path, **arguments)


def test_an_unavailable_tfds_data_set_without_a_network_fails_quickly(tmp_path, monkeypatch):
    unreachable = "http://127.0.0.1:9"  # no server listens there
    monkeypatch.setattr("keras_gen.data.tfds._DOWNLOADS", unreachable)
    start = time.monotonic()
    message = (
        r"'fashion_mnist' is not in .*, and there is no network.*`data_dir`.*TFDS_DATA_DIR.*"
        r"'mnist_mini'"
    )
    with pytest.raises(ValueError, match=message):
        data.load("fashion_mnist", data_dir=tmp_path)
    assert time.monotonic() - start < 20
    assert data.number_of_classes("fashion_mnist", data_dir=tmp_path) == 10


def test_the_number_of_classes_is_read_without_decoding(tmp_path):
    assert data.number_of_classes() == 10
    for name in ("train/b/1.png", "train/a/deep/2.png", "test/c/3.jpg", "elsewhere/d/4.png"):
        file = tmp_path / "images" / name
        file.parent.mkdir(parents=True)
        file.write_text("damaged")
    assert data.number_of_classes(tmp_path / "images") == 3
    assert data.number_of_classes(str(tmp_path / "images" / "train")) == 2
    assert data.number_of_classes(tmp_path / "images" / "test" / "c") == 1
    np.savez(tmp_path / "x.npz", x=np.zeros((20, 2)), y=np.arange(20))
    (tmp_path / "x.csv").write_text("label,a\n1,2\n")
    for file in ("x.npz", "x.csv"):
        assert data.number_of_classes(tmp_path / file) is None
    (tmp_path / "empty").mkdir()
    for source, message in (
        ("none.npz", "Received: none.npz, which does not exist"),
        ("none.csv", "Received: none.csv, which does not exist"),
        (tmp_path / "empty", "which contains no images"),
        ("fashon_mnist", r"which is none of these\. Did you mean 'fashion_mnist'\?"),
    ):
        with pytest.raises(ValueError, match=message):
            data.number_of_classes(source)


def test_invalid_sources_are_rejected_with_advice(tmp_path):
    np.savez(tmp_path / "other.npz", z=np.zeros(3))
    np.savez(tmp_path / "wide.npz", x=np.linspace(-1, 300, 20)[:, None])
    (tmp_path / "words.csv").write_text("a,b\n1,2\n3,4\n5,two\n")
    (tmp_path / "empty").mkdir()
    for source, arguments, message in (
        (tmp_path / "none.npz", {}, "which does not exist"),
        (tmp_path / "other.npz", {}, r"to contain x_train and x_test, or x\. Received: \['z'\]"),
        (
            tmp_path / "wide.npz",
            {},
            r"Expected numbers in \[0, 1\], or uint8 or uint16 pixels\. "
            "Received: float64 values from -1 to",
        ),
        (
            tmp_path / "words.csv",
            {},
            r"Expected numbers in the column 'b' of .*words\.csv\. Received: 'two' in line 4\.",
        ),
        (tmp_path / "empty", {}, "which contains no images"),
        ("no_such_data_set", {}, "Received: 'no_such_data_set', which is none of these"),
        ("fashon_mnist", {}, r"which is none of these\. Did you mean 'fashion_mnist'\?"),
        (
            "mnist_mini",
            {"batch_size": 0},
            "`batch_size` must be an integer of at least 1. Received: batch_size=0",
        ),
        (
            "mnist_mini",
            {"batch_size": True},
            "`batch_size` must be an integer of at least 1. Received: batch_size=True",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            data.load(source, **arguments)
    np.savez(tmp_path / "bare.npz", x=np.zeros((20, 2)))
    with pytest.raises(ValueError, match="Expected labels in"):
        data.load(tmp_path / "bare.npz", labels=True)


def write(path, **arrays):
    np.savez(path, **arrays)
    return path


def with_one(values, place, value):
    values = np.array(values, np.float32)
    values[place] = value
    return values


IMAGES = RANDOM.random((20, 4, 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((0, 4, 4), np.float32)}, "Expected training and test examples in"),
        ({"x": IMAGES[:5]}, "no examples in the test split"),
        ({"x": IMAGES[:, 0, 0]}, "Expected x as rows (n, columns), or as images"),
        ({"x": IMAGES[None, :, :, None]}, "Received: shape (1, 20, 4, 1, 4)"),
        (
            {"x_train": IMAGES, "x_test": IMAGES[:, :3]},
            "Expected x_train and x_test with examples of the same shape",
        ),
        ({"y": np.arange(20)}, "to contain x_train and x_test, or x. Received: ['y']"),
        ({"x": np.array(["a", "b"])}, "Expected x as numbers"),
        ({"x": np.array([None, 1])}, "to be an .npz file of numeric arrays"),
        (
            {"x": with_one(IMAGES, (7, 1, 2), np.nan)},
            "nan at index [7, 1, 2] of x. NaN or infinity occurs in 1 of 20 examples",
        ),
        (
            {"x_train": IMAGES, "x_test": with_one(IMAGES, (3, 0, 0), np.inf)},
            "inf at index [3, 0, 0] of x_test",
        ),
        ({"x": IMAGES * 255}, "Scale them"),
        ({"x": IMAGES / IMAGES.max() * 2}, "Received: float32 values from"),
        ({"x": np.zeros((20, 0))}, "Received: shape (20, 0)"),
        ({"x_train": IMAGES}, "to contain x_train and x_test, or x. Received: ['x_train']"),
        ({"x_test": IMAGES}, "to contain x_train and x_test, or x. Received: ['x_test']"),
        (
            {"x_train": with_one(IMAGES, (3, 0, 0), np.nan), "x_test": IMAGES},
            "nan at index [3, 0, 0] of x_train",
        ),
        ({"x": IMAGES, "y": np.arange(19)}, "Expected one label for each"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value,
)
def test_invalid_arrays_are_rejected_with_split_and_index(tmp_path, arrays, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        data.load(write(tmp_path / "x.npz", **arrays), labels="y" in arrays)


@pytest.mark.parametrize("split", [False, True])
def test_labels_that_are_text_are_numbered_in_sorted_order(tmp_path, split):
    names = np.array(["owl", "cat", "dog", "cat"] * 5)
    arrays = {"x": IMAGES, "y": names}
    if split:
        arrays = {"x_train": IMAGES, "y_train": names, "x_test": IMAGES, "y_test": names[:1]}
        arrays["y_test"] = np.repeat(["bee"], 20)
        arrays["y"] = np.repeat(["ant"], 20)  # belongs to the array x, which is missing
    else:
        arrays["x_train"] = IMAGES  # belongs to the array x_test, which is missing
    path = write(tmp_path / "x.npz", **arrays)
    classes = ["bee", "cat", "dog", "owl"] if split else ["cat", "dog", "owl"]
    assert data.class_names(path) == classes
    assert data.number_of_classes(path) == len(classes)
    train, test = data.load(path, labels=True)
    x, y = data.as_arrays(train)
    order = [np.flatnonzero((IMAGES[..., None] == one).all(axis=(1, 2, 3)))[0] for one in x]
    assert [classes[label] for label in y] == names[order].tolist()
    if split:
        assert set(data.as_arrays(test)[1]) == {0}
    path.write_bytes(b"damaged")
    assert data.class_names(path) is None
    assert data.class_names(write(tmp_path / "bare.npz", x=IMAGES)) is None


@pytest.mark.parametrize(
    ("labels", "received"),
    [
        (np.array([0.0, 1.5] * 10), "1.5 at index [1] of y"),
        (np.array([0, 0, -1, 0] * 5), "-1 at index [2] of y"),
        (np.array([np.nan] * 20), "nan at index [0] of y"),
        (np.array([b"a"] * 20), "an array of dtype |S1"),
    ],
)
def test_labels_must_be_integers_or_text(tmp_path, labels, received):
    path = write(tmp_path / "x.npz", x=IMAGES, y=labels)
    message = f"Expected y as labels: integers from 0, or text. Received: {received}"
    with pytest.raises(ValueError, match=re.escape(message)):
        data.load(path, labels=True)
    data.load(path) if labels.dtype.kind != "S" else None


def test_tfds_data_sets_that_do_not_fit_are_refused(tmp_path):
    features = {"image": tfds.features.Image(shape=(None, None, 1))}
    sizes = [{"image": np.zeros((4 + i % 2, 4, 1), np.uint8)} for i in range(4)]
    for name, splits in (("sizes", ("train", "test")), ("no_test", ("train", "more"))):
        tfds.dataset_builders.store_as_tfds_dataset(
            name,
            version="1.0.0",
            features=tfds.features.FeaturesDict(features),
            data_dir=tmp_path,
            disable_shuffling=True,
            split_datasets={split: enumerate(sizes) for split in splits},
        )
    with pytest.raises(ValueError, match=r"images of one size\. Received: sizes, whose images"):
        data.load("sizes", data_dir=tmp_path)
    assert data.load("sizes", data_dir=tmp_path, image_size=(4, 4))[0].element_spec.shape[1] == 4
    with pytest.raises(ValueError, match=r"Received: no_test with .* splits \['more', 'train'\]"):
        data.load("no_test", data_dir=tmp_path, image_size=(4, 4))


def test_a_server_that_answers_with_an_error_is_reachable(monkeypatch):
    def answer(error):
        def urlopen(*_, **__):
            if error is not None:
                raise error

        return urlopen

    not_found = urllib.error.HTTPError("http://x", 404, "not found", {}, None)
    for error, online in ((None, True), (not_found, True), (OSError("no network"), False)):
        monkeypatch.setattr("urllib.request.urlopen", answer(error))
        assert data.tfds._is_online() == online


def test_a_missing_tfds_data_set_is_downloaded_if_there_is_a_network(tmp_path, monkeypatch):
    calls = []

    class Builder:
        data_dir = tmp_path

        def is_prepared(self):
            return bool(calls)

        def download_and_prepare(self):
            calls.append("download")

    monkeypatch.setattr(data.tfds, "_find_builder", lambda *_: Builder())
    monkeypatch.setattr(data.tfds, "_is_online", lambda: True)
    monkeypatch.setattr(data.tfds, "_read_splits", lambda *_: calls.append("read"))
    for expected in (["download", "read"], ["download", "read", "read"]):
        data.tfds.read_tfds("any", None, None)
        assert calls == expected


def test_damaged_files_are_rejected(tmp_path, monkeypatch):
    path = write(tmp_path / "x.npz", x=RANDOM.integers(0, 256, (200, 10), dtype=np.uint8))
    content = bytearray(path.read_bytes())
    for name, damaged in (("cut.npz", content[:-300]), ("text.npz", b"no zip"), ("empty.npz", b"")):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ValueError, match=r"to be an \.npz file of numeric arrays"):
            data.load(tmp_path / name)
    content[len(content) // 2] ^= 1
    (tmp_path / "flipped.npz").write_bytes(content)
    with pytest.raises(ValueError, match="Bad CRC-32"):
        data.load(tmp_path / "flipped.npz")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(ValueError, match="an empty file"):
        data.load(tmp_path / "empty.csv")
    shutil.copytree(data.MNIST_MINI.parent.parent, tmp_path / "mini")
    record = next((tmp_path / "mini").rglob("*-train.tfrecord*"))
    content = bytearray(record.read_bytes())
    content[len(content) // 2] ^= 1
    record.write_bytes(content)
    monkeypatch.setattr(data.loading, "MNIST_MINI", tmp_path / "mini" / "mnist_mini" / "1.0.0")
    with pytest.raises(ValueError, match="Expected undamaged records in mnist_mini"):
        data.load("mnist_mini")


CORRUPT_IMAGE = (
    "Expected an image. Received: {}, which is damaged or not an image. Remove the file. To train "
    "without such files, you can also pass `skip_corrupt=True`."
)


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_corrupt_image_is_named_or_skipped_and_counted(tmp_path, monkeypatch, in_memory):
    if not in_memory:
        monkeypatch.setattr("keras_gen.data._pipeline._FILES_LIMIT", 0)
    write_images(tmp_path)
    broken = tmp_path / "13.png"
    broken.write_bytes(broken.read_bytes()[:-40])
    (tmp_path / "14.jpg").write_text("no image")
    identity = keras_gen.RegularizedAutoencoder(
        networks.mlp((6, 4, 1), (2,)), networks.mlp((2,), (6, 4, 1))
    )
    identity.compile(loss="mse")
    with pytest.raises(ValueError, match="Expected an image") as raised:
        identity.fit(data.load(tmp_path)[0], verbose=0)
    messages = [CORRUPT_IMAGE.format(tmp_path / name) for name in ("13.png", "14.jpg")]
    assert str(raised.value) in messages
    warning = (
        f"Skipped 2 of 21 files. The skipped files are damaged or not images, for example {broken}."
    )
    with pytest.warns(UserWarning, match=re.escape(warning)) as warned:
        train, test = data.load(tmp_path, skip_corrupt=True)
    assert warned[0].filename == __file__
    assert (len(concatenated(train)), len(concatenated(test))) == (18, 1)
    for file in tmp_path.iterdir():
        file.write_text("no image")
    with pytest.raises(ValueError, match="Received: 21 files, which are all damaged or not images"):
        data.load(tmp_path, skip_corrupt=True)


@pytest.mark.parametrize("corrupt", ["00.png", "13.png"])
@pytest.mark.parametrize("in_memory", [True, False])
def test_no_internal_mark_is_visible_in_an_error(tmp_path, monkeypatch, in_memory, corrupt):
    """Also in an error of TensorFlow, if another library reads the data set."""
    if not in_memory:
        monkeypatch.setattr("keras_gen.data._pipeline._FILES_LIMIT", 0)
    write_images(tmp_path)
    content = (tmp_path / corrupt).read_bytes()
    (tmp_path / corrupt).write_bytes(content[:-24])  # its header is undamaged
    message = CORRUPT_IMAGE.format(tmp_path / corrupt)
    if in_memory:  # `load` reads the images
        with pytest.raises(ValueError, match="Expected an image") as raised:
            data.load(tmp_path)
        assert str(raised.value) == message
        return
    train, _ = data.load(tmp_path)
    with pytest.raises(ValueError, match="Expected an image") as raised:
        data.as_arrays(train)
    assert str(raised.value) == message
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        concatenated(train)
    visible = [char for char in str(raised.value) if unicodedata.category(char) != "Cf"]
    assert f" ValueError: {message}\n" in "".join(visible)


def test_16_bit_and_palette_images_are_read_as_8_bit_pixels(tmp_path):
    pixels = np.arange(0, 65536, 4369, dtype=np.uint16).reshape(4, 4)  # 0, 17 · 257, 34 · 257, …
    for i in range(10):
        PIL.Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    np.testing.assert_allclose(
        concatenated(data.load(tmp_path)[1])[0, ..., 0] * 255, pixels // 257, atol=1e-4
    )
    for i in range(10):
        PIL.Image.fromarray((pixels // 257).astype(np.uint8)).convert("P").save(
            tmp_path / f"{i}.png"
        )
    np.testing.assert_allclose(
        concatenated(data.load(tmp_path)[1])[0, ..., 0] * 255, pixels // 257, atol=1e-4
    )


@pytest.mark.parametrize("labels", [False, True])
def test_binarized_pixels_are_resampled_for_training_and_stay_for_the_test_set(tmp_path, labels):
    grey = np.tile(np.linspace(0, 1, 11, dtype=np.float32), (4000, 1))
    path = write(
        tmp_path / "x.npz",
        x_train=grey,
        x_test=grey,
        y_train=np.arange(4000),
        y_test=np.arange(4000),
    )
    passes = []
    for _ in range(2):
        train, test = data.load(path, batch_size=100, labels=labels, binarize=True, seed=5)
        for split in (train, train, test, test):
            batches = list(split.as_numpy_iterator())
            passes.append(np.concatenate([batch[0] if labels else batch for batch in batches]))
            if labels:
                assert sorted(np.concatenate([y for _, y in batches])) == list(range(4000))
    for sampled in passes:
        assert set(np.unique(sampled)) == {0.0, 1.0}
        np.testing.assert_allclose(sampled.mean(axis=0), grey[0], atol=4 * np.sqrt(0.25 / 4000))
    first, second, test, again = passes[:4]
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(test, again)
    for one, other in zip(passes[:4], passes[4:], strict=True):  # the same seed
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(test[:100], test[100:200])


def test_other_errors_of_tensorflow_are_raised_unchanged(monkeypatch):
    def fail(*_, **__):
        raise tf.errors.InvalidArgumentError(None, None, "unrelated to the data")

    monkeypatch.setattr(data.loading, "to_batches", fail)
    with pytest.raises(tf.errors.InvalidArgumentError, match="unrelated to the data"):
        data.load("mnist_mini")


def test_a_data_set_as_arrays():
    x, y, weights = np.arange(10.0)[:, None], np.arange(10), np.ones(10)
    for columns, expected in (((x,), None), ((x, y), y), ((x, y, weights), y)):
        dataset = tf.data.Dataset.from_tensor_slices(columns if len(columns) > 1 else x).batch(4)
        for count in (None, 3, 100):
            found = data.as_arrays(dataset, count)
            np.testing.assert_array_equal(found[0], x[:count])
            assert found[1] is None if expected is None else np.array_equal(found[1], y[:count])
    np.testing.assert_array_equal(data.as_arrays(dataset.repeat(), 12)[1], np.arange(12) % 10)
    with pytest.raises(ValueError, match="Received: an empty data set"):
        data.as_arrays(dataset.take(0))
    with pytest.raises(ValueError, match=r"a data set that repeats without end\. Use a part of it"):
        data.as_arrays(dataset.repeat())
    for wrong in (
        tf.data.Dataset.from_tensor_slices({"a": x}).batch(4),
        tf.data.Dataset.from_tensor_slices((x, y)),
    ):
        with pytest.raises(
            ValueError,
            match=r"Expected a data set of batches of `x` or `\(x, y\)`.* Received: elements",
        ):
            data.as_arrays(wrong)


def test_only_a_known_number_of_examples_of_a_known_size_fits_in_memory():
    examples = tf.data.Dataset.from_tensor_slices(np.zeros((6, 2), np.float32))
    fits = data._pipeline._fits_in_memory
    assert fits(examples)
    assert fits(examples.take(1))
    assert not fits(examples.filter(lambda x: x[0] == 0))
    assert not fits(examples.repeat())
    assert not fits(examples.take(0))
    spec = tf.TensorSpec((None,), tf.float32)
    ragged = tf.data.Dataset.from_generator(lambda: iter([[1.0]]), output_signature=spec)
    assert not fits(ragged.apply(tf.data.experimental.assert_cardinality(1)))


@pytest.mark.parametrize("dtype", [tf.uint8, tf.float32])
def test_files_of_at_most_512_mebibytes_and_others_of_one_gibibyte_are_kept_in_memory(dtype):
    spec = tf.TensorSpec((32, 32 // dtype.size), dtype)  # 1 KiB
    one = tf.data.Dataset.from_tensors(tf.zeros(spec.shape, dtype))
    for count, expected in ((2**19, True), (2**19 + 1, False)):
        files = data._pipeline.IndexedExamples(count, spec, len, len, None)
        assert data._pipeline._fits_in_memory(files) == expected
        assert data._pipeline._fits_in_memory(one.repeat(2 * count)) == expected


@pytest.mark.parametrize("options", [{}, {"binarize": True}, {"flip": True}])
def test_data_that_are_not_kept_in_memory_have_their_labels(monkeypatch, options):
    stored = data.load("mnist_mini", batch_size=1000, labels=True, **options)[1]
    monkeypatch.setattr(data._pipeline, "_MEMORY_LIMIT", 0)
    train, test = data.load("mnist_mini", batch_size=1000, labels=True, **options)
    assert train.element_spec == test.element_spec == stored.element_spec
    for found, expected in zip(data.as_arrays(test), data.as_arrays(stored), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("limit", "rows"), [(384, 24), (383, 16), (128, 8), (127, 7), (8, 1)])
def test_examples_are_read_into_memory_a_few_at_a_time(monkeypatch, limit, rows):
    """A second copy of all examples might not fit into memory."""

    def read(indices):
        sizes = tf.fill((tf.size(indices), 3), tf.size(indices))
        return tf.concat([tf.cast(indices, tf.int32)[:, None], sizes], 1)

    monkeypatch.setattr(data._pipeline, "_LOADING_BATCH", limit)
    spec = tf.TensorSpec((4,), tf.int32)  # 16 bytes
    examples = data._pipeline.IndexedExamples(48, spec, read, read, None)
    stored = data._pipeline._read_all(examples).numpy()
    last = 48 % rows
    sizes = [rows] * (48 - last) + [last] * last
    assert stored.tolist() == [[i, size, size, size] for i, size in enumerate(sizes)]


def test_the_memory_of_examples_is_freed_with_their_data_sets(tmp_path, monkeypatch):
    references = []
    empty = np.empty

    def record(*arguments):
        array = empty(*arguments)
        references.append(weakref.ref(array))
        return array

    monkeypatch.setattr(np, "empty", record)
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        PIL.Image.fromarray(SMOOTH).save(tmp_path / split / "a.png")
    splits = data.load(tmp_path)
    kept = [reference for reference in references if reference() is not None]
    assert len(kept) == 2
    del splits
    gc.collect()
    assert [reference() for reference in kept] == [None, None]


def test_one_example_is_a_batch_of_known_size(tmp_path):
    path = write(tmp_path / "x.npz", x_train=IMAGES[:1], x_test=IMAGES[1:2])
    for split, image in zip(data.load(path, batch_size=1), IMAGES, strict=False):
        assert split.element_spec.shape == (1, 4, 4, 1)
        np.testing.assert_array_equal(concatenated(split)[0, ..., 0], image)


def test_a_black_pixel_stays_black_for_every_random_number(tmp_path, monkeypatch):
    """The random numbers are in [0, 1), so that 0 can be among them."""
    path = write(tmp_path / "x.npz", x_train=np.zeros((20, 3)), x_test=np.zeros((20, 3)))
    monkeypatch.setattr(tf.random, "stateless_uniform", lambda shape, seed: tf.zeros(shape))
    for split in data.load(path, binarize=True):
        assert not concatenated(split).any()


def test_files_of_a_tfds_data_set_are_read_in_their_order(monkeypatch):
    """Otherwise the same seed would give another order of the examples."""
    calls = []
    as_dataset = tfds.core.DatasetBuilder.as_dataset

    def record(builder, *arguments, **options):
        calls.append((options["split"], options["shuffle_files"]))
        return as_dataset(builder, *arguments, **options)

    monkeypatch.setattr(tfds.core.DatasetBuilder, "as_dataset", record)
    data.load("mnist_mini")
    assert calls == [("train", False), ("test", False)]


def test_suggestions_need_no_list_of_data_sets_from_the_network(monkeypatch):
    def names(with_community_datasets=True):
        assert not with_community_datasets
        return ["fashion_mnist", "mnist"]

    monkeypatch.setattr(tfds, "list_builders", names)
    with pytest.raises(ValueError, match=r"which is none of these\. Did you mean 'mnist'\?"):
        data.load("mnits")
