"""Archives and images of official data sets: the published ones are told from all others, which are refused by name."""

import errno
import hashlib
import io
import itertools
import json
import os
import stat
import sys
from pathlib import Path

import pytest

from tailor.common.errors import ConfigError
from tailor.facts import manifest
from tailor.facts.official import ALGORITHMS, OFFICIAL, OfficialFile, OfficialSet
from tailor.prepare.layouts import LAYOUTS
from tailor.prepare.listing import TEST, TRAIN, FileListing, ImageFile
from tailor.prepare.published import check_counts, verify_files
from tests.tailor.prepare.pictures import data, fill, pack, prepare
from tests.tailor.prepare.test_layouts import cub200

CONTENT = b"an archive"
SETID_BYTES = 14_989


def birds(folder: Path) -> Path:
    """A small archive in the layout of CUB-200-2011."""
    return pack(cub200(folder / "unpacked"), folder / "CUB_200_2011.tgz")


def official(algorithm: str | None, digest: str = "", size_bytes: int | None = len(CONTENT)) -> OfficialSet:
    file = OfficialFile(
        name="a.tar", size_bytes=size_bytes, algorithm=algorithm, digest=digest, published_in="a program"
    )
    return OfficialSet(title="Birds", page="https://birds.org", files=(file,), classes=2, images=4, test_images=2)


def test_the_facts_are_complete_and_those_of_the_layouts() -> None:
    assert set(OFFICIAL) == set(LAYOUTS) - {"folder"}
    for facts in OFFICIAL.values():
        assert facts.page.startswith("http") and 0 < facts.test_images < facts.images and facts.classes > 1
        for file in facts.files:
            assert (file.algorithm is None) == (file.digest == "") == (file.published_in == "")
            if file.algorithm is not None:
                assert len(bytes.fromhex(file.digest)) == hashlib.new(file.algorithm).digest_size
    assert {file.algorithm for facts in OFFICIAL.values() for file in facts.files} == {None, *ALGORITHMS}
    assert OFFICIAL["caltech256"].test_images == 29_780 - 256 * 60


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_published_file_is_recognised_and_one_changed_byte_is_not(tmp_path: Path, algorithm: str) -> None:
    path = tmp_path / "A.tar"  # some disks keep no small letters
    path.write_bytes(CONTENT)
    facts = official(algorithm, hashlib.new(algorithm, CONTENT).hexdigest())
    out = io.StringIO()
    expected = {"A.tar": {"sha256": hashlib.sha256(CONTENT).hexdigest(), "published_in": "a program"}}
    assert verify_files(facts, [path], out, unofficial=False) == expected
    assert "unverified" not in out.getvalue()
    path.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(ConfigError, match=f"A.tar has {ALGORITHMS[algorithm]} .*another version.*birds.org"):
        verify_files(facts, [path], out, unofficial=False)
    assert verify_files(facts, [path], out, unofficial=True)["A.tar"]["published_in"] == ""
    assert "warning: " in out.getvalue()


def test_what_nobody_publishes_is_said_to_be_unverified(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(CONTENT)
    out = io.StringIO()
    found = verify_files(official(None), [path, tmp_path], out, unofficial=False)
    assert found == {"a.tar": {"sha256": hashlib.sha256(CONTENT).hexdigest(), "published_in": ""}}
    assert f"{path} is unverified" in out.getvalue() and f"{tmp_path} is a folder, so unverified" in out.getvalue()


def listing(classes: int, per_class: int, extra: tuple[str, ...] = ()) -> FileListing:
    names = [f"{c:03d}.x/{c:03d}_{n:04d}.jpg" for c in range(1, classes + 1) for n in range(per_class)]
    files = []
    for name in (*names, *extra):
        files.append(ImageFile(path=Path(name), name=name, class_name=name.split("/")[0], split=TRAIN))
    files[0] = ImageFile(path=files[0].path, name=files[0].name, class_name=files[0].class_name, split=TEST)
    return FileListing(files=tuple(files))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (listing(1, 4), r"1 classes, and there are 2 \(missing: 002\)"),
        (listing(2, 2, ("002.x/002_0001 (1).jpg",)), r"5 images, and there are 4"),
        (listing(2, 1), "2 images, and there are 4"),
    ],
)
def test_a_class_missing_and_an_image_more_or_less_are_refused(found: FileListing, said: str) -> None:
    out = io.StringIO()
    with pytest.raises(ConfigError, match=f"{said}.* type --unofficial"):
        check_counts(official(None), found, out, unofficial=False)
    check_counts(official(None), found, out, unofficial=True)
    assert "warning: these are not the images of the complete Birds" in out.getvalue()
    check_counts(official(None), listing(2, 2), out, unofficial=False)


