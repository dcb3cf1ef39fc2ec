"""Archives: unpacked as packed; what leads out, links or would fill the disk is refused before a byte is written."""

import gzip
import io
import os
import shutil
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tailor.common.errors import ConfigError
from tailor.facts import manifest
from tailor.prepare import archive
from tests.tailor.prepare.pictures import class_folders, pack, prepare

KINDS = ("a.zip", "a.tar", "a.tar.gz", "a.tgz")


def tar_with(path: Path, name: str, kind: bytes = tarfile.REGTYPE, size: int = 3, target: str = "") -> Path:
    """A tar archive of a good file and one member as described."""
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as tar:
        for member_name, member_kind, length in (("good.jpg", tarfile.REGTYPE, 3), (name, kind, size)):
            member = tarfile.TarInfo(member_name)
            member.type, member.linkname, member.size = member_kind, target, length
            tar.addfile(member, io.BytesIO(b"x" * length) if member_kind == tarfile.REGTYPE else None)
    return path


def zip_with(path: Path, name: str, mode: int = 0o100644, size: int = 3) -> Path:
    """A zip archive of a good file and one member as described."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("good.jpg", b"abc")
        member = zipfile.ZipInfo(name)
        member.filename = name  # the constructor cuts what it takes for illegal
        member.external_attr = mode << 16
        member.compress_type = zipfile.ZIP_DEFLATED
        zipped.writestr(member, b"x" * size)
    return path


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_packed_is_unpacked_once(tmp_path: Path, kind: str) -> None:
    folder = class_folders(tmp_path / "images", per_class=2)
    packed = pack(folder, tmp_path / kind)
    if packed.suffix == ".zip":
        with zipfile.ZipFile(packed, "a") as zipped:
            zipped.writestr("/", b"")  # as Dropbox does
    parent = tmp_path / "parent"
    parent.mkdir()
    unpacked = archive.unpack(packed, parent)
    assert files_below(unpacked) == files_below(folder)
    before = unpacked.stat().st_mtime_ns
    assert archive.unpack(packed, parent) == unpacked and unpacked.stat().st_mtime_ns == before
    assert list(parent.iterdir()) == [unpacked]


BAD: dict[str, Callable[[Path], Path]] = {
    "tar ..": lambda folder: tar_with(folder / "a.tar", "../out.jpg"),
    "tar .. inside": lambda folder: tar_with(folder / "a.tgz", "images/../../out.jpg"),
    "tar absolute": lambda folder: tar_with(folder / "a.tar", f"{folder}/out.jpg"),
    "tar symlink": lambda folder: tar_with(folder / "a.tar.gz", "in", tarfile.SYMTYPE, 0, "/"),
    "tar hard link": lambda folder: tar_with(folder / "a.tar", "in", tarfile.LNKTYPE, 0, "good.jpg"),
    "tar fifo": lambda folder: tar_with(folder / "a.tar", "in", tarfile.FIFOTYPE, 0),
    "tar device": lambda folder: tar_with(folder / "a.tar", "in", tarfile.CHRTYPE, 0),
    "zip ..": lambda folder: zip_with(folder / "a.zip", "../out.jpg"),
    "zip absolute": lambda folder: zip_with(folder / "a.zip", "/out.jpg"),
    "zip backslash": lambda folder: zip_with(folder / "a.zip", "..\\out.jpg"),
    "zip drive": lambda folder: zip_with(folder / "a.zip", "C:/out.jpg"),
    "zip symlink": lambda folder: zip_with(folder / "a.zip", "in", 0o120777),
}


ODD = ("tar fifo", "tar device")


def test_separators_of_windows_are_called_so(tmp_path: Path) -> None:
    packed = zip_with(tmp_path / "a.zip", "images\\cat\\1.jpg")
    with pytest.raises(ConfigError, match=r"a path with \\ instead of /, as some programs on Windows write it"):
        archive.unpack(packed, tmp_path)
    assert list(tmp_path.iterdir()) == [packed]


def test_a_colon_in_a_name_is_no_drive(tmp_path: Path) -> None:
    assert (archive.unpack(zip_with(tmp_path / "a.zip", "a:1.jpg"), tmp_path) / "a:1.jpg").is_file()


@pytest.mark.parametrize(
    ("stands_for", "written", "is_warned_of"),
    [("Pxxche", "Pêche".encode(), False), ("Pxche", "Pêche".encode("cp437"), True)],
    ids=["of macOS", "of DOS"],
)
def test_names_whose_encoding_is_not_said_are_utf8_or_named(
    stands_for: str, written: bytes, is_warned_of: bool, tmp_path: Path
) -> None:
    packed = pack(class_folders(tmp_path / "photographs", classes=(stands_for, "cat")), tmp_path / "a.zip")
    packed.write_bytes(packed.read_bytes().replace(stands_for.encode(), written))
    said = prepare("pets", packed, tmp_path / "sets")
    assert manifest.read(tmp_path / "sets", "pets").classes["target"] == ("Pêche", "cat")
    assert ("a.zip does not say how its names are encoded; they are read as cp437: " in said) == is_warned_of


def encrypted(path: Path) -> Path:
    """A zip archive whose members say that they are encrypted."""
    zip_with(path, "b.jpg")
    content = bytearray(path.read_bytes())
    for start, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(start)
        while place >= 0:
            content[place + flags] |= 1
            place = content.find(start, place + 1)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: encrypted(folder / "a.zip"), "it is encrypted; unpack it yourself"),
        (lambda folder: tar_with(folder / "a.tar", "x" * 300 + ".jpg"), "File name too long.*with shorter names"),
        (lambda folder: zipped_by(folder / "a.zip", zipfile.ZIP_BZIP2), "not read here .method 12.; unpack it"),
    ],
    ids=["encrypted", "long name", "other compression"],
)
def test_the_reason_is_the_true_one(tmp_path: Path, make: Callable[[Path], Path], said: str) -> None:
    packed = make(tmp_path)
    with pytest.raises(ConfigError, match=said) as refused:
        archive.unpack(packed, tmp_path)
    assert "compare its size" not in str(refused.value)
    assert list(tmp_path.iterdir()) == [packed]


def test_the_last_part_of_an_archive_is_called_a_part(tmp_path: Path) -> None:
    packed = pack(class_folders(tmp_path / "images"), tmp_path / "a.zip")
    packed.write_bytes(packed.read_bytes()[packed.stat().st_size // 2 :])
    with pytest.raises(ConfigError, match="if it is one part of several, unpack it yourself"):
        archive.unpack(packed, tmp_path)


def test_a_name_in_another_encoding_is_unpacked_as_it_is(tmp_path: Path) -> None:
    """A tar file of a disk with names in Latin-1."""
    name = os.fsdecode(b"caf\xe9/1.jpg")
    assert (archive.unpack(tar_with(tmp_path / "a.tar", name), tmp_path) / name).is_file()


@pytest.mark.parametrize("what", BAD)
def test_members_that_lead_out_are_refused_before_anything_is_unpacked(tmp_path: Path, what: str) -> None:
    packed = BAD[what](tmp_path)
    parent = tmp_path / "parent"
    parent.mkdir()
    expected = (
        "is a link; " if "link" in what else "is neither a file nor" if what in ODD else "is a path that leads out"
    )
    with pytest.raises(ConfigError, match=f"{expected}.*nothing was unpacked"):
        archive.unpack(packed, parent)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([packed.name, "parent"])
    assert list(parent.iterdir()) == []


@pytest.mark.parametrize("name", ["", "."])
def test_a_file_without_a_name_is_refused(tmp_path: Path, name: str) -> None:
    packed = zip_with(tmp_path / "a.zip", name)  # the first was found by benchmarks/fuzzing.py
    with pytest.raises(ConfigError, match="is a file without a name"):
        archive.unpack(packed, tmp_path)
    assert list(tmp_path.iterdir()) == [packed]


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_a_bomb_is_refused_by_its_size_unpacked(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make = zip_with if name.endswith(".zip") else tar_with
    packed = make(tmp_path / name, "zeros.jpg", size=5_000_000)
    assert packed.stat().st_size < 50_000
    monkeypatch.setattr(archive, "LIMIT_BYTES", 1_000_000)
    with pytest.raises(ConfigError, match="more than 1,000,000 bytes"):
        archive.unpack(packed, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    monkeypatch.setattr(archive, "LIMIT_BYTES", 6_000_000)
    assert (archive.unpack(packed, tmp_path) / "zeros.jpg").stat().st_size == 5_000_000


def test_an_archive_that_does_not_fit_on_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = tmp_path / "huge.tar"
    member = tarfile.TarInfo("huge.jpg")
    member.size = shutil.disk_usage(tmp_path).free + 2**30
    packed.write_bytes(member.tobuf())
    os.truncate(packed, 512 + member.size + 10_240)  # zeros that take no room
    monkeypatch.setattr(archive, "LIMIT_BYTES", 2 * member.size)
    with pytest.raises(ConfigError, match="are free"):
        archive.unpack(packed, tmp_path)


@pytest.mark.parametrize("name", KINDS)
def test_damaged_archives_leave_nothing(tmp_path: Path, name: str) -> None:
    packed = pack(class_folders(tmp_path / "images", per_class=4), tmp_path / name)
    content = packed.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"something else" * 100):
        packed.write_bytes(damaged)
        with pytest.raises(ConfigError, match="cannot be unpacked|has no files"):
            archive.unpack(packed, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "images"])


def test_a_member_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="twice"):
        archive.unpack(tar_with(tmp_path / "a.tar", "good.jpg"), tmp_path)


def huge_header(path: Path, kind: bytes) -> Path:
    """A gzipped tar archive whose first header claims a name or an extended header of 800 MB, all zeros."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = kind, 800 * 2**20
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(4):
            file.write(bytes(2**20))
    return path


