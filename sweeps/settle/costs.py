"""How many trials a sweep with [settle] takes: at least, at most, and on average for assumed or measured effects."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from results.arms.looks import Comparison, RecordedLook, last_looks
from results.statistics.sequential import FEWEST_FOR_EQUAL, Design
from results.statistics.sequential_plan import expected_seeds
from results.store.reader import load
from sweeps.errors import SpecError
from sweeps.planning.cost import cost_of
from sweeps.planning.plan import Plan
from sweeps.settle.family import PlannedComparison, needed_trials, planned_comparisons
from sweeps.settle.run_settle import whole_plan
from sweeps.spec.settle_settings import SettleSettings
from sweeps.spec.spec import Spec
from tailor.execution.dry_run import PlannedStage
from transtailor.files import is_there
from transtailor.plural import counted

WorkOf = Callable[[PlannedStage, str], float]


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """What a plan assumes of the differences, in the unit of the score; None: as measured in the run."""

    effect: float | None = None  # the true mean
    deviation: float | None = None  # the standard deviation

    def __post_init__(self) -> None:
        if self.deviation is not None and self.deviation <= 0:
            raise SpecError(f"--deviation {self.deviation:g}: expected more than 0, such as 0.014")


def seed_lines(
    spec: Spec, work_of: WorkOf, time_text: Callable[[float], str] | None, run: Path, assumed: Assumed
) -> Iterator[str]:
    """Say how many comparisons share alpha, when they are looked at, and how many trials run.

    Args:
        work_of: as in `cost_of`.
        time_text: writes a work as a time; None: work is not in seconds.
        run: folder of the run, which may not exist; its looks have measured differences.

    Raises:
        SpecError: an effect is assumed without a deviation, and none was measured.
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
    shares = _open_shares(comparisons, design, run, assumed)
    if not shares:
        yield "          for a number that is expected, type --effect 0.01 --deviation 0.014, for example"
        return
    yield from _expected_lines(most, comparisons, settle, shares, work_of, time_text, assumed)


def _is_cached(_key: str) -> bool:
    return False


def _trials_until(plan: Plan, comparisons: Sequence[PlannedComparison], seeds: int) -> Plan:
    ids = needed_trials(comparisons, range(seeds))
    return replace(plan, trials=tuple(trial for trial in plan.trials if trial.trial_id in ids))


def _open_shares(
    comparisons: Sequence[PlannedComparison], design: Design, run: Path, assumed: Assumed
) -> dict[Comparison, tuple[float, ...]]:
    """Return the share of sweeps in which each comparison is open before each look; empty if nothing is known."""
    measured: Mapping[Comparison, RecordedLook] = {}
    if is_there(run / "tables"):
        with load(run) as tables:
            measured = last_looks(tables)
    known: dict[tuple[float, float], tuple[float, ...]] = {}
    shares = {}
    for planned in comparisons:
        look = measured.get(planned.comparison)
        effect = assumed.effect
        deviation = assumed.deviation
        if look is not None and look.mean is not None and look.deviation:
            effect = look.mean if effect is None else effect
            deviation = look.deviation if deviation is None else deviation
        if effect is not None and deviation is None:
            raise SpecError(
                f"--effect {effect:g} needs the standard deviation of a difference, and {run} has measured none; type "
                "--deviation 0.014, for example"
            )
        if effect is None or deviation is None:
            continue
        if (effect, deviation) not in known:
            known[effect, deviation] = expected_seeds(effect, deviation, design).open_before
        shares[planned.comparison] = known[effect, deviation]
    return shares


def _expected_lines(
    most: Plan,
    comparisons: Sequence[PlannedComparison],
    settle: SettleSettings,
    shares: Mapping[Comparison, tuple[float, ...]],
    work_of: WorkOf,
    time_text: Callable[[float], str] | None,
    assumed: Assumed,
) -> Iterator[str]:
    """Say how many seeds and trials are expected, and their time: each counts as often as a comparison needs it."""
    chances: dict[str, float] = {}
    seeds = 0.0
    for planned in comparisons:
        shares_of_looks = shares.get(planned.comparison, (1.0,) * len(settle.looks))
        for seed in range(settle.most_seeds):
            share = shares_of_looks[bisect_right(settle.looks, seed)]
            seeds += share
            for trial_id in planned.trials_of(seed):
                chances[trial_id] = max(share, chances.get(trial_id, 0.0))
    work: dict[str, float] = {}
    for trial in most.trials:
        for stage in trial.stages:
            stage_work = chances[trial.trial_id] * work_of(stage, trial.settings.network)
            work[stage.key] = max(stage_work, work.get(stage.key, 0.0))
    basis = "as measured in the run so far"
    if assumed.effect is not None:
        basis = f"if each true difference is {assumed.effect:g}"
    seeds_each = seeds / len(comparisons)
    text = f"          {sum(chances.values()):.0f} trials expected, {seeds_each:.1f} seeds a comparison, {basis}"
    if time_text is not None:
        text += f": {time_text(sum(work.values()))} one after the other"
    yield text
