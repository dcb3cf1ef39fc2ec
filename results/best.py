"""The best operating point of a run under a limit, chosen by the validation split unless the user asks otherwise."""

import math
import sys
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from results.arms.problem import Problem
from results.circumstances import circumstance_lines, circumstance_text, circumstances_of
from results.command_output import prints_page
from results.errors import ResultsError
from results.store.completeness import refuse_gaps
from results.store.reader import Run, load
from results.text.number_format import SCALES
from results.text.page import Note, Part, answer_table
from transtailor import cli
from transtailor.names import did_you_mean
from transtailor.plural import counted, times_as_fast
from transtailor.shell import command
from transtailor.terminal import say

SCORES = ("validation_score", "test_score")
"""Scores that a point may be chosen by; the larger the better."""
LIMITED = {"macs": "MACs", "params": "parameters", "latency_ms": "ms"}
"""Columns that may be limited -> their unit."""

BEST = """
SELECT {run}network, dataset, train_images, metric, label, arm, seed, trial_id, point, model_key, macs, original_macs,
    params, '{by}' AS chosen_by, validation_score, validation_images, test_score, test_images, latency_ms, speed,
    is_steady, is_at_other_speed, count(*) OVER problem AS points,
    count(*) FILTER (isfinite({by})) OVER problem AS scored_points,
    count(*) OVER (PARTITION BY network, dataset, train_images, metric, round({by}, 12)) AS tied_points
FROM compared_points
WHERE {limits}
WINDOW problem AS (PARTITION BY network, dataset, train_images, metric)
QUALIFY row_number() OVER (
    problem ORDER BY CASE WHEN isfinite({by}) THEN 0 ELSE 1 END, round({by}, 12) DESC, macs, trial_id, point) = 1
ORDER BY network, dataset, train_images, metric
"""
"""One point for each problem, since only scores of one problem can be compared. Ties: the one with fewer MACs."""


LEFT_OUT = """SELECT count(DISTINCT trial_id) AS trials FROM operating_points JOIN planned USING (trial_id, arm)
WHERE trial_id NOT IN (SELECT trial_id FROM compared_points)"""
"""Not by the head with which a path began, of another arm: many paths share one, which counts once."""

UNTIMED = "SELECT count(*) AS points FROM compared_points WHERE NOT coalesce(isfinite(latency_ms), false)"

LEAST = """SELECT network, dataset, train_images, count(*) AS points, min(macs / original_macs) AS macs_fraction,
    min(macs) AS macs, min(params) AS params, min(latency_ms) FILTER (isfinite(latency_ms)) AS latency_ms
FROM compared_points GROUP BY ALL ORDER BY ALL"""


@dataclass(frozen=True)
class Limit:
    """The largest value allowed in a column: a fraction of the original network's MACs, or a number."""

    column: str
    most: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a limit as typed, such as macs=0.8 or params=100000.

        Raises:
            ResultsError: it is no limit, or its column cannot be limited.
        """
        column, sign, most = text.partition("=")
        advice = "type one such as macs=0.8 (of the original's), macs=2e6, params=100000 or latency_ms=2"
        if column not in LIMITED or not sign:
            expected = f"{did_you_mean(column, LIMITED)}expected one of {', '.join(LIMITED)} with a number"
            raise ResultsError(f"--under {text}: {expected}; {advice}")
        try:
            limit = cls(column, float(most))
        except ValueError as error:
            raise ResultsError(f"--under {text}: {most!r} is no number; {advice}") from error
        if not (math.isfinite(limit.most) and limit.most > 0):
            raise ResultsError(f"--under {text}: expected a number above 0; {advice}")
        if column == "params" and limit.most < 1:
            raise ResultsError(f"--under {text}: only macs can be a share of the original's; {advice}")
        return limit

    @property
    def is_fraction(self) -> bool:
        """Whether it is a share of the original network's MACs: true for a limit of MACs up to 1."""
        return self.column == "macs" and self.most <= 1

    @property
    def sql(self) -> str:
        """The limit as an SQL condition."""
        return f"{self.column} <= {self.most!r}" + (" * original_macs" if self.is_fraction else "")

    def __str__(self) -> str:
        if self.is_fraction:
            return f"at most {self.most:g} of the original's MACs"
        return f"at most {self.most:{'g' if self.column == 'latency_ms' else ',.0f'}} {LIMITED[self.column]}"


