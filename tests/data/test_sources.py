import re
import shutil
import time

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import keras_gen
from keras_gen import data, networks

RANDOM = np.random.default_rng(0)


def collected(dataset):
    return np.concatenate(list(dataset.as_numpy_iterator()))


def test_mnist_mini_is_what_its_readme_says():
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
def test_batches_in_memory_are_those_of_a_plain_pipeline(tmp_path, batch_size, static):
    """Which has the examples go through shuffling and batching, not their numbers; of a static size where that divides 20."""
    x, y = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 1), dtype=np.uint8), np.arange(20)
    np.savez(tmp_path / "digits.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    train, test = data.load(tmp_path / "digits.npz", batch_size, labels=True, seed=3)
    examples = tf.data.Dataset.from_tensor_slices((x / np.float32(255), y))
    shuffled = examples.shuffle(len(x), seed=3)
    for loaded, plain in ((train, shuffled), (train, shuffled), (test, examples)):
        for mine, theirs in zip(
            loaded.as_numpy_iterator(), plain.batch(batch_size).as_numpy_iterator(), strict=True
        ):
            np.testing.assert_array_equal(mine[0], theirs[0])
            np.testing.assert_array_equal(mine[1], theirs[1])
    assert train.element_spec[0].shape[0] == static


def test_training_data_are_shuffled_anew_each_epoch_and_test_data_never(tmp_path):
    np.savez(
        tmp_path / "numbers.npz",
        x_train=np.arange(100)[:, None] / 100,
        x_test=np.arange(10)[:, None] / 10,
    )
    train, test = data.load(tmp_path / "numbers.npz", batch_size=7, seed=3)
    first, second = collected(train), collected(train)
    assert not np.array_equal(first, second)
    np.testing.assert_allclose(np.sort(first[:, 0]), np.arange(100) / 100, rtol=1e-6)
    np.testing.assert_allclose(collected(test)[:, 0], np.arange(10) / 10, rtol=1e-6)
    again, _ = data.load(tmp_path / "numbers.npz", batch_size=7, seed=3)
    np.testing.assert_array_equal(collected(again), first)
    assert [len(batch) for batch in train] == [7] * 14 + [2]


def test_a_reader_that_stops_half_way_leaves_the_data_whole():
    for split, count in zip(data.load("mnist_mini", batch_size=300), (10_000, 2000), strict=True):
        next(iter(split))
        next(split.unbatch().batch(50).as_numpy_iterator())
        assert [sum(len(batch) for batch in split) for _ in range(2)] == [count, count]


def test_npz_of_levels_gets_a_channel_and_is_divided_by_255(tmp_path):
    x, y = RANDOM.integers(0, 256, size=(40, 5, 4), dtype=np.uint8), RANDOM.integers(0, 3, size=40)
    np.savez(tmp_path / "x.npz", x=x, y=y)
    train, test = data.load(tmp_path / "x.npz", batch_size=100, labels=True)
    (train_x, train_y), (test_x, test_y) = next(iter(train)), next(iter(test))
    assert (train_x.shape, test_x.shape) == ((36, 5, 4, 1), (4, 5, 4, 1))
    levels = np.concatenate([train_x, test_x])[..., 0] * 255
    found = {
        (image.round().astype(int).tobytes(), int(label))
        for image, label in zip(levels, [*train_y, *test_y], strict=True)
    }
    assert found == {
        (image.astype(int).tobytes(), int(label)) for image, label in zip(x, y, strict=True)
    }


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool, np.float32])
def test_binary_images_stay_binary_and_16_bits_are_a_scale_of_their_own(tmp_path, dtype):
    binary = RANDOM.integers(0, 2, size=(30, 4)).astype(dtype)
    np.savez(tmp_path / "binary.npz", x_train=binary, x_test=binary)
    np.testing.assert_array_equal(collected(data.load(tmp_path / "binary.npz")[1]), binary)
    deep = RANDOM.integers(0, 2**16, size=(30, 4)).astype(np.uint16)
    np.savez(tmp_path / "deep.npz", x_train=deep, x_test=deep)
    np.testing.assert_allclose(
        collected(data.load(tmp_path / "deep.npz")[1]), deep / 65535, rtol=1e-6
    )
    np.savez(tmp_path / "counts.npz", x=np.arange(40, dtype=np.int64)[:, None])
    with pytest.raises(ValueError, match="Received: int64 from"):
        data.load(tmp_path / "counts.npz")


