"""The rule for the defaults of pruning, on made-up scores."""

import pytest

from benchmarks.default_photographs import AGAINST, POOLED, WITH_DATA, results_table

SETS = ("fruit", "trash")


def points(arm: str, gains: dict[str, float], *, failed: tuple[str, int] | None = None) -> list[dict[str, object]]:
    """Of six seeds on each set: that of random filters plus a gain, and a little that depends on the seed."""
    return [
        {
            "label": arm,
            "dataset": dataset,
            "seed": seed,
            "test_score": 0.6 + gain + 0.001 * (seed % 2),
            "status": "failed" if (dataset, seed) == failed else "finished",
        }
        for dataset, gain in gains.items()
        for seed in range(6)
    ]


RANDOM = points(AGAINST, dict.fromkeys(SETS, 0.0005))


@pytest.mark.parametrize(
    ("arm", "gains", "rule"),
    [
        (WITH_DATA, {"fruit": 0.03, "trash": 0.02}, "met"),
        (WITH_DATA, {"fruit": 0.03, "trash": -0.05}, "missed"),  # its interval has 0 in it
        ("without data", {"fruit": 0.0005, "trash": 0.001}, "met"),
        ("without data", {"fruit": -0.03, "trash": -0.03}, "missed"),
        ("without data", {"fruit": 0.09, "trash": -0.01}, "missed"),  # behind on one set
    ],
)
def test_the_rule(arm: str, gains: dict[str, float], rule: str) -> None:
    table = results_table([*RANDOM, *points(arm, gains)])
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [row["data"] for row in rows] == [POOLED, *SETS]
    assert [row["pairs"] for row in rows] == [12, 6, 6]
    assert [row["rule"] for row in rows] == [rule, None, None]
    assert rows[0]["points"] == pytest.approx(50 * sum(gains.values()), abs=0.1)


def test_a_failed_trial_scores_nothing() -> None:
    table = results_table([*RANDOM, *points(WITH_DATA, dict.fromkeys(SETS, 0.03), failed=("fruit", 0))])
    row = dict(zip(table.columns, table.rows[1], strict=True))
    assert row["accuracy"] == pytest.approx(100 * 0.6305 * 5 / 6, abs=0.02)
    assert "score 0: 1." in table.notes[-1]
