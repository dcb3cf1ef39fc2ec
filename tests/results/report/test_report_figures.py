"""The report of a run that has everything: every figure is there, and shows what the query under it answers."""

import html
import math
import re
from pathlib import Path
from typing import Any

import pytest

from results.arms.comparison import arms_of, baseline_pairs, compare, points_of
from results.arms.fronts import costs_of
from results.render.blocks import packed
from results.report import write_report
from results.store.query_table import plain
from results.store.reader import Run, load
from results.text.scales import cell
from tests.results.many_trials import write_many
from tests.results.report_page import Shown, figures_of, parsed, tables_of, without_scripts


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has everything a report shows."""
    return write_many(tmp_path_factory.mktemp("many") / "run", 120)


@pytest.fixture(scope="module")
def page_of_many(many: Path) -> str:
    return write_report(many).read_text()


def test_one_page_that_fetches_nothing_and_whose_tags_and_ids_are_sound(many: Path, page_of_many: str) -> None:
    assert write_report(many) == many / "report.html"
    found = parsed(page_of_many)
    assert found.open == []
    assert all(link.startswith(("#", "data:")) for link in found.links)
    assert "link" not in found.tags and "iframe" not in found.tags
    assert found.handlers == []
    assert "@import" not in page_of_many
    (style,) = re.findall(r"<style>(.*?)</style>", page_of_many, flags=re.DOTALL)
    assert "url(" not in style
    assert (
        "default-src 'none'; style-src 'sha256-" in page_of_many
        and "unsafe" not in page_of_many.partition("<style>")[0]
    )
    assert len(found.ids) == len(set(found.ids))
    assert {link[1:] for link in found.links if link.startswith("#")} <= set(found.ids)


def test_every_part_of_a_full_run_has_its_figure(page_of_many: str) -> None:
    names = {re.sub(r"\d+$", "", name) for name in figures_of(page_of_many)}
    parts = "against pareto-figure effects learning widths agreement facing kept same-filters confusion kinds printed"
    assert names == set(parts.split())
    for figure in figures_of(page_of_many).values():
        assert figure.data["rows"] > 0 and figure.data["spec"], figure.name


def test_every_figure_shows_what_its_query_answers(many: Path, page_of_many: str) -> None:
    figures = [figure for figure in figures_of(page_of_many).values() if not figure.derived]
    assert len(figures) >= 12
    with load(many) as run:
        for figure in figures:
            answer = run.arrow(figure.query)
            columns = [
                {"name": name, **packed([plain(value) for value in column.to_pylist()])}
                for name, column in zip(answer.column_names, answer.columns, strict=True)
            ]
            assert figure.data["columns"] == columns, figure.name
            assert (figure.data["rows"], figure.data["left_out"]) == (answer.num_rows, 0)


def test_every_table_that_is_an_answer_shows_what_its_query_answers(many: Path, page_of_many: str) -> None:
    tables = tables_of(page_of_many)
    assert len(tables) >= 5
    with load(many) as run:
        for rows, query in tables:
            assert rows == [[cell(value) for value in row.values()] for row in run.rows(query)], query


def test_every_query_that_is_printed_runs(many: Path, page_of_many: str) -> None:
    queries = {
        html.unescape(query)
        for query in re.findall(r"<pre>(.*?)</pre>", without_scripts(page_of_many), flags=re.DOTALL)
    }
    assert len(queries) >= 20
    with load(many) as run:
        for query in queries:
            for statement in query.split(";"):
                run.rows(statement)


def _arms(run: Run) -> dict[tuple[str, str, float | None], Any]:
    return {(arm.problem.network, arm.name, arm.asked): arm for arm in arms_of(points_of(run), {})}


def _records(figure: Shown) -> list[dict[str, Any]]:
    columns = {
        one["name"]: [one["texts"][place] for place in one["places"]] if "texts" in one else one["values"]
        for one in figure.data["columns"]
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def test_the_differences_drawn_are_those_of_the_comparison(many: Path, page_of_many: str) -> None:
    """The seeds' differences that the query finds have the mean that the comparison computes."""
    found: dict[tuple[str, float | None], list[float]] = {}
    for row in _records(figures_of(page_of_many)["against0"]):
        found.setdefault((row["arm"], row["asked_removed_macs_fraction"]), []).append(row["difference"])
    with load(many) as run:
        pairings = [compare([pair]) for pair in baseline_pairs(list(_arms(run).values()))]
    its = [one for one in pairings if one.problem and one.problem.network == "resnet101" and one.result.difference.n]
    assert len(its) == len(found) > 10
    for one in its:
        differences = found[one.arm, one.asked]
        assert len(differences) == one.result.difference.n
        assert math.fsum(differences) / len(differences) == pytest.approx(one.result.difference.mean, abs=1e-5)


def test_the_hours_behind_a_point_are_those_of_the_fronts(many: Path, page_of_many: str) -> None:
    with load(many) as run:
        hours = costs_of(run, "device_hours")
    rows = _records(figures_of(page_of_many)["pareto-figure"])
    assert len(rows) == len(hours)
    for row in rows:
        assert row["device_hours"] == pytest.approx(hours[row["trial_id"], row["point"]], rel=1e-5)


def test_printed_numbers_stand_beside_measured_ones(many: Path, page_of_many: str) -> None:
    (row,) = _records(figures_of(page_of_many)["printed0"])
    with load(many) as run:
        arm = _arms(run)["vgg16", "transtailor", 0.3]
    assert row["printed_value"] == 0.94
    assert row["measured_test_score"] == pytest.approx(arm.test.mean, abs=0.01)  # seeds have unequal numbers of trials
