"""Options that several commands on results have."""

import json
from collections.abc import Iterator

import click

from results.errors import ResultsError
from transtailor import cli


def _arms(ctx: click.Context) -> Iterator[str]:
    """Yield the arms of the run that was typed, each once, in the order of its plan."""
    run = cli.typed_run(ctx)
    trials = {} if run is None else json.loads((run / "plan.json").read_bytes())["trials"]
    arms: list[str] = []
    for trial in trials.values():
        arms += [str(trial["arm"]), *([str(trial["head_arm"])] if trial.get("head_arm") else [])]
    yield from dict.fromkeys(arms)


complete_arms = cli.complete(_arms)

against_option = cli.option(
    "--against", metavar="ARM", shell_complete=complete_arms,
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
