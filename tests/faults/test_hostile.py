"""The short version of benchmarks/fuzzing.py, and that its targets read what is whole and see what is not."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.hostile import targets

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_hostile_input_is_refused_in_words(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/fuzzing.py", "--inputs", "1000", "--out", str(tmp_path / "f")]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *_, whole = csv.DictReader((tmp_path / "f.csv").read_text().splitlines())
    assert (whole["what was read"], whole["faults"]) == ("all", "0")
    assert int(whole["inputs"]) >= 1000


def test_whole_input_is_accepted(tmp_path: Path) -> None:
    for number, (name, target) in enumerate(targets(tmp_path / "whole").items()):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        assert target.read(folder, target.whole), name
