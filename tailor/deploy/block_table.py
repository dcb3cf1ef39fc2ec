"""Measures a table of a network's blocks on this machine, and how well their sum predicts whole networks."""

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median

import numpy as np
import torch
from scipy import stats

from tailor.common.errors import ConfigError
from tailor.config.latency_table import SAID_FROM, USED_UP_TO, LatencyTable, PricedBlock
from tailor.deploy.block_profile import ProfiledBlock, ProfiledLayer, cut, kind_of, profiled
from tailor.deploy.resized_program import ResizedProgram, refuse_reshapes
from tailor.model.circumstance import Circumstance
from tailor.model.cost import count_products, macs_by_layer, original_shapes, positions
from tailor.model.latency import whole_network
from tailor.model.passes import as_deployed, onnx_pass
from tailor.model.programs import images_for
from tailor.model.state import ModelState
from tailor.model.timing import PASSES_OF_A_TURN, UNSTEADY, Pass, time_in_turns
from tailor.pruning import surgery
from tailor.pruning.group_records import Group
from tailor.pruning.groups import groups
from tailor.pruning.knapsack_budget import knapsack_by_table
from tailor.pruning.latency_terms import predicted_ms
from tailor.pruning.weight_widths import WeightWidths
from tailor.stages import GroupRule

STEPS = (8, 16, 32, 64)
"""Steps that are tried, in filters: from AVX2's blocks of 8 to what no CPU has."""
STEP_ROOM = 0.1
"""Widths within a step may be this share cheaper than its end (C): they are measured, and kernels do a little less."""
MOST_WIDTHS = 7
"""Widths of a group that are measured (C): pairs of them are 49 cells of a layer."""
LEAST_FRACTION = 0.1
"""Smallest width that is measured, of the whole (C): what `pruning.minimum_filters_fraction` leaves by default."""
PASSES = 12
"""Passes of each network that is profiled (C); of each kernel the lower quartile counts."""
MOST_CELLS = 20_000
FITTED = 8
HELD_OUT = 12
CHOSEN_BETWEEN = (0.2, 0.9)
"""Where these networks lie between the sum of the smallest cells and that of the whole network (C). Of MobileNetV2,
smaller ones took about 5% less than the line said, and tilted it."""
LEAST_ROUNDS, MOST_ROUNDS = 6, 60
TIMED_S = 20.0
"""How long these networks are timed in turns, between the least and the most rounds (C): on a shared machine, rounds of
two seconds put the line some per cent too low or too high."""
WHOLE = "whole network"

Widths = Mapping[str, int]
Lines = Generator[str, None, LatencyTable]
"""Yields the progress and returns the table."""


@dataclass(kw_only=True)
class _Measuring:
    """The network, its program, and the cells so far."""

    state: ModelState
    groups: tuple[Group, ...]
    program: ResizedProgram
    circumstance: Circumstance
    blocks: Sequence[ProfiledBlock]
    positions: Mapping[str, int]  # by weight
    kinds: Mapping[str, str]
    grid: Mapping[str, list[int]]
    samples: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    @property
    def least(self) -> dict[str, int]:
        """The smallest width of each group that is measured."""
        return {name: widths[0] for name, widths in self.grid.items()}

    def slim(self, widths: Widths) -> ModelState:
        kept = {group.name: torch.arange(widths[group.name]) for group in self.groups}
        return surgery.slim(self.state, kept, self.groups)

    def sample(self, widths: Widths) -> None:
        """Profile the network at these widths; other kernels may run there, such as ones that change the layout."""
        slimmed = self.slim(widths)
        images = images_for(slimmed, self.circumstance.batch, seed=0).numpy()
        try:
            kernels = profiled(self.program.at(slimmed), images, self.circumstance.threads, PASSES)
        except Exception as error:  # of ONNX Runtime, which has no base class for its errors
            raise refuse_reshapes(error, self.state.network) from error
        layers = {}
        for block in self.blocks:
            shape = tuple(slimmed.tensors[block.weight].shape)
            layers[block.weight] = ProfiledLayer(shape=shape, positions=self.positions[block.weight])
        blocks = cut(kernels, layers, self.state.network)
        for block in blocks:
            outputs, inputs = layers[block.weight].shape[:2]
            ms = sum(kernels[number].ms for number in block.kernels)
            self.samples.setdefault((self.kinds[block.weight], f"{inputs}x{outputs}"), []).append(ms)


