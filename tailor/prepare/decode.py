"""One image file as pixels: RGB, upright, shorter side resized to `image_px` with antialiasing, centre crop.

The same pixels as torchvision's `Resize(image_px)` (bilinear, antialiased) and `CenterCrop(image_px)` on a PIL image.
Only pixels count: what else is in a file (dates, places, texts, colour profiles) may be damaged.
"""

import hashlib
import io
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError, features

from tailor.common.errors import ConfigError
from tailor.prepare import fingerprint

HOW = (
    "EXIF orientation applied; transparency over black; converted to RGB; shorter side resized to image_px (bilinear, "
    "antialiased); centre crop"
)
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")  # no decoders that start a program
MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")  # 8 bits or fewer
DEEP = re.compile(";16[BLN]")  # in how the file's pixels are read, of 16 bits although the mode has 8
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF orientation -> what makes the image upright
LIMIT_FILE_BYTES = 2**28  # more than an image file of LIMIT_PIXELS needs
LIMIT_PIXELS = 89_000_000  # Pillow's own limit, above which it suspects a file that is made to fill the memory
TOO_LARGE = f"more than {LIMIT_PIXELS:,} pixels; make it smaller"
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,  # such as a text for the place of a TIFF file's pixels
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
OTHER_FILES = (
    (r"version https://git-lfs", "a pointer of Git LFS instead of the image: type git lfs pull where it came from"),
    (r"\s*<(!doctype )?html", "a web page, perhaps of a download that failed: download the image again"),
    (r"\s*<(\?xml|svg)", "an SVG or XML file: convert it to PNG"),
    (r".{4}ftyp(hei|hev|mif1|msf1)", "a HEIC image: convert it to JPEG"),
    (r".{4}ftypavi", "an AVIF image: convert it to JPEG or PNG"),
    (r"%PDF", "a PDF file: convert it to PNG"),
    (r"\xff\n|\0\0\0\x0cJXL ", "a JPEG XL image: convert it to PNG"),
    (r"\0\0\0\x0cjP  |\xffO\xffQ", "a JPEG 2000 image: convert it to PNG"),
    (r"8BPS", "a Photoshop file: convert it to PNG"),
    (r"\xff\xd8\xff|\x89PNG|GIF8|RIFF", "a damaged image: its header cannot be read"),
    (r"\Z", "an empty file"),
    (r"\0+\Z", "a file of zeros, as a copy that was interrupted leaves it: copy it again"),
)
"""How files begin that are none of FORMATS, whatever their names say -> what they are."""
JPEG_START = b"\xff\xd8"
PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_OF_PIXELS = (b"tRNS", b"acTL", b"fcTL", b"fdAT")  # optional chunks without which there are other pixels


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """An image file's pixels, or the reason why there are none."""

    pixels: NDArray[np.uint8] | None  # (3, H, W)
    sha256: str  # of the file's bytes
    fingerprint: str  # empty if there are no pixels
    problem: str  # empty if there are pixels
    is_transparent: bool = False  # in places, which the pixels have in black
    frames: int = 1  # or pages, in the file; the pixels are the first one's
    shorter_side_px: int = 0  # of the image in the file; 0 if there are no pixels


def decode(path: Path, image_px: int) -> Decoded:
    """Return an image file's pixels as uint8 (3, image_px, image_px); for an incomplete image, the reason instead."""
    sha256 = ""
    try:
        with path.open("rb") as file:
            content = file.read(LIMIT_FILE_BYTES + 1)
        if len(content) > LIMIT_FILE_BYTES:
            raise ValueError(f"more than {LIMIT_FILE_BYTES:,} bytes, which no image needs")
        sha256 = hashlib.sha256(content).hexdigest()
        image, is_transparent = _read(content)
        pixels = np.asarray(_square(image, image_px), dtype=np.uint8).transpose(2, 0, 1)
        return Decoded(
            pixels=np.ascontiguousarray(pixels),
            sha256=sha256,
            fingerprint=fingerprint.fingerprint(image),
            problem="",
            is_transparent=is_transparent,
            frames=_frames(content),
            shorter_side_px=min(image.size),
        )
    except UNREADABLE as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return Decoded(pixels=None, sha256=sha256, fingerprint="", problem=reason)


def versions() -> dict[str, str]:
    """Return the versions of the libraries that can change pixels, and in words what is made of the pixels."""
    import PIL

    return {
        "pillow": PIL.__version__,
        "jpeg": str(features.version("jpg")),
        "resized": HOW,
        "fingerprint": fingerprint.HOW,
    }


