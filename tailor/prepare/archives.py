"""Unpack archives of images safely, within limits that are checked before the first byte is written."""

import errno
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from tailor.common.errors import ConfigError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
LIMIT_BYTES = 256 * 2**30  # of one archive, unpacked; ImageNet's training images are 150 GB
LIMIT_MEMBERS = 5_000_000
LIMIT_HEADER = 2**20  # of a name or another header in a tar file; real ones are shorter
UNPACK = "unpack it yourself and give the folder"
UNREADABLE = (
    OSError, tarfile.TarError, zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError,
    LookupError,
)  # fmt: skip
"""What is raised for a damaged archive; RuntimeError for an encrypted one."""


class _Header(tarfile.TarInfo):
    """A header in a tar file; raises ValueError for what would fill the memory: headers of many bytes, sparse files."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        """Return the header in a block."""
        header = super().frombuf(buf, encoding, errors)
        is_file = header.type in (*tarfile.REGULAR_TYPES, tarfile.DIRTYPE)
        if header.type == tarfile.GNUTYPE_SPARSE or (not is_file and header.size > LIMIT_HEADER):
            raise ValueError(f"headers of more than {LIMIT_HEADER:,} bytes before one member, or a sparse file")
        return header


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack an archive into `folder`, which is made, and return it. Raises ConfigError: it is damaged, or unsafe."""
    try:
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive, metadata_encoding="utf-8") as zip_file:
                infos = zip_file.infolist()
                files = [info for info in infos if info.filename != "/"]  # Dropbox has it for the folder of all others
                _check(archive, folder.parent, [(info.filename, info.file_size, _zip_kind(info)) for info in files])
                zip_file.extractall(folder, files)
        else:
            with archive.open("rb") as file:
                is_gzipped = file.read(2) == b"\x1f\x8b"
            with tarfile.open(archive, "r:gz" if is_gzipped else "r:", tarinfo=_Header) as tar:
                _check(archive, folder.parent, ((entry.name, entry.size, _tar_kind(entry)) for entry in tar))
                assert tar.fileobj is not None
                tar.fileobj.seek(tar.offset)
                if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # which `tarfile` would accept
                    raise tarfile.ReadError("it was cut off: its end is missing")
                tar.extractall(folder, filter="data")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{archive} does not say how its names are encoded, and they are not UTF-8; {UNPACK}"
        ) from error
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ConfigError(
            f"{archive} cannot be unpacked: {error}; expected a whole {', '.join(SUFFIXES)}: compare its size with the "
            f"original's; or, also if it is encrypted, or one part of several: {UNPACK}"
        ) from error
    return folder


def _check(archive: Path, parent: Path, members: Iterable[tuple[str, int, str]]) -> None:
    """Raise ConfigError for what is unsafe or too large among members: name, size that it claims, and kind.

    No reader writes more bytes of a member than it claims.
    """
    free_bytes = shutil.disk_usage(parent).free
    total_bytes = 0
    files: set[PurePosixPath] = set()
    for count, (name, size_bytes, kind) in enumerate(members, start=1):
        path = PurePosixPath(name)
        total_bytes += size_bytes
        fault = kind if kind not in ("file", "folder") else ""
        if path.is_absolute() or ".." in path.parts or re.search(r"\\|\0|^[A-Za-z]:/", name):
            fault = "a path that leads out of its folder, or has \\ in it"
        if fault:
            raise ConfigError(f"{archive}: {name!r} is {fault}; nothing was unpacked; if you trust it, {UNPACK}")
        if total_bytes > LIMIT_BYTES or count > LIMIT_MEMBERS:
            limits = f"{LIMIT_BYTES:,} bytes or {LIMIT_MEMBERS:,} members, against those that are made to fill a disk"
            raise ConfigError(f"{archive} unpacks to more than {limits}; if you trust it, {UNPACK}")
        if kind == "file" and (path in files or not path.parts):
            fault = "is in it twice" if path.parts else "is a file without a name"
            raise ConfigError(f"{archive}: {name!r} {fault}; make the archive again")
        if kind == "file":
            files.add(path)
    if not files:
        raise ConfigError(f"{archive} has no files; give an archive of images")
    if total_bytes > free_bytes:
        free = f"{free_bytes:,} are free; make room, or give another --to"
        raise ConfigError(f"{archive} unpacks to {total_bytes:,} bytes, and {free}")


def _zip_kind(info: zipfile.ZipInfo) -> str:
    mode = info.external_attr >> 16  # Unix's mode where the archive was made on Unix, else 0
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # their readers need little memory
        return "neither stored nor deflated"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a link" if stat.S_ISLNK(mode) else "neither a file nor a folder"
    return "folder" if info.filename.endswith("/") else "file"  # is_dir() fails for an empty name


def _tar_kind(entry: tarfile.TarInfo) -> str:
    if entry.issym() or entry.islnk():
        return "a link"
    if entry.isdir():
        return "folder"
    return "file" if entry.isfile() and not entry.issparse() else "neither a file nor a folder"
