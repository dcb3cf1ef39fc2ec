"""Time each block of a network on this CPU."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from tailor.common.errors import ConfigError
from tailor.model.circumstance import Timing
from tailor.saved_model import whole_network
from tailor.trial_file import imports_option, load_modules
from transtailor import cli
from transtailor.files import refuse_unwritable_file

if TYPE_CHECKING:
    from tailor.model.state import ModelState


@cli.command(example="mobilenet_v2 --image-px 224 --classes 6 --threads 1 --out mobilenet_v2.table.json")
@cli.argument("network", required=False)
@cli.option("--image-px", type=cli.COUNT, required=True, metavar="N", help="height and width of the images")
@cli.option("--classes", type=cli.COUNT, metavar="N", help="outputs of NETWORK: the target's classes (default: 1000)")
@cli.option("--out", type=cli.FILE, required=True, metavar="FILE", help="file to write")
@cli.option(
    "--residual", type=click.Choice(["inside", "coupled"]), default="coupled", help="as pruning.residual of the trials"
)
@cli.option("--linear/--no-linear", default=True, help="as pruning.linear of the trials")
@cli.option("--threads", type=cli.COUNT, metavar="N", help="CPU threads (default: as many as torch takes)")
@cli.option("--batch", default=1, type=cli.COUNT, metavar="N", help="images of a forward pass")
@imports_option
@cli.option(
    "--module", metavar="FILE:NAME",
    help="in place of NETWORK: the class or function that makes your own, or itself, net.py:Net",
)  # fmt: skip
def table(
    network: str | None,
    image_px: int,
    classes: int | None,
    out: Path,
    residual: Literal["inside", "coupled"],
    linear: bool,
    threads: int | None,
    batch: int,
    imports: tuple[Path, ...],
    module: str | None,
) -> Iterator[str]:
    """Time each block of NETWORK at its widths in ONNX Runtime on this CPU; takes minutes."""
    from tailor.config.latency_table import USED_UP_TO

    refuse_unwritable_file(out, "--out", ConfigError)
    if network is not None and ":" in network:
        raise ConfigError(f"{network} is no name of a network; for your own, type --module {network}")
    if (network is None) == (module is None):
        raise ConfigError("give one: the name of a NETWORK, or --module FILE:NAME of your own")
    if module is not None and classes is not None:
        raise ConfigError("--classes is for NETWORK; what --module makes has the outputs that it has: leave one out")
    load_modules(imports)
    with _network(network, classes or 1000, module, image_px) as whole:
        from tailor.deploy.block_table import measure_table
        from tailor.stages import GroupRule

        circumstance, _device = Timing(batch=batch, threads=threads, device="cpu", runtime="onnxruntime").here()
        yield f"measuring in: {circumstance}"
        rule = GroupRule(residual=residual, linear=linear)
        measured = yield from measure_table(whole, rule, circumstance)
    measured = measured.replace(network=network or module)
    sha256 = measured.write(out)
    yield f"{out}: {sum(map(len, measured.cells.values()))} cells"
    if measured.held_out_median_error > USED_UP_TO:
        return
    if module is not None:
        yield f"to prune by it: tailor.prune(..., asked_latency_fraction=0.6, table={str(out)!r})"
        return
    allocation = {"name": "latency", "asked_latency_fraction": 0.6, "table": str(out), "table_sha256": sha256}
    yield f"to prune by it, type below [trial]: {_toml('pruning', {'residual': residual, 'linear': linear})}"
    yield f"and below [trial.method]: {_toml('allocation', allocation)}"


@contextmanager
def _network(network: str | None, classes: int, module: str | None, image_px: int) -> "Iterator[ModelState]":
    """Yield the whole network, which can be built until the context ends; its weights are not read."""
    if module is not None:
        from tailor.user_module.given import opened_module

        with opened_module(whole_network(module), image_px) as state:
            yield state
    elif network is not None:
        from tailor.facts.networks import NETWORKS

        channels = NETWORKS[network].input_shape[0]
        from tailor.model.state import ModelState

        yield ModelState(network=network, classes=classes, input_shape=(channels, image_px, image_px), tensors={})


def _toml(name: str, values: dict[str, Any]) -> str:
    return f"{name} = {{ {', '.join(f'{key} = {json.dumps(value)}' for key, value in values.items())} }}"
