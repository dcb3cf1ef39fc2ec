"""A run that is empty, torn, half lost, mixed or newer, and SQL that fails: clear words, exit 2, nothing written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from results.store.reader import load
from results.store.schema import SCHEMA_VERSION
from results.store.writer import Writer
from tests.commands import Said
from tests.results.questions.test_printed import printed_row

Command = Callable[..., Said]
COMMANDS = {
    "query": ("query", "SELECT count(*) AS n FROM trials"),
    "best": ("best",),
    "compare": ("compare", "--against", "fine_tune"),
    "table": ("table",),
    "effects": ("effects", "--of", "arm", "--against", "fine_tune"),
    "stops": ("compare", "--stop-at", "0.003"),
    "front": ("front",),
    "printed": ("printed",),
    "classes": ("classes", "transtailor", "fine_tune"),
}


def torn(run: Path) -> None:
    file = run / "tables" / "trials" / "trials.parquet"
    file.write_bytes(file.read_bytes()[:-30])


def newer(run: Path) -> None:
    (file,) = (run / "tables" / "operating_points").iterdir()
    rows = pq.ParquetFile(file).read()
    metadata = rows.schema.metadata | {b"schema_version": str(SCHEMA_VERSION + 1).encode()}
    pq.write_table(rows.replace_schema_metadata(metadata), file)


def without(table: str) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        (file,) = (run / "tables" / table).iterdir()
        file.unlink()

    return damage


def mixed(run: Path) -> None:
    """Two of its four trials are in its plan: the files of the others were copied from another run."""
    with load(run) as tables:
        ids = [row["trial_id"] for row in tables.rows("SELECT trial_id FROM planned ORDER BY trial_id")]
    (run / "plan.json").write_text(json.dumps({"trials": dict.fromkeys(ids[:2], {})}))


def emptied(run: Path) -> None:
    for file in run.rglob("*.parquet"):
        file.unlink()


@pytest.fixture
def run(tmp_path: Path, synthetic: Any) -> Path:
    """A run of four trials, and a printed number of one of their arms."""
    run: Path = synthetic(seeds=(0, 1), budgets=(0.0, 0.1), test_images=5).write(tmp_path / "run")
    Writer(run / "tables").write("printed", [printed_row("digits_resnet", "digits", 0.1, value=0.8)])
    return run


def typed(name: str, run: Path) -> list[object]:
    """The words of a command on this run."""
    command, *options = COMMANDS[name]
    return [command, run, *options]


def test_what_is_not_damaged_is_answered(run: Path, command: Command) -> None:
    for name in COMMANDS:
        done = command(*typed(name, run))
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("damage", "names", "said"),
    [
        (torn, list(COMMANDS), "trials.parquet' is torn or no Parquet file"),
        (newer, list(COMMANDS), f"has schema version {SCHEMA_VERSION + 1}, this program reads"),
        (without("operating_points"), list(COMMANDS)[1:], "4 of 4 finished trials lack rows in operating_points"),
        (without("predictions"), list(COMMANDS)[1:], "4 of 4 finished trials lack rows in predictions"),
        (mixed, list(COMMANDS)[1:], "has rows of 2 trials not in its plan.json"),
        (emptied, ["best"], "no operating point in"),
        (emptied, ["compare"], "no operating points yet"),
    ],
)
def test_a_damaged_run_is_refused_in_words_and_nothing_is_written(
    run: Path, command: Command, damage: Callable[[Path], None], names: list[str], said: str
) -> None:
    damage(run)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    for name in names:
        done = command(*typed(name, run))
        assert (done.returncode, done.stdout) == (2, ""), name
        assert said in done.stderr, name
        assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before, name


def test_a_query_on_a_run_of_which_rows_are_lost_answers_and_warns(run: Path, command: Command) -> None:
    without("operating_points")(run)
    done = command(*typed("query", run))
    assert (done.returncode, done.stdout) == (0, "| n |\n| ---: |\n| 4 |\n")
    assert done.stderr.startswith("warning: rows are lost: 4 of 4 finished trials lack rows in operating_points")
    assert str(run) in done.stderr


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
def test_sql_that_fails_says_why_and_writes_nothing(run: Path, command: Command, sql: str, said: str) -> None:
    before = sorted(run.rglob("*"))
    done = command("query", run, sql)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert sorted(run.rglob("*")) == before


def test_a_query_before_its_run_or_forgotten_says_where_it_goes(run: Path, command: Command) -> None:
    for words in (("SELECT 1", run), (run, run)):
        assert f"query {run} 'SELECT * FROM trials'" in command("query", *words).stderr
    sql = f"SELECT 1 -- {'x' * 5000}"  # longer than a name may be
    assert command("query", run, sql).returncode == 0
    swapped = command("query", sql, run)
    assert swapped.returncode == 2 and f"query {run} 'SELECT * FROM trials'" in swapped.stderr
    assert command("table", sql).stderr.endswith("x: File name too long\n")
