"""Write files and folders that are whole or absent: for a concurrent reader, after a kill, and after a power failure.

Each one is made under a temporary name in the same folder, synced, and renamed (or linked, where an existing file must
stay); then the folder is synced. So it is on the disk under its name when the call returns. Temporary names are
`.<name>.<8 digits>.tmp`: readers ignore names that begin with a dot, and the pattern `.*.tmp` finds what a kill leaves.

Where another machine may have made, replaced or removed a file, `is_there` and the other functions
`..._there` ask the file system first.
"""

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

Content = str | bytes | Callable[[BinaryIO], object]
"""A text (written as UTF-8), bytes, or a function that writes into a given stream."""
CACHED_S = 60.0
"""How long at most a client of NFS believes what it knows of a file or a folder (its acregmax and acdirmax)."""
STALE_TRIES = 3  # of reading a file that another machine replaces
_synced: set[Path] = set()  # folders whose names this process has synced


def is_there(path: Path) -> bool:
    """Whether a file or folder exists, also if another machine has made or removed it a moment ago.

    A client of NFS believes for up to a minute that a name is absent, or present. Opening a folder makes it ask for the
    folder's names again (close-to-open consistency), except on mounts with `nocto`.

        >>> is_there(Path("/")), is_there(Path("/no/such/file"))
        (True, False)

    Raises:
        OSError: the file system does not answer.
    """
    return stat_there(path) is not None


def stat_there(path: Path) -> os.stat_result | None:
    """Return the status of a file or folder as `is_there` sees it; None if it is not there. Raises as that."""
    _ask_again(path.parent)
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def open_there(path: Path) -> BinaryIO:
    """Open a file for reading, also if another machine has made or replaced it a moment ago.

    Raises:
        FileNotFoundError: it is not there.
        OSError: the file system does not answer.
    """
    _ask_again(path.parent)
    return path.open("rb")


def read_there(path: Path) -> bytes:
    """Return the content of a file, also if another machine has made or replaced it a moment ago.

    Raises as `open_there`.
    """
    for _ in range(STALE_TRIES - 1):
        try:
            with open_there(path) as stream:
                return stream.read()
        except OSError as error:
            if error.errno != errno.ESTALE:  # replaced between opening and reading
                raise
    with open_there(path) as stream:
        return stream.read()


def list_there(folder: Path, pattern: str) -> list[Path]:
    """Return the paths in a folder that fit a pattern, sorted, as another machine may have just made them.

    A folder that is not there has none.
    """
    _ask_again(folder)
    return sorted(folder.glob(pattern))


def remove_there(path: Path) -> None:
    """Remove a file, also if another machine has made it a moment ago; no file is no error."""
    _ask_again(path.parent)
    path.unlink(missing_ok=True)


def write_file(path: Path, content: Content, *, mode: int | None = None, made_in: Path | None = None) -> Path:
    """Write a file, or replace it at once; returns the path.

        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_file(Path(folder, "note.txt"), "written").read_text()
        'written'

    Args:
        path: its folder exists.
        mode: 0o600 keeps it private from the first moment; None lets others read it if the umask does.
        made_in: folder on the same file system for the temporary name; None: that of the file.
    """
    temporary = _temporary(path if made_in is None else made_in / path.name)
    try:
        _write_new(temporary, content, mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)
    return path


def write_new_file(path: Path, content: Content) -> None:
    """Write a file unless there is one; of several writers at the same time one wins.

    Raises:
        FileExistsError: another process made it first; no temporary file is left behind.
    """
    temporary = _temporary(path)
    try:
        _write_new(temporary, content)
        try:
            os.link(temporary, path)
        except OSError as error:  # also where the file system has no hard links
            is_linked = temporary.stat().st_nlink > 1  # a request that NFS repeats finds what the first one has made
            if is_there(path) and not is_linked:
                raise FileExistsError(f"{path} is there already") from error
            if not is_linked:
                temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)  # if this fails, the temporary name stays, and with it the mark that the name is not durable
    temporary.unlink(missing_ok=True)


def finish_new_file(path: Path) -> None:
    """Sync the name of a file of `write_new_file` if its writer may have been killed before it did so.

    As long as the file also has its temporary name, the writer has not synced it.
    """
    with suppress(PermissionError):  # a folder of another user
        has_temporary_name = path.stat().st_nlink > 1
        if has_temporary_name:
            sync(path.parent)


