"""Each row of refusals.toml: exit code 2, the values that are named, nothing written, and a command that can be typed.

A row's file is what its door begins with and what the row adds. A row that needs more than three words of a message
says why in a comment.
"""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.commands import parsed, transtailor_command

DOORS = tomllib.loads(Path(__file__).with_name("refusals.toml").read_text())["door"]
ROWS = [(door, row, f"{door['of']}: {case}") for door in DOORS for case, row in door["rows"].items()]
ADVISED = re.compile(r"type: transtailor (.+)$", re.MULTILINE)


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below `folder` with what is in it."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize(("door", "row"), [row[:2] for row in ROWS], ids=[name for *_, name in ROWS])
def test_what_is_refused_names_its_values_and_writes_nothing(
    door: dict[str, Any], row: dict[str, Any], tmp_path: Path
) -> None:
    parts = filter(None, [door["begins"], row.get("adds")])
    (tmp_path / door["file"]).write_text("".join(f"{part}\n" for part in parts))
    before = contents(tmp_path)
    done = transtailor_command(*door["typed"], *(("--set", row["set"]) if "set" in row else ()), folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, ""), done
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    assert [name for name in row["names"] if name not in done.stderr] == [], done.stderr
    assert not re.search(r"('[^']+'); did you mean \1", done.stderr)
    assert contents(tmp_path) == before
    for words in ADVISED.findall(done.stderr):
        parsed(shlex.split(words))
