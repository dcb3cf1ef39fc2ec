"""The milliseconds of a network as terms, from a table of measured blocks: nothing is timed."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailor.common.errors import ConfigError
from tailor.config.latency_table import LatencyTable, PricedBlock
from tailor.model.cost import macs_by_layer
from tailor.model.state import ModelState
from tailor.pruning.group_records import Group
from tailor.pruning.knapsack import CostTerm
from tailor.pruning.weight_widths import WeightWidths


def latency_terms(table: LatencyTable, state: ModelState, groups: tuple[Group, ...]) -> tuple[list[CostTerm], float]:
    """Return a term for each block whose widths a group changes, and the milliseconds of all else.

    Raises:
        ConfigError: the table is of another network, input or head, or lacks a cell.
    """
    refuse_other_network(table, state, groups)
    terms = []
    constant_ms = table.constant_ms
    for block in table.blocks:
        widths = WeightWidths(block.weight, state, groups)
        if not widths.names:
            constant_ms += table.cell_ms(block, *widths.at())
            continue
        terms.append(CostTerm(groups=widths.names, cost=_cost(table, block, widths)))
    return terms, constant_ms


def predicted_ms(table: LatencyTable, state: ModelState) -> float:
    """Return the predicted milliseconds of a state as it is, slimmed or whole: the sum of its cells, and the constant.

    Raises:
        ConfigError: the table lacks one of them.
    """
    cells_ms = sum(table.cell_ms(block, *inputs_and_outputs(state, block.weight)) for block in table.blocks)
    return cells_ms + table.constant_ms


def refuse_other_network(table: LatencyTable, state: ModelState, groups: tuple[Group, ...]) -> None:
    """Raise ConfigError unless a table has the layers, the input and the groups of this network, whatever its name."""
    if table.input_shape != state.input_shape:
        raise ConfigError(
            f"the table is for inputs {table.input_shape}, and these are {state.input_shape}; measure one with "
            f"--image-px {state.input_shape[-1]}"
        )
    shapes = {name: tensor.shape for name, tensor in state.tensors.items()}
    layers = macs_by_layer(state.network, state.classes, shapes, state.input_shape)
    of_table = {block.weight: (block.outputs, block.inputs) for block in table.blocks}
    differing = sorted(layers.keys() ^ of_table.keys())
    if not differing:
        differing = [name for name, whole in of_table.items() if tuple(shapes[name][:2]) > whole]
    if differing:
        raise ConfigError(
            f"the table is of {table.network} with {table.classes} classes, and this network has another layer "
            f"{differing[0].removesuffix('.weight')} ({len(differing)} such layers); measure one for it with "
            "transtailor model table"
        )
    head = [block for block in table.blocks if block.outputs == table.classes][-1]
    classes = shapes[head.weight][0]
    if classes != table.classes:
        raise ConfigError(
            f"the table is of {table.network} with {table.classes} classes, and this network has {classes}; measure one"
            f" for it, type: {table.how_to_make(classes)}"
        )
    unknown = [group.name for group in groups if group.name not in table.widths]
    if unknown:
        raise ConfigError(
            f"the table has no widths of {unknown[0]} ({len(unknown)} such groups): it was measured for other settings "
            "of [pruning]; give the trial the pruning.residual and pruning.linear that it was measured with, "
            "or measure one with --residual and --linear as the trial has them"
        )


def inputs_and_outputs(state: ModelState, weight: str) -> tuple[int, int]:
    """Return the second and the first size of a weight: its inputs (of each of its groups) and outputs."""
    outputs, inputs = state.tensors[weight].shape[:2]
    return inputs, outputs


def _cost(table: LatencyTable, block: PricedBlock, widths: WeightWidths) -> Callable[..., NDArray[Any]]:
    def at(*arrays: NDArray[Any]) -> NDArray[Any]:
        together = np.broadcast_arrays(*arrays)
        cells = [
            table.cell_ms(block, *widths.at(*map(int, place)))
            for place in zip(*(array.flat for array in together), strict=True)
        ]
        return np.array(cells).reshape(together[0].shape)

    return at