def test_csv_with_and_without_a_header(tmp_path):
    table = RANDOM.random((30, 3))
    np.savetxt(tmp_path / "plain.csv", table, delimiter=",")
    train, test = data.load(tmp_path / "plain.csv", batch_size=30)
    np.testing.assert_allclose(
        np.sort(np.concatenate([collected(train), collected(test)]), axis=0),
        np.sort(table, axis=0),
        rtol=1e-5,
    )
    labelled = np.column_stack(
        [RANDOM.integers(0, 2, size=30), RANDOM.integers(0, 256, size=(30, 4))]
    )
    np.savetxt(
        tmp_path / "levels.csv",
        labelled,
        delimiter=",",
        header="label,a,b,c,d",
        comments="",
        fmt="%d",
    )
    train, _ = data.load(tmp_path / "levels.csv", batch_size=30, labels=True)
    x, y = next(iter(train))
    assert x.shape == (27, 4)
    np.testing.assert_allclose(np.asarray(x) * 255, np.round(np.asarray(x) * 255), atol=1e-4)
    assert set(np.asarray(y)) <= {0, 1}


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
    found = np.concatenate([split[0] if labels else split for split in splits])
    assert [len(split[0] if labels else split) for split in splits] == (
        [15, 5] if layout == "splits" else [18, 2]
    )
    np.testing.assert_allclose(np.sort(found, axis=0), np.sort(images / 255.0, axis=0), atol=1e-6)
    resized, _ = data.load(tmp_path, batch_size=20, image_size=(3, 2))
    assert resized.element_spec.shape.as_list() == [None, 3, 2, color]


def test_a_tfds_data_set_is_found_by_name(tmp_path):
    levels = RANDOM.integers(0, 256, size=(10, 6, 6, 1), dtype=np.uint8)
    examples = [{"image": image, "label": i % 2} for i, image in enumerate(levels)]
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(6, 6, 1)),
            "label": tfds.features.ClassLabel(num_classes=2),
        }
    )
    tfds.dataset_builders.store_as_tfds_dataset(
        "tiny", version="1.0.0", features=features, data_dir=tmp_path, disable_shuffling=True,
        split_datasets={"train": enumerate(examples[:8]), "test": enumerate(examples[8:])},
    )  # fmt: skip
    train, test = data.load("tiny", batch_size=8, data_dir=tmp_path)
    np.testing.assert_allclose(
        np.sort(collected(train), axis=0), np.sort(levels[:8] / 255.0, axis=0), atol=1e-6
    )
    np.testing.assert_allclose(collected(test), levels[8:] / 255.0, atol=1e-6)
    assert data.load("tiny", data_dir=tmp_path, image_size=(3, 3))[
        0
    ].element_spec.shape.as_list() == [None, 3, 3, 1]


def test_a_tfds_data_set_that_is_neither_on_disk_nor_in_reach_fails_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_DOWNLOADS", "http://127.0.0.1:9")  # nobody answers there
    start = time.monotonic()
    with pytest.raises(
        ValueError,
        match=r"'fashion_mnist' is not in .* and there is no network.*`data_dir`.*TFDS_DATA_DIR.*'mnist_mini'",
    ):
        data.load("fashion_mnist", data_dir=tmp_path)
    assert time.monotonic() - start < 20


def test_what_cannot_be_loaded_is_refused_with_advice(tmp_path):
    np.savez(tmp_path / "other.npz", z=np.zeros(3))
    np.savez(tmp_path / "wide.npz", x=np.linspace(-1, 300, 20)[:, None])
    (tmp_path / "words.csv").write_text("a,b\n1,two\n")
    (tmp_path / "empty").mkdir()
    for source, arguments, message in (
        (tmp_path / "none.npz", {}, "which does not exist"),
        (tmp_path / "other.npz", {}, r"to hold x_train and x_test, or x\. Received: \['z'\]"),
        (
            tmp_path / "wide.npz",
            {},
            r"Expected numbers in \[0, 1\], or uint8 or uint16 pixels\. Received: float64 from -1 to",
        ),
        (tmp_path / "words.csv", {}, "to hold numbers alone"),
        (tmp_path / "empty", {}, "which has none"),
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
        ({"x": np.zeros((0, 4, 4), np.float32)}, "Expected examples in both splits"),
        ({"x": IMAGES[:5]}, "none in test"),
        ({"x": IMAGES[:, 0, 0]}, "Expected x as rows (n, columns) or images"),
        ({"x": IMAGES[None, :, :, None]}, "Received: shape (1, 20, 4, 1, 4)"),
        ({"x_train": IMAGES, "x_test": IMAGES[:, :3]}, "Expected x_train and x_test of one shape"),
        ({"y": np.arange(20)}, "to hold x_train and x_test, or x. Received: ['y']"),
        ({"x": np.array(["a", "b"])}, "Expected x as numbers"),
        ({"x": np.array([None, 1])}, "to be an .npz of plain arrays"),
        (
            {"x": with_one(IMAGES, (7, 1, 2), np.nan)},
            "nan at [7, 1, 2] of x; such numbers are in 1 of 20 examples",
        ),
        (
            {"x_train": IMAGES, "x_test": with_one(IMAGES, (3, 0, 0), np.inf)},
            "inf at [3, 0, 0] of x_test",
        ),
        ({"x": IMAGES * 255}, "Scale them"),
        ({"x": IMAGES, "y": np.arange(19)}, "Expected one label for each"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value,
)
def test_arrays_that_cannot_be_examples_are_refused_with_split_and_index(tmp_path, arrays, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        data.load(write(tmp_path / "x.npz", **arrays), labels="y" in arrays)


def test_damaged_files_are_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "x.npz", x=RANDOM.integers(0, 256, (200, 10), dtype=np.uint8))
    content = bytearray(path.read_bytes())
    for name, damaged in (("cut.npz", content[:-300]), ("text.npz", b"no zip"), ("empty.npz", b"")):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ValueError, match=r"to be an \.npz of plain arrays"):
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
    monkeypatch.setattr(sources, "MNIST_MINI", tmp_path / "mini" / "mnist_mini" / "1.0.0")
    with pytest.raises(ValueError, match="Expected whole records in mnist_mini"):
        data.load("mnist_mini")


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_corrupt_image_is_named_or_left_out_and_counted(tmp_path, monkeypatch, in_memory):
    if not in_memory:
        monkeypatch.setattr(sources, "_MEMORY_LIMIT", 0)
    for i in range(20):
        keras.utils.save_img(
            tmp_path / f"{i:02d}.png", RANDOM.integers(0, 256, (6, 4, 1)), scale=False
        )
    broken = tmp_path / "13.png"
    broken.write_bytes(broken.read_bytes()[:-40])
    (tmp_path / "14.jpg").write_text("no image")
    identity = keras_gen.RegularizedAutoencoder(
        networks.mlp((6, 4, 1), (2,)), networks.mlp((2,), (6, 4, 1))
    )
    identity.compile(loss="mse")
    with pytest.raises(
        ValueError,
        match=r"^Expected images\. Received: .*1[34]\.(png|jpg), which is damaged or no image\. Remove it",
    ):
        identity.fit(data.load(tmp_path)[0], verbose=0)
    with pytest.warns(
        UserWarning,
        match=re.escape(f"2 of 21 files are left out, since they are no whole images: {broken}"),
    ):
        train, test = data.load(tmp_path, skip_corrupt=True)
    assert (len(collected(train)), len(collected(test))) == (18, 1)
    for file in tmp_path.iterdir():
        file.write_text("no image")
    with pytest.raises(ValueError, match="Received: 21 files, none of which is a whole image"):
        data.load(tmp_path, skip_corrupt=True)


