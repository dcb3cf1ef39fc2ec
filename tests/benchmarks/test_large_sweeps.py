"""The benchmarks of planning, of start-up and of a large run do run, write their tables, and say what is so."""

from pathlib import Path

import pytest

from tests.benchmarks.looks import rows_in, run

ROOT = Path(__file__).resolve().parents[2]


def rows_of(script: str, folder: Path) -> list[dict[str, str]]:
    done = run(script, folder, "--quick")
    assert done.returncode == 0, done.stderr
    return rows_in(folder)


@pytest.mark.long
def test_planning_is_measured_in_processes_of_its_own(tmp_path: Path) -> None:
    rows = rows_of("planning.py", tmp_path)
    assert [row["what"].partition(",")[0] for row in rows] == ["--plan", "launched again"]
    assert {row["trials"] for row in rows} == {"1000"}
    assert all(float(row["cpu_s"]) > 0 and 0.01 < float(row["peak_memory_gb"]) < 2 for row in rows)


@pytest.mark.long
def test_start_up_is_measured_beside_bare_python(tmp_path: Path) -> None:
    rows = {row["what"]: row for row in rows_of("startup.py", tmp_path)}
    assert len(rows) == 5
    bare, first_step = rows["python -c pass"], rows["launch to the first step of the first trial"]
    assert float(bare["times_bare_python"]) == 1.0 and not bare["verdict"]
    assert float(rows["python -c 'import torch'"]["wall_s"]) < float(first_step["wall_s"])
    for row in (row for row in rows.values() if row["goal_s"]):
        assert row["verdict"] == ("met" if float(row["wall_s"]) < float(row["goal_s"]) else "missed")


@pytest.mark.long
def test_memory_and_disk_of_a_sweep_are_measured_while_it_runs(tmp_path: Path) -> None:
    rows = {row["what"]: row for row in rows_of("footprint.py", tmp_path)}
    for name in ("driver", "slot", "rank", "Ray itself"):
        assert 20 < float(rows[name]["median"]) <= float(rows[name]["most"]), name
    assert float(rows["cache, per trial"]["median"]) > 0 < float(rows["tables, per trial"]["median"])
    assert rows["checkpoints left at the end"]["verdict"] == "met"
    stored_mb, planned_mb = (
        float(rows[f"cache in all{what}"]["median"]) for what in ("", ", as the plan estimates it")
    )
    assert planned_mb < stored_mb < 1.5 * planned_mb


@pytest.mark.long
def test_the_report_and_the_status_of_a_large_run_are_measured_beside_a_scan(tmp_path: Path) -> None:
    rows = rows_of("large_run.py", tmp_path)
    assert len(rows) == 8
    assert all(float(row["cpu_s"]) > 0 and 0.01 < float(row["peak_memory_gb"]) < 2 for row in rows)
    assert [row["verdict"] for row in rows[::2]] == ["met"] * 4
    assert [float(row["times_the_scan"]) for row in rows[1::2]] == [1.0] * 4
    files = [int(row["files"]) for row in rows]
    assert files[0] == files[1] > files[2] > files[4] > files[6] == 5
