"""One ONNX program of a network at any widths: its weights are exchanged, nothing is traced again."""

from typing import Any

import torch

from tailor.common.errors import ConfigError
from tailor.model.programs import program
from tailor.model.state import ModelState
from transtailor.lines import first_line


class ResizedProgram:
    """A network's program, in which weights of fewer filters take the place of its own."""

    def __init__(self, state: ModelState, batch: int) -> None:
        traced = program(state, batch, {})
        exported = torch.onnx.export(
            traced, (), dynamo=True, input_names=["images"], output_names=["outputs"], optimize=False, verbose=False
        )
        assert exported is not None
        self._proto: Any = exported.model_proto
        del self._proto.graph.value_info[:]  # the sizes of all maps, which are others with fewer filters
        _infer_last_sizes(self._proto)
        self._outputs = {name: len(tensor) for name, tensor in state.tensors.items() if tensor.dim() > 0}

    def at(self, state: ModelState) -> bytes:
        """Return the program of this state, a file of ONNX, optimised as an exported one is.

        Otherwise ONNX Runtime would run norms and activations as kernels of their own: three times as long, and not
        what is deployed.
        """
        import onnx
        from onnx import numpy_helper
        from onnxscript import optimizer

        proto = onnx.ModelProto()
        proto.CopyFrom(self._proto)
        for initializer in proto.graph.initializer:
            if initializer.name in state.tensors:
                values = state.tensors[initializer.name].numpy()
                initializer.CopyFrom(numpy_helper.from_array(values, initializer.name))
        for node in proto.graph.node:
            if node.op_type == "Conv" and node.input[1] in state.tensors:
                _set_conv_groups(node, self._outputs[node.input[1]], len(state.tensors[node.input[1]]))
        return bytes(optimizer.optimize(proto).SerializeToString())


def _set_conv_groups(node: Any, outputs_before: int, outputs: int) -> None:
    """Give a depthwise convolution as many groups as it has channels now; the filters of a group stay."""
    for attribute in node.attribute:
        if attribute.name == "group" and attribute.i > 1:
            attribute.i = attribute.i * outputs // outputs_before


def _infer_last_sizes(proto: Any) -> None:
    """Write -1, "what is left", as the last size of each reshape: with fewer filters, a flattened map is shorter.

    The sizes of a reshape are a constant, or constants and computed sizes that are put together. A reshape stays as it
    is if none of its sizes is a constant, or one is -1 already.
    """
    producers = {output: node for node in proto.graph.node for output in node.output}
    for node in proto.graph.node:
        if node.op_type != "Reshape" or node.input[1] not in producers:
            continue
        sizes = producers[node.input[1]]
        parts = [sizes]
        if sizes.op_type == "Concat":
            parts = [producers[name] for name in sizes.input if name in producers]
        constants = [value for part in parts if part.op_type == "Constant" for value in part.attribute]
        all_are_written = all(value.ints and -1 not in value.ints for value in constants)
        if constants and all_are_written:
            constants[-1].ints[-1] = -1


def refuse_reshapes(error: Exception, network: str) -> ConfigError:
    """Return the error for a network whose program has sizes of its own."""
    return ConfigError(
        f"{network} cannot be measured in blocks: its program does not run with fewer filters, because sizes are "
        f"written into it ({first_line(str(error))[:200]}); prune it to a latency with allocation.asked_latency_ms"
    )
