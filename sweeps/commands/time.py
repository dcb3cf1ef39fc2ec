"""Measure the latency of a run's sub-models here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sweeps.command_options import cache_option
from tailor.saved_model import Timing, timing_options
from transtailor import cli


@cli.command(example="runs/demo")
@cli.run_argument
@cache_option
@timing_options
@cli.option("--again", is_flag=True, help="time again what was timed in the same circumstance")
def time(run: Path, cache: Path, again: bool, **timing: Any) -> Iterator[str]:
    """Measure latency and memory of each sub-model of a run on this machine, alternating with its whole network."""
    from sweeps.operations.latencies import time_models
    from sweeps.run.run_folder import RunFolder

    return time_models(RunFolder(run), cache, Timing(**timing), again=again)
