"""The writer: strict about rows, durable, never half seen, and one at a time."""

import errno
import itertools
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results.errors import ResultsError
from results.store import writer as module
from results.store.lock import hold_lock
from results.store.points import renew_points
from results.store.reader import load
from results.store.schema import CHANGING, TABLES, WRITE_ORDER, arrow_schema
from results.store.writer import TakenOverError, Writer, take_number, write_timings
from tests.results.exact_run import Trial, rows_of
from tests.results.store.test_measured_points import timing

Row = Callable[..., dict[str, Any]]
ROWS = rows_of([Trial(label="arm", seed=0, right=(90,))])
"""Table -> rows of one trial with one operating point."""


def event(number: int, detail: str | None = None) -> dict[str, Any]:
    """A row of `events`, a table that grows."""
    return {"driver": "d", "number": number, "kind": "paused", "happened_at": datetime.now(UTC), "detail": detail,
            "code_digest": "c"}  # fmt: skip


def events_in(run: Path) -> dict[str, list[int]]:
    """Name of each file of `events` -> the numbers in it, in the order in which they were written."""
    files = sorted((run / "tables" / "events").iterdir())
    return {file.name: pq.ParquetFile(file).read()["number"].to_pylist() for file in files}


def assert_rows_of_the_trial(run: Path) -> None:
    """Each once, in every table."""
    with load(run) as tables:
        counts = {name: tables.rows(f"SELECT count(*) AS n FROM {name}")[0]["n"] for name in ROWS}
    assert counts == {name: len(rows) for name, rows in ROWS.items()}


def add_trial(writer: Writer) -> None:
    for table, rows in ROWS.items():
        writer.add(table, rows)


def test_a_file_holds_the_rows_under_the_tables_schema(tmp_path: Path, trial_row: Row) -> None:
    before = datetime.now(UTC)
    Writer(tmp_path / "new" / "tables").write("trials", [trial_row(), trial_row(trial_id="b", seconds=2)])
    (file,) = (tmp_path / "new" / "tables" / "trials").iterdir()
    assert file.name == "trials.parquet"
    expected = arrow_schema(TABLES["trials"])
    assert pq.read_schema(file).equals(expected.remove_metadata())
    assert pq.read_schema(file).metadata == expected.metadata
    rows = pq.ParquetFile(file).read().to_pylist()
    assert [row["trial_id"] for row in rows] == ["a", "b"]
    assert [row["seconds"] for row in rows] == [1.0, 2.0]
    assert rows[0]["started_at"] == trial_row()["started_at"]
    assert before <= rows[0]["written_at"] <= datetime.now(UTC)


def test_no_rows_make_no_file_and_no_folder(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "tables")
    writer.write("trials", [])
    writer.commit()
    assert not (tmp_path / "tables").exists()


