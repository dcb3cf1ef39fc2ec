"""The cost of a sub-model on this machine: latency, throughput and peak memory of a forward pass."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor, nn

from tailor.core.determinism import deterministic_algorithms
from tailor.core.heartbeat import beat
from tailor.data.task_data import generator
from tailor.model.cost import macs_of, params_count
from tailor.model.state import ModelState
from transtailor.lines import lines_of

WARM_UP_RUNS = 5
PEAK_SWITCH = Path("/proc/self/clear_refs")
QUARTILES = (0.25, 0.5, 0.75)
MEMORY = {
    "cuda": "the peak of torch's allocator: weights, inputs and activations",
    "cpu": "the peak of the resident memory, less the memory before the model was built",
}
NO_MEMORY = "not measured: only Linux gives a process its peak of resident memory since a moment"


@dataclass(frozen=True, kw_only=True)
class Latency:
    """The cost of one forward pass of a batch, and what it was measured on."""

    network: str
    macs: int  # of one image
    params: int
    input_shape: tuple[int, ...]  # of one image
    batch: int  # images of a forward pass
    device: str  # "cpu" or "cuda"
    device_name: str
    threads: int  # of the CPU
    precision: str
    torch_version: str
    warm_up_runs: int  # before the first repeat, not measured
    repeats: int
    latency_lower_quartile_s: float
    latency_median_s: float
    latency_upper_quartile_s: float
    images_per_s: float  # over all repeats
    peak_memory_bytes: int | None  # None: not measured
    peak_memory_is: str


def measure(
    state: ModelState,
    *,
    batch: int,
    device: torch.device,
    threads: int | None,
    repeats: int,
    precision: torch.dtype = torch.float32,
) -> Latency:
    """Time a model as its user runs it: with folded factors, in evaluation mode, by the algorithms that torch chooses.

    The images are random and on the device.

    A repeat ends when its outputs are computed (it waits for the GPU). On the CPU the peak memory is exact only in a
    fresh process: memory that was freed before is used again and does not count.

    Args:
        batch: images of a forward pass.
        threads: of the CPU; None: torch's default.
        repeats: forward passes that are timed, at least 2.
        precision: of weights and images.
    """
    state = state.fold_factors()
    macs = macs_of(state)  # first, because it imports the network's code, which is not the model's memory
    with _threads(threads), deterministic_algorithms(False), torch.inference_mode():
        _wake(device)
        before_bytes = _resident_bytes("VmRSS")
        model = state.build(device).eval().to(precision)
        images = torch.randn(batch, *state.input_shape, generator=generator(0, "images")).to(device, precision)
        can_measure = _forget_peak(device)
        seconds = _time_passes(model, images, repeats)
        peak_bytes = _peak_bytes(device, before_bytes) if can_measure else None
        lower, median, upper = seconds.quantile(torch.tensor(QUARTILES, dtype=torch.float64)).tolist()
        return Latency(
            network=state.network,
            macs=macs,
            params=params_count(state.tensors, model),
            input_shape=state.input_shape,
            batch=batch,
            device=device.type,
            device_name=device_name(device),
            threads=torch.get_num_threads(),
            precision=precision_name(precision, device),
            torch_version=torch.__version__,
            warm_up_runs=WARM_UP_RUNS,
            repeats=repeats,
            latency_lower_quartile_s=lower,
            latency_median_s=median,
            latency_upper_quartile_s=upper,
            images_per_s=batch * repeats / float(seconds.sum()),
            peak_memory_bytes=peak_bytes,
            peak_memory_is=NO_MEMORY if peak_bytes is None else MEMORY["cuda" if device.type == "cuda" else "cpu"],
        )


def latency_lines(latency: Latency) -> Iterator[str]:
    """The measurement as lines of text."""
    lower_ms = 1e3 * latency.latency_lower_quartile_s
    median_ms = 1e3 * latency.latency_median_s
    upper_ms = 1e3 * latency.latency_upper_quartile_s
    yield f"{latency.network}: {latency.macs:,} MACs, {latency.params:,} parameters, input {latency.input_shape}"
    yield (
        f"on {latency.device} ({latency.device_name}), {latency.threads} CPU thread(s), {latency.precision}, "
        f"torch {latency.torch_version}, batch {latency.batch}"
    )
    yield (
        f"latency      {median_ms:.4g} ms median, {lower_ms:.4g} to {upper_ms:.4g} ms quartiles, "
        f"{latency.repeats} repeats after {latency.warm_up_runs} warm-up runs"
    )
    yield f"throughput   {latency.images_per_s:,.1f} images/s"
    if latency.peak_memory_bytes is None:
        yield f"peak memory  {latency.peak_memory_is}"
    else:
        yield f"peak memory  {latency.peak_memory_bytes / 2**20:.1f} MiB ({latency.peak_memory_is})"


def device_name(device: torch.device) -> str:
    """The model of the GPU, or of the CPU if the system gives it, else the CPU's architecture."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    for line in _lines_in(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _lines_in(path: Path) -> list[str]:
    """The lines of a file that only Linux has; none on other systems."""
    return list(lines_of(path.read_text())) if path.exists() else []


def precision_name(precision: torch.dtype, device: torch.device) -> str:
    """The type of the numbers, and whether the GPU may compute with fewer digits."""
    name = str(precision).removeprefix("torch.")
    is_tf32 = device.type == "cuda" and torch.backends.cudnn.allow_tf32
    return f"{name} (TF32 allowed in convolutions)" if is_tf32 else name


@contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    """Use this number of CPU threads meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if threads is None else threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _wake(device: torch.device) -> None:
    """Load the libraries of convolutions and matrix products, which are not the model's memory."""
    first = nn.Conv2d(1, 1, 3).to(device)
    nn.Linear(4, 4).to(device)(first(torch.zeros(1, 1, 6, 6, device=device)))


def _time_passes(model: nn.Module, images: Tensor, repeats: int) -> Tensor:
    """Seconds (repeats,) of each forward pass after the warm-up."""
    seconds = []
    for _ in range(WARM_UP_RUNS + repeats):
        beat()
        _wait(images.device)
        start_s = perf_counter()
        model(images)
        _wait(images.device)
        seconds.append(perf_counter() - start_s)
    return torch.tensor(seconds[WARM_UP_RUNS:], dtype=torch.float64)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _forget_peak(device: torch.device) -> bool:
    """Start a new measurement of the peak; False if this system cannot."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        PEAK_SWITCH.write_text("5")  # sets the peak of the resident set to what it is now
    except OSError:  # not Linux, or not allowed: the result says that memory was not measured
        return False
    return True


def _peak_bytes(device: torch.device, before_bytes: int) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _resident_bytes("VmHWM") - before_bytes


def _resident_bytes(name: str) -> int:
    """VmRSS, the resident memory, or VmHWM, its peak; 0 on other systems than Linux."""
    for line in _lines_in(Path("/proc/self/status")):
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    return 0
