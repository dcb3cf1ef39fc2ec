"""What the run cost, in rank-hours and GPU-hours, and what sharing saved."""

from results.arms import cost
from results.figures.bars import Bar, bars
from results.figures.svg import Key
from results.report.elements import tables
from results.report.elements.blocks import Answer, Figure, Section, TableBlock, Words, answer
from results.store.reader import Run
from results.text.number_format import number

KINDS = """
WITH each AS (
    SELECT stage_key, any_value(kind) AS kind, arg_min(compute_s, (cached, written_at)) AS compute_s,
        arg_min(ranks, (cached, written_at)) AS ranks, arg_min(device, (cached, written_at)) AS device,
        count(DISTINCT trial_id) AS trials
    FROM stages GROUP BY stage_key
)
SELECT kind, count(*) AS stages, sum(compute_s * ranks) / 3600 AS rank_hours,
    coalesce(sum(compute_s * ranks) FILTER (device <> 'cpu'), 0) / 3600 AS gpu_hours,
    sum(compute_s * ranks * (trials - 1)) / 3600 AS saved_rank_hours
FROM each GROUP BY kind ORDER BY rank_hours + saved_rank_hours DESC, kind
"""
"""Each stage once. `saved_rank_hours`: what the other trials that need it would have computed again."""


def section(run: Run) -> Section:
    """Draw the kinds of stages as bars, and list the costs of all labels."""
    made = Section(
        "cost",
        "Cost",
        "A rank-hour is an hour of one process of a trial; on GPUs it is a GPU-hour. A stage that several trials need"
        " is computed once. Labels share stages, so their rows add up to more than the whole.",
        empty="No stages yet.",
    )
    data = answer(run, KINDS)
    if not data.rows:
        return made
    made.blocks += [Words(_in_a_sentence(data)), _figure(data)]
    whole, labels = cost.cost_of_run(run)
    if whole.ratio is not None:
        made.blocks.append(
            Words(
                f"{number(whole.shared_s, 1)} stage-seconds were computed; trial by trial, without sharing, the"
                f" {whole.points} distinct operating points would have taken {number(whole.separate_s, 1)},"
                f" {whole.ratio:.2f} times as many."
            )
        )
    table = tables.cost_table(whole, labels, f"{cost.STAGES.strip()};\n{cost.POINTS_OF_LABELS}")
    made.blocks.append(TableBlock(table, "With and without sharing", derived=True, folded=len(table.rows) > 24))
    return made


def hours(run: Run) -> tuple[float, float]:
    """Sum the rank-hours that were computed, and those that sharing saved."""
    data = answer(run, KINDS)
    return sum(data.column("rank_hours")), sum(data.column("saved_rank_hours"))


def unit_of(hours: float) -> tuple[float, str]:
    """Choose a readable unit for these hours; return its number per hour and its name."""
    return (1.0, "hours") if hours >= 1 else (60.0, "minutes") if hours >= 1 / 60 else (3600.0, "seconds")


def hours_text(hours: float, before: str = "") -> str:
    """Write hours in a readable unit, such as "1.8 rank-minutes" for 0.03 and before="rank-"."""
    factor, name = unit_of(hours)
    return f"{number(factor * hours, 1)} {before}{name}"


def _in_a_sentence(data: Answer) -> str:
    spent, saved, gpus = (sum(data.column(name)) for name in ("rank_hours", "saved_rank_hours", "gpu_hours"))
    share = (
        f", {100 * saved / (spent + saved):.0f}% of what the trials would have taken without it"
        if spent + saved
        else ""
    )
    return (
        f"{hours_text(spent, 'rank-')} were computed, {hours_text(gpus, 'rank-') if gpus else 'none'} of them on GPUs;"
        f" sharing stages between trials saved {hours_text(saved, 'rank-')}{share}."
    )


def _figure(data: Answer) -> Figure:
    longest = max(record["rank_hours"] + record["saved_rank_hours"] for record in data.records())
    factor, name = unit_of(longest)
    rows = [
        Bar(record["kind"].replace("_", " "), (factor * record["rank_hours"], factor * record["saved_rank_hours"]), row)
        for row, record in enumerate(data.records())
    ]
    title = f"Rank-{name} of each kind of stage"
    legend = [Key(0, "computed", "c0", "bar"), Key(1, "saved by sharing", "c7", "bar")]
    return Figure("kinds", title, bars(title, f"rank-{name}", rows, ("c0", "c7")), data, legend, titled_by=("kind",))
