"""Cost on trees small enough to add up by hand, and on many trials."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from results.arms.cost import SharingSavings, cost_of_run
from results.arms.fronts import DEVICE_HOURS, costs_of
from results.questions.costs import KINDS, bill
from results.questions.learning import CURVES
from results.store.reader import load
from results.store.writer import Writer
from tests.results.exact_run import Trial, rows_of

STAGE = {"kind": "k", "kind_version": 1, "order": 0, "device": "cpu", "ranks": 2, "torch_version": "2",
         "stored_bytes": 0, "tensors_sha256": "0", "code_digest": "c", "cached": False}  # fmt: skip


@pytest.fixture
def a_point(tmp_path_factory: pytest.TempPathFactory, synthetic: Any) -> dict[str, Any]:
    """A row of `operating_points`, whose keys are to be replaced."""
    folder = tmp_path_factory.mktemp("point")
    synthetic(seeds=(0,), budgets=(0.0,)).write(folder)
    with load(folder) as run:
        return run.rows("SELECT * EXCLUDE (written_at) FROM operating_points")[0]


def whole_cost(
    folder: Path, a_point: dict[str, Any], stages: dict[str, tuple[float, tuple[str, ...]]], points: list[str]
) -> SharingSavings:
    """The cost of a run with these stages (seconds, parents) and points."""
    writer = Writer(folder / "tables")
    writer.write("stages", [STAGE | {"trial_id": "t", "stage_key": key, "compute_s": seconds, "parents": list(parents)}
                            for key, (seconds, parents) in stages.items()])  # fmt: skip
    writer.write("operating_points", [a_point | {"trial_id": "t", "point": number, "stage_key": key, "label": "l",
                                                 "arm": "l"} for number, key in enumerate(points)])  # fmt: skip
    with load(folder) as run:
        whole, labels = cost_of_run(run)
        assert labels == ({"l": whole} if points else {})
        hours = costs_of(run, DEVICE_HOURS)
        distinct = {points[number]: 1800 * value for (_, number), value in hours.items()}  # two ranks
        assert sum(distinct.values()) == pytest.approx(whole.baselines.each_point_alone.separate)
        return whole


def sums(cost: SharingSavings) -> tuple[tuple[float, float], ...]:
    """Of scripts, of scripts with the source given, and of points alone: the seconds without sharing, and with it."""
    found = cost.baselines
    return tuple(
        (each.separate, each.shared) for each in (found.one_script, found.source_given, found.each_point_alone)
    )


def test_a_tree_that_two_trials_share(tmp_path: Path, a_point: dict[str, Any]) -> None:
    """source -> head -> {a -> a2, b}: points a, a2, b."""
    stages: dict[str, tuple[float, tuple[str, ...]]] = {
        "source": (100, ()), "head": (10, ("source",)), "a": (1, ("head",)), "a2": (2, ("a",)), "b": (4, ("head",)),
    }  # fmt: skip
    found = whole_cost(tmp_path, a_point, stages, ["a", "a2", "b", "a"])
    assert (found.stages, found.points, found.unrecorded) == (5, 3, 0)
    assert sums(found) == ((117, 117), (117, 117), (111 + 113 + 114, 117))
    assert found.baselines.each_point_alone.factor == 338 / 117


def test_an_ancestor_reached_on_two_ways_counts_once(tmp_path: Path, a_point: dict[str, Any]) -> None:
    """load -> model -> {scores, pruned}; pruned has both as parents, and tuned follows."""
    stages: dict[str, tuple[float, tuple[str, ...]]] = {
        "load": (1, ()), "model": (10, ("load",)), "scores": (100, ("model",)),
        "pruned": (1000, ("scores", "model")), "tuned": (10000, ("pruned",)),
    }  # fmt: skip
    assert whole_cost(tmp_path, a_point, stages, ["tuned"]).baselines.each_point_alone.separate == 11111


def test_what_has_no_row_counts_nothing_and_is_told(tmp_path: Path, a_point: dict[str, Any]) -> None:
    found = whole_cost(tmp_path, a_point, {"a": (1, ("lost",))}, ["a", "gone"])
    assert (sums(found)[2], found.unrecorded) == ((1, 1), 2)


def test_a_circle_in_damaged_rows_ends(tmp_path: Path, a_point: dict[str, Any]) -> None:
    circle: dict[str, tuple[float, tuple[str, ...]]] = {"a": (1, ("b",)), "b": (1, ("a",)), "c": (1, ("a", "b"))}
    assert whole_cost(tmp_path, a_point, circle, ["c", "a"]).baselines.each_point_alone.separate == 3 + 2


def test_nothing_computed_has_no_ratio(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    with load(tmp_path) as run:
        whole, arms = cost_of_run(run)
    assert (whole.stages, whole.points, arms) == (0, 0, {})
    assert [baseline.factor for baseline in whole.baselines.leading_first()] == [None, None]


@pytest.mark.check
def test_ten_thousand_trials_are_added_up(tmp_path: Path, a_point: dict[str, Any]) -> None:
    trials: dict[str, tuple[float, tuple[str, ...]]] = {"source": (5, ())}
    for trial in range(10_000):
        trials |= {f"head{trial}": (1, ("source",)), f"point{trial}": (1, (f"head{trial}", "source"))}
    found = whole_cost(tmp_path, a_point, trials, [f"point{trial}" for trial in range(10_000)])
    assert sums(found)[2] == (70_000, 20_005)


def test_a_run_added_up_by_hand(tmp_path: Path, synthetic: Any) -> None:
    """Synthetic stages: source 100 s for all, head 20 s per seed, 5 s per operating point, one after the other."""
    synthetic(seeds=(0, 1), budgets=(0.0, 0.1)).write(tmp_path)
    with load(tmp_path) as run:
        whole, labels = cost_of_run(run)
    paths, tunings = 4 * 5, 2 * 5  # the operating points of both seeds
    assert sums(whole) == (
        (4 * (100 + 20) + paths + tunings, 100 + 2 * 20 + paths + tunings),
        (4 * 20 + paths + tunings, 2 * 20 + paths + tunings),
        (2 * (125 + 130) + 2 * 125, 100 + 2 * 20 + paths + tunings),
    )
    assert (whole.stages, whole.points) == (1 + 2 + 4 + 2, 6)
    assert sums(labels["transtailor"])[:2] == ((2 * 120 + paths, 100 + 2 * 20 + paths), (2 * 20 + paths,) * 2)
    assert sums(labels["fine_tune"])[2] == (250, 100 + 2 * 20 + tunings)


def test_a_stage_found_in_the_cache_costs_what_its_maker_measured(tmp_path: Path) -> None:
    common = {"kind": "k", "kind_version": 1, "order": 0, "device": "cpu", "ranks": 1, "torch_version": "2",
              "stored_bytes": 0, "tensors_sha256": "0", "code_digest": "c", "stage_key": "s",
              "parents": []}  # fmt: skip
    writer = Writer(tmp_path / "tables")
    writer.write("stages", [common | {"trial_id": "later", "cached": True, "compute_s": 7.5}])
    writer.write("stages", [common | {"trial_id": "maker", "cached": False, "compute_s": 7.0}])
    writer.write("stages", [common | {"trial_id": "second maker", "cached": False, "compute_s": 9.0}])
    with load(tmp_path) as run:
        whole, _ = cost_of_run(run)
    assert sums(whole)[:2] == ((3 * 7.0, 7.0),) * 2


@pytest.mark.parametrize(
    ("cached", "computed"), [((False, True, True), 1), ((False, False, False), 3), ((True, True, True), 1)],
    ids=["shared", "without sharing", "of an earlier run"],
)  # fmt: skip
def test_what_each_trial_computed_itself_was_not_saved(tmp_path: Path, cached: tuple[bool, ...], computed: int) -> None:
    """Three trials with one stage of half an hour on two ranks."""
    rows = [
        STAGE | {"trial_id": f"t{n}", "stage_key": "s", "parents": [], "compute_s": 1800.0, "cached": found}
        for n, found in enumerate(cached)
    ]
    Writer(tmp_path / "tables").write("stages", rows)
    with load(tmp_path) as run:
        (row,) = run.rows(KINDS)
    assert (row["rank_hours"], row["saved_rank_hours"], row["stages"]) == (computed, 3 - computed, 1)


def test_the_bill_names_what_halving_threw_away_and_what_was_cut_off(
    tmp_path: Path, trial_row: Callable[..., dict[str, Any]]
) -> None:
    """Two ranks; `a` has finished, `b` was stopped, `c` still runs: what only `b` computed was for nothing."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    writer = Writer(tmp_path / "tables")
    stages = [("a", "shared", 60, False), ("b", "shared", 60, True), ("b", "lost", 30, False), ("c", "c", 30, False)]
    writer.write("stages", [STAGE | {"trial_id": trial_id, "stage_key": key, "compute_s": seconds, "cached": cached,
                                     "parents": []} for trial_id, key, seconds, cached in stages])  # fmt: skip
    writer.write("trials", [trial_row(trial_id="a"), trial_row(trial_id="b", status="stopped")])
    attempt = {"trial_id": "c", "driver": "d", "cause": None, "log_tail": None, "host": "h", "code_digest": "c",
               "started_at": start, "ended_at": start + timedelta(seconds=90), "nodes": ["n", "n"]}  # fmt: skip
    writer.write("attempts", [attempt | {"attempt": number, "status": status}
                              for number, status in ((1, "interrupted"), (2, "died"), (3, "failed"))])  # fmt: skip
    with load(tmp_path) as run:
        assert bill(run) == (
            "The stages took 4.0 rank-minutes, none of them on GPUs; sharing stages between trials saved 2.0"
            " rank-minutes, 33% of what one script per trial, its source's training included, would have computed;"
            " 1.0 rank-minutes are only of trials that halving stopped; 2 attempts of 6.0 rank-minutes in all were cut"
            " off, and what they had finished is kept."
        )


