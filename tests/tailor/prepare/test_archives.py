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
from tailor.prepare import archives
from tailor.prepare.archives import unpack
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


def zip_with(path: Path, name: str, mode: int = 0o100644, size: int = 3, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A zip archive of a good file and one member as described."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("good.jpg", b"abc")
        member = zipfile.ZipInfo(name)
        member.filename = name  # the constructor cuts what it takes for illegal
        member.external_attr = mode << 16
        member.compress_type = method
        zipped.writestr(member, b"x" * size)
    return path


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_packed_is_unpacked(tmp_path: Path, kind: str) -> None:
    folder = class_folders(tmp_path / "images", per_class=2)
    packed = pack(folder, tmp_path / kind)
    if packed.suffix == ".zip":
        with zipfile.ZipFile(packed, "a") as zipped:
            zipped.writestr("/", b"")  # as Dropbox does
    assert files_below(unpack(packed, tmp_path / "inside")) == files_below(folder)


@pytest.mark.parametrize(("written", "is_read"), [("Pêche".encode(), True), ("Pêche".encode("cp437"), False)])
def test_names_whose_encoding_is_not_said_are_utf8_or_refused(written: bytes, is_read: bool, tmp_path: Path) -> None:
    """As macOS packs them, and as DOS did."""
    stands_for = "P" + "x" * (len(written) - 4) + "che"
    packed = pack(class_folders(tmp_path / "photographs", classes=(stands_for, "cat")), tmp_path / "a.zip")
    packed.write_bytes(packed.read_bytes().replace(stands_for.encode(), written))
    if is_read:
        prepare("pets", packed, tmp_path / "sets")
        assert manifest.read(tmp_path / "sets", "pets").classes["target"] == ("Pêche", "cat")
    else:
        with pytest.raises(ConfigError, match="unpack it yourself and give the folder"):
            prepare("pets", packed, tmp_path / "sets")
        assert [*(tmp_path / "sets").iterdir()] == []


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


def test_a_name_in_another_encoding_is_unpacked_as_it_is(tmp_path: Path) -> None:
    """A tar file of a disk with names in Latin-1."""
    name = os.fsdecode(b"caf\xe9/1.jpg")
    assert (unpack(tar_with(tmp_path / "a.tar", name), tmp_path / "inside") / name).is_file()
    assert (unpack(zip_with(tmp_path / "a.zip", "a:1.jpg"), tmp_path / "colon") / "a:1.jpg").is_file()


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "tar ..": (lambda folder: tar_with(folder / "a.tar", "../out.jpg"), "leads out"),
    "tar .. inside": (lambda folder: tar_with(folder / "a.tgz", "images/../../out.jpg"), "leads out"),
    "tar absolute": (lambda folder: tar_with(folder / "a.tar", f"{folder}/out.jpg"), "leads out"),
    "tar symlink": (lambda folder: tar_with(folder / "a.tar.gz", "in", tarfile.SYMTYPE, 0, "/"), "a link"),
    "tar hard link": (lambda folder: tar_with(folder / "a.tar", "in", tarfile.LNKTYPE, 0, "good.jpg"), "a link"),
    "tar fifo": (lambda folder: tar_with(folder / "a.tar", "in", tarfile.FIFOTYPE, 0), "neither a file nor"),
    "tar device": (lambda folder: tar_with(folder / "a.tar", "in", tarfile.CHRTYPE, 0), "neither a file nor"),
    "tar twice": (lambda folder: tar_with(folder / "a.tar", "good.jpg"), "twice"),
    "tar long name": (lambda folder: tar_with(folder / "a.tar", "x" * 300 + ".jpg"), "File name too long"),
    "zip ..": (lambda folder: zip_with(folder / "a.zip", "../out.jpg"), "leads out"),
    "zip absolute": (lambda folder: zip_with(folder / "a.zip", "/out.jpg"), "leads out"),
    "zip backslash": (lambda folder: zip_with(folder / "a.zip", "..\\out.jpg"), "leads out"),
    "zip of Windows": (lambda folder: zip_with(folder / "a.zip", "images\\cat\\1.jpg"), "has \\ in it"),
    "zip drive": (lambda folder: zip_with(folder / "a.zip", "C:/out.jpg"), "leads out"),
    "zip symlink": (lambda folder: zip_with(folder / "a.zip", "in", 0o120777), "a link"),
    "zip twice": (lambda folder: zip_with(folder / "a.zip", "good.jpg"), "twice"),
    "zip no name": (lambda folder: zip_with(folder / "a.zip", ""), "without a name"),
    "zip dot": (lambda folder: zip_with(folder / "a.zip", "."), "without a name"),
    "zip bzip2": (lambda folder: zip_with(folder / "a.zip", "b", method=zipfile.ZIP_BZIP2), "neither stored nor"),
    "zip encrypted": (lambda folder: encrypted(folder / "a.zip"), "encrypted"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("what", REFUSED)
def test_hostile_and_odd_members_are_refused_and_nothing_is_left(what: str, tmp_path: Path) -> None:
    make, said = REFUSED[what]
    packed = make(tmp_path)
    with pytest.raises(ConfigError) as refused:
        prepare("pets", packed, tmp_path / "sets")
    assert said in str(refused.value) and str(packed) in str(refused.value)
    assert [*(tmp_path / "sets").iterdir()] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [packed.name, "sets"]


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_a_bomb_is_refused_by_its_size_unpacked(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make = zip_with if name.endswith(".zip") else tar_with
    packed = make(tmp_path / name, "zeros.jpg", size=5_000_000)
    assert packed.stat().st_size < 50_000
    monkeypatch.setattr(archives, "LIMIT_BYTES", 1_000_000)
    with pytest.raises(ConfigError, match="more than 1,000,000 bytes"):
        unpack(packed, tmp_path / "inside")
    assert not (tmp_path / "inside").exists()
    monkeypatch.setattr(archives, "LIMIT_BYTES", 6_000_000)
    assert (unpack(packed, tmp_path / "inside") / "zeros.jpg").stat().st_size == 5_000_000
    monkeypatch.setattr(archives, "LIMIT_MEMBERS", 1)
    with pytest.raises(ConfigError, match="1 members"):
        unpack(packed, tmp_path / "others")


def test_an_archive_that_does_not_fit_on_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = tmp_path / "huge.tar"
    member = tarfile.TarInfo("huge.jpg")
    member.size = shutil.disk_usage(tmp_path).free + 2**30
    packed.write_bytes(member.tobuf())
    os.truncate(packed, 512 + member.size + 10_240)  # zeros that take no room
    monkeypatch.setattr(archives, "LIMIT_BYTES", 2 * member.size)
    with pytest.raises(ConfigError, match="are free"):
        unpack(packed, tmp_path / "inside")


@pytest.mark.parametrize("name", KINDS)
def test_damaged_archives_are_refused(tmp_path: Path, name: str) -> None:
    packed = pack(class_folders(tmp_path / "images", per_class=4), tmp_path / name)
    content = packed.read_bytes()
    last_part = b"" if name == "a.tar" else content[len(content) // 2 :]
    for damaged in (content[: len(content) // 2], last_part, b"", b"something else" * 100):
        packed.write_bytes(damaged)
        with pytest.raises(ConfigError, match="cannot be unpacked|has no files"):
            prepare("pets", packed, tmp_path / "sets")
        assert [*(tmp_path / "sets").iterdir()] == []


def huge_header(path: Path, kind: bytes) -> Path:
    """A gzipped tar archive whose first header claims a name or an extended header of 800 MB, all zeros."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = kind, 800 * 2**20
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(64):
            file.write(bytes(2**20))
    return path


def endless_sparse(path: Path) -> Path:
    """A gzipped tar archive with 64 MB of headers of a sparse file."""
    header = bytearray(tarfile.TarInfo("a.jpg").tobuf(tarfile.GNU_FORMAT))
    header[156:157], header[482] = tarfile.GNUTYPE_SPARSE, 1  # it goes on in the blocks behind it
    header[148:156] = b"%06o\0 " % (sum(header) - sum(header[148:156]) + 8 * 32)
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header)
        file.writelines([b"00000000001\0" * 42 + b"\1" + bytes(7)] * 2**17)
    return path


def global_headers(path: Path) -> Path:
    with gzip.open(path, "wb", compresslevel=1) as file:
        for number in range(64):
            file.write(tarfile.TarInfo.create_pax_global_header({f"k{number}": "x" * 2**20}))
    return path


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: huge_header(folder / "a.tgz", tarfile.GNUTYPE_LONGNAME),
        lambda folder: huge_header(folder / "a.tgz", tarfile.XHDTYPE),
        lambda folder: endless_sparse(folder / "a.tgz"),
        lambda folder: global_headers(folder / "a.tgz"),
    ],
    ids=["long name", "extended header", "sparse file", "global headers"],
)
def test_what_would_take_much_memory_is_refused(make: Callable[[Path], Path], tmp_path: Path) -> None:
    packed = make(tmp_path)
    tracemalloc.start()
    with pytest.raises(ConfigError, match="headers of more than 1,048,576 bytes"):
        unpack(packed, tmp_path / "inside")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 32 * 2**20
