"""The figures of a run by name: `run.plot.front()`."""

from collections.abc import Callable, Mapping
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec

from results.arms.findings import Findings, findings_of
from results.arms.fronts import DEVICE_HOURS, TIMED
from results.arms.printed_verdicts import judge
from results.arms.problem import Problem
from results.errors import ResultsError
from results.questions import (
    compare,
    costs,
    effects,
    front_figure,
    layers,
    learning,
    printed,
    settled,
)
from results.questions.front_figure import Means
from results.questions.layers import Figures
from results.render.chart import Chart
from results.store.reader import Run
from transtailor.names import did_you_mean

_COSTS = ("macs", "params", DEVICE_HOURS, *TIMED)


class Plots:
    """Figures of a run. Each method returns a `Chart`; `chart.save("front.pdf")` writes it.

    Where a run has several problems (a network on a data set), a figure of one takes what tells it apart: `network`,
    `dataset`, `train_images`. A figure for which the run has no rows raises ResultsError. A trial in several runs
    counts once.
    """

    def __init__(self, run: Run) -> None:
        self._run = run.counted_once()

    def front(self, *, score: str = "test", cost: str = "macs", log: bool = False) -> Chart:
        """Draw score against cost: operating points, means with 95% t intervals, paths, and the front.

        Example:
            run.plot.front(score="validation", cost="params", log=True).save("front.svg")

        Args:
            score: "test" or "validation".
            cost: "macs", "params", "device_hours", "latency_ms" or "peak_memory_bytes".
            log: whether the cost has a logarithmic axis.
        """
        scores = {short: column for column, short in front_figure.SCORES.items()}
        if score not in scores:
            raise ResultsError(f"score {score!r}: {did_you_mean(score, scores)}expected {' or '.join(scores)}")
        costs = dict.fromkeys((*_COSTS, *(cost for _, cost in self._means)))
        if cost not in costs:
            raise ResultsError(f"cost {cost!r}: {did_you_mean(cost, costs)}expected one of {', '.join(costs)}")
        if (scores[score], cost) not in self._means:
            raise ResultsError(
                f"no operating point has a {cost}; to time the sub-models, type: {self._run.to_type('time')}"
            )
        chart = front_figure.front_chart(self._findings, self._means, score=scores[score], cost=cost, log=log)
        return _present(chart, "test scores")

    def differences(self, **problem: str | int) -> Chart:
        """Draw all arms against full fine-tuning, paired by seed, at each budget."""
        chart = compare.chart(self._findings, self._problem(problem))
        return _present(chart, "arms to compare with full fine-tuning")

    def settled(self, **problem: str | int) -> Chart:
        """Draw the path of each interval over the looks of a run with [settle], with the boundary."""
        return _present(settled.chart(self._findings, self._problem(problem)), "looks")

    def effects(self, **problem: str | int) -> Chart:
        """Draw what each value of a setting changes, over trials that differ in it alone, at the report's budget."""
        found = effects.at_usual_budget(self._findings)
        chart = effects.chart(self._findings, self._problem(problem), found)
        return _present(chart, "trials that differ in one setting alone")

    def learning_curves(self, **problem: str | int) -> Chart:
        """Draw training curves of each kind of stage: median and quartiles over stages."""
        charts = learning.learning_curves(self._findings)
        return _present(charts.get(self._problem(problem)), "epochs")

    def widths(self, **problem: str | int) -> Chart:
        """Draw the filters left in each layer, arm by arm."""
        return self._of_layers(layers.widths, "widths", problem)

    def over_data(self, network: str) -> Chart:
        """Draw the filters that one arm left in each layer of a network, by data set (TransTailor's Figure 4)."""
        charts = layers.over_data(self._findings, network)
        return _present(charts.get("over-data"), "arm that pruned it on two data sets")

    def kept_filters(self, **problem: str | int) -> Chart:
        """Draw how far the seeds of an arm keep the same filters, layer by layer (kappa)."""
        return self._of_layers(layers.kept_filters, "kept", problem)

    def costs(self) -> Chart:
        """Draw the rank-hours of each kind of stage."""
        return _present(costs.cost_by_kind(self._run), "stages")

    def printed(self) -> Chart:
        """Draw the papers' printed numbers beside the measured ones; of several metrics, the first."""
        numbers, _ = judge(self._findings)
        charts = printed.printed_numbers(numbers)
        return _present(charts[0] if charts else None, "printed numbers")

    def __getattr__(self, name: str) -> Callable[..., Chart]:
        """Return the figure of a question that has no method here: `chart` of its file, for one problem."""
        chart = None
        if not name.startswith("_"):
            module = find_spec(f"results.questions.{name}")
            if module is not None:
                chart = getattr(import_module(module.name), "chart", None)
        if chart is None:
            raise AttributeError(f"no figure is called {name!r}; {did_you_mean(name, dir(self))}dir(run.plot) has all")

        def figure(**problem: str | int) -> Chart:
            return _present(chart(self._findings, self._problem(problem)), name)

        return figure

    @cached_property
    def _findings(self) -> Findings:
        return findings_of(self._run)

    @cached_property
    def _means(self) -> Means:
        return front_figure.means_of(self._findings)

    def _of_layers(self, figures: Figures, name: str, problem: Mapping[str, str | int]) -> Chart:
        meant = self._problem(problem)
        chart = None
        for _, pruned_problem, asked, at in layers.budgets(self._findings):
            if pruned_problem == meant:
                chart = figures(self._findings, meant, asked, at).get(name)
        return _present(chart, "layers of pruned networks")

    def _problem(self, asked: Mapping[str, str | int]) -> Problem:
        """Return the one problem that is meant."""
        problems = self._findings.problems
        fitting = [problem for problem in problems if asked.items() <= problem.record.items()]
        if len(fitting) == 1:
            return fitting[0]
        known = ["(" + ", ".join(f"{name}={value!r}" for name, value in one.record.items()) + ")" for one in problems]
        expected = ", ".join(known) or "none is tested yet"
        raise ResultsError(f"{len(fitting) or 'no'} problems fit; expected one of: {expected}")


def _present(chart: Chart | None, what: str) -> Chart:
    """Return the figure. Raises ResultsError: the run has no rows for it."""
    if chart is None:
        raise ResultsError(f"this run has no {what} yet")
    return chart
