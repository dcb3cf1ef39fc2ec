"""The contrasts of docs/results/evidence/is_it_the_target.md, which has the plan.

    python benchmarks/is_it_the_target.py runs/is_it_the_target

Adds the points of ended trials, and how far each keeps the filters of the own importance, to the Parquet files in the
folder is_it_the_target beside that page. Once all seeds have ended it computes the contrasts from all that is there.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

from collections.abc import Mapping, Sequence

from benchmarks.photographs_study import Row as Point
from benchmarks.photographs_study import add
from benchmarks.record import EVIDENCE, Measured, Row, parser_of, table_of, write
from results.statistics.pairs import Paired, compare_pairs, holm
from results.statistics.sets import over_sets

TARGETS = ("trashnet6", "clothing10", "fruit14", "packages9")
OWN, RANDOM, OTHERS = "target", "random filters", "the three other sets"
CONTROLS = ("shuffled", "scrambled", "noise")
SEEDS = 12
OVER = "all four"
POINTS = f"""
SELECT dataset, CASE WHEN label = '{RANDOM}' THEN label ELSE json_extract_string(config_json, '$.pruning.scores_from')
    END AS donor, seed, removed_macs_fraction, validation_score, test_score, trial_id, status
FROM (SELECT DISTINCT trial_id, label, dataset, seed, config_json FROM planned) JOIN trials USING (trial_id)
LEFT JOIN (SELECT * EXCLUDE (label, dataset, seed) FROM measured_points) USING (trial_id)
"""
Scores = Mapping[tuple[str, str], Mapping[int, float]]  # (target, donor) -> seed -> test accuracy


def main(arguments: Sequence[str] | None = None) -> int:
    """Add the runs' points to the committed ones, and write the contrasts."""
    parser = parser_of(__doc__, "is_it_the_target_contrasts")
    parser.add_argument("runs", nargs="*", type=Path, help="the folders of the runs")
    parser.add_argument("--rows", type=Path, default=EVIDENCE / "is_it_the_target", help="the folder of the file")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many seeds are planned")
    asked = parser.parse_args(arguments)
    scores = scores_of(add(asked.rows / "points.parquet", asked.runs, POINTS, ("dataset", "donor", "seed")))
    ended = [seed for seed in range(asked.seeds) if all(seed in of_seeds for of_seeds in scores.values())]
    if len(ended) < asked.seeds or len(scores) < len(TARGETS) * (len(TARGETS) + len(CONTROLS) + 1):
        sys.stdout.write(f"{len(ended)} of {asked.seeds} seeds have ended in all arms that began: no contrasts yet\n")
        return 0
    write(results_table(scores), asked.out)
    return 0


def scores_of(points: Sequence[Point]) -> dict[tuple[str, str], dict[int, float]]:
    """Return the test accuracy of each target, donor and seed; 0 of a trial that failed."""
    scores: dict[tuple[str, str], dict[int, float]] = {}
    for point in points:
        score = point["test_score"] if point["status"] == "finished" else 0.0
        scores.setdefault((point["dataset"], point["donor"]), {})[point["seed"]] = score
    return scores


def mean_scores(scores: Scores, targets: Sequence[str], donor: str) -> dict[int, float]:
    """Return the accuracy of each seed by a donor, or by the other sets, mean over the targets."""
    totals: dict[int, list[float]] = {}
    for target in targets:
        donors = [other for other in TARGETS if other != target] if donor == OTHERS else [donor]
        for one in donors:
            for seed, score in scores[target, one].items():
                totals.setdefault(seed, []).append(score)
    return {seed: sum(values) / len(values) for seed, values in totals.items()}


def results_table(scores: Scores) -> Measured:
    """Return a row for each contrast over all targets, with those of single targets below it."""
    contrasts = [(OWN, OTHERS), *((OWN, donor) for donor in (*CONTROLS, RANDOM)), (OTHERS, RANDOM)]
    over = [_pair(scores, TARGETS, *contrast) for contrast in contrasts]
    corrected = [over[0].p, *holm([pair.p for pair in over[1:]])]  # the primary contrast stands alone
    rows: list[Row] = []
    for contrast, pair, p in zip(contrasts, over, corrected, strict=True):
        rows.append(_row(contrast, OVER, pair, p))
        singles = [_pair(scores, [target], *contrast) for target in TARGETS]
        rows += [_row(contrast, target, single, None) for target, single in zip(TARGETS, singles, strict=True)]
        new = over_sets([single.difference.mean or 0.0 for single in singles])
        low, high = (100 * value for value in (new.new_low or 0.0, new.new_high or 0.0))
        rows.append({**_row(contrast, "a new target", pair, None), "p": None, "low_95": low, "high_95": high})
    return table_of(
        "Whose images score the filters",
        rows,
        (
            "Test accuracy at 40% fewer MACs in percentage points, first minus second, paired by seed; 95% t intervals."
            " all four: the mean over the targets within each seed. The first contrast is the primary one; p of the"
            " others over all four are corrected together (Holm). Single targets are description.",
            "a new target: the prediction interval over four targets, of which each is one observation.",
        ),
    )


def _pair(scores: Scores, targets: Sequence[str], first: str, second: str) -> Paired:
    return compare_pairs(mean_scores(scores, targets, first), mean_scores(scores, targets, second))


def _row(contrast: tuple[str, str], target: str, pair: Paired, corrected: float | None) -> Row:
    difference = pair.difference
    mean, low, high = (
        None if value is None else 100 * value for value in (difference.mean, difference.low, difference.high)
    )
    return {
        "contrast": " - ".join(contrast), "target": target, "seeds": difference.n, "points": mean, "low_95": low,
        "high_95": high, "p": pair.p, "p_corrected": corrected,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
