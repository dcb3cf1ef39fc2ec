"""The CPU, and which cores and GPUs this process may use, by the limits of the kernel, of a container and of CUDA."""

import os
import platform
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from transtailor.lines import lines_of

CPU_FLAGS = {
    "avx2": ("avx2",),
    "avx512": ("avx512f",),
    "vnni": ("avx512_vnni", "avx_vnni"),
}
"""What decides which kernels a CPU runs, and its names in /proc/cpuinfo; a CPU's own name says little in a cloud."""


def cpu_name(root: Path = Path("/")) -> str:
    """Return the CPU's model and the flags in `CPU_FLAGS` that it has: "AMD EPYC 9B14 (avx2 avx512 vnni)".

    Where the system does not tell the model, which only Linux does, it is the architecture.

    Args:
        root: where `proc` is found.
    """
    has = _cpu_facts(root).get("flags", "").split()
    flags = [flag for flag, names in CPU_FLAGS.items() if any(name in has for name in names)]
    model = cpu_model(root)
    return f"{model} ({' '.join(flags)})" if flags else model


def cpu_model(root: Path = Path("/")) -> str:
    """Return the CPU's model, "AMD EPYC 9B14", or the architecture where the system does not tell it."""
    return _cpu_facts(root).get("model name", platform.machine())


def _cpu_facts(root: Path) -> dict[str, str]:
    """Return what Linux says of the first core: name of a fact -> its text."""
    facts: dict[str, str] = {}
    with suppress(OSError):
        for line in lines_of((root / "proc/cpuinfo").read_text()):
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
    return facts


def usable_cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may use: its CPU affinity, and at most what a container's quota allows.

    Args:
        root: where `proc` and the cgroups are found.
    """
    cores = len(os.sched_getaffinity(0))
    for quota in _cpu_quotas(root):
        whole_cores = int(quota + 1e-9)  # 2.9999999 of a division is 3
        cores = min(cores, whole_cores)
    return max(1, cores)


def visible_gpus(visible: str, present: int | None = None) -> int:
    """Return how many GPUs a value of CUDA_VISIBLE_DEVICES shows: all words before the first one that names no GPU.

        >>> visible_gpus("0,1"), visible_gpus("GPU-8f2, MIG-3a1"), visible_gpus("0,-1,1"), visible_gpus("NoDevFiles")
        (2, 2, 1, 0)

    Args:
        visible: numbers, or beginnings of identifiers, separated by commas. If one occurs twice, CUDA shows no GPU.
        present: how many GPUs the machine has; None if that is not known.
    """
    names: list[int | str] = []
    for word in visible.split(","):
        name = _gpu_name(word.strip())
        if name is None or (isinstance(name, int) and present is not None and name >= present):
            break
        names.append(name)
    has_duplicates = len(set(names)) < len(names)
    return 0 if has_duplicates else len(names)


def _gpu_name(word: str) -> int | str | None:
    """Return the number or the identifier of a GPU that a word names; None if it names none."""
    number = re.match(r"\+?(\d+)", word)  # CUDA reads numbers as C's strtoul does
    if number is not None:
        return int(number[1])
    return word if word.startswith(("GPU-", "MIG-")) else None


def _cpu_quotas(root: Path) -> Iterator[float]:
    """Yield how many cores each cgroup of this process, and each one above it, allows; skip those without a quota."""
    lines = []
    with suppress(OSError):
        lines = lines_of((root / "proc/self/cgroup").read_text())
    for line in lines:  # such as 4:cpu,cpuacct:/slurm/job_7 or, of version 2, 0::/slurm/job_7
        _number, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / controllers
        own = top / path.lstrip("/")
        group = own if own.is_dir() else top  # a container may see only its own
        for folder in (group, *group.parents):
            with suppress(OSError, ValueError):  # no such file: this group sets no quota
                if controllers:
                    quota = (folder / "cpu.cfs_quota_us").read_text()
                    period = (folder / "cpu.cfs_period_us").read_text()
                else:
                    quota, period = (folder / "cpu.max").read_text().split()
                if folder.is_relative_to(top) and float(quota) > 0:  # "max" is no number, and -1 is no limit
                    yield float(quota) / float(period)
