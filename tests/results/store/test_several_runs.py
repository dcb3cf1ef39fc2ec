"""Several runs as one: every row says its run, and what is compared has each trial once."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import results
from results.arms.comparison import points_of
from results.errors import ResultsError
from results.store.schema import TABLES
from results.store.writer import Writer
from tests.commands import Said

Runs = Callable[..., tuple[Path, Path]]


@pytest.fixture
def runs(tmp_path: Path, synthetic: Any) -> tuple[Path, Path]:
    """Run a with seeds 0 and 1, run b with seeds 1 and 2 of the same trials: seed 1 stands in both."""
    a = synthetic(seeds=(0, 1)).write(tmp_path / "a")
    b = synthetic(seeds=(1, 2)).write(tmp_path / "b")
    return a, b


def test_tables_have_the_rows_of_every_run_under_its_name(runs: tuple[Path, Path]) -> None:
    with results.load(list(runs)) as both, results.load(runs[0]) as a, results.load(runs[1]) as b:
        for name, table in TABLES.items():
            expected = [{"run": run, **row} for run, one in (("a", a), ("b", b)) for row in one.rows(f"FROM {name}")]
            found = both.rows(f"FROM {name}")
            assert sorted(map(str, found)) == sorted(map(str, expected))
            columns = both.arrow(f"FROM {name}").column_names
            assert columns == ["run", *(column.name for column in table.columns)]
        assert both.rows("SELECT count(*) AS n FROM operating_points") == [{"n": 20}]


def test_a_trial_of_both_runs_is_compared_once_as_it_was_written_last(runs: tuple[Path, Path]) -> None:
    with results.load(runs[0]) as a:
        row = a.rows("SELECT * EXCLUDE (written_at) FROM operating_points WHERE seed = 1 AND point = 2")[0]
    Writer(runs[0] / "tables").write("operating_points", [row | {"validation_score": 0.125}])
    with results.load([runs[1], runs[0]]) as both:
        points = both.rows("SELECT run, trial_id, point, seed, validation_score, test_images FROM measured_points")
        compared = points_of(both)
    assert len(points) == len({(point["trial_id"], point["point"]) for point in points}) == 15
    assert len(compared) == 15
    assert {point["test_images"] for point in points} == {200}
    of_seed_1 = [point for point in points if point["seed"] == 1]
    newest = [point for point in of_seed_1 if point["validation_score"] == 0.125]
    assert [point["run"] for point in newest] == ["a"]
    assert {point["run"] for point in of_seed_1 if point not in newest} == {"b"}


def test_a_table_that_one_run_lacks_has_the_other_ones_rows(tmp_path: Path, runs: tuple[Path, Path]) -> None:
    (tmp_path / "c" / "tables").mkdir(parents=True)
    with results.load([tmp_path / "c", runs[0]]) as both:
        assert both.rows("SELECT DISTINCT run FROM trials") == [{"run": "a"}]
        assert both.rows("FROM events") == []
        with pytest.raises(ResultsError, match="expected one run, given c, a"):
            _ = both.path


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path: Path, synthetic: Any) -> None:
    paths = [synthetic(seeds=(0,)).write(tmp_path / folder / "it's") for folder in ("x", "y")]
    with results.load(paths) as both:
        names = {row["run"] for row in both.rows("SELECT run FROM trials")}
    assert names == {str(path) for path in paths}


def test_a_run_twice_or_none_is_refused(runs: tuple[Path, Path]) -> None:
    with pytest.raises(ResultsError, match="is listed twice"):
        results.load([runs[0], runs[0] / ".." / "a"])
    with pytest.raises(ResultsError, match="at least one run"):
        results.load([])


def test_query_takes_several_runs(runs: tuple[Path, Path], command: Callable[..., Said]) -> None:
    done = command("query", *runs, "SELECT run, count(*) AS n FROM trials GROUP BY ALL ORDER BY ALL")
    assert (done.stdout, done.stderr) == ("| run | n |\n| --- | ---: |\n| a | 4 |\n| b | 4 |\n", "")


def test_pandas_is_imported_by_df_alone(runs: tuple[Path, Path]) -> None:
    code = (
        "import sys, results; assert 'pyarrow' not in sys.modules;"
        f"run = results.load([{str(runs[0])!r}, {str(runs[1])!r}]); run.rows('SELECT count(*) FROM trials');"
        "print('pandas' in sys.modules); print(type(run.sql('FROM trials')).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\nDataFrame\n"