def test_the_one_file_more_is_named_among_many() -> None:
    facts = OfficialSet(title="Birds", page="https://b.org", files=(), classes=3, images=60, test_images=2)
    with pytest.raises(ConfigError, match=r"61 images, and there are 60 \(named unlike the others: 002.x/a copy.jpg\)"):
        check_counts(facts, listing(3, 20, ("002.x/a copy.jpg",)), io.StringIO(), unofficial=False)


def test_bad_downloads_are_refused_by_name_and_leave_nothing(tmp_path: Path) -> None:
    """Another version, a truncated archive, a web page in its place: at the command, before anything is unpacked."""
    root, layout = tmp_path / "root", ("--layout", "cub200")
    archive = birds(tmp_path)
    with pytest.raises(ConfigError, match="CUB_200_2011.tgz has .* bytes, and the published file has 1,150,585,339"):
        prepare("birds", archive, root, *layout)
    cut = tmp_path / "cut" / archive.name
    cut.parent.mkdir()
    cut.write_bytes(archive.read_bytes()[:-60])
    with pytest.raises(ConfigError, match="it may have been cut off"):
        prepare("birds", cut, root, *layout)
    with pytest.raises(ConfigError, match="CUB_200_2011.tgz cannot be unpacked"):
        prepare("birds", cut, root, *layout, "--unofficial")
    cut.write_text("\n <!DOCTYPE html><title>503</title>")
    with pytest.raises(ConfigError, match=r"CUB_200_2011.tgz is a web page \(HTML\)"):
        prepare("birds", cut, root, *layout, "--unofficial")
    page = tmp_path / "photographs.zip"
    page.write_text("<html><body>Quota exceeded")
    with pytest.raises(ConfigError, match=r"photographs.zip is a web page \(HTML\)"):
        prepare("mine", page, root)
    with pytest.raises(ConfigError, match="--unofficial is for an official layout"):
        prepare("mine", page, root, "--unofficial")
    assert not root.exists() or list(root.iterdir()) == []


def test_a_list_of_the_right_length_and_another_content_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "jpg", ["image_00001.jpg"])
    (tmp_path / "setid.mat").write_bytes(bytes(SETID_BYTES))
    with pytest.raises(ConfigError, match="setid.mat has SHA-256 .*oxford_flowers102.txt"):
        prepare("flowers", [tmp_path / "jpg", tmp_path / "setid.mat"], tmp_path / "root", "--layout", "flowers102")


def test_two_names_are_one_reading_of_the_archive_and_one_copy_on_the_disk(tmp_path: Path) -> None:
    root = tmp_path / "root"
    said = prepare("birds", birds(tmp_path), root, "--also", "birds_60", "--layout", "cub200", "--unofficial")
    assert said.count("unpacking") == 1
    first, second = (manifest.read(root, name) for name in ("birds", "birds_60"))
    assert (first.digest, first.files_digest) == (second.digest, second.files_digest)
    images = [root / name / "target.images.npy" for name in ("birds", "birds_60")]
    assert images[0].samefile(images[1])
    for name in ("birds", "birds_60"):
        assert "all files are unchanged" in data("check", root / name)
    assert sorted(path.name for path in root.iterdir()) == ["birds", "birds_60"]
    made = json.loads((root / "birds_60" / "manifest.json").read_text())["made"]
    assert made["archives"]["CUB_200_2011.tgz"]["published_in"] == ""
    with pytest.raises(ConfigError, match="birds_60 is there already; .*--also birds_60"):
        prepare("others", birds(tmp_path), root, "--also", "birds_60", "--layout", "cub200", "--unofficial")