def test_all_rows_of_a_commit_have_its_moment_and_the_next_ones_a_later_one(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "tables")
    for _ in range(20):  # two within a microsecond, perhaps
        add_trial(writer)
        writer.commit()
    tables = tmp_path / "tables"
    moments = pq.read_table(tables / "epochs")["written_at"].to_pylist()
    assert len(set(moments)) == 20 and moments == sorted(moments)
    for name in ROWS.keys() & CHANGING:
        assert set(pq.read_table(tables / name)["written_at"].to_pylist()) == {moments[-1]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seconds": "fast"}, "table trials, row 0, column seconds: expected double, given 'fast'"),
        ({"seconds": None}, "column seconds: expected double, and null is not allowed"),
        ({"seconds": True}, "column seconds: expected double, given True"),
        ({"attempts": 1.0}, "column attempts: expected int64"),
        ({"attempts": False}, "column attempts: expected int64"),
        ({"attempts": 2**63}, "table trials, column attempts: cannot be stored as int64"),
        ({"trial_id": 7}, "column trial_id: expected string"),
        ({"error": "\ud800"}, "table trials, column error: cannot be stored as string"),
        ({"started_at": datetime(2024, 1, 1)}, "column started_at: expected .* with a time zone"),  # noqa: DTZ001
        ({"status": "finnished"}, "column status: expected one of finished, failed, stopped, given 'finnished'"),
        ({"colour": "red"}, "row 0: extra column colour"),
        ({"written_at": datetime(2024, 1, 1, tzinfo=UTC)}, "written_at is set by the writer"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_and_nothing_is_taken(
    tmp_path: Path, trial_row: Row, change: dict[str, Any], words: str
) -> None:
    writer = Writer(tmp_path / "tables")
    with pytest.raises(ValueError, match=words):
        writer.add("trials", [trial_row(), trial_row(**change)][1:])
    assert not writer.has_rows_waiting


def test_a_missing_column_is_named(tmp_path: Path, trial_row: Row) -> None:
    row = trial_row()
    del row["attempts"]
    with pytest.raises(ValueError, match="table trials, row 1: missing column attempts"):
        Writer(tmp_path / "tables").add("trials", [trial_row(), row])


def test_an_arrow_table_is_taken_as_it_is_and_refused_where_records_would_be(tmp_path: Path) -> None:
    columns = {name: [row[name] for row in ROWS["predictions"]] for name in ROWS["predictions"][0]}
    writer = Writer(tmp_path / "tables")
    writer.add("predictions", pa.table(columns))
    writer.write("predictions", ROWS["predictions"])
    assert pq.read_table(tmp_path / "tables" / "predictions").num_rows == 2 * len(ROWS["predictions"])
    wrong = [
        ({name: column for name, column in columns.items() if name != "label"}, "expected the columns"),
        (columns | {"colour": columns["label"]}, "expected the columns"),
        (columns | {"label": [None, *columns["label"][1:]]}, "label"),
        (columns | {"label": ["x"] * len(columns["label"])}, "x"),
    ]
    for given, words in wrong:
        with pytest.raises(ValueError, match=words):
            writer.add("predictions", pa.table(given))
    assert not writer.has_rows_waiting


def test_what_may_be_null_may_be_left_out(tmp_path: Path, trial_row: Row) -> None:
    row = trial_row()
    del row["error"]
    Writer(tmp_path / "tables").write("trials", [row, trial_row(trial_id="b", error="x")])
    assert pq.read_table(tmp_path / "tables" / "trials")["error"].to_pylist() == [None, "x"]


def test_lists_hold_only_text(tmp_path: Path) -> None:
    (row,) = ROWS["planned"]
    writer = Writer(tmp_path / "tables")
    for wrong in ("abc", ["a", 1], None):
        with pytest.raises(ValueError, match="column stage_keys"):
            writer.add("planned", [row | {"stage_keys": wrong}])
    writer.write("planned", [row | {"stage_keys": ("a", "b")}])
    assert pq.read_table(tmp_path / "tables" / "planned")["stage_keys"].to_pylist() == [["a", "b"]]


def test_numbers_of_numpy_and_what_is_not_a_number_are_stored(tmp_path: Path, trial_row: Row) -> None:
    given = [trial_row(attempts=np.int32(3), seconds=np.float32(0.5)), trial_row(trial_id="b", seconds=math.nan)]
    Writer(tmp_path / "tables").write("trials", given)
    rows = pq.read_table(tmp_path / "tables" / "trials").to_pylist()
    assert (rows[0]["attempts"], rows[0]["seconds"]) == (3, 0.5)
    assert math.isnan(rows[1]["seconds"])


def test_of_a_table_that_changes_the_last_row_of_a_key_stands_in_its_one_file(tmp_path: Path, trial_row: Row) -> None:
    """Whichever writer wrote it; nulls in a key are equal."""
    writer = Writer(tmp_path / "tables")
    writer.write("trials", [trial_row(seconds=1.0), trial_row(trial_id="b"), trial_row(seconds=2.0)])
    writer.add("trials", [trial_row(seconds=3.0)])
    writer.add("trials", [trial_row(trial_id="c"), trial_row(seconds=4.0)])
    writer.commit()
    Writer(tmp_path / "tables").write("trials", [trial_row(trial_id="b", seconds=5.0)])
    (file,) = (tmp_path / "tables" / "trials").iterdir()
    rows = pq.ParquetFile(file).read().to_pylist()
    assert [(row["trial_id"], row["seconds"]) for row in rows] == [("c", 1.0), ("a", 4.0), ("b", 5.0)]
    printed = {"paper": "p", "place": "Table 1", "label": "l", "network": "n", "dataset": "d", "metric": "accuracy",
               "code_digest": "c"}  # fmt: skip
    for asked, value in ((None, 0.5), (0.2, 0.6), (None, 0.7)):
        Writer(tmp_path / "tables").write("printed", [printed | {"asked_removed_macs_fraction": asked, "value": value}])
    assert sorted(pq.read_table(tmp_path / "tables" / "printed")["value"].to_pylist()) == [0.6, 0.7]


def test_a_file_that_grows_is_replaced_until_it_has_so_many_rows_and_never_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one `add` gives comes into one file, even if that has more rows than others."""
    monkeypatch.setattr(module, "FULL_ROWS", 5)
    writer = Writer(tmp_path / "tables")
    for first in range(0, 12, 3):
        writer.write("events", [event(first + n) for n in range(3)])
    assert events_in(tmp_path) == {
        "000001-000001.parquet": [0, 1, 2, 3, 4, 5], "000001-000002.parquet": [6, 7, 8, 9, 10, 11]
    }  # fmt: skip
    full = [(file, file.stat().st_ino, file.read_bytes()) for file in (tmp_path / "tables" / "events").iterdir()]
    writer.add("events", [event(n) for n in range(12, 32)])
    writer.add("events", [event(32)])
    writer.commit()
    writer.write("events", [event(33)])
    other = Writer(tmp_path / "tables")
    other.write("events", [event(34)])
    other.write("events", [event(35)])
    assert list(events_in(tmp_path).values())[2:] == [[*range(12, 33)], [33], [34, 35]]
    assert list(events_in(tmp_path))[4:] == ["000002-000001.parquet"]
    assert [(file, file.stat().st_ino, file.read_bytes()) for file, *_ in full] == full


def test_a_file_that_grows_is_full_at_so_many_bytes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FULL_BYTES", 20_000)
    writer = Writer(tmp_path / "tables")
    for number in range(8):
        writer.write("events", [event(number, np.random.default_rng(number).bytes(4_000).hex())])
    sizes = [file.stat().st_size for file in sorted((tmp_path / "tables" / "events").iterdir())]
    assert len(sizes) == 2 and 20_000 <= sizes[0] < 30_000
    assert [n for numbers in events_in(tmp_path).values() for n in numbers] == list(range(8))


def test_every_table_has_its_columns_from_the_first_moment(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "tables")
    writer.begin()
    files = {file: file.stat().st_ino for file in (tmp_path / "tables").rglob("*.parquet")}
    assert {file.parent.name for file in files} == set(TABLES)
    for file in files:
        found, expected = pq.read_schema(file), arrow_schema(TABLES[file.parent.name])
        assert (found.names, pq.read_metadata(file).num_rows) == (expected.names, 0)
        assert [field.metadata for field in found] == [field.metadata for field in expected]  # units and meanings
    Writer(tmp_path / "tables").begin()
    assert {file: file.stat().st_ino for file in (tmp_path / "tables").rglob("*.parquet")} == files


class Disk:
    """Tells of each step of a commit on the disk before it: "fsync", "link" or "replace"; refuses the one asked for."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, before: Callable[[str], None] = lambda _: None, fails_at: int = 0
    ) -> None:
        self.steps = 0
        self._before = before
        self._fails_at = fails_at
        for place, name in ((os, "fsync"), (os, "link"), (Path, "replace")):
            monkeypatch.setattr(place, name, self._watched(name, getattr(place, name)))

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*given: Any) -> Any:
            self.steps += 1
            self._before(name)
            if self.steps == self._fails_at:
                raise OSError(errno.EIO, "Input/output error")
            return call(*given)

        return watched

    @property
    def has_failed(self) -> bool:
        """Whether the step to refuse was reached."""
        return 0 < self._fails_at <= self.steps