def write_folder(path: Path, files: Mapping[str, bytes] | Mapping[Path, bytes]) -> None:
    """Make a folder of files, and the folders above it. A reader sees all of it or nothing.

    Args:
        path: of the new folder.
        files: path in the folder -> content.

    Raises:
        FileExistsError: another process made it first; no temporary folder is left behind.
    """
    temporary = _temporary(path)
    make_folder(path.parent)
    try:
        temporary.mkdir()
        for name, content in files.items():
            file = temporary / name
            file.parent.mkdir(parents=True, exist_ok=True)
            _write_new(file, content)
        for folder, _, _ in os.walk(temporary):
            sync(Path(folder))
        name_folder(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def name_file(temporary: Path, path: Path) -> None:
    """Rename a file that other code wrote in the same folder; a file of that name is replaced at once."""
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def name_folder(temporary: Path, path: Path) -> None:
    """Rename a folder, synced already, in its parent. Raises FileExistsError if a non-empty folder has that name."""
    try:
        temporary.replace(path)
    except OSError as error:
        if is_there(path):
            raise FileExistsError(f"{path} is there already") from error
        raise
    sync(path.parent)


def existing_above(folder: Path) -> Path:
    """Return the folder if it exists, or the lowest one above it that does; absolute.

    >>> existing_above(Path("/no/such/folder"))
    PosixPath('/')
    """
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def is_below(path: Path, folder: Path) -> bool:
    """Whether a path is in a folder, or is the folder, with links in both resolved.

    A folder has several paths where it can be reached by a link, such as a home folder on a cluster. A shell, a site
    file and the system may each have another one.

    >>> is_below(Path("/etc/../usr/lib"), Path("/usr")), is_below(Path("/usr"), Path("/usr/lib"))
    (True, False)
    """
    return path.resolve().is_relative_to(folder.resolve())


def refuse_unwritable(folder: Path, option: str, error: type[Exception]) -> None:
    """Raise `error` unless the folder given with `option` is writable or can be made; leaves no file behind."""
    existing = existing_above(folder)
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as refused:
        why = f"{existing} cannot be written to ({refused.strerror})"
        raise error(f"{option} {folder}: {why}; type {option} with a folder of yours") from refused


def refuse_unwritable_file(file: Path, option: str, error: type[Exception]) -> None:
    """Raise `error` unless the file given with `option` can be written; called before minutes are spent on it."""
    try:
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=existing_above(file.parent)):
            pass
    except OSError as refused:
        raise error(f"{file} cannot be written: {refused.strerror}; type {option} FILE") from refused


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, and sync the name of each before the next one is made.

    The name of the lowest existing folder is synced too, once by each process: whoever made it may have been killed
    before doing so.
    """
    upwards = [folder]  # from the folder to the lowest one that exists
    while not upwards[-1].is_dir():
        upwards.append(upwards[-1].parent)
    for path in reversed(upwards):
        is_new = not path.is_dir()
        if not is_new and path in _synced:
            continue
        path.mkdir(exist_ok=True)
        try:
            sync(path.parent)
        except PermissionError:
            if is_new:
                raise
        _synced.add(path)


def make_folders(above: Path, names: Iterable[str]) -> None:
    """Make folders with these names in one, which is made as by `make_folder`, and sync their names together."""
    make_folder(above)
    folders = [above / name for name in names]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    sync(above)
    for folder in folders:
        _synced.add(folder)


@contextmanager
def deny_others_writing() -> Iterator[None]:
    """Let only this user write to files made in this block, even if the umask allows others to."""
    umask_before = os.umask(0o077)  # the umask can be read only by setting it
    os.umask(umask_before | 0o022)
    try:
        yield
    finally:
        os.umask(umask_before)


def sync(path: Path) -> None:
    """Sync a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _ask_again(folder: Path) -> None:
    """Have this machine ask which names a folder has, and so whether the folder itself is there."""
    try:
        os.close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
    except FileNotFoundError:
        if folder != folder.parent:
            _ask_again(folder.parent)
            with suppress(OSError):
                os.close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
    except OSError:  # one without the right to be listed; who looks for the file meets the others again
        pass


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def _write_new(path: Path, content: Content, mode: int | None = None) -> None:
    # Never writable for a group, even if the umask allows it: those who can write a file control what it does.
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644 if mode is None else mode)
    with os.fdopen(handle, "wb") as stream:
        if callable(content):
            content(stream)
        else:
            stream.write(content.encode() if isinstance(content, str) else content)
        stream.flush()
        os.fsync(stream.fileno())
