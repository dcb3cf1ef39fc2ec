"""The comparisons that a spec with [settle] asks for, and which trials each of them needs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from results.arms.comparison import budget_order
from results.arms.looks import Comparison
from results.arms.names import arms_called
from results.arms.problem import Problem
from sweeps.errors import SpecError
from sweeps.planning.plan import Plan, PlannedTrial
from sweeps.spec.settle_settings import SettleSettings
from transtailor.names import nearest

BUDGET_DIGITS = 9  # of a budget as tables have it

TrialsBySeed = Mapping[int, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class PlannedComparison:
    """A comparison with the trials that it needs, by seed."""

    comparison: Comparison
    trials: TrialsBySeed  # of the arm
    control_trials: TrialsBySeed

    def trials_of(self, seed: int) -> tuple[str, ...]:
        """Return the trials of both arms at a seed."""
        return self.trials[seed] + self.control_trials[seed]


@dataclass(frozen=True)
class _PlannedPoint:
    """An arm at a budget, with the trials that reach it."""

    asked: float | None
    trials: TrialsBySeed


PointsByArm = dict[tuple[Problem, str], list[_PlannedPoint]]


def planned_comparisons(plan: Plan, settle: SettleSettings, where: str) -> list[PlannedComparison]:
    """Return all comparisons, by problem, budget and arm.

    An arm with budgets is compared at those of `at`, an arm without any as it is. What it is compared with is at the
    same budget, if it reaches it, and at its smallest otherwise.

    Args:
        plan: with the trials of all looks.
        where: the spec, for messages.

    Raises:
        SpecError: no such arm to compare with, a budget that no arm reaches, an arm without a comparison, or one that
            lacks seeds.
    """
    points = _points_of(plan.trials)
    # Name of the arm that is meant: that of this name, or the only one with this label
    label_of_arm = {trial.arm: trial.label for trial in plan.trials}
    meant = arms_called(settle.against, label_of_arm)
    if not meant:
        hint = nearest(settle.against, sorted(label_of_arm))
        raise SpecError(f"{where} [settle] against: no arm is called {settle.against!r}{hint}")
    if len(meant) > 1:
        listed = "\n".join(f"  {name}" for name in meant)
        raise SpecError(
            f"{where} [settle] against: {settle.against!r} is the label of {len(meant)} arms; type the name of one:"
            f"\n{listed}"
        )
    against = meant[0]
    reached = {point.asked for points_of_an_arm in points.values() for point in points_of_an_arm if point.asked}
    for budget in settle.at:
        if round(budget, BUDGET_DIGITS) not in reached:
            known = ", ".join(f"{budget:g}" for budget in sorted(reached)) or "none"
            raise SpecError(f"{where} [settle] at: no arm reaches {budget:g} of the MACs; budgets are: {known}")
    comparisons = []
    for (problem, arm), points_of_arm in points.items():
        if arm == against:
            continue
        control_points = points.get((problem, against))
        if control_points is None:
            raise SpecError(
                f"{where} [settle] against: {against!r} has no trials of {problem}, so nothing is compared there; give "
                "it the same networks and data sets as the other arms"
            )
        for point in _compared_points(arm, points_of_arm, settle.at, where):
            control = next((at for at in control_points if point.asked and at.asked == point.asked), control_points[0])
            comparison = Comparison(problem, arm, point.asked, against, control.asked)
            planned = PlannedComparison(comparison=comparison, trials=point.trials, control_trials=control.trials)
            _refuse_missing_seeds(planned, settle.most_seeds, where)
            comparisons.append(planned)
    if not comparisons:
        raise SpecError(f"{where} [settle] against: {against!r} is the only arm; add [[variants]] to compare it with")
    return sorted(comparisons, key=lambda planned: planned.comparison.order)


def needed_trials(comparisons: Iterable[PlannedComparison], seeds: Iterable[int]) -> set[str]:
    """Return the ids of the trials that these comparisons need at these seeds."""
    of_seeds = list(seeds)
    needed: set[str] = set()
    for planned in comparisons:
        for seed in of_seeds:
            needed.update(planned.trials_of(seed))
    return needed


def _points_of(trials: Iterable[PlannedTrial]) -> PointsByArm:
    """Return the points that each arm reaches in each problem, by budget."""
    ids: dict[tuple[Problem, str], dict[float | None, dict[int, list[str]]]] = {}
    for trial in trials:
        settings = trial.settings
        problem = Problem(settings.network, settings.dataset, trial.train_images or 0)
        of_arm = ids.setdefault((problem, trial.arm), {})
        own_points = [stage for stage in trial.points if trial.arm_of(stage.point) == trial.arm]
        for asked in {stage.asked_removed_macs_fraction for stage in own_points}:
            budget = None if asked is None else round(asked, BUDGET_DIGITS)
            of_arm.setdefault(budget, {}).setdefault(settings.seed, []).append(trial.trial_id)
    points: PointsByArm = {}
    for key, of_arm in ids.items():
        points[key] = []
        for asked in sorted(of_arm, key=budget_order):
            trials_by_seed = {seed: tuple(trial_ids) for seed, trial_ids in of_arm[asked].items()}
            points[key].append(_PlannedPoint(asked, trials_by_seed))
    return points


def _compared_points(arm: str, points: Sequence[_PlannedPoint], at: Sequence[float], where: str) -> list[_PlannedPoint]:
    """Return the points at which an arm is compared: those at the budgets, or its only one."""
    budgets = [point.asked for point in points if point.asked]
    if not budgets:
        return [points[-1]]
    compared = [point for point in points if point.asked in [round(budget, BUDGET_DIGITS) for budget in at]]
    if not compared:
        known = ", ".join(f"{budget:g}" for budget in budgets)
        raise SpecError(
            f"{where} [settle] at: {arm!r} is compared nowhere, because it reaches {known} of the MACs; type at = "
            f"[{known}], or leave the arm out"
        )
    return compared


def _refuse_missing_seeds(planned: PlannedComparison, most_seeds: int, where: str) -> None:
    for seed in range(most_seeds):
        if seed not in planned.trials or seed not in planned.control_trials:
            raise SpecError(
                f"{where} [[exclude]]: {planned.comparison} has no trials with seed {seed}; [settle] adds the same "
                "seeds to all arms, so exclude no seeds"
            )