def best_points(run: Run, by: str = "validation_score", limits: Sequence[Limit] = ()) -> list[dict[str, Any]]:
    """Return the best operating point of each problem (network, data set, training images, metric) under all limits.

    Each record has the columns of the answer `best`, and of several runs `run`: the point, its scores, the number of
    `points` that it was chosen from, and how many of them have a finite score. A score that is not finite never wins
    against one that is.

    Args:
        by: one of `SCORES`. The test score of a point that was chosen by it is no estimate for new images.
        limits: a point has to meet all of them.

    Raises:
        ResultsError: `by` is not one of them.
    """
    if by not in SCORES:
        raise ResultsError(f"--by {by}: {did_you_mean(by, SCORES)}expected one of {', '.join(SCORES)}")
    conditions = " AND ".join(limit.sql for limit in limits) or "true"
    name_of_run = "run, " if len(run.paths) > 1 else ""
    return run.rows(BEST.format(run=name_of_run, by=by, limits=conditions))


def best_page(run: Run, by: str, limits: Sequence[Limit]) -> Iterator[Part]:
    """Yield each problem's best point, where its sub-model is, and the command that saves it.

    Raises:
        ResultsError: as `best_points`; rows are lost; or no point meets the limits.
    """
    refuse_gaps(run)
    points = best_points(run, by, limits)
    under = f" with {' and '.join(map(str, limits))}" if limits else ""
    missed = list(_missed(run, limits, {Problem.of(row) for row in points}))
    if not points:
        raise ResultsError(f"no operating point{under} in {run.path}: {'; '.join(missed) or _why_none(run)}")
    for row in points:
        yield from _lines(row, run, by, under)
    yield from (Note(f"no operating point{under}: {why}") for why in missed)
    (left_out,) = run.rows(LEFT_OUT)
    if left_out["trials"]:
        trials = counted(left_out["trials"], "trial")
        yield Note(f"left out: the points of {trials} that failed, or by which a search has chosen what it confirms")
    if any(limit.column == "latency_ms" for limit in limits):
        yield from map(Note, circumstance_lines(run))
        (untimed,) = run.rows(UNTIMED)
        if untimed["points"]:
            how = f"to time them, type: {run.to_type('time')}"
            yield Note(f"left out, as not timed: {counted(untimed['points'], 'operating point')}; {how}")
    yield answer_table("best", points)


def _missed(run: Run, limits: Sequence[Limit], found: Container[Problem]) -> Iterator[str]:
    """Yield for each problem without a point under all limits what there is instead, and what to do."""
    for least in run.rows(LEAST):
        if Problem.of(least) in found:
            continue
        before = f"{Problem.of(least)}: of {counted(least['points'], 'operating point')}"
        if any(limit.column == "latency_ms" for limit in limits) and least["latency_ms"] is None:
            yield f"{before} no sub-model was timed; type: {run.to_type('time')}"
            continue
        reached = []
        for limit in limits:
            value = least["macs_fraction" if limit.is_fraction else limit.column]
            number = f"{value:,}" if isinstance(value, int) else f"{_rounded_up(value):g}"
            reached.append(f"the smallest {limit.column} is {number}")
        apart = ", not always of the same point" if len(limits) > 1 else ""
        yield f"{before} {' and '.join(reached)}{apart}; raise the limit"


def _rounded_up(value: float) -> float:
    """Round to four digits, so that the number is a limit that something meets.

    >>> _rounded_up(0.780012), _rounded_up(0.8), _rounded_up(2.30769)
    (0.7801, 0.8, 2.308)
    """
    rounded = float(f"{value:.4g}")
    return rounded if rounded >= value else float(f"{value + 0.5 * 10 ** (math.floor(math.log10(value)) - 3):.4g}")


