"""A model made ready to be timed: its forward pass in a runtime, on random images that are on the device already."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tailor.common.compiler_cache import check_cache
from tailor.common.determinism import deterministic_algorithms
from tailor.model.circumstance import Circumstance
from tailor.model.programs import images_for, onnx_bytes, program
from tailor.model.state import ModelState
from tailor.model.timing import Pass

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def forward_pass(
    state: ModelState, circumstance: Circumstance, device: torch.device, content: bytes | None = None
) -> Pass:
    """Return what runs one forward pass of a model under this circumstance, and waits until it is computed.

    It runs as its user runs it: folded factors, evaluation mode, any algorithms (call it inside `as_deployed`).

    Args:
        content: for ONNX Runtime the model's `onnx_program`, if it is there already.

    Raises:
        ConfigError: for ONNX Runtime, the network cannot be exported.
    """
    state = state.fold_factors()
    if circumstance.runtime != "onnxruntime":
        return torch_pass(state, circumstance, device)
    if content is None:
        content = onnx_program(state, circumstance.batch)
    return onnx_pass(content, images_for(state, circumstance.batch, seed=0), circumstance.threads)


def torch_pass(state: ModelState, circumstance: Circumstance, device: torch.device) -> Pass:
    """Return a pass of the module, eager or compiled by torch's default backend."""
    dtype = getattr(torch, circumstance.precision.split()[0])
    layout = LAYOUTS[circumstance.memory_format]
    model = state.build(device).eval().to(dtype)
    images = images_for(state, circumstance.batch, seed=0).to(device, dtype)
    if circumstance.memory_format == "channels_last" and images.dim() == 4:
        model = model.to(memory_format=layout)
        images = images.contiguous(memory_format=layout)
    if circumstance.runtime == "compiled":
        check_cache()
        model.compile(dynamic=False)

    def run() -> None:
        with torch.inference_mode():
            model(images)
        wait_for(device)

    return run


def onnx_program(state: ModelState, batch: int) -> bytes:
    """Return a model as a file of ONNX for this number of images. Raises ConfigError: it cannot be exported."""
    return onnx_bytes(program(state.fold_factors(), batch, {}), {})


def onnx_pass(content: bytes, images: Tensor, threads: int) -> Pass:
    """Return a pass of a file of ONNX in ONNX Runtime on the CPU, such as of `onnx_program` or an exported one.

    Args:
        content: a program with one input, `images`.
        images: (B, ...) float32.
    """
    session = onnx_session(content, threads)
    feed = {"images": images.numpy()}
    return lambda: session.run(None, feed)


def onnx_session(content: bytes, threads: int) -> Any:
    """Return ONNX Runtime's session of a program, on the CPU with so many threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


@contextmanager
def as_deployed(circumstance: Circumstance) -> Iterator[None]:
    """Use the circumstance's CPU threads and the fastest algorithms that torch finds meanwhile, not repeatable ones."""
    threads_before = torch.get_num_threads()
    autotunes_before = torch.backends.cudnn.benchmark
    torch.set_num_threads(circumstance.threads)
    torch.backends.cudnn.benchmark = True  # heuristics may choose a kernel that is many times slower
    try:
        with deterministic_algorithms(False):
            yield
    finally:
        torch.set_num_threads(threads_before)
        torch.backends.cudnn.benchmark = autotunes_before


def wait_for(device: torch.device) -> None:
    """Return when the device has computed all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
