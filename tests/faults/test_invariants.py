"""The checker of the promises finds each violation that is planted into a whole run, and nothing in the whole run."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tailor.execution.cache import Cache
from tests.faults.invariants import (
    OF_TRIALS,
    Violation,
    count_rows,
    count_stages,
    differences,
    processes_of,
    temporaries,
    violations,
)
from tests.faults.whole_files import KEYS, TRIALS, write_points, write_trial

MEASURED = OF_TRIALS[:-2]  # whose rows these trials have


@pytest.fixture
def whole(tmp_path: Path) -> tuple[Path, Path]:
    """A run of two trials in which nothing is wrong, and its cache."""
    run, cache = tmp_path / "run", tmp_path / "cache"
    write_points(cache)
    for trial in TRIALS:
        write_trial(run, trial)
    return run, cache


def file_of(run: Path, table: str) -> Path:
    """The last file of a table."""
    return max((run / "tables" / table).glob("*.parquet"))


def rewrite(file: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Puts other rows into a file."""
    rows = pq.ParquetFile(file).read()
    pq.write_table(rows.from_pylist(change(rows.to_pylist()), schema=rows.schema), file)


def said(run: Path, cache: Path) -> str:
    """All violations, one per line."""
    return "\n".join(f"{found.promise}: {found.what}" for found in violations(run, cache, ended=True))


def test_nothing_is_found_in_a_whole_run(whole: tuple[Path, Path]) -> None:
    assert said(*whole) == ""
    assert temporaries(*whole) == []
    assert differences(whole[0], whole[0]) == []
    assert (count_rows(whole[0], "trials"), count_stages(whole[1])) == (len(TRIALS), len(KEYS))


@pytest.mark.parametrize("table", ["planned", "trials", *MEASURED])
def test_a_lost_row_is_found(whole: tuple[Path, Path], table: str) -> None:
    rewrite(file_of(whole[0], table), lambda rows: rows[:-1])
    assert {line[:2] for line in said(*whole).splitlines()} == {"1:"}
    assert TRIALS[1] in said(*whole)


@pytest.mark.parametrize("table", [name for name in MEASURED if name != "stages"])
def test_a_stage_that_has_a_row_before_all_others_of_it_is_found_though_its_trial_runs(
    whole: tuple[Path, Path], table: str
) -> None:
    run, cache = whole
    rewrite(file_of(run, "trials"), lambda rows: rows[:1])
    rewrite(file_of(run, "attempts"), lambda rows: [rows[0], rows[1] | {"status": "running", "ended_at": None}])
    assert violations(run, cache, ended=False) == []
    rewrite(file_of(run, table), lambda rows: rows[:-1])
    assert TRIALS[1] in "".join(found.what for found in violations(run, cache, ended=False))


@pytest.mark.parametrize("table", MEASURED)
def test_a_row_that_stands_in_two_files_is_found(whole: tuple[Path, Path], table: str) -> None:
    shutil.copy(file_of(whole[0], table), whole[0] / "tables" / table / "000003-000001.parquet")
    assert f"{table}: ('{TRIALS[1]}'" in said(*whole)
    assert "stands 2 times in its files" in said(*whole)


def test_a_row_that_stands_twice_in_one_file_is_found(whole: tuple[Path, Path]) -> None:
    rewrite(file_of(whole[0], "trials"), lambda rows: rows + rows[:1])
    assert f"trials: ('{TRIALS[0]}',) stands 2 times in its files" in said(*whole)


def test_a_unit_that_is_split_over_two_files_is_found(whole: tuple[Path, Path]) -> None:
    rewrite(file_of(whole[0], "predictions"), lambda rows: rows[:-1])
    other = whole[0] / "tables" / "predictions" / "000003-000001.parquet"
    shutil.copy(whole[0] / "tables" / "predictions" / "000001-000001.parquet", other)
    rewrite(other, lambda rows: [rows[-1] | {"trial_id": TRIALS[1]}])
    assert said(*whole) == f"1: predictions: the rows of ('{TRIALS[1]}', 1) are in 2 files"


def test_a_row_of_another_result_than_the_stage_in_the_cache_is_found(whole: tuple[Path, Path]) -> None:
    rewrite(file_of(whole[0], "stages"), lambda rows: [row | {"tensors_sha256": "0"} for row in rows])
    assert said(*whole).count("rows of another result than the one in the cache") == len(KEYS)


@pytest.mark.parametrize("bytes_left", [0, 4, 200, -1])
def test_a_torn_file_is_found(whole: tuple[Path, Path], bytes_left: int) -> None:
    file = file_of(whole[0], "stages")
    file.write_bytes(file.read_bytes()[:bytes_left])
    assert "is torn" in said(*whole)


