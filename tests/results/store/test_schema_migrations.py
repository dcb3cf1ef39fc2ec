"""Runs that earlier versions of this package wrote are read under the names of today."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results.report import write_report
from results.store.reader import finished_trial_ids, load
from results.store.schema import TABLES

pytestmark = pytest.mark.check
DATA = Path(__file__).parents[1] / "data"
"""Runs as versions 1, 2, 3 and 8 of this package wrote them, with every table that the version had."""


def raw_tables(version: int) -> dict[str, pa.Table]:
    """The rows of each table as they stand in its file."""
    folders = (DATA / f"v{version}" / "tables").iterdir()
    return {folder.name: pq.ParquetFile(folder / "part.parquet").read() for folder in folders}


@pytest.mark.parametrize("version", [1, 2, 3, 8])
def test_an_old_run_is_read_under_the_names_of_today(version: int) -> None:
    raw = raw_tables(version)
    assert {table.schema.metadata[b"schema_version"] for table in raw.values()} == {b"%d" % version}
    with load(DATA / f"v{version}") as run:
        for name, table in raw.items():
            same = [column for column in table.column_names if column in {one.name for one in TABLES[name].columns}]
            listed = ", ".join(f'"{column}"' for column in same)
            rows = run.rows(f"SELECT {listed} FROM {name}")
            assert sorted(map(str, rows)) == sorted(map(str, table.select(same).to_pylist())), name


def test_what_an_old_version_called_otherwise_has_the_name_of_today_and_what_it_lacked_is_null() -> None:
    old = {(row["trial_id"], row["point"]): row for row in raw_tables(1)["operating_points"].to_pylist()}
    with load(DATA / "v1") as run:
        rows = run.rows("FROM operating_points")
        assert [row["tuning_json"] for row in run.rows("FROM planned")] == [None] * 4
        assert len(run.rows("FROM epochs WHERE train_accuracy_fraction = 0.75")) == 1
        measured = run.rows("SELECT test_score, test_images FROM measured_points")
    assert len(rows) == len(old) == 5
    for row in rows:
        score = old[row["trial_id"], row["point"]]["validation_accuracy_fraction"]
        assert (row["metric"], row["trained_macs"]) == ("accuracy", None)
        assert row["validation_score"] == row["deciding_score"] == score
    assert {row["test_images"] for row in measured} == {5}
    assert all(0.0 <= row["test_score"] <= 1.0 for row in measured)
    assert len(finished_trial_ids(DATA / "v1")) == 3
    with load(DATA / "v2") as run:
        assert [row["nodes"] for row in run.rows("FROM attempts")] == [None] * 4
        events = run.rows("SELECT driver, number, job, node, slots, detail FROM events ORDER BY driver")
    assert events == [
        {"driver": f"e{n}", "number": 0, "job": None, "node": None, "slots": None, "detail": f"node {n}"}
        for n in range(2)
    ]
    with load(DATA / "v3") as run:
        assert run.rows("FROM timings") == run.rows("FROM timed_on") == run.rows("FROM kept_filters") == []
        assert {row["validation_score"] for row in run.rows("FROM epochs")} == {None}
    with load(DATA / "v8") as run:
        assert run.rows("SELECT DISTINCT sampler_seed, reads FROM proposals") == [{"sampler_seed": None, "reads": None}]


def test_an_old_run_has_a_report(tmp_path: Path) -> None:
    shutil.copytree(DATA / "v1", tmp_path / "run")
    assert "transtailor" in write_report(tmp_path / "run").read_text()
