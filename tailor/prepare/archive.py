"""Archives of images unpacked safely: all members are checked before the first byte is written.

Refused are members outside of the folder (`..`, absolute paths), links and devices, and archives that unpack to more
than a limit of bytes or members. Modes and owners in the archive are ignored. Supported are stored and deflated zip
files and plain and gzipped tar files: their readers need little memory, whatever a file claims.
"""

import errno
import gzip
import hashlib
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, cast

from tailor.common.errors import ConfigError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
LIMIT_BYTES = 256 * 2**30  # of one archive, unpacked; ImageNet's training images are 150 GB
LIMIT_MEMBERS = 5_000_000
NAME_IS_UTF8 = 1 << 11  # a flag of a member of a .zip file
GZIP_MAGIC = b"\x1f\x8b"
HEADER_BYTES = 2**20  # limit of a tar file's headers before one member; real names and headers are shorter
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
UNREADABLE = (
    OSError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    RuntimeError,
    NotImplementedError,
    ValueError,  # among them names that are not text
    LookupError,  # of `tarfile`, if the headers of a sparse file are cut off
    struct.error,
)


@dataclass(frozen=True, kw_only=True)
class ArchiveMember:
    """What a member of an archive claims to be."""

    name: str
    kind: str  # "file", "folder", or a phrase for another kind
    size_bytes: int
    open: Callable[[], IO[bytes]]  # its content; valid until the next member is asked for


def is_archive(path: Path) -> bool:
    """Whether a file has the name of an archive that can be unpacked.

    >>> is_archive(Path("birds.tar.gz")), is_archive(Path("birds.7z"))
    (True, False)
    """
    return path.name.lower().endswith(SUFFIXES)


def unpack(archive: Path, parent: Path) -> Path:
    """Unpack an archive below `parent`, and return the folder; the result of an earlier call is used again.

    Args:
        archive: a .zip, .tar, .tar.gz or .tgz file.
        parent: an existing folder.

    Raises:
        ConfigError: not an archive, damaged, or with members that must not be unpacked; no files are left then.
    """
    status = archive.stat()
    identity = f"{archive.resolve()} {status.st_size} {status.st_mtime_ns}"
    final = parent / f"unpacked-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    if os.path.lexists(final):
        _refuse_foreign(final)
        return final
    unfinished = final.with_suffix(".partial")
    shutil.rmtree(unfinished, ignore_errors=True)  # what an interrupted call left
    try:
        unfinished.mkdir()
        free_bytes = shutil.disk_usage(parent).free
        _check_members(archive, free_bytes)
        _write(archive, unfinished)
    except ConfigError:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    except UNREADABLE as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise ConfigError(f"{archive} cannot be unpacked: {_explain(error)}") from error
    return unfinished.rename(final)


def misread_names(archive: Path) -> list[str]:
    """Return the names in a .zip file that may be wrong: their encoding is not said, and is not UTF-8."""
    if not archive.name.lower().endswith(".zip"):
        return []
    zip_file, is_utf8 = _open_zip(archive)
    with zip_file:
        infos = [] if is_utf8 else zip_file.infolist()
        return [info.filename for info in infos if not info.filename.isascii() and not info.flag_bits & NAME_IS_UTF8]


def _open_zip(archive: Path) -> tuple[zipfile.ZipFile, bool]:
    """Open a .zip file; names whose encoding it does not say are UTF-8, as of macOS, or else cp437, as of DOS.

    Returns:
        The file, and whether they are UTF-8.
    """
    try:
        return zipfile.ZipFile(archive, metadata_encoding="utf-8"), True
    except UnicodeDecodeError:
        return zipfile.ZipFile(archive), False


def _explain(error: Exception) -> str:
    """Return why an archive cannot be unpacked, and what to do."""
    unpack_it = "unpack it yourself and give the folder"
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # of the system, not of the archive
        reason = f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"{reason}; make room, or give another --to"
        if error.errno == errno.ENAMETOOLONG:
            return f"{reason}; {unpack_it}, with shorter names"
        return f"{reason}; make it readable for you, or {unpack_it}"
    if isinstance(error, RuntimeError) and "password" in str(error):  # zipfile has no class of its own for it
        return f"it is encrypted; {unpack_it}"
    if isinstance(error, UnicodeError):
        return f"a name in it is not what its encoding says ({error}); {unpack_it}"
    return (
        f"{error}; expected a whole {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file: compare its size with the "
        f"original's, or, also if it is one part of several, {unpack_it}"
    )


