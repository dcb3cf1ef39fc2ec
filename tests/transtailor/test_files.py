"""Files and folders that are whole or not there, and that every program writes them by these functions alone."""

import ast
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from tests.product import ROOMS, ROOT
from transtailor.files import (
    STALE_TRIES,
    finish_new_file,
    make_folder,
    make_folders,
    name_file,
    name_folder,
    read_there,
    sync,
    write_file,
    write_folder,
    write_new_file,
)

ALLOWED = {
    "transtailor/files.py": "this is it",
    "sweeps/operations/clean.py": "a folder that is removed gets another name first",
    "tailor/execution/cache.py": "a damaged stage is moved out of the way",
}
"""File -> why it renames or syncs by itself."""


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What reaches the disk, in its order: "sync <name>" and "rename <name>"."""
    seen: list[str] = []
    really_sync, really_rename = os.fsync, Path.replace

    def fsync(handle: int) -> None:
        seen.append(f"sync {Path(f'/proc/self/fd/{handle}').readlink().name}")
        really_sync(handle)

    def replace(path: Path, target: Path) -> Path:
        seen.append(f"rename {target.name}")
        return really_rename(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    return seen


def test_a_file_that_another_machine_replaces_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_file(tmp_path / "head.json", "the newer one")
    really, stale = Path.open, [STALE_TRIES - 1]

    def opened(path: Path, mode: str) -> IO[Any]:
        stale[0] -= 1
        if stale[0] >= 0:
            raise OSError(errno.ESTALE, "Stale file handle", str(path))
        return really(path, mode)

    monkeypatch.setattr(Path, "open", opened)
    assert read_there(path) == b"the newer one"
    stale[0] = STALE_TRIES
    with pytest.raises(OSError, match="Stale file handle"):
        read_there(path)


def test_a_new_file_whose_name_was_not_synced_is_known_by_its_second_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that whoever finds it syncs the name before others trust it."""
    really, synced = os.fsync, list[int]()

    def no_folder(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.ENOSPC, "no room")
        really(handle)

    with monkeypatch.context() as context:
        context.setattr(os, "fsync", no_folder)
        with pytest.raises(OSError, match="no room"):
            write_new_file(tmp_path / "stage", "content")
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
    finish_new_file(tmp_path / "stage")
    assert (synced, (tmp_path / "stage").read_text()) == ([tmp_path.stat().st_ino], "content")


def is_temporary(name: str, of: str) -> bool:
    return name.startswith(f".{of}.") and name.endswith(".tmp")


@pytest.mark.parametrize("content", ["é", "é".encode(), lambda stream: stream.write("é".encode())])
def test_a_file_has_the_content_and_replaces_an_older_one(tmp_path: Path, content: str) -> None:
    path = tmp_path / "file"
    path.write_text("something longer")
    assert write_file(path, content) == path
    assert path.read_bytes() == "é".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_content_then_name_of_a_file_reach_the_disk(tmp_path: Path, done: list[str]) -> None:
    write_file(tmp_path / "file", "text")
    first, *rest = done
    assert is_temporary(first.removeprefix("sync "), "file")
    assert rest == ["rename file", f"sync {tmp_path.name}"]


def test_a_file_of_others_is_synced_before_it_gets_its_name(tmp_path: Path, done: list[str]) -> None:
    (tmp_path / "made").write_text("new")
    (tmp_path / "file").write_text("old")
    name_file(tmp_path / "made", tmp_path / "file")
    assert done == ["sync made", "rename file", f"sync {tmp_path.name}"]
    assert (tmp_path / "file").read_text() == "new"


def test_all_of_a_folder_is_on_the_disk_before_it_has_its_name(tmp_path: Path, done: list[str]) -> None:
    write_folder(tmp_path / "above" / "folder", {Path("a"): b"1", Path("below/b"): b"2"})
    folder = tmp_path / "above" / "folder"
    assert ((folder / "a").read_bytes(), (folder / "below" / "b").read_bytes()) == (b"1", b"2")
    assert list(folder.parent.iterdir()) == [folder]
    _, new, *before, renamed, above = done
    assert (new, renamed, above) == (f"sync {tmp_path.name}", "rename folder", "sync above")
    assert {"sync a", "sync b", "sync below"} < set(before) and len(before) == 4


