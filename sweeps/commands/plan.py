"""Show the trials and the cost of a sweep; run nothing."""

import sys
from collections.abc import Iterator
from typing import Any

from results.command_output import prints_page
from results.text.page import Part
from sweeps.command_options import plan_options
from transtailor import cli
from transtailor.shell import launch_words


@cli.command(example="demo")
@plan_options
@cli.option(
    "--effect",
    type=float,
    metavar="SCORE",
    help="with [settle]: the seeds and hours expected if each true difference is this, such as 0.01",
)
@cli.option(
    "--deviation",
    type=float,
    metavar="SCORE",
    help="the standard deviation of a difference, such as 0.014 (default: as measured in the run)",
)
@prints_page
def plan(effect: float | None, deviation: float | None, **options: Any) -> Iterator[Part]:
    """Show the trials of the sweep that the TOML file SPEC describes, what they share and what they cost.

    Nothing is run or written. SPEC is a file, or the name of a shipped one, such as demo.
    """
    from sweeps.operations.launch import LaunchOptions, planned_page

    typed = [sys.argv[0], "run", *launch_words(sys.argv)]
    return planned_page(LaunchOptions(**options), typed, effect=effect, deviation=deviation)
