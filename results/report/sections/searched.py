"""A search: its verdict, the best of the settings that it confirmed with new seeds; and how it went."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from results.analysis.rungs import RUNG_SCORES, RungPrediction, rung_predictions
from results.arms.comparison import arms_of, compare
from results.arms.counts import failed_trials
from results.arms.findings import Findings
from results.arms.verdict import verdict
from results.plot import search
from results.report.elements.blocks import Figure, Section, TableBlock
from results.report.elements.tables import HtmlTable, TableRow
from results.store.reader import Run
from results.text.number_format import number

WEAK_RUNG = (
    "This rung hardly predicts the scores that came later: halving there stops good settings. Leave it out, or choose a"
    " later one."
)
PREDICTIONS_NOTE = (
    "Spearman's rank correlation of the validation scores of the trials that reached both. Halving has chosen these by"
    " the first score, which tends to lower it; with eta = 1, which stops nothing, it is that of all settings."
)
PROPOSALS = """
SELECT count(*) FILTER (purpose = 'search') AS searched, count(*) FILTER (purpose = 'confirm') AS confirmed,
    min(number) FILTER (purpose = 'promote') < max(number) FILTER (purpose = 'search') AS is_asynchronous
FROM proposals
"""
NOT_FINITE = """
SELECT count(DISTINCT trial_id) AS trials FROM (
    SELECT trial_id, validation_score FROM rungs UNION ALL SELECT trial_id, validation_score FROM operating_points
) WHERE NOT isfinite(validation_score)
    AND trial_id IN (SELECT unnest(trial_ids) FROM proposals WHERE purpose = 'search')
"""
Predictions = Mapping[str, Sequence[RungPrediction]]
"""Of each run that searches, by its name: what its rungs predict."""


def headline(found: Findings) -> str:
    """Write the verdict; empty if the run is no search. Only rows of confirmed settings are in `found.points`."""
    (row,) = found.run.rows(PROPOSALS)
    if not row["searched"]:
        return ""
    ends = {point.trial_id: replace(point, asked=None) for point in found.points if point.test is not None}
    arms = arms_of(ends.values(), found.environments, failed_trials(found.run))
    arms = [arm for arm in arms if arm.rank is not None]  # with a score, and without failed trials
    if not arms:
        why = (
            "none of those chosen has ended yet" if row["confirmed"] else "none is confirmed with new seeds ([confirm])"
        )
        return f"Of {row['searched']} settings searched, {why}: nothing can be compared."
    best, *others = (arm for arm in arms if arm.problem == arms[0].problem)
    scale = found.scales[best.problem]
    runs = len(search.searching(found.run))
    of = f"Of {row['searched']} settings searched" + (f" in {runs} runs" if runs > 1 else "")
    text = (
        f"{of} and {row['confirmed']} confirmed with new seeds, {best.name} is best"
        f" by validation: test {scale.noun} {scale.value(best.test.mean)}{scale.unit} [{scale.interval(best.test)}],"
        f" n = {best.test.n}, on {best.problem}."
    )
    return f"{text} Against the next, {others[0].name}: {verdict(compare([(best, others[0])]))}" if others else text


def predictions_of(run: Run) -> Predictions:
    """Return what the rungs of each run that searches predict, in the order of the runs; empty if none searches."""
    found = {}
    for name in search.searching(run):
        with search.alone(run, name) as one:
            found[name] = [*rung_predictions(one)]
    return found


def warnings(run: Run, predictions: Predictions) -> list[str]:
    """Return what a reader must know first: the rungs that hardly predict the end."""
    found = [(name, one) for name, several in predictions.items() for one in several if one.is_weak]
    return [f"{f'Run {name}' if len(run.paths) > 1 else 'Search'}, {one}." for name, one in found]


def section(run: Run, predictions: Predictions) -> Section | None:
    """Draw how the search went, or each of several; None if the run is no search."""
    if not predictions:
        return None
    (row,) = run.rows(PROPOSALS)
    (lost,) = run.rows(NOT_FINITE)
    order = (
        " Settings were continued without waiting for a whole rung, so the order in which trials ended decided, too."
    )
    made = Section(
        "search",
        "How the search went" if len(predictions) == 1 else "How the searches went",
        "Validation scores, which choose; those of the best are too good, and only confirmed settings are compared."
        + (order if row["is_asynchronous"] else "")
        + (f" Scores that are not numbers are left out: of {lost['trials']} trials." if lost["trials"] else ""),
        empty="No setting has ended yet.",
        short="Search",
    )
    for place, (name, of_rungs) in enumerate(predictions.items()):
        before, after = (f"{name}: ", str(place)) if len(predictions) > 1 else ("", "")
        with search.alone(run, name) as one:
            fronts = {cost: search.search_front(one, cost=cost) for cost in search.COSTS}
            charts = {"history": search.history(one), "rungs": search.rungs(one), "settings": search.settings(one),
                      "front": fronts["macs"], "latency-front": fronts["latency_ms"]}  # fmt: skip
        for figure, chart in charts.items():
            if chart is not None:
                shown = replace(chart, title=before + chart.title)
                made.blocks.append(Figure(f"search-{figure}{after}", shown))
            if figure == "rungs" and of_rungs:
                made.blocks.append(_predictions_table(of_rungs, before))
    return made


def _predictions_table(predictions: Sequence[RungPrediction], before: str) -> TableBlock:
    rows = [
        TableRow(
            (one.rung, one.later or "too few trials were continued", number(one.correlation), str(one.trials)),
            (WEAK_RUNG,) if one.is_weak else (),
        )
        for one in predictions
    ]
    columns = ("rung", "compared with", "rank correlation", "trials")
    table = HtmlTable(columns, (False, False, True, True), rows, RUNG_SCORES, PREDICTIONS_NOTE)
    return TableBlock(table, f"{before}What each rung predicts", derived=True)
