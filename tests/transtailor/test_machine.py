"""Cores that a quota pays for, by cgroup v1 and v2, and GPUs that CUDA shows; on files as the kernel writes them."""

import os
import platform
from pathlib import Path

import pytest

from transtailor.machine import cpu_name, usable_cores, visible_gpus

CORES = len(os.sched_getaffinity(0))


def machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A machine with these cgroups; the files are below /sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        (root / "sys/fs/cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "sys/fs/cgroup" / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "100000 100000\n"}, 1),  # in a container with a namespace of its own
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cgroup.procs": ""}, None),  # the root group has no cpu.max
        ("0::/user/a/b\n", {"user/a/b/cpu.max": "max 100000\n", "user/cpu.max": "150000 100000\n"}, 1),
        ("0::/a\n", {"a/cpu.max": "50000 100000\n"}, 1),  # half of a core is one process at a time
        ("4:cpu,cpuacct:/a\n3:cpuset:/b\n", {
            "cpu,cpuacct/a/cpu.cfs_quota_us": "100000\n", "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n"}, 1),
        ("4:cpu,cpuacct:/a\n", {
            "cpu,cpuacct/a/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n"}, None),
        ("4:cpu,cpuacct:/docker/a1\n", {
            "cpu,cpuacct/cpu.cfs_quota_us": "150000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 1),
        ("0::/\n1:cpu,cpuacct:/\n", {
            "cpu,cpuacct/cpu.cfs_quota_us": "100000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 1),
        ("", {}, None),
    ],
)  # fmt: skip
def test_cores_are_those_that_a_quota_pays_for(
    tmp_path: Path, groups: str, files: dict[str, str], cores: int | None
) -> None:
    assert usable_cores(machine(tmp_path, groups, files)) == min(CORES, cores or CORES)


def test_without_the_kernels_files_it_is_the_affinity(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == CORES


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ("model name\t: AMD EPYC\nflags\t\t: fpu avx2 avx512f avx512_vnni\n", "AMD EPYC (avx2 avx512 vnni)"),
        ("model name\t: Xeon(R)\nflags\t\t: fpu avx2 avx_vnni\nmodel name\t: other\n", "Xeon(R) (avx2 vnni)"),
        ("model name\t: old\nflags\t\t: fpu\n", "old"),
        ("Features\t: fp asimd\n", platform.machine()),  # of an ARM
        (None, platform.machine()),
    ],
)
def test_a_cpu_is_named_with_the_flags_that_choose_kernels(tmp_path: Path, facts: str | None, name: str) -> None:
    if facts is not None:
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc" / "cpuinfo").write_text(facts)
    assert cpu_name(tmp_path) == name


@pytest.mark.parametrize(
    ("visible", "present", "gpus"),
    [
        ("", None, 0),
        ("NoDevFiles", None, 0),  # SLURM's word for a job without GPUs
        ("0,1,2,3", None, 4),
        ("0,1,2,3", 2, 2),  # a number that there is not ends the list
        ("2,0", 2, 0),
        ("0,1,1", 2, 0),  # one that is there twice
        ("GPU-8932f937,MIG-ab12", None, 2),
        ("MIG-GPU-8932f937/1/0", None, 1),
        ("all", None, 0),
        ("0x1,1", None, 2),
    ],
)
def test_gpus_are_those_that_cuda_shows(visible: str, present: int | None, gpus: int) -> None:
    assert visible_gpus(visible, present) == gpus
