"""One image file as pixels: RGB, upright, shorter side resized to `image_px` with antialiasing, centre crop.

The same pixels as torchvision's `Resize(image_px)` (bilinear, antialiased) and `CenterCrop(image_px)` on a PIL image.
"""

import hashlib
import io
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, features

from tailor.core.errors import ConfigError

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


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """An image file's pixels, or the reason why there are none."""

    pixels: NDArray[np.uint8] | None  # (3, H, W)
    sha256: str  # of the file's bytes
    problem: str  # empty if there are pixels


def decode(path: Path, image_px: int) -> Decoded:
    """An image file as uint8 (3, image_px, image_px); an incomplete image is a result, not an error."""
    sha256 = ""
    try:
        with path.open("rb") as file:
            content = file.read(LIMIT_FILE_BYTES + 1)
        if len(content) > LIMIT_FILE_BYTES:
            raise ValueError(f"more than {LIMIT_FILE_BYTES:,} bytes, which no image needs")
        sha256 = hashlib.sha256(content).hexdigest()
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return Decoded(pixels=_pixels(image, image_px), sha256=sha256, problem="")
    except UNREADABLE as error:
        return Decoded(pixels=None, sha256=sha256, problem=f"{path}: {error}")


def versions() -> dict[str, str]:
    """The libraries whose versions can change pixels."""
    import PIL

    return {"pillow": PIL.__version__, "jpeg": str(features.version("jpg")), "resized": HOW}


def check_image_px(image_px: int) -> None:
    """Raise ConfigError unless the size is in 16 ... 2048."""
    if not 16 <= image_px <= 2048:
        raise ConfigError(f"--image-px is {image_px}; expected a side in pixels from 16 to 2048, for example 176")


def _pixels(image: Image.Image, image_px: int) -> NDArray[np.uint8]:
    if image.width * image.height > LIMIT_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels, more than the limit of {LIMIT_PIXELS:,}")
    if image.mode not in MODES or DEEP.search(str(getattr(image, "tile", ()))):
        raise ValueError(f"pixels of mode {image.mode!r}, of more than 8 bits; convert it to 8 bits")
    square = _square(_rgb(_upright(image)), image_px)
    return np.ascontiguousarray(np.asarray(square, dtype=np.uint8).transpose(2, 0, 1))


def _upright(image: Image.Image) -> Image.Image:
    """The image as the camera was held; of what a camera wrote only this is read, and none of it is written."""
    image.load()
    turn = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        opaque = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", opaque.size, (0, 0, 0, 255)), opaque).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _square(image: Image.Image, image_px: int) -> Image.Image:
    width, height = image.size
    shorter = min(width, height)
    size = (int(image_px * width / shorter), int(image_px * height / shorter))
    if size[0] * size[1] > LIMIT_PIXELS:
        raise ValueError(f"{width} x {height} pixels: too narrow to be resized to a shorter side of {image_px}")
    if size != image.size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - image_px) / 2), round((size[1] - image_px) / 2)
    return image.crop((left, top, left + image_px, top + image_px))
