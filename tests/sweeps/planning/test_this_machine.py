"""What fits on this machine: its cores, and GPUs that a driver's program lists."""

from pathlib import Path

import pytest

from sweeps.errors import SpecError
from sweeps.planning.this_machine import check_resources, gpus_of, most_at_once, usable_gpus
from sweeps.spec.resources import Resources
from sweeps.spec.spec import load_spec
from tests.sweeps.conftest import WriteSpec
from transtailor.machine import usable_cores

LISTED = "GPU 0: NVIDIA H200 (UUID: GPU-1)\n  MIG 1g.10gb Device 0: (UUID: MIG-1)\nGPU 1: NVIDIA H200 (UUID: GPU-2)\n"


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The driver's program, with two GPUs."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n[ $1 = -L ] && printf '{LISTED}'\n".replace("\n  MIG", "\\n  MIG"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return program


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("visible", "gpus"),
    [
        *((None, 2), ("", 0), ("-1", 0), ("1", 1), ("0,1,2", 2), ("GPU-1, GPU-2", 2), ("0,-1,1", 1)),
        *(("NoDevFiles", 0), ("2", 0), ("0,0", 0), ("0,x,1", 1), ("MIG-1", 1), ("none", 0), (" 1 , 0 ", 2)),
    ],
)
def test_gpus_are_those_of_the_driver_or_of_the_environment(
    visible: str | None, gpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert usable_gpus() == gpus
    assert gpus_of(Resources(gpus_per_rank=0.5)) == gpus and gpus_of(Resources()) == 0


def test_without_a_driver_or_with_a_broken_one_there_is_no_gpu(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.write_text("#!/bin/sh\necho 'Failed to initialize NVML'\nexit 9\n")
    assert usable_gpus() == 0
    driver.write_text("no program")
    assert usable_gpus() == 0
    driver.unlink()
    monkeypatch.setenv("PATH", str(driver.parent))
    assert usable_gpus() == 0


@pytest.mark.usefixtures("driver")
def test_trials_at_once_are_as_many_as_fit_on_cores_and_gpus() -> None:
    cores = usable_cores()
    assert most_at_once(Resources()) == cores
    assert most_at_once(Resources(gpus_per_rank=1)) == min(cores, 2)
    assert most_at_once(Resources(gpus_per_rank=0.25)) == min(cores, 8)
    assert most_at_once(Resources(gpus_per_rank=0.4)) == min(cores, 4)  # two on each GPU, not five on both
    assert most_at_once(Resources(ranks=2, gpus_per_rank=1)) == min(cores // 2, 1)
    assert most_at_once(Resources(ranks=3, gpus_per_rank=1)) == 0


def test_a_trial_must_fit_this_machine_only_where_it_runs_on_this_machine(write_spec: WriteSpec) -> None:
    spec = load_spec(write_spec(), [f"resources.ranks={usable_cores() + 1}"])
    for site in ("local", "serial"):
        with pytest.raises(
            SpecError, match=rf"needs {usable_cores() + 1} cores.*--set resources.ranks={usable_cores()}"
        ):
            check_resources(spec, site)
    check_resources(spec, "a_cluster")
    check_resources(load_spec(write_spec(), [f"resources.ranks={usable_cores()}"]), "local")


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("site", ["local", "serial"])
def test_its_gpus_must_be_there(site: str, write_spec: WriteSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (load_spec(write_spec(), [f"resources.ranks={ranks}", "resources.gpus_per_rank=1"]) for ranks in (1, 2))
    for spec in (one, two):
        check_resources(spec, site)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    check_resources(one, site)
    with pytest.raises(SpecError, match=r"needs 2 of .* may use 1 .*; type --set resources.ranks=1, or"):
        check_resources(two, site)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(SpecError, match=r"needs 1 of .* may use 0 .*; type --set resources.gpus_per_rank=0, or"):
        check_resources(one, site)
    check_resources(two, "a_cluster")
