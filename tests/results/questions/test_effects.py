"""Contrasts: trials that differ in one setting alone, donors and whole arms, and the row over data sets."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from results.arms.contrasts import MADE, OTHER_SETS, RANDOM_FILTERS, Contrasts, contrasts
from results.arms.findings import findings_of
from results.errors import ResultsError
from results.questions.effects import at_usual_budget, chart, effects_page
from results.statistics.pairs import compare_pairs
from results.statistics.sets import over_sets
from results.store.reader import load
from results.text.formats import latex_lines, markdown_lines
from tailor.config.pruning import OF_TARGETS_DATA
from tests.results.exact_run import Trial, write_run

SETS = ("birds", "leaves", "shells")
LESS = {"noise": 9, "shuffled": 4}  # images of 100, than by the own importance
GAINS = {"birds": 2, "leaves": 5, "shells": 3}


def crossed(seeds: Sequence[int] = range(4), rates: Sequence[float] = (0.1, 0.01)) -> list[Trial]:
    """Two networks x two rates: the rate is worth 10 images on the first network and none on the other."""
    return [
        Trial(
            label=f"rate {rate}", seed=seed, network=network,
            right=(70 + (seed % 2) + (10 if rate == 0.1 and network == "net" else 0),),
            config={"optimisation": {"learning_rate": rate, "twin": str(rate)}},
        )
        for network in ("net", "other") for rate in rates for seed in seeds
    ]  # fmt: skip


def of_donors(sets: tuple[str, ...] = SETS, donors: tuple[str, ...] = (*SETS, *LESS)) -> list[Trial]:
    """By the own importance 80 to 83 images right, by another set's one to three fewer, with random filters 20."""
    made = []
    for place, target in enumerate(sets):
        for donor in (*(donor for donor in donors if donor != target), "target", RANDOM_FILTERS):
            less = {"target": 0, RANDOM_FILTERS: 20, **LESS}.get(donor)
            less = 1 + SETS.index(donor) + place if less is None else less
            is_random = donor == RANDOM_FILTERS
            config: dict[str, Any] = {"method": {"name": "prune", "criterion": "random" if is_random else "taylor"}}
            made += [
                Trial(
                    label="random" if is_random else "taylor", arm=f"by {donor}", seed=seed, dataset=target,
                    right=(80 + seed - less,), config=config if is_random else {**config, "pruning.scores_from": donor},
                )
                for seed in range(4)
            ]  # fmt: skip
    return made


def of_arms(gains: dict[str, int] = GAINS, **changes: Any) -> list[Trial]:
    """`base`, and `arm` that is ahead by so many images of 100, a little more at even seeds."""
    return [
        Trial(label=label, seed=seed, dataset=dataset, right=(60 + seed + (gain + seed % 2) * (label == "arm"),),
              **changes)
        for dataset, gain in gains.items() for label in ("base", "arm") for seed in range(4)
    ]  # fmt: skip


def found_in(folder: Path, trials: list[Trial], *arguments: Any, **options: Any) -> Contrasts:
    with load(write_run(folder, trials)) as run:
        return contrasts(run, *arguments, **options)


def test_each_value_is_compared_with_the_most_frequent_one_in_each_problem(tmp_path: Path) -> None:
    found = found_in(tmp_path, crossed())
    rows = {(row["network"], row["setting"], row["level"]): row for row in found.records}
    assert set(rows) == {
        ("other", "network", "other"),
        ("net", "optimisation.learning_rate", "0.1"),
        ("other", "optimisation.learning_rate", "0.1"),
    }
    row = rows["net", "optimisation.learning_rate", "0.1"]
    assert row["reference"] == "0.01" and row["difference"] == pytest.approx(0.1) and row["pairs"] == 4
    assert row["score"] == pytest.approx(0.805) and row["reference_score"] == pytest.approx(0.705)
    assert (row["p"], row["smallest_p"]) == (0.125, 0.125)
    assert rows["other", "network", "other"]["difference"] == pytest.approx(-0.05)  # the mean over both rates
    assert found.tied == {"optimisation.learning_rate": ["optimisation.twin"]}


def test_a_setting_that_only_one_value_reads_belongs_to_it(tmp_path: Path) -> None:
    """`fpgm` reads no batches: it is compared with `taylor` all the same, over both numbers of batches."""
    trials = [
        Trial(label="arm", arm=f"arm {number}", seed=seed, right=(right + seed,), config=config)
        for number, (right, config) in enumerate((
            (70, {"criterion": "fpgm"}), (76, {"criterion": "taylor", "batches": 1}),
            (78, {"criterion": "taylor", "batches": 2}),
        ))
        for seed in range(3)
    ]  # fmt: skip
    rows = {(row["setting"], row["level"]): row["difference"] for row in found_in(tmp_path, trials).records}
    assert rows == pytest.approx({("criterion", "fpgm"): -0.07, ("batches", "2"): 0.02})


