"""The contrasts of docs/results/evidence/photographs_study.md, which has the plan.

    python benchmarks/photographs_study.py runs/photographs_study

Adds the points of ended trials, and their last answers on the test images, to the Parquet files in the folder
photographs_study beside that page. Once all seeds have ended, it computes the contrasts from all that is there; before,
it does so only with --incomplete, so that no one looks at them while seeds are still to run.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import results
from benchmarks.record import EVIDENCE, Cell, Measured, parser_of, write
from results.statistics.images import crossed_difference
from results.statistics.pairs import compare_pairs, holm

FIRST = "transtailor"
AGAINST = (
    "transtailor pruning random",
    "prune taylor iterative",
    "fine_tune 28 epochs",
)  # the first is the primary contrast
LABELS = (FIRST, *AGAINST, "transtailor pruning nothing")
SEEDS = 12

POINTS = """
SELECT label, seed, coalesce(point, -1) AS point, asked_removed_macs_fraction, removed_macs_fraction, macs,
    validation_score, test_score, test_images, trained_epochs, trial_id, status
FROM (SELECT DISTINCT trial_id, label, seed FROM planned) JOIN trials USING (trial_id)
LEFT JOIN (SELECT * EXCLUDE (label, seed) FROM measured_points) USING (trial_id)
"""
ANSWERS = """
SELECT last.label, last.seed, answer.image_id, answer.prediction = answer.label AS is_right
FROM (SELECT trial_id, label, seed, max(point) AS point FROM compared_points GROUP BY ALL) AS last
JOIN trials USING (trial_id) JOIN predictions AS answer USING (trial_id, point)
WHERE answer.split = 'test' AND trials.status = 'finished'
"""
FILES = {"points": (POINTS, ("label", "seed", "point")), "answers": (ANSWERS, ("label", "seed", "image_id"))}

Row = dict[str, Any]
Answers = dict[tuple[str, int], dict[int, bool]]  # (label, seed) -> image -> whether the answer is right


def main(arguments: Sequence[str] | None = None) -> int:
    """Add the runs' rows to the committed ones, and write the contrasts."""
    parser = parser_of(__doc__, "photographs_study_contrasts")
    parser.add_argument("runs", nargs="*", type=Path, help="the folders of the runs")
    parser.add_argument("--rows", type=Path, default=EVIDENCE / "photographs_study", help="the folder of the files")
    parser.add_argument("--incomplete", action="store_true", help="compute the contrasts although seeds are missing")
    asked = parser.parse_args(arguments)
    kept = {name: add(asked.rows / f"{name}.parquet", asked.runs, sql, key) for name, (sql, key) in FILES.items()}
    answers, failed = answers_of(kept["answers"]), failures_in(kept["points"])
    ended = len(complete_seeds(answers, failed))
    if ended < SEEDS and not asked.incomplete:
        sys.stdout.write(f"{ended} of {SEEDS} seeds have ended in all arms: no contrasts yet\n")
        return 0
    write(results_table(answers, failed), asked.out)
    return 0


def add(path: Path, runs: Sequence[Path], sql: str, key: Sequence[str]) -> list[Row]:
    """All rows of the file and of the runs; of rows with an equal key the last one. The file is written if it grows."""
    rows: list[Row] = pq.read_table(path).to_pylist() if path.exists() else []
    for run in runs:
        with results.load(run) as tables:
            rows += tables.rows(sql)
    by_key = {tuple(row[name] for name in key): row for row in rows}
    if runs:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([by_key[row_key] for row_key in sorted(by_key)]), path, compression="zstd")
    return [by_key[row_key] for row_key in sorted(by_key)]


def answers_of(rows: Sequence[Row]) -> Answers:
    """The answers of each trial's last point."""
    answers: Answers = {}
    for row in rows:
        answers.setdefault((row["label"], row["seed"]), {})[row["image_id"]] = row["is_right"]
    return answers


def failures_in(points: Sequence[Row]) -> set[tuple[str, int]]:
    """The trials that failed, before or after their first point."""
    return {(row["label"], row["seed"]) for row in points if row["status"] == "failed"}


def complete_seeds(answers: Mapping[tuple[str, int], Any], failed: set[tuple[str, int]]) -> list[int]:
    """The seeds from 0 on whose trials have all ended, up to the first that has one to run."""
    return seeds_of_all(answers.keys() | failed, LABELS, SEEDS)


def seeds_of_all(ended: Collection[tuple[str, int]], labels: Sequence[str], seeds: int) -> list[int]:
    """The seeds from 0 on that have ended in all arms, up to the first one that lacks an arm.

    Args:
        ended: label and seed of each trial that has.
        seeds: how many are planned.
    """
    missing = [seed for seed in range(seeds) if any((label, seed) not in ended for label in labels)]
    return [*range(min(missing, default=seeds))]


def difference(answers: Answers, against: str, seeds: Sequence[int]) -> np.ndarray:
    """(seeds, images) first right - second right; NaN where a seed has not tested an image. A failed trial has 0."""
    tested = {seed: next(answers[label, seed] for label in LABELS if (label, seed) in answers) for seed in seeds}
    images = sorted({image for of_seed in tested.values() for image in of_seed})
    columns = {image: column for column, image in enumerate(images)}
    differences = np.full((len(seeds), len(images)), np.nan)
    for row, seed in enumerate(seeds):
        first, second = (answers.get((label, seed), {}) for label in (FIRST, against))
        for image in tested[seed]:
            differences[row, columns[image]] = first.get(image, False) - second.get(image, False)
    return differences


def results_table(answers: Answers, failed: set[tuple[str, int]]) -> Measured:
    """One row per contrast.

    Raises:
        SystemExit: fewer than two seeds have ended.
    """
    seeds = complete_seeds(answers, failed)
    if len(seeds) < 2:
        raise SystemExit(f"{len(seeds)} seed(s) have ended in all arms, and an interval needs two; run more of them")
    tables = {against: difference(answers, against, seeds) for against in AGAINST}
    pairs = {}
    for against, table in tables.items():
        means = dict(zip(seeds, np.nanmean(table, axis=1).tolist(), strict=True))
        pairs[against] = compare_pairs(means, dict.fromkeys(seeds, 0.0))
    corrected = holm([pair.p for pair in pairs.values()])
    rows: list[tuple[Cell, ...]] = []
    for (against, pair), p in zip(pairs.items(), corrected, strict=True):
        both = crossed_difference(tables[against])
        shown = (pair.difference.mean, pair.difference.low, pair.difference.high, both.low, both.high)
        points = (None if value is None else 100 * value for value in shown)
        rows.append((f"{FIRST} - {against}", len(seeds), *points, pair.p, p))
    of_failed = sorted(f"{label}, seed {seed}" for label, seed in failed if seed in seeds)
    return Measured(
        title="The contrasts of the study on photographs",
        columns=("contrast", "seeds", "points", "low_95", "high_95", "low_95_images", "high_95_images", "p", "p_holm"),
        rows=tuple(rows),
        notes=(
            "Accuracy on the test images at 40% fewer MACs, in percentage points, paired by seed; t intervals over "
            "seeds, and intervals over seeds and images; sign-flip p, Holm over the three. Plan: photographs_study.md.",
            f"{'Complete' if len(seeds) == SEEDS else 'Incomplete'}: {len(seeds)} of {SEEDS} seeds.",
            f"Failed trials, which score 0: {'; '.join(of_failed) or 'none'}.",
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
