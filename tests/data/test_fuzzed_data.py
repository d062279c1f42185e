"""Damaged image and .npz files give a result or a `ValueError`, never another error or a crash."""

import faulthandler
import io
import warnings

import numpy as np
import PIL.Image
import pytest

from keras_gen import data
from keras_gen.data._image_files import read_header, read_image

FORMATS = {
    ".png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    ".jpg": ("L", "RGB", "CMYK"),
    ".webp": ("RGB", "RGBA"),
    ".tif": ("1", "L", "RGB", "CMYK", "I;16", "F"),
    ".bmp": ("1", "L", "P", "RGB"),
    ".gif": ("L", "P"),
    ".ppm": ("1", "L", "RGB", "I"),
    ".tga": ("L", "RGBA"),
    ".jp2": ("L", "RGB"),
    ".ico": ("RGBA",),
    ".pcx": ("L", "P"),
    ".sgi": ("L", "RGB"),
}
NUMBERS = [
    pytest.param(150, id="few"),
    pytest.param(1000, id="many"),
]


@pytest.fixture(autouse=True)
def _no_hang():
    """End the process with a traceback if a test needs far longer than it should."""
    faulthandler.dump_traceback_later(300, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def damaged(content, random):
    """Return the bytes of a file after one of five kinds of damage."""
    content = bytearray(content)
    kind = random.integers(5)
    place = random.integers(len(content))
    if kind == 0:  # cut
        return bytes(content[:place])
    if kind == 1:  # a part is missing
        del content[place : place + random.integers(1, 20)]
    elif kind == 2:  # a part is zero, as after a crash of the file system
        content[place:] = bytes(len(content) - place)
    else:  # bytes have changed: anywhere, or in the header
        limit = len(content) if kind == 3 else min(60, len(content))
        for place in random.integers(limit, size=random.integers(1, 6)):
            content[place] = random.integers(256)
    return bytes(content)


def encoded(suffix, mode, random):
    """Return the bytes of an image file of random values."""
    values = random.integers(0, 256, (16, 16, 3)).astype(np.uint8)
    image = PIL.Image.fromarray(values).convert("L" if mode in ("I;16", "I") else mode)
    if mode in ("I;16", "I"):
        image = PIL.Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    if mode == "F":
        image = image.point(lambda value: value / 255)
    file = io.BytesIO()
    options = {}
    if suffix in (".jpg", ".png", ".tif", ".webp") and random.random() < 0.5:
        options["exif"] = PIL.Image.Exif()
        options["exif"][0x0112] = int(random.integers(1, 9))
    image.save(file, format=PIL.Image.registered_extensions()[suffix], **options)
    return file.getvalue()


@pytest.mark.filterwarnings("ignore")  # about the damages, from Pillow and of the skipped files
@pytest.mark.parametrize("number", NUMBERS)
def test_damaged_images_are_read_or_refused(tmp_path, number):
    random = np.random.default_rng(number)
    sources = [(suffix, mode) for suffix, modes in FORMATS.items() for mode in modes]
    readable = set()
    for i in range(number):
        suffix, mode = sources[i % len(sources)]
        name = f"{i:04d}{suffix}"
        path = tmp_path / name
        path.write_bytes(damaged(encoded(suffix, mode, random), random))
        try:
            read_header(str(path), (255, 255, 255))
            image = read_image(str(path), (255, 255, 255))
        except ValueError:
            continue
        assert image.mode in ("L", "RGB")
        readable.add(name)
    assert number / 4 < len(readable) < number
    train, test = data.load(tmp_path, image_size=(16, 16), skip_corrupt=True)
    found = data.as_arrays(train.concatenate(test))[0]
    assert found.shape == (len(readable), 16, 16, 3)
    assert np.all((found >= 0) & (found <= 1))
    for path in tmp_path.iterdir():
        if path.name not in readable and random.random() < 20 / number:
            with pytest.raises(ValueError, match=path.name):
                data.load(path_alone(tmp_path, path), image_size=(16, 16))


def path_alone(folder, path):
    """Return a folder with undamaged images and this file."""
    alone = folder / "alone" / path.stem
    alone.mkdir(parents=True)
    for i in range(10):
        PIL.Image.new("RGB", (16, 16), (i, 100, 200)).save(alone / f"{i}.png")
    path.rename(alone / path.name)
    return alone


@pytest.mark.parametrize("number", NUMBERS)
def test_damaged_npz_files_are_read_or_refused(tmp_path, number):
    random = np.random.default_rng(number)
    contents = []
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        pixels = random.integers(0, 256, (20, 4, 4), np.uint8)
        save(file, x_train=pixels, y_train=np.arange(20), x_test=pixels, y_test=np.arange(20))
        contents.append(file.getvalue())
    refused = 0
    for i in range(number):
        path = tmp_path / f"{i}.npz"
        path.write_bytes(damaged(contents[i % 2], random))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # NumPy warns about some headers
                train, _ = data.load(path, labels=True)
        except ValueError:
            refused += 1
        else:
            assert train.element_spec[0].dtype == np.float32
    assert number / 3 < refused
