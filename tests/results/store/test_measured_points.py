"""What the view of measured points says beside the rows themselves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from results.arms.fronts import fronts_of
from results.best import Limit, best_points
from results.circumstances import unsteady_lines
from results.store.points import write_points
from results.store.reader import load
from results.store.schema import TABLES
from results.store.writer import Writer
from tests.changed_rows import change_rows
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
    """In a minute in which its whole network took 3 ms, as at the reference measurement."""
    return {
        "model_key": model_key, "device_name": "cpu a", "threads": 1, "precision": "float32", "batch": 1, "repeats": 9,
        "latency_ms": latency_ms, "latency_lower_quartile_ms": 1.0, "latency_upper_quartile_ms": 9.0,
        "peak_memory_bytes": 1000,
        "runtime": "eager", "memory_format": "contiguous", "versions": "torch 2", 
        "speed": 3.0 / latency_ms, "whole_latency_ms": 3.0, "is_steady": True, "code_digest": "c",
        "speed_lower_quartile": 2.9 / latency_ms, "speed_upper_quartile": 3.1 / latency_ms,
        "reference_latency_ms": 3.0, "widths": "as pruned",
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


def in_another_minute(row: dict[str, Any], slower: float) -> dict[str, Any]:
    """The same model, timed while all takes longer."""
    return row | {name: slower * row[name] for name in ("latency_ms", "whole_latency_ms")}


def models_of(run: Path, labels: Sequence[str], **more: Any) -> dict[str, str]:
    """Write a trial with one point for each label; return label -> key of its model."""
    write_run(run, [Trial(label=label, seed=0, right=[90 - place], asked=(0.3,), removed=(0.3,), **more)
                    for place, label in enumerate(labels)])  # fmt: skip
    with load(run) as tables:
        return {row["label"]: row["model_key"] for row in tables.rows("FROM operating_points")}


def test_milliseconds_of_different_minutes_are_compared_by_the_share_of_the_whole_network(tmp_path: Path) -> None:
    """In turns one takes 1.83 of 3.29 ms and the other 2.47; the first was timed in a minute in which it took 2.815."""
    keys = models_of(tmp_path, ("0.55 of the ms", "0.75 of the ms"))
    whole = {"whole_latency_ms": 3.29, "reference_latency_ms": 3.29}
    fast = timing(keys["0.55 of the ms"], 1.83, speed=3.29 / 1.83, **whole)
    slow = timing(keys["0.75 of the ms"], 2.47, speed=3.29 / 2.47, **whole)
    busy = in_another_minute(fast, 2.815 / 1.83)
    assert busy["latency_ms"] > slow["latency_ms"]  # so they stood in the wrong order
    Writer(tmp_path / "tables").write("timings", [busy, slow])
    with load(tmp_path) as run:
        rows = run.rows("SELECT label, latency_ms, speed, is_steady, is_at_other_speed FROM measured_points")
        ((_, front),) = fronts_of(run, "latency_ms").items()
        (best,) = best_points(run, limits=[Limit.parse("latency_ms=2")])
        said = unsteady_lines(run)
    measured = {row.pop("label"): row for row in rows}
    assert measured["0.55 of the ms"] == {
        "latency_ms": pytest.approx(1.83), "speed": pytest.approx(1.798, abs=1e-3), "is_steady": True,
        "is_at_other_speed": True,
    }  # fmt: skip
    assert measured["0.75 of the ms"]["latency_ms"] == pytest.approx(2.47)
    assert measured["0.75 of the ms"]["is_at_other_speed"] is False
    assert [point.arm.label for point in front] == ["0.55 of the ms", "0.75 of the ms"]
    assert best["label"] == "0.55 of the ms"
    assert "another speed (column is_at_other_speed of latencies): 1. There" in said[0]
    assert said[0].endswith("--again, with the options of the first time")
    with load(tmp_path) as run:
        points = pq.read_table(write_points(run)).to_pylist()
    columns = ("latency_ms", "speed", "speed_lower_quartile", "speed_upper_quartile", "is_steady", "is_at_other_speed")
    assert [points[0][name] is not None for name in columns] == [True] * 6


def test_with_load_a_faster_sub_model_does_not_look_slower_than_the_whole_network(tmp_path: Path) -> None:
    keys = models_of(tmp_path, ("whole", "half", "other half"))
    rows = [timing(keys["whole"], 3.0)]
    rows += [in_another_minute(timing(keys[label], 2.0), 1.8) for label in ("half", "other half")]
    assert all(row["latency_ms"] > rows[0]["latency_ms"] for row in rows[1:])
    Writer(tmp_path / "tables").write("timings", rows)
    with load(tmp_path) as run:
        (front,) = fronts_of(run, "latency_ms").values()
    assert [(point.arm.label, round(point.cost, 9)) for point in front][-1] == ("whole", 3.0)


def test_whole_networks_of_two_sizes_have_a_reference_each(tmp_path: Path) -> None:
    """Such as of smaller images: a sub-model is compared with its own."""
    keys = models_of(tmp_path, ("small", "large"))
    rows = [timing(keys["small"], 1.0, whole_latency_ms=2.0, speed=2.0, reference_latency_ms=2.0)]
    rows += [timing(keys["large"], 4.0, whole_latency_ms=8.0, speed=2.0, reference_latency_ms=8.0)]
    with load(tmp_path) as run:
        points = run.rows("FROM operating_points")
    resized = [row | {"original_macs": 4000} for row in points if row["label"] == "large"]
    columns = {column.name for column in TABLES["operating_points"].columns} - {"written_at"}
    change_rows(tmp_path, "operating_points", [{name: row[name] for name in columns} for row in resized])
    Writer(tmp_path / "tables").write("timings", rows)
    with load(tmp_path) as run:
        found = run.rows("SELECT label, latency_ms, is_at_other_speed FROM measured_points ORDER BY label")
    assert [tuple(row.values()) for row in found] == [("large", 4.0, False), ("small", 1.0, False)]