def test_no_file_below_tables_is_ever_another_and_none_outside_looks_like_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(_step: str) -> None:
        for path in tmp_path.rglob("*"):
            if path.is_file():
                is_of_a_table = path.relative_to(tmp_path).parts[0] == "tables"
                assert (path.suffix == ".parquet") == is_of_a_table, path
                assert not (is_of_a_table and path.name.startswith(".")), path

    disk = Disk(monkeypatch, before=look)
    writer = Writer(tmp_path / "tables")
    writer.begin()
    for _ in range(2):
        add_trial(writer)
        writer.commit()
    write_timings(tmp_path / "tables", [timing("m", 1.0)])
    assert disk.steps > 100


def test_the_file_then_its_name_reach_the_disk(tmp_path: Path, trial_row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, list[str]]] = []
    real = os.fsync

    def watching(handle: int) -> None:
        files = sorted(path.name for path in tmp_path.glob("tables/trials/*"))
        seen.append((str(Path(f"/proc/self/fd/{handle}").readlink()), files))
        real(handle)

    writer = Writer(tmp_path / "tables")
    monkeypatch.setattr(os, "fsync", watching)
    writer.write("trials", [trial_row()])
    *_, (above, _), (file, before), (folder, after) = seen
    assert above == str(tmp_path / "tables")  # the name of the new folder
    assert Path(file).parent == tmp_path / ".writing" / "1"
    assert before == []  # no reader sees it before it has its name
    assert (folder, after) == (str(tmp_path / "tables" / "trials"), ["trials.parquet"])


