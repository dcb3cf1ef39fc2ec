"""From the rows of a run to what is compared: arms at a budget, their seeds, and pairs of arms seed by seed.

The unit is the seed: trials of one arm with the same seed are averaged first, so that n never counts one seed twice.
The test split is looked at here and only here; ranks come from the validation split.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from results.reader import Run
from results.statistics import Mean, Paired, PathPoint, mean_interval, paired, stop_rule

BASELINE = "fine_tune"
TRANSTAILOR = "transtailor"

POINTS = """
SELECT network, dataset, label, method, seed, trial_id, point, asked_removed_macs_fraction, removed_macs_fraction,
    model_key, validation_accuracy_fraction, validation_images, test_accuracy_fraction, test_images
FROM measured_points
ORDER BY network, dataset, label, method, seed, trial_id, point
"""

ENVIRONMENTS_OF_TRIALS = "SELECT DISTINCT trial_id, device, ranks, torch_version FROM stages"


class Problem(NamedTuple):
    """What a comparison stays within: one network on one target data set."""

    network: str
    dataset: str

    def __str__(self) -> str:
        return f"{self.network} on {self.dataset}"


class Environment(NamedTuple):
    """What computed a stage."""

    device: str
    ranks: int
    torch_version: str


EnvironmentsByTrial = dict[str, frozenset[Environment]]


@dataclass(frozen=True)
class Point:
    """One operating point of one trial; fractions are None where nothing was measured, and may be NaN."""

    problem: Problem
    label: str
    method: str
    seed: int
    trial_id: str
    point: int
    asked: float
    removed: float
    model_key: str
    validation: float
    validation_images: int
    test: float | None
    test_images: int


@dataclass(frozen=True)
class Arm:
    """One label at one asked budget of one problem, over its seeds.

    Attributes:
        removed: mean share of the MACs that is really gone.
        validation: accuracy on the validation split over seeds; seeds where it is not a number are left out.
        test: the same on the test split.
        not_finite: trials whose validation accuracy is not a number.
        models: distinct models behind the trials; fewer than seeds where seeds share a model.
        rank: place by validation accuracy within the problem, 1 is best; None without a validation accuracy.
    """

    problem: Problem
    label: str
    method: str
    asked: float
    removed: float
    validation: Mean
    test: Mean
    test_by_seed: dict[int, float]
    models_by_seed: dict[int, frozenset[str]]
    trials: int
    not_finite: int
    test_images: frozenset[int]
    environments: frozenset[Environment]
    rank: int | None = None

    @property
    def models(self) -> int:
        """Distinct models behind this arm."""
        return len(frozenset[str]().union(*self.models_by_seed.values()))

    def __str__(self) -> str:
        if self.method == BASELINE and not self.asked:
            return self.label
        return f"{self.label} at {100 * self.asked:g}% fewer MACs"


@dataclass(frozen=True)
class Pairing:
    """Two arms compared seed by seed, in one problem or in several at once (`problem` is None then).

    `first` and `second` name the arms in words; `label` and `asked` (a fraction) are the first's.
    """

    problem: Problem | None
    first: str
    second: str
    label: str
    asked: float
    result: Paired
    first_models: int
    second_models: int
    environments: frozenset[Environment]

    @property
    def shares_models(self) -> bool:
        """Whether several pairs rest on one model, so that they are fewer than they look."""
        return min(self.first_models, self.second_models) < self.result.difference.n


@dataclass(frozen=True)
class Choice:
    """What the stop rule chose on the recorded path of one trial, beside the best point by validation accuracy."""

    chosen: Point
    best: Point | None
    last: Point


def points_of(run: Run) -> list[Point]:
    """All operating points that are written down, those of unfinished trials included."""
    return [_point(row) for row in run.rows(POINTS)]


def environments_of(run: Run) -> EnvironmentsByTrial:
    """What computed the stages of each trial, by trial id."""
    found: dict[str, set[Environment]] = {}
    for row in run.rows(ENVIRONMENTS_OF_TRIALS):
        found.setdefault(row["trial_id"], set()).add(Environment(row["device"], row["ranks"], row["torch_version"]))
    return {trial_id: frozenset(several) for trial_id, several in found.items()}


def arms_of(points: Iterable[Point], environments: EnvironmentsByTrial) -> list[Arm]:
    """All arms, problem by problem and by rank within each."""
    groups: dict[tuple[Problem, str, str, float], dict[str, Point]] = {}
    for point in points:  # the last point of a trial at a budget stands for it
        groups.setdefault((point.problem, point.label, point.method, point.asked), {})[point.trial_id] = point
    arms = [_arm(list(group.values()), environments) for group in groups.values()]
    arms.sort(
        key=lambda arm: (
            arm.problem,
            math.inf if arm.validation.mean is None else -arm.validation.mean,
            arm.label,
            arm.asked,
        )
    )
    return _ranked(arms)


def compare(pairs: Sequence[tuple[Arm, Arm]]) -> Pairing:
    """The first arms against the second ones, seed by seed on the test split; blocks are problem and seed.

    Args:
        pairs: at least one; more than one are pooled, and should be the same two labels in different problems.
    """
    first = {(one.problem, seed): value for one, _ in pairs for seed, value in one.test_by_seed.items()}
    second = {(two.problem, seed): value for _, two in pairs for seed, value in two.test_by_seed.items()}
    blocks = first.keys() & second.keys()
    models: list[set[str]] = [set(), set()]
    for pair in pairs:
        for arm, found in zip(pair, models, strict=True):
            for seed in (seed for problem, seed in blocks if problem == arm.problem):
                found |= arm.models_by_seed[seed]
    one, two = pairs[0]
    return Pairing(
        problem=one.problem if len(pairs) == 1 else None,
        first=str(one),
        second=str(two),
        label=one.label,
        asked=one.asked,
        # The generator is only drawn from above 12 pairs; its seed is fixed, so a report can be made again.
        result=paired(first, second, np.random.default_rng(0)),
        first_models=len(models[0]),
        second_models=len(models[1]),
        environments=frozenset[Environment]().union(*(arm.environments for pair in pairs for arm in pair)),
    )


def against_baseline(arms: Sequence[Arm]) -> list[tuple[Arm, Arm]]:
    """Each arm beside full fine-tuning of the same problem, by label; problems without it are left out."""
    return [
        (arm, baseline)
        for arm in sorted(arms, key=lambda arm: (arm.problem, arm.label, arm.asked))
        if (baseline := baseline_of(arms, arm.problem)) is not None and arm is not baseline
    ]


def baseline_of(arms: Sequence[Arm], problem: Problem) -> Arm | None:
    """Full fine-tuning: the label of that name, else the first with that method, at the smallest budget."""
    return next(iter(baselines_of(arms, problem)), None)


def baselines_of(arms: Sequence[Arm], problem: Problem) -> list[Arm]:
    """All arms of full fine-tuning (with other epochs, say), the label of that name first."""
    found = [arm for arm in arms if arm.problem == problem and arm.method == BASELINE]
    return sorted(found, key=lambda arm: (arm.label != BASELINE, arm.label, arm.asked))


def transtailor_at(arms: Sequence[Arm], asked: float) -> list[Arm]:
    """TransTailor's arms at a budget: those of the label of that name, else of all labels with that method."""
    found = [arm for arm in arms if arm.method == TRANSTAILOR and math.isclose(arm.asked, asked, abs_tol=1e-6)]
    return [arm for arm in found if arm.label == TRANSTAILOR] or found


