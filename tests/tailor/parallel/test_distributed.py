"""Joining the ranks of a trial on a GPU, as far as that shows without one."""

import os
from collections.abc import Iterator

import pytest
import torch

from tailor.parallel.process_group import join


@pytest.fixture
def seen_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Torch says that there is a GPU; what is set for it is put back."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _device: None)
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("seen_gpu")
def test_on_a_gpu_what_is_computed_again_comes_out_alike() -> None:
    assert join("auto").device == torch.device("cuda", 0)
    assert torch.are_deterministic_algorithms_enabled() and torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


@pytest.mark.usefixtures("seen_gpu")
def test_on_a_gpu_float32_is_not_rounded_to_tf32() -> None:
    join("auto")
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == (False, False)


def test_on_a_cpu_nothing_is_changed() -> None:
    torch.use_deterministic_algorithms(False)
    join("cpu")
    assert not torch.are_deterministic_algorithms_enabled()
