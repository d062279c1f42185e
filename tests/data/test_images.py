"""Folders of images, as people have them, against Pillow's own reading of each file."""

import os
import pathlib
import re
import struct
import subprocess
import sys
import warnings
import zlib

import hypothesis
import hypothesis.strategies as st
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from keras_gen import data
from keras_gen.data import _image_files

RANDOM = np.random.default_rng(0)
WHITE = (255, 255, 255)


def random_image(mode="RGB", size=(7, 5), seed=0):
    """Return an image of random values. `size` is `(width, height)`."""
    random = np.random.default_rng(seed)
    width, height = size
    if mode.startswith("I;16"):
        values = random.integers(0, 2**16, (height, width))
        return PIL.Image.fromarray(values.astype(">u2" if mode == "I;16B" else "<u2"))
    if mode == "I":
        return PIL.Image.fromarray(random.integers(0, 2**16, (height, width), np.int32))
    if mode == "F":
        return PIL.Image.fromarray(random.random((height, width), np.float32))
    if mode == "1":
        return PIL.Image.fromarray(random.random((height, width)) < 0.5)
    if mode == "P":
        image = PIL.Image.fromarray(random.integers(0, 256, (height, width), np.uint8), "P")
        image.putpalette(random.integers(0, 256, 768, np.uint8).tobytes())
        return image
    bands = len(PIL.Image.new(mode, (1, 1)).getbands())
    values = random.integers(0, 256, (height, width, bands), np.uint8)
    return PIL.Image.merge(mode, [PIL.Image.fromarray(values[..., i]) for i in range(bands)])


def reference(path, background=WHITE):
    """Return what a viewer shows, by Pillow and NumPy: floats in [0, 1], three channels."""
    with PIL.Image.open(path) as opened:
        image = PIL.ImageOps.exif_transpose(opened)
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image, np.float64) / (1 if image.mode == "F" else 65535)
        return np.repeat(values[..., None], 3, axis=-1)
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"), np.float64) / 255
        alpha = rgba[..., 3:]
        return alpha * rgba[..., :3] + (1 - alpha) * np.divide(background, 255)
    return np.asarray(image.convert("RGB"), np.float64) / 255


def has_transparency(path):
    with PIL.Image.open(path) as image:
        return image.has_transparency_data


def loaded(folder, **arguments):
    """Return all images of a folder by their class, as `load` returns them, in three channels."""
    images = {}
    for split in data.load(folder, labels=True, **arguments):
        for x, y in split.as_numpy_iterator():
            names = data.class_names(folder)
            images |= {names[label]: image for label, image in zip(y, x, strict=True)}
    return {name: np.broadcast_to(image, (*image.shape[:2], 3)) for name, image in images.items()}


