"""How late a node sees a file that another machine has made in the shared folder, and the doctor's verdict on that.

A sweep's stop, outcome and stages are files of other machines, for which it looks after opening their folder.
"""

import re
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hpc.doctor.finding import DoctorFolder, Finding, failure, fine
from transtailor.documents import DocumentError, Record
from transtailor.files import CACHED_S, is_there, make_folder, read_there, write_file
from transtailor.lines import lines_of
from transtailor.waiting import WaitedTooLong, wait_for

LATE_S = 5.0
"""A stop has to be noticed within 10 s."""
TURNS = 2
APART_S = LATE_S
"""Two names, made so far apart: a client may ask the server just after one was made, and not after both."""
NAMES_LIMIT_S = CACHED_S + 15.0
POLL_S = 0.2
VERDICT = ".transtailor-doctor.json"  # in the shared folder
_ESCAPED = re.compile(r"\\([0-7]{3})")  # a space in a path, as mountinfo writes it: \040


@dataclass(frozen=True, kw_only=True)
class Made(Record):
    """When the login node has made the names of each turn."""

    times_s: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Verdict(Record):
    """What the doctor has found about a shared folder."""

    at: str  # ISO 8601
    mount: str  # such as "server:/export, nfs4"
    finding: Finding


def make_names(folder: DoctorFolder, ranks: range) -> None:
    """On the login node, after the nodes have looked: make the names for which they wait; takes `APART_S`."""
    times_s = []
    for turn in range(TURNS):
        if turn > 0:
            time.sleep(APART_S)
        for rank in ranks:
            for path in _names(folder, rank, turn):
                make_folder(path.parent)
                write_file(path, "")
        times_s.append(time.time())
    folder.write("names", Made(times_s=tuple(times_s)))


class NamesWatch:
    """On a node: looks for the names that the login node will make for it, of each turn two; only for one it opens the
    folder.
    """

    def __init__(self, folder: DoctorFolder, rank: int) -> None:
        """Look once, so that the file system may remember that they are absent; then go on in a thread."""
        self._folder = folder
        self._opened, self._bare = zip(*(_names(folder, rank, turn) for turn in range(TURNS)), strict=True)
        for path in (self._opened[0], self._bare[0]):
            make_folder(path.parent)
        self._seen_s: dict[Path, float] = {}
        self._sees_all()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def finding(self) -> Finding:
        """Return how late the names were seen, the later of two each; waits for them."""
        self._thread.join(NAMES_LIMIT_S)
        made = self._folder.read("names", Made)
        if made is None:
            return failure(f"the login node's files are not seen within {NAMES_LIMIT_S:g} s", _ADVICE)
        return late_finding(self._late_s(self._opened, made), self._late_s(self._bare, made))

    def _late_s(self, paths: Sequence[Path], made: Made) -> float | None:
        """Return how late the later of two names was seen; None: one was not seen."""
        if any(path not in self._seen_s for path in paths):
            return None
        return max(0.0, *(self._seen_s[path] - time_s for path, time_s in zip(paths, made.times_s, strict=True)))

    def _sees_all(self) -> bool:
        """Look for the names; return whether all have been seen."""
        for paths, looks in ((self._opened, is_there), (self._bare, Path.exists)):
            for path in paths:
                if path not in self._seen_s and looks(path):
                    self._seen_s[path] = time.time()
        return len(self._seen_s) == len(self._opened) + len(self._bare)

    def _watch(self) -> None:
        with suppress(WaitedTooLong, OSError):
            wait_for(self._sees_all, "files of the login node", NAMES_LIMIT_S, poll_s=POLL_S, tell=None)


_ADVICE = "mount it without nocto (NFS), or with actimeo=1 (SMB, FUSE); or give another folder: --folder"


def late_finding(opened_late_s: float | None, bare_late_s: float | None) -> Finding:
    """Return whether names are seen in time.

    >>> late_finding(0.21, 31.4).text
    'a file of another machine is seen after 0.2 s, without opening its folder after 31.4 s'

    Args:
        opened_late_s: how late the name was seen whose folder was opened; None: not at all.
        bare_late_s: of the other name.
    """
    if opened_late_s is None or opened_late_s > LATE_S:
        text = f"a file of another machine is seen {_after(opened_late_s)}, though its folder is opened"
        return failure(text, _ADVICE)
    bare = _after(bare_late_s)
    return fine(f"a file of another machine is seen {_after(opened_late_s)}, without opening its folder {bare}")


def _after(late_s: float | None) -> str:
    return f"not within {NAMES_LIMIT_S:g} s" if late_s is None else f"after {late_s:.1f} s"


def write_verdict(folder: Path, finding: Finding) -> None:
    """Keep what was found about a shared folder, for `transtailor plan`."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    write_file(folder / VERDICT, Verdict(at=at, mount=mount_of(folder), finding=finding).to_json())


def read_verdict(folder: Path) -> Verdict | None:
    """Return what the doctor has found about a shared folder; None: it was never asked, or by another version."""
    try:
        return Verdict.from_json(read_there(folder / VERDICT))
    except (FileNotFoundError, DocumentError):
        return None


def mount_of(folder: Path) -> str:
    """Return what is mounted where a folder is, and the kind of file system.

    >>> mount_of(Path("/proc"))
    'proc, proc'
    """
    path = folder.resolve()
    longest = 0
    mounted = ""
    for line in lines_of(Path("/proc/self/mountinfo").read_text(errors="surrogateescape")):
        description, _, file_system = line.partition(" - ")
        point = Path(_ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), description.split()[4]))
        kind, source = file_system.split()[:2]
        if path.is_relative_to(point) and len(point.parts) >= longest:  # of two at one point the last one counts
            longest = len(point.parts)
            mounted = f"{source}, {kind}"
    return mounted


def _names(folder: DoctorFolder, rank: int, turn: int) -> tuple[Path, Path]:
    """Return the path that is looked for by opening its folder, and the other one; in folders of their own.

    These are in a third one, which does not change: looking for a folder in one that has changed asks for both.
    """
    folders = folder.path / f"names-{rank}"
    return folders / "opened" / f"file-{turn}", folders / "bare" / f"file-{turn}"
