"""Submission pauses before the disk is full, says why, and goes on when there is room again."""

import os
from pathlib import Path

import pytest

from sweeps.driver import quota
from sweeps.driver.quota import GB, RESERVE_BYTES, RESERVE_FILES, DiskGuard, Room, bytes_in, room_in, why_pause

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


def test_the_words_say_how_much_is_left_where_and_what_to_do() -> None:
    why = why_pause(room(1_500_000_000), TB, is_paused=False)
    assert why is not None
    assert why.startswith("1.5 GB are left on a disk, less than 2.0 GB: ")
    assert "transtailor clean" in why
    assert "0 bytes are left" in str(why_pause(room(-GB), TB, is_paused=False))


def test_a_disk_that_has_room_but_no_more_files_pauses_too() -> None:
    assert "files may still be made" in str(why_pause(room(TB, RESERVE_FILES - 1), GB, is_paused=False))
    assert why_pause(room(TB, RESERVE_FILES), GB, is_paused=False) is None
    assert why_pause(room(TB, RESERVE_FILES), GB, is_paused=True) is not None
    assert why_pause(room(TB, None), GB, is_paused=True) is None


def test_the_room_is_that_of_the_file_system_or_of_the_limit_whichever_is_less(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "file").write_bytes(os.urandom(300_000))
    (tmp_path / "link").symlink_to("/usr")  # what lies behind is not this folder's
    used = bytes_in(tmp_path)
    assert 300_000 <= used < 400_000
    limited = room_in(tmp_path, 0.001)
    assert limited.free_bytes == 1_000_000 - used
    assert limited.where == f"of the 1.0 MB for {tmp_path}"
    open_ended, generous = room_in(tmp_path), room_in(tmp_path, 1e9)
    system = os.statvfs(tmp_path)
    assert open_ended.free_bytes == pytest.approx(system.f_bavail * system.f_frsize, rel=0.05)
    assert open_ended.where == generous.where == f"on the file system of {tmp_path}"


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        bytes_in(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        DiskGuard(tmp_path / "nowhere").why_paused(0)


def test_the_guard_pauses_at_a_limit_and_goes_on_after_a_clean_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "CHECK_EVERY_S", 0.0)
    monkeypatch.setattr(quota, "WALK_SHARE", 1e9)
    guard = DiskGuard(tmp_path, 0.003)  # of which 0.3 MB are kept free
    assert guard.why_paused(TB) is None
    for number in range(3):
        (tmp_path / str(number)).write_bytes(os.urandom(900_000))
    assert f"MB for {tmp_path}" in str(guard.why_paused(TB))
    (tmp_path / "0").unlink()
    assert guard.why_paused(TB) is None
    (tmp_path / "3").write_bytes(os.urandom(1_100_000))
    assert guard.why_paused(TB) is not None
    os.truncate(tmp_path / "3", 750_000)
    assert guard.why_paused(TB) is not None  # 0.4 MB: enough to have gone on with, not enough to begin again
    (tmp_path / "1").unlink()
    assert guard.why_paused(TB) is None


def test_the_guard_looks_at_the_disk_now_and_then_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "CHECK_EVERY_S", 1e9)
    guard = DiskGuard(tmp_path, 1.0)
    assert guard.why_paused(TB) is None
    tmp_path.rmdir()
    assert guard.why_paused(TB) is None  # or it would find no folder
