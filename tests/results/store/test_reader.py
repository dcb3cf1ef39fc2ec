"""The reader: the last row of a key, at any moment, from any folder, and clear words where it cannot."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results.errors import ResultsError
from results.store.completeness import MISSING, failed_trials
from results.store.reader import finished_trial_ids, last_written_us, load
from results.store.schema import SCHEMA_VERSION, TABLES, arrow_schema
from results.store.writer import Writer
from tests.lines import at_most

Row = Callable[..., dict[str, Any]]


def test_the_last_row_of_a_key_stands_whatever_the_parts_are_called(tmp_path: Path, trial_row: Row) -> None:
    writer = Writer(tmp_path / "tables")
    first = writer.write("trials", [trial_row(status="failed", error="x"), trial_row(trial_id="b")])
    writer.write("trials", [trial_row(seconds=7.0)])
    assert first is not None
    first.rename(first.with_name("zzz.parquet"))
    with load(tmp_path) as run:
        rows = run.rows("SELECT trial_id, status, seconds FROM trials ORDER BY trial_id")
    assert rows == [
        {"trial_id": "a", "status": "finished", "seconds": 7.0},
        {"trial_id": "b", "status": "finished", "seconds": 1.0},
    ]
    assert finished_trial_ids(tmp_path) == {"a", "b"}


def test_rows_of_one_part_with_the_same_key_count_in_their_order(tmp_path: Path, trial_row: Row) -> None:
    Writer(tmp_path / "tables").write("trials", [trial_row(), trial_row(status="failed", error="x")])
    with load(tmp_path) as run:
        assert run.rows("SELECT status FROM trials") == [{"status": "failed"}]
    assert finished_trial_ids(tmp_path) == set()


def test_the_last_row_is_the_last_of_any_trial(tmp_path: Path) -> None:
    """In whichever table and version it is; rows that are about no trial do not count."""
    (tmp_path / "tables").mkdir()
    with load(tmp_path) as run:
        assert last_written_us(run) is None
    for name, second in (("trials", 2), ("stages", 1), ("layers", 9), ("planned", 3)):
        schema = arrow_schema(TABLES[name])
        nullable = pa.schema([field.with_nullable(True) for field in schema], schema.metadata)
        row = dict.fromkeys(schema.names) | {"trial_id": "a", "written_at": datetime.fromtimestamp(second, UTC)}
        (tmp_path / "tables" / name).mkdir()
        pq.write_table(pa.Table.from_pylist([row], nullable), tmp_path / "tables" / name / "part.parquet")
        if name == "layers":  # whose rows say nothing of the progress of a trial
            with load(tmp_path) as run:
                assert last_written_us(run) == 2_000_000
    with load(tmp_path) as run:
        assert last_written_us(run) == 3_000_000


def test_the_last_row_is_in_the_last_part_or_in_one_that_no_writer_named(tmp_path: Path, trial_row: Row) -> None:
    writer = Writer(tmp_path / "tables")
    for trial_id in "abc":
        last = writer.write("trials", [trial_row(trial_id=trial_id)])
    assert last is not None
    for path in (last, last.with_name("0.parquet")):  # a name that says nothing, and sorts before all others
        with load(tmp_path) as run:
            (newest,) = run.rows("SELECT epoch_us(written_at) AS last_us FROM trials WHERE trial_id = 'c'")
            assert last_written_us(run) == newest["last_us"]
        path.rename(last.with_name("0.parquet"))


def test_tables_that_nobody_asks_for_are_not_opened(tmp_path: Path, trial_row: Row) -> None:
    Writer(tmp_path / "tables").write("trials", [trial_row()])
    (tmp_path / "tables" / "epochs").mkdir()
    (tmp_path / "tables" / "epochs" / "torn.parquet").write_bytes(b"PAR1")
    with load(tmp_path, ["trials"]) as run:
        assert run.rows("SELECT count(*) AS rows FROM trials") == [{"rows": 1}]
        assert run.rows("SELECT * FROM epochs") == []
    with pytest.raises(ResultsError, match="torn"):
        load(tmp_path)


def test_parts_of_the_same_moment_go_by_name_in_both_ways_of_reading(tmp_path: Path, trial_row: Row) -> None:
    schema = arrow_schema(TABLES["trials"])
    folder = tmp_path / "tables" / "trials"
    folder.mkdir(parents=True)
    for name, status in (("b", "finished"), ("a", "failed")):
        row = trial_row(status=status) | {"written_at": datetime(2024, 1, 1, tzinfo=UTC)}
        pq.write_table(pa.Table.from_pylist([row], schema), folder / f"{name}.parquet")
    with load(tmp_path) as run:
        assert run.rows("SELECT status FROM trials") == [{"status": "finished"}]
    assert finished_trial_ids(tmp_path) == {"a"}


def test_tables_without_a_part_are_empty_and_types_are_the_same_with_and_without(
    tmp_path: Path, trial_row: Row
) -> None:
    (tmp_path / "tables").mkdir()
    with load(tmp_path) as run:
        for name, table in TABLES.items():
            frame = run.sql(f"SELECT * FROM {name}")
            assert list(frame.columns) == [column.name for column in table.columns]
            assert len(frame) == 0
            empty = run.arrow(f"SELECT * FROM {name}").schema
            kinds = [str(kind).replace("<l:", "<item:") for kind in empty.types]  # DuckDB's name for what a list holds
            assert kinds == [str(column.type) for column in table.columns]
        assert len(run.sql("SELECT * FROM measured_points")) == 0
    assert finished_trial_ids(tmp_path) == set()
    Writer(tmp_path / "tables").write("trials", [trial_row()])
    with load(tmp_path) as run:
        types = run.arrow("SELECT * FROM trials").schema.types
    assert [str(kind) for kind in types] == [str(column.type) for column in TABLES["trials"].columns]


HOSTILE = [
    "with space", "it's", 'say "hi"', "star*", "what?", "[ab]", "]x[", "100%", "back\\slash", "'; DROP TABLE x; --",
    "{brace}", "ünïcödé 网", "new\nline", "$HOME", "~", "a,b", "key=value", "trial_id=x", "**",
    "x.parquet", "-flag", "#hash",
]  # fmt: skip


@pytest.mark.check
def test_any_folder_name_works_and_no_other_folder_is_read(tmp_path: Path, trial_row: Row) -> None:
    folders = ["a", "starfish", "whats", *HOSTILE]
    for name in folders:
        part = Writer(tmp_path / name / "tables").write("trials", [trial_row(trial_id=name)])
        assert part is not None
        part.rename(part.with_name("part.parquet"))  # the same name everywhere, so that a pattern would find others
    for name in folders:
        with load(tmp_path / name, ["trials"]) as run:
            assert run.rows("SELECT trial_id FROM trials") == [{"trial_id": name}]
        assert finished_trial_ids(tmp_path / name) == {name}


def test_temporary_and_other_files_are_left_alone(tmp_path: Path, trial_row: Row) -> None:
    part = Writer(tmp_path / "tables").write("trials", [trial_row()])
    assert part is not None
    (part.parent / ".half.parquet.tmp").write_bytes(b"PAR1")
    (part.parent / ".half.parquet").write_bytes(b"PAR1")
    (part.parent / "notes.txt").write_text("mine")
    with load(tmp_path) as run:
        assert len(run.rows("SELECT * FROM trials")) == 1
    assert finished_trial_ids(tmp_path) == {"a"}


def _write(folder: Path, schema: pa.Schema) -> None:
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([], schema), folder / "part.parquet")


def _torn(folder: Path) -> None:
    _write(folder, arrow_schema(TABLES["trials"]))
    part = folder / "part.parquet"
    part.write_bytes(part.read_bytes()[:-20])


def _empty(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "part.parquet").touch()


def _foreign(folder: Path) -> None:
    _write(folder, pa.schema([("a", pa.int64())]))


def _of_another_table(folder: Path) -> None:
    _write(folder, arrow_schema(TABLES["events"]))


def _of_version(version: int) -> Callable[[Path], None]:
    schema = arrow_schema(TABLES["trials"])
    changed = schema.with_metadata(schema.metadata | {b"schema_version": str(version).encode()})
    return lambda folder: _write(folder, changed)


def _other_columns(folder: Path) -> None:
    schema = arrow_schema(TABLES["trials"])
    _write(folder, schema.remove(0))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_torn, "torn or no Parquet file"),
        (_empty, "torn or no Parquet file"),
        (_foreign, "was not written by this program as a part of trials"),
        (_of_another_table, "was not written by this program as a part of trials"),
        (_of_version(0), f"has schema version 0, this program reads 1, {SCHEMA_VERSION}: update the program"),
        (
            _of_version(SCHEMA_VERSION + 1),
            f"has schema version {SCHEMA_VERSION + 1}, this program reads 1, {SCHEMA_VERSION}: update the program",
        ),
        (_other_columns, "expected the columns"),
    ],
)
def test_a_part_that_cannot_be_read_is_named(tmp_path: Path, damage: Callable[[Path], None], words: str) -> None:
    damage(tmp_path / "tables" / "trials")
    for read in (load, finished_trial_ids):
        with pytest.raises(ResultsError, match=words) as caught:
            read(tmp_path)
        assert "part.parquet" in str(caught.value)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no folder .*nowhere"):
        load(tmp_path / "nowhere")
    with pytest.raises(ResultsError, match="is no run: it has neither tables/ nor spec.toml"):
        load(tmp_path)
    (tmp_path / "tables").mkdir()
    with pytest.raises(ResultsError, match="did you mean .*"):
        load(tmp_path / "tables")


def test_a_run_that_has_only_just_begun_is_empty(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").touch()
    with load(tmp_path) as run:
        assert run.rows("SELECT * FROM planned") == []


def test_queries_take_parameters_and_refusals_say_why(tmp_path: Path, trial_row: Row) -> None:
    Writer(tmp_path / "tables").write("trials", [trial_row(), trial_row(trial_id="b'; --")])
    with load(tmp_path) as run:
        assert run.rows("SELECT count(*) AS n FROM trials WHERE trial_id = ?", ["b'; --"]) == [{"n": 1}]
        with pytest.raises(ResultsError, match=r'(?si)trails .*did you mean "trials".*Tables: planned'):
            run.sql("SELECT * FROM trails")
        for sql in (
            "CREATE TABLE x (a INTEGER)",
            f"COPY (SELECT 1) TO '{tmp_path}/x'",
            "SELECT 1; SELECT 2",
            "",
            "-- x",
        ):
            with pytest.raises(ResultsError, match="expected one query"):
                run.rows(sql)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".writing", "tables"]


def test_missing_and_failed_trials_are_named(tmp_path: Path, synthetic: Any) -> None:
    ends = {("transtailor", 0): "missing", ("fine_tune", 1): "failed"}
    run_folder = synthetic(seeds=(0, 1), end=lambda label, seed: ends.get((label, seed), "finished")).write(tmp_path)
    with load(run_folder) as run:
        (missing,) = run.rows(MISSING)
        (failed,) = failed_trials(run)
    assert (missing["arm"], missing["seed"], missing["attempt"]) == ("transtailor", 0, None)
    assert (failed["arm"], failed["seed"], failed["error"]) == ("fine_tune", 1, "RuntimeError: out of memory")


def test_a_missing_trial_shows_its_last_attempt(tmp_path: Path, synthetic: Any) -> None:
    synthetic(seeds=(0,), end=lambda _label, _seed: "missing").write(tmp_path)
    with load(tmp_path) as run:
        trial_id = run.rows(MISSING)[0]["trial_id"]
    now = datetime.now(UTC)
    common = {"trial_id": trial_id, "driver": "d", "log_tail": None, "host": "h", "started_at": now, "code_digest": "c"}
    writer = Writer(tmp_path / "tables")
    writer.write("attempts", [common | {"attempt": 2, "status": "running", "cause": None, "ended_at": None}])
    ended = now + timedelta(seconds=1)
    writer.write("attempts", [common | {"attempt": 1, "status": "died", "cause": "node lost", "ended_at": ended}])
    with load(tmp_path) as run:
        found = {row["trial_id"]: row for row in run.rows(MISSING)}
    assert len(found) == 2
    assert (found[trial_id]["attempt"], found[trial_id]["attempt_status"]) == (2, "running")


def test_measured_points_count_the_test_split_alone(tmp_path: Path, synthetic: Any) -> None:
    synthetic(seeds=(0,), budgets=(0.0,), labels=(("fine_tune", "fine_tune"),), test_images=4).write(tmp_path)
    with load(tmp_path) as run:
        (point,) = run.rows("SELECT * FROM operating_points")
    common = {"trial_id": point["trial_id"], "point": 0, "probability": 0.5, "code_digest": "c"}
    right = [True, False, False, False]
    rows = [common | {"split": "test", "image_id": i, "label": 1, "prediction": int(ok)} for i, ok in enumerate(right)]
    rows += [common | {"split": "validation", "image_id": i, "label": 1, "prediction": 1} for i in range(9)]
    Writer(tmp_path / "tables").write("predictions", rows)
    with load(tmp_path) as run:
        (measured,) = run.rows("SELECT test_score, test_images FROM measured_points")
    assert measured == {"test_score": 0.25, "test_images": 4}


def test_holding_a_view_changes_no_answer(tmp_path: Path, synthetic: Any) -> None:
    synthetic(seeds=(0, 1)).write(tmp_path)
    sql = "SELECT * EXCLUDE (written_at) FROM measured_points ORDER BY trial_id, point"
    with load(tmp_path) as run:
        before = run.rows(sql)
        run.hold("operating_points", "measured_points")
        assert run.rows(sql) == before
        assert len(before) == 10


@pytest.mark.check
def test_two_thousand_parts_are_each_looked_at_a_few_times(tmp_path: Path, trial_row: Row) -> None:
    part = Writer(tmp_path / "tables").write("trials", [trial_row()])
    assert part is not None
    content = part.read_bytes()
    for number in range(2000):
        part.with_name(f"{number:05d}.parquet").write_bytes(content)
    with at_most(2000 * 500, of="results."), load(tmp_path) as run:  # each with each: 4 million
        assert run.rows("SELECT count(*) AS n FROM trials") == [{"n": 1}]


@pytest.mark.check
def test_asking_what_finished_imports_nothing_heavy(tmp_path: Path, trial_row: Row) -> None:
    Writer(tmp_path / "tables").write("trials", [trial_row()])
    code = (
        "import sys; import results.store.writer; from results.store.reader import finished_trial_ids;"
        f"print(finished_trial_ids({str(tmp_path)!r}));"
        "print([name for name in ('pandas', 'scipy', 'matplotlib', 'torch', 'ray') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "{'a'}\n[]\n"


def test_r_squared_of_estimates_is_that_of_a_slow_loop(tmp_path: Path, synthetic: Any) -> None:
    synthetic(seeds=(0,), budgets=(0.0,), labels=(("fine_tune", "fine_tune"),), test_images=0).write(tmp_path)
    with load(tmp_path) as run:
        (point,) = run.rows("SELECT * EXCLUDE (written_at) FROM operating_points")
    targets, estimates = [1e6 + 1.0, 1e6 + 2.0, 1e6 + 4.0], [1e6 + 1.5, 1e6 + 2.0, 1e6 + 3.0]
    common = {"trial_id": point["trial_id"], "point": 0, "code_digest": "c"}
    rows = [
        common | {"split": "test", "sample_id": number, "target": target, "estimate": estimate}
        for number, (target, estimate) in enumerate(zip(targets, estimates, strict=True))
    ]
    rows += [common | {"split": "validation", "sample_id": 9, "target": 0.0, "estimate": 7.0}]
    writer = Writer(tmp_path / "tables")
    writer.write("estimates", rows)
    writer.write("operating_points", [point | {"metric": "r_squared"}])
    mean = sum(targets) / 3
    errors = sum((target - estimate) ** 2 for target, estimate in zip(targets, estimates, strict=True))
    expected = 1 - errors / sum((target - mean) ** 2 for target in targets)
    with load(tmp_path) as run:
        (measured,) = run.rows("SELECT metric, test_score, test_images FROM measured_points")
    assert measured == {"metric": "r_squared", "test_score": pytest.approx(expected, rel=1e-9), "test_images": 3}


def test_estimates_of_one_value_have_no_r_squared(tmp_path: Path, synthetic: Any) -> None:
    synthetic(seeds=(0,), budgets=(0.0,), labels=(("fine_tune", "fine_tune"),), test_images=0).write(tmp_path)
    with load(tmp_path) as run:
        (point,) = run.rows("SELECT * FROM operating_points")
    row = {"trial_id": point["trial_id"], "point": 0, "split": "test", "sample_id": 0, "target": 1.0, "estimate": 2.0}
    Writer(tmp_path / "tables").write("estimates", [row | {"code_digest": "c"}])
    with load(tmp_path) as run:
        assert run.rows("SELECT test_score, test_images FROM measured_points") == [
            {"test_score": None, "test_images": 1}
        ]


def test_sums_and_decimals_are_plain_numbers(tmp_path: Path, trial_row: Row) -> None:
    Writer(tmp_path / "tables").write("trials", [trial_row(attempts=2), trial_row(trial_id="b", attempts=3)])
    sql = "SELECT sum(attempts) AS n, 0.5 AS half, sum(attempts) * 10000000000000000000000000 AS large FROM trials"
    with load(tmp_path) as run:
        (row,) = run.rows(sql)
        assert (type(row["n"]), row["n"]) == (int, 5) and (type(row["half"]), row["half"]) == (float, 0.5)
        assert (type(row["large"]), row["large"]) == (float, 5e25)
        assert list(map(str, run.sql(sql).dtypes))[:2] == ["int64", "float64"]


def test_printed_numbers_without_a_budget_are_one_row_for_each_key(tmp_path: Path) -> None:
    row = {"paper": "p", "place": "Table 1", "label": "l", "network": "n", "dataset": "d", "metric": "accuracy",
           "code_digest": "c"}  # fmt: skip
    for value in (0.5, 0.75):
        Writer(tmp_path / "tables").write("printed", [row | {"value": value}])
    with load(tmp_path) as run:
        assert run.rows("SELECT value FROM printed") == [{"value": 0.75}]


def test_ctrl_c_during_a_query_is_no_fault(tmp_path: Path) -> None:
    """DuckDB makes a RuntimeError of it; other errors stay what they are."""
    (tmp_path / "tables").mkdir()
    with pytest.raises(KeyboardInterrupt), load(tmp_path):
        raise RuntimeError("Query interrupted")
    with pytest.raises(RuntimeError, match="something else"), load(tmp_path):
        raise RuntimeError("something else")