def measure_table(network: ModelState, rule: GroupRule, circumstance: Circumstance) -> Lines:
    """Measure the table of a network, whatever its weights, on this machine: yield the progress, return the table.

    Networks with widths of the grid are profiled until each pair of widths of each layer was seen. Then networks are
    timed as a pruning would choose them by these cells, from a fifth to 0.9 of the way from the smallest to the whole:
    8 of them and the whole one give the line from the sum of blocks to the time of a network, and 12 others the error.

    Raises:
        ConfigError: not for ONNX Runtime, or the network cannot lose filters or be cut into blocks.
    """
    if circumstance.runtime != "onnxruntime":
        raise ConfigError(
            f"tables are measured in onnxruntime, whose profiler tells kernels apart, not in {circumstance.runtime}; "
            "leave --runtime and --device out"
        )
    with as_deployed(circumstance):
        step = find_step(circumstance.threads)
        yield f"widths between multiples of {step} cost as much as the larger one"
        measuring = _prepare(network, rule, circumstance, step)
        for operation in sorted(count_products(network.network, network.classes, network.input_shape).uncounted):
            yield f"no block of its own: {operation}"
        numbers = np.random.default_rng(0)
        wanted = cells_of(measuring)
        yield f"{len(measuring.blocks)} blocks of {len(set(measuring.kinds.values()))} kinds, {len(wanted)} cells"
        yield from _fill(measuring, wanted, numbers)
        return (yield from _table(measuring, rule, step, numbers))


def _prepare(network: ModelState, rule: GroupRule, circumstance: Circumstance, step: int) -> _Measuring:
    whole = whole_network(network)
    found = groups(whole.build(), whole.input_shape, rule)
    if not found:
        raise ConfigError(f"no filter of {whole.network} can be removed with these settings; give --residual coupled")
    program = ResizedProgram(whole, circumstance.batch)
    images = images_for(whole, circumstance.batch, seed=0).numpy()
    kernels = profiled(program.at(whole), images, circumstance.threads, PASSES)
    shapes = original_shapes(whole.network, whole.classes)
    order = macs_by_layer(whole.network, whole.classes, shapes, whole.input_shape)
    places = positions(whole.network, whole.classes, whole.input_shape)
    layers = {name: ProfiledLayer(shape=tuple(shapes[name]), positions=places[name]) for name in order}
    blocks = cut(kernels, layers, whole.network)
    return _Measuring(
        state=whole,
        groups=found,
        program=program,
        circumstance=circumstance,
        blocks=blocks,
        positions=places,
        kinds={block.weight: kind_of(kernels, block) for block in blocks},
        grid={group.name: grid_of(group.filters, step) for group in found},
    )


def grid_of(filters: int, step: int) -> list[int]:
    """Return at most MOST_WIDTHS widths: ends of steps at equal distances from LEAST_FRACTION on, and the whole.

    >>> grid_of(64, 16), grid_of(24, 16), grid_of(8, 16)
    ([16, 32, 48, 64], [16, 24], [8])
    """
    least = max(1, math.ceil(LEAST_FRACTION * filters / step))
    most = (filters - 1) // step
    ends = range(least, most + 1)
    if len(ends) >= MOST_WIDTHS:
        return sorted({step * round(end) for end in np.linspace(least, most, MOST_WIDTHS - 1)} | {filters})
    return [step * end for end in ends] + [filters]