def test_trials_that_differ_in_two_settings_are_no_contrast(tmp_path: Path) -> None:
    trials = [
        Trial(label=label, seed=seed, right=(70 + seed,), config={"x": x, "y": y})
        for label, x, y in (("a", 1, 1), ("b", 1, 2), ("c", 2, 3)) for seed in range(3)
    ]  # fmt: skip
    found = found_in(tmp_path, trials)
    assert [(row["setting"], row["level"], row["reference"]) for row in found.records] == [("y", "2", "1")]
    with load(tmp_path) as run, pytest.raises(ResultsError, match="no two finished trials differ in x alone"):
        contrasts(run, of=["x"])


def test_scores_of_one_seed_are_one_observation(tmp_path: Path) -> None:
    """Three values of another setting are not three times as many seeds."""
    trials = [
        Trial(label="arm", seed=seed, right=(70 + seed * (1 + m) + other + 5 * m,), config={"m": m, "other": other})
        for m in (0, 1) for other in (0, 1, 2) for seed in range(3)
    ]  # fmt: skip
    (row,) = found_in(tmp_path, trials, of="m").records
    expected = compare_pairs({seed: 0.05 + seed / 100 for seed in range(3)}, dict.fromkeys(range(3), 0.0))
    assert row["pairs"] == 3 and row["difference_low"] == pytest.approx(expected.difference.low)
    assert row["p"] == expected.p
    apart = found_in(tmp_path / "apart", trials, of="m", within="other").records
    assert [row["within"] for row in apart] == ["0", "1", "2"]


def test_budgets_have_rows_of_their_own_and_a_path_counts_with_its_own_points(tmp_path: Path) -> None:
    trials = [
        Trial(label="arm", seed=seed, right=(90, 70 + 2 * m, 50 + m), asked=(0.0, 0.1, 0.2), head_arm="head_only",
              config={"m": m})
        for m in (0, 1) for seed in range(3)
    ]  # fmt: skip
    trials.append(replace(trials[0], seed=9, ended="missing"))
    rows = found_in(tmp_path, trials).records
    assert [row["asked_removed_macs_fraction"] for row in rows] == [0.1, 0.2]
    with load(tmp_path) as run:
        assert [row["difference"] for row in contrasts(run, asked=0.2).records] == pytest.approx([0.01])


def test_the_figure_has_the_rows_of_a_problem(tmp_path: Path) -> None:
    with load(write_run(tmp_path, crossed())) as run:
        findings = findings_of(run)
        of_net, of_other = (chart(findings, problem, at_usual_budget(findings)) for problem in findings.problems)
    assert of_net is not None and of_other is not None
    assert of_net.extra["x"] == pytest.approx([10.0]) and of_net.extra["panel"] == [
        "optimisation.learning_rate, against 0.01"
    ]
    assert of_other.extra["x"] == pytest.approx([-5.0, 0.0])


def test_the_best_of_several_settings_is_not_called_better_than_an_arm_with_one(tmp_path: Path) -> None:
    tuned = [
        Trial(label="arm", seed=seed, right=(95 + tried,), config={"x": tried}, tuning_order=tried)
        for seed in range(6) for tried in (0, 1)
    ]  # fmt: skip
    plain = [Trial(label="base", seed=seed, right=(60,)) for seed in range(6)]
    (row,) = found_in(tmp_path, [*tuned, *plain], of="arm", against="base").records
    assert row["score"] == pytest.approx(0.96) and row["verdict"] == "not equally tuned"


def test_a_donor_is_compared_with_the_targets_own_importance(tmp_path: Path) -> None:
    records = found_in(tmp_path, of_donors(), of="pruning.scores_from").records
    rows = {(row["dataset"], row["level"]): row for row in records}
    on_birds = [level for target, level in rows if target == "birds"]
    assert on_birds == ["leaves", "shells", "noise", "shuffled", RANDOM_FILTERS, OTHER_SETS]
    assert rows["birds", "noise"]["difference"] == pytest.approx(-0.09) and rows["birds", "noise"]["pairs"] == 4
    assert rows["birds", "noise"]["reference_score"] == pytest.approx(0.815)  # the own score
    assert rows["birds", "noise"]["smallest_p"] == 0.125
    assert rows["birds", RANDOM_FILTERS]["difference"] == pytest.approx(-0.2)
    assert rows["birds", OTHER_SETS]["difference"] == pytest.approx((-0.02 - 0.03) / 2)
    others = [rows[target, OTHER_SETS]["difference"] for target in SETS]
    over = rows[None, OTHER_SETS]
    assert over["datasets"] == 3 and over["difference"] == pytest.approx(sum(others) / 3)
    assert over["difference_low"] < min(others) and over["verdict"] == "worse" and over["smallest_p"] is None


