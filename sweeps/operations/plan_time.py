"""How long a plan takes, as `plan` says it: by which measurements, and between which bounds."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from results.sharing import ONE_SCRIPT
from results.text.page import Note, Part, Shown, TableRecord, answer_table
from sweeps.planning.cost import PlanCost, cost_of
from sweeps.planning.hours import (
    OTHER_NETWORK,
    Capacity,
    MeasuredStages,
    MeasuredSteps,
    forecasts,
    seconds_left,
)
from sweeps.planning.plan import Plan, choose_probe
from tailor.execution.dry_run import PlannedStage
from transtailor.lines import lines_of
from transtailor.shell import rerun


def probe(plan: Plan, command: Sequence[str] | None) -> str:
    """Say how to measure the durations of stages; empty if no command was typed, or the plan grows.

    Args:
        command: the words that were typed, with `--plan`.
    """
    if command is None or plan.grows is not None:
        return ""
    words = [word for word in command if word != "--plan"]
    trial_id = choose_probe(plan.trials).trial_id
    name = f"{plan.name}_probe_{trial_id[:6]}"  # so that a run of another plan's trial does not have it
    one_trial = rerun(words, "--only", trial_id, "--name", name)
    return f"; to measure one trial, type:\n          {one_trial}"


@dataclass(frozen=True)
class Estimate:
    """The time of the unfinished part of a plan."""

    plan: Plan
    durations: MeasuredStages | MeasuredSteps
    finished: set[str]  # ids of trials
    is_cached: Callable[[str], bool]  # by a stage's key
    cost: PlanCost  # in seconds, if stages were measured

    def sources(self, command: Sequence[str] | None) -> Iterator[str]:
        """Yield from which measurements it is, and what is scaled; then the bill. `command` as of `probe`."""
        yield from self._measurements(command)
        if self.plan.grows is None:  # else its seeds or its search decide
            yield self._bill()

    def _measurements(self, command: Sequence[str] | None) -> Iterator[str]:
        durations = self.durations
        if isinstance(durations, MeasuredSteps):
            networks = ", ".join(durations.images_per_s)
            precisions = " and ".join(sorted(durations.precisions))
            yield from lines_of(
                f"time      SCALED by MACs and pixels from training steps of {networks} on one {durations.device}\n"
                f"          ({durations.settings}; {durations.page}) to\n"
                f"          {precisions}: a range, of computing alone, on such a card. Other cards were not measured"
                f"{probe(self.plan, command)}"
            )
            return
        distinct = {stage.key for trial in self.plan.trials for stage in trial.stages}
        same = len(distinct & durations.measured_s.keys())
        yield (
            f"time      from {len(durations.measured_s)} stages that {', '.join(durations.runs)} measured on "
            f"{durations.device}; {same} of the {len(distinct)} stages here are among them"
        )
        if self.is_scaled():
            yield from lines_of(
                "          SCALED by MACs for a network or a kind of stage that was not measured, which may take "
                f"{OTHER_NETWORK:g} times as long or as short: the end is a range{probe(self.plan, command)}"
            )

    def table(self, capacity: Capacity) -> Iterator[Part]:
        """Yield the table of the expected end, as bounds, and of the hours for each number of workers."""
        from sweeps.driver.display import time_text  # imports rich, which is only needed here

        least_of, most_of = self._ends()
        ways = least_of, self.durations.seconds, most_of  # the same where nothing is scaled
        by_way = [forecasts(*seconds_left(self.plan, way, self.finished, self.is_cached), capacity) for way in ways]
        records = []
        for least, forecast, most in zip(*by_way, strict=True):
            records.append({
                "workers": forecast.workers, "end_least_s": least.earliest_s, "end_most_s": most.latest_s,
                "unit": capacity.unit, "hours_least": least.unit_hours, "hours_most": most.unit_hours,
                "limited_by": forecast.limited_by,
            })  # fmt: skip

        def end_text(one: TableRecord) -> str:
            return _joined(time_text(one["end_least_s"]), time_text(one["end_most_s"]))

        def hours_text(one: TableRecord) -> str:
            return _joined(_hours_text(one["hours_least"]), _hours_text(one["hours_most"]))

        shown = (
            Shown("workers", f"{capacity.worker}s"),
            Shown("end_least_s", "ends after", end_text, is_text=True),
            Shown("hours_least", f"{capacity.unit}-hours", hours_text),
            "limited_by",
        )
        yield ""
        yield answer_table("plan", records, "times", shown=shown)
        if capacity.start_s:
            yield Note("excludes queue time")

    def _ends(self) -> tuple[Callable[[PlannedStage, str], float], Callable[[PlannedStage, str], float]]:
        """Return what has the least seconds of a stage, and what has the most."""
        range_s = self.durations.range_s
        return (lambda stage, network: range_s(stage, network)[0]), (lambda stage, network: range_s(stage, network)[1])

    def _bill(self) -> str:
        """Say in a line, as the report does of a run, what all trials cost, and what they would without sharing."""
        costs = [self.cost]
        if isinstance(self.durations, MeasuredSteps) or self.is_scaled():
            costs = [cost_of(self.plan.trials, self.is_cached, seconds_of) for seconds_of in self._ends()]
        hours_per_s = self.plan.resources.ranks / 3600
        apart = _joined(*(_hours_text(cost.baselines.one_script.separate * hours_per_s) for cost in costs))
        if self.plan.private_cache:
            return f"bill      {apart} rank-hours, as nothing is shared"
        shared = _joined(*(_hours_text(cost.work_shared * hours_per_s) for cost in costs))
        return f"bill      {shared} rank-hours for all trials, what is cached included; {ONE_SCRIPT}: {apart}"

    def is_scaled(self) -> bool:
        """Whether the seconds of some unfinished stages are those of others, scaled."""
        for trial in self.plan.trials:
            for stage in trial.stages if trial.trial_id not in self.finished else ():
                least_s, most_s = self.durations.range_s(stage, trial.settings.network)
                if least_s < most_s and not self.is_cached(stage.key):
                    return True
        return False


def _hours_text(hours: float) -> str:
    return f"{hours:.3g}" if hours < 1000 else f"{hours:,.0f}"


def _joined(*texts: str) -> str:
    """Write both ends of a range; once, if they look equal."""
    return " to ".join(dict.fromkeys(texts))
