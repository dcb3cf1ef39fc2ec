"""From the rows of a run to the arms at each budget, their seeds, and pairs of arms compared seed by seed.

The unit is the seed: trials of one arm with the same seed are averaged first, and networks and data sets too where
several are compared at once, so that n never counts one seed twice.
Only comparisons read the test split; ranks come from the validation split.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from results.arms.names import BASELINE
from results.arms.problem import Problem
from results.arms.same_data import refuse_other_images
from results.errors import ResultsError
from results.statistics.means import Mean, mean_interval
from results.statistics.pairs import Paired, compare_pairs, doubts
from results.store.reader import Run
from results.text.names import at_budget

TRANSTAILOR = "transtailor"

POINTS_OF_ARMS = """
SELECT network, dataset, train_images, label, arm, method, seed, trial_id, point, asked_removed_macs_fraction,
    removed_macs_fraction, model_key, metric, validation_score, validation_images, test_score, test_images,
    names_one_class, trained_epochs, coalesce(tuning_json, '') AS tuning_json,
    greatest(1, tried, count(DISTINCT tuning_order) FILTER (is_finished) OVER (
        PARTITION BY network, dataset, train_images, arm, seed
    )) AS best_of,
    is_finished AND point = max(point) OVER (PARTITION BY trial_id) AS is_end
