"""Export a run once, or repeatedly while the sweep runs."""

import shlex
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import click

from results.errors import ResultsError
from results.export.target import ByTrial, Target
from results.store.completeness import is_over, refuse_gaps
from results.store.files import tables_folder
from results.store.lock import hold_lock
from results.store.reader import load
from transtailor import cli
from transtailor.files import make_folder, refuse_unwritable
from transtailor.ownership import refuse_outside

FOLLOW_EVERY_S = 10.0

TOOLS: Mapping[str, str] = MappingProxyType(
    {
        "csv": "CSV files, one for each table, are in {0}",
        "tensorboard": "to view it, type: tensorboard --logdir {0}",
        "mlflow": "to view it, type: mlflow server --backend-store-uri sqlite:///{0}/mlflow.db",
        "wandb": "to upload it, type: wandb sync {0}/*/wandb/offline-run-*",
    }
)
"""Name -> what to do with the folder of an export."""


def _target(tool: str, folder: Path) -> Target:
    """Open the tool's target in a folder; only this imports the tool's library."""
    if tool == "csv":
        from results.export.to_csv import CsvFiles

        return CsvFiles(folder)
    if tool == "tensorboard":
        from results.export.to_tensorboard import TensorBoard

        return ByTrial(TensorBoard(folder).add)
    if tool == "mlflow":
        from results.export.to_mlflow import Mlflow

        return ByTrial(Mlflow(folder).add)
    from results.export.to_wandb import WeightsAndBiases

    return ByTrial(WeightsAndBiases(folder).add)


def export_lines(run: Path, to: str, out: Path | None = None, *, follow: bool = False) -> Iterator[str]:
    """Export a run; yield what was done, line by line.

    Run again, also after it was killed, it adds what is new: nothing is exported twice.

    Args:
        to: a name from `TOOLS`.
        out: folder to write into; None: `<run>/export/<to>`.

    Raises:
        ResultsError: no run, or no trials in it yet; a library is missing; another process exports there; the folder
            is a link that leads out of the run.
    """
    tables_folder(run)
    usual_folder = run / "export" / to
    if out is None:
        refuse_outside(run, [usual_folder], ResultsError)
    with load(run) as tables:
        if not follow and not tables.rows("SELECT 1 FROM planned LIMIT 1"):
            raise ResultsError(f"{str(run)!r} has no trials yet: nothing to export; type --follow to wait for them")
        refuse_gaps(tables)
    folder = (out or usual_folder).absolute()
    refuse_unwritable(folder, "--out", ResultsError)
    target = _target(to, folder)
    make_folder(folder)
    busy = f"another process exports to {str(folder)!r}; wait for it, or type another --out"
    with hold_lock(folder / ".lock", busy):
        yield from _updates(run, target, follow=follow)
    yield TOOLS[to].format(folder if to == "csv" else shlex.quote(str(folder)))  # the others are commands


def _updates(run: Path, target: Target, *, follow: bool) -> Iterator[str]:
    """Update the target once, or repeatedly until the sweep has ended; yield what was added."""
    is_first = True
    while True:
        with load(run) as tables:
            added = target.update(tables)
            is_last = is_over(tables) or not follow
        if added or is_first:
            yield f"{added:,} new {target.unit}"
        if is_last:
            return
        is_first = False
        time.sleep(FOLLOW_EVERY_S)


@cli.command(example="runs/demo --to csv")
@cli.run_argument
@cli.option("--to", type=click.Choice(list(TOOLS), case_sensitive=False), required=True, help="what will read it")
@cli.option("--out", type=cli.FOLDER, metavar="FOLDER", help="folder to write to (default: RUN/export/TOOL)")
@cli.option("--follow", is_flag=True, help="continue until the sweep has ended")
def export(run: Path, to: str, out: Path | None, follow: bool) -> Iterator[str]:
    """Write a run as CSV files, or for TensorBoard, MLflow or Weights & Biases; the run may be running."""
    return export_lines(run, to, out, follow=follow)
