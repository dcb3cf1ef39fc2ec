"""What the run cost, in rank-hours and GPU-hours, and what sharing saved over one script per trial."""

from weakref import WeakKeyDictionary

from results.arms.findings import Findings
from results.render.blocks import Figure, Section, Words
from results.render.chart import Chart, Spec
from results.render.style import PALETTE, WIDTH, names_width, row_axis, tooltip
from results.sharing import ONE_SCRIPT
from results.store.query_table import query_table
from results.store.reader import Run
from results.text.number_format import number
from results.text.page import Table
from transtailor.plural import counted

KINDS = """
WITH each AS (
    SELECT *, compute_s * ranks / 3600 AS hours,
        NOT cached OR row_number() OVER (PARTITION BY stage_key ORDER BY cached, written_at) = 1 AS is_computed
    FROM stages
)
SELECT kind, count(DISTINCT stage_key) AS stages,
    coalesce(sum(hours ORDER BY hours) FILTER (is_computed), 0) AS rank_hours,
    coalesce(sum(hours ORDER BY hours) FILTER (is_computed AND device <> 'cpu'), 0) AS gpu_hours,
    coalesce(sum(hours ORDER BY hours) FILTER (NOT is_computed), 0) AS saved_rank_hours
FROM each GROUP BY kind ORDER BY rank_hours + saved_rank_hours DESC, kind
"""
"""A stage counts as computed in each trial that did not find it in the cache: in all of them without sharing, and in
one where an earlier run or attempt has computed it. `saved_rank_hours`: what the others would have computed again.
In order, so that the same rows give the same sums to the last digit."""
BILL = """
WITH kept AS (
    SELECT stage_key FROM stages ANTI JOIN (SELECT trial_id FROM trials WHERE status = 'stopped') USING (trial_id)
), stopped AS (
    SELECT compute_s * ranks / 3600 AS hours FROM computed_stages ANTI JOIN kept USING (stage_key)
), cut_off AS (
    SELECT (epoch(ended_at) - epoch(started_at)) * coalesce(len(nodes), 1) / 3600 AS hours
    FROM attempts WHERE status IN ('died', 'interrupted')
), found AS (
    SELECT any_value(compute_s * ranks / 3600) AS hours FROM stages GROUP BY stage_key HAVING bool_and(cached)
)
SELECT coalesce((SELECT sum(hours ORDER BY hours) FROM found), 0) AS found_hours,
    coalesce((SELECT sum(hours ORDER BY hours) FROM stopped), 0) AS stopped_hours,
    (SELECT count(*) FROM cut_off) AS cut_off,
    coalesce((SELECT sum(hours ORDER BY hours) FROM cut_off), 0) AS cut_off_hours,
    (SELECT count(DISTINCT comparison) FROM looks WHERE verdict NOT IN ('open', 'incomplete')) AS settled
"""
"""Found: stages that no trial of the run has computed itself. Stopped: stages that only trials have which halving
stopped. Cut off: the whole time of such attempts, with that of stages which they finished, and which are kept."""
_STAGES_IN_VIEW = 30
_KINDS: WeakKeyDictionary[Run, Table] = WeakKeyDictionary()


def kinds_of(run: Run) -> Table:
    """Return the answer of `KINDS`, which is asked once of a run as it was loaded."""
    if run not in _KINDS:
        _KINDS[run] = query_table(run, KINDS)
    return _KINDS[run]


def hours(run: Run) -> tuple[float, float]:
    """Sum the rank-hours that the stages took, and those that one script per trial would have computed in addition."""
    data = kinds_of(run)
    return sum(data.column("rank_hours")), sum(data.column("saved_rank_hours"))


def hour_unit(hours: float) -> tuple[float, str]:
    """Choose a readable unit for these hours; return its number per hour and its name."""
    if hours >= 1:
        return 1.0, "hours"
    if hours >= 1 / 60:
        return 60.0, "minutes"
    return 3600.0, "seconds"


