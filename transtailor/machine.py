"""What this process may use of its machine, by the rules of those who limit it: the kernel's, and CUDA's."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def usable_cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may use: those that it may run on, and no more than a container's quota pays.

    Args:
        root: where `proc` and the cgroups are found.
    """
    cores = len(os.sched_getaffinity(0))
    quotas = [int(quota + 1e-9) for quota in _cpu_quotas(root)]
    return max(1, min([cores, *quotas]))


def visible_gpus(visible: str, present: int | None = None) -> int:
    """Return how many GPUs a value of CUDA_VISIBLE_DEVICES shows: those before the first word that names none.

        >>> visible_gpus("0,1"), visible_gpus("GPU-8f2, MIG-3a1"), visible_gpus("0,-1,1"), visible_gpus("NoDevFiles")
        (2, 2, 1, 0)

    Args:
        visible: numbers, or beginnings of identifiers, with commas. One that is there twice shows none at all.
        present: GPUs of the machine; None: not known.
    """
    words = [word.strip() for word in visible.split(",")]
    names = []
    for word in words:
        number = re.match(r"\+?(\d+)", word)  # CUDA reads numbers as C's strtoul does
        is_named = word.startswith(("GPU-", "MIG-"))
        is_there = number is not None and (present is None or int(number[1]) < present)
        if not (is_named or is_there):
            break
        names.append(int(number[1]) if number is not None else word)
    return len(names) if len(set(names)) == len(names) else 0


def _cpu_quotas(root: Path) -> Iterator[float]:
    """Yield the cores that each cgroup of this process, and each one above it, pays for."""
    for group in _cpu_groups(root):
        with suppress(OSError, ValueError):  # no such file: this group sets no quota
            if (group / "cpu.max").exists():  # version 2
                quota, period = (group / "cpu.max").read_text().split()
            else:
                quota = (group / "cpu.cfs_quota_us").read_text()
                period = (group / "cpu.cfs_period_us").read_text()
            if float(quota) > 0:  # "max" is no number, and -1 is no limit
                yield float(quota) / float(period)


def _cpu_groups(root: Path) -> Iterator[Path]:
    """Yield the folders of this process's cgroups that may limit its CPUs, and of those above them."""
    try:
        own = (root / "proc/self/cgroup").read_text()
        mounts = (root / "proc/self/mountinfo").read_text()
    except OSError:
        return
    for mount in mounts.split("\n"):
        before, _, after = mount.partition(" - ")
        kind, _, options = after.partition(" ")
        if kind not in ("cgroup", "cgroup2") or (kind == "cgroup" and "cpu" not in re.split(r"[ ,]", options)):
            continue
        shown, place = before.split()[3:5]  # which group the mount shows, and where
        top = root / place.lstrip("/")
        for line in own.split("\n"):
            _, controllers, path = line.split(":", 2) if line.count(":") >= 2 else ("", "-", "")
            if controllers == "" if kind == "cgroup2" else "cpu" in controllers.split(","):
                below = path.removeprefix(shown.rstrip("/")).lstrip("/")
                group = top / below if (top / below).is_dir() else top  # a container may see only its own
                yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(top))