@pytest.mark.parametrize("begun", [False, pytest.param(True, marks=pytest.mark.check)])
def test_whatever_fails_in_a_commit_the_next_one_writes_the_rest_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    """A disk that refuses at each step in turn: what is durable are the first tables of the order, and no row twice."""
    seen = set()
    for fails_at in itertools.count(1):
        run = tmp_path / str(fails_at)
        (run / "tables").mkdir(parents=True)
        writer = Writer(run / "tables")
        if begun:
            writer.begin()
        add_trial(writer)
        with monkeypatch.context() as patched:
            disk = Disk(patched, fails_at=fails_at)
            with suppress(OSError):
                writer.commit()
        if not disk.has_failed:
            break
        with load(run) as tables:
            there = [bool(tables.rows(f"FROM {name} LIMIT 1")) for name in WRITE_ORDER if name in ROWS]
        assert there == sorted(there, reverse=True), fails_at
        seen.add(sum(there))
        writer.commit()
        assert_rows_of_the_trial(run)
    assert seen == set(range(len(ROWS) + 1))


def test_a_writer_whose_run_was_removed_says_so(tmp_path: Path) -> None:
    early = Writer(tmp_path / "run" / "tables")
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(TakenOverError, match="run' was removed while it ran.*: remove what is left of the folder"):
        early.write("events", [event(0)])


@pytest.mark.parametrize("step", ["link", "fsync", "replace"])
def test_a_writer_that_another_has_taken_over_from_can_put_no_file_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Also where it is past all that it could ask: its file is written, the next number is taken, its rename goes on.

    It stands before its first commit of a table (which replaces nothing), and before a later one.
    """
    early = Writer(tmp_path / "tables")
    early.write("events", [event(0)])
    for number, table_is_new in ((2, False), (3, True)):
        if table_is_new:
            early = Writer(tmp_path / "tables")
        before = {file: file.read_bytes() for file in tmp_path.rglob("*.parquet")}
        taken: list[int] = []

        def take(name: str, taken: list[int] = taken) -> None:
            if name == step and not taken:
                taken.append(0)
                take_number(tmp_path)

        early.add("events", [event(number)])
        with monkeypatch.context() as patched:
            Disk(patched, before=take)
            with pytest.raises(TakenOverError, match="another process writes the rows of"):
                early.commit()
        assert {file: file.read_bytes() for file in tmp_path.rglob("*.parquet")} == before
        with pytest.raises(TakenOverError):
            early.commit()
        Writer(tmp_path / "tables").write("events", [event(10 * number)])
    assert [n for numbers in events_in(tmp_path).values() for n in numbers] == [0, 20, 30]


def test_no_number_is_taken_twice(tmp_path: Path) -> None:
    """Not when the folder of the numbers was removed by hand, nor when those of earlier numbers were."""
    assert [take_number(tmp_path) for _ in range(3)] == [1, 2, 3]
    assert [path.name for path in (tmp_path / ".writing").iterdir()] == ["3"]
    Writer(tmp_path / "tables").write("events", [event(0)])
    assert list(events_in(tmp_path)) == ["000004-000001.parquet"]
    shutil.rmtree(tmp_path / ".writing")
    assert take_number(tmp_path) == 5
    (tmp_path / ".writing" / "11").mkdir()
    assert take_number(tmp_path) == 12


def test_a_process_that_stood_still_before_its_number_takes_none_that_others_have_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two others take theirs meanwhile: its number is free again, but it would be that of the first of them."""
    really, others = module._made, list[int]()

    def made(folder: Path) -> bool:
        if not others:
            others.append(0)
            others[:] = [take_number(tmp_path), take_number(tmp_path)]
        return really(folder)

    monkeypatch.setattr(module, "_made", made)
    assert (take_number(tmp_path), others) == (3, [1, 2])
    assert [path.name for path in (tmp_path / ".writing").iterdir()] == ["3"]


def test_a_run_in_whose_folder_nothing_can_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / ".writing").write_text("a file of somebody")
    with pytest.raises(
        ResultsError, match=r"\.writing' cannot be made \(File exists\).*the right to write to the folder"
    ):
        Writer(tmp_path / "tables")
    assert [path.name for path in tmp_path.iterdir()] == [".writing"]