def zipped_by(path: Path, method: int) -> Path:
    with zipfile.ZipFile(path, "w", method) as zipped:
        zipped.writestr("a.jpg", bytes(2**20))
    return path


def zip_with_a_name_that_is_no_text(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("\u00e4.jpg", b"abc")  # its name is marked as UTF-8
    path.write_bytes(path.read_bytes().replace("\u00e4".encode(), b"\xff\xfe"))
    return path


def endless_headers(path: Path, kind: bytes, blocks: int = 2**17) -> Path:
    """A gzipped tar archive with 64 MB of headers before its first member: of a sparse file, or for all members."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        header = bytearray(tarfile.TarInfo("a.jpg").tobuf(tarfile.GNU_FORMAT))
        if kind == tarfile.GNUTYPE_SPARSE:
            header[156:157], header[482] = kind, 1  # it goes on in the blocks behind it
            header[148:156] = b"%06o\0 " % (sum(header) - sum(header[148:156]) + 8 * 32)
            file.write(header)
            file.writelines([b"00000000001\0" * 42 + b"\1" + bytes(7)] * blocks)
        else:
            for number in range(64):
                file.write(tarfile.TarInfo.create_pax_global_header({f"k{number}": "x" * 2**20}))
    return path


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda folder: huge_header(folder / "a.tgz", tarfile.GNUTYPE_LONGNAME),
            "headers of more than 1,048,576 bytes",
        ),
        (lambda folder: huge_header(folder / "a.tgz", tarfile.XHDTYPE), "headers of more than 1,048,576 bytes"),
        (lambda folder: endless_headers(folder / "a.tgz", tarfile.GNUTYPE_SPARSE), "headers of more than 1,048,576"),
        (lambda folder: endless_headers(folder / "a.tgz", tarfile.GNUTYPE_SPARSE, 2), "cannot be unpacked"),
        (lambda folder: endless_headers(folder / "a.tgz", tarfile.XGLTYPE), "headers of more than 1,048,576 bytes"),
        (lambda folder: zipped_by(folder / "a.zip", zipfile.ZIP_BZIP2), "neither stored nor deflated"),
        (lambda folder: zipped_by(folder / "a.zip", zipfile.ZIP_LZMA), "neither stored nor deflated"),
        (lambda folder: zip_with_a_name_that_is_no_text(folder / "a.zip"), "cannot be unpacked"),
    ],
    ids=["long name", "extended header", "sparse file", "cut off", "global headers", "bzip2", "lzma", "no text"],
)
def test_what_would_take_much_memory_or_cannot_be_read_is_refused(
    make: Callable[[Path], Path], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "LIMIT_BYTES", 2**20)
    packed = make(tmp_path)
    parent = tmp_path / "parent"
    parent.mkdir()
    tracemalloc.start()
    with pytest.raises(ConfigError, match=said):
        archive.unpack(packed, parent)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 32 * 2**20
    assert list(parent.iterdir()) == []


def test_a_bzip2_tar_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w:bz2") as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"), io.BytesIO())
    with pytest.raises(ConfigError, match="cannot be unpacked"):
        archive.unpack(tmp_path / "a.tar", tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_that_somebody_else_unpacked_is_not_taken(tmp_path: Path) -> None:
    packed = pack(class_folders(tmp_path / "images", per_class=1), tmp_path / "a.zip")
    unpacked = archive.unpack(packed, tmp_path)
    os.chown(unpacked, 65534, 65534)
    with pytest.raises(ConfigError, match="was not made by you"):
        archive.unpack(packed, tmp_path)
    unpacked.rename(tmp_path / "elsewhere")
    unpacked.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="was not made by you"):
        archive.unpack(packed, tmp_path)
