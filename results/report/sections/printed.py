"""Numbers printed in papers, compared with the measured ones."""

from results.plot.printed import printed_numbers
from results.report.elements.blocks import Figure, Section
from results.store.reader import Run


def section(run: Run) -> Section | None:
    """Draw one row for each printed number; None if the run has none."""
    charts = printed_numbers(run)
    if not charts:
        return None
    made = Section(
        "printed",
        "What the papers print",
        "Rings: the number as printed. Full dots: the mean over this run's trials of that label on that data set, with"
        " one standard deviation. Unless a note says otherwise, the papers' data, weights and training differ from"
        " those of this run.",
        short="Papers",
    )
    made.blocks += [Figure(f"printed{place}", chart) for place, chart in enumerate(charts)]
    return made
