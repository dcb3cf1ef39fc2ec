"""How many trials a sweep with [settle] takes, at least and at most: lines for a person."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from results.statistics.sequential import FEWEST_FOR_EQUAL, Design
from sweeps.planning.cost import cost_of
from sweeps.planning.plan import Plan
from sweeps.settle.family import PlannedComparison, needed_trials, planned_comparisons
from sweeps.settle.run_settle import whole_plan
from sweeps.spec.spec import Spec
from tailor.execution.dry_run import PlannedStage
from transtailor.plural import counted

WorkOf = Callable[[PlannedStage, str], float]


def seed_lines(spec: Spec, work_of: WorkOf, time_text: Callable[[float], str] | None) -> Iterator[str]:
    """Say how many comparisons share alpha, when they are looked at, and how many trials run.

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
        f"settle    {counted(len(comparisons), 'comparison')} with {comparisons[0].comparison.against}, looked at"
        f" after {looks} seeds; alpha = {settle.alpha:g} for all together, {settle.matters:g} matters"
    )
    if settle.most_seeds < FEWEST_FOR_EQUAL:
        yield f"          no difference that matters: never found here, as it takes {FEWEST_FOR_EQUAL} seeds or more"
    design = Design(settle.looks, settle.alpha, settle.matters, len(comparisons))
    fewest = design.fewest_seeds
    least = _trials_until(plan, comparisons, fewest or settle.most_seeds)
    most = _trials_until(plan, comparisons, settle.most_seeds)
    if fewest is None:
        yield "          no look can settle any of them: give looks more seeds"
    elif fewest > settle.looks[0]:
        yield f"          fewer than {fewest} seeds cannot settle any of them"
    text = f"          {len(least.trials)} trials at least, {len(most.trials)} at most"
    if time_text is not None:
        least_s = cost_of(least.trials, _is_cached, work_of).work_shared
        most_s = cost_of(most.trials, _is_cached, work_of).work_shared
        text += f", one after the other {time_text(least_s)} to {time_text(most_s)}"
    yield f"{text}; above is what runs first"


def _is_cached(_key: str) -> bool:
    return False


def _trials_until(plan: Plan, comparisons: Sequence[PlannedComparison], seeds: int) -> Plan:
    ids = needed_trials(comparisons, range(seeds))
    return replace(plan, trials=tuple(trial for trial in plan.trials if trial.trial_id in ids))
