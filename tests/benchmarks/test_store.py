"""What the benchmarks of the store stand on: the made-up run, and the rows that every store is given."""

from pathlib import Path

from benchmarks.store import GROUP_BY, ask_duckdb, make_parts
from benchmarks.store_writers import STORES, rows_from
from benchmarks.synthetic_run import write_synthetic_run
from results.store.completeness import is_over, refuse_gaps
from results.store.reader import load
from results.store.schema import TABLES
from results.store.settle import settle
from sweeps.run.run_folder import RunFolder, open_run


def test_the_made_up_run_fills_every_table_and_the_same_seed_makes_the_same_rows(tmp_path: Path) -> None:
    rows = []
    for name, seed in (("a/run", 3), ("b/run", 3), ("c/run", 4)):
        counts = write_synthetic_run(tmp_path / name, 60, seed=seed, test_images=4, trials_per_part=25)
        with load(tmp_path / name) as run:
            refuse_gaps(run)
            assert not is_over(run)
            found = {table: run.rows(f"SELECT * EXCLUDE (written_at) FROM {table}") for table in TABLES}
            assert {table: len(found[table]) for table in TABLES} == counts  # no key is there twice
        assert [table for table in TABLES if not found[table]] == ["estimates", "proposals", "looks", "rungs"]
        rows.append({table: sorted(map(str, some)) for table, some in found.items()})
        assert len(open_run(RunFolder(tmp_path / name)).trials) == 60
    assert rows[0] == rows[1]
    assert rows[0]["operating_points"] != rows[2]["operating_points"]


def test_the_parts_that_are_asked_have_the_rows_that_are_named(tmp_path: Path) -> None:
    make_parts(tmp_path / "run", rows=200, parts=20)
    with load(tmp_path / "run") as run:
        assert len(run.parts["predictions"]) == 20
        answer = run.rows(GROUP_BY)
    assert len(answer) == 20
    assert sum(row["images"] for row in answer) == 200
    assert ask_duckdb(tmp_path / "run")["images"].to_pylist() == 20 * [10]
    settle(tmp_path / "run")
    assert ask_duckdb(tmp_path / "run")["images"].to_pylist() == 20 * [10]


def test_our_store_gets_the_rows_that_the_others_get(tmp_path: Path) -> None:
    ours = STORES[0]
    with ours.open(tmp_path, 7) as write:
        write(rows_from(7, 0, 3))
        write(rows_from(7, 3, 1))
    with load(tmp_path) as run:
        found = run.rows("SELECT trial_id AS trial, epoch, train_loss, seconds FROM epochs ORDER BY epoch")
    assert found == [
        {key: row[key] for key in ("trial", "epoch", "train_loss", "seconds")} for row in rows_from(7, 0, 4)
    ]
