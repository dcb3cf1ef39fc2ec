"""Comparisons over data sets: each is one observation, and what has no answer is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from results.errors import ResultsError
from results.questions.across import across_datasets_page
from results.statistics.sets import over_sets
from results.store.reader import load
from results.text.page import Note, Table
from tests.results.exact_run import Trial, write_run

GAINS = {"birds": 2, "leaves": 5, "shells": 3}


def trials(gains: dict[str, int] = GAINS, **changes: object) -> list[Trial]:
    """`base`, and `arm` that is ahead by so many images of 100, a little more at even seeds."""
    return [
        Trial(label=label, seed=seed, dataset=dataset,
              right=(60 + seed + (gain + seed % 2) * (label == "arm"),), **changes)  # type: ignore[arg-type]
        for dataset, gain in gains.items() for label in ("base", "arm") for seed in range(4)
    ]  # fmt: skip


def page(folder: Path, made: list[Trial], asked: float | None = 0.2) -> tuple[list[dict[str, object]], list[str]]:
    with load(write_run(folder / "run", made)) as run:
        parts = list(across_datasets_page(run, "base", asked))
    (table,) = [part for part in parts if isinstance(part, Table)]
    return [dict(record) for record in table.records], [part.text for part in parts if isinstance(part, Note)]


def test_each_data_set_is_one_observation(tmp_path: Path) -> None:
    (row,), said = page(tmp_path, trials())
    expected = over_sets([0.01 * (gain + 0.5) for gain in GAINS.values()])
    assert row["datasets"] == 3 and row["pairs"] == 4 and row["difference"] == pytest.approx(expected.mean.mean)
    assert row["difference_low"] == pytest.approx(expected.mean.low) and row["p"] == pytest.approx(expected.p)
    assert row["new_set_low"] == pytest.approx(expected.new_low) and row["p_holm"] == pytest.approx(2 * expected.p)  # type: ignore[operator]
    assert row["verdict"] == "better"
    assert row["these_sets_p"] == 0.125 and row["these_sets_p_holm"] == pytest.approx(0.125)
    assert row["these_sets_high"] < row["difference_high"]  # type: ignore[operator]  # seeds vary less than sets
    assert "all 2 tests of this table are one family" in said[-1]


def test_few_sets_that_differ_settle_nothing(tmp_path: Path) -> None:
    (row,), _ = page(tmp_path, trials({"birds": 1, "leaves": 9}))
    assert row["verdict"] == "inconclusive" and row["these_sets_low"] > 0  # type: ignore[operator]


def test_failed_trials_have_no_verdict_and_no_part_in_the_family(tmp_path: Path) -> None:
    failed = Trial(label="arm", seed=9, dataset="birds", right=(1,), ended="failed")
    (row,), said = page(tmp_path, [*trials(shared_source=True), failed])
    assert "Trials: 25 planned, 24 finished, 1 failed, 0 missing." in said
    assert any(line.startswith("train source: 4 seeds share one training (arm; base)") for line in said)
    assert row["verdict"] == "incomplete" and row["p"] is None and row["p_holm"] is None
    assert "all 0 tests" in said[-1]


def test_a_data_set_without_pairs_is_no_difference_of_0(tmp_path: Path) -> None:
    apart = [Trial(label="arm", seed=9, dataset="birds", right=(90,))]
    elsewhere = [trial for trial in trials() if (trial.label, trial.dataset) != ("arm", "birds")]
    (row,), said = page(tmp_path, [*elsewhere, *apart])
    assert row["difference"] is row["difference_low"] is row["new_set_low"] is row["p"] is None
    assert row["verdict"] == "inconclusive" and row["pairs"] == row["failed_trials"] == 0
    assert "all 0 tests" in said[-1]


def test_the_best_of_several_settings_is_not_called_better_than_an_arm_with_one(tmp_path: Path) -> None:
    chosen = [
        Trial(label="arm", seed=seed, dataset=dataset, right=(95 + tried,), config={"x": tried}, tuning_order=tried)
        for dataset in GAINS for seed in range(4) for tried in (0, 1)
    ]  # fmt: skip
    (row,), _ = page(tmp_path, [*(trial for trial in trials() if trial.label == "base"), *chosen])
    assert row["difference_low"] > 0 and row["verdict"] == "not equally tuned"  # type: ignore[operator]


def test_what_is_not_on_all_data_sets_is_left_out_by_name(tmp_path: Path) -> None:
    whole, _ = page(tmp_path / "whole", trials())
    other = Trial(label="other", seed=0, dataset="birds", right=(50,))
    without_control = Trial(label="arm", seed=0, dataset="whales", right=(50,))
    on_one = [replace(trial, network="alone") for trial in trials() if trial.dataset == "birds"]
    rows, said = page(tmp_path / "more", [*trials(), *on_one, other, without_control])
    assert [{**row, "p_holm": None} for row in rows] == [{**row, "p_holm": None} for row in whole]
    assert "other at 20% fewer MACs of net has no scores on leaves, shells; " in said[0]
    assert "alone, which has base on birds alone; " in said[0]
    assert "whales" in said[0] and "which has no base" in said[0]


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (trials({"birds": 1}), "needs an arm that all .*, two or more; net, which has base on birds alone; add data"),
        (
            [trial for trial in trials() if trial.dataset == "birds" or trial.label == "base"],
            "two or more; arm at 20% fewer MACs of net has no scores on leaves, shells",
        ),
        (
            [*trials({"birds": 1}), *trials({"birds": 2}, train_images=9, config={"x": 1})],
            "one data set with several numbers of training images",
        ),
    ],
)
def test_what_has_no_answer_is_refused(tmp_path: Path, made: list[Trial], text: str) -> None:
    with pytest.raises(ResultsError, match=text):
        page(tmp_path, made)
