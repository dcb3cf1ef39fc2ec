"""The cost of a sub-model on this machine: latency, throughput and, on a GPU, peak memory of a forward pass."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from tailor.model.circumstance import Circumstance
from tailor.model.cost import macs_of, params_count
from tailor.model.passes import as_deployed, forward_pass, onnx_program
from tailor.model.state import ModelState
from tailor.model.timing import PASSES_OF_A_TURN, UNSTEADY, Pass, time_in_turns
from tailor.networks import building
from transtailor.plural import times_as_fast

THE_MODEL = "sub-model"
THE_WHOLE = "whole network"


@dataclass(frozen=True, kw_only=True)
class Latency:
    """The cost of one forward pass of a batch, and the circumstance it was measured in."""

    network: str
    macs: int  # of one image
    params: int
    input_shape: tuple[int, ...]  # of one image
    circumstance: Circumstance
    repeats: int  # forward passes that were timed
    latency_lower_quartile_ms: float
    latency_ms: float
    latency_upper_quartile_ms: float
    images_per_s: float  # of the batch, at the median latency
    speed: float | None  # times as fast as the whole network, in turns with it; None: not compared
    speed_lower_quartile: float | None  # over the rounds
    speed_upper_quartile: float | None
    whole_latency_ms: float | None  # of the whole network, in the same rounds: latency_ms times speed
    is_steady: bool
    peak_memory_bytes: int | None  # of torch's allocator on a GPU: weights, inputs and activations; None: on a CPU


def measure(
    state: ModelState,
    circumstance: Circumstance,
    *,
    device: torch.device,
    repeats: int,
    whole: ModelState | None = None,
    content: bytes | None = None,
    whole_content: bytes | None = None,
) -> Latency:
    """Time a model as its user runs it: with folded factors, in evaluation mode, by the algorithms that are fastest.

    The images are random and on the device.

    A pass ends when its outputs are computed (it waits for the GPU).

    Args:
        circumstance: from `Timing.here`, with the device.
        repeats: forward passes that are timed, at least 2; rounded up to whole turns.
        whole: its unpruned network (`whole_network`), to time both in turns, which gives `speed`. A model that is that
            network itself, as it lost nothing, is timed alone: its speed is 1.
        content, whole_content: for ONNX Runtime their `onnx_program`, if it is there already.

    Raises:
        ConfigError: for ONNX Runtime, the network cannot be exported.
    """
    state = state.fold_factors()
    is_whole = whole is not None and _structure(state) == _structure(whole)
    if circumstance.runtime == "onnxruntime" and content is None:
        content = onnx_program(state, circumstance.batch)
    with as_deployed(circumstance), torch.inference_mode():
        run_model = forward_pass(state, circumstance, device, content)
        peak_bytes = None
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            run_model()
            peak_bytes = torch.cuda.max_memory_allocated(device)
        passes: dict[str, Pass] = {}
        if whole is not None and not is_whole:
            passes[THE_WHOLE] = forward_pass(whole, circumstance, device, whole_content)
        passes[THE_MODEL] = run_model
        rounds = max(2, -(-repeats // PASSES_OF_A_TURN))
        times = time_in_turns(passes, rounds=rounds)
    of_model = times[THE_MODEL]
    return Latency(
        network=state.network,
        macs=macs_of(state),
        params=params_count(state.tensors, building.skeleton(state.network, state.classes)),
        input_shape=state.input_shape,
        circumstance=circumstance,
        repeats=rounds * PASSES_OF_A_TURN,
        latency_lower_quartile_ms=of_model.lower_quartile_ms,
        latency_ms=of_model.median_ms,
        latency_upper_quartile_ms=of_model.upper_quartile_ms,
        images_per_s=1e3 * circumstance.batch / of_model.median_ms,
        speed=None if whole is None else of_model.speed,
        speed_lower_quartile=None if whole is None else of_model.speed_lower_quartile,
        speed_upper_quartile=None if whole is None else of_model.speed_upper_quartile,
        whole_latency_ms=None if whole is None else of_model.first_ms,
        is_steady=is_whole or all(one.is_steady for one in times.values()),
        peak_memory_bytes=peak_bytes,
    )


def _structure(state: ModelState) -> tuple[object, ...]:
    """Return what decides the cost of a state."""
    return state.network, state.input_shape, {name: tensor.shape for name, tensor in state.tensors.items()}


def whole_network(state: ModelState) -> ModelState:
    """Return the unpruned network of a state, with the same head and input, and random weights."""
    model = building.build(state.network, state.classes, seed=0)
    return replace(state, tensors=model.state_dict(), factors={}, sizes={}, kept={})


def latency_lines(latency: Latency) -> Iterator[str]:
    """The measurement as lines of text."""
    yield f"{latency.network}: {latency.macs:,} MACs, {latency.params:,} parameters, input {latency.input_shape}"
    yield str(latency.circumstance)
    yield (
        f"latency      {latency.latency_ms:.4g} ms median, {latency.latency_lower_quartile_ms:.4g} to "
        f"{latency.latency_upper_quartile_ms:.4g} ms quartiles, {latency.repeats} passes"
    )
    yield f"throughput   {latency.images_per_s:,.1f} images/s at the median latency"
    if latency.speed is not None:
        yield f"speed        {times_as_fast(latency.speed)} ({latency.whole_latency_ms:.4g} ms)"
    if latency.peak_memory_bytes is not None:
        yield f"peak memory  {latency.peak_memory_bytes / 2**20:.1f} MiB (of torch's allocator)"
    if not latency.is_steady:
        yield UNSTEADY
