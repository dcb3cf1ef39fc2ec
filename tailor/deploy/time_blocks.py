"""Time each block of a network on this CPU."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import click

from tailor.common.errors import ConfigError
from tailor.saved_model import Timing
from tailor.trial_file import imports_option, load_modules
from transtailor import cli
from transtailor.files import refuse_unwritable_file


@cli.command(example="mobilenet_v2 --image-px 224 --classes 6 --threads 1 --out mobilenet_v2.table.json")
@cli.argument("network")
@cli.option("--image-px", type=cli.COUNT, required=True, metavar="N", help="height and width of the images")
@cli.option("--classes", default=1000, type=cli.COUNT, metavar="N", help="outputs of the network: the target's classes")
@cli.option("--out", type=cli.FILE, required=True, metavar="FILE", help="file to write")
@cli.option(
    "--residual", type=click.Choice(["inside", "coupled"]), default="coupled", help="as pruning.residual of the trials"
)
@cli.option("--linear/--no-linear", default=True, help="as pruning.linear of the trials")
@cli.option("--threads", type=cli.COUNT, metavar="N", help="CPU threads (default: as many as torch takes)")
@cli.option("--batch", default=1, type=cli.COUNT, metavar="N", help="images of a forward pass")
@imports_option
def table(
    network: str,
    image_px: int,
    classes: int,
    out: Path,
    residual: Literal["inside", "coupled"],
    linear: bool,
    threads: int | None,
    batch: int,
    imports: tuple[Path, ...],
) -> Iterator[str]:
    """Time each block of NETWORK at its widths in ONNX Runtime on this CPU; takes minutes."""
    from tailor.config.latency_table import USED_UP_TO
    from tailor.facts.networks import NETWORKS

    refuse_unwritable_file(out, "--out", ConfigError)
    load_modules(imports)
    channels = NETWORKS[network].input_shape[0]
    from tailor.deploy.block_table import measure_table
    from tailor.stages import GroupRule

    circumstance, _device = Timing(batch=batch, threads=threads, device="cpu", runtime="onnxruntime").here()
    yield f"measuring in: {circumstance}"
    rule = GroupRule(residual=residual, linear=linear)
    measured = yield from measure_table(network, classes, (channels, image_px, image_px), rule, circumstance)
    sha256 = measured.write(out)
    yield f"{out}: {sum(map(len, measured.cells.values()))} cells"
    if measured.held_out_median_error > USED_UP_TO:
        return
    allocation = {"name": "latency", "asked_latency_fraction": 0.6, "table": str(out), "table_sha256": sha256}
    yield f"to prune by it, type below [trial]: {_toml('pruning', {'residual': residual, 'linear': linear})}"
    yield f"and below [trial.method]: {_toml('allocation', allocation)}"


def _toml(name: str, values: dict[str, Any]) -> str:
    return f"{name} = {{ {', '.join(f'{key} = {json.dumps(value)}' for key, value in values.items())} }}"
