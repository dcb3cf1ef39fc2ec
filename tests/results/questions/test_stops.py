"""What the paper's rule chooses on recorded paths whose scores are written out, with any tolerance."""

import math
from pathlib import Path

import pandas
import pytest

from results.question import ask
from results.store.reader import load
from tests.changed_rows import change_rows
from tests.results.exact_run import Trial, write_run

ASKED = (0.0, 0.1, 0.2, 0.3)
VALIDATION = (0.80, 0.90, 0.895, 0.93)
"""The rule with 0.003 stops before the third point, with 0.01 it goes to the end."""
RIGHT = (70, 75, 90, 60)


def stopped(run: Path, tolerance: float) -> pandas.DataFrame:
    with load(run) as opened:
        return ask(opened, "compare", stop_at=tolerance).tables["stops"].set_index("arm")


def path(seed: int, validation: tuple[float, ...] = VALIDATION) -> Trial:
    return Trial(label="path", seed=seed, right=RIGHT, asked=ASKED, validation=validation, method="transtailor")


def test_a_tolerance_is_compared_with_the_ends_of_the_same_paths(tmp_path: Path) -> None:
    single = [Trial(label="single", seed=seed, right=(80,)) for seed in range(3)]
    run = write_run(tmp_path, [*map(path, range(3)), *single])
    rows = {tolerance: stopped(run, tolerance) for tolerance in (0.0, 0.003, 0.01)}
    assert {tolerance: list(table.index) for tolerance, table in rows.items()} == dict.fromkeys(rows, ["path"])
    assert [table.score["path"] for table in rows.values()] == pytest.approx([0.75, 0.75, 0.60])
    assert [table.difference["path"] for table in rows.values()] == pytest.approx([0.15, 0.15, 0.0])
    assert (rows[0.003].pairs["path"], rows[0.003].smallest_p["path"]) == (3, 0.25)


def test_scores_that_are_no_numbers_end_the_walk(tmp_path: Path) -> None:
    run = write_run(tmp_path, [path(seed, (0.8, math.nan, 0.9, math.nan)) for seed in range(2)])
    assert stopped(run, 0.003).score["path"] == pytest.approx(0.70)


def test_the_path_of_a_trial_that_still_runs_is_no_path_to_choose_on(tmp_path: Path) -> None:
    """Its end is not there yet, so the rule would choose an earlier point."""
    trials = [Trial(label="a", seed=seed, right=(80, 70), asked=(0.1, 0.2)) for seed in (0, 1)]
    trials.append(Trial(label="a", seed=2, right=(60,), asked=(0.1, 0.2), ended="missing"))
    assert stopped(write_run(tmp_path, trials), 0.003).seeds["a"] == 2


def test_a_chosen_point_whose_test_score_is_no_number_is_in_no_mean(tmp_path: Path) -> None:
    trials = [Trial(label="a", seed=seed, right=(70, 80), asked=(0.0, 0.2), metric="macro_f1") for seed in range(3)]
    run = write_run(tmp_path, trials)
    with load(run) as opened:
        rows = opened.rows("SELECT * EXCLUDE (written_at) FROM test_scores WHERE point = 1 ORDER BY trial_id LIMIT 2")
    change_rows(run, "test_scores", [{**row, "test_macro_f1": math.nan} for row in rows])
    of_arm = stopped(run, 0.003).loc["a"]
    assert (of_arm.seeds, of_arm.verdict, of_arm.failed_trials) == (1, "incomplete", 2)
