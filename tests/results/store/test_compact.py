"""Merging parts: every reader sees each row once at any moment, whatever is killed, and nothing is removed."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from results.errors import ResultsError
from results.store.compact import compact, only_one, superfluous_files
from results.store.parts import manifest_file, parts_of
from results.store.reader import finished_trial_ids, load
from results.store.schema import SCHEMA_VERSION, TABLES, arrow_schema
from results.store.writer import Writer
from tests.commands import Said
from transtailor.shell import command as to_type

Row = Callable[..., dict[str, Any]]
VERSION_1 = Path(__file__).parents[1] / "data" / "v1"


def all_rows(run: Path, names: Iterable[str] = (*TABLES, "measured_points")) -> dict[str, list[str]]:
    """Table -> its rows as texts, sorted; a row that is there twice is there twice."""
    with load(run, [name for name in names if name in TABLES]) as tables:
        return {name: sorted(map(str, tables.rows(f"FROM {name}"))) for name in names}


def rows_read(run: Path) -> dict[str, int]:
    """Table -> rows in all files that a reader opens, before the last of each key is chosen."""
    return {name: sum(pq.read_metadata(p.path).num_rows for p in parts) for name, parts in parts_of(run).items()}


def event(number: int) -> dict[str, Any]:
    """A row of `events`, which has a key of its own."""
    return {"driver": "d", "number": number, "kind": "paused", "happened_at": datetime.now(UTC), "code_digest": "c"}


def parts_on_disk(run: Path) -> dict[Path, bytes]:
    """Every part that writers made, and its content."""
    return {path: path.read_bytes() for path in (run / "tables").glob("*/*.parquet")}


def test_the_same_rows_are_read_from_fewer_files_and_no_part_is_touched(tmp_path: Path, synthetic: Any) -> None:
    run = synthetic(seeds=(0, 1)).write(tmp_path / "it's [a] run")
    rows, files, finished = all_rows(run), parts_on_disk(run), finished_trial_ids(run)
    counts = rows_read(run)
    made = compact(run)
    assert {one.table for one in made} == {name for name in TABLES if rows[name]}
    assert all(len(parts) <= 1 for parts in parts_of(run).values())
    assert (all_rows(run), parts_on_disk(run), finished_trial_ids(run)) == (rows, files, finished)
    assert rows_read(run) == counts
    assert sum(one.rows for one in made) == sum(counts.values())
    for one in made:
        merged, expected = pq.read_schema(one.path), arrow_schema(TABLES[one.table])
        assert merged.equals(expected) and merged.metadata == expected.metadata
        assert [field.metadata for field in merged] == [field.metadata for field in expected]  # units and meanings


def test_later_rows_replace_merged_ones_and_merged_ones_stay_as_they_are(tmp_path: Path, trial_row: Row) -> None:
    writer = Writer(tmp_path / "tables")
    writer.write("trials", [trial_row(status="failed", error="x"), trial_row(trial_id="b")])
    writer.write("trials", [trial_row(seconds=2.0)])
    (first,) = compact(tmp_path)
    content = first.path.read_bytes()
    assert compact(tmp_path) == []
    writer.write("trials", [trial_row(seconds=3.0)])
    assert compact(tmp_path) == []  # one part alone waits
    writer.write("trials", [trial_row(trial_id="b", status="failed", error="y")])
    (second,) = compact(tmp_path)
    assert (len(second.parts), second.rows) == (2, 2)
    assert first.path.read_bytes() == content
    with load(tmp_path) as run:
        assert run.rows("SELECT trial_id, status, seconds FROM trials ORDER BY trial_id") == [
            {"trial_id": "a", "status": "finished", "seconds": 3.0},
            {"trial_id": "b", "status": "failed", "seconds": 1.0},
        ]
    assert finished_trial_ids(tmp_path) == {"a"}
    assert rows_read(tmp_path)["trials"] == 5


def test_parts_of_each_schema_version_have_their_own_file(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(VERSION_1, run)
    old = next((run / "tables" / "operating_points").iterdir())
    shutil.copy(old, old.with_name("again.parquet"))  # the same rows once more, so that there is something to merge
    with load(run) as tables:
        points = tables.rows("SELECT * EXCLUDE (written_at) FROM operating_points ORDER BY trial_id, point")
    for score in (0.25, 0.125):
        Writer(run / "tables").write("operating_points", [points[0] | {"validation_score": score}])
    rows = all_rows(run)
    assert [one.table for one in compact(run)] == ["operating_points", "operating_points"]
    assert all_rows(run) == rows
    assert [part.version for part in parts_of(run)["operating_points"]] == [SCHEMA_VERSION, 1]


def test_removing_what_is_superfluous_changes_no_row(tmp_path: Path, synthetic: Any) -> None:
    run = synthetic(seeds=(0, 1)).write(tmp_path / "run")
    rows = all_rows(run)
    assert superfluous_files(run) == []
    compact(run)
    left_over = run / "tables" / "trials" / "merged" / "20240101T000000.000000-x-merged-00000000.parquet"
    left_over.write_bytes(b"PAR1")
    left_over.with_name(".x.parquet.0.tmp").write_bytes(b"PAR1")
    assert all_rows(run) == rows
    doomed = superfluous_files(run)
    assert set(parts_on_disk(run)) | {left_over, left_over.with_name(".x.parquet.0.tmp")} == set(doomed)
    for path in doomed:
        path.unlink()
        assert rows_read(run).keys() == TABLES.keys()
    assert all_rows(run) == rows
    assert superfluous_files(run) == []


KILLED = """
import os, signal, sys
from pathlib import Path
import results.store.compact
runs, seen, real = sys.argv[1:], 0, os.fsync

