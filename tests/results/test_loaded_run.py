"""What `results.load` returns: tables by name, best points and comparisons; equal to the commands' numbers."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import results
from results.errors import ResultsError
from results.loaded_run import LoadedRun
from results.store.reader import VIEWS
from results.store.schema import TABLES
from tests.commands import transtailor_command
from tests.results.conftest import Synthetic


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedRun]:
    folder = Synthetic(seeds=(0, 1, 2)).write(tmp_path_factory.mktemp("loaded") / "run")
    with results.load(folder) as run:
        yield run


def test_each_table_is_an_attribute_and_is_completed(loaded: LoadedRun) -> None:
    for name in (*TABLES, *VIEWS):
        assert name in dir(loaded)
        assert len(getattr(loaded, name)) == loaded.rows(f"SELECT count(*) AS n FROM {name}")[0]["n"]
    assert len(loaded.operating_points) > 0
    with pytest.raises(AttributeError, match="has no table 'trails'; it has planned"):
        _ = loaded.trails


def test_best_is_that_of_the_command(loaded: LoadedRun) -> None:
    best = loaded.best(under={"macs": 0.9})
    said = transtailor_command("best", str(loaded.path), "--under", "macs=0.9", folder=loaded.path).stdout
    assert len(best) == said.count("the best of") > 0
    for row in best.itertuples():
        assert f"trial {row.trial_id}, point {row.point}" in said
    with pytest.raises(ResultsError, match="expected a number above 0"):
        loaded.best(under={"macs": -1})
    with pytest.raises(ResultsError, match=r"under = 0.8; expected a dictionary such as {'macs': 0.8}"):
        loaded.best(under=0.8)  # type: ignore[arg-type]


def test_compare_has_the_numbers_of_the_command(loaded: LoadedRun) -> None:
    label = loaded.compared_points["label"].sort_values().iloc[0]
    found = loaded.compare(label)
    words = ("compare", loaded.path, "--against", label, "--format")
    said = json.loads(transtailor_command(*words, "json", folder=loaded.path).stdout)["tables"]["compare"]
    assert list(found.columns) == list(said[0]) and len(found) == len(said)
    shown = transtailor_command(*words, "markdown", folder=loaded.path).stdout
    for row in found.itertuples():
        assert f"| {row.wins}–{row.losses}–{row.ties} |" in shown and f"| {100 * row.score:.2f} |" in shown
    with pytest.raises(ResultsError, match="no tested arm"):
        loaded.compare("nothing")
    said = json.loads(
        transtailor_command("compare", loaded.path, "--stop-at", "0.003", "--format", "json", folder=loaded.path).stdout
    )
    assert [*loaded.compare(stop_at=0.003)["score"]] == [row["score"] for row in said["tables"]["stops"]]


def test_what_the_command_takes_without_an_option_needs_no_name(loaded: LoadedRun) -> None:
    named = loaded.by_class(first="transtailor", second="fine_tune", at=0.2)
    assert str(loaded.by_class("transtailor", "fine_tune", at=0.2)) == str(named) and "classes" in named.tables


def test_it_says_what_it_is(loaded: LoadedRun) -> None:
    assert repr(loaded).startswith("run: trials: ") and "operating points" in repr(loaded)
    assert loaded._repr_html_().count("<tr") == 1 + len(
        {*zip(loaded.planned.network, loaded.planned.label, strict=True)}
    )


def test_a_prompt_shows_an_answer_as_the_command_prints_it(loaded: LoadedRun) -> None:
    page = loaded.table()
    assert repr(page) == str(page) and repr(page).startswith("|")


def test_a_closed_run_says_how_to_read_it_again(tmp_path: Path) -> None:
    run = results.load(Synthetic(seeds=(0, 1)).write(tmp_path / "run"))
    run.close()
    with pytest.raises(ResultsError, match=r"was closed; read it again: results.load\("):
        _ = run.trials
