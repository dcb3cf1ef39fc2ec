"""Moments that the processes of a benchmark note, by the clock that all processes of a machine share."""

import time
from pathlib import Path

FILE = "moments.txt"
Moment = tuple[float, str, str]  # second, what happened, to what


def add_moment(folder: Path, what: str, of: str) -> None:
    """Notes that this happens now; both are single words."""
    with (folder / FILE).open("a") as file:
        file.write(f"{time.monotonic()} {what} {of}\n")


def read_moments(folder: Path) -> list[Moment]:
    """What was noted in a folder, in the order of its happening."""
    lines = (line.split() for line in (folder / FILE).read_text().splitlines())
    return sorted((float(moment_s), what, of) for moment_s, what, of in lines)
