"""The hours of a run, on stages few enough to add up by hand."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from results.arms.fronts import DEVICE_HOURS, costs_of
from results.questions.costs import KINDS, bill
from results.questions.learning import CURVES
from results.store.reader import load
from results.store.writer import Writer
from tests.results.exact_run import Trial, rows_of

STAGE = {"kind": "k", "kind_version": 1, "order": 0, "device": "cpu", "ranks": 2, "torch_version": "2",
         "stored_bytes": 0, "tensors_sha256": "0", "code_digest": "c", "cached": False}  # fmt: skip
TWO_WAYS = {"load": (1, ()), "model": (10, ("load",)), "scores": (100, ("model",)),
            "pruned": (1000, ("scores", "model")), "tuned": (10000, ("pruned",))}  # fmt: skip
CIRCLE = {"a": (1, ("b",)), "b": (1, ("a",)), "c": (1, ("a", "b"))}


@pytest.mark.parametrize(
    ("stages", "seconds"),
    [(TWO_WAYS, {"tuned": 11111}), ({"a": (1, ("lost",))}, {"a": 1}), (CIRCLE, {"c": 3, "a": 2})],
    ids=["an ancestor on two ways counts once", "what has no row counts nothing", "a circle ends"],
)
def test_a_point_costs_all_stages_that_led_to_it(
    tmp_path: Path, synthetic: Any, stages: dict[str, tuple[float, tuple[str, ...]]], seconds: dict[str, float]
) -> None:
    synthetic(seeds=(0,), budgets=(0.0,)).write(tmp_path / "point")
    with load(tmp_path / "point") as run:
        point = run.rows("SELECT * EXCLUDE (written_at) FROM operating_points")[0]
    writer = Writer(tmp_path / "run" / "tables")
    writer.write("stages", [STAGE | {"trial_id": "t", "stage_key": key, "compute_s": took, "parents": list(parents)}
                            for key, (took, parents) in stages.items()])  # fmt: skip
    writer.write("operating_points", [point | {"trial_id": "t", "point": number, "stage_key": key}
                                      for number, key in enumerate(seconds)])  # fmt: skip
    with load(tmp_path / "run") as run:
        hours = costs_of(run, DEVICE_HOURS)
    assert [1800 * hours["t", number] for number in range(len(seconds))] == pytest.approx([*seconds.values()])


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
        arms_of_kinds = {(row["kind"], row["arm"]) for row in run.rows(CURVES)}
    assert arms_of_kinds == {("train_source", "shared by several arms"), ("fine_tune", "TransTailor")}
