"""The contrasts of docs/results/evidence/is_it_the_target.md, which has the plan.

    python benchmarks/is_it_the_target.py runs/is_it_the_target

Adds the points of ended trials to the Parquet file in the folder is_it_the_target beside that page. Once all seeds have
ended it computes the contrasts from all that is there. With `--filters RUN` it writes instead, as a page of its own,
how far each donor of that run keeps the filters that the target keeps.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

from collections.abc import Mapping, Sequence

import results
from benchmarks.photographs_study import Row as Point
from benchmarks.photographs_study import add
from benchmarks.record import EVIDENCE, Measured, Row, parser_of, table_of, write
from results.arms.findings import findings_of
from results.questions.donors import transfers
from results.statistics.pairs import Paired, compare_pairs, holm
from results.statistics.sets import over_sets

TARGETS = ("trashnet6", "clothing10", "fruit14", "packages9")
OWN, RANDOM, OTHERS = "target", "random filters", "the three other sets"
CONTROLS = ("shuffled", "scrambled", "noise")
SEEDS = 12
OVER_ALL = ("accuracies", "seeds", "points", "low_95", "high_95", "p")
CONTRASTS = ((OWN, OTHERS), *((OWN, donor) for donor in (*CONTROLS, RANDOM)), (OTHERS, RANDOM))
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
    parser.add_argument("--filters", type=Path, help="the folder of a run: which filters each donor keeps")
    asked = parser.parse_args(arguments)
    if asked.filters:
        write(filters_table(asked.filters), asked.out.with_name("is_it_the_target_filters"))
        return 0
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
    """Return a row for each planned contrast, and below them one for each single set as a donor."""
    over = [_pair(scores, TARGETS, *contrast) for contrast in CONTRASTS]
    corrected = [over[0].p, *holm([pair.p for pair in over[1:]])]  # the primary contrast stands alone
    rows = [_row(scores, *found) for found in zip(CONTRASTS, over, corrected, strict=True)]
    rows += [_row(scores, (OWN, donor), None, None) for donor in TARGETS]
    return table_of(
        "Whose images score the filters",
        rows,
        (
            "Test accuracy at 40% fewer MACs in percentage points: of both, and first minus second, paired by seed; 95%"
            " t intervals; sign-flip p. points: the mean over the four targets within each seed.",
            "The first contrast is the primary one; p of the five others are corrected together (Holm). All else is"
            " description.",
            "new_target: the prediction interval over four targets, of which each is one observation.",
        ),
    )


def filters_table(run: Path) -> Measured:
    """Return how far each donor keeps the filters that the target's own images keep."""
    with results.load(run) as tables:
        found = [one for one in transfers(findings_of(tables)) if one.kappa is not None]
    of_seeds = {one.own.problem.dataset: one.kappa_of_seeds for one in found}
    kappas = {(one.own.problem.dataset, one.donor): one.kappa for one in found}
    rows: list[Row] = [
        {"donor": donor, **{target: kappas.get((target, donor)) for target in TARGETS}}
        for donor in (*TARGETS, *CONTROLS)
    ]
    rows.append({"donor": "the target, another seed", **{target: of_seeds[target] for target in TARGETS}})
    seeds = max(one.pairing.result.difference.n for one in found)
    return table_of(
        "Which filters each donor keeps",
        rows,
        (
            f"Cohen's kappa with the filters that the target's own images keep, at 40% fewer MACs: 1 the same, 0 as by"
            f" chance; mean over {seeds} seeds. The last row is of two seeds of the target's own.",
        ),
    )


def _pair(scores: Scores, targets: Sequence[str], first: str, second: str) -> Paired:
    return compare_pairs(mean_scores(scores, targets, first), mean_scores(scores, targets, second))


def _row(scores: Scores, contrast: tuple[str, str], over: Paired | None, corrected: float | None) -> Row:
    """Return a contrast over all targets, if there is one, and on each; a set is no other donor of itself."""
    singles = {target: _pair(scores, [target], *contrast).difference for target in TARGETS if target not in contrast}
    of_all: Row = dict.fromkeys(OVER_ALL)
    new_target = None
    if over is not None:
        difference, new = over.difference, over_sets([single.mean or 0.0 for single in singles.values()])
        limits = (_points(value) for value in (difference.mean, difference.low, difference.high))
        of_all = dict(zip(OVER_ALL, (_accuracies(scores, contrast), difference.n, *limits, over.p), strict=True))
        new_target = _text(new.mean.mean, new.new_low, new.new_high)
    of_targets = {target: _text(single.mean, single.low, single.high) for target, single in singles.items()}
    return {
        "contrast": " - ".join(contrast), **of_all, "p_corrected": corrected,
        **{target: of_targets.get(target) for target in TARGETS}, "new_target": new_target,
    }  # fmt: skip


def _accuracies(scores: Scores, contrast: tuple[str, str]) -> str:
    means = [mean_scores(scores, TARGETS, donor) for donor in contrast]
    return " and ".join(f"{100 * sum(mean.values()) / len(mean):.2f}" for mean in means)


def _points(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction


def _text(mean: float | None, low: float | None, high: float | None) -> str:
    mean, low, high = (100 * (value or 0.0) for value in (mean, low, high))
    return f"{mean:.2f} ({low:.2f} … {high:.2f})"


if __name__ == "__main__":
    sys.exit(main())
