"""What a search says at its end: settings with a failed trial, or a score that is no number, never win."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from results.store.reader import load
from results.store.writer import Writer
from sweeps.search import proposals
from sweeps.search.outcome import outcome_lines
from sweeps.search.run_search import read_proposals
from tests import commands
from tests.results.exact_run import Trial, write_run

SEEDS = (1, 2, 3)


def outcome(folder: Path, found: Mapping[str, Sequence[Trial]]) -> list[str]:
    """The lines for a run that has confirmed one setting for each of these names."""
    rows = [
        {
            "number": number, "batch": 0, "purpose": "confirm", "confirms": 10 + number, "variant": 0,
            "values_json": f'{{"x": "{name}"}}', "drawn_by": "best", "refusal": None,
            "seeds": SEEDS, "trial_ids": [trial.trial_id for trial in trials], "code_digest": "c",
        }
        for number, (name, trials) in enumerate(found.items())
    ]  # fmt: skip
    run = write_run(folder / "run", [trial for trials in found.values() for trial in trials])
    Writer(run / "tables").write("proposals", rows)
    with load(run) as tables:
        return list(outcome_lines(read_proposals(tables), tables))


def rows_of(run: Path, sql: str) -> list[dict[str, Any]]:
    with load(run) as tables:
        return tables.rows(sql)


def trials(name: str, of_100: int, **changes: Mapping[int, object]) -> list[Trial]:
    """One for each seed; `changes`: a field of some of them, by seed."""
    own = {seed: {field: values[seed] for field, values in changes.items() if seed in values} for seed in SEEDS}
    return [Trial(label=name, seed=seed, config={"x": name}, **{"right": (of_100,), **own[seed]}) for seed in SEEDS]  # type: ignore[arg-type]


def test_where_a_trial_of_the_best_has_failed_another_one_wins(tmp_path: Path) -> None:
    broken = trials("broken", 90, right={3: (99,)}, ended={3: "failed"})  # its point where it broke off is its best
    first, second = outcome(tmp_path, {"broken": broken, "whole": trials("whole", 80)})
    assert first == "confirmed winner: proposal 11, test accuracy 80.00% [80.00 … 80.00] over 3 new seeds: x = whole"
    assert second == (
        "not compared: proposal 10, test accuracy 90.00% [90.00 … 90.00] over 2 of 3 new seeds, 1 failed: x = broken"
    )


def test_a_score_that_is_no_number_is_left_out_and_counted(tmp_path: Path) -> None:
    lost = trials("lost", 90, validation={2: (math.nan,)})
    first, second = outcome(tmp_path, {"lost": lost, "whole": trials("whole", 80)})
    assert first.startswith("confirmed winner: proposal 11, ")
    assert second == (
        "not compared: proposal 10, test accuracy 90.00% [90.00 … 90.00] over 2 of 3 new seeds, "
        "1 not a number: x = lost"
    )


ONE_IN_THREE = """
name = "search"
[trial]
method.name = "head_only"
source.epochs = 1
data.train_images = 64
[axes]
optimisation.head_epochs = [1, 2, 3, 4, 5, 6, 7, 8, 9]
[[exclude]]
optimisation.head_epochs = [2, 3, 5, 6, 8, 9]
[search]
sampler = "random"
trials = 9
"""


@pytest.mark.check
def test_a_search_of_which_settings_are_refused_ends_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposals, "MOST_REFUSED", 3)
    (tmp_path / "spec.toml").write_text(ONE_IN_THREE)
    run = tmp_path / "runs" / "search"
    for _ in range(2):  # launched again, nothing is left
        done = commands.launch("spec.toml", "--site", "serial", folder=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        why = "3 settings of a batch were refused, the last because: [[exclude]] leaves it out"
        assert f"the search ended early: {why}\n" in done.stdout
        made = rows_of(run, "SELECT purpose, refusal, trial_ids FROM proposals ORDER BY number")
        assert made[-1] == {"purpose": "end", "refusal": why, "trial_ids": []}
        assert [one["purpose"] for one in made[:-1]] == ["search"] * (len(made) - 1)
        assert sum(one["refusal"] is not None for one in made[:-1]) == 3
    assert len(rows_of(run, "FROM attempts")) == len(made) - 1 - 3 > 0
