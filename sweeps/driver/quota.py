"""Whether the disk has room for more: a sweep pauses before a quota is reached, and resumes when there is room.

A full disk costs more than time: every file that is being written at that moment, also by other programs, fails.
"""

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

from rich.filesize import decimal

from tailor.execution.cache import Cache
from transtailor.files import stat_there

GB = 10**9
RESERVE_BYTES = 2 * GB  # left free for the trials that run: checkpoints, rows, logs
RESERVE_FILES = 2000
RESERVE_FRACTION = 0.1  # of a limit that is small
ROOM_TO_RESUME = 2  # times the reserve, so that a sweep does not pause and resume at every file
SLACK_FRACTION = 0.2  # a plan's bytes are an estimate
SLACK_BYTES = 100 * 10**6
CHECK_EVERY_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Room:
    """What may still be written into a folder."""

    free_bytes: int
    free_files: int | None  # None if the file system has no limit
    where: str  # what sets the limit, for messages
    reserve_bytes: int = RESERVE_BYTES


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
    """Watches a cache; it may be asked often, and looks at the disk from time to time."""

    def __init__(self, folder: Path, max_disk_gb: float | None = None) -> None:
        """Watch an existing folder.

        Not every file system shows quotas of a user or a project; the limit is for those that do not.

        Args:
            max_disk_gb: the most that its finished stages may hold, in units of 10^9 bytes; None: no such limit.
        """
        self._cache = Cache(folder)
        self._max_disk_gb = max_disk_gb
        self._why: str | None = None
        self._next_s = float("-inf")
        self._bytes_of: dict[str, int] = {}  # key of a finished stage -> size of its file, which never changes

    def why_paused(self, needed_bytes: int) -> str | None:
        """Say why no trial may start now; None if there is room. Looks every half minute.

        Args:
            needed_bytes: that the plan will still write into the folder.

        Raises:
            OSError: the folder cannot be read.
        """
        if time.monotonic() >= self._next_s:
            self._why = why_pause(self.room(), needed_bytes, is_paused=self._why is not None)
            self._next_s = time.monotonic() + CHECK_EVERY_S
        return self._why

    def room(self) -> Room:
        """Return the room in the folder: of its file system for this user, or what is left of its own limit.

        Raises:
            OSError: the folder cannot be read.
        """
        folder = self._cache.folder
        system = os.statvfs(folder)
        free_bytes = system.f_bavail * system.f_frsize
        free_files = system.f_favail if system.f_files else None
        room = Room(free_bytes=free_bytes, free_files=free_files, where=f"on the file system of {folder}")
        if self._max_disk_gb is None:
            return room
        limit_bytes = int(self._max_disk_gb * GB)
        bytes_before, self._bytes_of = self._bytes_of, {}
        for key in self._cache.stored_keys():
            if key in bytes_before:
                self._bytes_of[key] = bytes_before[key]
            elif (status := stat_there(self._cache.path(key))) is not None:  # else it was removed since it was listed
                self._bytes_of[key] = status.st_size
        left_bytes = limit_bytes - sum(self._bytes_of.values())
        if left_bytes >= free_bytes:
            return room
        where = f"of the {decimal(limit_bytes)} for {folder}"
        return replace(
            room, free_bytes=left_bytes, where=where,
            reserve_bytes=min(RESERVE_BYTES, int(limit_bytes * RESERVE_FRACTION)),
        )  # fmt: skip
