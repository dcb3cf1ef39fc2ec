"""Which trial ran where and when, and what was lost, shared or idle."""

from collections.abc import Iterable, Sequence

from results.arms.findings import Findings
from results.questions.costs import hours_text, time_unit
from results.render.blocks import Figure, Section, TableBlock, Words, listing
from results.render.chart import Chart, Spec
from results.render.style import PALETTE, WIDTH, names_width, quantity, tooltip
from results.store.query_table import query_table
from results.store.reader import Run
from transtailor.plural import counted

ATTEMPTS = """
WITH last AS (SELECT max(written_at) AS row_at FROM (
    SELECT max(written_at) AS written_at FROM attempts UNION ALL SELECT max(written_at) FROM stages)
), shared AS (
    SELECT trial_id, sum(compute_s) AS shared_s FROM stages WHERE cached GROUP BY trial_id
)
SELECT coalesce(array_to_string(list_sort(list_distinct(nodes)), ' + '), host) AS machine, arm, seed, trial_id,
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
COLOURS = {"finished": PALETTE[2], "running": PALETTE[1], "failed": PALETTE[6], "died": PALETTE[4],
           "interrupted": PALETTE[3], "rested": PALETTE[7]}  # fmt: skip
_MOST_LANES = 120


def lanes_of(spans: Sequence[tuple[str, float, float]]) -> list[int]:
    """Return the lane of each span (machine, start, end): the first of its machine that is free when it starts.

    Lanes are numbered over all machines, those of the first machine by name first.
    """
    free_at: dict[str, list[float]] = {}  # by machine, when each of its lanes is free
    lane_of: dict[int, int] = {}  # number of a span -> its lane on its machine
    for number, (machine, start, end) in sorted(enumerate(spans), key=lambda item: (item[1][1], item[0])):
        lanes = free_at.setdefault(machine, [])
        free_lanes = [lane for lane, free in enumerate(lanes) if free <= start + 1e-9]
        if free_lanes:
            lane = free_lanes[0]
            lanes[lane] = end
        else:
            lane = len(lanes)
            lanes.append(end)
        lane_of[number] = lane
    first_lane: dict[str, int] = {}
    total = 0
    for machine in sorted(free_at):
        first_lane[machine] = total
        total += len(free_at[machine])
    return [first_lane[machine] + lane_of[number] for number, (machine, _, _) in enumerate(spans)]


def timeline(run: Run) -> Chart | None:
    """Draw attempts as bars, events as marks on top; None where no attempt is written."""
    data = query_table(run, ATTEMPTS)
    if not data.records:
        return None
    machines = data.column("machine")
    lanes = lanes_of(list(zip(machines, data.column("started_s"), data.column("ended_s"), strict=True)))
    all_lanes = max(lanes) + 1
    count = min(all_lanes, _MOST_LANES)
    first_lane: dict[str, int] = {}  # of each machine
    for lane, machine in sorted(zip(lanes, machines, strict=True), reverse=True):
        first_lane[machine] = lane  # the smallest comes last
    heads = [{"lane": lane, "machine": machine} for machine, lane in first_lane.items() if lane < count]
    left = names_width(first_lane)
    per_hour, unit = time_unit(run)
    unit_s = 3600 / per_hour
    across = f"{unit} since the first attempt"
    y = {"field": "lane", "type": "ordinal", "axis": None, "scale": {"domain": list(range(count)), "padding": 0.15}}
    occurring = set(data.column("status"))
    statuses = [status for status in COLOURS if status in occurring]
    colours = {"domain": statuses, "range": [COLOURS[status] for status in statuses]}
    layers: list[Spec] = [
        {
            "data": {"name": "rows"},
            "transform": [
                {"filter": f"datum.lane < {count}"},
                {"calculate": f"datum.started_s / {unit_s}", "as": "start"},
                {"calculate": f"max(datum.ended_s, datum.started_s) / {unit_s}", "as": "end"},
            ],
            "mark": {"type": "bar", "minBandSize": 2},
            "encoding": {
                "y": y, "x": quantity("start", across, scale={"zero": True, "nice": False}),
                "x2": {"field": "end"},
                "color": {"field": "status", "type": "nominal", "title": None, "scale": colours},
                "tooltip": tooltip(arm="arm", seed="seed", trial_id="trial", attempt="attempt", status="status",
                                   machine="machine", start=f"from ({unit})|.2f", end=f"to ({unit})|.2f",
                                   cause="cause"),
            },
        },
        {
            "data": {"values": heads},
            "mark": {"type": "text", "align": "right", "x": -8, "limit": left},
            "encoding": {"y": y, "text": {"field": "machine", "type": "nominal"}},
        },
    ]  # fmt: skip
    tables = {}
    events = [event for event in query_table(run, EVENTS).records if event["at_s"] is not None and event["at_s"] >= 0]
    if events:
        tables["events"] = events
        layers.append(
            {
                "data": {"name": "events"},
                "transform": [{"calculate": f"datum.at_s / {unit_s}", "as": "at_shown"}],
                "mark": {"type": "point", "shape": "triangle-down", "filled": True, "color": "#444", "y": -6,
                         "size": 40, "opacity": 1},
                "encoding": {"x": quantity("at_shown", across, scale={"zero": True, "nice": False}),
                             "tooltip": tooltip(at="at", kind="event", node="node", detail="detail")},
            }
        )  # fmt: skip
    spec: Spec = {
        "width": WIDTH - left,
        "height": {"step": 18 if count <= 24 else 8},
        "padding": {"left": left, "top": 5, "right": 10, "bottom": 5},
        "usermeta": {"left": left},
        "layer": layers,
    }
    note = f"{all_lanes - count} more lanes are in the table." if all_lanes > count else ""
    return Chart("Attempts on each machine", spec, data, {"lane": lanes}, tables, note)


_LOST = ("failed", "died", "interrupted")


def section(findings: Findings) -> Section:
    """Draw all attempts in one figure, and list the events of the cluster."""
    section_timeline = Section(
        "time",
        "Time line",
        "One bar is one attempt of a trial, on a lane of the machine that ran it; empty lanes are idle.",
        empty="No attempts yet.",
    )
    run = findings.run
    chart = timeline(run)
    events = listing(run, EVENTS, "What the cluster did", folded=True)
    if chart:
        section_timeline.blocks += [Words(_in_a_sentence(chart, time_unit(run))), Figure("timeline", chart)]
    if events.table.rows:
        section_timeline.blocks.append(TableBlock(events.table, events.title, folded=len(events.table.rows) > 12))
    return section_timeline


def _idle_percent(spans: Iterable[tuple[float, float]], lanes: int) -> float:
    """Return the share of the lanes' time that no attempt took, of the time in which any ran: not between launches.

    >>> _idle_percent([(0.0, 10.0), (0.0, 5.0), (100.0, 110.0)], lanes=2)
    37.5
    """
    spent_s = ran_s = reached_s = 0.0
    for started_s, ended_s in sorted(spans):
        spent_s += ended_s - started_s
        ran_s += max(0.0, ended_s - max(reached_s, started_s))
        reached_s = max(reached_s, ended_s)
    return 100 * (1 - spent_s / (lanes * ran_s)) if ran_s > 0 else 0.0


def _in_a_sentence(chart: Chart, unit: tuple[float, str]) -> str:
    records = chart.data.records
    lanes = max(chart.extra["lane"]) + 1
    spent = []
    lost = []
    shared_of_trial = {}
    for record in records:
        seconds = record["ended_s"] - record["started_s"]
        spent.append(seconds)
        if record["status"] in _LOST:
            lost.append(seconds)
        shared_of_trial[record["trial_id"]] = record["shared_s"]
    machines = len({record["machine"] for record in records})
    spans = [(record["started_s"], record["ended_s"]) for record in records]
    lost_s = sum(lost)
    shared_s = sum(shared_of_trial.values())
    return (
        f"{counted(len(records), 'attempt')} on {counted(lanes, 'lane')} of {counted(machines, 'machine')}:"
        f" {hours_text(sum(spent) / 3600, unit)} of work,"
        f" {_idle_percent(spans, lanes):.0f}% of the lanes' time idle while others ran,"
        f" {hours_text(lost_s / 3600, unit) if lost_s else 'nothing'} in attempts that did not finish."
        f" Trials took {hours_text(shared_s / 3600, unit)} of stages from the cache."
    )