@pytest.mark.parametrize(
    "name", [".x.parquet.12345678.tmp", "x.parquet", "trials.parquet", "below/000001-000001.parquet"]
)
def test_a_file_below_tables_that_is_none_of_a_table_is_found(whole: tuple[Path, Path], name: str) -> None:
    path = whole[0] / "tables" / "stages" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"PAR1")
    assert f"1: tables/stages/{name} is no file of a table" in said(*whole)


def test_a_missing_file_is_found(whole: tuple[Path, Path]) -> None:
    file = file_of(whole[0], "layers")
    file.rename(file.with_name("000002-000002.parquet"))
    assert said(*whole) == "1: layers: file 1 of the process 000002 is missing"


def test_what_a_kill_leaves_is_no_violation_but_told(whole: tuple[Path, Path]) -> None:
    left = whole[0] / ".writing" / "2" / ".x.parquet.12345678.tmp"
    left.write_bytes(b"PAR1")
    stage = whole[1] / "11" / ".1111111111111111.77.12345678"
    stage.mkdir()
    assert said(*whole) == ""
    assert temporaries(*whole) == sorted([left, stage])


@pytest.mark.parametrize("change", [
    lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    lambda content: content[:-3],
    lambda content: content[:9],
    lambda content: content.replace(b"111", b"311", 1),
])  # fmt: skip
def test_a_damaged_stage_is_found(whole: tuple[Path, Path], change: Callable[[bytes], bytes]) -> None:
    path = Cache(whole[1]).path(KEYS[0])
    path.write_bytes(change(path.read_bytes()))
    found = [found for found in violations(*whole, ended=False) if "stage 111111111111 in the cache" in found.what]
    assert [one.promise for one in found] == [1]


def test_a_lost_stage_is_found(whole: tuple[Path, Path]) -> None:
    Cache(whole[1]).path(KEYS[1]).unlink()
    assert said(*whole).count("stage 222222222222 is not in the cache") == len(TRIALS)


def test_a_failure_without_a_cause_and_a_gap_between_attempts_are_found(whole: tuple[Path, Path]) -> None:
    rewrite(file_of(whole[0], "attempts"), lambda rows: [rows[0], rows[1], rows[1] | {"status": "died", "attempt": 3}])
    assert f"3: attempt 3 of trial {TRIALS[1]} died without a cause" in said(*whole)
    assert f"3: trial {TRIALS[1]} has the attempts [1, 3]" in said(*whole)


@pytest.mark.parametrize("table", ["operating_points", "predictions", "layers"])
def test_another_result_is_found(whole: tuple[Path, Path], tmp_path: Path, table: str) -> None:
    other = tmp_path / "other"
    shutil.copytree(whole[0], other)
    column = {"operating_points": "validation_loss", "predictions": "probability", "layers": "width"}[table]
    rewrite(file_of(other, table), lambda rows: [row | {column: row[column] + type(row[column])(1)} for row in rows])
    found = differences(whole[0], other)
    assert found and {one.promise for one in found} == {2}
    assert all(one.what.startswith(f"{table}: ('{TRIALS[1]}'") for one in found)


@pytest.fixture
def leaked() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a process that waits, and ends it after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*words: str, **options: Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-S", "-E", "-c", "print(flush=True); import sys; sys.stdin.read()", *words]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)
        started.append(process)
        assert process.stdout is not None and process.stdout.readline()
        return process

    yield start
    for process in started:
        process.communicate()


@pytest.mark.parametrize("how", ["words", "environment", "folder"])
def test_a_leaked_process_is_found(whole: tuple[Path, Path], leaked: Callable[..., Any], how: str) -> None:
    run = str(whole[0])
    options: dict[str, Any] = {"environment": {"env": os.environ | {"ANY": f"x{run}/y"}}, "folder": {"cwd": run}}
    process = leaked(*([run] if how == "words" else []), **options.get(how, {}))
    assert [found for found in violations(*whole, ended=True) if found.promise == 4] == [
        Violation(4, f"process left: {line}") for line in processes_of(whole[0])
    ]
    assert [int(line.split()[0]) for line in processes_of(whole[0])] == [process.pid]


def test_a_run_that_was_just_cut_off_may_lack_ends_but_nothing_that_it_has_told(whole: tuple[Path, Path]) -> None:
    run, cache = whole
    file_of(run, "trials").unlink()
    rewrite(file_of(run, "attempts"), lambda rows: [row | {"status": "running", "ended_at": None} for row in rows])
    assert violations(run, cache, ended=False) == []
    assert {found.promise for found in violations(run, cache, ended=True)} == {1, 3}
