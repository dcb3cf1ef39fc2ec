"""docs/reading.md says what is so: its blocks run, from top to bottom, on a small made-up run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import results
from tests.pages import DOCS, blocks, run_block


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


def test_files_named_for_other_readers_have_each_row_once_after_a_clean_up(
    tmp_path: Path, synthetic: Any, trial_row: Callable[..., dict[str, Any]]
) -> None:
    import duckdb

    from results.store.compact import compact, superfluous_files
    from results.store.writer import Writer

    run = synthetic(seeds=(0, 1)).write(tmp_path / "run")
    compact(run)
    for path in superfluous_files(run):
        path.unlink()
    Writer(run / "tables").write("trials", [trial_row()])
    (rows,) = duckdb.sql(f"SELECT count(*) FROM '{run}/tables/trials/**/*.parquet'").fetchall()
    with results.load(run) as loaded:
        assert loaded.rows("SELECT count(*) AS n FROM trials") == [{"n": rows[0]}] == [{"n": 5}]
