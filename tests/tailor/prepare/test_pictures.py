"""Pixels: the same as torchvision's from the same file; what is no whole 8-bit image has none."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, PILToTensor, Resize

from tailor.prepare.pictures import decode
from tests.tailor.prepare.pictures import encoded, picture


@pytest.mark.parametrize("size", [(40, 32), (33, 71), (100, 20), (16, 16), (9, 13)])
def test_pixels_are_those_of_torchvision(tmp_path: Path, size: tuple[int, int]) -> None:
    picture(1, size).save(tmp_path / "a.jpg")
    found = decode(tmp_path / "a.jpg", 16)
    transform = Compose([Resize(16, InterpolationMode.BILINEAR, antialias=True), CenterCrop(16), PILToTensor()])
    expected = transform(Image.open(tmp_path / "a.jpg"))
    assert found.problem == "" and found.pixels is not None
    assert torch.equal(torch.from_numpy(found.pixels), expected)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK"])
def test_every_8_bit_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    name = "a.jpg" if mode == "CMYK" else "a.png"
    picture(1, (20, 20), mode).save(tmp_path / name)
    found = decode(tmp_path / name, 16)
    assert found.pixels is not None and found.pixels.shape == (3, 16, 16) and found.pixels.dtype == np.uint8


def test_transparency_is_black(tmp_path: Path) -> None:
    Image.new("RGBA", (20, 20), (200, 100, 50, 0)).save(tmp_path / "a.png")
    found = decode(tmp_path / "a.png", 16)
    assert found.pixels is not None and not found.pixels.any() and found.is_transparent
    picture(1, (20, 20), "RGBA").save(tmp_path / "a.png")
    assert not decode(tmp_path / "a.png", 16).is_transparent


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_a_colour_that_is_transparent_is_black(tmp_path: Path, mode: str) -> None:
    plain = Image.new("RGB", (20, 20), (255, 255, 255)).convert(mode)
    plain.save(tmp_path / "a.png", transparency=plain.getpixel((0, 0)))
    found = decode(tmp_path / "a.png", 16)
    assert found.pixels is not None and not found.pixels.any()


def test_the_orientation_that_a_camera_wrote_is_applied(tmp_path: Path) -> None:
    upright = picture(3, (32, 32))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to see it upright
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    upright.save(tmp_path / "upright.png")
    turned, expected = decode(tmp_path / "turned.png", 16).pixels, decode(tmp_path / "upright.png", 16).pixels
    assert turned is not None and expected is not None
    np.testing.assert_array_equal(turned, expected)


@pytest.mark.parametrize("turn", range(1, 9))
def test_every_orientation_is_the_one_that_pillow_applies(tmp_path: Path, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    picture(3, (20, 20)).save(tmp_path / "a.png", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.png"))).transpose(2, 0, 1)
    np.testing.assert_array_equal(decode(tmp_path / "a.png", 20).pixels, expected)


def test_other_fields_of_a_camera_may_be_of_a_wrong_type(tmp_path: Path) -> None:
    """Those that are not used: XResolution and the width as texts, next to the orientation."""
    fields = [(0x0100, 2, 3, b"ab\0\0"), (0x0112, 3, 1, b"\6\0\0\0"), (0x011A, 2, 2, b"7\0\0\0")]
    entries = b"".join(struct.pack("<HHI", tag, kind, count) + value for tag, kind, count, value in fields)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(fields)) + entries + bytes(4)
    upright = picture(3, (32, 32))
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    upright.save(tmp_path / "upright.png")
    turned, expected = decode(tmp_path / "turned.png", 16), decode(tmp_path / "upright.png", 16).pixels
    assert turned.problem == "" and turned.pixels is not None and expected is not None
    np.testing.assert_array_equal(turned.pixels, expected)


def test_a_tiff_file_with_a_text_for_a_place_is_named(tmp_path: Path) -> None:
    picture(1, (20, 20)).save(tmp_path / "a.tif")
    content = (tmp_path / "a.tif").read_bytes()
    strips, text = struct.pack("<HH", 0x0111, 4), struct.pack("<HH", 0x0111, 2)
    assert content.count(strips) == 1
    (tmp_path / "a.tif").write_bytes(content.replace(strips, text))
    found = decode(tmp_path / "a.tif", 16)
    assert found.pixels is None and found.problem


def bitmap_header(width: int, height: int) -> bytes:
    """How a BMP file of so many pixels begins."""
    return struct.pack("<2sIHHI IiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (encoded(1)[:-200], "truncated"),
        (encoded(1, "PNG")[:-100], ""),
        (encoded(1)[:20], "damaged image"),
        (b"", "an empty file"),
        (bytes(5000), "one of zeros"),
        (b"no image" * 100, "no image that is read here"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "no image that is read here"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
        (b"\n<!DOCTYPE html>\n<html><head><title>404 Not Found", "a web page"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "AVIF"),
        (b"%PDF-1.7\n", "no image that is read here"),
        (bitmap_header(9_500, 9_500), "more than 89,000,000 pixels; make it smaller"),
        (bitmap_header(20_000, 20_000), "exceeds limit of"),
    ],
)
def test_what_is_no_whole_image_has_its_reason(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "broken.jpg").write_bytes(content)
    found = decode(tmp_path / "broken.jpg", 16)
    assert found.pixels is None and found.problem
    assert said in found.problem and "BytesIO" not in found.problem


def chunk(kind: bytes, content: bytes, checksum: int | None = None) -> bytes:
    """A chunk of a PNG file."""
    right = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", right if checksum is None else checksum)


def png_with(*chunks: bytes, pixels: bytes | None = None) -> bytes:
    """A PNG file with chunks behind its header."""
    content = encoded(3, "PNG") if pixels is None else pixels
    header_end = 8 + 25
    return content[:header_end] + b"".join(chunks) + content[header_end:]


def plain_jpeg() -> bytes:
    """A JPEG file that says how many pixels an inch has: Pillow then does not look for that in EXIF data."""
    content = io.BytesIO()
    picture(3).save(content, "JPEG", dpi=(72, 72))
    return content.getvalue()


def jpeg_with(marker: int, content: bytes) -> bytes:
    """A JPEG file with a segment behind its first two bytes."""
    jpeg = plain_jpeg()
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content + jpeg[2:]


EXIF_START = b"Exif\0\0"
XMP_START = b"http://ns.adobe.com/xap/1.0/\0"
LARGE = zlib.compress(bytes(2 * 2**20))  # Pillow refuses texts and profiles of more than 1 MB
JUNK: dict[str, bytes] = {
    "exif of random bytes": jpeg_with(0xE1, EXIF_START + np.random.default_rng(0).bytes(200)),
    "exif of another order": jpeg_with(0xE1, EXIF_START + b"II\0*" + bytes(20)),
    "exif cut off": jpeg_with(0xE1, EXIF_START + b"II*\0\x08\0\0\0\xff\xff"),
    "exif whose list is in itself": jpeg_with(0xE1, EXIF_START + b"MM\0*\0\0\0\x08\0\1\x87\x69\0\4\0\0\0\1\0\0\0\x08"),
    "xmp that is not utf-8": jpeg_with(0xE1, XMP_START + b"<x:xmpmeta>\xa8\xff</x:xmpmeta>"),  # ImageNet has one
    "pictures of a stereo camera": jpeg_with(0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff"),
    "photoshop's": jpeg_with(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\xff"),
    "png: exif of random bytes": png_with(chunk(b"eXIf", np.random.default_rng(0).bytes(99))),
    "png: exif as hexadecimal digits": png_with(chunk(b"tEXt", b"Raw profile type exif\0\nexif\n  8\nxyz\n")),
}


@pytest.mark.parametrize("what", JUNK)
def test_junk_beside_the_pixels_costs_no_image(tmp_path: Path, what: str) -> None:
    format = "PNG" if what.startswith("png") else "JPEG"
    (tmp_path / "plain").write_bytes(plain_jpeg() if format == "JPEG" else encoded(3, format))
    (tmp_path / "junk").write_bytes(JUNK[what])
    plain, junk = (decode(tmp_path / name, 16) for name in ("plain", "junk"))
    assert junk.problem == ""
    np.testing.assert_array_equal(junk.pixels, plain.pixels)


@pytest.mark.parametrize("damage", [chunk(b"zTXt", b"a\0\0" + LARGE), chunk(b"tEXt", b"Comment\0hello", checksum=0)])
def test_a_png_file_with_a_damaged_text_is_refused_with_its_reason(damage: bytes, tmp_path: Path) -> None:
    """It may be written again by any program; its chunks are not repaired here."""
    (tmp_path / "a.png").write_bytes(png_with(damage))
    found = decode(tmp_path / "a.png", 16)
    assert found.pixels is None and found.problem


def test_a_tiff_file_with_a_list_of_the_camera_beyond_its_end(tmp_path: Path) -> None:
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    directory[0x8769] = {0x9003: "2020:01:01 00:00:00"}
    picture(3, (20, 20)).save(tmp_path / "plain.tif", tiffinfo=directory)
    before, entry, place = (tmp_path / "plain.tif").read_bytes().partition(struct.pack("<HHI", 0x8769, 4, 1))
    assert entry
    (tmp_path / "a.tif").write_bytes(before + entry + struct.pack("<I", 10**6) + place[4:])
    np.testing.assert_array_equal(decode(tmp_path / "a.tif", 16).pixels, decode(tmp_path / "plain.tif", 16).pixels)


def test_more_than_8_bits_are_refused_and_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 100).save(tmp_path / "deep.png")
    assert "8 bits" in decode(tmp_path / "deep.png", 16).problem


def png(path: Path, pixels: NDArray[np.uint16], kind: int) -> Path:
    """A PNG file of 16 bits, which Pillow does not write in colour."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    framed = (struct.pack(">I", len(c)) + t + c + struct.pack(">I", zlib.crc32(t + c)) for t, c in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(framed))
    return path


@pytest.mark.parametrize(("channels", "kind"), [(2, 4), (3, 2), (4, 6)])
def test_more_than_8_bits_are_refused_in_colour_and_with_transparency(tmp_path: Path, channels: int, kind: int) -> None:
    deep = np.arange(400 * channels, dtype=np.uint16).reshape(20, 20, channels)
    assert "8 bits" in decode(png(tmp_path / "deep.png", deep, kind), 16).problem


def test_a_bitmap_of_16_bits_for_three_colours_has_5_or_6_of_each(tmp_path: Path) -> None:
    header = struct.pack("<2sIHHI", b"BM", 54 + 800, 0, 0, 54)
    header += struct.pack("<IiiHHIIiiII", 40, 20, 20, 1, 16, 0, 800, 0, 0, 0, 0)
    (tmp_path / "a.bmp").write_bytes(header + bytes(800))
    assert decode(tmp_path / "a.bmp", 16).problem == ""


def test_a_strip_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (60_000, 1)).save(tmp_path / "strip.png")
    assert "too narrow" in decode(tmp_path / "strip.png", 48).problem
