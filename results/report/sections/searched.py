"""A search: its verdict, the best of the settings that it confirmed with new seeds; and how it went."""

from dataclasses import replace

from results.arms.comparison import arms_of, compare
from results.arms.counts import failed_trials
from results.arms.findings import Findings
from results.arms.verdict import verdict
from results.plot import search
from results.report.elements.blocks import Figure, Section
from results.store.reader import Run

PROPOSALS = """
SELECT count(*) FILTER (purpose = 'search') AS searched, count(*) FILTER (purpose = 'confirm') AS confirmed,
    min(number) FILTER (purpose = 'promote') < max(number) FILTER (purpose = 'search') AS is_asynchronous
FROM proposals
"""


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
    text = (
        f"Of {row['searched']} settings searched and {row['confirmed']} confirmed with new seeds, {best.label} is best"
        f" by validation: test {scale.noun} {scale.value(best.test.mean)}{scale.unit} [{scale.interval(best.test)}],"
        f" n = {best.test.n}, on {best.problem}."
    )
    return f"{text} Against the next, {others[0].label}: {verdict(compare([(best, others[0])]))}" if others else text


def section(run: Run) -> Section | None:
    """Draw how the search went; None if the run is no search."""
    (row,) = run.rows(PROPOSALS)
    if not row["searched"]:
        return None
    order = (
        " Settings were continued without waiting for a whole rung, so the order in which trials ended decided, too."
    )
    made = Section(
        "search",
        "How the search went",
        "Validation scores, which choose; those of the best are too good, and only confirmed settings are compared."
        + (order if row["is_asynchronous"] else ""),
        empty="No setting has ended yet.",
        short="Search",
    )
    charts = {"history": search.history(run), "rungs": search.rungs(run), "front": search.search_front(run)}
    made.blocks += [Figure(f"search-{name}", chart) for name, chart in charts.items() if chart is not None]
    return made
