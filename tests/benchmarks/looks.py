"""A benchmark run as people run it, in a process of its own."""

import csv
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
LIMIT_S = 1700.0  # on a busy machine; a look takes a minute


def run(script: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a script of benchmarks/ in a folder, where it writes `table`.md and `table`.csv."""
    command = [sys.executable, str(BENCHMARKS / script), *options, "--out", str(folder / "table")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S, check=False)


def rows_in(folder: Path, name: str = "table") -> list[dict[str, str]]:
    """The rows of a table that a script wrote there."""
    with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
