"""Whose importance: differences to the target's own, the mean of other data sets, and over targets."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from results.arms.findings import findings_of
from results.errors import ResultsError
from results.questions.donors import MADE, OTHERS, compared_filters, donors_page
from results.statistics.pairs import compare_pairs
from results.store.reader import load
from results.text.formats import markdown_lines
from results.text.page import Note, Table
from tailor.config.pruning import OF_TARGETS_DATA
from tests.results.exact_run import Trial, write_run

SETS = ("birds", "leaves", "shells")
LESS = {"noise": 9, "shuffled": 4}  # images of 100, than by the own importance


def trials(sets: tuple[str, ...] = SETS, donors_of: tuple[str, ...] = (*SETS, *LESS)) -> list[Trial]:
    """By the own importance 80 to 83 images right, by another set's one to three fewer."""
    made = []
    for place, target in enumerate(sets):
        for donor in (*donors_of, "target"):
            less = 0 if donor == "target" else LESS.get(donor, 1 + (SETS.index(donor) if donor in SETS else 0) + place)
            if donor == target:
                continue
            made += [
                Trial(
                    label="taylor", arm=f"taylor, scores_from = {donor}", seed=seed, dataset=target,
                    right=(80 + seed - less,), config={"pruning": {"scores_from": donor}},
                )
                for seed in range(4)
            ]  # fmt: skip
    return [
        *made,
        *(Trial(label="tuned", seed=seed, dataset=target, right=(85,)) for target in sets for seed in (0, 1)),
    ]


def page(folder: Path, made: list[Trial]) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    with load(write_run(folder / "run", made)) as run:
        parts = list(donors_page(run))
    of_targets, over = [[dict(record) for record in part.records] for part in parts if isinstance(part, Table)]
    return of_targets, over, [part.text for part in parts if isinstance(part, Note)]


def test_each_donor_is_compared_with_the_targets_own_importance(tmp_path: Path) -> None:
    of_targets, over, said = page(tmp_path, trials())
    rows = {(row["dataset"], row["donor"]): row for row in of_targets}
    assert [donor for target, donor in rows if target == "birds"] == ["leaves", "shells", "noise", "shuffled", OTHERS]
    assert rows["birds", "noise"]["difference"] == pytest.approx(-0.09) and rows["birds", "noise"]["pairs"] == 4
    assert rows["birds", "leaves"]["difference"] == pytest.approx(-0.02)
    assert rows["birds", OTHERS]["difference"] == pytest.approx((-0.02 - 0.03) / 2)
    by_donor = {row["donor"]: row for row in over}
    assert set(by_donor) == {*SETS, *LESS, OTHERS} and by_donor["noise"]["targets"] == 3
    others = [rows[target, OTHERS]["difference"] for target in SETS]
    assert by_donor[OTHERS]["difference"] == pytest.approx(sum(others) / 3)
    assert by_donor[OTHERS]["difference_low"] < min(others) and by_donor[OTHERS]["verdict"] == "worse"
    assert f"the {len(of_targets) + len(over)} tests of both tables are one family" in said[-1]


def test_one_family_corrects_all_rows(tmp_path: Path) -> None:
    of_targets, over, _ = page(tmp_path, trials(("birds",), ("noise", "shuffled")))
    assert not over and len(of_targets) == 2
    with load(tmp_path / "run") as run:
        lines = list(markdown_lines(list(donors_page(run))))
    assert sum(line.startswith("| ---") for line in lines) == 1  # no head of a table without rows
    p = compare_pairs(dict.fromkeys(range(4), 0.0), dict.fromkeys(range(4), 0.09)).p
    assert [row["p_holm"] for row in of_targets] == [pytest.approx(2 * (p or 0))] * 2


def test_a_failed_trial_has_no_verdict(tmp_path: Path) -> None:
    config = {"pruning": {"scores_from": "noise"}}
    arm = "taylor, scores_from = noise"
    failed = Trial(label="taylor", arm=arm, seed=9, dataset="birds", right=(0,), ended="failed", config=config)
    of_targets, over, said = page(tmp_path, [*trials(), failed])
    assert f"the {len(of_targets) + len(over) - 2} tests of" in said[-1]
    assert any(line.startswith("Trials: ") and ", 1 failed, " in line for line in said)
    assert {row["verdict"] for row in of_targets if (row["dataset"], row["donor"]) == ("birds", "noise")} == {
        "incomplete"
    }
    assert [row["p"] for row in over if row["donor"] == "noise"] == [None]


def test_a_target_with_two_numbers_of_training_images_is_not_two_observations(tmp_path: Path) -> None:
    again = [replace(trial, train_images=9, config={**trial.config, "n": 9}) for trial in trials(("birds",))]
    of_targets, over, _ = page(tmp_path, [*trials(("birds", "leaves")), *again])
    assert sum(row["donor"] == "noise" for row in of_targets) == 3 and not over


def test_a_run_without_donors_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r'axes.pruning.scores_from = \["target", "noise"\]'):
        page(tmp_path, trials(donors_of=()))


def test_the_report_holds_the_filters_of_all_budgets_of_donors(tmp_path: Path) -> None:
    with load(write_run(tmp_path / "run", trials())) as run:
        held = run.rows(f"SELECT DISTINCT label FROM operating_points WHERE {compared_filters(findings_of(run))}")
        (count,) = run.rows(f"SELECT count(*) AS n FROM operating_points WHERE {compared_filters(findings_of(run))}")
    assert held == [{"label": "taylor"}] and count["n"] == len(SETS) * (len(SETS) + len(LESS)) * 4
    with load(write_run(tmp_path / "other", trials(donors_of=()))) as run:
        assert compared_filters(findings_of(run)) == "false"


def test_what_is_no_other_data_set_is_known_by_name() -> None:
    assert MADE == OF_TARGETS_DATA
