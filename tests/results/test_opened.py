"""What `results.load` returns: tables by name, best points, comparisons, polars; equal to the commands' numbers."""

import json
from collections.abc import Iterator

import pytest

import results
from results.errors import ResultsError
from results.opened import OpenedRun
from results.store.reader import VIEWS
from results.store.schema import TABLES
from tests.commands import transtailor_command
from tests.results.conftest import Synthetic


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenedRun]:
    folder = Synthetic(seeds=(0, 1, 2)).write(tmp_path_factory.mktemp("opened") / "run")
    with results.load(folder) as run:
        yield run


def test_each_table_is_an_attribute_and_is_completed(opened: OpenedRun) -> None:
    for name in (*TABLES, *VIEWS):
        assert name in dir(opened)
        assert len(getattr(opened, name)) == opened.rows(f"SELECT count(*) AS n FROM {name}")[0]["n"]
    assert len(opened.operating_points) > 0
    with pytest.raises(AttributeError, match="has no table 'trails'; it has planned"):
        _ = opened.trails


def test_polars_has_the_same_rows(opened: OpenedRun) -> None:
    query = "SELECT label, seed FROM planned ORDER BY ALL"
    assert opened.polars(query).rows() == [*opened.sql(query).itertuples(index=False, name=None)]


def test_best_is_that_of_the_command(opened: OpenedRun) -> None:
    best = opened.best(under={"macs": 0.9})
    said = transtailor_command("best", str(opened.path), "--under", "macs=0.9", folder=opened.path).stdout
    assert len(best) == said.count("the best of") > 0
    for row in best.itertuples():
        assert f"trial {row.trial_id}, point {row.point}" in said
    with pytest.raises(ResultsError, match="expected a number above 0"):
        opened.best(under={"macs": -1})


def test_compare_has_the_numbers_of_the_command(opened: OpenedRun) -> None:
    label = opened.compared_points["label"].sort_values().iloc[0]
    found = opened.compare(label)
    words = ("compare", opened.path, "--against", label, "--format")
    said = json.loads(transtailor_command(*words, "json", folder=opened.path).stdout)["tables"]["compare"]
    assert list(found.columns) == list(said[0]) and len(found) == len(said)
    shown = transtailor_command(*words, "markdown", folder=opened.path).stdout
    for row in found.itertuples():
        assert f"| {row.wins}–{row.losses}–{row.ties} |" in shown and f"| {100 * row.score:.2f} |" in shown
    with pytest.raises(ResultsError, match="no tested arm"):
        opened.compare("nothing")


def test_it_says_what_it_is(opened: OpenedRun) -> None:
    assert repr(opened).startswith("run: trials: ") and "operating points" in repr(opened)
    assert opened._repr_html_().count("<tr") == 1 + len(
        {*zip(opened.planned.network, opened.planned.label, strict=True)}
    )
