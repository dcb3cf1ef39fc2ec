"""docs/reading.md says what is so: its blocks run, from top to bottom, on a small made-up run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pytest
from pyarrow.dataset import dataset

import results
from results.store.compact import compact, superfluous_files
from results.store.writer import Writer
from tests.pages import DOCS, blocks, run_block


@pytest.mark.check
def test_the_page_runs(
    tmp_path: Path,
    synthetic: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    networks = ("digits_vgg", "digits_resnet")  # as the demo has
    synthetic(networks=networks, seeds=(0, 1)).write(tmp_path / "runs" / "demo")
    synthetic(networks=networks, seeds=(1, 2)).write(tmp_path / "runs" / "more_seeds")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks(DOCS / "reading.md"):
        run_block(block, tmp_path, names)
    printed = capsys.readouterr().out
    assert names["trials"].to_dict("records") == [{"status": "finished", "trials": 8}]
    assert len(names["its_points"]) == names["table"].num_rows - 4 == 16
    assert len(names["points"]) == 20
    assert names["per_run"].to_dict("records") == [{"run": "demo", "trials": 8}, {"run": "more_seeds", "trials": 8}]
    assert names["seeds"] == [{"seed": 0}, {"seed": 1}, {"seed": 2}]
    assert {arm.validation.n for arm in names["more"]} == {3}
    assert (tmp_path / "accuracy_by_macs.svg").stat().st_size > 1000
    assert "over 2 pairs" in printed
    assert (tmp_path / "runs" / "demo" / "merged" / "manifest.json").is_file()


def test_other_readers_see_the_rows_that_load_sees_also_after_a_clean_up(
    tmp_path: Path, synthetic: Any, trial_row: Callable[..., dict[str, Any]]
) -> None:
    """Merged files and parts that came later lie where docs/reading.md says; here no row was written twice."""
    run = synthetic(seeds=(0, 1)).write(tmp_path / "run")
    compact(run)
    for path in superfluous_files(run):
        path.unlink()
    Writer(run / "tables").write("trials", [trial_row()])
    files = sorted((run / "tables" / "trials").glob("**/*.parquet"))
    with results.load(run) as loaded:
        expected = sorted((row["trial_id"], row["status"], row["seconds"]) for row in loaded.rows("FROM trials"))
    columns = ["trial_id", "status", "seconds"]
    pandas_rows = pd.concat([pd.read_parquet(file, columns=columns) for file in files])
    rows_of = {
        "pandas": pandas_rows.itertuples(index=False, name=None),
        "pyarrow": zip(*dataset(files).to_table(columns).to_pydict().values(), strict=True),
        "polars": pl.read_parquet(files, columns=columns).select(columns).rows(),
        "duckdb": duckdb.sql(f"SELECT trial_id, status, seconds FROM '{run}/tables/trials/**/*.parquet'").fetchall(),
    }
    assert {reader: sorted(map(tuple, rows)) for reader, rows in rows_of.items()} == dict.fromkeys(rows_of, expected)
    assert len(expected) == 5 and len(files) == 2
