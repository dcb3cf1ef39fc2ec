"""A saved sub-model as a program that runs without this package: torch's (.pt2) or ONNX (.onnx).

The program is the whole function: pruned widths, factors and the normalisation of pixels. It is read back and compared
with the model before it is written.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from tailor.core.errors import ConfigError
from tailor.core.registry import Registry
from tailor.data.task_data import generator
from tailor.model.state import ModelState
from transtailor.files import make_folder, write_file
from transtailor.lines import first_line
from transtailor.shell import pip

TOLERANCE = 1e-5  # of the outputs' difference, as a share of the largest output (of 1 where all are smaller)
ROUNDINGS = 4.0  # added to it: another order of sums rounds differently, in deep networks by more than the tolerance
EXAMPLE_BATCH = 2  # for tracing a program for any batch; torch takes 1 for a constant
LARGEST_ONNX_BYTES = 2**31 - 2**20  # a protobuf message is below 2 GiB, and the graph needs some of it
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")

Axes = dict[int, Any]  # axis of the images -> its torch.export.Dim; empty where all sizes are fixed


@dataclass(frozen=True, kw_only=True)
class Format:
    """A file format of programs."""

    suffix: str
    write: Callable[[ExportedProgram, Axes], bytes]  # the content of the file
    run: Callable[[bytes, Tensor], Tensor]  # the outputs of a written program for a batch of images


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A written program."""

    file: Path
    size_bytes: int
    difference: float  # the largest between an output of the file's program and of the model


def export(state: ModelState, to: str, file: Path, batch: int | None = None) -> Exported:
    """Write a model as a program, on the CPU; the file is whole or absent.

    The program's one input, `images`, is float32 (batch, *input_shape) as this package's data are: pixels / 127.5 - 1.

    Args:
        to: a name in `FORMATS`.
        batch: how many images the program takes at once; None: any number.

    Raises:
        ConfigError: no such format, a package is missing, the network cannot be traced, or the program's outputs differ
            from the model's.
    """
    file_format = FORMATS[to]
    axes: Axes = {} if batch else {0: Dim("batch")}
    content = file_format.write(program(state, batch or EXAMPLE_BATCH, axes), axes)
    # Other images, and another number of them, than traced.
    images = images_for(state, batch or EXAMPLE_BATCH + 1, seed=1)
    with torch.no_grad():
        expected: Tensor = state.build().eval()(images)
        exact = state.build().eval().double()(images.double())
    difference = float((file_format.run(content, images) - expected).abs().max())
    rounding = float((expected - exact).abs().max())
    allowed = TOLERANCE * max(1.0, float(expected.abs().max())) + ROUNDINGS * rounding
    if not difference <= allowed:  # NaN is a difference
        raise ConfigError(
            f"the {to} program of {state.network} differs from the model by {difference:.3g}, so {file} was not "
            f"written; choose the other format of: {', '.join(FORMATS)}"
        )
    make_folder(file.parent)
    write_file(file, content)
    return Exported(file=file, size_bytes=len(content), difference=difference)


def images_for(state: ModelState, batch: int, *, seed: int) -> Tensor:
    """Draw random images (batch, *input_shape), standard normal."""
    return torch.randn(batch, *state.input_shape, generator=generator(seed, "images"))


def program(state: ModelState, batch: int, axes: Axes) -> ExportedProgram:
    """Trace the model in evaluation mode with a batch of images; hooks are part of the trace.

    Raises:
        ConfigError: the network cannot be traced, or fixes the number of images.
    """
    images = images_for(state, batch, seed=0)
    try:
        # Weights keep requires_grad: without it, torch's attention is one operator that ONNX does not know.
        traced = torch.export.export(state.build().eval(), (images,), dynamic_shapes=(axes,))
    except RuntimeError as error:
        raise ConfigError(
            f"network {state.network} cannot be exported: {first_line(str(error))}; "
            "if only the number of images is the problem, fix it: --batch 1"
        ) from error
    _forget_sources(traced.graph_module)
    return traced


def _forget_sources(traced: nn.Module) -> None:
    """Remove each operation's stack trace, which has the paths of this machine."""
    for module in traced.modules():
        if isinstance(module, fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)


def _write_torch(traced: ExportedProgram, _axes: Axes) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(traced, buffer)
    return buffer.getvalue()


def _run_torch(content: bytes, images: Tensor) -> Tensor:
    with torch.no_grad():
        outputs: Tensor = torch.export.load(io.BytesIO(content)).module()(images)
    return outputs


def _write_onnx(traced: ExportedProgram, axes: Axes) -> bytes:
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"ONNX needs packages that are not installed: {', '.join(missing)}; type: {pip('install', *ONNX_PACKAGES)}"
        )
    weights_bytes = sum(tensor.numel() * tensor.element_size() for tensor in traced.state_dict.values())
    if weights_bytes > LARGEST_ONNX_BYTES:
        raise ConfigError(
            f"one ONNX file holds less than 2 GiB, and the weights are {weights_bytes / 2**30:.2f} GiB; "
            "type: --to torch-export"
        )
    onnx_program = torch.onnx.export(
        traced,
        (),
        dynamo=True,
        input_names=["images"],
        output_names=["outputs"],
        dynamic_shapes=(axes,),  # only for the name of the axis
        verbose=False,
    )
    assert onnx_program is not None
    content: bytes = onnx_program.model_proto.SerializeToString()
    return content


def _run_onnx(content: bytes, images: Tensor) -> Tensor:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (outputs,) = session.run(None, {"images": images.numpy()})
    return torch.from_numpy(outputs)


FORMATS: Registry[Format] = Registry("format")
FORMATS.add("torch-export", Format(suffix=".pt2", write=_write_torch, run=_run_torch))
FORMATS.add("onnx", Format(suffix=".onnx", write=_write_onnx, run=_run_onnx))
