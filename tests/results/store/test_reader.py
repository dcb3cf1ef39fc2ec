"""The reader: all rows at any moment, from any folder, and clear words where it cannot."""

import errno
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results.errors import ResultsError
from results.store.completeness import MISSING, failed_trials
from results.store.files import changing_file, files_of, growing_file
from results.store.reader import finished_trial_ids, last_written_us, load
from results.store.schema import CHANGING, SCHEMA_VERSION, TABLES, arrow_schema
from results.store.writer import Writer
from tests.changed_rows import change_rows
from tests.lines import at_most

Row = Callable[..., dict[str, Any]]


def file_of(run: Path, table: str, file: int = 1) -> Path:
    """The file of a table, or the file-th one that the first process has begun."""
    tables = run / "tables"
    return changing_file(tables, table) if table in CHANGING else growing_file(tables, table, 1, file)


def write_file_of(run: Path, table: str, rows: list[dict[str, Any]], **facts: str) -> Path:
    """Writes a file by hand, with these rows, of which columns may be missing."""
    schema = arrow_schema(TABLES[table])
    metadata = schema.metadata | {name.encode(): value for name, value in facts.items()}
    nullable = pa.schema([field.with_nullable(True) for field in schema], metadata)
    path = file_of(run, table)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([dict.fromkeys(schema.names) | row for row in rows], nullable), path)
    return path


def event(number: int) -> dict[str, Any]:
    """A row of `events`, a table that grows."""
    return {"driver": "d", "number": number, "kind": "paused", "happened_at": datetime.now(UTC), "code_digest": "c"}


def events_in(run: Path) -> list[int]:
    with load(run, ["events"]) as tables:
        return [row["number"] for row in tables.rows("SELECT number FROM events ORDER BY number")]


def test_the_last_row_is_the_last_of_any_trial(tmp_path: Path) -> None:
    """In whichever table it is; rows that are about no trial do not count."""
    (tmp_path / "tables").mkdir()
    with load(tmp_path) as run:
        assert last_written_us(run) is None
    for name, second in (("trials", 2), ("stages", 1), ("layers", 9), ("planned", 3)):
        write_file_of(tmp_path, name, [{"trial_id": "a", "written_at": datetime.fromtimestamp(second, UTC)}])
        if name == "layers":  # whose rows say nothing of the progress of a trial
            with load(tmp_path) as run:
                assert last_written_us(run) == 2_000_000
    with load(tmp_path) as run:
        assert last_written_us(run) == 3_000_000


def test_tables_that_nobody_asks_for_are_not_opened(tmp_path: Path, trial_row: Row) -> None:
    Writer(tmp_path / "tables").write("trials", [trial_row()])
    write_file_of(tmp_path, "epochs", []).write_bytes(b"PAR1")
    with load(tmp_path, ["trials"]) as run:
        assert run.rows("SELECT count(*) AS rows FROM trials") == [{"rows": 1}]
        assert run.rows("SELECT * FROM epochs") == []
    with pytest.raises(ResultsError, match="torn"):
        load(tmp_path)


def test_what_was_loaded_stays_as_it_was_while_rows_are_written(tmp_path: Path, trial_row: Row) -> None:
    """Of a full file, of one that is replaced, and of a table that changes."""
    for number in range(2):
        Writer(tmp_path / "tables").write("events", [event(number)])
    writer = Writer(tmp_path / "tables")
    writer.write("events", [event(2)])
    writer.write("trials", [trial_row(seconds=1.0)])
    query = "SELECT number, seconds FROM events, trials ORDER BY number"
    with load(tmp_path) as run:
        before = run.rows(query)
        writer.write("events", [event(3)])
        writer.write("trials", [trial_row(seconds=2.0), trial_row(trial_id="b")])
        assert run.rows(query) == before == [{"number": n, "seconds": 1.0} for n in range(3)]
        files = files_of(tmp_path)
        assert {name for name, of_table in files.items() if of_table.last is not None} == {"events", "trials"}
        assert len(files["events"].full) == 2
    with load(tmp_path) as run:
        assert len(run.rows(query)) == 4 * 2


def test_a_file_that_another_machine_replaces_while_it_is_opened_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Writer(tmp_path / "tables").write("events", [event(0)])
    real, stale = Path.stat, [1]

    def stat(path: Path, **how: Any) -> os.stat_result:
        if path.suffix == ".parquet" and stale[0] > 0:
            stale[0] -= 1
            raise OSError(errno.ESTALE, "Stale file handle", str(path))
        return real(path, **how)

    monkeypatch.setattr(Path, "stat", stat)
    assert events_in(tmp_path) == [0]
    stale[0] = 100
    with pytest.raises(ResultsError, match=r"cannot be read: .*000001-000001\.parquet: Stale file handle"):
        load(tmp_path)


def test_tables_without_a_file_are_empty_and_types_are_the_same_with_and_without(
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
    for number, name in enumerate(folders):
        for _ in range(2):
            writer = Writer(tmp_path / name / "tables")
            writer.write("events", [event(10 * number + writer.number)])  # the same names everywhere
        writer.write("trials", [trial_row(trial_id=name)])
    for number, name in enumerate(folders):
        assert events_in(tmp_path / name) == [10 * number + 1, 10 * number + 2]
        assert finished_trial_ids(tmp_path / name) == {name}


def test_files_that_are_no_tables_are_left_alone(tmp_path: Path, trial_row: Row) -> None:
    Writer(tmp_path / "tables").write("trials", [trial_row()])
    (tmp_path / "tables" / "trials" / "notes.txt").write_text("mine")
    (tmp_path / "tables" / "trials" / ".nfs0001").write_text("what a server keeps of a removed file")
    (tmp_path / "tables" / "other").mkdir()
    assert finished_trial_ids(tmp_path) == {"a"}


def cut(run: Path) -> None:
    file = file_of(run, "events")
    file.write_bytes(file.read_bytes()[:-20])


def cut_first(run: Path) -> None:
    Writer(run / "tables").write("events", [event(9)])
    cut(run)


def emptied(run: Path) -> None:
    file_of(run, "trials").write_bytes(b"")


def pipe(run: Path) -> None:
    """Reading it would wait for its writer."""
    file_of(run, "events").unlink()
    os.mkfifo(file_of(run, "events"))


def foreign(run: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), file_of(run, "trials"))


