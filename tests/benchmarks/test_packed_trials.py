"""The benchmark of trials packed on a device: what it reckons, and that it runs."""

from pathlib import Path

import pytest

from benchmarks.packed_trials import Round, rows_of
from tests.benchmarks.looks import rows_in, run


def test_packed_rounds_are_set_against_one_after_the_other_and_other_results_are_told() -> None:
    same, other = [[(0.5, 1.0, 10)], [(0.6, 0.9, 10)]], [[(0.5, 1.0, 10)], [(0.6, 0.9000001, 10)]]
    rounds = {
        1: [Round(wall_s=10.0, used_gb=1.0, found=same), Round(wall_s=14.0, used_gb=1.5, found=same)],
        2: [Round(wall_s=6.0, used_gb=3.0, found=same), Round(wall_s=6.0, used_gb=2.0, found=other)],
    }
    alone, packed = rows_of(rounds, "cuda")
    assert (alone["trials"], alone["trials_per_hour"], alone["times_one_after_the_other"]) == (2, 600.0, 1.0)
    assert (packed["trials_per_hour"], packed["times_one_after_the_other"], packed["used_gb"]) == (1200.0, 2.0, 3.0)
    assert (alone["equal_results"], packed["equal_results"]) == ("yes", "no")


@pytest.mark.long
def test_a_quick_look_on_a_cpu_writes_a_table(tmp_path: Path) -> None:
    done = run("packed_trials.py", tmp_path, "--device", "cpu", "--quick")
    assert done.returncode == 0, done.stderr
    rows = rows_in(tmp_path)
    assert [(row["at_once"], row["trials"], row["equal_results"]) for row in rows] == [
        ("1", "4", "yes"),
        ("2", "4", "yes"),
    ]
    assert all(float(row["trials_per_hour"]) > 0.0 and row["used_gb"] == "" for row in rows)
    assert "no GPU" in (tmp_path / "table.md").read_text()
