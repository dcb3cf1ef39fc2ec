"""A benchmark run as people run it, in a process of its own."""

import csv
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def run(script: str, folder: Path, *options: str, limit_s: float = 280.0) -> subprocess.CompletedProcess[str]:
    """Run a script of benchmarks/ in a folder, where it writes `table`.md and `table`.csv."""
    command = [sys.executable, str(BENCHMARKS / script), *options, "--out", str(folder / "table")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=limit_s, check=False)


def rows_in(folder: Path) -> list[dict[str, str]]:
    """The rows of the table that it wrote there."""
    with (folder / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))
