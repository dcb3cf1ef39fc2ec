"""How many trials a sweep with [settle] has at least and at most: lines for a person."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from sweeps.planning.plan import Plan, cost_of
from sweeps.settle.family import PlannedComparison, needed_trials, planned_comparisons
from sweeps.settle.run_settle import whole_plan
from sweeps.spec.spec import Spec
from tailor.execution.dry_run import PlannedStage


def seed_lines(
    spec: Spec, work_of: Callable[[PlannedStage, str], float], time_text: Callable[[float], str] | None
) -> Iterator[str]:
    """Say how many comparisons share alpha, when they are looked at, and how many trials run at least and at most.

    Args:
        work_of: as in `cost_of`.
        time_text: writes a work as a time; None: work is not in seconds.
    """
    settle = spec.settle
    assert settle is not None
    plan = whole_plan(spec)
    comparisons = planned_comparisons(plan, settle, spec.where)
    looks = ", ".join(str(seeds) for seeds in settle.looks)
    yield (
        f"settle    {len(comparisons)} comparisons with {comparisons[0].comparison.against}, looked at after {looks} "
        f"seeds; alpha = {settle.alpha:g} for all together, {settle.matters:g} matters"
    )
    least = _trials_until(plan, comparisons, settle.looks[0])
    most = _trials_until(plan, comparisons, settle.most_seeds)
    text = f"          {len(least.trials)} trials at least, {len(most.trials)} at most"
    if time_text is not None:
        least_s = cost_of(least.trials, lambda _key: False, work_of).work_shared
        most_s = cost_of(most.trials, lambda _key: False, work_of).work_shared
        text += f", one after the other {time_text(least_s)} to {time_text(most_s)}"
    yield f"{text}; above is what runs first"


def _trials_until(plan: Plan, comparisons: Sequence[PlannedComparison], seeds: int) -> Plan:
    ids = needed_trials(comparisons, range(seeds))
    return replace(plan, trials=tuple(trial for trial in plan.trials if trial.trial_id in ids))
