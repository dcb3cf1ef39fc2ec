"""A run that is empty, torn, half lost or newer, and SQL that fails: clear words, exit 2, nothing written."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from results.__main__ import main
from results.errors import ResultsError
from results.store.reader import load
from results.store.schema import SCHEMA_VERSION
from results.store.writer import Writer

COMMANDS = {
    "query": ("query", "RUN", "SELECT count(*) AS n FROM trials"),
    "best": ("best", "RUN"),
    "compare": ("compare", "RUN", "--against", "fine_tune"),
    "export": ("export", "RUN", "--to", "csv"),
    "table": ("table", "RUN"),
    "effects": ("effects", "RUN"),
    "power": ("power", "RUN", "--against", "fine_tune"),
    "stops": ("stops", "RUN"),
    "front": ("front", "RUN"),
    "images": ("images", "RUN", "transtailor", "fine_tune"),
}


@dataclass(frozen=True)
class Done:
    """What came of a command."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def command(run: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs `python -m results` with these words, of which RUN is the run."""

    def call(*words: str) -> Done:
        code = main([word.replace("RUN", str(run)) for word in words])
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return call


def every_second(run: Path, table: str) -> list[Path]:
    """Half of the parts of a table."""
    return sorted((run / "tables" / table).iterdir())[::2]


def torn(run: Path) -> None:
    for part in every_second(run, "trials"):
        part.write_bytes(part.read_bytes()[:-30])


def newer(run: Path) -> None:
    part = every_second(run, "operating_points")[0]
    rows = pq.ParquetFile(part).read()
    metadata = rows.schema.metadata | {b"schema_version": str(SCHEMA_VERSION + 1).encode()}
    pq.write_table(rows.replace_schema_metadata(metadata), part)


def without_points(run: Path) -> None:
    for part in every_second(run, "operating_points"):
        part.unlink()
    for part in every_second(run, "planned"):
        part.unlink()


def emptied(run: Path) -> None:
    for part in run.rglob("*.parquet"):
        part.unlink()


@pytest.fixture
def run(tmp_path: Path, synthetic: Any) -> Path:
    """A run of four trials, with a part of each table for each."""
    run: Path = synthetic(seeds=(0, 1), budgets=(0.0, 0.1), test_images=5).write(tmp_path / "run")
    return run


def test_what_is_not_damaged_is_answered(command: Callable[..., Done]) -> None:
    for words in COMMANDS.values():
        done = command(*words)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("damage", "name", "said"),
    [
        *((torn, name, "2 of 4 files of the table trials cannot be read") for name in COMMANDS),
        *((newer, name, f"has schema version {SCHEMA_VERSION + 1}, this program knows up to") for name in COMMANDS),
        *(
            (without_points, name, "of 4 finished trials have no row in operating_points")
            for name in list(COMMANDS)[1:]
        ),
        (emptied, "best", "no operating point in"),
        (emptied, "compare", "no tested arm is called 'fine_tune'"),
        (emptied, "export", "has no trials yet: nothing to export"),
    ],
)
def test_a_damaged_run_is_refused_in_words_and_nothing_is_written(
    run: Path, command: Callable[..., Done], damage: Callable[[Path], None], name: str, said: str
) -> None:
    damage(run)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    done = command(*COMMANDS[name])
    assert done.returncode == 2, done.stdout
    assert said in done.stderr
    assert done.stdout == ""
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_query_on_a_run_of_which_rows_are_lost_answers_and_warns(run: Path, command: Callable[..., Done]) -> None:
    without_points(run)
    done = command(*COMMANDS["query"])
    assert (done.returncode, done.stdout) == (0, "| n |\n| ---: |\n| 4 |\n")
    assert done.stderr.startswith("warning: rows are lost: 2 of 4 finished trials have no row in planned; 2 of 4")
    assert str(run) in done.stderr


def test_of_many_torn_files_the_first_are_named_and_the_rest_counted(run: Path, trial_row: Any) -> None:
    for number in range(6):
        part = Writer(run / "tables").write("trials", [trial_row(trial_id=str(number))])
        assert part is not None
        part.write_bytes(b"PAR1")
    with pytest.raises(ResultsError, match=r"(?s)6 of 10 files of the table trials.*torn.*torn.*torn.*and 3 more$"):
        load(run)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT acuracy FROM measured_points", "acuracy"),
        ("SELECT 1/'x'::INTEGER", "the query failed"),
        ("DROP VIEW trials", "expected one query"),
        ("SELECT * FROM read_csv('/nowhere.csv')", "the query failed"),
        ("SELECT * FROM test_all_types()", "has a value that cannot be shown"),
        ("SELECT TIMESTAMP '294246-01-01'", "has a value that cannot be shown"),
        ("SELECT '\udcff'", "the query failed"),
    ],
)
def test_sql_that_fails_says_why_and_writes_nothing(
    run: Path, command: Callable[..., Done], sql: str, said: str
) -> None:
    before = sorted(run.rglob("*"))
    done = command("query", "RUN", sql)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert sorted(run.rglob("*")) == before
