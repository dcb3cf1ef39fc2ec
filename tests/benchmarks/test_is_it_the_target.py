"""The contrasts of the study: which scores each compares, on made-up ones whose answer is known."""

import pytest

from benchmarks.is_it_the_target import CONTROLS, OTHERS, OWN, RANDOM, TARGETS, mean_scores, results_table, scores_of

AHEAD = dict(zip(TARGETS, (0.02, 0.03, 0.01, 0.02), strict=True))  # of the own importance, before the others
BELOW = {"shuffled": 0.01, "scrambled": 0.05, "noise": 0.1, RANDOM: 0.2}  # the own one


def made_up() -> dict[tuple[str, str], dict[int, float]]:
    scores = {}
    for target in TARGETS:
        for seed in range(12):
            own = 0.7 + 0.01 * seed
            donors = {OWN: own} | {other: own - AHEAD[target] for other in TARGETS if other != target}
            for donor, score in (donors | {name: own - less for name, less in BELOW.items()}).items():
                scores.setdefault((target, donor), {})[seed] = score + 0.001 * (seed % 2) * (donor == OWN)
    return scores


def test_each_contrast_is_of_the_arms_that_it_names() -> None:
    table = results_table(made_up())
    rows = {row[:2]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    primary = rows[f"{OWN} - {OTHERS}", "all four"]
    assert primary["points"] == pytest.approx(2.05) and primary["seeds"] == 12
    assert primary["p"] == primary["p_corrected"] == pytest.approx(2 / 2**12)
    assert rows[f"{OWN} - {OTHERS}", "clothing10"]["points"] == pytest.approx(3.05)
    for donor in (*CONTROLS, RANDOM):
        assert rows[f"{OWN} - {donor}", "all four"]["points"] == pytest.approx(100 * BELOW[donor] + 0.05)
        assert rows[f"{OWN} - {donor}", "all four"]["p_corrected"] == pytest.approx(5 * 2 / 2**12)
    assert rows[f"{OTHERS} - {RANDOM}", "all four"]["points"] == pytest.approx(20.0 - 2.0)
    new = rows[f"{OWN} - {OTHERS}", "a new target"]
    assert new["low_95"] < 0 < new["high_95"] and new["p"] is None  # type: ignore[operator]


def test_a_failed_trial_scores_0_and_the_others_are_three_sets() -> None:
    of = {"dataset": "fruit14", "seed": 0, "status": "finished"}
    points = [{**of, "donor": donor, "test_score": 0.6} for donor in TARGETS if donor not in ("fruit14", "packages9")]
    points.append({**of, "donor": "packages9", "test_score": None, "status": "failed"})
    assert mean_scores(scores_of(points), ["fruit14"], OTHERS) == {0: pytest.approx(0.4)}
