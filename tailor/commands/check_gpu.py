"""Check that a GPU computes what the CPU computes."""

import platform
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from transtailor import cli
from transtailor.errors import FAILED, SUCCESS
from transtailor.lines import first_line
from transtailor.shell import command as to_type
from transtailor.terminal import printable, say

if TYPE_CHECKING:
    from tailor.gpu_check import Check, CheckRow
    from tailor.parallel.process_group import ProcessGroup

COLUMNS = ("check", "compared", "tolerance", "found", "result", "s")
WIDTH = 160  # of a table in a file or a pipe
VERDICTS = {True: "right", False: "WRONG", None: "not here"}


@cli.command(example="--device cpu")
@cli.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", help="cpu: tries the checks")
def check_gpu(device: str) -> int:
    """Check that a GPU computes what the CPU computes; the exit code is 1 where a check fails."""
    import torch

    from tailor.parallel.process_group import join, leave

    if device == "cuda" and not torch.cuda.is_available():
        trying = to_type("check-gpu", "--device", "cpu")
        say(f"no GPU: torch {torch.__version__} sees none, so nothing was checked; to try the checks: {trying}")
        return SUCCESS
    from tailor.gpu_check import processes, training, trials

    checks = (
        trials.check_methods, trials.check_resumption, training.check_precision, training.check_optimisers,
        training.check_attention, training.check_waits, training.check_memory, processes.check_ranks,
    )  # fmt: skip
    ranks = join(device, threads=1)
    with tempfile.TemporaryDirectory() as folder:
        code = report(rows_of(checks, ranks, Path(folder)), describe_machine(ranks), sys.stdout)
    leave()
    return code


def rows_of(checks: "Iterable[Check]", ranks: "ProcessGroup", folder: Path) -> "Iterator[CheckRow]":
    """The rows of checks; a check that raises is a row, too."""
    from tailor.gpu_check import CheckRow

    for check in checks:
        place = folder / check.__name__
        place.mkdir()
        try:
            yield from check(ranks, place)
        except Exception as error:  # noqa: BLE001  # whatever a device raises, the other checks are made
            said = f"{type(error).__name__}: {first_line(str(error))}"
            yield CheckRow(check.__name__, "", "no error", said, False)


def report(rows: "Iterable[CheckRow]", machine: str, out: TextIO) -> int:
    """Print the table once all rows are there, and each check as it ends; 1 where one is wrong, otherwise 0."""
    from rich.console import Console
    from rich.table import Table

    table, wrong, begun_s = Table(*COLUMNS, title=printable(machine)), 0, time.perf_counter()
    last_s = begun_s
    for row in rows:
        now_s = time.perf_counter()
        words = (row.check, row.compared, row.tolerance, row.found, VERDICTS[row.is_right])
        table.add_row(*map(printable, words), f"{now_s - last_s:.1f}")
        wrong, last_s = wrong + (row.is_right is False), now_s
        say(f"{row.check}: {VERDICTS[row.is_right]}", to=sys.stderr)
    Console(file=out, width=None if out.isatty() else WIDTH, markup=False).print(table)
    say(f"{table.row_count} checks in {last_s - begun_s:.0f} s, {wrong} wrong", to=out)
    return FAILED if wrong else SUCCESS


def describe_machine(ranks: "ProcessGroup") -> str:
    """What computes, and with which versions."""
    import torch

    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    if ranks.device.type == "cpu":
        return f"on the CPU, not on a GPU; {versions}"
    name, count = torch.cuda.get_device_name(ranks.device), torch.cuda.device_count()
    return f"{name} ({count} seen), CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}; {versions}"