def check_image_px(image_px: int) -> None:
    """Raise ConfigError unless the size is in 16 ... 2048."""
    if not 16 <= image_px <= 2048:
        raise ConfigError(f"--image-px is {image_px}; expected a side in pixels from 16 to 2048, for example 176")


def _read(content: bytes) -> tuple[Image.Image, bool]:
    """Return the image in a file's bytes, upright, RGB, and whether it was transparent. Raises one of UNREADABLE."""
    try:
        return _open(content)
    except Image.DecompressionBombError as error:  # above twice Pillow's limit
        raise ValueError(TOO_LARGE) from error
    except UNREADABLE as error:
        if content.startswith(PNG_START):
            with suppress(*UNREADABLE):  # if this fails, too, the pixels are damaged, and the first error says how
                return _open(_without_texts(content))
        if isinstance(error, UnidentifiedImageError):
            raise ValueError(_describe_other_file(content)) from error
        raise


def _open(content: bytes) -> tuple[Image.Image, bool]:
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        if image.width * image.height > LIMIT_PIXELS:
            raise ValueError(TOO_LARGE)
        if image.mode.startswith(("I", "F")) or DEEP.search(str(getattr(image, "tile", ()))):
            raise ValueError(f"pixels of mode {image.mode!r}, of more than 8 bits; convert it to 8 bits")
        if image.mode not in MODES:
            raise ValueError(f"colours of mode {image.mode!r}; convert it to RGB")
        return _rgb(_upright(image))


def _frames(content: bytes) -> int:
    """Return the number of frames or pages in an image file; 1 for JPEG, whose others are previews."""
    if content.startswith(JPEG_START):
        return 1
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return int(getattr(image, "n_frames", 1))
    except (*UNREADABLE, LookupError, AttributeError):  # of another frame than the first, which is read
        return 1


def _describe_other_file(content: bytes) -> str:
    """Return what a file is that is none of FORMATS."""
    start = content[:4096].decode("latin-1")
    for pattern, description in OTHER_FILES:
        if re.match(pattern, start, re.IGNORECASE | re.DOTALL):
            return f"it is {description}"
    return f"it is no image that is read here ({', '.join(FORMATS)})"


def _without_texts(png: bytes) -> bytes:
    """Return a PNG file with only the chunks that its pixels need: texts and profiles may be damaged, or huge."""
    needed_chunks = []
    for kind, chunk in _chunks(png):
        is_optional = kind[:1].islower()  # in PNG, bit 5 of the first letter says so
        is_whole = zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        has_orientation = kind == b"eXIf" and is_whole
        if not is_optional or kind in PNG_OF_PIXELS or has_orientation:
            needed_chunks.append(chunk)
    return PNG_START + b"".join(needed_chunks)


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and bytes of each chunk of a PNG file: length (4), kind (4), content, checksum (4)."""
    start = len(PNG_START)
    while start + 12 <= len(png):
        (length,) = struct.unpack_from(">I", png, start)
        end = start + 12 + length
        yield png[start + 4 : start + 8], png[start:end]
        start = end


def _upright(image: Image.Image) -> Image.Image:
    """Return the image turned as the camera was held, which is all that is read of what a camera wrote."""
    image.load()
    try:
        turn = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (*UNREADABLE, LookupError, ArithmeticError, AttributeError):  # what a camera or a program wrote is damaged
        turn = None
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image) -> tuple[Image.Image, bool]:
    """Return the image in RGB, over black where it is transparent, and whether it is so anywhere."""
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        black = Image.new("RGBA", with_alpha.size, (0, 0, 0, 255))
        is_transparent = bool(np.asarray(with_alpha)[..., 3].min() < 255)
        return Image.alpha_composite(black, with_alpha).convert("RGB"), is_transparent
    return (image if image.mode == "RGB" else image.convert("RGB")), False


def _square(image: Image.Image, image_px: int) -> Image.Image:
    """Return the image resized to a shorter side of `image_px`, and of that the square in the middle."""
    width, height = image.size
    shorter = min(width, height)
    new_width = int(image_px * width / shorter)
    new_height = int(image_px * height / shorter)
    if new_width * new_height > LIMIT_PIXELS:
        raise ValueError(f"{width} x {height} pixels: too narrow to be resized to a shorter side of {image_px}")
    if (new_width, new_height) != image.size:
        image = image.resize((new_width, new_height), Image.Resampling.BILINEAR)
    left = round((new_width - image_px) / 2)
    top = round((new_height - image_px) / 2)
    return image.crop((left, top, left + image_px, top + image_px))
