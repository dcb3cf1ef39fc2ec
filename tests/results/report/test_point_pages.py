"""All points, page by page: each once, in order, filtered as the page filters; a question is never SQL."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from results.errors import ResultsError
from results.report.point_pages import PAGE_ROWS, PointPages
from results.store.reader import load

SEEDS = 24  # with eight budgets and another arm: 216 points


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from tests.results.conftest import Synthetic

    made = Synthetic(
        seeds=range(SEEDS), budgets=tuple(n / 20 for n in range(8)), test_images=5,
        validation=lambda _label, seed, point: math.nan if point == 3 else (seed % 5 + point) / 100,
    )  # fmt: skip
    opened = PointPages(load(made.write(tmp_path_factory.mktemp("run"))))
    yield opened
    opened.close()


def rows_of(answer: str) -> list[dict[str, Any]]:
    found = json.loads(answer)
    columns = {
        one["name"]: [one["texts"][place] for place in one["places"]] if "texts" in one else one["values"]
        for one in found["columns"]
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def walked(pages: PointPages, **question: Any) -> tuple[int, list[dict[str, Any]]]:
    """The number that the first page tells, and the rows of all pages."""
    answer = pages.answer(json.dumps(question))
    count, rows = json.loads(answer)["count"], rows_of(answer)
    while last := json.loads(answer)["last"]:
        answer = pages.answer(json.dumps({**question, "after": last}))
        rows += rows_of(answer)
    return count, rows


@pytest.mark.parametrize("sort", ["-test_score", "test_score", "arm", "-seed", "validation_score", "-validation_score"])
def test_each_point_is_on_one_page_and_in_order(pages: PointPages, sort: str) -> None:
    count, rows = walked(pages, sort=sort)
    assert count == len(rows) == len({(row["trial_id"], row["point"]) for row in rows}) == 9 * SEEDS > PAGE_ROWS
    values = [row[sort.removeprefix("-")] for row in rows]
    known = [value for value in values if value != "nan"]
    assert known == sorted(known, reverse=sort.startswith("-"))
    assert values[len(known) :] == ["nan"] * (len(values) - len(known))  # what has no score comes last


def test_filters_are_those_of_the_page(pages: PointPages) -> None:
    _, every = walked(pages)
    count, rows = walked(pages, numbers=[["test_score", ">=", 80], ["seed", "=", 1]], texts=["TAILOR"])
    wanted = [row for row in every if row["test_score"] >= 0.8 and row["seed"] == 1 and row["arm"] == "transtailor"]
    assert rows == wanted and count == len(wanted) > 0
    assert {row["arm"] for row in walked(pages, arms=["fine_tune"])[1]} == {"fine_tune"}
    assert walked(pages, problem=["vgg11", "digits", None])[0] == len(every)
    assert walked(pages, problem=["vgg11", "birds", None]) == (0, [])


def test_a_number_that_is_reached_up_to_rounding_is_reached(tmp_path: Path, synthetic: Any) -> None:
    """100 * 0.28 is 28.000000000000004, and 100 * 0.29 is 28.999999999999996."""
    pages = PointPages(load(synthetic(seeds=(0,), budgets=(0.28, 0.29), test_images=5).write(tmp_path)))
    asked = [(sign, amount) for amount in (28, 29) for sign in ("<", "<=", "=", ">=", ">")]
    found = [walked(pages, numbers=[["asked_removed_macs_fraction", *one]], texts=["tailor"])[0] for one in asked]
    assert found == [0, 1, 1, 2, 1, 1, 2, 1, 1, 0]
    pages.close()


@pytest.mark.parametrize(
    "question",
    ["", "{", "[]", '{"sort": "point; DROP TABLE points"}', '{"numbers": [["1=1 OR seed", "=", 1]]}',
     '{"numbers": [["seed", "OR", 1]]}', '{"sql": "SELECT 1"}', '{"after": [1]}'],
)  # fmt: skip
def test_what_is_no_question_is_refused(pages: PointPages, question: str) -> None:
    with pytest.raises(ResultsError, match="no question about points"):
        pages.answer(question)


def test_points_of_several_runs_are_sorted_and_found_by_run(tmp_path: Path, synthetic: Any) -> None:
    runs = [synthetic(seeds=(seed,), budgets=(0.0,), test_images=5).write(tmp_path / f"of{seed}") for seed in (1, 2)]
    pages = PointPages(load(runs))
    assert [row["run"] for row in walked(pages, sort="-run")[1]] == ["of2", "of2", "of1", "of1"]
    assert {row["seed"] for row in walked(pages, texts=["of1"], most=1)[1]} == {1}
    pages.close()


def test_texts_are_looked_for_and_not_run(pages: PointPages) -> None:
    assert walked(pages, texts=["' OR 1=1 --"]) == walked(pages, arms=["x') OR ('1'='1"]) == (0, [])
