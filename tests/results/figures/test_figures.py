"""What figures decide by themselves: ticks, axes that far values do not squeeze, lanes of a time line, colours."""

import math

import pytest

from results.figures.axes import axis, axis_of_most, tick
from results.figures.rows import Line, Mark, rows_of_dots
from results.figures.styles import colours_of
from results.figures.svg import Svg, shorten
from results.figures.timeline import Span, lanes_of


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-3.0, 3.0, [-2, 0, 2]),
        (1e9, 3e9, [1e9, 1.5e9, 2e9, 2.5e9, 3e9]),
    ],
)
def test_ticks_are_round_and_within(low: float, high: float, ticks: list[float]) -> None:
    found = axis([low, high], 0, 100)
    assert [value for value in found.ticks(6) if low <= value <= high] == pytest.approx(ticks)
    assert all(found.low <= value <= found.high for value in found.ticks(6))


def test_whole_numbers_have_no_ticks_between_them() -> None:
    assert axis([1, 2], 0, 100, whole=True).ticks(6) == [1, 2]


@pytest.mark.parametrize("values", [[], [5.0], [0.0, 0.0]])
def test_an_axis_of_one_value_or_none_has_a_length(values: list[float]) -> None:
    found = axis(values, 0, 100)
    assert found.high > found.low
    assert all(0 <= found(value) <= 100 for value in values)


def test_far_values_lie_at_the_end_of_the_axis_and_are_counted() -> None:
    near = [place / 10 for place in range(20)]
    found = axis_of_most([*near, -500.0, 900.0], 0, 100)
    assert found.beyond == 2
    assert (found(-500.0), found(900.0)) == (0, 100)
    assert 0 < found(0.0) < found(1.9) < 100
    assert axis_of_most([*near, 2.5], 0, 100).beyond == 0


def test_a_mean_beyond_the_axis_is_a_triangle_that_tells_its_value() -> None:
    marks = [Mark(value=place / 10, series=0, colour="c0", row=place) for place in range(12)]
    far = Mark(value=-400.0, series=0, colour="c0", words="far: -400")
    drawing = rows_of_dots("title", ["points"], [Line(f"row {n}", [[mark]]) for n, mark in enumerate([*marks, far])])
    assert drawing.beyond == 1
    assert drawing.svg.count("<circle") == 12
    assert drawing.notes == ["far: -400"]


def test_what_is_no_number_is_not_drawn() -> None:
    lines = [Line("row", [[Mark(value=math.nan, series=0, colour="c0", row=0)]])]
    drawing = rows_of_dots("title", ["points"], lines)
    assert "nan" not in drawing.svg and drawing.hits == []


def test_attempts_at_once_lie_on_lanes_of_their_own() -> None:
    def span(place: str, start: float, end: float, row: int) -> Span:
        return Span(place, start, end, 0, "c0", row)

    lanes = lanes_of([span("b", 0, 5, 0), span("a", 0, 2, 1), span("a", 1, 3, 2), span("a", 2, 4, 3)])
    assert [(place, [one.row for one in lane]) for place, lane in lanes] == [("a", [1, 3]), ("a", [2]), ("b", [0])]


def test_up_to_ten_labels_have_colours_of_their_own_and_methods_share_beyond() -> None:
    few = colours_of({f"label {n}": "prune" for n in range(9)} | {"mine": "transtailor"})
    assert len(set(few.values())) == 10 and few["mine"] == "c0"
    many = colours_of({f"label {n}": "prune" for n in range(20)} | {"mine": "transtailor", "all": "fine_tune"})
    assert (many["mine"], many["all"]) == ("c0", "c1")
    assert {many[f"label {n}"] for n in range(20)} == {"c2"}


def test_words_in_a_drawing_are_escaped_and_cut() -> None:
    svg = Svg(10)
    svg.text(0, 0, "<b>&")
    assert ">&lt;b&gt;&amp;</text>" in svg.drawing('a "title"').svg
    assert 'aria-label="a &quot;title&quot;"' in svg.drawing('a "title"').svg
    assert shorten("a long name", 40) == "a lon…"


@pytest.mark.parametrize(
    ("value", "words"), [(2.5e9, "2.5G"), (1_200_000.0, "1.2M"), (20_000.0, "20k"), (-0.5, "−0.5")]
)
def test_ticks_are_written_short(value: float, words: str) -> None:
    assert tick(value) == words
