"""What the view of measured points says beside the rows themselves."""

from pathlib import Path
from typing import Any

from results.store.reader import load
from results.store.writer import Writer
from tests.results.exact_run import Trial, write_run


def test_points_say_where_nothing_was_removed(tmp_path: Path) -> None:
    """0.3 was asked for where 0.34 were gone already; where a rule decides, nothing was asked."""
    asked, removed = (0.0, 0.1, 0.2, 0.3, 0.4), (0.0, 0.12, 0.34, 0.34, 0.41)
    budgets = Trial(label="a", seed=0, right=[90] * 5, asked=asked, removed=removed)
    rule = Trial(label="b", seed=0, right=[90] * 2, asked=(0.0, None), removed=(0.0, 0.0))
    again = [write_run(tmp_path / name, [budgets, rule]) for name in ("first", "second")]
    for runs in (again[0], again):  # alone, and two runs of the same trials
        with load(runs) as run:
            found = run.rows("SELECT label, point FROM measured_points WHERE removed_nothing")
            assert len(run.rows("FROM measured_points")) == 7
        assert found == [{"label": "a", "point": 3}]


def timing(model_key: str, latency_ms: float, **more: object) -> dict[str, Any]:
    return {
        "model_key": model_key, "device_name": "cpu a", "threads": 1, "precision": "float32", "batch": 1, "repeats": 9,
        "latency_ms": latency_ms, "latency_lower_quartile_ms": 1.0, "latency_upper_quartile_ms": 9.0,
        "peak_memory_bytes": 1000,
        "runtime": "eager", "memory_format": "contiguous", "versions": "torch 2", 
        "speed": 1.5, "whole_latency_ms": 3.0, "is_steady": True, "code_digest": "c",
    } | more  # fmt: skip


def test_measured_points_have_the_times_of_the_circumstance_in_which_most_models_were_timed(tmp_path: Path) -> None:
    path = {"asked": (0.1, 0.2), "removed": (0.1, 0.2)}
    trials = [Trial(label="a", seed=seed, right=[90, 80 - seed], **path) for seed in range(3)]  # type: ignore[arg-type]
    untimed = write_run(tmp_path / "untimed", trials)
    write_run(tmp_path / "run", trials)
    with load(tmp_path / "run") as run:
        first, second, third, *_ = (row["model_key"] for row in run.rows("SELECT model_key FROM operating_points"))
    writer = Writer(tmp_path / "run" / "tables")
    writer.write("timings", [timing(first, 3.0), timing(second, 5.0, peak_memory_bytes=None)])
    writer.write("timings", [timing(third, 0.5, device_name="gpu b"), timing(first, 0.25, batch=8)])
    writer.write("timings", [timing(first, 4.0)])
    for runs in (tmp_path / "run", [tmp_path / "run", untimed]):
        with load(runs) as run:
            found = run.rows("SELECT model_key, latency_ms, peak_memory_bytes FROM measured_points")
            timed = {row.pop("model_key"): tuple(row.values()) for row in found if row["latency_ms"]}
            assert timed == {first: (4.0, 1000), second: (5.0, None)}
            assert run.rows("FROM timed_on") == [
                {
                    "device_name": "cpu a",
                    "runtime": "eager",
                    "precision": "float32",
                    "memory_format": "contiguous",
                    "batch": 1,
                    "threads": 1,
                    "versions": "torch 2",
                    "models": 2,
                }
            ]
            (points,) = run.rows("SELECT count(*) AS n, count(DISTINCT (trial_id, point)) AS d FROM measured_points")
            assert points["n"] == points["d"] == len(found)
