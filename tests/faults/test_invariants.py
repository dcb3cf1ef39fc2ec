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

from results.store.merge import merge
from results.store.settle import settle
from tailor.execution.cache import Cache
from tests.faults.invariants import (
    OF_TRIALS,
    Violation,
    count_parts,
    differences,
    processes_of,
    temporaries,
    violations,
)
from tests.faults.whole_files import EPOCHS, KEYS, TRIALS, description, write_trial


@pytest.fixture
def whole(tmp_path: Path) -> tuple[Path, Path]:
    """A run of two trials in which nothing is wrong, and its cache."""
    run, cache = tmp_path / "run", tmp_path / "cache"
    for key in KEYS:
        Cache(cache).write(key, description({"epochs": [{"seconds": 1.0}] * EPOCHS}), b"tensors of " + key.encode())
    for trial in TRIALS:
        write_trial(run, trial)
    return run, cache


def part_of(run: Path, table: str) -> Path:
    """The last part of a table."""
    return max((run / "tables" / table).glob("*.parquet"))


def rewrite(part: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Puts other rows into a part."""
    rows = pq.ParquetFile(part).read()
    pq.write_table(rows.from_pylist(change(rows.to_pylist()), schema=rows.schema), part)


def said(run: Path, cache: Path, *, at_rest: bool = False) -> str:
    """All violations, one per line."""
    return "\n".join(f"{found.promise}: {found.what}" for found in violations(run, cache, ended=True, at_rest=at_rest))


def test_nothing_is_found_in_a_whole_run(whole: tuple[Path, Path]) -> None:
    assert said(*whole) == ""
    assert temporaries(*whole) == []
    assert differences(whole[0], whole[0]) == []


@pytest.mark.parametrize("table", ["planned", "trials", "attempts", *OF_TRIALS[:-2]])
def test_a_lost_row_is_found(whole: tuple[Path, Path], table: str) -> None:
    if table == "attempts":  # of which each has two: its start and its end
        part_of(*whole[:1], table).unlink()
        assert "3: attempt 1 of trial bbbbbbbbbbbbbbbb has no end" in said(*whole)
        return
    rewrite(part_of(whole[0], table), lambda rows: rows[:-1])
    assert {line[:2] for line in said(*whole).splitlines()} == {"1:"}
    assert TRIALS[1] in said(*whole)


@pytest.mark.parametrize("table", ["trials", *OF_TRIALS[:-2]])
def test_a_doubled_row_is_found(whole: tuple[Path, Path], table: str) -> None:
    part = part_of(whole[0], table)
    shutil.copy(part, part.with_name(f"9{part.name}"))
    assert {"trials": f"trial {TRIALS[1]} finished 2 times"}.get(table, "was written 2 times in 1 attempts") in said(
        *whole
    )


def test_nothing_is_found_in_a_merged_and_settled_run_and_what_it_lost_is(whole: tuple[Path, Path]) -> None:
    run, cache = whole
    written = count_parts(run)
    merge(run)
    assert (said(run, cache), count_parts(run)) == ("", written)
    assert f"attempts: ('{TRIALS[1]}', 1) is twice in tables/" in said(run, cache, at_rest=True)  # its begin and end
    settle(run)
    assert (said(run, cache, at_rest=True), count_parts(run)) == ("", written)
    rewrite(part_of(run, "trials"), lambda rows: rows[:-1])
    assert f"trials: ('{TRIALS[1]}',) is not in tables/" in said(run, cache, at_rest=True)


def test_a_row_that_is_twice_in_one_part_is_found(whole: tuple[Path, Path]) -> None:
    rewrite(part_of(whole[0], "predictions"), lambda rows: rows + rows[:1])
    assert "twice in one part" in said(*whole)


def test_rows_of_one_key_that_disagree_are_found(whole: tuple[Path, Path]) -> None:
    part = part_of(whole[0], "predictions")
    other = part.with_name(f"9{part.name}")
    shutil.copy(part, other)
    rewrite(other, lambda rows: [row | {"prediction": 7} for row in rows])
    assert "disagree" in said(*whole)


@pytest.mark.parametrize("bytes_left", [0, 4, 200, -1])
def test_a_torn_part_is_found(whole: tuple[Path, Path], bytes_left: int) -> None:
    part = part_of(whole[0], "stages")
    part.write_bytes(part.read_bytes()[:bytes_left])
    assert "is torn" in said(*whole)


def test_a_file_that_no_reader_takes_for_whole_is_no_violation_but_told(whole: tuple[Path, Path]) -> None:
    left = part_of(whole[0], "stages").with_name(".x.parquet.12345678.tmp")
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
    rewrite(part_of(whole[0], "attempts"), lambda rows: [row | {"status": "died", "attempt": 3} for row in rows])
    assert f"3: attempt 3 of trial {TRIALS[1]} died without a cause" in said(*whole)
    assert f"3: trial {TRIALS[1]} has the attempts [1, 3]" in said(*whole)


@pytest.mark.parametrize("table", ["operating_points", "predictions", "layers"])
def test_another_result_is_found(whole: tuple[Path, Path], tmp_path: Path, table: str) -> None:
    other = tmp_path / "other"
    shutil.copytree(whole[0], other)
    column = {"operating_points": "validation_loss", "predictions": "probability", "layers": "width"}[table]
    rewrite(part_of(other, table), lambda rows: [row | {column: row[column] + type(row[column])(1)} for row in rows])
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
    part_of(run, "trials").unlink()
    part_of(run, "attempts").unlink()
    assert violations(run, cache, ended=False) == []
    assert {found.promise for found in violations(run, cache, ended=True)} == {1, 3}
