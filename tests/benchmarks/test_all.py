"""`make bench`, `bench-long`, `bench-faults`: each command is one of ours; what was measured is left out on request."""

import re
from datetime import date, timedelta
from pathlib import Path

import pytest

from benchmarks.all import GROUPS, commands_of
from benchmarks.record import EVIDENCE, ROOT, Measured, write

MADE_BY = re.compile(r"; commit [0-9a-f]{8} has it\.|\.\./sweeps/specs/\w+\.toml\)|^    transtailor ", re.MULTILINE)
TABLE = Measured(title="A table", columns=("s",), rows=((1.0,),), notes=())


@pytest.mark.parametrize("group", GROUPS)
def test_each_command_is_there_and_has_a_table(group: str) -> None:
    commands = commands_of(group)
    assert all(command.startswith("python ") and (ROOT / command.split()[1]).is_file() for command in commands)
    again = {command for command in commands if "simulated_days" in command}  # two, of one table
    assert set(commands) & set(commands_of(group, date(2026, 1, 1))) <= again


def test_each_page_of_evidence_is_listed_and_has_its_benchmark_its_spec_or_its_commit() -> None:
    contents = (EVIDENCE / "README.md").read_text()
    for page in EVIDENCE.glob("[!R]*.md"):
        text = page.read_text()
        scripts = re.findall(r"^- command: `python ([\w/.]+)", text, re.MULTILINE)
        is_there = bool(scripts) and all((ROOT / script).is_file() for script in scripts)
        assert f"({page.name})" in contents and (is_there or MADE_BY.search(text)), page.name


def test_what_was_measured_since_a_day_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = commands_of("bench")
    monkeypatch.setattr("sys.argv", [str(ROOT / "benchmarks" / "empty_trial.py")])
    page, _ = write(TABLE, tmp_path / "empty_trial")
    day = date.fromisoformat(page.read_text().split("- date: `")[1][:10])
    left = [command for command in every if command != "python benchmarks/empty_trial.py"]
    assert commands_of("bench", day, tmp_path) == left
    assert commands_of("bench", day + timedelta(days=1), tmp_path) == commands_of("bench", None, tmp_path) == every