def _why_none(run: Run) -> str:
    """Say why there is no point at all, and what to do."""
    (written,) = run.rows("SELECT count(*) AS points FROM operating_points")
    why = "its only ones are of failed trials, or of a search that has not confirmed any; " if written["points"] else ""
    return f"{why}to see its trials, type: {run.to_type('status')}"


def _lines(row: dict[str, Any], run: Run, by: str, under: str) -> Iterator[str]:
    metric = SCALES[row["metric"]].noun
    points = f"{counted(row['points'], 'operating point')}{under}"
    chosen_by = by.replace("_score", f" {metric}")
    validation = counted(row["validation_images"], "image")
    yield f"{Problem.of(row)}: the best of {points}, by {chosen_by}"
    yield f"  trial {row['trial_id']}, point {row['point']}  ({row['arm']}, seed {row['seed']})"
    yield f"  validation {metric}  {row['validation_score']:.4f} on {validation}{_optimism(row, by)}"
    test = (
        "not measured"
        if row["test_score"] is None
        else f"{row['test_score']:.4f} on {counted(row['test_images'], 'image')}"
    )
    yield f"  test {metric}        {test}"
    share = row["macs"] / row["original_macs"]
    yield f"  MACs {row['macs']:,} ({share:.3f} of the original's), parameters {row['params']:,}"
    yield f"  speed {_speed(row, run)}"
    if row[by] is None or not math.isfinite(row[by]):
        yield f"  none of them has a finite {by}"
    elif row["tied_points"] > 1:
        yield (
            f"  {row['tied_points']} of them tie by {chosen_by}: shown is the one with the fewest MACs, of equal ones"
            " the first by its trial's id"
        )
    key = row["model_key"]
    yield f"  its sub-model is stage {key[:12]} in the cache: <cache>/{key[:2]}/{key}.stage"
    model = f"models/{row['trial_id']}_point_{row['point']}"
    save = command("reproduce", run.path, row["trial_id"], "--point", row["point"], "--save", model)
    yield f"  to save it: {save}"


def _optimism(row: dict[str, Any], by: str) -> str:
    if by == "validation_score" and row["scored_points"] > 1:
        return f"  (the largest of {row['scored_points']}, so probably higher than on new images)"
    return ""


def _speed(row: dict[str, Any], run: Run) -> str:
    """Say how fast a point's sub-model is beside its whole network, as measured; or what to type to measure it."""
    if row["speed"] is None:
        return f"not measured; to measure it: {run.to_type('time')}"
    where = circumstance_text(circumstances_of(run)[0])
    doubt = "" if row["is_steady"] else "; not steady"
    if row["is_at_other_speed"]:
        doubt += "; timed while the machine was at another speed"
    return f"{times_as_fast(row['speed'])} ({row['latency_ms']:.4g} ms; {where}{doubt})"


@cli.command(example="runs/demo --under macs=0.8")
@cli.run_argument
@cli.option("--by", default="validation_score", metavar="SCORE", help="validation_score, or test_score, which warns")
@cli.option(
    "--under", multiple=True, metavar="COLUMN=LIMIT",
    help="macs=0.8 (up to 1: of the original's), macs=2e6, params=100000, latency_ms=2 (repeatable: all have to hold)",
)  # fmt: skip
@prints_page
def best(run: Path, by: str, under: tuple[str, ...]) -> Iterator[Part]:
    """Print the best operating point of a run under a limit, and how to save its sub-model."""
    if by == "test_score":
        say(
            "warning: the test score of a point chosen by it is too optimistic and is no estimate for new images;"
            " for an estimate, choose by validation_score",
            to=sys.stderr,
        )
    limits = [Limit.parse(text) for text in under]
    with load(run) as tables:
        yield from best_page(tables, by, limits)
