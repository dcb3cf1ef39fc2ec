"""The time line of the cluster: which trial ran where and when, and what was lost, shared or idle."""

from results.plot.chart import Chart
from results.plot.costs import time_unit
from results.plot.timeline import EVENTS, timeline
from results.report.elements.blocks import Figure, Section, TableBlock, Words, listing
from results.report.sections.costs import hours_text
from results.store.reader import Run

_LOST = ("failed", "died", "interrupted")


def section(run: Run) -> Section:
    """Draw all attempts in one figure, and list the events of the cluster."""
    made = Section(
        "time",
        "Time line",
        "One bar is one attempt of a trial, on a lane of the machine that ran it; empty lanes are idle.",
        empty="No attempts yet.",
    )
    chart = timeline(run)
    events = listing(run, EVENTS, "What the cluster did", folded=True)
    if chart:
        made.blocks += [Words(_in_a_sentence(chart, time_unit(run))), Figure("timeline", chart)]
    if events.table.rows:
        made.blocks.append(TableBlock(events.table, events.title, folded=len(events.table.rows) > 12))
    return made


def _in_a_sentence(chart: Chart, unit: tuple[float, str]) -> str:
    records, lanes = chart.answer.records(), max(chart.extra["lane"]) + 1
    spent = {id(row): row["ended_s"] - row["started_s"] for row in records}
    busy, whole = sum(spent.values()), lanes * max(row["ended_s"] for row in records)
    lost = sum(spent[id(row)] for row in records if row["status"] in _LOST)
    shared = sum({row["trial_id"]: row["shared_s"] for row in records}.values())
    machines = len({row["machine"] for row in records})
    idle = 100 * (1 - busy / whole) if whole > 0 else 0.0
    return (
        f"{len(records)} attempts on {lanes} lane{'' if lanes == 1 else 's'} of"
        f" {machines} machine{'' if machines == 1 else 's'}: {hours_text(busy / 3600, unit)} of work,"
        f" {idle:.0f}% of the lanes' time idle,"
        f" {hours_text(lost / 3600, unit) if lost else 'nothing'} in attempts that did not finish."
        f" Trials took {hours_text(shared / 3600, unit)} of stages from the cache."
    )