def time_unit(run: Run) -> tuple[float, str]:
    """Choose the unit of all rank-times of a page, by what a stage took on average: its number per hour, its name."""
    data = kinds_of(run)
    rank_hours = sum(data.column("rank_hours"))
    stages = sum(data.column("stages"))
    return hour_unit(_STAGES_IN_VIEW * rank_hours / max(stages, 1))


def hours_text(hours: float, unit: tuple[float, str], before: str = "") -> str:
    """Write hours in the page's unit, such as "1.8 rank-minutes" for 0.03, (60, "minutes") and before="rank-"."""
    per_hour, name = unit
    amount = per_hour * hours
    return f"{'less than 0.1' if 0 < amount < 0.05 else number(amount, 1)} {before}{name}"


def cost_by_kind(run: Run) -> Chart | None:
    """Draw a bar for each kind of stage; None where no stage is written."""
    data = kinds_of(run)
    if not data.records:
        return None
    kinds = data.column("kind")
    per_hour, unit = time_unit(run)
    left = names_width(kinds)
    spec: Spec = {
        "data": {"name": "rows"},
        "transform": [{"calculate": f"datum.rank_hours * {per_hour}", "as": "amount"}],
        "width": WIDTH - left,
        "height": {"step": 24},
        "usermeta": {"left": left},
        "mark": {"type": "bar", "color": PALETTE[0]},
        "encoding": {
            "y": {"field": "kind", "type": "nominal", "sort": kinds, "axis": row_axis()},
            "x": {"field": "amount", "type": "quantitative", "title": f"rank-{unit}"},
            "tooltip": tooltip(kind="stage", amount=f"rank-{unit}|,.4~r", stages="stages"),
        },
    }
    return Chart(f"Rank-{unit} of each kind of stage", spec, data)


def section(findings: Findings) -> Section:
    """Say what the run cost, and draw the kinds of stages as bars."""
    chart = cost_by_kind(findings.run)
    return Section(
        "cost",
        "Cost",
        "A rank-hour is an hour of one process of a trial; on GPUs it is a GPU-hour. A stage that several trials need"
        " is computed once.",
        [Words(bill(findings.run)), Figure("kinds", chart)] if chart else [],
        empty="No stages yet.",
    )


def bill(run: Run) -> str:
    """Say in a sentence what the run cost, what sharing saved, and what was thrown away or cut off."""
    data = kinds_of(run)
    unit = time_unit(run)
    spent, saved = hours(run)
    gpu_hours = sum(data.column("gpu_hours"))
    on_gpus = hours_text(gpu_hours, unit, "rank-") if gpu_hours else "none"
    parts = [f"The stages took {hours_text(spent, unit, 'rank-')}, {on_gpus} of them on GPUs"]
    (row,) = run.rows(BILL)
    if row["found_hours"]:
        found = hours_text(row["found_hours"], unit, "rank-")
        parts.append(f"{found} of them are of stages that were in the cache, from another run or a cut off attempt")
    if spent + saved:
        share = f"{100 * saved / (spent + saved):.0f}% of what {ONE_SCRIPT}, would have computed"
        parts.append(f"sharing stages between trials saved {hours_text(saved, unit, 'rank-')}, {share}")
    if row["stopped_hours"]:
        parts.append(f"{hours_text(row['stopped_hours'], unit, 'rank-')} are only of trials that halving stopped")
    if row["cut_off"]:
        attempts = counted(row["cut_off"], "attempt")
        cut_off = hours_text(row["cut_off_hours"], unit, "rank-")
        parts.append(f"{attempts} of {cut_off} in all were cut off, and what they had finished is kept")
    if row["settled"]:
        each = hours_text(spent / row["settled"], unit, "rank-")
        parts.append(f"{each} for each of {counted(row['settled'], 'settled verdict')}")
    return "; ".join(parts) + "."