def choices_of(points: Iterable[Point], tolerance_fraction: float) -> list[Choice]:
    """What the stop rule chose, for each trial of TransTailor's method."""
    paths: dict[str, list[Point]] = {}
    for point in points:
        if point.method == TRANSTAILOR:
            paths.setdefault(point.trial_id, []).append(point)
    return [_choice(path, tolerance_fraction) for path in paths.values()]


def chosen_arms(choices: Iterable[Choice], environments: EnvironmentsByTrial) -> list[Arm]:
    """The chosen points of each label over its seeds; their budgets differ, and what is removed is the mean."""
    groups: dict[tuple[Problem, str], list[Point]] = {}
    for choice in choices:
        groups.setdefault((choice.chosen.problem, choice.chosen.label), []).append(choice.chosen)
    return [_arm(points, environments) for _, points in sorted(groups.items())]


def _choice(path: list[Point], tolerance_fraction: float) -> Choice:
    by_number = {point.point: point for point in path}
    chosen = stop_rule([PathPoint(point.point, point.validation) for point in path], tolerance_fraction)
    finite = [point for point in path if math.isfinite(point.validation)]
    best = max(finite, key=lambda point: (point.validation, point.removed), default=None)
    return Choice(by_number[chosen.point], best, path[-1])


def _point(row: dict[str, Any]) -> Point:
    return Point(
        problem=Problem(row["network"], row["dataset"]),
        label=row["label"],
        method=row["method"],
        seed=row["seed"],
        trial_id=row["trial_id"],
        point=row["point"],
        asked=round(row["asked_removed_macs_fraction"], 9),
        removed=row["removed_macs_fraction"],
        model_key=row["model_key"],
        validation=row["validation_accuracy_fraction"],
        validation_images=row["validation_images"],
        test=row["test_accuracy_fraction"],
        test_images=row["test_images"],
    )


def _arm(points: list[Point], environments: EnvironmentsByTrial) -> Arm:
    models: dict[int, set[str]] = {}
    for point in points:
        models.setdefault(point.seed, set()).add(point.model_key)
    test = _by_seed((point.seed, point.test) for point in points)
    return Arm(
        problem=points[0].problem,
        label=points[0].label,
        method=points[0].method,
        asked=points[0].asked,
        removed=math.fsum(point.removed for point in points) / len(points),
        validation=mean_interval(list(_by_seed((point.seed, point.validation) for point in points).values())),
        test=mean_interval(list(test.values())),
        test_by_seed=test,
        models_by_seed={seed: frozenset(keys) for seed, keys in models.items()},
        trials=len(points),
        not_finite=sum(not math.isfinite(point.validation) for point in points),
        test_images=frozenset(point.test_images for point in points if point.test is not None),
        environments=frozenset[Environment]().union(
            *(environments.get(point.trial_id, frozenset()) for point in points)
        ),
    )


def _by_seed(values: Iterable[tuple[int, float | None]]) -> dict[int, float]:
    """The mean of each seed's finite values."""
    found: dict[int, list[float]] = {}
    for seed, value in values:
        if value is not None and math.isfinite(value):
            found.setdefault(seed, []).append(value)
    return {seed: math.fsum(several) / len(several) for seed, several in sorted(found.items())}


def _ranked(arms: list[Arm]) -> list[Arm]:
    """The same arms with their ranks; equal accuracies share a rank."""
    ranked: list[Arm] = []
    for arm in arms:
        peers = [other.validation.mean for other in arms if other.problem == arm.problem]
        mean = arm.validation.mean
        rank = None if mean is None else 1 + sum(other is not None and other > mean for other in peers)
        ranked.append(replace(arm, rank=rank))
    return ranked
