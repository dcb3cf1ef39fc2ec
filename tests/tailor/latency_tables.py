"""Tables of latencies with made-up cells, for tests: nothing is timed."""

import itertools
from pathlib import Path

import torch

from tailor.config.latency_table import LatencyTable, PricedBlock
from tailor.model.circumstance import EXAMPLE
from tailor.model.cost import macs_by_layer, original_shapes, positions
from tailor.model.state import ModelState
from tailor.networks import building
from tailor.pruning.group_records import Group
from tailor.pruning.groups import groups
from tailor.pruning.latency_terms import predicted_ms
from tailor.pruning.weight_widths import WeightWidths
from tailor.stages import GroupRule
from transtailor.machine import cpu_name

COUPLED = GroupRule(residual="coupled", linear=True)


def whole(
    network: str, shape: tuple[int, ...], rule: GroupRule, classes: int = 5
) -> tuple[ModelState, tuple[Group, ...]]:
    """A network with tensors of any numbers, and its groups."""
    skeleton = building.skeleton(network, classes)
    tensors = {name: torch.empty(tensor.shape) for name, tensor in skeleton.state_dict().items()}
    state = ModelState(network=network, classes=classes, input_shape=shape, tensors=tensors)
    return state, groups(skeleton, shape, rule)


def made_up_table(
    network: str, shape: tuple[int, ...], rule: GroupRule, *, most_widths: int = 3, classes: int = 5
) -> LatencyTable:
    """A table whose cells are a staircase over the MACs; each group has a few widths."""
    state, found = whole(network, shape, rule, classes)
    grid = {}
    for group in found:
        step = max(1, group.filters // most_widths)
        grid[group.name] = sorted({*range(step, group.filters, step), group.filters})[-most_widths:]
    shapes = original_shapes(network, classes)
    places = positions(network, classes, shape)
    blocks = []
    cells: dict[str, dict[str, float]] = {}
    for weight in macs_by_layer(network, classes, shapes, shape):
        outputs, inputs = shapes[weight][:2]
        kind = f"Conv {tuple(shapes[weight][2:])} at {places[weight]}"
        blocks.append(PricedBlock(weight=weight, kind=kind, inputs=inputs, outputs=outputs))
        widths = WeightWidths(weight, state, found)
        for of_groups in itertools.product(*(grid[name] for name in widths.names)):
            at_inputs, at_outputs = widths.at(*of_groups)
            ms = 0.001 * (1 + places[weight] * -(-at_inputs // 2) * -(-at_outputs // 2))
            cells.setdefault(kind, {})[f"{at_inputs}x{at_outputs}"] = ms
    table = LatencyTable(
        network=network,
        classes=classes,
        input_shape=shape,
        rule=rule.identity(),
        circumstance=vars(EXAMPLE) | {"device_name": cpu_name()},
        step=1,
        widths=grid,
        blocks=blocks,
        cells=cells,
        constant_ms=0.5,
        scale=1.1,
        whole_ms=1.0,
        least_ms=0.0,
        held_out_median_error=0.03,
        held_out_worst_error=0.08,
        held_out_rank_correlation=0.97,
        held_out_networks=12,
    )
    whole_ms = predicted_ms(table, state)
    return table.replace(whole_ms=whole_ms, least_ms=0.1 * whole_ms)


def written(table: LatencyTable, folder: Path, name: str = "table.json") -> tuple[Path, str]:
    """The file of a table, and its SHA-256."""
    file = folder / name
    return file, table.write(file)
