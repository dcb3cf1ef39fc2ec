"""Where and how a forward pass is timed. Two times can be compared only if their circumstances are equal."""

from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Literal, get_args

import torch

from tailor.common.errors import ConfigError
from transtailor.machine import cpu_name
from transtailor.plural import counted
from transtailor.shell import pip

Runtime = Literal["eager", "compiled", "onnxruntime"]
Precision = Literal["float32", "bf16"]
MemoryFormat = Literal["contiguous", "channels_last"]

RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Circumstance:
    """Device, program and numbers of a forward pass; `circumstance_here` makes it.

    >>> print(EXAMPLE)
    onnxruntime on AMD EPYC (avx2 avx512 vnni), float32, contiguous, batch 1, 1 CPU thread, onnxruntime 1.32.0
    """

    device_name: str  # of a CPU with its flags
    runtime: Runtime
    precision: str
    memory_format: MemoryFormat
    batch: int  # images of a forward pass
    threads: int  # of the CPU
    versions: str  # of the libraries that compute

    def __str__(self) -> str:
        threads = counted(self.threads, "CPU thread")
        return (
            f"{self.runtime} on {self.device_name}, {self.precision}, {self.memory_format}, batch {self.batch}, "
            f"{threads}, {self.versions}"
        )

    def differences(self, other: "Circumstance") -> str:
        """Return what differs, as text: "threads 1 and 2"; empty if all is equal."""
        ours = asdict(self)
        theirs = asdict(other)
        return ", ".join(f"{name} {ours[name]} and {theirs[name]}" for name in ours if ours[name] != theirs[name])


EXAMPLE = Circumstance(
    device_name="AMD EPYC (avx2 avx512 vnni)",
    runtime="onnxruntime",
    precision="float32",
    memory_format="contiguous",
    batch=1,
    threads=1,
    versions="onnxruntime 1.32.0",
)


def circumstance_here(
    device: torch.device,
    *,
    runtime: Runtime | None = None,
    precision: Precision | None = None,
    memory_format: MemoryFormat | None = None,
    batch: int = 1,
    threads: int | None = None,
) -> Circumstance:
    """Return the circumstance of a forward pass on this machine; what is None is what a user would deploy.

    That is: on a CPU ONNX Runtime in float32 if it is installed, else eager; on a GPU a compiled network in bf16.
    Outside ONNX Runtime, which has its own layout, images have channels last (rows of numbers have no layout).

    Args:
        threads: of the CPU; None: as many as torch takes.

    Raises:
        ConfigError: ONNX Runtime is not installed, or is asked for on a GPU or in bf16.
    """
    on_gpu = device.type == "cuda"
    if runtime is None:
        runtime = "compiled" if on_gpu else default_cpu_runtime()
    if precision is None:
        precision = "bf16" if on_gpu else "float32"
    if runtime == "onnxruntime":
        _refuse_onnxruntime(on_gpu, precision, memory_format)
        memory_format = "contiguous"
    elif memory_format is None:
        memory_format = "channels_last"
    return Circumstance(
        device_name=device_name(device),
        runtime=runtime,
        precision=precision_name(PRECISIONS[precision], device),
        memory_format=memory_format,
        batch=batch,
        threads=torch.get_num_threads() if threads is None else threads,
        versions=versions_of(runtime),
    )


def default_cpu_runtime() -> Runtime:
    """Return "onnxruntime" if what it needs is installed, else "eager"."""
    is_installed = all(find_spec(name) is not None for name in ("onnx", "onnxscript", "onnxruntime"))
    return "onnxruntime" if is_installed else "eager"


def _refuse_onnxruntime(on_gpu: bool, precision: Precision, memory_format: MemoryFormat | None) -> None:
    """Raise ConfigError for what ONNX Runtime is not timed with here."""
    if default_cpu_runtime() != "onnxruntime":
        raise ConfigError(
            "runtime 'onnxruntime' needs packages that are not installed; type: "
            f"{pip('install', 'onnx', 'onnxscript', 'onnxruntime')}, or choose runtime 'eager'"
        )
    if on_gpu:
        raise ConfigError("runtime 'onnxruntime' is timed on the CPU; give device 'cpu', or runtime 'compiled'")
    if precision != "float32":
        raise ConfigError(f"runtime 'onnxruntime' computes in float32, not in {precision}; choose runtime 'compiled'")
    if memory_format == "channels_last":
        raise ConfigError(
            "runtime 'onnxruntime' chooses its own memory format; leave channels_last out, or choose runtime 'eager'"
        )


def versions_of(runtime: Runtime) -> str:
    """Return name and version of the library that computes."""
    if runtime == "onnxruntime":
        return f"onnxruntime {version('onnxruntime')}"
    return f"torch {torch.__version__}"


def device_name(device: torch.device) -> str:
    """Return the model of the GPU, or the name and the flags of the CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()


def precision_name(precision: torch.dtype, device: torch.device) -> str:
    """Return the type of the numbers, and whether the GPU may compute with fewer digits."""
    name = str(precision).removeprefix("torch.")
    is_tf32 = device.type == "cuda" and precision == torch.float32 and torch.backends.cudnn.allow_tf32
    return f"{name} (TF32 allowed in convolutions)" if is_tf32 else name