def test_16_bits_and_palettes_are_levels_of_8_bits(tmp_path):
    levels = np.arange(0, 65536, 4369, dtype=np.uint16).reshape(4, 4)  # 0, 17 · 257, 34 · 257, …
    for i in range(10):
        PIL.Image.fromarray(levels).save(tmp_path / f"{i}.png")
    np.testing.assert_allclose(
        collected(data.load(tmp_path)[1])[0, ..., 0] * 255, levels // 257, atol=1e-4
    )
    for i in range(10):
        PIL.Image.fromarray((levels // 257).astype(np.uint8)).convert("P").save(
            tmp_path / f"{i}.png"
        )
    np.testing.assert_allclose(
        collected(data.load(tmp_path)[1])[0, ..., 0] * 255, levels // 257, atol=1e-4
    )


@pytest.mark.parametrize("labels", [False, True])
def test_binarized_pixels_are_drawn_anew_in_training_and_once_for_the_test_set(tmp_path, labels):
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
    for drawn in passes:
        assert set(np.unique(drawn)) == {0.0, 1.0}
        np.testing.assert_allclose(drawn.mean(axis=0), grey[0], atol=4 * np.sqrt(0.25 / 4000))
    first, second, test, again = passes[:4]
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(test, again)
    for one, other in zip(passes[:4], passes[4:], strict=True):  # the same seed, the same draws
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(test[:100], test[100:200])


def test_what_is_not_about_the_data_is_raised_as_it_is(monkeypatch):
    def fail(*_, **__):
        raise tf.errors.InvalidArgumentError(None, None, "of TensorFlow's own")

    monkeypatch.setattr(sources, "_batches", fail)
    with pytest.raises(tf.errors.InvalidArgumentError, match="of TensorFlow's own"):
        data.load("mnist_mini")


def test_a_data_set_as_arrays():
    x, y, weights = np.arange(10.0)[:, None], np.arange(10), np.ones(10)
    for columns, expected in (((x,), None), ((x, y), y), ((x, y, weights), y)):
        dataset = tf.data.Dataset.from_tensor_slices(columns if len(columns) > 1 else x).batch(4)
        for count in (None, 3, 100):
            found = sources.as_arrays(dataset, count)
            np.testing.assert_array_equal(found[0], x[:count])
            assert found[1] is None if expected is None else np.array_equal(found[1], y[:count])
    np.testing.assert_array_equal(sources.as_arrays(dataset.repeat(), 12)[1], np.arange(12) % 10)
    with pytest.raises(ValueError, match="Received: an empty data set"):
        sources.as_arrays(dataset.take(0))
    with pytest.raises(ValueError, match=r"one that repeats\. Take a part of it"):
        sources.as_arrays(dataset.repeat())
    for wrong in (
        tf.data.Dataset.from_tensor_slices({"a": x}).batch(4),
        tf.data.Dataset.from_tensor_slices((x, y)),
    ):
        with pytest.raises(
            ValueError,
            match=r"Expected a data set of batches of x or \(x, y\).* Received: elements",
        ):
            sources.as_arrays(wrong)
