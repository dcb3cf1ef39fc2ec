"""One image file as pixels: RGB, upright, shorter side resized to `image_px` with antialiasing, centre crop.

The same pixels as torchvision's `Resize(image_px)` (bilinear, antialiased) and `CenterCrop(image_px)` on a PIL image.
The fingerprint says in 128 bits what an image looks like: is each cell of an 8 x 8 grid over its centre square brighter
than the mean of the grid, and each of an 8 x 9 grid than its left neighbour? Each machine finds the same bits, because
all sums are of whole numbers.
"""

import hashlib
import io
import re
import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError, features

HOW = (
    "EXIF orientation applied; transparency over black; converted to RGB; shorter side resized to image_px (bilinear, "
    "antialiased); centre crop"
)
HOW_FINGERPRINT = "mean hash and difference hash of the centre square, grey (ITU-R BT.601), 72 x 72 pixels (area means)"
SIDE_PX = 72  # of the square for the fingerprint: the least that 8 and 9 cells divide
HASH_BITS = 64
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")  # no decoders that start a program
MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")  # 8 bits or fewer
DEEP = re.compile(";16[BLN]")  # in how the file's pixels are read, of 16 bits although the mode has 8
_TURN = Image.Transpose
_TURNS = (_TURN.FLIP_LEFT_RIGHT, _TURN.ROTATE_180, _TURN.FLIP_TOP_BOTTOM, _TURN.TRANSPOSE, _TURN.ROTATE_270)
UPRIGHT = dict(enumerate((*_TURNS, _TURN.TRANSVERSE, _TURN.ROTATE_90), 2))
"""EXIF orientation -> what makes the image upright."""
LIMIT_FILE_BYTES = 2**28  # more than an image file of LIMIT_PIXELS needs
LIMIT_PIXELS = 89_000_000  # Pillow's own limit, above which it suspects a file that is made to fill the memory
UNREADABLE = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError, struct.error,
    zlib.error, Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow raises for a damaged file."""
OTHER_FILES = (
    (r"version https://git-lfs", "a pointer of Git LFS instead of the image: type git lfs pull where it came from"),
    (r"\s*<(!doctype )?html", "a web page, perhaps of a download that failed: download the image again"),
    (r".{4}ftyp", "a HEIC or AVIF image, or a film: convert it to JPEG"),
    (r"\xff\xd8\xff|\x89PNG|GIF8|RIFF", "a damaged image: its header cannot be read"),
    (r"\0*\Z", "an empty file, or one of zeros, as a copy that was interrupted leaves it: copy it again"),
)
"""How files begin that are none of FORMATS, whatever their names say -> what they are."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """An image file's pixels, or the reason why there are none."""

    pixels: NDArray[np.uint8] | None = None  # (3, H, W)
    sha256: str = ""  # of the file's bytes
    fingerprint: str = ""  # empty if there are no pixels
    problem: str = ""  # empty if there are pixels
    is_transparent: bool = False  # in places, which the pixels have in black
    frames: int = 1  # or pages, in the file; the pixels are the first one's
    size: tuple[int, int] = (0, 0)  # of the image in the file, upright
    format: str = ""


