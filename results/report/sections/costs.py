"""What the run cost, in rank-hours and GPU-hours, and what sharing saved."""

from results.arms import cost
from results.plot.costs import cost_by_kind, kinds_of, time_unit
from results.report.elements import tables
from results.report.elements.blocks import Figure, Section, TableBlock, Words
from results.store.answers import Answer
from results.store.reader import Run
from results.text.number_format import number


def section(run: Run) -> Section:
    """Draw the kinds of stages as bars, and list the costs of all arms."""
    made = Section(
        "cost",
        "Cost",
        "A rank-hour is an hour of one process of a trial; on GPUs it is a GPU-hour. A stage that several trials need"
        " is computed once. Arms share stages, so their rows add up to more than the whole.",
        empty="No stages yet.",
    )
    chart = cost_by_kind(run)
    if chart is None:
        return made
    unit = time_unit(run)
    made.blocks += [Words(_in_a_sentence(chart.answer, unit)), Figure("kinds", chart)]
    whole, arms = cost.cost_of_run(run)
    if whole.ratio is not None:
        made.blocks.append(
            Words(
                f"Against a second baseline, each operating point computed alone from the start: the {whole.points}"
                f" distinct points take {hours_text(whole.separate_s / 3600, unit)} of stages,"
                f" {whole.ratio:.2f} times the {hours_text(whole.shared_s / 3600, unit)} of each stage computed once."
            )
        )
    table = tables.cost_table(whole, arms, unit, cost.COSTS)
    made.blocks.append(TableBlock(table, "Shared, and point by point", derived=True, folded=len(table.rows) > 24))
    return made


def hours(run: Run) -> tuple[float, float]:
    """Sum the rank-hours that were computed, and those that sharing saved."""
    data = kinds_of(run)
    return sum(data.column("rank_hours")), sum(data.column("saved_rank_hours"))


def hours_text(hours: float, unit: tuple[float, str], before: str = "") -> str:
    """Write hours in the page's unit, such as "1.8 rank-minutes" for 0.03, (60, "minutes") and before="rank-"."""
    factor, name = unit
    return f"{number(factor * hours, 1)} {before}{name}"


def _in_a_sentence(data: Answer, unit: tuple[float, str]) -> str:
    spent, saved, gpus = (sum(data.column(name)) for name in ("rank_hours", "saved_rank_hours", "gpu_hours"))
    share = (
        f", {100 * saved / (spent + saved):.0f}% of what each trial on its own would have computed"
        if spent + saved
        else ""
    )
    return (
        f"{hours_text(spent, unit, 'rank-')} were computed,"
        f" {hours_text(gpus, unit, 'rank-') if gpus else 'none'} of them on GPUs;"
        f" sharing stages between trials saved {hours_text(saved, unit, 'rank-')}{share}."
    )