@pytest.mark.parametrize(
    ("found_s", "taken", "found"), [(60, "3.0", "2.0"), (1, "1.0", "less than 0.1")], ids=["much", "little"]
)
def test_the_bill_says_what_was_in_the_cache_before(tmp_path: Path, found_s: int, taken: str, found: str) -> None:
    """Both trials found the first stage, which took two ranks so long; and one of them computed the second."""
    stages = [
        ("a", "found", found_s, True),
        ("b", "found", found_s, True),
        ("a", "own", 30, False),
        ("b", "own", 30, True),
    ]
    Writer(tmp_path / "tables").write("stages", [
        STAGE | {"trial_id": trial_id, "stage_key": key, "compute_s": seconds, "cached": cached, "parents": []}
        for trial_id, key, seconds, cached in stages
    ])  # fmt: skip
    with load(tmp_path) as run:
        assert bill(run).startswith(
            f"The stages took {taken} rank-minutes, none of them on GPUs; {found} rank-minutes of them are of stages"
            " that were in the cache, from another run or a cut off attempt; sharing"
        )


def test_the_head_that_a_path_begins_with_has_no_later_stage_of_it(tmp_path: Path) -> None:
    """The stages of a trial: source, point 0 (of head_only), point 1; the third is fine-tuned for two epochs."""
    path = Trial(label="TransTailor", seed=0, right=(90, 50), asked=(0.0, 0.2), head_arm="head_only")
    rows = rows_of([path, replace(path, seed=1)])
    of_source = rows["epochs"][0]
    for stage in rows["stages"]:
        if stage["order"] == 2:
            tuned = {name: stage[name] for name in ("trial_id", "stage_key", "order")} | {"kind": "fine_tune"}
            rows["epochs"] += [of_source | tuned | {"epoch": epoch} for epoch in (0, 1)]
    writer = Writer(tmp_path / "tables")
    for table, several in rows.items():
        writer.write(table, several)
    with load(tmp_path) as run:
        _, arms = cost_of_run(run)
        arms_of_kinds = {(row["kind"], row["arm"]) for row in run.rows(CURVES)}
    assert {name: arm.stages for name, arm in arms.items()} == {"TransTailor": 2 * 3, "head_only": 2 * 2}
    assert arms_of_kinds == {("train_source", "shared by several arms"), ("fine_tune", "TransTailor")}
