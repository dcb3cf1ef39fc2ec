"""Run a sweep; the same command resumes it."""

import sys
from collections.abc import Iterator
from typing import Any

from results.command_output import Output, write
from sweeps.command_options import run_options
from transtailor import cli


@cli.command(example="demo")
@run_options
def run(plan: bool, format: str | None, wide: bool, limit: int | None, **options: Any) -> Iterator[str] | int:  # noqa: A002
    """Run the sweep that the TOML file SPEC describes; launched again, it resumes.

    SPEC is a file, or the name of a shipped one, such as demo. The exit code is 0 if all trials finished, 1 if some
    failed, 2 for a mistake in the command, and 130 if it was interrupted.
    """
    from sweeps.operations.launch import LaunchOptions, launch, planned_page

    launched = LaunchOptions(**options)
    if plan:
        return write(planned_page(launched, sys.argv), Output(format, wide, limit))
    return launch(launched)