FROM compared_points LEFT JOIN (
    SELECT DISTINCT ON (trial_id) trial_id, tuning_json, tuning_order FROM planned ORDER BY trial_id, written_at DESC
) USING (trial_id) LEFT JOIN (
    SELECT DISTINCT ON (trial_id) trial_id, arm,
        count(DISTINCT tuning_order) OVER (PARTITION BY network, dataset, train_images, arm, seed) AS tried
    FROM planned SEMI JOIN trials USING (trial_id) ORDER BY trial_id, written_at DESC
) USING (trial_id, arm) LEFT JOIN (
    SELECT DISTINCT trial_id, true AS is_finished FROM trials WHERE status = 'finished'
) USING (trial_id)
QUALIFY is_compared
ORDER BY network, dataset, train_images, arm, method, seed, trial_id, point
"""
"""`best_of`: from how many settings of [tuning] the point was chosen: those whose trials finished or failed."""

ENVIRONMENTS_OF_TRIALS = "SELECT DISTINCT trial_id, device, ranks, torch_version FROM stages"


class Environment(NamedTuple):
    """The environment that computed a stage."""

    device: str
    ranks: int
    torch_version: str


EnvironmentsByTrial = dict[str, frozenset[Environment]]


@dataclass(frozen=True)
class Point:
    """One operating point of one trial."""

    problem: Problem
    label: str
    arm: str
    method: str
    seed: int
    trial_id: str
    point: int
    asked: float | None  # share of the MACs to remove; None where a rule decided that
    removed: float
    model_key: str
    metric: str  # what the scores are, as in the table
    validation: float  # score on the validation split; may be NaN
    validation_images: int
    test: float | None  # score on the test split; None if not measured
    test_images: int
    names_one_class: bool = False  # on the whole test split
    trained_epochs: int | None = None  # epochs on the target behind this model; None where no row says so
    setting: str = ""  # of the spec's [tuning], as JSON; empty without it
    best_of: int = 1  # how many settings it was chosen from by validation; 1 if nothing was chosen
    is_end: bool = True  # whether it is the last of its trial's path


@dataclass(frozen=True)
class Arm:
    """One arm at one asked budget of one problem, over its seeds."""

    problem: Problem
    name: str
    label: str  # what the spec calls it, which several arms can have
    method: str
    asked: float | None  # share of the MACs to remove; None where a rule decided that
    removed: float  # mean share of the MACs that was really removed
    metric: str  # what the scores are
    validation: Mean  # score on the validation split over seeds, without seeds whose score is not a number
    test: Mean  # the same on the test split
    test_by_seed: dict[int, float]
    validation_by_seed: dict[int, float]
    models_by_seed: dict[int, frozenset[str]]
    points: tuple[Point, ...]  # of its trials, one of each
    not_finite: int  # trials whose validation score is not a number
    failed: Counter[int]  # seed -> its trials that failed or whose test score is not a number; they are in no mean
    test_images: frozenset[int]
    environments: frozenset[Environment]
    best_of: frozenset[int]  # how many settings each of its points was chosen from by validation
    trained_epochs: float | None = None  # mean epochs on the target behind its models; None where a point does not say
    rank: int | None = None  # by validation score within the problem, from 1; None without one, or if trials failed

    def __str__(self) -> str:
        return at_budget(self.name, self.asked)

    @property
    def record(self) -> dict[str, Any]:
        """The columns that name it in a table, and those of its scores."""
        return {
            **self.problem.record, "metric": self.metric, "label": self.label, "arm": self.name,
            "asked_removed_macs_fraction": self.asked, "removed_macs_fraction": self.removed,
            "score": self.test.mean, "score_low": self.test.low, "score_high": self.test.high,
            "validation_score": self.validation.mean, "seeds": len(self.test_by_seed),
        }  # fmt: skip

    @property
    def is_mixed(self) -> bool:
        """Whether its trials were computed on several kinds of hardware, ranks or torch versions."""
        return len(self.environments) > 1


@dataclass(frozen=True)
class Pairing:
    """Two arms compared seed by seed, in one problem or averaged over several (`problem` is None then).

    `first` and `second` are the names of the arms at their budgets; `arm` and `asked` (a fraction or None) are the
    first's.
    `first_best_of` and `second_best_of`: from how many settings of [tuning] the points were chosen.
    `failed`: how many trials of both failed: they may have failed where they would have scored badly.
    `trained_longer`: whether the first has trained for more epochs on the target than the second, in any problem.
    """

    problem: Problem | None
    first: str
    second: str
    arm: str
    asked: float | None
    metric: str
    result: Paired
    first_models: frozenset[str]
    second_models: frozenset[str]
    first_best_of: frozenset[int]
    second_best_of: frozenset[int]
    problems: int = 1
    failed: int = 0
    trained_longer: bool = False
    pairs: tuple[tuple[Arm, Arm], ...] = ()

    @property
    def p_of_family(self) -> float | None:
        """The p that enters a correction; None without pairs."""
        return self.result.largest_p

    @property
    def tuning_budgets_differ(self) -> bool:
        """Whether the arms were chosen from different numbers of settings, so that the comparison is not fair."""
        return len(self.first_best_of | self.second_best_of) > 1

    @property
    def doubts(self) -> list[str]:
        """The reasons why this does not settle which arm is better; empty if it does."""
        reasons = []
        if self.tuning_budgets_differ:
            reasons.append(
                f"the tuning budgets are not equal: the best of {_counts(self.first_best_of)} settings by validation"
                f" against the best of {_counts(self.second_best_of)}"
            )
        return reasons + doubts(self.result)


def points_of(run: Run) -> list[Point]:
    """Return the operating points that are compared, those with `is_compared`.

    Raises:
        ResultsError: those of a problem have several metrics, so that no two arms can be compared; or several runs have
            other images under one name.
    """
    refuse_other_images(run)
    points = [_point(row) for row in run.rows(POINTS_OF_ARMS)]
    metrics: dict[Problem, str] = {}
    for point in points:
        metric = metrics.setdefault(point.problem, point.metric)
        if metric != point.metric:
            raise ResultsError(
                f"{point.problem} has points by {metric} and by {point.metric}, which cannot be compared: give runs of "
                "one metric"
            )
    return points


def environments_of(run: Run) -> EnvironmentsByTrial:
    """Return the environments that computed the stages of each trial, by trial id."""
    by_trial: dict[str, set[Environment]] = {}
    for row in run.rows(ENVIRONMENTS_OF_TRIALS):
        environment = Environment(row["device"], row["ranks"], row["torch_version"])
        by_trial.setdefault(row["trial_id"], set()).add(environment)
    return {trial_id: frozenset(environments) for trial_id, environments in by_trial.items()}


def arms_of(
    points: Iterable[Point],
    environments: EnvironmentsByTrial,
    failed: Mapping[tuple[Problem, str], Counter[int]] | None = None,
) -> list[Arm]:
    """Return all arms, sorted by problem and by rank within each; `failed` counts failed trials by arm and seed."""
    groups: dict[tuple[Problem, str, str, float | None], list[Point]] = {}
    for point in points:
        groups.setdefault((point.problem, point.arm, point.method, point.asked), []).append(point)
    failed = failed or {}
    arms = []
    for (problem, name, *_), group in groups.items():
        arms.append(arm_of(group, environments, failed.get((problem, name), Counter())))
    arms.sort(key=lambda arm: (arm.problem, best_first(arm), arm.name, budget_order(arm.asked)))
    return _rank(arms)


def budget_order(asked: float | None) -> tuple[bool, float]:
    """Sort key of asked budgets; those that a rule decided come last."""
    return asked is None, -1.0 if asked is None else asked


def compare(pairs: Sequence[tuple[Arm, Arm]]) -> Pairing:
    """Compare the first arms with the second ones, seed by seed on the test split.

    Several pairs are averaged within each seed, all with the same weight, over the seeds that each of them has:
    networks and data sets are given, only seeds are drawn.

    Args:
        pairs: at least one. Several should be the same two arms in different problems.

    Raises:
        ValueError: the pairs have different metrics, so that their differences have no common mean.
    """
    first_arms = [first for first, _ in pairs]
    second_arms = [second for _, second in pairs]
    both = first_arms + second_arms
    metrics = {arm.metric for arm in both}
    if len(metrics) > 1:
        raise ValueError(f"expected pairs of one metric, given {', '.join(sorted(metrics))}: pool them apart")
    first_scores = mean_by_seed(first_arms)
    second_scores = mean_by_seed(second_arms)
    seeds = first_scores.keys() & second_scores.keys()
    all_seeds: set[int] = set()
    for arm in both:
        all_seeds.update(arm.test_by_seed)
    failed: dict[tuple[Problem, str], Counter[int]] = {}
    for arm in both:  # one can be in several pairs, or at two budgets, of which one has scores that are not numbers
        failed[arm.problem, arm.name] = failed.get((arm.problem, arm.name), Counter()) | arm.failed
    lost = {seed for of_arm in failed.values() for seed in of_arm}
    return Pairing(
        problem=first_arms[0].problem if len(pairs) == 1 else None,
        first=str(first_arms[0]),
        second=str(second_arms[0]),
        arm=first_arms[0].name,
        asked=first_arms[0].asked,
        metric=first_arms[0].metric,
        result=replace(compare_pairs(first_scores, second_scores, lost), unpaired=len(all_seeds) - len(seeds)),
        first_models=_models_of(first_arms, seeds),
        second_models=_models_of(second_arms, seeds),
        first_best_of=_best_of(first_arms),
        second_best_of=_best_of(second_arms),
        problems=len(pairs),
        failed=sum(of_arm.total() for of_arm in failed.values()),
        pairs=tuple(pairs),
        trained_longer=any(is_shorter(second, first) for first, second in pairs),
    )


def is_shorter(control: Arm, arm: Arm) -> bool:
    """Whether the control has trained for fewer epochs on the target; no if the rows do not say."""
    if control.trained_epochs is None or arm.trained_epochs is None:
        return False
    return control.trained_epochs < arm.trained_epochs - 1e-9


def mean_by_seed(arms: Sequence[Arm]) -> dict[int, float]:
    """Average the test scores of each seed over arms of several problems; only seeds that all of them have."""
    seeds = set(arms[0].test_by_seed).intersection(*(arm.test_by_seed for arm in arms))
    means = {}
    for seed in sorted(seeds):
        means[seed] = math.fsum(arm.test_by_seed[seed] for arm in arms) / len(arms)
    return means


def _models_of(arms: Sequence[Arm], seeds: Iterable[int]) -> frozenset[str]:
    models: set[str] = set()
    for seed in seeds:
        for arm in arms:
            models |= arm.models_by_seed[seed]
    return frozenset(models)


def _best_of(arms: Sequence[Arm]) -> frozenset[int]:
    counts: set[int] = set()
    for arm in arms:
        counts |= arm.best_of
    return frozenset(counts)


def baseline_pairs(arms: Sequence[Arm]) -> list[tuple[Arm, Arm]]:
    """Pair each arm with full fine-tuning of its problem, by name; problems without it are left out."""
    problems = {arm.problem for arm in arms}
    baselines = {problem: baseline_of(arms, problem) for problem in problems}
    pairs = []
    for arm in sorted(arms, key=lambda arm: (arm.problem, arm.name, budget_order(arm.asked))):
        baseline = baselines[arm.problem]
        if baseline is not None and arm is not baseline:
            pairs.append((arm, baseline))
    return pairs


def baseline_of(arms: Sequence[Arm], problem: Problem) -> Arm | None:
    """Choose full fine-tuning: of the label of that name, else of the first with that method, at the smallest budget.

    Of several arms with that label, as with several learning rates, it is the best by validation.
    """
    return next(iter(baselines_of(arms, problem)), None)


def baselines_of(arms: Sequence[Arm], problem: Problem) -> list[Arm]:
    """Return all arms of full fine-tuning (for example with other epochs), those of the label of that name first.

    Of one label, they are in the order of their validation scores, the best first.
    """
    baselines = [arm for arm in arms if arm.problem == problem and arm.method == BASELINE]
    return sorted(
        baselines,
        key=lambda arm: (
            arm.label != BASELINE, arm.label, budget_order(arm.asked), best_first(arm), arm.name,
        ),
    )  # fmt: skip


def best_first(arm: Arm) -> float:
    """Sort key: the largest mean validation score first, but for rounding; arms without one last."""
    return math.inf if arm.validation.mean is None else -round(arm.validation.mean, 12)


def best_test_first(arm: Arm) -> float:
    """Sort key: the largest mean test score first; arms without one last."""
    return math.inf if arm.test.mean is None else -arm.test.mean


def transtailor_at(arms: Sequence[Arm], asked: float) -> list[Arm]:
    """Return TransTailor's arms at a budget, those of the label of that name first."""
    at_budget = [
        arm
        for arm in arms
        if arm.method == TRANSTAILOR and arm.asked is not None and math.isclose(arm.asked, asked, abs_tol=1e-6)
    ]
    return sorted(at_budget, key=lambda arm: arm.label != TRANSTAILOR)


