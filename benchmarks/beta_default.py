"""Which `beta` is TransTailor's default, by the rule of docs/results/evidence/beta_default.md.

    python benchmarks/beta_default.py

Reads the committed points of both runs, and writes docs/results/evidence/beta_default_scores.md and .csv.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

from collections.abc import Mapping, Sequence

import duckdb
import pyarrow.parquet as pq

from benchmarks.record import EVIDENCE, Measured, parser_of, write
from results.statistics.means import mean_interval

CANDIDATES = ("fold", "sqrt", "off")  # of nearly equal ones, the first is chosen
DECIDING = ("digits_vgg_bn", "digits_resnet", "mobilenet_v2")
ABOUT_AS_GOOD = 0.5  # percentage points of regret

Scores = dict[tuple[str, str], dict[int, float]]  # (network, label) -> seed -> score in per cent

POINTS = tuple(EVIDENCE / "beta_default" / f"{run}.parquet" for run in ("embedded", "photographs"))
SQL = """
SELECT network, label, seed,
    CASE WHEN bool_and(status = 'finished')
        THEN 100 * avg(validation_score) FILTER (asked_removed_macs_fraction > 0) ELSE 0 END AS score
FROM points GROUP BY ALL ORDER BY ALL
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the scores, the regrets and the mode that the rule chooses."""
    parser = parser_of(__doc__, "beta_default_scores")
    parser.add_argument("points", nargs="*", type=Path, default=POINTS, help="Parquet files (default: those committed)")
    asked = parser.parse_args(arguments)
    write(results_table(scores_of(asked.points)), asked.out)
    return 0


def scores_of(points: Sequence[Path]) -> Scores:
    """The score of each trial: the mean of its points' validation scores, in per cent; 0 if it failed."""
    scores: Scores = {}
    for file in points:
        with duckdb.connect(":memory:") as connection:
            connection.register("points", pq.read_table(file))
            for network, label, seed, score in connection.execute(SQL).fetchall():
                scores.setdefault((network, label), {})[seed] = score
    return scores


def regrets(scores: Scores) -> dict[str, dict[str, float]]:
    """Candidate -> network -> points by which its mean is behind the best candidate's."""
    means = {place: sum(of_seeds.values()) / len(of_seeds) for place, of_seeds in scores.items()}
    best = {network: max(means[network, mode] for mode in CANDIDATES) for network in DECIDING}
    return {mode: {network: best[network] - means[network, mode] for network in DECIDING} for mode in CANDIDATES}


def choose(regret: Mapping[str, Mapping[str, float]]) -> str:
    """The candidate with the smallest maximum regret; of nearly equal ones, the first."""
    worst = {mode: max(of_networks.values()) for mode, of_networks in regret.items()}
    return next(mode for mode in CANDIDATES if mode in worst and worst[mode] - min(worst.values()) < ABOUT_AS_GOOD)


def results_table(scores: Scores) -> Measured:
    """One row per network and mode."""
    regret, rows = regrets(scores), []
    for (network, label), of_seeds in scores.items():
        mean = mean_interval([*of_seeds.values()])
        beside = scores[network, "fold"]
        pairs = mean_interval([of_seeds[seed] - beside[seed] for seed in of_seeds])
        own = regret[label][network] if network in DECIDING and label in CANDIDATES else None
        failed = sum(score == 0.0 for score in of_seeds.values())
        rows.append((network, label, mean.n, mean.mean, pairs.mean, pairs.low, pairs.high, own, failed))
    without_fold = {mode: of_networks for mode, of_networks in regret.items() if mode != "fold"}
    columns = ("network", "beta", "seeds", "mean_score_pct", "minus_fold", "low_95", "high_95", "regret", "failed")
    return Measured(
        title="TransTailor's modes of beta",
        columns=columns,
        rows=tuple(rows),
        notes=(
            "Score: mean of the validation scores at 10% to 40% fewer MACs, in per cent; paired by seed, t intervals.",
            f"The rule of beta_default.md chooses {choose(regret)}; where fold is impossible, {choose(without_fold)}.",
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
