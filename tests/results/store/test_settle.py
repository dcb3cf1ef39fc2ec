"""At rest each reader of Parquet finds each row once; a settlement may be killed, and overtake readers and writers."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas
import pyarrow.parquet as pq
import pytest

from results.errors import ResultsError
from results.store import settle as module
from results.store import writer as writer_module
from results.store.merge import merge
from results.store.reader import load
from results.store.schema import TABLES, arrow_schema
from results.store.settle import is_settled, settle, settle_or_clear
from results.store.writer import Writer
from tests.plain_readers import plain_readers

Row = Callable[..., dict[str, Any]]


def event(number: int) -> dict[str, Any]:
    """A row of `events`, which has a key of its own."""
    return {"driver": "d", "number": number, "kind": "paused", "happened_at": datetime.now(UTC), "code_digest": "c"}


def write_events(run: Path, *numbers: int) -> None:
    """Each in a part of its own."""
    writer = Writer(run / "tables")
    for number in numbers:
        writer.write("events", [event(number)])


def ours(run: Path) -> list[int]:
    """The numbers of the events that `results.load` counts."""
    with load(run, ["events"]) as tables:
        return sorted(row["number"] for row in tables.rows("SELECT number FROM events"))


def plain(run: Path) -> dict[str, list[int]]:
    """The same from readers that know nothing of us."""
    folder = run / "tables" / "events"
    return {name: sorted(read(folder, ["number"])["number"].to_pylist()) for name, read in plain_readers().items()}


def assert_at_rest(run: Path, numbers: list[int]) -> None:
    assert (ours(run), plain(run)) == (numbers, dict.fromkeys(plain_readers(), numbers))
    assert is_settled(run)


def test_each_row_is_there_once_and_replaced_ones_are_gone(tmp_path: Path) -> None:
    write_events(tmp_path, 0, 1, 2)
    merge(tmp_path)
    write_events(tmp_path, 1, 3)
    settled = {table.table: table for table in settle(tmp_path)}
    assert (settled["events"].rows, settled["events"].replaced_rows) == (4, 1)
    assert_at_rest(tmp_path, [0, 1, 2, 3])
    assert settle(tmp_path) == []  # and nothing is written again
    write_events(tmp_path, 4)
    assert (ours(tmp_path), plain(tmp_path)["pandas"]) == ([0, 1, 2, 3, 4],) * 2
    settle(tmp_path)
    assert_at_rest(tmp_path, [0, 1, 2, 3, 4])


def test_the_last_of_several_equal_keys_stays(tmp_path: Path, trial_row: Row) -> None:
    writer = Writer(tmp_path / "tables")
    writer.write("trials", [trial_row(seconds=1.0), trial_row(trial_id="b")])
    writer.write("trials", [trial_row(seconds=2.0)])
    writer.write("trials", [trial_row(seconds=3.0), trial_row(trial_id="c")])
    settle(tmp_path)
    rows = pandas.read_parquet(tmp_path / "tables" / "trials").set_index("trial_id")["seconds"]
    assert rows.to_dict() == {"a": 3.0, "b": 1.0, "c": 1.0}


def test_every_table_has_its_columns_and_their_meanings_from_the_first_moment(tmp_path: Path) -> None:
    Writer(tmp_path / "tables").begin()
    for when in ("begun", "settled"):
        for name, table in TABLES.items():
            frame = pandas.read_parquet(tmp_path / "tables" / name)
            assert (len(frame), list(frame)) == (0, [column.name for column in table.columns]), when
        settle(tmp_path)
    (path,) = (tmp_path / "tables" / "events").iterdir()
    found, expected = pq.read_schema(path), arrow_schema(TABLES["events"])
    assert [field.metadata for field in found] == [field.metadata for field in expected]


def test_no_file_has_the_name_of_an_earlier_one(tmp_path: Path) -> None:
    """So a reader that has listed the old folder meets an error, and no smaller number."""
    names: list[str] = []
    for number in range(3):
        write_events(tmp_path, number)
        settle(tmp_path)
        names += [path.name for path in (tmp_path / "tables" / "events").iterdir()]
    assert len(set(names)) == len(names) == 1 + 2 + 3


def test_a_reader_that_lists_in_pieces_gets_all_or_an_error(tmp_path: Path) -> None:
    """Names below any cut from before, the others from after."""
    write_events(tmp_path, 0, 1, 2)
    settle(tmp_path)
    write_events(tmp_path, 3, 4)
    folder = tmp_path / "tables" / "events"
    before = sorted(path.name for path in folder.iterdir())
    settle(tmp_path)
    after = sorted(path.name for path in folder.iterdir())
    for cut in [*before, *after, "~"]:
        listed = [name for name in before if name < cut] + [name for name in after if name >= cut]
        there = [folder / name for name in listed if (folder / name).exists()]
        numbers = sorted(n for path in there for n in pq.read_table(path)["number"].to_pylist())
        assert len(there) < len(listed) or numbers == [0, 1, 2, 3, 4], cut


def test_a_writer_that_is_overtaken_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is replaced between the writer's file and its name: it writes again, into the new one."""
    write_events(tmp_path, 0, 1)
    real, is_first = os.fsync, True

    def settled_meanwhile(handle: int) -> None:
        nonlocal is_first
        real(handle)
        if is_first and ".tmp" in str(Path(f"/proc/self/fd/{handle}").readlink()):
            is_first = False
            settle(tmp_path)

    writer = Writer(tmp_path / "tables")
    monkeypatch.setattr(os, "fsync", settled_meanwhile)
    writer.write("events", [event(2)])
    assert not is_first
    monkeypatch.undo()
    assert ours(tmp_path) == plain(tmp_path)["pandas"] == [0, 1, 2]