def test_the_first_one_keeps_a_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "folder", {"a": b"first"})
    with pytest.raises(FileExistsError, match="folder is there already"):
        write_folder(tmp_path / "folder", {"a": b"second"})
    temporary = tmp_path / "made"
    temporary.mkdir()
    with pytest.raises(FileExistsError):
        name_folder(temporary, tmp_path / "folder")
    assert (tmp_path / "folder" / "a").read_bytes() == b"first"
    assert set(tmp_path.iterdir()) == {tmp_path / "folder", temporary}


def test_another_refusal_of_a_name_is_passed_on(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    with pytest.raises(OSError, match="No such file") as caught:
        name_folder(tmp_path / "made", tmp_path / "absent" / "folder")
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize("write", [
    lambda folder: write_file(folder / "it", "new"), lambda folder: write_folder(folder / "new", {"a": b"1"}),
])  # fmt: skip
def test_on_a_full_disk_the_old_stays_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], object]
) -> None:
    (tmp_path / "it").write_text("old")

    def no_space(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("it", "old")]


def test_content_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    def fail(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "file", fail)
    assert list(tmp_path.iterdir()) == []


def test_a_secret_is_readable_by_this_user_alone_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    really = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (modes.append(os.fstat(handle).st_mode), really(handle)))
    write_file(tmp_path / "token", "secret", mode=0o600)
    assert stat.S_IMODE(modes[0]) == 0o600 == stat.S_IMODE((tmp_path / "token").stat().st_mode)


def test_the_name_of_each_new_folder_reaches_the_disk(tmp_path: Path, done: list[str]) -> None:
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    assert done == [f"sync {tmp_path.parent.name}", f"sync {tmp_path.name}", "sync a"]  # each before the next is made
    make_folder(tmp_path / "a" / "b")
    assert len(done) == 3  # it was there already


def test_a_folder_above_a_new_one_is_synced_too(tmp_path: Path, done: list[str]) -> None:
    """Who made it may have been killed before it was synced."""
    (tmp_path / "a").mkdir()
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "c")
    assert done == [f"sync {tmp_path.name}", "sync a", "sync a"]


def test_a_folder_that_others_made_is_synced_once(tmp_path: Path, done: list[str]) -> None:
    (tmp_path / "a").mkdir()
    make_folder(tmp_path / "a")
    make_folder(tmp_path / "a")
    assert done == [f"sync {tmp_path.name}"]


def test_the_names_of_several_folders_are_synced_together(tmp_path: Path, done: list[str]) -> None:
    (tmp_path / "a").mkdir()
    make_folders(tmp_path / "a", ["x", "y"])
    assert done == [f"sync {tmp_path.name}", "sync a"]
    make_folder(tmp_path / "a" / "x")
    make_folder(tmp_path / "a" / "y")
    assert len(done) == 2 and sorted((tmp_path / "a").iterdir()) == [tmp_path / "a" / "x", tmp_path / "a" / "y"]


def test_what_cannot_be_synced_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "absent")


def renames_or_syncs(code: str) -> bool:
    """Whether a module gives files other names, or syncs them: `str.replace` has two arguments, `Path.replace` one."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            has_one_argument = len(node.args) == 1 and not node.keywords
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            if node.func.attr in ("fsync", "fdatasync", "renames") or (owner, node.func.attr) == ("shutil", "move"):
                return True
            if node.func.attr in ("rename", "replace") and (has_one_argument or owner == "os"):
                return True
    return False


@pytest.mark.parametrize("code", [
    "import os\nos.replace(a, b)", "os.rename(a, b)", "path.rename(final)", "Path(a).replace(b)", "shutil.move(a, b)",
    "def f():\n    os.fsync(1)",
])  # fmt: skip
def test_a_rename_is_seen(code: str) -> None:
    assert renames_or_syncs(code)


@pytest.mark.parametrize("code", ["text.replace('a', 'b')", "replace(self, a=1)", "frame.rename(columns={})"])
def test_what_is_no_rename_is_none(code: str) -> None:
    assert not renames_or_syncs(code)


def test_files_get_their_names_in_one_place() -> None:
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    renaming_files = {path.relative_to(ROOT).as_posix() for path in files if renames_or_syncs(path.read_text())}
    assert renaming_files == set(ALLOWED)