def save(image, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def fill(folder, count=10, suffix=".png", **arguments):
    """Write some images into a folder."""
    return [
        save(random_image(seed=i, **arguments), folder / f"{i:02d}{suffix}") for i in range(count)
    ]


FORMATS = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK", "YCbCr"),
    "WEBP": ("RGB", "RGBA", "L"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I;16B", "F"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "GIF": ("L", "P", "RGB"),
    "PPM": ("1", "L", "RGB", "I"),
    "TGA": ("L", "LA", "P", "RGB", "RGBA"),
    "JPEG2000": ("L", "LA", "RGB", "RGBA", "I;16"),
    "PCX": ("1", "L", "P", "RGB"),
    "ICO": ("RGBA", "RGB", "L"),
    "SGI": ("L", "RGB", "RGBA"),
}
SUFFIXES = (".png", ".jpg", ".JPEG", ".webp", ".TIF", ".bmp", ".gif", ".ppm", ".tga", ".jp2")


@st.composite
def files(draw):
    """Return what to write into an image file: its format, image, orientation, options, suffix."""
    name = draw(st.sampled_from(sorted(FORMATS)))
    mode = draw(st.sampled_from(FORMATS[name]))
    size = draw(st.sampled_from([(8, 8), (16, 16)] if name == "ICO" else [(8, 8), (8, 4), (3, 9)]))
    image = random_image(mode, size, seed=draw(st.integers(0, 99)))
    options = {}
    if name in ("PNG", "JPEG", "WEBP", "TIFF") and draw(st.booleans()):
        options["exif"] = PIL.Image.Exif()
        options["exif"][0x0112] = draw(st.integers(1, 8))
    if name == "JPEG":
        options["progressive"] = draw(st.booleans())
        options["quality"] = draw(st.integers(1, 100))
        options["subsampling"] = draw(st.integers(0, 2))
    if name in ("PNG", "GIF") and mode in ("L", "P") and draw(st.booleans()):
        options["transparency"] = draw(st.integers(0, 255))
    if name == "PNG" and mode == "RGB" and draw(st.booleans()):
        options["transparency"] = image.getpixel((0, 0))
    return name, image, options, draw(st.sampled_from(SUFFIXES))


@hypothesis.settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)
@hypothesis.given(
    specs=st.lists(files(), min_size=10, max_size=40),
    background=st.sampled_from([WHITE, (0, 0, 0), (10, 200, 90)]),
)
def test_files_of_all_modes_formats_and_orientations_are_read_like_pillow(
    tmp_path_factory, specs, background
):
    folder = tmp_path_factory.mktemp("images")
    paths = {}
    for i, (name, image, options, suffix) in enumerate(specs):
        paths[f"{i:02d}"] = save(
            image, folder / f"{i:02d}" / f"image{suffix}", format=name, **options
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about sizes
        images = loaded(folder, image_size=(8, 8), background=f"#{bytes(background).hex()}")
    assert len(images) == len(specs)
    for name, path in paths.items():
        expected = reference(path, background)
        if expected.shape != (8, 8, 3):  # scaled: compared in another test
            assert images[name].shape == (8, 8, 3)
            continue
        tolerance = 0.501 / 255 if specs[int(name)][1].mode in ("I", "I;16", "I;16B", "F") else 0
        if has_transparency(path):
            tolerance = 1.001 / 255
        np.testing.assert_allclose(images[name], expected, atol=tolerance + 1e-6, err_msg=str(path))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_exif_orientation_turns_images_upright(tmp_path, orientation, suffix):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    for i in range(2):
        for split in ("train", "test"):
            save(
                random_image(seed=i),
                tmp_path / split / f"{i}" / f"image{suffix}",
                exif=exif,
                **({"quality": 100} if suffix == ".jpg" else {}),
            )
    images = loaded(tmp_path)
    assert images["0"].shape == ((5, 7, 3) if orientation < 5 else (7, 5, 3))
    for name, image in images.items():
        path = tmp_path / "test" / name / f"image{suffix}"
        np.testing.assert_allclose(image, reference(path), atol=1e-6)


def test_an_exif_chunk_behind_the_pixels_of_a_png_file_turns_the_image(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    payload = exif.tobytes()[6:]
    chunk = struct.pack(">I", len(payload)) + b"eXIf" + payload
    chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
    for split in ("train", "test"):
        path = save(random_image(size=(8, 8)), tmp_path / split / "a" / "image.png")
        content = path.read_bytes()
        path.write_bytes(content[:-12] + chunk + content[-12:])
    expected = np.rot90(np.asarray(random_image(size=(8, 8))), -1) / 255
    np.testing.assert_allclose(loaded(tmp_path)["a"], expected, atol=1e-6)


def glyph(color):
    """Return a square of one color, drawn in the transparency."""
    alpha = np.zeros((6, 6), np.uint8)
    alpha[2:4, 2:4] = 255
    return PIL.Image.merge("LA", (PIL.Image.new("L", (6, 6), color), PIL.Image.fromarray(alpha)))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_images_are_drawn_over_the_background(tmp_path, mode):
    for i in range(10):
        save(glyph(0).convert(mode), tmp_path / f"{i}.png")
    alpha = np.asarray(glyph(0).getchannel("A")) / 255
    _, test = data.load(tmp_path)
    np.testing.assert_allclose(next(iter(test))[0, ..., 0], 1 - alpha, atol=1e-6)
    with pytest.warns(UserWarning, match="10 become images of one color.*pass another"):
        _, test = data.load(tmp_path, background="black")
    assert np.max(next(iter(test))) == 0
    _, test = data.load(tmp_path, background="#ffffff80")  # a background is never transparent
    np.testing.assert_allclose(next(iter(test))[0, ..., 0], 1 - alpha, atol=1e-6)
    for wrong in ("no color", 3):
        with pytest.raises(ValueError, match="`background` must be a color"):
            data.load(tmp_path, background=wrong)


@pytest.mark.parametrize("in_memory", [True, False])
def test_one_image_in_color_gives_all_images_three_channels(tmp_path, monkeypatch, in_memory):
    if not in_memory:
        monkeypatch.setattr("keras_gen.data._pipeline._FILES_LIMIT", 0)
    fill(tmp_path, 39, mode="L")
    for name in ("38.png", "39.png"):
        save(random_image("L").convert("RGB"), tmp_path / name)  # stored in color, but grey
    train, _ = data.load(tmp_path)
    assert train.element_spec.shape[1:] == (5, 7, 1)
    save(random_image("RGB"), tmp_path / "38.png")
    train, test = data.load(tmp_path)
    assert train.element_spec.shape[1:] == (5, 7, 3)
    found = np.concatenate([*train.as_numpy_iterator(), *test.as_numpy_iterator()])
    paths = sorted(tmp_path.iterdir())
    expected = np.stack([reference(path) for path in paths])
    np.testing.assert_allclose(np.sort(found, axis=0), np.sort(expected, axis=0), atol=1e-6)


def test_20_png_50_webp_and_50_tiff_files_are_120_images(tmp_path):
    fill(tmp_path, 20, ".png")
    fill(tmp_path, 50, ".webp")
    fill(tmp_path, 50, ".TIFF")
    train, test = data.load(tmp_path, batch_size=1)
    assert (len(train), len(test)) == (108, 12)


@pytest.mark.parametrize("training", ["train", "Train", "TRAINING"])
@pytest.mark.parametrize("held_out", ["test", "Val", "valid", "VALIDATION", "testing"])
def test_training_and_test_folders_have_several_names_in_any_case(tmp_path, training, held_out):
    for name, count in ((training, 6), (held_out, 3)):
        for label in ("cat", "dog"):
            fill(tmp_path / name / label, count)
    train, test = data.load(tmp_path, batch_size=1, labels=True)
    assert (len(train), len(test)) == (12, 6)
    assert data.class_names(tmp_path) == ["cat", "dog"]
    assert {int(y[0]) for split in (train, test) for _, y in split} == {0, 1}


@pytest.mark.parametrize("used", ["test", "validation"])
def test_of_several_folders_of_test_images_one_is_used_and_the_rest_is_counted(tmp_path, used):
    for name, count in (("train", 6), ("val", 2), (used, 3), ("extra", 2)):
        fill(tmp_path / name / "cat", count)
    message = rf"Skipped files and folders: 2 are beside the folders train and {used}, for example"
    with pytest.warns(UserWarning, match=message) as warned:
        train, test = data.load(tmp_path, batch_size=1)
    assert warned[0].filename == __file__
    assert (len(train), len(test)) == (6, 3)


def test_only_one_of_the_folders_train_and_test(tmp_path):
    for label in ("cat", "dog"):
        fill(tmp_path / "only" / "train" / label)
        fill(tmp_path / "other" / "test" / label)
        fill(tmp_path / "vehicles" / "train")
        fill(tmp_path / "vehicles" / "car")
    train, test = data.load(tmp_path / "only", batch_size=1, labels=True)
    assert (len(train), len(test)) == (18, 2)
    assert data.class_names(tmp_path / "only") == ["cat", "dog"]
    with pytest.raises(ValueError, match=r"which contains only test\. Move the training images"):
        data.load(tmp_path / "other")
    assert data.class_names(tmp_path / "vehicles") == ["car", "train"]
    (tmp_path / "only" / "val").mkdir()
    with pytest.raises(ValueError, match="which contains no images"):
        data.load(tmp_path / "only")
    (tmp_path / "only" / "val").rmdir()
    fill(tmp_path / "only" / "TRAIN" / "cat")
    with pytest.raises(ValueError, match="one folder of training images"):
        data.load(tmp_path / "only")


def test_classes_are_those_of_both_splits_and_a_class_without_training_images_is_named(tmp_path):
    fill(tmp_path / "train" / "cat", 2)
    fill(tmp_path / "train" / "owl", 2)
    fill(tmp_path / "test" / "Cat", 2)
    fill(tmp_path / "test" / "owl", 2)
    message = "1 classes have test images, but no training images: Cat. The class folders"
    with pytest.warns(UserWarning, match=message) as warned:
        train, test = data.load(tmp_path, labels=True)
    assert warned[0].filename == __file__
    assert data.class_names(tmp_path) == ["Cat", "cat", "owl"]
    assert sorted(next(iter(train))[1].numpy()) == [1, 1, 2, 2]
    assert sorted(next(iter(test))[1].numpy()) == [0, 0, 2, 2]
    data.load(tmp_path)  # without labels, the classes do not matter
    save(random_image(), tmp_path / "train" / "stray.png")
    fill(tmp_path / "other" / "cat")
    save(random_image(), tmp_path / "other" / "stray.png")
    for folder in (tmp_path, tmp_path / "other"):
        with pytest.raises(ValueError, match=r"stray\.png, which is in no subfolder"):
            data.load(folder, labels=True)


def test_files_of_operating_systems_are_ignored_and_others_are_counted(tmp_path):
    fill(tmp_path / "cat")
    fill(tmp_path / "dog")
    for name in (".DS_Store", "Thumbs.db", "cat/._00.png", "dog/desktop.ini"):
        (tmp_path / name).write_bytes(b"system")
    fill(tmp_path / "__MACOSX")
    train, _ = data.load(tmp_path, batch_size=1)
    assert len(train) == 18
    fill(tmp_path / ".ipynb_checkpoints")
    (tmp_path / "labels.csv").write_text("a,b")
    (tmp_path / "dog" / "notes.txt").write_text("text")
    (tmp_path / "empty").mkdir()
    (tmp_path / "cat" / "broken.png").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    with pytest.warns(UserWarning, match="Skipped files and folders") as warned:
        train, _ = data.load(tmp_path, batch_size=1)
    for part in (
        "1 are hidden, because",
        "2 have no suffix of an image format, for example",
        "1 are folders without images",
        "2 are broken links or special files",
    ):
        assert part in str(warned[0].message)
    assert len(train) == 18
    assert data.class_names(tmp_path) == ["cat", "dog"]


def test_links_are_followed_and_loops_are_not(tmp_path):
    fill(tmp_path / "elsewhere" / "cats")
    fill(tmp_path / "images" / "dog")
    (tmp_path / "images" / "cat").symlink_to(tmp_path / "elsewhere" / "cats")
    (tmp_path / "images" / "dog" / "linked.png").symlink_to("00.png")
    assert len(data.load(tmp_path / "images", batch_size=1)[0]) == 19
    (tmp_path / "images" / "dog" / "above").symlink_to(tmp_path / "images")
    (tmp_path / "elsewhere" / "cats" / "self").symlink_to(".")
    with pytest.warns(UserWarning, match="2 are links to a folder that contains them"):
        train, _ = data.load(tmp_path / "images", batch_size=1, labels=True)
    assert len(train) == 19
    assert data.class_names(tmp_path / "images") == ["cat", "dog"]


@pytest.mark.parametrize("in_memory", [True, False])
def test_names_that_are_no_utf_8(tmp_path, monkeypatch, in_memory):
    if not in_memory:
        monkeypatch.setattr("keras_gen.data._pipeline._FILES_LIMIT", 0)
    folder = pathlib.Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    for label in (b"\xff", b"gr\xc3\xbcn \n"):
        fill(folder / os.fsdecode(label), 5, size=(8, 8))
        fill(folder / os.fsdecode(label), 5, suffix=".webp", size=(8, 8))
    assert data.class_names(folder) == ["grün \n", "\\xff"]
    train, _ = data.load(folder, labels=True)
    assert sum(len(x) for x, _ in train.as_numpy_iterator()) == 18
    (folder / "broken.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"caf\\xe9/broken\.png, which is damaged") as raised:
        data.load(folder)
    str(raised.value).encode()


@pytest.mark.filterwarnings("ignore:Image size")  # Pillow warns about less than the double limit
@pytest.mark.parametrize(("suffix", "factor"), [(".png", 1), (".jpg", 1), (".jpg", 3), (".gif", 3)])
def test_decompression_bombs_are_refused(tmp_path, monkeypatch, suffix, factor):
    fill(tmp_path, suffix=suffix, size=(4, 4))
    save(random_image(size=(10, 10 * factor)), tmp_path / f"bomb{suffix}")
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 99)
    message = rf"at most 99 pixels. Received: .*bomb{suffix}, which has more pixels"
    with pytest.raises(ValueError, match=message):
        data.load(tmp_path)
    with pytest.warns(UserWarning, match="Skipped 1 of 11 files"):
        data.load(tmp_path, skip_corrupt=True)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", None)
    data.load(tmp_path, image_size=(4, 4))


@pytest.mark.parametrize(
    ("damage", "first", "suffix"),
    [
        ("empty", True, ".png"),
        ("cut", True, ".jpg"),
        ("cut", False, ".png"),
        ("cut", False, ".webp"),
        ("text", False, ".jpg"),
        ("other suffix", True, ".jpg"),
        ("other suffix", False, ".png"),
    ],
)
def test_damaged_files_are_named_without_internal_marks(tmp_path, damage, first, suffix):
    paths = fill(tmp_path, 12, suffix)
    broken = paths[0 if first else 7]
    content = broken.read_bytes()
    broken.write_bytes({"empty": b"", "cut": content[: len(content) * 2 // 3]}.get(damage, b"text"))
    if damage == "other suffix":
        save(random_image(seed=7), broken, format="GIF")
        assert len(data.load(tmp_path, batch_size=1)[0]) == 11
        return
    with pytest.raises(ValueError, match="Expected an image") as raised:
        data.load(tmp_path)
    assert str(raised.value) == (
        f"Expected an image. Received: {broken}, which is damaged or not an image. Remove the "
        "file. To train without such files, you can also pass `skip_corrupt=True`."
    )
    with pytest.warns(UserWarning, match="Skipped 1 of 12 files"):
        data.load(tmp_path, skip_corrupt=True)


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("batch_size", [6, 10])
def test_a_file_that_only_pillow_can_read_among_plain_files(
    tmp_path, monkeypatch, in_memory, batch_size
):
    """TensorFlow refuses the file in the middle of a batch. Then Pillow reads the whole batch."""
    if not in_memory:
        monkeypatch.setattr("keras_gen.data._pipeline._FILES_LIMIT", 0)
    for split in ("train", "test"):
        paths = fill(tmp_path / split, 12)
        content = bytearray(paths[4].read_bytes())
        content[-14] ^= 1  # the checksum of the pixels, which Pillow does not read
        paths[4].write_bytes(content)
    _, test = data.load(tmp_path, batch_size=batch_size)
    expected = np.stack([np.asarray(random_image(seed=i)) for i in range(12)])
    np.testing.assert_allclose(data.as_arrays(test)[0], expected / 255, atol=1e-6)


@pytest.mark.parametrize("in_memory", [True, False])
def test_pillow_reads_the_files_that_cannot_be_read_for_tensorflow(
    tmp_path, monkeypatch, in_memory
):
    """For instance, a network drive fails for a moment."""
    if not in_memory:
        monkeypatch.setattr("keras_gen.data._pipeline._FILES_LIMIT", 0)

    def fail(paths):
        raise OSError("Input/output error")

    monkeypatch.setattr(data.images, "_read_files", fail)
    data.images._plain_decoder.cache_clear()  # the function may be traced already
    for split in ("train", "test"):
        fill(tmp_path / split, 12)
    _, test = data.load(tmp_path)
    found = data.as_arrays(test)[0]
    data.images._plain_decoder.cache_clear()
    expected = np.stack([np.asarray(random_image(seed=i)) for i in range(12)])
    np.testing.assert_allclose(found, expected / 255, atol=1e-6)


def test_labels_do_not_move_if_all_files_of_a_class_are_skipped(tmp_path):
    for label in ("a", "b", "c"):
        fill(tmp_path / label)
    for path in (tmp_path / "a").iterdir():
        path.write_bytes(b"")
    with pytest.warns(UserWarning, match="Skipped 10 of 30 files"):
        train, _ = data.load(tmp_path, labels=True, skip_corrupt=True)
    assert set(next(iter(train))[1].numpy()) == {1, 2}
    assert data.class_names(tmp_path) == ["a", "b", "c"]


def test_the_first_frame_is_read_and_files_with_several_are_counted(tmp_path):
    frames = [random_image(seed=i, size=(8, 8)) for i in range(3)]
    for split in ("train", "test"):
        for suffix in (".tif", ".png", ".webp"):
            options = {"lossless": True} if suffix == ".webp" else {}
            path = tmp_path / split / suffix[1:] / f"x{suffix}"
            save(frames[0], path, save_all=True, append_images=frames[1:], **options)
    with pytest.warns(UserWarning, match="changed: 6 contain several frames or pages, of which"):
        images = loaded(tmp_path)
    for name in ("tif", "png", "webp"):
        np.testing.assert_allclose(images[name], np.asarray(frames[0]) / 255, atol=1e-6)


def test_a_skipped_file_is_named(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "test")
    (tmp_path / "train" / "damaged.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match="Skipped 1 of 11 files.*for example .*damaged[.]png"):
        data.load(tmp_path, skip_corrupt=True)


def test_one_file_with_several_frames_is_named(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "test")
    frames = [random_image(seed=i, size=(8, 8)) for i in range(3)]
    save(frames[0], tmp_path / "train" / "frames.tif", save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match="1 contain several frames or pages.*frames[.]tif"):
        data.load(tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_images_of_other_sizes_are_scaled_to_cover_the_size_and_cut(tmp_path, suffix):
    """A ramp from left to right keeps its slope: the image is not squashed."""
    ramp = np.tile(np.linspace(0, 255, 64), (32, 1)).round().astype(np.uint8)
    for split in ("train", "test"):
        save(PIL.Image.fromarray(ramp), tmp_path / split / "wide" / f"x{suffix}")
        save(PIL.Image.fromarray(ramp.T), tmp_path / split / "high" / f"x{suffix}")
    images = loaded(tmp_path, image_size=(8, 8))
    expected = np.linspace(0, 1, 64).reshape(16, 4).mean(axis=1)[4:12]
    np.testing.assert_allclose(images["wide"][:, :, 0], np.tile(expected, (8, 1)), atol=0.02)
    np.testing.assert_allclose(images["high"][:, :, 0].T, np.tile(expected, (8, 1)), atol=0.02)
    message = "2 have another size than the first image, and are scaled and cropped to 64×32 pixels"
    with pytest.warns(UserWarning, match=f"Some images were changed: {message}"):
        assert loaded(tmp_path)["wide"].shape == (64, 32, 3)
    save(random_image(size=(32, 60)), tmp_path / "test" / "high" / f"y{suffix}")
    save(random_image(size=(30, 64)), tmp_path / "test" / "high" / f"z{suffix}")
    with pytest.warns(UserWarning, match="4 have another size than the first image"):
        data.load(tmp_path)


@pytest.mark.parametrize("image_size", [3, (3,), (0, 4), (4, -1), (2.5, 4), "ab"])
def test_invalid_image_sizes_are_refused(tmp_path, image_size):
    with pytest.raises(ValueError, match="`image_size` must be"):
        data.load(tmp_path, image_size=image_size)


def test_large_photographs_are_antialiased(tmp_path):
    """Stripes of one pixel become grey. Without antialiasing they would stay black or white."""
    stripes = np.tile(np.array([0, 255], np.uint8), (200, 100))
    for split in ("train", "test"):
        save(PIL.Image.fromarray(stripes), tmp_path / split / "a" / "x.png")
        save(PIL.Image.fromarray(stripes), tmp_path / split / "b" / "x.jpg", quality=95)
    for image in loaded(tmp_path, image_size=(10, 10)).values():
        np.testing.assert_allclose(image, 0.5, atol=0.03)


def test_integers_and_floats_without_a_known_range_are_refused(tmp_path):
    fill(tmp_path)
    for values in (
        np.array([[0, 2**20]], np.int32),
        np.array([[0, 1]], np.int32),
        np.array([[0, 255]], np.float32),
        np.array([[0, np.nan]], np.float32),
    ):
        save(PIL.Image.fromarray(values), tmp_path / "deep.tif")
        with pytest.raises(ValueError, match=r"deep\.tif, which has values of .* mode [IF] from"):
            data.load(tmp_path, image_size=(2, 2))


def test_values_of_12_bits_and_of_16_bits_with_a_transparent_value(tmp_path):
    values = np.array([[0, 1000], [2000, 4095]], np.uint16)
    packed = bytes([0x00, 0x03, 0xE8, 0x7D, 0x0F, 0xFF])  # two values of 12 bits in three bytes
    tags = {256: 2, 257: 2, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 2, 279: 6}
    content = struct.pack("<2sHI", b"II", 42, 14) + packed + struct.pack("<H", len(tags))
    content += b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    for split in ("train", "test"):
        path = tmp_path / split / "12" / "x.tif"
        path.parent.mkdir(parents=True)
        path.write_bytes(content + bytes(4))
        image = PIL.Image.fromarray(values)
        save(image, tmp_path / split / "16" / "x.png", transparency=0)
    images = loaded(tmp_path)
    np.testing.assert_allclose(images["12"][..., 0], values / 4095, atol=0.501 / 255)
    expected = np.where(values == 0, 1, values / 65535)
    np.testing.assert_allclose(images["16"][..., 0], expected, atol=0.501 / 255)


def test_rounding_of_16_bits_is_to_the_nearest_of_256_values(tmp_path):
    values = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    for split in ("train", "test"):
        save(PIL.Image.fromarray(values), tmp_path / split / "x.png")
    _, test = data.load(tmp_path)
    expected = np.round(values.astype(np.float64) / 65535 * 255)
    np.testing.assert_array_equal(np.round(next(iter(test))[0, ..., 0] * 255), expected)


def test_batches_that_are_not_kept_in_memory_are_the_same(tmp_path, monkeypatch):
    fill(tmp_path / "train" / "a", 30, size=(8, 8))
    fill(tmp_path / "train" / "b", 5, ".webp", size=(8, 8))
    fill(tmp_path / "test" / "a", 4, size=(8, 8))
    stored = data.load(tmp_path, batch_size=8, labels=True, seed=3)
    stored = [list(split.as_numpy_iterator()) for split in stored for _ in range(2)]
    monkeypatch.setattr("keras_gen.data._pipeline._FILES_LIMIT", 0)
    streamed = data.load(tmp_path, batch_size=8, labels=True, seed=3)
    streamed = [list(split.as_numpy_iterator()) for split in streamed for _ in range(2)]
    for batches, expected in zip(streamed, stored, strict=True):
        for (x, y), (expected_x, expected_y) in zip(batches, expected, strict=True):
            np.testing.assert_array_equal(x, expected_x)
            np.testing.assert_array_equal(y, expected_y)
    assert not np.array_equal(streamed[0][0][1], streamed[1][0][1])  # another order


def test_tensorflow_decodes_plain_files_and_pillow_the_others(tmp_path, monkeypatch):
    """Otherwise reading would be slow, and nobody would see it."""
    read = []
    original = data.images.read_image

    def record(path, *arguments, **options):
        read.append(pathlib.Path(path).name)
        return original(path, *arguments, **options)

    monkeypatch.setattr("keras_gen.data.images.read_image", record)
    for split in ("train", "test"):
        save(random_image(), tmp_path / split / "a.jpg")
        save(random_image(), tmp_path / split / "b.jpg", progressive=True)
        save(random_image("L"), tmp_path / split / "c.jpg")
        save(random_image(), tmp_path / split / "d.png")
        save(random_image("L"), tmp_path / split / "e.png")
        save(random_image("RGBA"), tmp_path / split / "f.png")
    data.load(tmp_path)
    assert read == ["a.jpg", "f.png", "f.png"]  # the first one to see whether it has colors
    read.clear()
    for split in ("train", "test"):
        save(random_image("L"), tmp_path / "grey" / split / "a.png")
        save(random_image("L").convert("RGB"), tmp_path / "grey" / split / "b.png")
    data.load(tmp_path / "grey")
    assert read == ["b.png"] * 4  # twice for its colors, and twice for its pixels


def png(header, *chunks):
    """Return a PNG file of 2×2 pixels with these chunks before its pixels, `(name, content)`."""
    depth, color = header
    size = 2 * depth // 8 * {0: 1, 2: 3}[color]
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", 2, 2, depth, color, 0, 0, 0)),
        *chunks,
        (b"IDAT", zlib.compress(bytes(2 * (1 + size)))),
        (b"IEND", b""),
    ]
    content = b"\x89PNG\r\n\x1a\n"
    for name, body in parts:
        content += struct.pack(">I", len(body)) + name + body
        content += struct.pack(">I", zlib.crc32(name + body))
    return content


def test_a_transparent_color_of_16_bits_is_refused(tmp_path):
    """Pillow converts such pixels to 8 bits, so that no pixel has the transparent color."""
    fill(tmp_path, size=(2, 2))
    (tmp_path / "deep.png").write_bytes(png((16, 2), (b"tRNS", bytes(6))))
    with pytest.raises(ValueError, match=r"deep\.png, whose pixels are stored as RGB;16B\. Save"):
        data.load(tmp_path)
    (tmp_path / "deep.png").write_bytes(png((16, 0), (b"tRNS", bytes(2))))
    data.load(tmp_path)


@pytest.mark.parametrize(
    ("chunk", "plain"),
    [
        ((b"tEXt", b"Title\0cat"), True),
        ((b"tEXt", b"Raw profile type exif\0x"), False),
        ((b"zTXt", b"XML:com.adobe.xmp\0\0" + zlib.compress(b"x")), False),
        ((b"tIME", bytes([7, 230, 1, 1, 0, 0, 0])), True),
        ((b"tRNS", bytes(6)), False),
        ((b"eXIf", b"II*\0\x08\0\0\0\0\0\0\0\0\0"), False),
    ],
)
def test_chunks_of_png_files_decide_who_decodes_them(tmp_path, chunk, plain):
    (tmp_path / "x.png").write_bytes(png((8, 2), chunk))
    header = _image_files.read_header(str(tmp_path / "x.png"), WHITE)
    assert header[:4] == (2, 2, True, plain)


@pytest.mark.parametrize(
    ("size", "plain"), [(100, True), (5000, True), (60_000, True), (1_100_000, False)]
)
def test_jpeg_files_with_long_headers_are_read(tmp_path, size, plain):
    path = save(random_image(size=(8, 6)), tmp_path / "x.jpg", icc_profile=bytes(size))
    assert _image_files.read_header(str(path), WHITE)[:4] == (6, 8, True, plain)


@pytest.mark.parametrize(
    ("marker", "plain"),
    [
        (0xFFDD, True),  # restart interval, here 0
        (0xFFFE, True),  # comment
        (0xFFE2, True),  # the first and the last marker of applications after EXIF
        (0xFFEF, True),
        (0xFFE1, False),  # EXIF
        (0xFFF0, False),  # extension
    ],
)
def test_segments_of_jpeg_files_decide_who_decodes_them(tmp_path, marker, plain):
    path = save(random_image(size=(8, 6)), tmp_path / "x.jpg")
    content = path.read_bytes()
    path.write_bytes(content[:2] + struct.pack(">HHH", marker, 4, 0) + content[2:])
    assert _image_files.read_header(str(path), WHITE)[:4] == (6, 8, True, plain)


def test_headers_of_other_kinds_of_jpeg_files(tmp_path):
    path = save(random_image("CMYK", size=(8, 6)), tmp_path / "x.jpg")
    assert _image_files.read_header(str(path), WHITE)[:4] == (6, 8, True, False)
    content = save(random_image("L", size=(8, 6)), path).read_bytes()
    path.write_bytes(content.replace(b"\xff\xc0", b"\xff\xc1"))  # extended instead of baseline
    assert _image_files.read_header(str(path), WHITE)[:4] == (6, 8, False, True)


def test_a_segment_of_a_jpeg_file_can_end_anywhere(tmp_path):
    """The first read ends after 4,096 bytes. Headers that point behind the end are damaged."""
    path = save(random_image(size=(8, 6)), tmp_path / "x.jpg")
    content = path.read_bytes()
    for end in range(4080, 4100):
        comment = struct.pack(">HH", 0xFFFE, end - 4) + bytes(end - 6)
        path.write_bytes(content[:2] + comment + content[2:])
        assert _image_files.read_header(str(path), WHITE)[:4] == (6, 8, True, True)
    for end in range(10, 40):
        path.write_bytes(content[:2] + struct.pack(">HH", 0xFFFE, end) + bytes(20) + content[-2:])
        with pytest.raises(ValueError, match=r"x\.jpg, which is damaged"):
            _image_files.read_header(str(path), WHITE)


@pytest.mark.parametrize("suffix", [".bmp", ".tif"])
@pytest.mark.parametrize("background", [WHITE, (0, 0, 1)])
def test_headers_of_grey_files_that_only_pillow_reads(tmp_path, suffix, background):
    """A background with a color could show through."""
    path = save(random_image("L"), tmp_path / f"x{suffix}")
    header = _image_files.read_header(str(path), background)
    assert header == (5, 7, background != WHITE, False, False, False)
    assert not _image_files.is_colored(_image_files.read_image(str(path), background))


@pytest.mark.parametrize("size", [(6, 1), (1, 6)])
def test_one_row_or_column_can_be_invisible(tmp_path, size):
    alpha = PIL.Image.fromarray(np.repeat(np.uint8([0, 255]), 3).reshape(size[::-1]))
    image = PIL.Image.merge("LA", (PIL.Image.new("L", size, 0), alpha))
    path = str(save(image, tmp_path / "x.png"))
    assert _image_files.read_header(path, (0, 0, 0)).is_invisible
    assert not _image_files.read_header(path, WHITE).is_invisible


def test_large_jpeg_images_are_decoded_in_a_reduced_size(tmp_path):
    path = str(save(random_image(size=(64, 48)), tmp_path / "x.jpg"))
    assert _image_files.read_image(path, WHITE).size == (64, 48)
    assert _image_files.read_image(path, WHITE, least_size=20).size == (32, 24)


def test_reading_headers_closes_the_files(tmp_path):
    def next_descriptor():
        descriptor = os.open(os.devnull, os.O_RDONLY)
        os.close(descriptor)
        return descriptor

    path = str(save(random_image(), tmp_path / "x.png"))
    expected = next_descriptor()
    for _ in range(3):
        _image_files.read_header(path, WHITE)
    assert next_descriptor() == expected


def test_all_formats_are_known_in_a_new_process():
    """Pillow imports the readers of most formats only when it is asked."""
    names = ["a.png", "a.JPG", "a.jpeg", "a.webp", "a.TIF", "a.xyz", "png", "a.eps", "a"]
    call = (
        f"import runpy; module = runpy.run_path({_image_files.__file__!r}); "
        f"print([name for name in {names} if module['has_image_suffix'](name)])"
    )
    found = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(names[:5])


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_the_format_of_a_file_is_that_of_its_content(tmp_path, name):
    """The suffix does not matter, and Pillow reads JPEG and PNG files without its other modules."""
    image = random_image()
    image.save(tmp_path / "a.bmp", format=name)
    call = (
        f"import runpy, sys; module = runpy.run_path({_image_files.__file__!r}); "
        f"image = module['read_image']({str(tmp_path / 'a.bmp')!r}, (255, 255, 255)); "
        "print(image.size, 'PIL.FliImagePlugin' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == f"{image.size} {name == 'WEBP'}"


@pytest.mark.filterwarnings("ignore:Image size")  # Pillow warns about less than the double limit
@pytest.mark.parametrize("name", ["bomb.png", "bomb.gif"])
def test_one_image_of_too_many_pixels_is_refused(tmp_path, monkeypatch, name):
    path = str(save(random_image(size=(10, 13)), tmp_path / name))
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 129)
    for read in (_image_files.read_image, _image_files.read_header):
        with pytest.raises(ValueError, match=r"at most 129 pixels.*has more pixels"):
            read(path, WHITE)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 130)
    assert _image_files.read_image(path, WHITE).size == (10, 13)
    assert _image_files.read_header(path, WHITE)[:2] == (13, 10)


def test_white_must_not_be_zero(tmp_path):
    fill(tmp_path, size=(2, 2))
    values = np.array([[0, 9], [500, 60_000]], np.uint16)
    save(PIL.Image.fromarray(values), tmp_path / "negative.tif", tiffinfo={262: 0})
    with pytest.raises(ValueError, match=r"negative\.tif, .* Pillow mode I;16 from 0"):
        data.load(tmp_path, image_size=(2, 2))


@pytest.mark.parametrize("function", ["open", "pread"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch, function):
    paths = fill(tmp_path)

    def fail(*_):
        raise OSError("disk error")

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(ValueError, match=rf"{paths[0]}, which is damaged or not an image"):
            _image_files.read_header(str(paths[0]), WHITE)


def test_images_up_to_the_limit_are_kept_in_memory(tmp_path, monkeypatch):
    """They need not be on the disk any longer."""
    for more, stored in ((0, True), (-1, False)):
        folder = tmp_path / str(stored)
        paths = fill(folder, 20, size=(4, 3))
        monkeypatch.setattr("keras_gen.data._pipeline._FILES_LIMIT", 18 * 4 * 3 * 3 + more)
        train, test = data.load(folder)
        for path in paths:
            path.unlink()
        assert next(iter(test)).shape == (2, 3, 4, 3)  # 2 images are always below the limit
        if stored:
            assert next(iter(train)).shape == (18, 3, 4, 3)
        else:
            with pytest.raises(ValueError, match="Expected an image"):
                data.as_arrays(train)


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    fill(tmp_path / "images")

    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ValueError, match=re.escape("failed: Permission denied.")):
        data.load(tmp_path / "images")


@pytest.mark.parametrize("count", [1, 8, 21])
@pytest.mark.parametrize("largest", [2**14, 0], ids=["in groups", "one by one"])
def test_tensorflow_decodes_any_number_of_plain_files(tmp_path, monkeypatch, count, largest):
    """Small images are decoded in groups of eight."""
    monkeypatch.setattr(data.images, "_read_pixels", None)  # Pillow would call it
    monkeypatch.setattr(data.images, "_SMALL_IMAGE", largest)
    data.images._plain_decoder.cache_clear()  # the function may be traced already
    for split in ("train", "test"):
        fill(tmp_path / split, count)
    _, test = data.load(tmp_path, batch_size=count)
    [images] = test.as_numpy_iterator()
    data.images._plain_decoder.cache_clear()
    expected = [reference(tmp_path / "test" / f"{i:02}.png") for i in range(count)]
    np.testing.assert_allclose(images, expected, atol=1e-6)


@pytest.mark.parametrize("slow_file", [0, 1e-12, 1000], ids=["several", "first one", "one"])
@pytest.mark.parametrize("skip_corrupt", [True, False])
def test_headers_of_several_parts_keep_their_order(tmp_path, monkeypatch, slow_file, skip_corrupt):
    """One thread or several read the headers. This depends on the time of the first part."""
    monkeypatch.setattr(data.images, "_SLOW_FILE", slow_file)
    monkeypatch.setattr(data.images, "_FIRST_PART", 3)
    monkeypatch.setattr(data.images, "_PART", 4)
    paths = [save(random_image(size=(3 + i, 5)), tmp_path / f"{i:02}.png") for i in range(13)]
    files = data.images._ImageFiles(str(tmp_path), [str(path) for path in paths])
    found, headers = data.images._read_headers(files, WHITE, skip_corrupt, data.images._Notes())
    assert found.files == files.files
    assert headers.widths.tolist() == [3 + i for i in range(13)]
