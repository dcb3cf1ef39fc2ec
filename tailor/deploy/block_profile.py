"""What each layer of a program takes, as ONNX Runtime's own profiler sees its kernels in the running network."""

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tailor.common.errors import ConfigError
from tailor.common.heartbeat import beat

MULTIPLIES = ("Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "MatMulNBits")
PADDED_TO = (8, 16)  # ONNX Runtime's blocked layout has zero channels up to a multiple of it (AVX2, AVX-512)
WARM_UP = 3


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One kernel of a program: its time is the lower quartile over the passes."""

    op: str
    input_shape: tuple[int, ...]
    weight_shape: tuple[int, ...]  # of its second input; () if it has none
    output_shape: tuple[int, ...]
    ms: float
    adds: bool = False  # whether it adds another map to its own, as the last layer of a residual block does


def profiled(content: bytes, images: np.ndarray, threads: int, passes: int) -> list[Kernel]:
    """Return the kernels of a program in the order in which they run."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # errors are raised, too
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        for _ in range(WARM_UP + passes):
            beat()
            session.run(None, {"images": images})
        events = json.loads(Path(session.end_profiling()).read_text())
    kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    count = len(kernels) // (WARM_UP + passes)
    durations_us = np.array([event["dur"] for event in kernels]).reshape(WARM_UP + passes, count)[WARM_UP:]
    quartiles_ms = np.quantile(durations_us, 0.25, axis=0) / 1e3
    return [_kernel(event, ms) for event, ms in zip(kernels[:count], quartiles_ms.tolist(), strict=True)]


def _kernel(event: dict[str, Any], ms: float) -> Kernel:
    inputs = [tuple(next(iter(shape.values()))) for shape in event["args"]["input_type_shape"] if shape]
    outputs = [tuple(next(iter(shape.values()))) for shape in event["args"]["output_type_shape"] if shape]
    return Kernel(
        op=event["args"]["op_name"],
        input_shape=inputs[0] if inputs else (),
        weight_shape=inputs[1] if len(inputs) > 1 else (),
        output_shape=outputs[0] if outputs else (),
        ms=ms,
        adds=any(len(shape) == 4 for shape in inputs[2:]),
    )


@dataclass(frozen=True, kw_only=True)
class ProfiledBlock:
    """A layer with the kernels that run after it up to the next layer."""

    weight: str
    kernels: tuple[int, ...]  # their numbers


@dataclass(frozen=True, kw_only=True)
class ProfiledLayer:
    """How a layer's kernel is recognised."""

    shape: tuple[int, ...]  # of its weight
    positions: int  # at which one image applies it


def cut(kernels: Sequence[Kernel], layers: Mapping[str, ProfiledLayer], network: str) -> list[ProfiledBlock]:
    """Return the blocks of a program: each layer by its weight and map, of equal ones in the order of the network.

    Args:
        layers: name of each weight -> its layer, in the order in which they run.

    Raises:
        ConfigError: a layer has no kernel of its own.
    """
    waiting = dict(layers)
    starts: list[tuple[str, int]] = []
    for number, kernel in enumerate(kernels):
        weight = next((name for name, layer in waiting.items() if _multiplies(kernel, layer)), None)
        if weight is not None:
            del waiting[weight]
            starts.append((weight, number))
    if waiting:
        raise ConfigError(
            f"{network} cannot be measured in blocks: ONNX Runtime has no kernel for {next(iter(waiting))} alone "
            f"({len(waiting)} such layers); prune it to a latency with allocation.asked_latency_ms"
        )
    ends = [number for _, number in starts[1:]] + [len(kernels)]
    return [
        ProfiledBlock(weight=weight, kernels=tuple(range(start, end)))
        for (weight, start), end in zip(starts, ends, strict=True)
    ]


def _multiplies(kernel: Kernel, layer: ProfiledLayer) -> bool:
    """Whether a kernel is this layer's: its weight may be padded or transposed."""
    if kernel.op not in MULTIPLIES:
        return False
    shape = layer.shape
    present = kernel.weight_shape
    if len(shape) == 4:
        is_same = len(present) == 4 and present[2:] == shape[2:]
        is_same = is_same and math.prod(kernel.output_shape[2:]) == layer.positions
        return is_same and all(_is_padded(size, to) for size, to in zip(shape[:2], present[:2], strict=True))
    if len(present) < 2:  # a weight that was packed at the start is not reported: its bias is, or nothing
        return kernel.input_shape[-1:] + kernel.output_shape[-1:] == shape[1::-1]
    return sorted(present) == sorted(shape)


def _is_padded(size: int, to: int) -> bool:
    return to == size or to in [multiple * math.ceil(size / multiple) for multiple in PADDED_TO]


def kind_of(kernels: Sequence[Kernel], block: ProfiledBlock) -> str:
    """Return what blocks of equal cells have in common: their kernels and the sizes of their maps, without widths."""
    first = kernels[block.kernels[0]]
    size = "x".join(map(str, first.weight_shape[2:])) or "linear"  # 3x3
    maps = f"{_map(first.input_shape)} to {_map(first.output_shape)}"
    ops = "+".join(_name(kernels[number]) for number in block.kernels)
    return f"{ops} {size}, {maps}"


def _name(kernel: Kernel) -> str:
    return f"{kernel.op} with Add" if kernel.adds else kernel.op


def _map(shape: tuple[int, ...]) -> str:
    sizes = shape[2:] if len(shape) == 4 else shape[:-1]
    return "x".join(map(str, sizes))
