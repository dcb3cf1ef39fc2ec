"""Options that several commands on results have."""

from results.errors import ResultsError
from transtailor import cli

against_option = cli.option(
    "--against", metavar="ARM",
    help="the arm that all others are compared with: its name, or a label that only it has",
)  # fmt: skip
at_option = cli.option("--at", type=cli.FRACTION, metavar="FRACTION", help="share of the MACs to remove, such as 0.2")
over_option = cli.option(
    "--over", multiple=True, metavar="SETTING",
    help="average over this setting, such as optimisation.learning_rate, instead of telling arms apart by it "
    "(repeatable)",
)  # fmt: skip


def refuse_points(option: str, difference: float | None) -> None:
    """Raise ResultsError if a difference of scores, which are fractions, was typed in points."""
    if difference is not None and abs(difference) >= 1:
        raise ResultsError(
            f"{option} {difference:g}: scores are fractions; for {difference:g} points type {difference / 100:g}"
        )
