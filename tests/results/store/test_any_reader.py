"""Whenever a launch is killed, each reader of Parquet finds each row once: pandas, pyarrow, polars, DuckDB, R."""

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest

from results.store.schema import TABLES, TableSchema
from tests.commands import ROOT
from tests.faults.moments import Fault, Moment, moments_of
from tests.faults.tiny_sweep import SEARCH, SPEC, Launch, TinySweep, warm_up
from tests.plain_readers import plain_readers

pytestmark = pytest.mark.check
EXTENDED = SPEC.replace("[[variants]]", "[axes]\nseed = [0, 1]\n[[variants]]", 1)
R_COUNTS = 'for (table in commandArgs(TRUE)) cat(nrow(dplyr::collect(arrow::open_dataset(table))), "")'


def disagreements(run: Path) -> list[str]:
    """Rows that are there twice, and tables of which a reader finds other rows than `results.load`."""
    from results.store.reader import load

    found = []
    with load(run) as tables:
        for name, table in TABLES.items():
            ours = Counter(keys(tables.arrow(f"FROM {name}"), table))
            found += [f"{key} of {name} is there {times} times" for key, times in ours.items() if times > 1]
            for reader, read in plain_readers().items():
                theirs = Counter(keys(read(run / "tables" / name, table.key), table))
                if theirs != ours:
                    found.append(f"{reader} reads {theirs.total()} {name}, we {ours.total()}")
    return found


def keys(rows: pa.Table, table: TableSchema) -> list[tuple[Any, ...]]:
    """The key of each row; pandas makes NaN of null."""
    values = [[None if value != value else value for value in rows[name].to_pylist()] for name in table.key]
    return list(zip(*values, strict=True))


CHECK = """
import sys
from pathlib import Path
from tests.results.store.test_any_reader import disagreements
print(*disagreements(Path(sys.argv[1])), sep="\\n")
"""


def assert_all_agree(run: Path) -> None:
    """In a process of its own: readers start threads, which the forks of a tiny sweep would lack."""
    said = subprocess.run(
        [sys.executable, "-c", CHECK, str(run)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (said.returncode, said.stdout.strip()) == (0, ""), said.stderr


@pytest.fixture(scope="module")
def launch() -> Iterator[Callable[..., Launch]]:
    """`TinySweep.launch` in a process of its own: a fork of one that has computed gradients could compute none."""
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=warm_up) as process:
        yield lambda sweep, *arguments, **named: process.submit(sweep.launch, *arguments, **named).result()


@pytest.fixture(scope="module")
def finished(launch: Callable[..., Launch]) -> Iterator[tuple[TinySweep, list[Moment]]]:
    """A sweep that has finished, and the moments of its launch."""
    with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as place:  # noqa: S108
        sweep = TinySweep.below(Path(place) / "life")
        ended = launch(sweep, 0)
        assert ended.code == 0, ended.said
        yield sweep, moments_of(sweep.trace(0))


@pytest.fixture
def copied(finished: tuple[TinySweep, list[Moment]], tmp_path: Path) -> TinySweep:
    """A copy of it, for changes."""
    shutil.copytree(finished[0].folder.parent, tmp_path / "life")
    return TinySweep(tmp_path / "life" / "sweep", tmp_path / "life" / "notes")


def test_after_a_launch_and_after_an_extended_one(copied: TinySweep, launch: Callable[..., Launch]) -> None:
    assert_all_agree(copied.run)
    (copied.notes / "spec.toml").write_text(EXTENDED)
    extended = launch(copied, 1, words=("--extend",))
    assert extended.code == 0, extended.said
    assert_all_agree(copied.run)


def test_after_an_interrupt_and_the_launch_that_resumes(
    finished: tuple[TinySweep, list[Moment]], launch: Callable[..., Launch], tmp_path: Path
) -> None:
    sweep = TinySweep.below(tmp_path / "life")
    stored = next(moment for moment in finished[1] if moment.event == "link" and moment.place.startswith("cache"))
    assert launch(sweep, 0, Fault(how="SIGINT", moment=stored, seed=0)).code == 130
    assert_all_agree(sweep.run)
    assert launch(sweep, 1).code == 0
    assert_all_agree(sweep.run)


def test_after_a_search(launch: Callable[..., Launch], tmp_path: Path) -> None:
    sweep = TinySweep.below(tmp_path / "life", SEARCH)
    assert launch(sweep, 0).code == 0
    assert_all_agree(sweep.run)


@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.long)])
def test_killed_at_any_change_of_the_tables_and_after_the_next_launch(
    finished: tuple[TinySweep, list[Moment]], launch: Callable[..., Launch], every: int, tmp_path: Path
) -> None:
    changes = [moment for moment in finished[1] if moment.place.startswith(("runs/tiny/tables", "runs/tiny/.writing"))]
    moments = [moment for moment in changes if moment.nth == 0]  # how many commits there are depends on the machine
    assert len(moments) > 25
    for number, moment in enumerate(moments[::every]):
        sweep = TinySweep.below(tmp_path / str(number))
        assert launch(sweep, 0, Fault(how="SIGKILL of both", moment=moment, seed=number)).code == -9, moment
        assert_all_agree(sweep.run)
        assert launch(sweep, 1).code == 0
        assert_all_agree(sweep.run)


def test_r_counts_the_same_rows(finished: tuple[TinySweep, list[Moment]]) -> None:
    has_arrow = (
        shutil.which("Rscript")
        and not subprocess.run(
            ["Rscript", "-e", "library(arrow); library(dplyr)"], capture_output=True, check=False
        ).returncode
    )
    if not has_arrow:
        pytest.skip("R, or its packages arrow and dplyr, are not installed")
    folders = [str(finished[0].run / "tables" / table) for table in ("trials", "operating_points")]
    counted = subprocess.run(["Rscript", "-e", R_COUNTS, *folders], capture_output=True, text=True, check=True)
    assert counted.stdout.split() == ["2", "4"]
