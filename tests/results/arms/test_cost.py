"""Cost on trees small enough to add up by hand, and on long ones."""

from pathlib import Path
from typing import Any

import pytest

from results.arms.cost import StageRow, Totals, cost, cost_of_run
from results.store.reader import load
from results.store.writer import Writer
from tests.lines import at_most


def test_a_tree_that_two_trials_share() -> None:
    """source -> head -> {a -> a2, b}: points a, a2, b."""
    stages = {
        "source": StageRow(100, ()),
        "head": StageRow(10, ("source",)),
        "a": StageRow(1, ("head",)),
        "a2": StageRow(2, ("a",)),
        "b": StageRow(4, ("head",)),
    }
    found = cost(Totals(stages), stages, ["a", "a2", "b", "a"])
    assert found.shared_s == 117
    assert found.separate_s == 111 + 113 + 114
    assert found.ratio == 338 / 117
    assert (found.stages, found.points, found.unrecorded) == (5, 3, 0)


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


def test_what_has_no_row_counts_nothing_and_is_told() -> None:
    stages = {"a": StageRow(1, ("lost",))}
    found = cost(Totals(stages), stages, ["a", "gone"])
    assert (found.shared_s, found.separate_s, found.unrecorded) == (1, 1, 2)


def test_nothing_computed_has_no_ratio() -> None:
    assert cost(Totals({}), [], []).ratio is None


def test_a_circle_in_damaged_rows_ends() -> None:
    circle = {"a": StageRow(1, ("b",)), "b": StageRow(1, ("a",)), "c": StageRow(1, ("a", "b"))}
    assert Totals(circle).seconds_from_start("c") == 3
    assert Totals(circle).seconds_from_start("a") == 2


def test_ten_thousand_stages_in_a_row_and_as_many_trials() -> None:
    chain = {str(n): StageRow(1, (str(n - 1),) if n else ()) for n in range(10_000)}
    with at_most(10_000 * 100, of="results."):  # walking each chain anew: 50 million
        assert cost(Totals(chain), chain, chain).separate_s == 10_000 * 10_001 / 2
    trials = {"source": StageRow(5, ())}
    for trial in range(10_000):
        trials |= {f"head{trial}": StageRow(1, ("source",)), f"point{trial}": StageRow(1, (f"head{trial}", "source"))}
    with at_most(20_001 * 100, of="results."):
        found = cost(Totals(trials), trials, [f"point{trial}" for trial in range(10_000)])
    assert (found.shared_s, found.separate_s) == (20_005, 70_000)


def test_a_run_added_up_by_hand(tmp_path: Path, synthetic: Any) -> None:
    """Synthetic stages: source 100 s for all, head 20 s per seed, 5 s per operating point, one after the other."""
    synthetic(seeds=(0, 1), budgets=(0.0, 0.1)).write(tmp_path)
    with load(tmp_path) as run:
        whole, labels = cost_of_run(run)
    assert whole.shared_s == 100 + 2 * 20 + 2 * 2 * 5 + 2 * 5
    assert whole.separate_s == 2 * (125 + 130) + 2 * 125
    assert (whole.stages, whole.points) == (1 + 2 + 4 + 2, 6)
    assert labels["transtailor"].shared_s == 100 + 2 * 20 + 2 * 2 * 5
    assert labels["fine_tune"].separate_s == 250


def test_a_stage_found_in_the_cache_costs_what_its_maker_measured(tmp_path: Path) -> None:
    common = {"kind": "k", "kind_version": 1, "order": 0, "device": "cpu", "ranks": 1, "torch_version": "2",
              "stored_bytes": 0, "code_digest": "c", "stage_key": "s", "parents": []}  # fmt: skip
    writer = Writer(tmp_path / "tables")
    writer.write("stages", [common | {"trial_id": "later", "cached": True, "compute_s": 7.5}])
    writer.write("stages", [common | {"trial_id": "maker", "cached": False, "compute_s": 7.0}])
    writer.write("stages", [common | {"trial_id": "second maker", "cached": False, "compute_s": 9.0}])
    with load(tmp_path) as run:
        whole, _ = cost_of_run(run)
    assert whole.shared_s == pytest.approx(7.0)
