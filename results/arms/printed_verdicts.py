"""What a run says of the numbers and claims that papers print: a verdict of each, corrected over the paper's table."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from results.arms.comparison import Arm, arms_of
from results.arms.counts import failed_by_arm
from results.arms.findings import Findings
from results.arms.flags import Facts, flags_of
from results.arms.selection import is_at
from results.statistics.equivalence import MARGIN, Judged, Printed, agree, ahead
from results.statistics.means import mean_interval

ROWS = "FROM printed ORDER BY ALL"
CLAIM_VERDICTS = {"within": "holds", "not within": "does not hold"}

Record = dict[str, Any]
Values = tuple[Arm | None, Arm | None, Mapping[int, float], int, int]
"""An arm, the other of a difference, seed -> score or difference, the images of the smallest test split among them, and
their failed trials."""
NO_ARM: Values = (None, None, {}, 1, 0)


class MeasuredScores:
    """The arms of a run, by what printed rows name."""

    def __init__(self, findings: Findings) -> None:
        self._at_budgets = findings.tested
        ends = [replace(point, asked=None) for point in findings.points if point.is_end]
        arms = arms_of(ends, findings.environments, failed_by_arm(findings.run))
        self._at_ends = [arm for arm in arms if arm.test.mean is not None]

    def arms(self, label: str, row: Record, asked: float | None) -> list[Arm]:
        """Return the arms of a label on a row's network and data set, at a budget; None: at the ends of their paths."""
        of_row = (label, row["network"], row["dataset"], row["metric"])
        arms = self._at_ends if asked is None else [arm for arm in self._at_budgets if is_at(arm, asked)]
        named = [arm for arm in arms if (arm.label, arm.problem.network, arm.problem.dataset, arm.metric) == of_row]
        return sorted(named, key=lambda arm: (arm.name, arm.problem))

    def values(self, row: Record) -> list[Values]:
        """Return for each arm of a row itself, seed -> score or difference, and the images of the smallest split."""
        own = self.arms(row["label"], row, row["asked_removed_macs_fraction"])
        if row["against"] is None:
            return [(arm, None, arm.test_by_seed, min(arm.test_images), arm.failed.total()) for arm in own]
        others = self.arms(row["against"], row, None)
        return [
            (
                arm, other, _differences(arm, other), min(arm.test_images | other.test_images),
                (arm.failed + other.failed).total(),
            )
            for arm in own for other in others if arm.problem == other.problem
        ]  # fmt: skip


def _differences(arm: Arm, other: Arm) -> dict[int, float]:
    both = arm.test_by_seed.keys() & other.test_by_seed.keys()
    return {seed: arm.test_by_seed[seed] - other.test_by_seed[seed] for seed in sorted(both)}


def judge(findings: Findings, margin: float = MARGIN) -> tuple[list[Record], list[Record]]:
    """Return the records of the tables `printed` and `claims`.

    The first has one for each printed number and each arm with its label, and one for a number without an arm; the
    second has one for each pair of labels that a table of a paper makes a claim about.

    Args:
        margin: how far off still counts as the same, as a fraction, or R squared.
    """
    measured = MeasuredScores(findings)
    rows = findings.run.rows(ROWS)
    numbers = [row for row in rows if row["claim"] is None]
    claims = [row for row in rows if row["claim"] is not None]
    facts = findings.facts
    return _judge_numbers(numbers, measured, margin, facts), _judge_claims(claims, measured, facts)


def _judge_numbers(rows: Sequence[Record], measured: MeasuredScores, margin: float, facts: Facts) -> list[Record]:
    found: list[tuple[Record, Values]] = []
    for row in rows:
        found += [(row, values) for values in measured.values(row) or [NO_ARM]]
    tests = Counter((row["paper"], row["place"]) for row, _ in found)
    records = []
    for row, (arm, other, by_seed, images, failed) in found:
        value = row["value"] if row["against"] is None else row["difference"]
        judged = agree(
            list(by_seed.values()),
            Printed(value=value, n=row["n"], deviation=row["deviation"]),
            margin=margin,
            tests=tests[row["paper"], row["place"]],
            least_deviation=1 / images,
        )
        verdict, seeds_needed = _said(judged, failed)
        kept = (
            "paper",
            "place",
            "network",
            "dataset",
            "metric",
            "label",
            "asked_removed_macs_fraction",
            "against",
            "note",
        )
        records.append({
            **{name: row[name] for name in kept}, "arm": arm and arm.name,
            "train_images": arm and arm.problem.record["train_images"],
            "deviation": mean_interval(list(by_seed.values())).deviation, "printed": value, "printed_n": row["n"],
            "measured": None if judged.difference is None else value + judged.difference, "seeds": judged.seeds,
            "off": judged.difference, "off_low": judged.low, "off_high": judged.high, "margin": margin,
            "tests": tests[row["paper"], row["place"]], "verdict": verdict, "seeds_needed": seeds_needed,
            "flags": [] if arm is None else flags_of([(arm, other)], facts),
        })  # fmt: skip
    return records


def _said(judged: Judged, failed: int) -> tuple[str, int | None]:
    """Return the verdict and the seeds that are needed: neither where trials failed, which may have scored badly."""
    return ("incomplete", None) if failed else (judged.verdict, judged.seeds_needed)


def _judge_claims(rows: Sequence[Record], measured: MeasuredScores, facts: Facts) -> list[Record]:
    rows_of_claim: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    names = ("paper", "place", "network", "metric", "label", "against")
    for row in rows:
        rows_of_claim[tuple(row[name] for name in names)].append(row)
    tests = Counter((paper, place) for paper, place, *_ in rows_of_claim)
    records = []
    for claim, of_claim in rows_of_claim.items():
        values = [measured.values(row) for row in of_claim]
        judged = _judge_claim(values, tests[claim[0], claim[1]])
        verdict, seeds_needed = _said(judged, sum(failed for of_row in values for *_, failed in of_row))
        records.append({
            **dict(zip(names, claim, strict=True)), "datasets": len(of_claim), "difference": judged.difference,
            "difference_low": judged.low, "difference_high": judged.high, "seeds": judged.seeds,
            "tests": tests[claim[0], claim[1]], "verdict": CLAIM_VERDICTS.get(verdict, verdict),
            "seeds_needed": seeds_needed,
            "flags": flags_of([(arm, other) for of_row in values for arm, other, *_ in of_row if arm], facts),
        })  # fmt: skip
    return records


def _judge_claim(values_of_rows: Sequence[Sequence[Values]], tests: int) -> Judged:
    """Judge the mean over rows, seed by seed; a row with several arms, or none, has no seeds."""
    if any(len(values) != 1 for values in values_of_rows):
        return ahead([], tests=tests)
    by_seed = [values[0][2] for values in values_of_rows]
    images = [values[0][3] for values in values_of_rows]
    seeds = set.intersection(*(set(differences) for differences in by_seed))
    means = [math.fsum(differences[seed] for differences in by_seed) / len(by_seed) for seed in sorted(seeds)]
    return ahead(means, tests=tests, least_deviation=1 / (max(images) * len(by_seed)))


def rows_in_words(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield how many numbers of each place have which verdict, a sentence for each."""
    verdicts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for record in records:
        verdicts[record["paper"], record["place"]][record["verdict"]] += 1
    for (paper, place), counts in verdicts.items():
        parts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
        yield f"{paper}, {place}: {parts}."
