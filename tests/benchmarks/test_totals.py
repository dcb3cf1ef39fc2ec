"""Seconds from the start, on trees small enough to add up by hand, and on long ones."""

from benchmarks.sharing import StageRow, Totals
from tests.lines import at_most


def test_an_ancestor_reached_on_two_ways_counts_once() -> None:
    """load -> model -> {scores, pruned}; pruned has both as parents, and tuned follows."""
    stages = {
        "load": StageRow(1, ()),
        "model": StageRow(10, ("load",)),
        "scores": StageRow(100, ("model",)),
        "pruned": StageRow(1000, ("scores", "model")),
        "tuned": StageRow(10000, ("pruned",)),
    }
    totals = Totals(stages)
    assert totals.seconds_from_start("tuned") == 11111
    assert totals.seconds_from_start("pruned") == 1111
    assert totals.seconds_from_start("scores") == 111


def test_the_order_of_questions_changes_no_answer() -> None:
    stages = {str(n): StageRow(n, (str(n - 1),) if n else ()) for n in range(10)} | {"m": StageRow(5, ("3", "7"))}
    forwards, backwards = Totals(stages), Totals(stages)
    keys = list(stages)
    assert {key: forwards.seconds_from_start(key) for key in keys} == {
        key: backwards.seconds_from_start(key) for key in reversed(keys)
    }
    assert forwards.seconds_from_start("m") == 5 + sum(range(8))


def test_a_circle_in_damaged_rows_ends() -> None:
    circle = {"a": StageRow(1, ("b",)), "b": StageRow(1, ("a",)), "c": StageRow(1, ("a", "b"))}
    assert Totals(circle).seconds_from_start("c") == 3
    assert Totals(circle).seconds_from_start("a") == 2


def test_ten_thousand_stages_in_a_row() -> None:
    chain = {str(n): StageRow(1, (str(n - 1),) if n else ()) for n in range(10_000)}
    with at_most(10_000 * 100, of="benchmarks."):  # walking each chain anew: 50 million
        totals = Totals(chain)
        assert sum(map(totals.seconds_from_start, chain)) == 10_000 * 10_001 / 2
