"""What rungs predict, against a rank correlation computed in plain loops."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from results.questions.search import rung_predictions
from results.store.reader import load
from tests.results.halved_run import Tried, write_halved


def spearman(pairs: Sequence[tuple[float, float]]) -> float:
    """Spearman's rank correlation of pairs without equal values."""
    ranks = [[sum(other < one for other in several) for one in several] for several in zip(*pairs, strict=True)]
    squares = sum((one - other) ** 2 for one, other in zip(*ranks, strict=True))
    return 1 - 6 * squares / (len(pairs) * (len(pairs) ** 2 - 1))


def lines(folder: Path, scores: Sequence[Sequence[float]]) -> list[str]:
    tried = [Tried(scores=several, state="finished" if len(several) == 3 else "stopped", values={"x": number})
             for number, several in enumerate(scores)]  # fmt: skip
    with load(write_halved(folder, tried)) as run:
        return [str(one) for one in rung_predictions(run)]


def test_a_rung_that_agrees_with_the_end_predicts_it_and_one_that_does_not_is_weak(tmp_path: Path) -> None:
    ended = [(0.4, 0.1, 0.1), (0.1, 0.2, 0.2), (0.3, 0.3, 0.3), (0.2, 0.4, 0.4)]
    first = spearman([(one, end) for one, _, end in ended])
    assert first == pytest.approx(-0.4)
    assert lines(tmp_path, [*ended, (0.5, 0.9), (0.6,)]) == [
        f"rung 0 (1 epoch): rank correlation with the end {first:.2f} over 4 trials; this is weak: leave this rung out,"
        " or choose a later one",
        "rung 1 (4 epochs): rank correlation with the end 1.00 over 4 trials",
    ]


def test_a_score_that_is_not_a_number_is_left_out(tmp_path: Path) -> None:
    """One trial has none at its end, and one has none at all."""
    ended = [(0.1 * place, 0.1 * place, 0.1 * place) for place in range(4)]
    assert lines(tmp_path, [*ended, (0.9, 0.9, math.nan), (math.nan, math.inf, math.nan)]) == [
        "rung 0 (1 epoch): rank correlation with the end 1.00 over 4 trials",
        "rung 1 (4 epochs): rank correlation with the end 1.00 over 4 trials",
    ]


def test_where_too_few_reached_the_end_a_later_rung_is_predicted(tmp_path: Path) -> None:
    """Two trials end; and where all scores at a rung are equal, it says nothing."""
    scores = [(0.1, 0.2, 0.1), (0.2, 0.3, 0.2), (0.3, 0.4), (0.4, 0.9), (0.5,)]
    assert lines(tmp_path / "run", scores) == [
        "rung 0 (1 epoch): rank correlation with rung 1 (4 epochs) 1.00 over 4 trials",
        "rung 1 (4 epochs): too few trials were continued to see what it predicts",
    ]
    equal = [(0.1, *more) for _, *more in scores]
    assert (
        lines(tmp_path / "equal", equal)[0] == "rung 0 (1 epoch): too few trials were continued to see what it predicts"
    )
