"""Measure the latency of a run's sub-models here."""

from collections.abc import Iterator
from pathlib import Path

from sweeps.command_options import cache_option
from tailor.saved_model import timing_options
from transtailor import cli


@cli.command(example="runs/demo")
@cli.run_argument
@cache_option
@timing_options
@cli.option("--again", is_flag=True, help="time also what was timed under the same conditions")
def time(
    run: Path, cache: Path, batch: int, device: str, threads: int | None, repeats: int, again: bool
) -> Iterator[str]:
    """Measure latency and peak memory of each sub-model of a run on this machine."""
    from sweeps.operations.latencies import How, time_models
    from sweeps.run.run_folder import RunFolder

    how = How(batch=batch, device=device, threads=threads, repeats=repeats, again=again)
    return time_models(RunFolder(run), cache, how)