def test_a_donor_has_one_row_whatever_else_is_crossed(tmp_path: Path) -> None:
    trials = [
        replace(trial, arm=f"{trial.arm}, epochs = {epochs}", config={**trial.config, "epochs": epochs})
        for trial in of_donors() for epochs in (1, 2)
    ]  # fmt: skip
    records = found_in(tmp_path, trials, of="pruning.scores_from").records
    names = [(row["dataset"], row["level"]) for row in records]
    assert len(set(names)) == len(names) and (None, "noise") in names


def test_what_is_no_other_data_set_is_known_by_name() -> None:
    assert MADE == OF_TARGETS_DATA


def test_over_data_sets_each_is_one_observation(tmp_path: Path) -> None:
    records = found_in(tmp_path, of_arms(), of="arm", against="base").records
    (row,) = [row for row in records if row["dataset"] is None]
    expected = over_sets([0.01 * (gain + 0.5) for gain in GAINS.values()])
    assert row["datasets"] == 3 and row["pairs"] == 4 and row["difference"] == pytest.approx(expected.mean.mean)
    assert row["difference_low"] == pytest.approx(expected.mean.low) and row["p"] == pytest.approx(expected.p)
    assert row["new_set_low"] == pytest.approx(expected.new_low) and row["verdict"] == "better"
    assert row["p_holm"] == pytest.approx(4 * (expected.p or 0))  # the smallest of four


def test_a_data_set_with_two_numbers_of_training_images_is_not_two_observations(tmp_path: Path) -> None:
    again = [replace(trial, train_images=9, config={"data": {"train_images": 9}}) for trial in of_arms({"birds": 1})]
    records = found_in(tmp_path, [*of_arms({"birds": 1, "leaves": 3}), *again], of="arm", against="base").records
    assert len(records) == 3 and None not in {row["dataset"] for row in records}


def test_an_arm_that_prunes_nothing_is_compared_at_every_budget(tmp_path: Path) -> None:
    whole = [replace(trial, asked=(0.0,), removed=(0.0,)) for trial in of_arms() if trial.label == "base"]
    pruned = [trial for trial in of_arms() if trial.label == "arm"]
    records = found_in(tmp_path, [*whole, *pruned], of="arm", against="base", asked=0.2).records
    assert len(records) == 4 and {row["asked_removed_macs_fraction"] for row in records} == {0.2}


def test_a_row_that_lost_too_many_pairs_has_no_verdict(tmp_path: Path) -> None:
    failed = Trial(label="arm", seed=9, dataset="birds", right=(1,), ended="failed")
    records = found_in(tmp_path, [*of_arms(), failed], of="arm", against="base").records
    verdicts = {row["dataset"]: (row["verdict"], row["failed_trials"]) for row in records}
    assert verdicts["birds"] == verdicts[None] == ("incomplete", 1)
    assert verdicts["leaves"] == ("inconclusive", 0)


def test_the_page_counts_trials_and_names_what_changes_together(tmp_path: Path) -> None:
    with load(write_run(tmp_path, [*crossed(), Trial(label="lost", seed=0, right=(), ended="failed")])) as run:
        text = "\n".join(markdown_lines(effects_page(run, 0.2)))
        assert "\n".join(latex_lines(effects_page(run, 0.2))).isascii()
    assert "1 failed" in text and "optimisation.learning_rate also stands for optimisation.twin" in text


@pytest.mark.parametrize(
    ("trials", "options", "said"),
    [
        ([Trial(label="a", seed=s, right=(70 + s,)) for s in range(3)], {}, "only the seed varies"),
        (crossed(), {"asked": 0.5}, "no trial has a test score at 0.5 of the MACs removed; budgets: 0.2"),
        (crossed(), {"of": ["netwrk"]}, "did you mean 'network'"),
        (crossed(), {"of": "network", "against": "nett"}, "did you mean 'net'"),
        (crossed(), {"against": "net"}, "name that with --of"),
        (crossed(), {"within": "labl"}, "did you mean 'label'"),
        ([Trial(label="a", seed=0, right=(), ended="failed")], {}, "no trial has a test score yet"),
    ],
)
def test_bad_input_says_why(tmp_path: Path, trials: list[Trial], options: dict[str, Any], said: str) -> None:
    with pytest.raises(ResultsError, match=said):
        found_in(tmp_path, trials, **options)
