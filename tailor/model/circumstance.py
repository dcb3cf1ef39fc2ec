"""Where and how a forward pass is timed. Two times can be compared only if their circumstances are equal. No torch."""

from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from tailor.common.errors import ConfigError
from transtailor.machine import cpu_name
from transtailor.plural import counted
from transtailor.shell import pip

if TYPE_CHECKING:
    import torch

Runtime = Literal["eager", "compiled", "onnxruntime"]
Precision = Literal["float32", "bf16"]
MemoryFormat = Literal["contiguous", "channels_last"]


@dataclass(frozen=True, kw_only=True)
class Circumstance:
    """Device, program and numbers of a forward pass; `Timing.here` makes it.

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


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How models are timed; what is None is what a user would deploy.

    That is: on a CPU ONNX Runtime in float32 if it is installed, else eager; on a GPU a compiled network in bf16.
    Outside ONNX Runtime, which has its own layout, images have channels last (rows of numbers have no layout).
    """

    batch: int = 1  # images of a forward pass
    device: str = "auto"  # or cpu, or cuda
    threads: int | None = None  # of the CPU; None: as many as torch takes
    repeats: int = 50
    runtime: Runtime | None = None
    precision: Precision | None = None
    memory_format: MemoryFormat | None = None

    def here(self) -> "tuple[Circumstance, torch.device]":
        """Return the circumstance on this machine, and the device.

        Raises:
            ConfigError: there is no such device, or ONNX Runtime is not installed, or does not do this.
        """
        import torch

        from tailor.parallel.process_group import join

        device = join(self.device).device
        on_gpu = device.type == "cuda"
        has_onnxruntime = all(find_spec(name) is not None for name in ("onnx", "onnxscript", "onnxruntime"))
        of_cpu: Runtime = "onnxruntime" if has_onnxruntime else "eager"
        runtime = self.runtime or ("compiled" if on_gpu else of_cpu)
        precision = self.precision or ("bf16" if on_gpu else "float32")
        if runtime == "onnxruntime":
            if not has_onnxruntime:
                install = pip("install", "onnx", "onnxscript", "onnxruntime")
                raise ConfigError(
                    f"runtime 'onnxruntime' needs packages that are not installed; type: {install}, or choose 'eager'"
                )
            if on_gpu or precision != "float32" or self.memory_format == "channels_last":
                raise ConfigError(
                    "runtime 'onnxruntime' is timed on the CPU, in float32, with its own memory format; leave device, "
                    "precision and memory format out, or choose runtime 'compiled' or 'eager'"
                )
        dtype = "bfloat16" if precision == "bf16" else precision
        is_tf32 = on_gpu and dtype == "float32" and torch.backends.cudnn.allow_tf32
        circumstance = Circumstance(
            device_name=device_name(device),
            runtime=runtime,
            precision=f"{dtype} (TF32 allowed in convolutions)" if is_tf32 else dtype,
            memory_format="contiguous" if runtime == "onnxruntime" else self.memory_format or "channels_last",
            batch=self.batch,
            threads=torch.get_num_threads() if self.threads is None else self.threads,
            versions=versions_of(runtime),
        )
        return circumstance, device


def versions_of(runtime: Runtime) -> str:
    """Return name and version of the library that computes."""
    import torch

    if runtime == "onnxruntime":
        return f"onnxruntime {version('onnxruntime')}"
    return f"torch {torch.__version__}"


def device_name(device: "torch.device") -> str:
    """Return the model of the GPU, or the name and the flags of the CPU."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
