"""A run's tables as CSV, or for TensorBoard, MLflow, W&B."""

from collections.abc import Iterator
from pathlib import Path

import click

from transtailor import cli

TOOLS = ("csv", "tensorboard", "mlflow", "wandb")


@cli.command(example="runs/demo --to csv")
@cli.run_argument
@cli.option("--to", type=click.Choice(TOOLS, case_sensitive=False), required=True, help="what will read it")
@cli.option("--out", type=cli.FOLDER, metavar="FOLDER", help="folder to write to (default: RUN/export/TOOL)")
@cli.option("--follow", is_flag=True, help="continue until the sweep has ended")
def export(run: Path, to: str, out: Path | None, follow: bool) -> Iterator[str]:
    """Write a run as CSV files, or for TensorBoard, MLflow or Weights & Biases; the run may be running."""
    from results.export.updates import export_lines

    yield from export_lines(run, to, out, follow=follow)
