"""A saved sub-model as a program that runs without this package: torch's (.pt2) or ONNX (.onnx).

The program is the whole function: pruned widths, factors and the normalisation of pixels. It is read back and compared
with the model before it is written.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from tailor.core.errors import ConfigError
from tailor.core.registry import Registry
from tailor.model.programs import EXAMPLE_BATCH, Axes, images_for, onnx_bytes, program
from tailor.model.state import ModelState
from transtailor.files import make_folder, write_file

TOLERANCE = 1e-5  # of the outputs' difference, as a share of the largest output (of 1 where all are smaller)
ROUNDINGS = 4.0  # added to it: another order of sums rounds differently, in deep networks by more than the tolerance


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


def _write_torch(traced: ExportedProgram, _axes: Axes) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(traced, buffer)
    return buffer.getvalue()


def _run_torch(content: bytes, images: Tensor) -> Tensor:
    with torch.no_grad():
        outputs: Tensor = torch.export.load(io.BytesIO(content)).module()(images)
    return outputs


def _run_onnx(content: bytes, images: Tensor) -> Tensor:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (outputs,) = session.run(None, {"images": images.numpy()})
    return torch.from_numpy(outputs)


FORMATS: Registry[Format] = Registry("format")
FORMATS.add("torch-export", Format(suffix=".pt2", write=_write_torch, run=_run_torch))
FORMATS.add("onnx", Format(suffix=".onnx", write=onnx_bytes, run=_run_onnx))
