"""Benchmarks that need neither Ray, SLURM nor minutes measure something small, and write their page.

`make test-long` runs several others as people do, with `--quick`.
"""

import resource
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import coverage, planning, simulated_days
from tests.benchmarks.looks import rows_in


def out_in(folder: Path) -> list[str]:
    """The options that name the table."""
    return ["--out", str(folder / "table")]


def test_coverage_looks_at_some_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = coverage.cases()[::20]
    monkeypatch.setattr(coverage, "cases", lambda: few)
    monkeypatch.setattr(coverage, "REPEATS", 20)
    assert coverage.main(["--quick", *out_in(tmp_path)]) == 0
    assert rows_in(tmp_path)


def test_planning_plans_a_small_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = planning.TRIALS_PER_SEED
    monkeypatch.setattr(planning, "QUICK", (replace(planning.QUICK[0], trials=trials),))
    monkeypatch.setattr(planning, "QUICK_AGAIN", replace(planning.QUICK_AGAIN, trials=trials))
    assert planning.main(["--quick", *out_in(tmp_path)]) == 0
    rows = rows_in(tmp_path)
    assert [row["what"].partition(",")[0] for row in rows] == ["--plan", "launched again"]
    most_gb = 2 + resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # a child begins with its parent's peak
    assert all(float(row["cpu_s"]) > 0 and 0.01 < float(row["peak_memory_gb"]) < most_gb for row in rows)


def test_simulated_days_write_a_page(tmp_path: Path) -> None:
    assert simulated_days.main(["--minutes", "0", *out_in(tmp_path)]) == 0  # tests/simulation simulates days
    assert (tmp_path / "table.md").read_text().startswith("# ")