def of_another_table(run: Path) -> None:
    shutil.copy(file_of(run, "events"), file_of(run, "trials"))


def of_version(version: int) -> Callable[[Path], None]:
    return lambda run: write_file_of(run, "trials", [], schema_version=str(version))  # type: ignore[return-value]


def of_0_1_0(run: Path) -> None:
    """As its writers named their files."""
    path = write_file_of(run, "events", [], schema_version="1")
    path.rename(path.with_name("20240101T000000.000000-node1-1a2b3c4d.parquet"))


def other_columns(run: Path) -> None:
    schema = arrow_schema(TABLES["trials"])
    pq.write_table(schema.remove(0).empty_table(), file_of(run, "trials"))


def copied(run: Path) -> None:
    """Beside the file that it is a copy of."""
    shutil.copy(file_of(run, "events"), file_of(run, "events").with_name("copy.parquet"))


def copied_beside_the_one_file(run: Path) -> None:
    shutil.copy(file_of(run, "trials"), file_of(run, "trials").with_name("000001-000001.parquet"))


def removed(run: Path) -> None:
    """The first of three."""
    for file in (2, 3):
        shutil.copy(file_of(run, "events"), file_of(run, "events", file))
    file_of(run, "events").unlink()


def removed_between(run: Path) -> None:
    for file in (2, 3):
        shutil.copy(file_of(run, "events"), file_of(run, "events", file))
    file_of(run, "events", 2).unlink()


TORN = "is torn or no Parquet file .*; put it back from a copy"
OTHER_VERSION = (
    "has schema version {}, this program reads 5: read the run with the version of the program that wrote it, or launch"
    " the spec with another --name$"
)


@pytest.mark.parametrize(
    ("damage", "name", "words"),
    [
        (cut, "000001-000001", TORN),
        (cut_first, "000001-000001", TORN),
        (emptied, "trials", TORN),
        (pipe, "000001-000001", "is no file; move it out of the folder to read the rest"),
        (foreign, "trials", "was not written by this program for the table trials; move it out of the folder"),
        (of_another_table, "trials", "was not written by this program for the table trials"),
        (of_version(1), "trials", OTHER_VERSION.format(1)),
        (of_version(2), "trials", OTHER_VERSION.format(2)),
        (of_version(SCHEMA_VERSION + 1), "trials", OTHER_VERSION.format(SCHEMA_VERSION + 1)),
        (of_0_1_0, "20240101T000000.000000-node1-1a2b3c4d", OTHER_VERSION.format(1)),
        (other_columns, "trials", "expected the columns\ntrial_id: string"),
        (copied, "copy", "was not named by this program: its rows may be copies; move it away"),
        (copied_beside_the_one_file, "000001-000001", "was not named by this program: its rows may be copies"),
        (removed, "000001-000001", "is missing: put it back from a copy"),
        (removed_between, "000001-000002", "is missing: put it back from a copy"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_file_that_cannot_be_read_is_named_with_what_to_do(
    tmp_path: Path, trial_row: Row, damage: Callable[[Path], None], name: str, words: str
) -> None:
    writer = Writer(tmp_path / "tables")
    writer.write("events", [event(0)])
    writer.write("trials", [trial_row()])
    damage(tmp_path)
    with pytest.raises(ResultsError, match=rf"(?s)/{name}\.parquet':? {words}") as caught:
        load(tmp_path)
    assert words.startswith("expected") or "\n" not in str(caught.value)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no folder .*nowhere"):
        load(tmp_path / "nowhere")
    with pytest.raises(ResultsError, match="is no run: it has neither tables/ nor spec.toml"):
        load(tmp_path)
    (tmp_path / "run" / "tables").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "run" / "tables"):
        with pytest.raises(ResultsError, match=f"type one, such as {tmp_path / 'run'}$"):
            load(folder)


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
    change_rows(tmp_path, "predictions", rows)
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
def test_two_thousand_files_are_each_looked_at_a_few_times(tmp_path: Path) -> None:
    Writer(tmp_path / "tables").write("events", [event(0)])
    for file in range(2, 2001):
        shutil.copy(file_of(tmp_path, "events"), file_of(tmp_path, "events", file))
    with at_most(2000 * 500, of="results."), load(tmp_path) as run:  # each with each: 4 million
        assert run.rows("SELECT count(*) AS n FROM events") == [{"n": 2000}]


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
    Writer(tmp_path / "tables").write("estimates", rows)
    change_rows(tmp_path, "operating_points", [point | {"metric": "r_squared"}])
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


def test_ctrl_c_during_a_query_is_no_fault(tmp_path: Path) -> None:
    """DuckDB makes a RuntimeError of it; other errors stay what they are."""
    (tmp_path / "tables").mkdir()
    with pytest.raises(KeyboardInterrupt), load(tmp_path):
        raise RuntimeError("Query interrupted")
    with pytest.raises(RuntimeError, match="something else"), load(tmp_path):
        raise RuntimeError("something else")
