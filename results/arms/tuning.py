"""An equal tuning budget: for each arm, seed and asked budget the best setting of a spec's [tuning], by validation.

All arms have the same number k of settings to choose from. Each chosen point records this number, so that comparisons
of arms with different numbers can be marked.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from results.arms.comparison import Point, Setting, budget_order, last_points
from results.arms.problem import Problem
from results.store.reader import Run
from transtailor.documents import read_json

ENDED_SETTINGS = """
SELECT DISTINCT network, dataset, train_images, arm, method, seed, tuning_json, tuning_order
FROM planned JOIN trials USING (trial_id)
WHERE tuning_order IS NOT NULL
ORDER BY ALL
"""

CHOSEN_SETTINGS = """
SELECT network, dataset, train_images, arm, seed, asked_removed_macs_fraction, tuning_json, validation_score
FROM points JOIN (SELECT trial_id, tuning_json FROM planned) USING (trial_id)
WHERE is_compared AND tuning_json IS NOT NULL ORDER BY ALL
"""


class Tried(NamedTuple):
    """One arm at one seed, over all its budgets: the unit that is tuned."""

    problem: Problem
    arm: str
    method: str
    seed: int


@dataclass(frozen=True)
class Count:
    """In how many seeds a setting was chosen for an arm at a budget, and from how many settings."""

    problem: Problem
    arm: str
    asked: float | None
    setting: Setting
    seeds: int
    best_of: frozenset[int]


def ended_settings(run: Run) -> dict[Tried, set[Setting]]:
    """Return the settings whose trials have ended; those that failed, or stopped before a budget, were tried too."""
    ended: dict[Tried, set[Setting]] = {}
    for row in run.rows(ENDED_SETTINGS):
        problem = Problem.of(row)
        tried = Tried(problem, row["arm"], row["method"], row["seed"])
        ended.setdefault(tried, set()).add(Setting(row["tuning_order"], row["tuning_json"]))
    return ended


def best_settings(points: Iterable[Point], ended: Mapping[Tried, set[Setting]]) -> list[Point]:
    """Return the points of the best setting for each arm, seed and asked budget, with the number it was chosen from.

    Best is the largest validation score (the mean if a seed has several trials); of equal ones the first in the spec.
    A score that is not finite never wins against one that is. Points without a setting are returned as they are.

    Args:
        points: of any arms, in the order of their paths.
        ended: from `ended_settings`; they count as tried, in addition to those that have a point.
    """
    chosen: list[Point] = []
    groups: dict[tuple[Tried, float | None], dict[Setting, list[Point]]] = {}
    for point in last_points(points):
        if point.setting is None:
            chosen.append(point)
            continue
        tried = Tried(point.problem, point.arm, point.method, point.seed)
        groups.setdefault((tried, point.asked), {}).setdefault(point.setting, []).append(point)
    for (tried, _), points_of_setting in groups.items():
        best = min(points_of_setting, key=lambda setting: (-_validation(points_of_setting[setting]), setting.order))
        settings_tried = points_of_setting.keys() | ended.get(tried, set())
        chosen += [replace(point, best_of=len(settings_tried)) for point in points_of_setting[best]]
    return chosen


def counts_of(chosen: Iterable[Point]) -> list[Count]:
    """Count how often `best_settings` chose each setting, arm by arm; none of an arm with one, such as a head's fit."""
    groups: dict[tuple[Problem, str, float | None], dict[Setting, list[Point]]] = {}
    for point in chosen:
        if point.setting is not None:
            points_of_setting = groups.setdefault((point.problem, point.arm, point.asked), {})
            points_of_setting.setdefault(point.setting, []).append(point)
    counts = []
    for problem, arm, asked in sorted(groups, key=lambda group: (group[0], group[1], budget_order(group[2]))):
        points_of_setting = groups[problem, arm, asked]
        best_of: set[int] = set()
        for points in points_of_setting.values():
            best_of.update(point.best_of for point in points)
        if best_of == {1}:  # nothing was chosen
            continue
        for setting in sorted(points_of_setting):
            seeds = {point.seed for point in points_of_setting[setting]}
            counts.append(Count(problem, arm, asked, setting, seeds=len(seeds), best_of=frozenset(best_of)))
    return counts


def setting_text(setting: Setting) -> str:
    """Write a setting as it is typed, such as "optimisation.learning_rate = 0.005"."""
    return ", ".join(f"{key} = {json.dumps(value)}" for key, value in read_json(setting.values).items())


def _validation(points: list[Point]) -> float:
    mean = math.fsum(point.validation for point in points) / len(points)
    return mean if math.isfinite(mean) else -math.inf
