"""Runs that earlier versions of this package wrote are read under the names of today, or refused."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from results.errors import ResultsError
from results.report import write_report
from results.store.reader import finished_trial_ids, load
from results.store.schema import TABLES
from results.store.writer import Writer

VERSION_1 = Path(__file__).parents[1] / "data" / "v1"
"""Written by version 1 of this package: two arms, two seeds, of which fine_tune's second failed."""


def test_version_1_is_read_under_the_names_of_today() -> None:
    part = pq.ParquetFile(VERSION_1 / "tables" / "operating_points" / "part.parquet")
    assert part.schema_arrow.metadata[b"schema_version"] == b"1"
    raw = {(row["trial_id"], row["point"]): row for row in part.read().to_pylist()}
    assert "validation_accuracy_fraction" in part.schema_arrow.names
    with load(VERSION_1) as run:
        rows = run.rows("SELECT * FROM operating_points")
        assert [row["tuning_json"] for row in run.rows("SELECT * FROM planned")] == [None] * 4
        assert len(run.rows("SELECT * FROM epochs WHERE train_accuracy_fraction = 0.75")) == 1
        tested = run.rows("SELECT trial_id, point, metric, test_score, test_images FROM measured_points")
    assert len(rows) == len(raw) == 5
    for row in rows:
        old = raw[row["trial_id"], row["point"]]
        assert row["metric"] == "accuracy"
        assert row["validation_score"] == row["deciding_score"] == old["validation_accuracy_fraction"]
        assert row["trained_macs"] is None
        assert row["asked_removed_macs_fraction"] == old["asked_removed_macs_fraction"]
    assert {row["test_images"] for row in tested} == {5}
    assert all(0.0 <= row["test_score"] <= 1.0 for row in tested)
    assert len(finished_trial_ids(VERSION_1)) == 3


def test_a_run_may_have_parts_of_both_versions_and_the_last_row_stands(tmp_path: Path) -> None:
    shutil.copytree(VERSION_1, tmp_path / "run")
    with load(VERSION_1) as run:
        first, *_ = run.rows("SELECT * EXCLUDE (written_at) FROM operating_points ORDER BY trial_id, point")
    Writer(tmp_path / "run" / "tables").write("operating_points", [first | {"validation_score": 0.125}])
    with load(tmp_path / "run") as run:
        rows = run.rows("SELECT validation_score FROM operating_points ORDER BY trial_id, point")
    assert rows[0] == {"validation_score": 0.125}
    assert len(rows) == 5


def test_version_1_has_a_report(tmp_path: Path) -> None:
    shutil.copytree(VERSION_1, tmp_path / "run")
    assert "transtailor" in write_report(tmp_path / "run").read_text()


def test_version_1_with_other_columns_is_refused(tmp_path: Path) -> None:
    shutil.copytree(VERSION_1, tmp_path / "run")
    part = tmp_path / "run" / "tables" / "operating_points" / "part.parquet"
    pq.write_table(pq.ParquetFile(part).read().drop_columns(["macs"]), part)
    with pytest.raises(ResultsError, match="expected the columns"):
        load(tmp_path / "run")


VERSION_2 = Path(__file__).parents[1] / "data" / "v2"
"""Written by version 2 of this package: every table that it had, with tuning and training images."""


def test_version_2_is_read_under_the_names_of_today() -> None:
    raw = {folder.name: pq.ParquetFile(folder / "part.parquet").read() for folder in (VERSION_2 / "tables").iterdir()}
    assert set(raw) == set(TABLES) - {"printed", "timings", "kept_filters", "proposals", "rungs"}
    assert {table.schema.metadata[b"schema_version"] for table in raw.values()} == {b"2"}
    with load(VERSION_2) as run:
        for name, table in raw.items():
            same = [column for column in table.column_names if column in {one.name for one in TABLES[name].columns}]
            listed = ", ".join(f'"{column}"' for column in same)
            rows = run.rows(f"SELECT {listed} FROM {name}")
            assert sorted(map(str, rows)) == sorted(map(str, table.select(same).to_pylist()))
        assert [row["nodes"] for row in run.rows("FROM attempts")] == [None] * 4
        events = run.rows("SELECT driver, number, job, node, slots, detail FROM events ORDER BY driver")
    assert events == [
        {"driver": f"e{n}", "number": 0, "job": None, "node": None, "slots": None, "detail": f"node {n}"}
        for n in range(2)
    ]


VERSION_3 = Path(__file__).parents[1] / "data" / "v3"
"""Written by version 3 of this package: every table that it had, of eight made-up trials."""


def test_version_3_is_read_as_it_is_and_its_models_were_not_timed(tmp_path: Path) -> None:
    raw = {folder.name: pq.ParquetFile(folder / "part.parquet").read() for folder in (VERSION_3 / "tables").iterdir()}
    assert set(raw) == set(TABLES) - {"timings", "kept_filters", "proposals", "rungs"}
    assert {table.schema.metadata[b"schema_version"] for table in raw.values()} == {b"3"}
    with load(VERSION_3) as run:
        for name, table in raw.items():
            listed = ", ".join(f'"{column}"' for column in table.column_names)
            assert sorted(map(str, run.rows(f"SELECT {listed} FROM {name}"))) == sorted(map(str, table.to_pylist()))
        assert {row["validation_score"] for row in run.rows("FROM epochs")} == {None}
        assert run.rows("FROM timings") == run.rows("FROM timed_on") == run.rows("FROM kept_filters") == []
        assert {row["latency_ms"] for row in run.rows("SELECT latency_ms FROM measured_points")} == {None}
    shutil.copytree(VERSION_3, tmp_path / "run")
    assert "transtailor" in write_report(tmp_path / "run").read_text()


VERSION_8 = Path(__file__).parents[1] / "data" / "v8"
"""Written by version 8 of this package: the proposals of a search with made-up scores."""


def test_proposals_of_version_8_are_read_as_they_are_and_lack_what_was_not_recorded() -> None:
    raw = pq.ParquetFile(VERSION_8 / "tables" / "proposals" / "part.parquet").read()
    assert raw.schema.metadata[b"schema_version"] == b"8"
    listed = ", ".join(f'"{column}"' for column in raw.column_names)
    with load(VERSION_8) as run:
        assert run.rows(f"SELECT {listed} FROM proposals ORDER BY number") == raw.sort_by("number").to_pylist()
        assert run.rows("SELECT DISTINCT sampler_seed, reads FROM proposals") == [{"sampler_seed": None, "reads": None}]
    assert {one["purpose"] for one in raw.to_pylist()} == {"search", "promote", "confirm"}