def test_a_part_that_comes_late_into_the_old_folder_counts(tmp_path: Path) -> None:
    """As from a client of a shared file system that still knows the old folder."""
    write_events(tmp_path, 0, 1)
    settle(tmp_path)
    (old,) = (tmp_path / ".superseded").iterdir()
    late = tmp_path / "late"
    write_events(late, 2)
    (part,) = (late / "tables" / "events").iterdir()
    part.rename(old / "events" / part.name)
    assert ours(tmp_path) == [0, 1, 2]
    assert not is_settled(tmp_path)
    settle(tmp_path)
    assert_at_rest(tmp_path, [0, 1, 2])
    assert [path.name for path in (tmp_path / ".superseded").iterdir()] == ["000002"]
    settle_or_clear(tmp_path)  # as the next launch does
    assert not list((tmp_path / ".superseded").iterdir())
    write_events(tmp_path, 3)
    settle(tmp_path)
    assert_at_rest(tmp_path, [0, 1, 2, 3])


def test_where_a_settlement_was_killed_between_its_renames_a_late_writer_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_events(tmp_path, 0, 1)
    monkeypatch.setattr(module, "_complete", lambda _: None)
    settle(tmp_path)
    monkeypatch.undo()
    assert not (tmp_path / "tables").exists()
    monkeypatch.setattr(writer_module, "REPLACED_LIMIT_S", 0.05)
    write_events(tmp_path, 2)
    assert not (tmp_path / "tables").exists()  # else others would find it with one row
    assert ours(tmp_path) == [0, 1, 2]
    settle(tmp_path)
    assert_at_rest(tmp_path, [0, 1, 2])


KILLED = """
import os, signal, sys
from pathlib import Path
import results.store.settle
every, runs, seen, real = int(sys.argv[1]), sys.argv[2:], 0, os.fsync

def step():
    global seen
    seen += 1
    if seen == last:
        os.kill(os.getpid(), signal.SIGKILL)

def hook(event, given):
    if event in ("os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir") and run in str(given[0]):
        step()

def fsync(handle):
    step()
    real(handle)

for number, run in enumerate(runs, 1):  # imported once, forked for each
    last = number * every
    if (child := os.fork()) == 0:
        os.fsync = fsync
        sys.addaudithook(hook)
        results.store.settle.settle(Path(run))
        os._exit(0)
    if (code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])) != -signal.SIGKILL:
        print(number, code)
        break
"""
MOST_STEPS = 400


@pytest.mark.parametrize("every", [pytest.param(10, marks=pytest.mark.check), pytest.param(1, marks=pytest.mark.long)])
def test_killed_at_each_step_our_readers_lose_nothing_and_the_next_settlement_completes_it(
    tmp_path: Path, every: int
) -> None:
    whole = tmp_path / "whole"
    write_events(whole, 0, 1)
    settle(whole)
    write_events(whole, 1, 2)
    runs = [tmp_path / f"run{number}" for number in range(MOST_STEPS // every)]
    for run in runs:
        shutil.copytree(whole, run)
    words = [sys.executable, "-c", KILLED, str(every), *map(str, runs)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    last, code = map(int, done.stdout.split())  # the first that nobody killed
    assert code == 0, done.stderr
    for number, run in enumerate(runs[:last], start=1):
        assert ours(run) == [0, 1, 2], number
        settle(run)
        assert_at_rest(run, [0, 1, 2])
    assert last * every > 50


OVERTAKEN = """
import sys
from pathlib import Path
from results.store.settle import settle
from results.store.reader import load
run, moments, armed = Path(sys.argv[1]), sys.argv[2].split(), True

def hook(event, given):
    global armed
    places = (f"{run}/tables/events", f"{run}/merged/manifest.json", f"{run}/tables/.settled.json")
    if armed and event in moments and str(given[0]) in places:
        armed = False
        settle(run)

sys.addaudithook(hook)
print(load(run).rows("SELECT count(*) AS n FROM events"))
assert not armed
"""


@pytest.mark.parametrize("moments", ["os.listdir os.scandir", "open"])  # since Python 3.13 pathlib scans
def test_our_reader_that_is_overtaken_loses_nothing(tmp_path: Path, moments: str) -> None:
    """The run is settled while it lists a table, or just before it reads a record."""
    write_events(tmp_path, 0, 1)
    words = [sys.executable, "-c", OVERTAKEN, str(tmp_path), moments]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[{'n': 2}]\n", "")


def test_a_reader_that_had_loaded_before_is_told_to_load_again(tmp_path: Path) -> None:
    write_events(tmp_path, 0, 1)
    with load(tmp_path) as before:
        settle(tmp_path)
        with pytest.raises(ResultsError, match="load it again"):
            before.hold("events")


@pytest.mark.parametrize("damage", ["torn", "foreign"])
def test_what_cannot_be_read_is_named_and_nothing_is_changed(tmp_path: Path, damage: str) -> None:
    write_events(tmp_path, 0, 1)
    path = tmp_path / "tables" / "events" / "20240101T000000.000000-x-y.parquet"
    if damage == "torn":
        path.write_bytes(b"PAR1")
    else:
        pandas.DataFrame({"number": [7]}).to_parquet(path)
    files = {file: file.read_bytes() for file in tmp_path.rglob("*.parquet")}
    with pytest.raises(ResultsError, match=path.name):
        settle(tmp_path)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.parquet")} == files
