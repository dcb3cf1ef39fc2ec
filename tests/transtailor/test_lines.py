"""A line ends where its writer ended it: no code of the rooms splits texts where only `str.splitlines` sees an end."""

import re
from pathlib import Path

import pytest

from transtailor.lines import first_line, last_line, lines_of
from transtailor.sources import ROOT

ROOMS = ("hpc", "results", "sweeps", "tailor", "transtailor")
SPLITS = re.compile(r"\.splitlines\(")
NO_ENDS = "\v\f\x1c\x1d\x1e\x85\u2028\u2029"


def splitting(folder: Path) -> list[str]:
    """The files below a folder that use `splitlines`."""
    return [path.name for path in sorted(folder.rglob("*.py")) if SPLITS.search(path.read_text(encoding="utf-8"))]


def test_no_room_uses_splitlines(tmp_path: Path) -> None:
    assert {room: found for room in ROOMS if (found := splitting(ROOT / room))} == {}
    (tmp_path / "planted.py").write_text("lines = text.splitlines()\n")
    assert splitting(tmp_path) == ["planted.py"]


@pytest.mark.parametrize("character", NO_ENDS)
def test_only_a_line_feed_ends_a_line(character: str) -> None:
    assert lines_of(f"a{character}b\nc{character}\r\nd") == [f"a{character}b", f"c{character}", "d"]
    assert last_line(f"a\nb{character}c\n\n") == f"b{character}c"
    assert first_line(f"\n b{character}c \nd") == f"b{character}c"


def test_a_line_that_is_not_finished_can_be_left_out() -> None:
    assert lines_of("a\nb", only_ended=True) == lines_of("a\n", only_ended=True) == ["a"]
    assert lines_of("") == lines_of("", only_ended=True) == []
    assert first_line("") == last_line(" \n") == ""
