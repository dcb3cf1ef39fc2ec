"""A model traced as a program, and that program as ONNX."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from tailor.common.errors import ConfigError
from tailor.data.task_data import generator
from tailor.model.state import ModelState
from transtailor.lines import first_line
from transtailor.shell import pip

EXAMPLE_BATCH = 2  # for tracing a program for any batch; torch takes 1 for a constant
LARGEST_ONNX_BYTES = 2**31 - 2**20  # a protobuf message is below 2 GiB, and the graph needs some of it
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")

Axes = dict[int, Any]  # axis of the images -> its torch.export.Dim; empty where all sizes are fixed


def images_for(state: ModelState, batch: int, *, seed: int) -> Tensor:
    """Draw random images (batch, *input_shape), standard normal."""
    return torch.randn(batch, *state.input_shape, generator=generator(seed, "images"))


def program(state: ModelState, batch: int, axes: Axes) -> ExportedProgram:
    """Trace the model in evaluation mode with a batch of images; hooks are part of the trace.

    Raises:
        ConfigError: the network cannot be traced, fixes the number of images, or its outputs are not one tensor.
    """
    images = images_for(state, batch, seed=0)
    model = state.build().eval()
    with torch.no_grad():
        outputs = model(images)  # its own errors are clearer than those of tracing
    if not isinstance(outputs, Tensor):
        raise ConfigError(
            f"{state.network} returns a {type(outputs).__name__}, and a program has one tensor of outputs; give "
            "--module FILE:NAME of a class with the same layers whose forward returns one of them"
        )
    try:
        # Weights keep requires_grad: without it, torch's attention is one operator that ONNX does not know.
        traced = torch.export.export(model, (images,), dynamic_shapes=(axes,))
    except RuntimeError as error:
        advice = "; if only the number of images is the problem, fix it: --batch 1" if axes else ""
        raise ConfigError(f"network {state.network} cannot be exported: {first_line(str(error))}{advice}") from error
    _forget_sources(traced.graph_module)
    return traced


def _forget_sources(traced: nn.Module) -> None:
    """Remove each operation's stack trace, which has the paths of this machine."""
    for module in traced.modules():
        if isinstance(module, fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)


def onnx_bytes(traced: ExportedProgram, axes: Axes) -> bytes:
    """Return the program as a file of ONNX.

    Raises:
        ConfigError: a package is missing, ONNX lacks an operation, or the weights do not fit into one file.
    """
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
    try:
        onnx_program = torch.onnx.export(
            traced,
            (),
            dynamo=True,
            input_names=["images"],
            output_names=["outputs"],
            dynamic_shapes=(axes,),  # only for the name of the axis
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise ConfigError(
            f"the network cannot be written as ONNX ({first_line(str(cause))}); choose --to torch-export, or to time "
            "it, --runtime eager"
        ) from error
    assert onnx_program is not None
    content: bytes = onnx_program.model_proto.SerializeToString()
    return content


def onnx_with_texts(content: bytes, texts: Mapping[str, str]) -> bytes:
    """Return a file of ONNX with texts under their names in its metadata (`metadata_props`)."""
    import onnx

    model = onnx.load_from_string(content)
    others = [entry for entry in model.metadata_props if entry.key not in texts]
    del model.metadata_props[:]
    model.metadata_props.extend(others)
    for name, text in texts.items():
        model.metadata_props.add(key=name, value=text)
    changed: bytes = model.SerializeToString()
    return changed
