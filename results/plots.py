"""The figures of a run by name: `run.plot.front()`."""

from collections.abc import Callable
from functools import cached_property, partial
from importlib import import_module
from importlib.util import find_spec

from results.arms.comparison import Problem
from results.arms.findings import Findings, findings_of
from results.arms.trial_settings import settings_of, trial_rows
from results.errors import ResultsError
from results.questions import compare, costs, effects, front, layers, learning, printed, search, stops, timeline
from results.questions.effects import effects_of
from results.questions.front import DEVICE_HOURS, TIMED, Means
from results.questions.layers import Figures
from results.render.chart import Chart
from results.store.reader import Run
from transtailor.names import did_you_mean
from transtailor.shell import command

_COSTS = ("macs", "params", DEVICE_HOURS, *TIMED)


class Plots:
    """Figures of a run. Each method returns a `Chart`; `chart.save("front.pdf")` writes it.

    Where a run has several problems (a network on a data set), a figure of one takes `network`, and `dataset` where
    that is not enough. A figure for which the run has no rows raises ResultsError. A trial in several runs counts once.
    """

    def __init__(self, run: Run) -> None:
        self._run = run.counted_once()

    def front(self, *, score: str = "test", cost: str = "macs", log: bool = False) -> Chart:
        """Score against cost: operating points, means with 95% t intervals, paths, and the front.

        Example:
            run.plot.front(score="validation", cost="params", log=True).save("front.svg")

        Args:
            score: "test" or "validation".
            cost: "macs", "params", "device_hours", "latency_ms" or "peak_memory_bytes".
            log: whether the cost has a logarithmic axis.
        """
        scores = {short: column for column, short in front.SCORES.items()}
        if score not in scores:
            raise ResultsError(f"score {score!r}: {did_you_mean(score, scores)}expected {' or '.join(scores)}")
        if cost not in _COSTS:
            raise ResultsError(f"cost {cost!r}: {did_you_mean(cost, _COSTS)}expected one of {', '.join(_COSTS)}")
        if (scores[score], cost) not in self._means:
            how = command("time", next(iter(self._run.paths.values())))
            raise ResultsError(f"no operating point has a {cost}; to time the sub-models, type: {how}")
        return _present(front.chart(self._found, self._means, score=scores[score], cost=cost, log=log), "test scores")

    def differences(self, *, network: str | None = None, dataset: str | None = None) -> Chart:
        """All arms against full fine-tuning, paired by seed, at each budget."""
        chart = compare.chart(self._found, self._problem(network, dataset))
        return _present(chart, "arms to compare with full fine-tuning")

    def effects(self, *, network: str | None = None, dataset: str | None = None) -> Chart:
        """Median and quartiles of the test score for each value of each setting that varies."""
        keys = settings_of(trial_rows(self._run)).effects()
        return _present(effects.chart(self._found, self._problem(network, dataset), keys), "settings that vary")

    def interaction(self) -> Chart:
        """The two settings that interact most: the mean test score of each combination; of several metrics, the first.

        Raises ResultsError where there is no analysis of variance, as with one seed.
        """
        return _present(effects.interaction(effects_of(self._found)[0]), "two settings that vary")

    def learning_curves(self, *, network: str | None = None, dataset: str | None = None) -> Chart:
        """Training curves of each kind of stage: median and quartiles over stages."""
        problem = self._problem(network, dataset)
        charts = learning.learning_curves(self._found)
        return _present(charts.get((problem.network, problem.dataset)), "epochs")

    def widths(self, *, network: str | None = None, dataset: str | None = None) -> Chart:
        """The filters left in each layer, arm by arm."""
        return self._of_layers(layers.widths, "widths", network, dataset)

    def over_data(self, network: str) -> Chart:
        """The filters that one arm left in each layer of a network, data set by data set (TransTailor's Figure 4)."""
        return _present(layers.over_data(self._found, network).get("over-data"), "arm that pruned it on two data sets")

    def kept_filters(self, *, network: str | None = None, dataset: str | None = None) -> Chart:
        """How far the seeds of an arm keep the same filters, layer by layer (kappa)."""
        return self._of_layers(layers.kept_filters, "kept", network, dataset)

    def stop_rules(self, *, network: str | None = None, dataset: str | None = None) -> Chart:
        """What each stop rule would have chosen on the recorded paths."""
        problem = self._problem(network, dataset)
        chart = stops.chart(self._found, problem, stops.outcomes_of(self._found, problem))
        return _present(chart, "paths with two operating points")

    def timeline(self) -> Chart:
        """Which attempt ran where and when."""
        return _present(timeline.timeline(self._run), "attempts")

    def costs(self) -> Chart:
        """Rank-hours of each kind of stage, and what sharing saved."""
        return _present(costs.cost_by_kind(self._run), "stages")

    def printed(self) -> Chart:
        """The papers' printed numbers beside the measured ones; of several metrics, the first."""
        return _present(next(iter(printed.printed_numbers(self._run)), None), "printed numbers")

    def search_history(self, *, run: str | None = None) -> Chart:
        """Of a search the score of each setting at its end, by proposal, and the best so far.

        Args:
            run: of several runs that search, the name of one; so for all figures of a search.
        """
        return self._of_search(search.history, "settings that a search has tried to their end", run)

    def search_rungs(self, *, run: str | None = None) -> Chart:
        """Of a search with halving the score of each trial at the rungs that it reached."""
        return self._of_search(search.rungs, "rungs", run)

    def search_settings(self, *, run: str | None = None) -> Chart:
        """Of a search each setting as a line through its values, coloured by its first score: at a rung or the end."""
        return self._of_search(search.settings, "settings of a search with scores", run)

    def search_front(self, *, cost: str = "macs", run: str | None = None) -> Chart:
        """Of a search the settings by score and cost, their front, and its hypervolume.

        Args:
            cost: "macs", or "latency_ms" as prunings to a latency have measured it.
        """
        if cost not in search.COSTS:
            raise ResultsError(f"cost {cost!r}: {did_you_mean(cost, search.COSTS)}expected {' or '.join(search.COSTS)}")
        what = f"two settings that a search has tried to their end, with a {cost}"
        return self._of_search(partial(search.search_front, cost=cost), what, run)

    def __getattr__(self, name: str) -> Callable[..., Chart]:
        """Return the figure of a question that has no method here: `chart` of its file, for one problem."""
        module = None if name.startswith("_") else find_spec(f"results.questions.{name}")
        chart = None if module is None else getattr(import_module(module.name), "chart", None)
        if chart is None:
            raise AttributeError(f"no figure is called {name!r}; {did_you_mean(name, dir(self))}dir(run.plot) has all")

        def figure(*, network: str | None = None, dataset: str | None = None) -> Chart:
            return _present(chart(self._found, self._problem(network, dataset)), name)

        return figure

    @cached_property
    def _found(self) -> Findings:
        return findings_of(self._run)

    @cached_property
    def _means(self) -> Means:
        return front.means_of(self._found)

    def _of_layers(self, figures: Figures, name: str, network: str | None, dataset: str | None) -> Chart:
        problem = self._problem(network, dataset)
        at = {tested: (asked, words) for _, tested, asked, words in layers.budgets(self._found)}
        chart = figures(self._found, problem, *at[problem]).get(name) if problem in at else None
        return _present(chart, "layers of pruned networks")

    def _of_search(self, figure: Callable[[Run], Chart | None], what: str, name: str | None) -> Chart:
        """The figure of the one run that searches, or of the one with this name."""
        known = search.searching(self._run)
        meant = [searched for searched in known if name in (None, searched)]
        if known and len(meant) != 1:
            names = " or ".join(f"run={searched!r}" for searched in known)
            raise ResultsError(f"{len(meant) or 'no'} runs that search fit; expected one of: {names}")
        if not meant:
            return _present(None, what)
        with search.alone(self._run, meant[0]) as single_run:
            return _present(figure(single_run), what)

    def _problem(self, network: str | None, dataset: str | None) -> Problem:
        """The one problem that is meant."""
        every = self._found.problems
        meant = [one for one in every if network in (None, one.network) and dataset in (None, one.dataset)]
        if len(meant) == 1:
            return meant[0]
        known = ", ".join(f"network={one.network!r}, dataset={one.dataset!r}" for one in every)
        raise ResultsError(f"{len(meant) or 'no'} problems fit; expected one of: {known or 'none is tested yet'}")


def _present(chart: Chart | None, what: str) -> Chart:
    if chart is None:
        raise ResultsError(f"this run has no {what} yet")
    return chart
