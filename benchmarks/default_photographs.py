"""Do the defaults of pruning pass the rule of docs/results/evidence/default_photographs.md?

    python benchmarks/default_photographs.py runs/default_photographs

Adds the points of ended trials to the Parquet file in the folder default_photographs beside that page, and judges all
that is there.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

from collections.abc import Sequence

from benchmarks.photographs_study import Row as Point
from benchmarks.photographs_study import add
from benchmarks.record import EVIDENCE, Measured, Row, parser_of, table_of, verdict, write
from results.statistics.pairs import Paired, compare_pairs

AGAINST = "random filters"
WITH_DATA = "default with data"
NOT_FAR_BELOW = -0.015
"""The lower bound that a default without data must exceed, as a fraction: 1.5 points."""
POOLED = "all four"
POINTS = """
SELECT label, dataset, seed, removed_macs_fraction, validation_score, test_score, trial_id, status
FROM (SELECT DISTINCT trial_id, label, dataset, seed FROM planned) JOIN trials USING (trial_id)
LEFT JOIN (SELECT * EXCLUDE (label, dataset, seed) FROM measured_points) USING (trial_id)
"""
Scores = dict[tuple[str, int], float]  # (data set, seed) -> test accuracy


def main(arguments: Sequence[str] | None = None) -> int:
    """Add the runs' points to the committed ones, and judge the defaults."""
    parser = parser_of(__doc__, "default_photographs_rule")
    parser.add_argument("runs", nargs="*", type=Path, help="the folders of the runs")
    parser.add_argument("--rows", type=Path, default=EVIDENCE / "default_photographs", help="the folder of the file")
    asked = parser.parse_args(arguments)
    points = add(asked.rows / "points.parquet", asked.runs, POINTS, ("label", "dataset", "seed"))
    write(results_table(points), asked.out)
    return 0


def results_table(points: Sequence[Point]) -> Measured:
    """One row for each arm and data set, and one over all of them."""
    scores: dict[str, Scores] = {}
    for point in points:
        score = point["test_score"] if point["status"] == "finished" else 0.0
        scores.setdefault(point["label"], {})[point["dataset"], point["seed"]] = score
    rows: list[Row] = []
    for arm in sorted(scores.keys() - {AGAINST}):
        rows += _rows_of(arm, scores[arm], scores[AGAINST])
    failed = sum(point["status"] != "finished" for point in points)
    return table_of(
        "The defaults of pruning beside random filters",
        rows,
        (
            "Test accuracy at 40% fewer MACs in percentage points, minus that of random filters, paired by data set and"
            " seed; 95% t intervals of the mean over the pairs. The rule: default_photographs.md.",
            f"Failed trials, which score 0: {failed}.",
        ),
    )


def _rows_of(arm: str, ours: Scores, random: Scores) -> list[Row]:
    pairs = {POOLED: compare_pairs(ours, random)}
    for dataset in sorted({dataset for dataset, _ in ours}):
        pairs[dataset] = compare_pairs(
            *({block: side[block] for block in side if block[0] == dataset} for side in (ours, random))
        )
    rows: list[Row] = []
    for dataset, pair in pairs.items():
        mean, low, high = (100 * value for value in (pair.difference.mean, pair.difference.low, pair.difference.high))
        accuracy = [score for block, score in ours.items() if dataset in (POOLED, block[0])]
        passed = verdict(passes(arm, pairs)) if dataset == POOLED else None
        rows.append(
            {"arm": arm, "data": dataset, "pairs": pair.difference.n, "accuracy": 100 * sum(accuracy) / len(accuracy),
             "points": mean, "low_95": low, "high_95": high, "rule": passed}
        )  # fmt: skip
    return rows


def passes(arm: str, pairs: dict[str, Paired]) -> bool:
    """Whether an arm's differences to random filters pass the rule for a default, with or without data."""
    low = pairs[POOLED].difference.low
    if arm == WITH_DATA:
        return low > 0.0
    is_nowhere_behind = all(pair.difference.high >= 0.0 for dataset, pair in pairs.items() if dataset != POOLED)
    return low > NOT_FAR_BELOW and is_nowhere_behind


if __name__ == "__main__":
    sys.exit(main())
