"""How long a plan takes, as `plan` says it: by which measurements, as a range where they are of other networks."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from results.sharing import ONE_SCRIPT
from results.text.page import Note, Part, Shown, TableRecord, answer_table
from sweeps.planning.cost import PlanCost, cost_of
from sweeps.planning.durations import OTHER_NETWORK, Durations
from sweeps.planning.forecast import Capacity, Forecast, forecasts, timed_trials
from sweeps.planning.measured_steps import MeasuredSteps
from sweeps.planning.plan import Plan, PlannedTrial, choose_probe
from tailor.execution.dry_run import PlannedStage
from transtailor.lines import lines_of
from transtailor.shell import rerun


def probe(
    plan: Plan, command: Sequence[str] | None, not_measured: Callable[[PlannedTrial], Collection[object]] | None = None
) -> str:
    """Say how to measure the durations of stages; empty if no command was typed, or the plan grows.

    Args:
        command: the words that were typed, with `--plan`.
        not_measured: as of `choose_probe`.
    """
    if command is None or plan.grows is not None:
        return ""
    words = [word for word in command if word != "--plan"]
    trial_id = choose_probe(plan.trials, not_measured).trial_id
    name = f"{plan.name}_probe_{trial_id[:6]}"  # so that a run of another plan's trial does not have it
    one_trial = rerun(words, "--only", trial_id, "--name", name)
    return f"; to measure one trial, type:\n          {one_trial}"


@dataclass(frozen=True)
class Estimate:
    """The time of the unfinished part of a plan."""

    plan: Plan
    durations: Durations | MeasuredSteps
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
                f"{probe(self.plan, command, self._scaled_in)}"
            )
            return
        distinct = {stage.key for trial in self.plan.trials for stage in trial.stages}
        same = len(distinct & durations.measured_s.keys())
        yield (
            f"time      from {len(durations.measured_s)} stages that {', '.join(durations.runs)} measured on "
            f"{durations.device}; {same} of the {len(distinct)} stages here are among them"
        )
        kinds = durations.kinds_not_measured(self.plan.trials)
        others_of = {(network, kind): durations.others(kind, network) for network, kind in self.scaled()}
        scaled = sorted({network for (network, _), others in others_of.items() if others})
        if kinds:
            is_range = ", so the end is a range" if others_of and not scaled else ""
            yield f"          not measured, assumed as fast as the mean of all others: {', '.join(kinds)}{is_range}"
        if scaled:
            measured = sorted(set().union(*others_of.values()))
            yield from lines_of(
                f"          SCALED by MACs from {', '.join(measured)}: "
                f"{', '.join(scaled)}; for equal MACs one network may take {OTHER_NETWORK:g} times as long as another, "
                f"so the end is a range{probe(self.plan, command, self._scaled_in)}"
            )

    def table(self, capacity: Capacity) -> Iterator[Part]:
        """Yield the table of the expected end and hours for each number of workers; as ranges where they are scaled."""
        from sweeps.driver.display import time_text  # imports rich, which is only needed here

        expected = self._forecasts(capacity, self.durations.seconds)
        least = most = expected
        if self.scaled():
            least = self._forecasts(capacity, self.durations.least_s)
            most = self._forecasts(capacity, self.durations.most_s)
        records = []
        for at_least, forecast, at_most in zip(least, expected, most, strict=True):
            records.append({
                "workers": forecast.workers, "end_least_s": at_least.earliest_s, "end_most_s": at_most.latest_s,
                "unit": capacity.unit, "hours_least": at_least.unit_hours, "hours_most": at_most.unit_hours,
                "limited_by": forecast.limited_by,
            })  # fmt: skip
        shown = (
            Shown("workers", f"{capacity.worker}s"),
            Shown(
                "end_least_s",
                "ends after",
                lambda one: _range(one, "end_least_s", "end_most_s", time_text),
                is_text=True,
            ),
            Shown(
                "hours_least",
                f"{capacity.unit}-hours",
                lambda one: _range(one, "hours_least", "hours_most", _hours_text),
            ),
            "limited_by",
        )
        yield ""
        yield answer_table("plan", records, "times", shown=shown)
        if capacity.start_s:
            yield Note("excludes queue time")

    def _bill(self) -> str:
        """Say in a line, as the report does of a run, what all trials cost, and what they would without sharing."""
        costs = [self.cost]
        if isinstance(self.durations, MeasuredSteps) or self.scaled():
            ends = self.durations.least_s, self.durations.most_s
            costs = [cost_of(self.plan.trials, self.is_cached, seconds_of) for seconds_of in ends]
        hours_per_s = self.plan.resources.ranks / 3600
        apart = _joined(*(_hours_text(cost.baselines.one_script.separate * hours_per_s) for cost in costs))
        if self.plan.private_cache:
            return f"bill      {apart} rank-hours, as nothing is shared"
        shared = _joined(*(_hours_text(cost.work_shared * hours_per_s) for cost in costs))
        return f"bill      {shared} rank-hours for all trials, what is cached included; {ONE_SCRIPT}: {apart}"

    def scaled(self) -> set[tuple[str, str]]:
        """Return network and kind of the unfinished stages whose seconds are those of others, scaled."""
        return set().union(*map(self._scaled_in, self.plan.trials))

    def _scaled_in(self, trial: PlannedTrial) -> set[tuple[str, str]]:
        network = trial.settings.network
        left = () if trial.trial_id in self.finished else trial.stages
        return {
            (network, stage.kind)
            for stage in left
            if not self.is_cached(stage.key) and self.durations.is_scaled(stage, network)
        }

    def _forecasts(self, capacity: Capacity, seconds_of: Callable[[PlannedStage, str], float]) -> list[Forecast]:
        left = timed_trials(self.plan, seconds_of, lambda trial: trial.trial_id in self.finished, self.is_cached)
        return forecasts(left, capacity)


def _hours_text(hours: float) -> str:
    return f"{hours:.3g}" if hours < 1000 else f"{hours:,.0f}"


def _range(record: TableRecord, least: str, most: str, write: Callable[[float], str]) -> str:
    """Write the values of these two columns; once, if they look equal."""
    return _joined(write(record[least]), write(record[most]))


def _joined(*texts: str) -> str:
    return " to ".join(dict.fromkeys(texts))
