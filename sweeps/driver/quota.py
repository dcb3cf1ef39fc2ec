"""Whether the disk has room for more: a sweep pauses before a quota is reached, and resumes when there is room.

A full disk costs more than time: every file that is being written at that moment, also by other programs, fails.
"""

import os
import stat
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from rich.filesize import decimal

from transtailor.waiting import start_in_thread

GB = 10**9
RESERVE_BYTES = 2 * GB  # left free for the trials that run: checkpoints, rows, logs
RESERVE_FILES = 2000
RESERVE_FRACTION = 0.1  # of a limit that is small
ROOM_TO_RESUME = 2  # times the reserve, so that a sweep does not pause and resume at every file
SLACK_FRACTION = 0.2  # a plan's bytes are an estimate
SLACK_BYTES = 100 * 10**6
CHECK_EVERY_S = 30.0
MEASURE_LIMIT_S = 2.0  # a longer measurement continues in its thread; the sweep uses the last result meanwhile
WALK_SHARE = 0.02  # of the time may be spent on adding up the files of a folder


@dataclass(frozen=True, kw_only=True)
class Room:
    """What may still be written into a folder."""

    free_bytes: int
    free_files: int | None  # None if the file system has no limit
    where: str  # what sets the limit, for messages
    reserve_bytes: int = RESERVE_BYTES


def room_in(folder: Path, max_disk_gb: float | None = None) -> Room:
    """Return the room in an existing folder: of its file system for this user, or what is left of its own limit.

    Not every file system shows quotas of a user or a project; the limit is for those that do not.

    Args:
        max_disk_gb: the most that it may hold, in units of 10^9 bytes; None: no such limit. With a
            limit, all files in it are added up.

    Raises:
        OSError: the folder cannot be read.
    """
    system = os.statvfs(folder)
    free_bytes = system.f_bavail * system.f_frsize
    free_files = system.f_favail if system.f_files else None
    room = Room(free_bytes=free_bytes, free_files=free_files, where=f"on the file system of {folder}")
    if max_disk_gb is None:
        return room
    limit_bytes = int(max_disk_gb * GB)
    left_bytes = limit_bytes - bytes_in(folder)
    if left_bytes >= free_bytes:
        return room
    where = f"of the {decimal(limit_bytes)} for {folder}"
    reserve_bytes = min(RESERVE_BYTES, int(max_disk_gb * GB * RESERVE_FRACTION))
    return replace(room, free_bytes=left_bytes, where=where, reserve_bytes=reserve_bytes)


def bytes_in(folder: Path) -> int:
    """Return the bytes on the disk of all files below a folder.

    Links are not followed, and files that vanish meanwhile do not count.

    Raises:
        OSError: the folder itself cannot be read.
    """
    os.scandir(folder).close()
    return sum(status.st_blocks * 512 for status in _files_below(folder))


def why_pause(room: Room, needed_bytes: int, *, is_paused: bool) -> str | None:
    """Say why no trial may start; None if there is room.

    No pause is needed if the rest of the plan fits. Otherwise trials start until the reserve is reached; after a pause
    they start again when twice the reserve is free.

    Args:
        needed_bytes: that the plan will still write.
    """
    reserves = ROOM_TO_RESUME if is_paused else 1
    enough_bytes = int(needed_bytes * (1 + SLACK_FRACTION)) + SLACK_BYTES
    least_bytes = min(enough_bytes, reserves * room.reserve_bytes)
    least_files = reserves * RESERVE_FILES
    advice = "make room (transtailor clean says what could go), and it resumes by itself"
    if room.free_bytes < least_bytes:
        free = decimal(max(0, room.free_bytes))
        return f"{free} are left {room.where}, less than {decimal(least_bytes)}: {advice}"
    if room.free_files is not None and room.free_files < least_files:
        return f"{room.free_files} files may still be made {room.where}, less than {least_files}: {advice}"
    return None


class DiskGuard:
    """Watches one folder; it may be asked often, and looks at the disk from time to time."""

    def __init__(self, folder: Path, max_disk_gb: float | None = None) -> None:
        """Watch an existing folder and its limit; see `room_in`."""
        self._folder = folder
        self._max_disk_gb = max_disk_gb
        self._why: str | None = None
        self._next_s = float("-inf")
        self._measurement: Future[Room] | None = None  # the measurement that runs
        self._begun_s = 0.0
        self._is_long = False

    def why_paused(self, needed_bytes: int) -> str | None:
        """Say why no trial may start now; None if there is room.

        Looks every half minute, or more rarely if adding up the files of the folder takes long.

        Args:
            needed_bytes: that the plan will still write into the folder.

        Raises:
            OSError: the folder cannot be read.
        """
        if self._measurement is None and time.monotonic() >= self._next_s:
            self._measurement = start_in_thread(lambda: room_in(self._folder, self._max_disk_gb))
            self._begun_s = time.monotonic()
        if self._measurement is not None and wait([self._measurement], 0.0 if self._is_long else MEASURE_LIMIT_S).done:
            room = self._measurement.result(0)
            self._measurement = None
            self._why = why_pause(room, needed_bytes, is_paused=self._why is not None)
            looked_s = time.monotonic()
            self._next_s = looked_s + max(CHECK_EVERY_S, (looked_s - self._begun_s) / WALK_SHARE)
        self._is_long = self._measurement is not None
        return self._why


def _files_below(folder: Path) -> Iterator[os.stat_result]:
    """Yield the status of each regular file."""
    for path, _folders, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # removed since it was listed
                status = os.lstat(f"{path}/{name}")
                if stat.S_ISREG(status.st_mode):
                    yield status
