"""Read one image file as grey or color pixels of 8 bits.

`read_image` uses Pillow, which reads all files correctly. The image operations of TensorFlow are
several times faster, but they ignore, for instance, orientation, transparency and palettes.
`read_header` finds out whether TensorFlow and Pillow decode a file to the same pixels.
"""

from __future__ import annotations

import contextlib
import functools
import os
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageOps

Color = tuple[int, int, int]

# Formats that Pillow only identifies, decodes with other programs, or whose values have no range.
_EXCLUDED_FORMATS = {
    "BUFR",
    "EPS",
    "FITS",
    "GRIB",
    "HDF5",
    "IPTC",
    "MCIDAS",
    "MPEG",
    "SPIDER",
    "WMF",
}
_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
# In files of these formats, the first frame is the whole image. The other frames are its parts.
_SEVERAL_IMAGES = ("MPO", "PSD")
_COMMON_SUFFIXES = {".jpg", ".jpeg", ".png"}
_JPEG_START = b"\xff\xd8"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_HEADER_BYTES = 4096
_PLAIN_PNG_CHUNKS = {
    b"IHDR",
    b"IDAT",
    b"IEND",
    b"PLTE",
    b"bKGD",
    b"cHRM",
    b"gAMA",
    b"hIST",
    b"iCCP",
    b"pHYs",
    b"sBIT",
    b"sRGB",
    b"tEXt",
    b"tIME",
    b"zTXt",
}
_MOST_PNG_CHUNKS = 10_000
_JPEG_SIZE_MARKERS = (0xFFC0, 0xFFC1, 0xFFC2)  # baseline, extended, progressive; Huffman coding
_JPEG_SCAN_MARKER = 0xFFDA
# tables, comments, and data of applications, except 0xFFE1, which is EXIF data
_JPEG_OTHER_MARKERS = {0xFFC4, 0xFFDB, 0xFFDD, 0xFFFE, 0xFFE0, *range(0xFFE2, 0xFFF0)}


class Header(NamedTuple):
    """The size and other properties of an image, which the function `read_header` returns."""

    height: int
    width: int
    is_color: bool
    """Whether the image can have colors.

    The value is True if the file can store colors, even if all pixels are grey. It is also True if
    `is_plain` is False and the background color is not grey. Otherwise it is False."""
    is_plain: bool
    """Whether TensorFlow and Pillow decode the file to the same pixels."""
    has_frames: bool = False
    """Whether the file contains several frames or pages, such as an animation.

    The value is False for MPO and PSD files, because their first frame is the whole image."""
    is_invisible: bool = False
    """Whether a transparent image disappears on the background color that the user has chosen.

    For instance, black text without a background disappears on a black background."""


@functools.cache
def _formats() -> tuple[str, ...]:
    """Return the names of all readable image formats, in the order in which Pillow tries them."""
    PIL.Image.init()
    return tuple(name for name in PIL.Image.ID if name not in _EXCLUDED_FORMATS)


@functools.cache
def _suffixes() -> frozenset[str]:
    """Return the file suffixes of all readable image formats, such as ".png"."""
    readable = set(_formats())
    extensions = PIL.Image.registered_extensions()
    return frozenset(suffix for suffix, name in extensions.items() if name in readable)


def has_image_suffix(name: str) -> bool:
    """Return whether the name of a file has the suffix of a readable image format."""
    suffix = os.path.splitext(name)[1].lower()
    # To list all suffixes, Pillow imports its modules for all formats. This takes 20 ms.
    return suffix in _COMMON_SUFFIXES or suffix in _suffixes()


def _open(path: str) -> PIL.Image.Image:
    """Open an image file with Pillow, without reading its pixels."""
    with open(path, "rb") as file:
        start = file.read(len(_PNG_START))
    for name, expected in (("JPEG", _JPEG_START), ("PNG", _PNG_START)):
        if start.startswith(expected):
            PIL.Image.preinit()  # imports the modules for the most common formats
            return PIL.Image.open(path, formats=(name,))
    return PIL.Image.open(path, formats=_formats())