def test_on_a_full_disk_no_name_is_given_and_with_room_the_same_call_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full from each file on that is made durable, of both names."""
    origin, fsync, files_left = birds(tmp_path), os.fsync, 0

    def fsync_while_there_is_room(handle: int) -> None:
        nonlocal files_left
        if stat.S_ISREG(os.fstat(handle).st_mode):
            files_left -= 1
            if files_left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", fsync_while_there_is_room)
    options = ("--also", "birds_60", "--layout", "cub200", "--unofficial")
    for room in itertools.count():
        root, files_left = tmp_path / f"room for {room}", room
        try:
            prepare("birds", origin, root, *options)
            break
        except ConfigError as error:
            assert "No space left on device; make room" in str(error)
            assert f"what is done is kept in {root / '.birds.preparing'}" in str(error)
            assert [path.name for path in root.iterdir()] == [".birds.preparing"]
        files_left = sys.maxsize
        prepare("birds", origin, root, *options)
        assert sorted(path.name for path in root.iterdir()) == ["birds", "birds_60"]
    assert room >= len(list((root / "birds").iterdir())) + len(list((root / "birds_60").iterdir()))


# --- the digest of files ---

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


def test_every_python_version_finds_the_same_digest_of_files(tmp_path: Path) -> None:
    """A golden value: each version that runs this test has to find it."""
    assert files_digest(bitmaps(tmp_path / "images"), tmp_path, "animals") == GOLDEN


def test_a_pixel_a_label_a_file_a_split_and_a_size_change_the_digest_of_files(tmp_path: Path) -> None:
    origin = bitmaps(tmp_path / "images")
    digests = {
        "same": files_digest(origin, tmp_path, "same"),
        "size": files_digest(origin, tmp_path, "size", "--image-px", 17),
        "split": files_digest(origin, tmp_path, "split", "--test-fraction", 0.5),
    }
    assert files_digest(pack(origin, tmp_path / "a.zip"), tmp_path, "packed") == digests["same"]
    (origin / "cat" / "0.bmp").write_bytes(BMP[:-8] + b"\x77" + BMP[-7:])
    digests["pixel"] = files_digest(origin, tmp_path, "pixel")
    bitmaps(origin)
    (origin / "dog" / "5.bmp").write_bytes(BMP[:-8] + b"\x99" + BMP[-7:])
    digests["file"] = files_digest(origin, tmp_path, "file")
    (origin / "dog" / "5.bmp").unlink()
    (origin / "cat" / "2.bmp").rename(origin / "dog" / "9.bmp")
    digests["label"] = files_digest(origin, tmp_path, "label")
    assert len({*digests.values(), GOLDEN}) == len(digests)


def test_data_check_shows_both_digests_and_names_the_decoder(tmp_path: Path) -> None:
    prepare("animals", bitmaps(tmp_path / "images"), tmp_path)
    said = data("check", tmp_path / "animals")
    found = manifest.read(tmp_path, "animals")
    assert f"digest of files {found.files_digest}" in said
    assert f"digest of pixels {found.digest}, as decoded by pillow " in said


def test_a_digest_of_files_that_was_typed_in_is_refused(tmp_path: Path) -> None:
    prepare("animals", bitmaps(tmp_path / "images"), tmp_path)
    path = tmp_path / "animals" / "manifest.json"
    content = json.loads(path.read_text()) | {"files_digest": "0" * 64}
    path.write_text(json.dumps(content | {"sha256": manifest.manifest_sha256(content)}))
    with pytest.raises(ConfigError, match="digest of files is 0000"):
        data("check", tmp_path / "animals")
