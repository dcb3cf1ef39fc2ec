"""What each rule chooses on recorded paths whose scores are written out."""

import math
from pathlib import Path

import pytest

from results.arms.comparison import environments_of, paths_of, points_of
from results.errors import ResultsError
from results.question import ask
from results.questions.stops import ORACLE, PAPER, rule_outcomes, rules_for, stops_page
from results.store.reader import load
from results.text.formats import markdown_lines
from tests.changed_rows import change_rows
from tests.results.exact_run import Trial, write_run

ASKED = (0.0, 0.1, 0.2, 0.3)
VALIDATION = (0.80, 0.90, 0.895, 0.93)
"""The printed rule with 0.003 stops before the third point, with 0.01 it goes to the end."""
RIGHT = (70, 75, 90, 60)


def write(folder: Path) -> Path:
    walked = [
        Trial(label="path", seed=seed, right=RIGHT, asked=ASKED, validation=VALIDATION, method="transtailor")
        for seed in range(3)
    ]
    single = [Trial(label="single", seed=seed, right=(80,)) for seed in range(3)]
    return write_run(folder, [*walked, *single])


def test_every_rule_by_hand(tmp_path: Path) -> None:
    with load(write(tmp_path)) as run:
        ((key, outcomes),) = rule_outcomes(points_of(run), {}, environments_of(run)).items()
    assert key[1] == "path"  # what has one point has no path
    found = {one.rule: one.arm.test.mean for one in outcomes}
    assert found == pytest.approx(
        {
            PAPER: 0.75,
            "paper's, tolerance 0": 0.75,
            "paper's, tolerance 0.01": 0.60,
            "paper's, tolerance 0.02": 0.60,
            "below the best so far, tolerance 0.003": 0.75,
            "below the best so far, tolerance 0.01": 0.60,
            "patience 1": 0.75,
            "patience 2": 0.60,
            "fixed budget 10%": 0.75,
            "fixed budget 20%": 0.90,
            "fixed budget 30%": 0.60,
            "end of the path": 0.60,
            "best by validation": 0.60,
            ORACLE: 0.90,
        }
    )
    against = {one.rule: one.against for one in outcomes}
    assert against[PAPER] is None
    oracle = against[ORACLE]
    assert oracle is not None and oracle.result.difference.mean == pytest.approx(0.15)
    assert oracle.result.smallest_p == 0.25


def test_each_budget_has_a_rule_of_its_own() -> None:
    names = [name for name in rules_for([0.12, 0.125, 0.29]) if name.startswith("fixed")]
    assert names == ["fixed budget 12%", "fixed budget 12.5%", "fixed budget 29%"]


def test_the_page_and_a_label_without_a_path(tmp_path: Path) -> None:
    with load(write(tmp_path)) as run:
        text = "\n".join(markdown_lines(stops_page(run)))
        assert "### path, net on digits" in text
        assert "is no usable rule" in text
        assert "Trials: 6 planned, 6 finished" in text
        with pytest.raises(ResultsError, match="arms that have several: path"):
            list(markdown_lines(stops_page(run, "single")))


def test_scores_that_are_no_numbers_end_the_walk_and_are_counted(tmp_path: Path) -> None:
    several = [
        Trial(label="path", seed=s, right=RIGHT, asked=ASKED, validation=(0.8, math.nan, 0.9, math.nan))
        for s in range(2)
    ]
    with load(write_run(tmp_path, several)) as run:
        ((_, outcomes),) = rule_outcomes(points_of(run), {}, environments_of(run)).items()
        text = "\n".join(markdown_lines(stops_page(run)))
    found = {one.rule: one.arm for one in outcomes}
    assert found[PAPER].test.mean == pytest.approx(0.70)
    assert found["best by validation"].test.mean == pytest.approx(0.90)
    assert found["end of the path"].not_finite == 2
    assert (
        "path, net on digits (50 training images): up to 2 trials end with a validation score that is not a number"
        in text
    )


def test_the_path_of_a_trial_that_still_runs_is_no_path_to_choose_on(tmp_path: Path) -> None:
    """Its end is not there yet, so each rule would choose an earlier point."""
    trials = [Trial(label="a", seed=seed, right=(80, 70), asked=(0.1, 0.2)) for seed in (0, 1)]
    trials.append(Trial(label="a", seed=2, right=(60,), asked=(0.1, 0.2), ended="missing"))
    with load(write_run(tmp_path, trials)) as run:
        ((_, outcomes),) = rule_outcomes(paths_of(run), {}, environments_of(run)).items()
    assert {(outcome.rule, len(outcome.arm.test_by_seed)) for outcome in outcomes} == {
        (outcome.rule, 2) for outcome in outcomes
    }


def test_a_chosen_point_whose_test_score_is_no_number_is_in_no_mean(tmp_path: Path) -> None:
    trials = [Trial(label="a", seed=seed, right=(70, 80), asked=(0.0, 0.2), metric="macro_f1") for seed in range(3)]
    run = write_run(tmp_path, trials)
    with load(run) as opened:
        rows = opened.rows("SELECT * EXCLUDE (written_at) FROM test_scores WHERE point = 1 ORDER BY trial_id LIMIT 2")
    change_rows(run, "test_scores", [{**row, "test_macro_f1": math.nan} for row in rows])
    with load(run) as opened:
        page = ask(opened, "compare", stops=True)
    seeds = page.tables["stops"].set_index("rule").seeds
    assert (seeds["fixed budget 20%"], seeds["end of the path"]) == (1, 1)
    assert any("up to 2 trials end with a test score that is not a number" in note for note in page.notes)
