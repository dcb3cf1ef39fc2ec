"""What the doctor's job finds on its node, with faults planted."""

import fcntl
from pathlib import Path

import pytest

from hpc.doctor import torch_check
from hpc.doctor.job import lock_finding


def test_a_lock_of_another_machine_is_seen_or_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "lock"
    with lock.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert lock_finding(lock).state == "fine"
        with monkeypatch.context() as patch:  # as with localflock, where each machine has its own locks
            patch.setattr(fcntl, "flock", lambda *_: None)
            finding = lock_finding(lock)
            assert (finding.state, "given a second time" in finding.text) == ("missing", True)
            assert "not localflock" in finding.advice

    def none(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", none)
    assert "has no locks (flock): Operation not supported" in lock_finding(lock).text


def test_amd_gpus_for_which_slurm_sets_cudas_variable_are_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "1", "CUDA_VISIBLE_DEVICES": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch_check, "AMD_DEVICE", tmp_path / "kfd")
    assert "torch" in torch_check._gpus(1).text  # without a GPU: that torch sees none
    (tmp_path / "kfd").touch()
    assert torch_check._gpus(1).text == f"this node has AMD GPUs ({tmp_path}/kfd), which are not supported"
