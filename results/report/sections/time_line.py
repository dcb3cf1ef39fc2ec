"""The time line of the cluster: which trial ran where and when, and what was lost, shared or idle."""

from results.figures.svg import Key
from results.figures.timeline import Moment, Span, lanes_of, timeline
from results.report.elements.blocks import Answer, Figure, Section, TableBlock, Words, answer, listing
from results.report.sections.costs import hours_text
from results.store.reader import Run

ATTEMPTS = """
WITH last AS (SELECT max(written_at) AS row_at FROM (
    SELECT max(written_at) AS written_at FROM attempts UNION ALL SELECT max(written_at) FROM stages)
), shared AS (
    SELECT trial_id, sum(compute_s) AS shared_s FROM stages WHERE cached GROUP BY trial_id
)
SELECT coalesce(array_to_string(list_sort(list_distinct(nodes)), ' + '), host) AS machine, label, seed, trial_id,
    attempt, attempts.status,
    epoch(started_at) - min(epoch(started_at)) OVER () AS started_s,
    epoch(coalesce(ended_at, greatest(row_at, started_at))) - min(epoch(started_at)) OVER () AS ended_s,
    coalesce(shared_s, 0) AS shared_s, cause
FROM attempts CROSS JOIN last LEFT JOIN shared USING (trial_id) LEFT JOIN planned USING (trial_id)
ORDER BY started_at, trial_id, attempt
"""
"""An attempt that still runs ends with the last row of the run. `shared_s`: stages that the trial found cached."""
EVENTS = """
SELECT strftime(happened_at, '%Y-%m-%d %H:%M:%S') AS "at", kind, node, job, slots, detail,
    round(epoch(happened_at) - (SELECT min(epoch(started_at)) FROM attempts), 3) AS at_s
FROM events ORDER BY happened_at, driver, number
"""
_SERIES = {"finished": "c2", "running": "c1", "failed": "c6", "died": "c4", "interrupted": "c3"}
_LOST = ("failed", "died", "interrupted")


def section(run: Run) -> Section:
    """Draw all attempts in one figure, and list the events of the cluster."""
    made = Section(
        "time",
        "Time line",
        "One bar is one attempt of a trial, on a lane of the machine that ran it; empty lanes are idle.",
        empty="No attempts yet.",
    )
    data = answer(run, ATTEMPTS)
    events = listing(run, EVENTS, "What the cluster did", folded=True)
    if data.rows:
        figure, words = _figure(data, run.rows(EVENTS))
        made.blocks += [Words(words), figure]
    if events.table.rows:
        made.blocks.append(TableBlock(events.table, events.title, folded=len(events.table.rows) > 12))
    return made


def _figure(data: Answer, events: list[dict[str, object]]) -> tuple[Figure, str]:
    records = data.records()
    order = list(_SERIES)
    longest = max(record["ended_s"] for record in records)
    size, unit = next((size, unit) for size, unit in ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
                      if longest > 2 * size or size == 1.0)  # fmt: skip
    spans = [
        Span(
            record["machine"], record["started_s"] / size, max(record["ended_s"], record["started_s"]) / size,
            order.index(record["status"]), _SERIES[record["status"]], row,
        )
        for row, record in enumerate(records)
    ]  # fmt: skip
    moments = [
        Moment(float(str(event["at_s"])) / size, f"{event['at']}: {event['kind']} {event['node'] or ''}".strip())
        for event in events if event["at_s"] is not None
    ]  # fmt: skip
    title = "Attempts on each machine"
    drawing = timeline(
        title, f"{unit} since the first attempt", spans, [moment for moment in moments if moment.at >= 0]
    )
    used = {record["status"] for record in records}
    legend = [Key(place, status, colour, "bar") for place, (status, colour) in enumerate(_SERIES.items())
              if status in used]  # fmt: skip
    figure = Figure("timeline", title, drawing, data, legend, titled_by=("label", "status"))
    return figure, _in_a_sentence(spans, records, size)


def _in_a_sentence(spans: list[Span], records: list[dict[str, object]], size: float) -> str:
    lanes = lanes_of(spans)
    busy = sum(span.end - span.start for span in spans) * size
    whole = len(lanes) * max(span.end for span in spans) * size
    lost = sum(
        (span.end - span.start) * size for span, row in zip(spans, records, strict=True) if row["status"] in _LOST
    )
    shared = sum({str(row["trial_id"]): float(str(row["shared_s"])) for row in records}.values())
    machines = len({span.place for span in spans})
    idle = 100 * (1 - busy / whole) if whole > 0 else 0.0
    return (
        f"{len(spans)} attempts on {len(lanes)} lane{'' if len(lanes) == 1 else 's'} of"
        f" {machines} machine{'' if machines == 1 else 's'}: {hours_text(busy / 3600)} of work, {idle:.0f}% of the"
        f" lanes' time idle, {hours_text(lost / 3600) if lost else 'nothing'} in attempts that did not finish."
        f" Trials took {hours_text(shared / 3600)} of stages from the cache."
    )
