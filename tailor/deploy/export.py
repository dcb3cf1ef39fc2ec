"""A saved sub-model as a program that runs without this package: torch's (.pt2) or ONNX (.onnx).

The program is the whole function: pruned widths, factors and the normalisation of pixels. It is read back and compared
with the model before it is written.
"""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from tailor.common.errors import ConfigError
from tailor.common.registry import Registry
from tailor.model.passes import onnx_session
from tailor.model.programs import EXAMPLE_BATCH, Axes, images_for, onnx_bytes, onnx_with_texts, program
from tailor.model.state import ModelState

TOLERANCE = 1e-5  # of the outputs' difference, as a share of the largest output (of 1 where all are smaller)
ROUNDINGS = 4.0  # added to it: another order of sums rounds differently, in deep networks by more than the tolerance


@dataclass(frozen=True, kw_only=True)
class Format:
    """A file format of programs."""

    suffix: str
    write: Callable[[ExportedProgram, Axes], bytes]  # the content of the file
    run: Callable[[bytes, Tensor], Tensor]  # the outputs of a written program for a batch of images
    with_texts: Callable[[bytes, Mapping[str, str]], bytes]  # a written program with texts under their names


@dataclass(frozen=True, kw_only=True)
class Program:
    """A model as a file's content, compared with the model."""

    content: bytes
    difference: float  # the largest between an output of the program and of the model


def export(state: ModelState, to: str, batch: int | None = None) -> Program:
    """Return a model as a program, which is read back and compared with the model, on the CPU.

    The program's one input, `images`, is float32 (batch, *input_shape) as this package's data are: pixels / 127.5 - 1.

    Args:
        to: a name in `FORMATS`.
        batch: how many images the program takes at once; None: any number.

    Raises:
        ConfigError: no such format, a package is missing, the network cannot be traced, or the program's outputs differ
            from the model's.
    """
    content = written(state, to, batch)
    # Other images, and another number of them, than traced.
    images = images_for(state, batch or EXAMPLE_BATCH + 1, seed=1)
    with torch.no_grad():
        expected: Tensor = state.build().eval()(images)
        exact = state.build().eval().double()(images.double())
    difference = float((FORMATS[to].run(content, images) - expected).abs().max())
    rounding = float((expected - exact).abs().max())
    allowed = TOLERANCE * max(1.0, float(expected.abs().max())) + ROUNDINGS * rounding
    if not difference <= allowed:  # NaN is a difference
        raise ConfigError(
            f"the {to} program of {state.network} differs from the model by {difference:.3g}, so no file was written; "
            f"choose the other format of: {', '.join(FORMATS)}"
        )
    return Program(content=content, difference=difference)


def written(state: ModelState, to: str, batch: int | None) -> bytes:
    """Return the content of a program's file, which is not compared with anything; the rest as of `export`."""
    axes: Axes = {} if batch else {0: Dim("batch")}
    return FORMATS[to].write(program(state, batch or EXAMPLE_BATCH, axes), axes)


def with_texts(content: bytes, to: str, values: Mapping[str, object]) -> bytes:
    """Return a program's file with these values of a card, each as JSON under its name."""
    texts = {name: json.dumps(value) for name, value in values.items()}
    return FORMATS[to].with_texts(content, texts) if texts else content


def _write_torch(traced: ExportedProgram, _axes: Axes) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(traced, buffer)
    return buffer.getvalue()


def _run_torch(content: bytes, images: Tensor) -> Tensor:
    with torch.no_grad():
        outputs: Tensor = torch.export.load(io.BytesIO(content)).module()(images)
    return outputs


def _torch_with_texts(content: bytes, texts: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(torch.export.load(io.BytesIO(content)), buffer, extra_files=dict(texts))
    return buffer.getvalue()


def _run_onnx(content: bytes, images: Tensor) -> Tensor:
    (outputs,) = onnx_session(content, torch.get_num_threads()).run(None, {"images": images.numpy()})
    return torch.from_numpy(outputs)


FORMATS: Registry[Format] = Registry("format")
FORMATS.add("torch-export", Format(suffix=".pt2", write=_write_torch, run=_run_torch, with_texts=_torch_with_texts))
FORMATS.add("onnx", Format(suffix=".onnx", write=onnx_bytes, run=_run_onnx, with_texts=onnx_with_texts))