def _refuse_foreign(folder: Path) -> None:
    """Raise ConfigError unless this is a folder of this user, which an earlier call made."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise ConfigError(f"{folder} is there already and was not made by you; remove it, or give another --to")


def _check_members(archive: Path, free_bytes: int) -> None:
    """Raise ConfigError for an archive with invalid members, or one that is too large when it is unpacked.

    Sizes are what members claim; later no more bytes of a member are written than that.
    """
    total_bytes = 0
    files: set[PurePosixPath] = set()
    for count, member in enumerate(_members(archive), start=1):
        path = _path_inside(archive, member)
        total_bytes += member.size_bytes
        if total_bytes > LIMIT_BYTES or count > LIMIT_MEMBERS:
            raise ConfigError(
                f"{archive} unpacks to more than {LIMIT_BYTES:,} bytes or {LIMIT_MEMBERS:,} members, the limits "
                "against archives that are made to fill a disk; if you trust it, unpack it yourself and give the folder"
            )
        if member.kind == "file":
            if path in files:
                raise ConfigError(f"{archive}: member {member.name!r} is in it twice; make the archive again")
            files.add(path)
    if not files:
        raise ConfigError(f"{archive} has no files; give an archive of images")
    if total_bytes > free_bytes:
        raise ConfigError(
            f"{archive} unpacks to {total_bytes:,} bytes and {free_bytes:,} are free; make room, or give another --to"
        )


def _path_inside(archive: Path, member: ArchiveMember) -> PurePosixPath:
    """Return the member's path. Raises ConfigError: it would not be below the folder that it is unpacked to."""
    os.fsencode(member.name)  # raises UnicodeEncodeError for what cannot be a file's name
    path = PurePosixPath(member.name)
    as_on_windows = PureWindowsPath(member.name)
    if member.kind == "file" and not path.parts:
        raise ConfigError(f"{archive}: member {member.name!r} is a file without a name; make the archive again")
    problem = None if member.kind in ("file", "folder") else member.kind
    if path.is_absolute() or as_on_windows.root or ".." in (*path.parts, *as_on_windows.parts):
        problem = "a path that leads out of its folder"
    elif "\\" in member.name:
        problem = "a path with \\ instead of /, as some programs on Windows write it"
    elif "\0" in member.name:
        problem = "a name with a null character"
    if problem is not None:
        raise ConfigError(
            f"{archive}: member {member.name!r} is {problem}; nothing was unpacked. Expected files and folders below "
            "one folder; if you trust the archive, unpack it yourself and give the folder"
        )
    return path


def _members(archive: Path) -> Iterator[ArchiveMember]:
    """Yield what is in the archive, in its order."""
    if archive.name.lower().endswith(".zip"):
        zip_file, _ = _open_zip(archive)
        with zip_file:
            for info in zip_file.infolist():
                if info.filename == "/":  # of Dropbox: the folder of all others
                    continue
                if info.compress_type not in COMPRESSIONS:
                    raise ConfigError(
                        f"{archive}: member {info.filename!r} is neither stored nor deflated, but compressed in a way "
                        f"that is not read here (method {info.compress_type}); unpack it yourself and give the folder"
                    )
                yield ArchiveMember(
                    name=info.filename,
                    kind=_zip_kind(info),
                    size_bytes=info.file_size,
                    open=partial(zip_file.open, info),
                )
        return
    with _open(archive) as (tar, file):
        for entry in tar:
            yield ArchiveMember(
                name=entry.name,
                kind=_tar_kind(entry),
                size_bytes=entry.size if entry.isfile() else 0,
                open=partial(_content, tar, file, entry),
            )
            _forget(tar, file)
        _expect_end(tar)


class _Bounded:
    """A file of which `left` bytes may be read, so that false or endless headers cannot fill the memory."""

    def __init__(self, file: gzip.GzipFile | BufferedReader) -> None:
        self._file = file
        self.left = HEADER_BYTES

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes. Raises ReadError: more than `left` are asked for."""
        if not 0 <= size <= self.left:
            raise tarfile.ReadError(f"headers of more than {HEADER_BYTES:,} bytes before one member")
        self.left -= size
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position, and return it; in a gzipped file this reads in small pieces."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position that is read next."""
        return self._file.tell()


@contextmanager
def _open(archive: Path) -> Iterator[tuple[tarfile.TarFile, _Bounded]]:
    """Open a tar file, plain or gzipped according to its first bytes; other compressions are not supported."""
    with archive.open("rb") as raw:
        is_gzipped = raw.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    with gzip.open(archive) if is_gzipped else archive.open("rb") as raw:
        file = _Bounded(raw)
        with tarfile.open(fileobj=cast(IO[bytes], file), mode="r:") as tar:  # it uses no other methods
            yield tar, file


def _content(tar: tarfile.TarFile, file: _Bounded, entry: tarfile.TarInfo) -> IO[bytes]:
    """Return the content of a file in the archive, all of which may be read."""
    content = tar.extractfile(entry)
    assert content is not None  # it is a file
    file.left = entry.size
    return content


def _forget(tar: tarfile.TarFile, file: _Bounded) -> None:
    """Clear what `tarfile` keeps of the members so far and of global headers, and reset the limit."""
    tar.members.clear()  # type: ignore[attr-defined]
    tar.pax_headers = {}
    file.left = HEADER_BYTES


def _expect_end(tar: tarfile.TarFile) -> None:
    """Raise ReadError unless the archive ends with a block of zeros; `tarfile` would accept one that was cut off."""
    if tar.fileobj is not None:
        tar.fileobj.seek(tar.offset)
        if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it was cut off: its end is missing")


def _zip_kind(info: zipfile.ZipInfo) -> str:
    mode = info.external_attr >> 16  # Unix's mode where the archive was made on Unix, else 0
    if stat.S_ISLNK(mode):
        return "a link"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "neither a file nor a folder"
    return "folder" if info.filename.endswith("/") else "file"  # is_dir() fails for an empty name


def _tar_kind(entry: tarfile.TarInfo) -> str:
    if entry.issym() or entry.islnk():
        return "a link"
    if entry.isdir():
        return "folder"
    if entry.issparse():
        return "a sparse file"
    return "file" if entry.isfile() else "neither a file nor a folder"


def _write(archive: Path, folder: Path) -> None:
    for member in _members(archive):
        target = folder / PurePosixPath(member.name)
        if member.kind == "folder":
            target.mkdir(parents=True, exist_ok=True)  # perhaps a class without images
        elif member.kind == "file":
            target.parent.mkdir(parents=True, exist_ok=True)
            with member.open() as content, target.open("xb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
