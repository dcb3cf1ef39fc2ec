"""The report of searches: what each rung predicts, the best so far, several searches apart."""

import math
import re
from pathlib import Path
from typing import Any

import pytest

from results.questions import search
from results.report import write_report
from results.store.reader import load
from tests.results.halved_run import Tried, write_halved
from tests.results.report_page import text_of

WARNED = (
    "Search, rung 0 (1 epoch): rank correlation with the end -0.40 over 4 trials; this is weak: leave this rung out, or"
    " choose a later one."
)
HARDLY = "This rung hardly predicts the scores that came later: halving there stops good settings."
RATES = (0.5, 0.001, 0.02, 1.0, 0.1, 0.3)
SCORES = ((0.9, 0.6, 0.7), (0.6, 0.7, 0.8), (0.8, 0.8, 0.9), (0.7, 0.9, 1.0), (0.5,), (0.4,))
"""The first rung puts the four that end in another order than the end does, the second one does not."""


def tried(scores: Any = SCORES, criteria: str = "ab") -> list[Tried]:
    return [
        Tried(
            scores=several, state="finished" if len(several) == 3 else "stopped", removed=place / 10,
            values={"lr": RATES[place], "criterion": criteria[place % len(criteria)], "fixed": 1},
        )
        for place, several in enumerate(scores)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_halved(tmp_path_factory.mktemp("halved") / "run", tried(), {3: 80, 2: 70})


def test_each_rung_has_its_rank_correlation_and_a_weak_one_is_warned_of(halved: Path) -> None:
    page = write_report(halved).read_text()
    said = text_of(page)
    assert WARNED in said and said.count(HARDLY) == 1
    assert re.search(r"rung 0 \(1 epoch\) 1 the end -0\.40 4 rung 1 \(4 epochs\) the end 1\.00 4", said)


def test_the_best_so_far_are_those_that_were_better_than_all_before(halved: Path) -> None:
    with load(halved) as run:
        found = run.rows(search.BEST_SO_FAR)
    assert [(row["number"], row["validation_score"]) for row in found] == [(0, 0.7), (1, 0.8), (2, 0.9), (3, 1.0)]


@pytest.mark.check
def test_a_setting_whose_score_is_not_a_number_is_in_no_table_and_is_told(halved: Path, tmp_path: Path) -> None:
    """One diverged from the start, one at its end; all else is as without them."""
    lost = [
        Tried(scores=scores, values={"lr": rate, "criterion": "a", "fixed": 1}, removed=0.9)
        for rate, scores in ((7.0, (math.nan, math.nan, math.nan)), (8.0, (0.5, 0.6, math.inf)))
    ]
    run = write_halved(tmp_path / "run", [*lost, *tried()])
    assert "Scores that are not numbers are left out: of 2 trials." in text_of(write_report(run).read_text())
    best = []
    for folder in (halved, run):
        with load(folder) as loaded:
            best.append([row["validation_score"] for row in loaded.rows(search.BEST_SO_FAR)])
    assert best[0] == best[1]


@pytest.mark.check
def test_two_searches_on_one_page_name_what_they_confirmed_by_their_runs(halved: Path, tmp_path: Path) -> None:
    """They share a trial, and each has confirmed its proposal 3, which is another setting in the other run."""
    other = write_halved(tmp_path / "other", [tried()[0], *tried(SCORES[1:3], "c")], {2: 60})
    page = write_report([halved, other], out=tmp_path / "both.html").read_text()
    said = text_of(page)
    assert "Of 9 settings searched and 3 confirmed with new seeds, run: arm, proposal 3 is best" in said
    assert {"run: arm, proposal 2", "other: arm, proposal 2"} <= set(re.findall(r'data-arm="(.*?)"', page))