def _point(row: dict[str, Any]) -> Point:
    asked = row["asked_removed_macs_fraction"]
    by_rule = asked is None or math.isnan(asked)
    return Point(
        problem=Problem.of(row),
        label=row["label"],
        arm=row["arm"],
        method=row["method"],
        seed=row["seed"],
        trial_id=row["trial_id"],
        point=row["point"],
        asked=None if by_rule else round(asked, 9),
        removed=row["removed_macs_fraction"],
        model_key=row["model_key"],
        metric=row["metric"],
        validation=row["validation_score"],
        validation_images=row["validation_images"],
        test=row["test_score"],
        test_images=row["test_images"],
        names_one_class=bool(row["names_one_class"]),
        trained_epochs=row["trained_epochs"],
        setting=row["tuning_json"],
        best_of=row["best_of"],
        is_end=bool(row["is_end"]),
    )


def arm_of(points: Sequence[Point], environments: EnvironmentsByTrial, failed: Counter[int] | None = None) -> Arm:
    """Return the arm of these points, one for each trial; it is named by the first and has no rank."""
    models: dict[int, set[str]] = {}
    environments_of_arm: set[Environment] = set()
    for point in points:
        models.setdefault(point.seed, set()).add(point.model_key)
        environments_of_arm |= environments.get(point.trial_id, frozenset())
    test = _seed_means((point.seed, point.test) for point in points)
    validation = _seed_means((point.seed, point.validation) for point in points)
    epochs = [point.trained_epochs for point in points if point.trained_epochs is not None]
    return Arm(
        problem=points[0].problem,
        name=points[0].arm,
        label=points[0].label,
        method=points[0].method,
        asked=points[0].asked,
        removed=math.fsum(point.removed for point in points) / len(points),
        metric=points[0].metric,
        validation=mean_interval(list(validation.values())),
        test=mean_interval(list(test.values())),
        test_by_seed=test,
        validation_by_seed=validation,
        models_by_seed={seed: frozenset(keys) for seed, keys in models.items()},
        points=tuple(points),
        not_finite=sum(not math.isfinite(point.validation) for point in points),
        failed=(failed or Counter())
        + Counter(point.seed for point in points if point.test is not None and not math.isfinite(point.test)),
        test_images=frozenset(point.test_images for point in points if point.test is not None),
        environments=frozenset(environments_of_arm),
        best_of=frozenset(point.best_of for point in points),
        trained_epochs=math.fsum(epochs) / len(points) if len(epochs) == len(points) else None,
    )


def _seed_means(values: Iterable[tuple[int, float | None]]) -> dict[int, float]:
    """Average each seed's finite values."""
    by_seed: dict[int, list[float]] = {}
    for seed, value in values:
        if value is not None and math.isfinite(value):
            by_seed.setdefault(seed, []).append(value)
    return {seed: math.fsum(of_seed) / len(of_seed) for seed, of_seed in sorted(by_seed.items())}


def _rank(arms: list[Arm]) -> list[Arm]:
    """Return the arms with their ranks; equal scores share a rank, and arms with failed trials have none."""
    keys: dict[Problem, list[float]] = {}  # sorted, as the arms are
    for arm in arms:
        if arm.validation.mean is not None and not arm.failed:
            keys.setdefault(arm.problem, []).append(best_first(arm))
    ranked = []
    for arm in arms:
        if arm.validation.mean is None or arm.failed:
            ranked.append(arm)
        else:
            ranked.append(replace(arm, rank=1 + bisect_left(keys[arm.problem], best_first(arm))))
    return ranked


def _counts(best_of: frozenset[int]) -> str:
    return " or ".join(str(count) for count in sorted(best_of))
