"""images.csv and the digest of files: equal for every version of Python, and another one for whatever changes data."""

import json
from pathlib import Path

import pytest

from tailor.common.errors import ConfigError
from tailor.facts import manifest
from tests.tailor.prepare.pictures import data, pack, prepare

BMP = bytes.fromhex(  # 2 x 2 pixels: an image whose bytes no library writes here
    "424d460000000000000036000000280000000200000002000000010018000000000010000000130b0000130b00000000000000000000"
    "0000ff00ff0000000000ff0000ffffff0000"
)
GOLDEN = "2ecad94493609afdab8bec9798a175e1930b1e5f5bf29d154e67e2354afbb4b3"


def bitmaps(folder: Path) -> Path:
    """Two classes of three images, all different."""
    for number, name in enumerate(f"{c}/{n}.bmp" for c in ("cat", "dog") for n in range(3)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(BMP[:-8] + bytes([number]) + BMP[-7:])
    return folder


def files_digest(origin: Path, root: Path, name: str, *options: object) -> str:
    prepare(name, origin, root, *options)
    return manifest.read(root, name).files_digest


def test_a_pixel_a_label_a_file_a_split_and_a_size_change_the_digest_of_files(tmp_path: Path) -> None:
    origin = bitmaps(tmp_path / "images")
    digests = {
        "same": files_digest(origin, tmp_path, "same"),
        "size": files_digest(origin, tmp_path, "size", "--image-px", 17),
        "split": files_digest(origin, tmp_path, "split", "--test-fraction", 0.5),
    }
    assert digests["same"] == GOLDEN  # each version of Python that runs this test has to find it
    assert files_digest(pack(origin, tmp_path / "a.zip"), tmp_path, "packed") == GOLDEN
    (origin / "cat" / "0.bmp").write_bytes(BMP[:-8] + b"\x77" + BMP[-7:])
    digests["pixel"] = files_digest(origin, tmp_path, "pixel")
    bitmaps(origin)
    (origin / "dog" / "5.bmp").write_bytes(BMP[:-8] + b"\x99" + BMP[-7:])
    digests["file"] = files_digest(origin, tmp_path, "file")
    (origin / "dog" / "5.bmp").unlink()
    (origin / "cat" / "2.bmp").rename(origin / "dog" / "9.bmp")
    digests["label"] = files_digest(origin, tmp_path, "label")
    assert len({*digests.values()}) == len(digests)
    said, found = data("check", tmp_path / "same"), manifest.read(tmp_path, "same")
    assert f"digest of files {GOLDEN}" in said and f"pixels {found.digest}, as decoded by pillow " in said


def test_a_digest_of_files_that_was_typed_in_is_refused(tmp_path: Path) -> None:
    prepare("animals", bitmaps(tmp_path / "images"), tmp_path)
    path = tmp_path / "animals" / "manifest.json"
    content = json.loads(path.read_text()) | {"files_digest": "0" * 64}
    path.write_text(json.dumps(content | {"sha256": manifest.manifest_sha256(content)}))
    with pytest.raises(ConfigError, match="digest of files is 0000"):
        data("check", tmp_path / "animals")