def step(what, path):
    global seen
    seen += 1
    with open(f"{run} said", "a") as said:
        print(what, Path(path).name if "-merged-" not in str(path) else "merged file", file=said)
    if seen == last:
        os.kill(os.getpid(), signal.SIGKILL)

def hook(event, given):
    merged = str(given[0]).startswith(run + "/merged") or "-merged-" in str(given[0]) if given else False
    if event == "open" and merged and given[2] & (os.O_WRONLY | os.O_RDWR):
        step("open", given[0])
    elif event == "os.mkdir" and str(given[0]).startswith(run):
        step("mkdir", given[0])
    elif event == "os.rename":
        step("rename", given[1])

def fsync(handle):
    path = os.readlink(f"/proc/self/fd/{handle}")
    step("before fsync", path)
    real(handle)
    step("after fsync", path)

for last, run in enumerate(runs, 1):  # imported once, forked for each
    if (child := os.fork()) == 0:
        os.fsync = fsync
        sys.addaudithook(hook)
        results.store.compact.compact(run)
        os._exit(0)
    if (code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])) != -signal.SIGKILL:
        print(last, code)
        break
"""
MOST_WRITES = 60


def test_killed_at_each_write_no_reader_loses_or_doubles_a_row(tmp_path: Path, trial_row: Row) -> None:
    whole = tmp_path / "whole"
    tables = ("trials", "events")
    writer = Writer(whole / "tables")
    for number in range(2):
        writer.write("trials", [trial_row(trial_id=str(number))])
        writer.write("events", [event(number)])
    rows, counts = all_rows(whole, tables), rows_read(whole)
    files = {path.relative_to(whole): content for path, content in parts_on_disk(whole).items()}
    runs = [tmp_path / f"run{last}" for last in range(1, MOST_WRITES)]
    for run in runs:
        shutil.copytree(whole, run)
    done = subprocess.run([sys.executable, "-c", KILLED, *map(str, runs)], capture_output=True, text=True, check=True)
    last, code = map(int, done.stdout.split())  # the first that nobody killed
    assert code == 0, done.stderr
    for run in runs[:last]:
        said = run.with_name(f"{run.name} said").read_text()
        assert (all_rows(run, tables), rows_read(run)) == (rows, counts), said
        assert {path.relative_to(run): content for path, content in parts_on_disk(run).items()} == files, said
        Writer(run / "tables").write("events", [event(7)])
        compact(run)
        for path in superfluous_files(run):
            path.unlink()
        after = all_rows(run, tables)
        assert after["trials"] == rows["trials"], said
        assert len(after["events"]) == 3 and set(rows["events"]) < set(after["events"]), said
    names = said.splitlines()
    assert names.count("rename merged file") == 2
    assert names[-3:] == ["rename manifest.json", "before fsync merged", "after fsync merged"]
    assert sum(name.startswith("before fsync") for name in names) >= 6


DISTURBED = """
import sys
from pathlib import Path
from results.store.compact import compact, superfluous_files
from results.store.reader import finished_trial_ids, load
run, moments, armed = Path(sys.argv[1]), sys.argv[2].split(), True

