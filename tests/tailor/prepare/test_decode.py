"""Pixels: the same as torchvision's from the same file; what is no whole 8-bit image has none."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, PILToTensor, Resize

from tailor.prepare.decode import decode
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


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (encoded(1)[:-200], "truncated"),
        (encoded(1, "PNG")[:-100], ""),
        (encoded(1)[:20], ""),
        (b"", "cannot identify"),
        (b"no image" * 100, "cannot identify"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "cannot identify"),
    ],
)
def test_what_is_no_whole_image_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "broken.jpg").write_bytes(content)
    found = decode(tmp_path / "broken.jpg", 16)
    assert found.pixels is None
    assert "broken.jpg" in found.problem and said in found.problem


def test_more_than_8_bits_are_refused_and_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 100).save(tmp_path / "deep.png")
    assert "8 bits" in decode(tmp_path / "deep.png", 16).problem


def test_a_strip_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (60_000, 1)).save(tmp_path / "strip.png")
    assert "too narrow" in decode(tmp_path / "strip.png", 48).problem