def printable(path: str) -> str:
    r"""Return a path as text for a message. Bytes that are not UTF-8 become escapes like `\xe9`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def read_header(path: str, background: Color) -> Header:
    """Read the size and other properties of an image, if possible without decoding its pixels.

    Args:
        path: Path of the image file.
        background: Color over which a transparent image is drawn: red, green and blue, each from 0
            to 255.

    Returns:
        A `Header`. If the EXIF orientation rotates the image, `height` and `width` are those of
        the rotated image.

    Raises:
        ValueError: If the file is not an image, or if the image has too many pixels.
    """
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise _unreadable(path) from error
    try:
        header = _read_plain_header(file)
    except OSError as error:
        raise _unreadable(path) from error
    finally:
        os.close(file)
    if header is None:
        return _read_other_header(path, background)
    _check_size(path, header.width, header.height)
    return header


def read_image(path: str, background: Color, least_size: int | None = None) -> PIL.Image.Image:
    """Read an image file as a grey image (mode "L") or a color image (mode "RGB") of 8 bits.

    The image is rotated as its EXIF orientation says. A transparent image is drawn over the
    background color. If the file has several frames or pages, only the first one is read. Color
    profiles are ignored.

    Args:
        path: Path of the image file.
        background: Color over which a transparent image is drawn: red, green and blue, each from 0
            to 255.
        least_size: Smallest height and width that the caller needs, in pixels. If the height and
            the width of a JPEG image are at least twice `least_size`, the image may be returned in
            a reduced size. Its height and width are then still at least `least_size`. Default: the
            image keeps its size.

    Raises:
        ValueError: If the file is damaged or not an image, or if it has too many pixels. Also if
            the image cannot be converted to 8 bits, for instance because its pixels are 32-bit
            integers.
    """
    with _reading(path), _open(path) as image:
        _check_size(path, *image.size)
        _check_transparent_color(path, image)
        if least_size is not None:
            image.draft(None, (least_size, least_size))
        image.load()
        PIL.ImageOps.exif_transpose(image, in_place=True)
        return _to_8_bits(path, image, background)


def is_colored(image: PIL.Image.Image) -> bool:
    """Return whether an image contains a pixel that is not grey.

    Args:
        image: An image of mode "L" or "RGB".
    """
    if image.mode == "L":
        return False
    pixels = np.asarray(image)
    return bool(np.any(pixels != pixels[..., :1]))


class UnreadableImageError(ValueError):
    """An image file cannot be read. The message says why, and what the user can do."""


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    """Convert each error inside a `with` block to an `UnreadableImageError` about `path`."""
    try:
        yield
    except UnreadableImageError:
        raise
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        raise _too_large(path) from error
    except Exception as error:  # damaged files raise errors of many classes inside Pillow
        raise _unreadable(path) from error


def _unreadable(path: str) -> UnreadableImageError:
    return UnreadableImageError(
        f"Expected an image. Received: {printable(path)}, which is damaged or not an image. "
        "Remove the file. To train without such files, you can also pass `skip_corrupt=True`."
    )


def _check_size(path: str, width: int, height: int) -> None:
    """Raise an error if an image has more pixels than `PIL.Image.MAX_IMAGE_PIXELS`.

    This check is necessary, because even a small file can contain an image that does not fit into
    memory.
    """
    limit = PIL.Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise _too_large(path)


def _too_large(path: str) -> UnreadableImageError:
    return UnreadableImageError(
        f"Expected an image of at most {PIL.Image.MAX_IMAGE_PIXELS:,} pixels. Received: "
        f"{printable(path)}, which has more pixels. If you trust the file, set "
        "`PIL.Image.MAX_IMAGE_PIXELS` to a larger number. Otherwise remove the file. To train "
        "without such files, you can also pass `skip_corrupt=True`."
    )


def _check_transparent_color(path: str, image: PIL.Image.Image) -> None:
    """Raise an `UnreadableImageError` if Pillow would not apply the transparent color of a file.

    A PNG file can declare that all pixels of one color are transparent. For some files, Pillow
    converts the pixels to 8 bits, but does not convert this color. Then no pixel would have the
    transparent color.
    """
    transparent = image.info.get("transparency")
    if image.format != "PNG" or not isinstance(transparent, int | tuple) or image.mode == "P":
        return
    tiles = getattr(image, "tile", None)
    stored = tiles[0].args if tiles else None
    if stored not in (image.mode, "1", "I;16B"):
        raise UnreadableImageError(
            "Expected a PNG file without a transparent color, or with 8 bits per channel. "
            f"Received: {printable(path)}, whose pixels are stored as {stored}. Save the file "
            "again with an alpha channel."
        )


def _read_plain_header(file: int) -> Header | None:
    """Read the header of a plain image file.

    A plain file is a JPEG or PNG file that TensorFlow and Pillow decode to the same pixels.

    Args:
        file: File descriptor of the open file, as `os.open` returns it.

    Returns:
        The header, or None if the file is not plain.
    """
    head = os.pread(file, _HEADER_BYTES, 0)
    if head.startswith(_JPEG_START):
        return _read_plain_jpeg(file, head)
    if head.startswith(_PNG_START):
        return _read_plain_png(file, head)
    return None


def _read_plain_jpeg(file: int, head: bytes) -> Header | None:
    """Read the header of a JPEG file if TensorFlow and Pillow decode the file to the same pixels.

    This is the case for a complete grey or RGB file without EXIF data. For any other file, the
    function returns None.

    Args:
        file: File descriptor of the open file, as `os.open` returns it.
        head: The first 4,096 bytes of the file, or all bytes if the file is shorter.
    """
    size = len(head) if len(head) < _HEADER_BYTES else os.fstat(file).st_size
    end = head[-2:] if size == len(head) else os.pread(file, 2, size - 2)
    if end != b"\xff\xd9":  # the file is cut, or more data follow the image
        return None
    header = None
    position = 2
    while True:
        if position + 10 > len(head):
            if position + 10 > size or len(head) > _HEADER_BYTES:
                return None
            head = os.pread(file, 2**20, 0)
            continue
        marker, length = struct.unpack_from(">HH", head, position)
        if marker == _JPEG_SCAN_MARKER:
            return header
        if marker in _JPEG_SIZE_MARKERS:
            precision, height, width, channels = struct.unpack_from(">BHHB", head, position + 4)
            if header or precision != 8 or channels not in (1, 3) or not height or not width:
                return None
            header = Header(height, width, is_color=channels == 3, is_plain=True)
        elif marker not in _JPEG_OTHER_MARKERS:
            return None
        position += 2 + length


def _read_plain_png(file: int, head: bytes) -> Header | None:
    """Read the header of a PNG file if TensorFlow and Pillow decode the file to the same pixels.

    Both decode a grey or RGB file with 8 bits per channel to the same pixels, if the file has no
    transparency, EXIF data or animation. For any other file, the function returns None.

    Args:
        file: File descriptor of the open file, as `os.open` returns it.
        head: The first 4,096 bytes of the file, or all bytes if the file is shorter.
    """
    if len(head) < 33:
        return None
    width, height, depth, color = struct.unpack_from(">IIBB", head, 16)
    if depth != 8 or color not in (0, 2) or not height or not width:
        return None
    position = 8
    for _ in range(_MOST_PNG_CHUNKS):
        chunk = head[position : position + 11]
        if len(chunk) < 11:
            chunk = os.pread(file, 11, position)
        if len(chunk) < 11:
            return None
        kind = chunk[4:8]
        if kind not in _PLAIN_PNG_CHUNKS:
            return None
        if kind in (b"tEXt", b"zTXt") and chunk[8:11] in (b"Raw", b"XML"):
            return None  # the orientation may be in such a text
        if kind == b"IEND":
            return Header(height, width, is_color=color == 2, is_plain=True)
        position += 12 + int.from_bytes(chunk[:4], "big")
    return None


def _read_other_header(path: str, background: Color) -> Header:
    """Read the header of an image file that is not plain, with Pillow.

    A plain file is a JPEG or PNG file that TensorFlow and Pillow decode to the same pixels.
    """
    with _reading(path), _open(path) as image:
        _check_size(path, *image.size)
        width, height = image.size
        if image.format != "TIFF":  # Pillow has already exchanged the sides of TIFF images
            # `getexif` of a PNG image would decode the image, the method of the base class does not
            exif = PIL.Image.Image.getexif(image)
            orientation = exif.get(PIL.ExifTags.Base.Orientation, 1)
            if orientation in (5, 6, 7, 8):
                width, height = height, width
        has_frames = getattr(image, "is_animated", False) and image.format not in _SEVERAL_IMAGES
        return Header(
            height,
            width,
            is_color=image.mode not in _GREY_MODES or background != (background[0],) * 3,
            is_plain=False,
            has_frames=has_frames,
            is_invisible=_is_invisible(image, background),
        )


def _is_invisible(image: PIL.Image.Image, background: Color) -> bool:
    """Return whether a transparent image has one uniform color after it is drawn over a background.

    For instance, the function returns True for black text without a background, drawn over black.
    The function returns False in these cases: the image has no transparency, all its pixels have
    the same transparency, or its grey values have more than 8 bits.
    """
    if not image.has_transparency_data or _is_deep(image):
        return False
    alpha = _with_alpha(image).getchannel("A")
    if len(set(alpha.getextrema())) == 1:
        return False
    pixels = np.asarray(_over(image, background))
    return bool(np.all(pixels == pixels[0, 0]))


def _to_8_bits(path: str, image: PIL.Image.Image, background: Color) -> PIL.Image.Image:
    """Convert a Pillow image of any mode to mode "L" or "RGB", with 8 bits per channel.

    An image with transparency is drawn over the color `background`, and is returned in mode "RGB".
    """
    if _is_deep(image):
        image = _deep_to_8_bits(path, image)
    if image.has_transparency_data:
        return _over(image, background)
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _over(image: PIL.Image.Image, background: Color) -> PIL.Image.Image:
    """Draw a transparent image over the background color. Return the result in mode "RGB"."""
    canvas = PIL.Image.new("RGBA", image.size, (*background, 255))
    return PIL.Image.alpha_composite(canvas, _with_alpha(image)).convert("RGB")


def _with_alpha(image: PIL.Image.Image) -> PIL.Image.Image:
    """Convert an image with 8 bits per channel to mode "RGBA"."""
    if image.mode == "La":  # Pillow can convert this mode only to "LA"
        image = image.convert("LA")
    return image.convert("RGBA")


def _is_deep(image: PIL.Image.Image) -> bool:
    """Return whether an image has grey values of more than 8 bits."""
    return image.mode == "F" or image.mode.startswith("I")


def _deep_to_8_bits(path: str, image: PIL.Image.Image) -> PIL.Image.Image:
    """Scale the grey values of an image to 8 bits.

    The original values have 16 bits, or they are floats in [0, 1]. The result has the Pillow mode
    "L", which means grey. If the file declares that a grey value is transparent, the result has the
    mode "LA", which means grey with transparency. Pillow's method `convert` is not used, because it
    replaces all values above 255 by 255.

    Args:
        path: Path of the image file, for the error message.
        image: Image of mode "F" for floats, or of a mode that begins with "I" for integers.

    Raises:
        UnreadableImageError: If a value is outside of the range from black to white, or if this
            range is not known.
    """
    values = np.asarray(image)
    low, high = values.min(), values.max()
    largest = _largest_value(image)
    if largest is None or not (low >= 0 and high <= largest):
        raise UnreadableImageError(
            "Expected grey values of 8 or 16 bits, or floats in [0, 1]. Received: "
            f"{printable(path)}, which has values of the Pillow mode {image.mode} from {low:g} to "
            f"{high:g}. Save the image with 8 or 16 bits. To train without such files, you can "
            "also pass `skip_corrupt=True`."
        )
    pixels = np.round(values.astype(np.float64) * (255 / largest)).astype(np.uint8)
    grey = PIL.Image.fromarray(pixels)
    transparent = image.info.get("transparency")
    if transparent is None:
        return grey
    alpha = np.where(values == transparent, 0, 255).astype(np.uint8)
    return PIL.Image.merge("LA", (grey, PIL.Image.fromarray(alpha)))


def _largest_value(image: PIL.Image.Image) -> float | None:
    """Return the value of a white pixel in an image with the Pillow mode "I;16", "I" or "F".

    If this value is not known, return None. Also return None if the value is 0, as in some TIFF
    files.
    """
    tags: Any = getattr(image, "tag_v2", {})
    if tags.get(PIL.ExifTags.Base.PhotometricInterpretation, 1) != 1:
        return None  # zero means white, which Pillow ignores
    if image.mode == "F":
        return 1.0
    if image.mode.startswith("I;16"):
        bits = tags.get(PIL.ExifTags.Base.BitsPerSample, (16,))[0]
        return float(2**bits - 1)
    return 65535.0 if image.format == "PPM" else None
