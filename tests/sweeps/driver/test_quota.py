"""Submission pauses before the disk is full, says why, and goes on when there is room again."""

import os
from pathlib import Path

import pytest

from sweeps.driver import quota
from sweeps.driver.quota import GB, RESERVE_BYTES, RESERVE_FILES, DiskGuard, Room, why_pause
from tailor.execution.cache import KEY_DIGITS, Cache

TB = 1000 * GB


def room(free_bytes: int, free_files: int | None = None) -> Room:
    return Room(free_bytes=free_bytes, free_files=free_files, where="on a disk")


@pytest.mark.parametrize(
    ("free_bytes", "needed_bytes", "is_paused", "pauses"),
    [
        (500 * GB, TB, False, False),  # not all will fit, yet there is much to do until then
        (RESERVE_BYTES, TB, False, False),
        (RESERVE_BYTES - 1, TB, False, True),
        (RESERVE_BYTES + 1, TB, True, True),  # paused: it takes more than one file to go on
        (2 * RESERVE_BYTES, TB, True, False),
        (GB, 10**6, False, False),  # a small sweep on a small disk runs
        (GB, 10**6, True, False),
        (10**8, 10**6, False, True),  # not without slack
        (-GB, TB, False, True),
        (0, 0, False, True),
    ],
)
def test_it_pauses_at_the_reserve_unless_all_fits_and_goes_on_at_twice_that(
    free_bytes: int, needed_bytes: int, is_paused: bool, pauses: bool
) -> None:
    why = why_pause(room(free_bytes), needed_bytes, is_paused=is_paused)
    assert (why is not None) == pauses


def test_a_disk_that_has_room_but_no_more_files_pauses_too() -> None:
    assert "files may still be made" in str(why_pause(room(TB, RESERVE_FILES - 1), GB, is_paused=False))
    assert why_pause(room(TB, RESERVE_FILES), GB, is_paused=False) is None
    assert why_pause(room(TB, RESERVE_FILES), GB, is_paused=True) is not None
    assert why_pause(room(TB, None), GB, is_paused=True) is None


def write_stage(folder: Path, digit: str, size_bytes: int) -> Path:
    path = Cache(folder).path(KEY_DIGITS * digit)
    path.parent.mkdir()
    path.write_bytes(bytes(size_bytes))
    return path


def test_the_room_is_that_of_the_file_system_or_of_the_limit_whichever_is_less(tmp_path: Path) -> None:
    write_stage(tmp_path, "0", 300_000)
    (tmp_path / "other").write_bytes(bytes(300_000))  # no stage
    limited = DiskGuard(tmp_path, 0.001).room()
    assert limited.free_bytes == 1_000_000 - 300_000
    assert limited.where == f"of the 1.0 MB for {tmp_path}"
    open_ended, generous = DiskGuard(tmp_path).room(), DiskGuard(tmp_path, 1e9).room()
    system = os.statvfs(tmp_path)
    assert open_ended.free_bytes == pytest.approx(system.f_bavail * system.f_frsize, rel=0.05)
    assert open_ended.where == generous.where == f"on the file system of {tmp_path}"


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        DiskGuard(tmp_path / "nowhere").why_paused(0)


def test_the_guard_pauses_at_a_limit_and_goes_on_after_a_clean_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "CHECK_EVERY_S", 0.0)
    guard = DiskGuard(tmp_path, 0.003)  # of which 0.3 MB are kept free
    assert guard.why_paused(TB) is None
    first, second, _third = (write_stage(tmp_path, digit, 940_000) for digit in "012")
    assert f"MB for {tmp_path}" in str(guard.why_paused(TB))
    first.unlink()
    assert guard.why_paused(TB) is None
    write_stage(tmp_path, "3", 650_000)
    last = write_stage(tmp_path, "4", 400_000)
    assert guard.why_paused(TB) is not None
    last.unlink()
    assert guard.why_paused(TB) is not None  # 0.5 MB: enough to have gone on with, not enough to begin again
    second.unlink()
    assert guard.why_paused(TB) is None


def test_the_guard_looks_at_the_disk_now_and_then_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "CHECK_EVERY_S", 1e9)
    guard = DiskGuard(tmp_path, 1.0)
    assert guard.why_paused(TB) is None
    tmp_path.rmdir()
    assert guard.why_paused(TB) is None  # or it would find no folder