def find_step(threads: int) -> int:
    """Return how many filters cost as much as one: the largest of STEPS in which a convolution's time is flat."""
    from onnx import TensorProto, helper, numpy_helper

    def ms_of(outputs: int) -> float:
        numbers = np.random.default_rng(0)
        weight = numbers.standard_normal((outputs, 64, 1, 1)).astype(np.float32)
        shape = [1, 64, 28, 28]
        graph = helper.make_graph(
            [helper.make_node("Conv", ["images", "weight"], ["outputs"], kernel_shape=[1, 1])],
            "step",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(weight, "weight")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 9
        kernels = profiled(model.SerializeToString(), numbers.standard_normal(shape).astype(np.float32), threads, 60)
        return max(kernel.ms for kernel in kernels if kernel.op in ("Conv", "FusedConv"))

    flat = 1
    for step in STEPS:
        times = {outputs: ms_of(outputs) for start in (2, 3) for outputs in (start * step + 1, (start + 1) * step)}
        pairs = [(times[start * step + 1], times[(start + 1) * step]) for start in (2, 3)]
        if all(beginning >= (1.0 - STEP_ROOM) * end for beginning, end in pairs):
            flat = step
    return flat


def cells_of(measuring: _Measuring) -> dict[tuple[str, str], list[tuple[str, Widths]]]:
    """Return the cells to measure: kind and widths -> the blocks that have it, with the widths of their groups."""
    cells: dict[tuple[str, str], list[tuple[str, Widths]]] = {}
    count = 0
    for block in measuring.blocks:
        kind = measuring.kinds[block.weight]
        widths = WeightWidths(block.weight, measuring.state, measuring.groups)
        grids = [measuring.grid[name] for name in widths.names]
        count += int(np.prod([len(grid) for grid in grids]))
        if count > MOST_CELLS:
            raise ConfigError(
                f"{measuring.state.network} needs more than {MOST_CELLS:,} cells, because layers such as "
                f"{block.weight} read {len(grids)} groups at once; prune it to a latency with "
                "allocation.asked_latency_ms"
            )
        for place in np.ndindex(*(len(grid) for grid in grids)):
            of_groups = {name: grid[at] for name, grid, at in zip(widths.names, grids, place, strict=True)}
            inputs, outputs = widths.at(*of_groups.values())
            cells.setdefault((kind, f"{inputs}x{outputs}"), []).append((block.weight, of_groups))
    return cells


def _fill(
    measuring: _Measuring, wanted: dict[tuple[str, str], list[tuple[str, Widths]]], numbers: np.random.Generator
) -> Iterator[str]:
    """Profile networks until each cell was seen; yield the progress."""
    networks = 0
    while True:
        missing = [cell for cell in wanted if cell not in measuring.samples]
        if not missing:
            return
        measuring.sample(_widths_with(missing, wanted, measuring, numbers))
        networks += 1
        if networks % 10 == 0:
            yield f"{len(wanted) - len(missing)} of {len(wanted)} cells, {networks} networks profiled"


def _widths_with(
    missing: Sequence[tuple[str, str]],
    wanted: dict[tuple[str, str], list[tuple[str, Widths]]],
    measuring: _Measuring,
    numbers: np.random.Generator,
) -> Widths:
    """Return widths with which the network has as many of the missing cells as fit together, the first one surely."""
    chosen: dict[str, int] = {}
    order = [0, *(1 + numbers.permutation(len(missing) - 1)).tolist()]
    for place in order:
        options = wanted[missing[place]]
        for at in numbers.permutation(len(options)).tolist():
            _weight, of_groups = options[at]
            if all(chosen.get(name, width) == width for name, width in of_groups.items()):
                chosen |= of_groups
                break
    return {name: chosen.get(name, int(numbers.choice(grid))) for name, grid in measuring.grid.items()}


def _table(measuring: _Measuring, rule: GroupRule, step: int, numbers: np.random.Generator) -> Lines:
    """Fit the line on some networks, compare with others, and return the table; yield the progress."""
    yield f"timing {FITTED + HELD_OUT} whole networks in turns"
    cells = _cells_alone(measuring, rule, step)
    fitted = _chosen_networks(measuring, cells, FITTED, numbers)
    held_out = _chosen_networks(measuring, cells, HELD_OUT, numbers)
    sums_ms = [predicted_ms(cells, state) for state in (measuring.state, *fitted, *held_out)]
    rounds = rounds_for(sums_ms)
    measured_ms, whole_ms, is_steady = _time_networks(measuring, [*fitted, *held_out], rounds)
    scale, constant_ms = line_through(sums_ms[: 1 + FITTED], [whole_ms, *measured_ms[:FITTED]])
    table = cells.replace(scale=scale, constant_ms=constant_ms, whole_ms=whole_ms)
    predictions_ms = np.array([predicted_ms(table, state) for state in held_out])
    held_out_ms = np.array(measured_ms[FITTED:])
    errors = np.abs(predictions_ms / held_out_ms - 1.0)
    table = table.replace(
        least_ms=max(0.0, predicted_ms(table, measuring.slim(measuring.least))),
        held_out_median_error=float(np.median(errors)),
        held_out_worst_error=float(errors.max()),
        held_out_rank_correlation=rank_correlation(predictions_ms, held_out_ms),
    )
    yield from verdict_lines(table, is_steady)
    return table


def _cells_alone(measuring: _Measuring, rule: GroupRule, step: int) -> LatencyTable:
    """Return a table that predicts the sum of the cells of a network; what is timed later is 0 in it."""
    cells: dict[str, dict[str, float]] = {}
    for (kind, width), samples in sorted(measuring.samples.items()):
        cells.setdefault(kind, {})[width] = round(median(samples), 6)
    return LatencyTable(
        network=measuring.state.network,
        classes=measuring.state.classes,
        input_shape=measuring.state.input_shape,
        rule=rule.identity(),
        circumstance=asdict(measuring.circumstance),
        step=step,
        widths=dict(measuring.grid),
        blocks=[_block(measuring, block) for block in measuring.blocks],
        cells=cells,
        constant_ms=0.0,
        scale=1.0,
        whole_ms=0.0,
        least_ms=0.0,
        held_out_median_error=0.0,
        held_out_worst_error=0.0,
        held_out_rank_correlation=0.0,
        held_out_networks=HELD_OUT,
    )


def _chosen_networks(
    measuring: _Measuring, cells: LatencyTable, count: int, numbers: np.random.Generator
) -> list[ModelState]:
    """Return networks that keep the most of a random importance, at evenly spaced sums of their cells.

    A pruning prefers cells that were measured a little too fast, so networks of random widths would hide its error.
    """
    least_ms = predicted_ms(cells, measuring.slim(measuring.least))
    whole_ms = predicted_ms(cells, measuring.state)
    chosen = []
    for share in np.linspace(*CHOSEN_BETWEEN, count):
        importance = {}
        for group in measuring.groups:
            of_group = np.exp(numbers.standard_normal()) * numbers.random(group.filters)
            importance[group.name] = torch.from_numpy(of_group)
        asked_ms = least_ms + float(share) * (whole_ms - least_ms)
        kept, _solution = knapsack_by_table(
            cells, measuring.state, measuring.groups, importance, measuring.least, asked_ms
        )
        chosen.append(measuring.slim({name: len(filters) for name, filters in kept.items()}))
    return chosen


def rounds_for(passes_ms: Sequence[float]) -> int:
    """Return how many rounds take about TIMED_S, if a pass of each network takes these milliseconds.

    >>> rounds_for([5.0] * 21), rounds_for([0.1] * 21), rounds_for([200.0] * 21)
    (48, 60, 6)
    """
    round_s = (1 + PASSES_OF_A_TURN) * sum(passes_ms) / 1e3
    return min(MOST_ROUNDS, max(LEAST_ROUNDS, round(TIMED_S / round_s)))


def line_through(sums_ms: Sequence[float], measured_ms: Sequence[float]) -> tuple[float, float]:
    """Return slope and constant of the line from the first to the second, with the least squares of relative errors.

    >>> slope, constant = line_through([1.0, 2.0, 4.0], [1.9, 4.1, 8.5])
    >>> round(slope, 6), round(constant, 6)
    (2.2, -0.3)

    If the second do not grow with the first, because the machine was busy, it is the line through their median ratio
    and 0: its error on other networks then says that the table is not to be used.
    """
    measured = np.array(measured_ms)
    columns = np.stack([np.array(sums_ms), np.ones_like(measured)], axis=1) / measured[:, None]
    slope, constant = np.linalg.lstsq(columns, np.ones_like(measured), rcond=None)[0].tolist()
    if slope <= 0.0:
        return float(np.median(measured / np.array(sums_ms))), 0.0
    return slope, constant


def _block(measuring: _Measuring, block: ProfiledBlock) -> PricedBlock:
    outputs, inputs = measuring.state.tensors[block.weight].shape[:2]
    return PricedBlock(weight=block.weight, kind=measuring.kinds[block.weight], inputs=inputs, outputs=outputs)


def _time_networks(
    measuring: _Measuring, networks: Sequence[ModelState], rounds: int
) -> tuple[list[float], float, bool]:
    """Return the ms of networks, those of the whole one, which takes turns with them, and whether all were steady."""
    circumstance = measuring.circumstance
    images = images_for(measuring.state, circumstance.batch, seed=0)
    passes: dict[str, Pass] = {}
    passes[WHOLE] = onnx_pass(measuring.program.at(measuring.state), images, circumstance.threads)
    for number, state in enumerate(networks):
        passes[str(number)] = onnx_pass(measuring.program.at(state), images, circumstance.threads)
    times = time_in_turns(passes, rounds=rounds)
    whole_ms = times[WHOLE].median_ms
    is_steady = all(of_network.is_steady for of_network in times.values())
    return [whole_ms / times[name].speed for name in passes if name != WHOLE], whole_ms, is_steady


def verdict_lines(table: LatencyTable, is_steady: bool) -> Iterator[str]:
    """Say how well the table predicts, and what follows."""
    yield (
        f"on {table.held_out_networks} networks that were not fitted: median error {table.held_out_median_error:.1%}, "
        f"worst {table.held_out_worst_error:.1%}, rank correlation {table.held_out_rank_correlation:.2f}; whole "
        f"network {table.whole_ms:.4g} ms, smallest {table.least_ms:.4g} ms"
    )
    if table.held_out_median_error > USED_UP_TO:
        yield f"warning: more than {USED_UP_TO:.0%}: no pruning will read this table; measure again on an idle machine"
    elif table.held_out_median_error > SAID_FROM:
        yield f"warning: more than {SAID_FROM:.0%}: each pruning by this table will say so"
    if not is_steady:
        yield UNSTEADY


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's correlation of two series; 0 if one is constant, as where all widths cost the same.

    >>> round(rank_correlation(np.array([1.0, 2.0, 5.0]), np.array([2.0, 3.0, 4.0])), 6)
    1.0
    >>> rank_correlation(np.array([1.0, 1.0, 1.0]), np.array([2.0, 3.0, 4.0]))
    0.0
    """
    if np.ptp(first) == 0.0 or np.ptp(second) == 0.0:
        return 0.0
    return float(stats.spearmanr(first, second).statistic)