def decode(path: Path, image_px: int) -> Decoded:
    """Return an image file's pixels as uint8 (3, image_px, image_px); for an incomplete image, the reason instead."""
    sha256 = ""
    try:
        with path.open("rb") as file:
            content = file.read(LIMIT_FILE_BYTES + 1)
        if len(content) > LIMIT_FILE_BYTES:
            raise ValueError(f"more than {LIMIT_FILE_BYTES:,} bytes, which no image needs")
        sha256 = hashlib.sha256(content).hexdigest()
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            if opened.width * opened.height > LIMIT_PIXELS:
                raise ValueError(f"more than {LIMIT_PIXELS:,} pixels; make it smaller")
            if opened.mode.startswith(("I", "F")) or DEEP.search(str(getattr(opened, "tile", ()))):
                raise ValueError(f"pixels of mode {opened.mode!r}, of more than 8 bits; convert it to 8 bits")
            if opened.mode not in MODES:
                raise ValueError(f"colours of mode {opened.mode!r}; convert it to RGB")
            opened.load()
            turn = None
            with suppress(*UNREADABLE):  # of what a camera or a program wrote, only how the camera was held is read
                turn = UPRIGHT.get(opened.getexif().get(ExifTags.Base.Orientation, 1))
            image: Image.Image = opened if turn is None else opened.transpose(turn)
            is_transparent = False
            if image.has_transparency_data:  # it is laid over black
                with_alpha = image.convert("RGBA")
                is_transparent = bool(np.asarray(with_alpha)[..., 3].min() < 255)
                image = Image.alpha_composite(Image.new("RGBA", with_alpha.size, (0, 0, 0, 255)), with_alpha)
            image = image if image.mode == "RGB" else image.convert("RGB")
            file_format = str(opened.format)
        pixels = np.asarray(_square(image, image_px), dtype=np.uint8).transpose(2, 0, 1)
        frames = 1 if file_format in ("JPEG", "MPO") else _frames(content)  # of a JPEG others are previews
        return Decoded(
            pixels=np.ascontiguousarray(pixels), sha256=sha256, fingerprint=fingerprint(image),
            is_transparent=is_transparent, frames=frames, size=image.size, format=file_format,
        )  # fmt: skip
    except UnidentifiedImageError:
        start = content[:4096].decode("latin-1")
        found = [text for pattern, text in OTHER_FILES if re.match(pattern, start, re.IGNORECASE | re.DOTALL)]
        found.append(f"no image that is read here ({', '.join(FORMATS)})")
        return Decoded(sha256=sha256, problem=f"it is {found[0]}")
    except UNREADABLE as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return Decoded(sha256=sha256, problem=reason or type(error).__name__)


def versions() -> dict[str, str]:
    """Return the versions of the libraries that can change pixels, and in words what is made of the pixels."""
    jpeg = str(features.version("jpg"))
    return {"pillow": PIL.__version__, "jpeg": jpeg, "resized": HOW, "fingerprint": HOW_FINGERPRINT}


def _frames(content: bytes) -> int:
    """Return the number of frames or pages in an image file."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return int(getattr(image, "n_frames", 1))
    except UNREADABLE:  # of another frame than the first, which is read
        return 1


def _square(image: Image.Image, image_px: int) -> Image.Image:
    """Return the image resized to a shorter side of `image_px`, and of that the square in the middle."""
    width, height = image.size
    new_width, new_height = (int(image_px * side / min(image.size)) for side in image.size)
    if new_width * new_height > LIMIT_PIXELS:
        raise ValueError(f"{width} x {height} pixels: too narrow to be resized to a shorter side of {image_px}")
    if (new_width, new_height) != image.size:
        image = image.resize((new_width, new_height), Image.Resampling.BILINEAR)
    left = round((new_width - image_px) / 2)
    top = round((new_height - image_px) / 2)
    return image.crop((left, top, left + image_px, top + image_px))


def fingerprint(image: Image.Image) -> str:
    """Return the 128 bits of an RGB image as 32 hexadecimal digits: the mean hash, then the difference hash."""
    (width, height), half = image.size, min(image.size) / 2
    centre_square = (width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half)
    small = image.convert("L").resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX, box=centre_square)
    grey = np.asarray(small, dtype=np.int64)
    grid_8_8 = grey.reshape(8, 9, 8, 9).sum(axis=(1, 3))
    grid_8_9 = grey.reshape(8, 9, 9, 8).sum(axis=(1, 3))
    brighter_than_mean = grid_8_8 * grid_8_8.size > grid_8_8.sum()
    brighter_than_left = grid_8_9[:, 1:] > grid_8_9[:, :-1]
    return np.packbits(np.concatenate([brighter_than_mean, brighter_than_left])).tobytes().hex()


def bits_of(fingerprints: Sequence[str]) -> NDArray[np.bool_]:
    """Return the bits (N, 128) of fingerprints."""
    packed = np.frombuffer(bytes.fromhex("".join(fingerprints)), dtype=np.uint8)
    return np.unpackbits(packed.reshape(len(fingerprints), 2 * HASH_BITS // 8), axis=1).astype(np.bool_)
