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


@cli.command(example="--device cpu")
@cli.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", help="cpu: tries the checks")
def check_gpu(device: str) -> int:
    """Check that a GPU computes what the CPU computes; the exit code is 1 where a check fails."""
    import torch

    from tailor.parallel.process_group import join, leave

    if device == "cuda" and not torch.cuda.is_available():
        on_cpu = to_type("check-gpu", "--device", "cpu")
        say(f"no GPU: torch {torch.__version__} sees none, so nothing was checked; to try the checks: {on_cpu}")
        return SUCCESS
    from tailor.gpu_check import processes, training, trials

    checks = (
        trials.check_methods, trials.check_resumption, training.check_precision, training.check_optimisers,
        training.check_attention, training.check_waits, training.check_memory, processes.check_ranks,
    )  # fmt: skip
    ranks = join(device, threads=1)
    with tempfile.TemporaryDirectory() as folder:
        exit_code = report(rows_of(checks, ranks, Path(folder)), describe_machine(ranks), sys.stdout)
    leave()
    return exit_code


def rows_of(checks: "Iterable[Check]", ranks: "ProcessGroup", folder: Path) -> "Iterator[CheckRow]":
    """Yield the rows of the checks; a check that raises becomes a row, too."""
    from tailor.gpu_check import CheckRow

    for check in checks:
        own_folder = folder / check.__name__
        own_folder.mkdir()
        try:
            yield from check(ranks, own_folder)
        except Exception as error:  # noqa: BLE001  # whatever a device raises, the other checks are made
            message = f"{type(error).__name__}: {first_line(str(error))}"
            yield CheckRow(check.__name__, "", "no error", message, False)


def report(rows: "Iterable[CheckRow]", machine: str, out: TextIO) -> int:
    """Print each check as it ends, and the table of all; return 1 if one is wrong, otherwise 0."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*COLUMNS, title=printable(machine))
    wrong = 0
    begin_s = time.perf_counter()
    last_s = begin_s
    for row in rows:
        verdict = _verdict(row)
        if row.is_right is False:
            wrong += 1
        now_s = time.perf_counter()
        cells = [printable(text) for text in (row.check, row.compared, row.tolerance, row.difference, verdict)]
        table.add_row(*cells, f"{now_s - last_s:.1f}")
        last_s = now_s
        say(f"{row.check}: {verdict}", to=sys.stderr)
    Console(file=out, width=None if out.isatty() else WIDTH, markup=False).print(table)
    say(f"{table.row_count} checks in {last_s - begin_s:.0f} s, {wrong} wrong", to=out)
    return FAILED if wrong else SUCCESS


def _verdict(row: "CheckRow") -> str:
    if row.is_right is None:
        return "not here"
    return "right" if row.is_right else "WRONG"


def describe_machine(ranks: "ProcessGroup") -> str:
    """Return what computes, and with which versions."""
    import torch

    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    if ranks.device.type == "cpu":
        return f"on the CPU, not on a GPU; {versions}"
    gpu = torch.cuda.get_device_name(ranks.device)
    count = torch.cuda.device_count()
    return f"{gpu} ({count} seen), CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}; {versions}"