def hook(event, given):
    global armed
    if armed and event in moments and str(given[0]) in (f"{run}/tables/trials", f"{run}/merged/manifest.json"):
        armed = False
        compact(run)
        for path in superfluous_files(run):
            path.unlink()

sys.addaudithook(hook)
print(sorted(finished_trial_ids(run)) if sys.argv[3] == "ids" else load(run).rows("SELECT count(*) AS n FROM trials"))
assert not armed
"""


@pytest.mark.parametrize("moments", ["os.listdir os.scandir", "open"])  # since Python 3.13 pathlib scans
@pytest.mark.parametrize(("way", "said"), [("ids", "['0', '1']\n"), ("load", "[{'n': 2}]\n")])
def test_a_reader_that_is_overtaken_by_a_clean_up_loses_nothing(
    tmp_path: Path, trial_row: Row, moments: str, way: str, said: str
) -> None:
    """All parts are merged and removed while it lists a table, or just before it reads the manifest."""
    for number in range(2):
        Writer(tmp_path / "tables").write("trials", [trial_row(trial_id=str(number))])
    words = [sys.executable, "-c", DISTURBED, str(tmp_path), moments, way]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (said, "")


def test_a_reader_that_had_loaded_before_a_clean_up_is_told_to_load_again(tmp_path: Path, synthetic: Any) -> None:
    run = synthetic(seeds=(0, 1)).write(tmp_path)
    with load(run) as before:
        compact(run)
        assert before.rows("SELECT count(*) AS n FROM trials") == [{"n": 4}]
        for path in superfluous_files(run):
            path.unlink()
        with pytest.raises(ResultsError, match="load it again"):
            before.hold("trials")
        with pytest.raises(ResultsError, match="the query failed"):
            before.rows("FROM trials")


def test_only_one_compacts_at_a_time(tmp_path: Path, trial_row: Row) -> None:
    Writer(tmp_path / "tables").write("trials", [trial_row()])
    with only_one(tmp_path), pytest.raises(ResultsError, match="being compacted or cleaned by another process"):
        compact(tmp_path)
    assert compact(tmp_path) == []


def test_no_run_is_not_made_one(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="is no run"):
        compact(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "is damaged"), ("[]", "is damaged"), ('{"format": 1}', "is damaged"), ('{"format": 3}', "update it")],
)
def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path, trial_row: Row, content: str, words: str) -> None:
    writer = Writer(tmp_path / "tables")
    writer.write("trials", [trial_row()])
    writer.write("trials", [trial_row()])
    compact(tmp_path)
    manifest_file(tmp_path).write_text(content)
    for read in (load, finished_trial_ids, compact):
        with pytest.raises(ResultsError, match=words):
            read(tmp_path)


def test_a_merged_file_that_is_gone_or_torn_is_named_and_nothing_is_superfluous(tmp_path: Path, trial_row: Row) -> None:
    writer = Writer(tmp_path / "tables")
    writer.write("trials", [trial_row()])
    writer.write("trials", [trial_row()])
    (made,) = compact(tmp_path)
    content = made.path.read_bytes()
    made.path.write_bytes(content[:-9])
    for read in (load, superfluous_files):
        with pytest.raises(ResultsError, match="torn or no Parquet file"):
            read(tmp_path)
    made.path.unlink()
    for read in (load, superfluous_files):
        with pytest.raises(ResultsError, match="missing; put it back"):
            read(tmp_path)


def test_the_command_says_what_it_did_and_what_to_type_next(
    tmp_path: Path, synthetic: Any, command: Callable[..., Said]
) -> None:
    run = synthetic(seeds=(0,)).write(tmp_path / "run")
    done = command("compact", run)
    assert (done.returncode, done.stderr) == (0, "")
    assert "trials: 2 parts, 2 rows, " in done.stdout
    assert done.stdout.splitlines()[-1].endswith(to_type("clean", run))
    assert command("compact", run).stdout == "nothing to merge\n"
    assert json.loads(manifest_file(run).read_text())["format"] == 2