def test_what_was_replaced_stays_for_a_while_for_readers_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(tmp_path / "tables")
    writer.write("events", [event(0)])
    (first,) = (tmp_path / "tables" / "events").iterdir()
    inode = first.stat().st_ino
    writer.write("events", [event(1)])
    (kept,) = (tmp_path / ".writing" / "1").iterdir()
    assert (kept.stat().st_ino, kept.suffix) == (inode, ".replaced")
    monkeypatch.setattr(module, "REPLACED_KEPT_S", 0.0)
    writer.commit()
    assert list((tmp_path / ".writing" / "1").iterdir()) == []


def test_rows_that_threads_add_during_commits_are_each_written_once(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "tables")

    def add(first: int) -> None:
        for number in range(first, first + 200):
            writer.add("events", [event(number)])
            if number % 20 == 0:
                writer.commit()

    threads = [threading.Thread(target=add, args=(first,)) for first in (0, 200, 400)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.commit()
    (numbers,) = events_in(tmp_path).values()
    assert sorted(numbers) == list(range(600))


def test_each_file_is_compressed_otherwise_than_the_one_that_it_replaces(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "tables")
    files = ("points.parquet", "tables/timings/timings.parquet", "tables/trials/trials.parquet")
    codecs: dict[str, list[str]] = {path: [] for path in files}
    for _ in range(3):
        add_trial(writer)
        writer.commit()
        write_timings(tmp_path / "tables", [timing("a", 1.0)])
        renew_points(tmp_path, print)
        for path, seen in codecs.items():
            seen.append(pq.read_metadata(tmp_path / path).row_group(0).column(0).compression)
    assert set(map(tuple, codecs.values())) == {("ZSTD", "GZIP", "ZSTD")}


def test_timings_are_added_at_any_moment_by_one_process_at_a_time(tmp_path: Path) -> None:
    tables = tmp_path / "tables"
    write_timings(tables, [timing("a", 1.0), timing("b", 2.0)])
    Writer(tables).write("events", [event(0)])  # takes a number, and leaves alone what is none
    write_timings(tables, [timing("a", 3.0)])
    rows = pq.read_table(tables / "timings").to_pylist()
    assert [(row["model_key"], row["latency_ms"]) for row in rows] == [("b", 2.0), ("a", 3.0)]
    with (
        hold_lock(tmp_path / ".writing" / "timings" / "lock", "busy"),
        pytest.raises(ResultsError, match="another process writes timings of .*; wait for it"),
    ):
        write_timings(tables, [timing("c", 1.0)])


@pytest.mark.check
def test_on_a_full_disk_rows_stay_for_the_next_commit(tmp_path: Path) -> None:
    """The limit on the size of files plays the full disk, in a process of its own."""
    code = f"""
import random, resource, signal
from datetime import UTC, datetime
from results.store.writer import Writer
writer, now = Writer({str(tmp_path / "tables")!r}), datetime.now(UTC)
row = dict(driver="d", kind="paused", happened_at=now, code_digest="c")
writer.write("events", [row | dict(number=1, detail="short")])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8000, -1))
try:
    writer.write("events", [row | dict(number=2, detail=random.Random(0).randbytes(40000).hex())])
except OSError as error:
    print("refused", writer.has_rows_waiting)
    resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
writer.write("events", [row | dict(number=3)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("refused True\n", "")
    assert events_in(tmp_path) == {"000001-000001.parquet": [1, 2, 3]}
    assert all(path.suffix == ".replaced" for path in (tmp_path / ".writing" / "1").iterdir())


ENDLESS = """
import itertools, sys
from datetime import UTC, datetime
import results.store.writer
results.store.writer.FULL_ROWS = 200
writer = results.store.writer.Writer(sys.argv[1])
for commit in itertools.count():
    same = dict(driver="d", kind="paused", detail="x" * 100, happened_at=datetime.now(UTC), code_digest="c")
    writer.write("events", [same | dict(number=commit * 50 + row) for row in range(50)])
"""


def test_a_killed_writer_leaves_only_whole_commits_and_the_next_one_a_clean_folder(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ENDLESS, str(tmp_path / "tables")])
    try:
        while len(list(tmp_path.glob("tables/events/*.parquet"))) < 5:
            assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    numbers = [n for of_file in events_in(tmp_path).values() for n in of_file]
    assert len(numbers) > 800 and len(numbers) % 50 == 0
    assert numbers == list(range(len(numbers)))
    Writer(tmp_path / "tables").write("events", [event(-1)])
    assert events_in(tmp_path).popitem() == ("000002-000001.parquet", [-1])
    assert [str(path.relative_to(tmp_path)) for path in (tmp_path / ".writing").rglob("*")] == [".writing/2"]
