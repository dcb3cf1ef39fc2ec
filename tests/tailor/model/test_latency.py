"""What a sub-model costs here: what is counted, what is said, and memory in a fresh process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tailor.model import latency
from tailor.model.cost import macs_of
from tailor.model.latency import WARM_UP_RUNS, latency_lines, measure
from tailor.model.state import ModelState, save_model
from tests.tailor.saved_models import pruned
from transtailor.__main__ import main

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def state() -> ModelState:
    return pruned("digits_resnet")


def test_numbers_belong_together(state: ModelState) -> None:
    found = measure(state, batch=3, device=CPU, threads=1, repeats=7)
    assert 0.0 < found.latency_lower_quartile_s <= found.latency_median_s <= found.latency_upper_quartile_s
    assert (found.batch, found.repeats, found.threads, found.device) == (3, 7, 1, "cpu")
    assert found.macs == macs_of(state) > 0
    assert found.params == sum(parameter.numel() for parameter in state.build().parameters())
    assert found.precision == "float32" and found.torch_version == torch.__version__ and found.device_name
    text = "\n".join(latency_lines(found))
    for part in (f"{found.macs:,} MACs", "batch 3", "7 repeats after 5 warm-up runs", "torch ", "1 CPU thread(s)"):
        assert part in text


def test_latency_and_throughput_are_those_of_the_repeats_without_the_warm_up(
    state: ModelState, monkeypatch: pytest.MonkeyPatch
) -> None:
    lasting_s = [100.0] * WARM_UP_RUNS + [4.0, 1.0, 10.0, 3.0, 2.0]
    clock = iter([moment_s for seconds in lasting_s for moment_s in (0.0, seconds)])
    monkeypatch.setattr(latency, "perf_counter", lambda: next(clock))
    found = measure(state, batch=8, device=CPU, threads=1, repeats=5)
    assert (found.latency_lower_quartile_s, found.latency_median_s, found.latency_upper_quartile_s) == (2.0, 3.0, 4.0)
    assert found.images_per_s == 2.0
    assert next(clock, None) is None


def test_threads_are_put_back(state: ModelState) -> None:
    before = torch.get_num_threads()
    assert measure(state, batch=1, device=CPU, threads=before + 1, repeats=2).threads == before + 1
    assert torch.get_num_threads() == before


def test_a_model_is_timed_with_any_algorithms_and_trainings_keep_theirs(state: ModelState) -> None:
    seen: set[bool] = set()

    def note(_module: nn.Module, _inputs: object, _output: object) -> None:
        seen.add(torch.are_deterministic_algorithms_enabled())

    hook = nn.modules.module.register_module_forward_hook(note)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        measure(state, batch=1, device=CPU, threads=1, repeats=2)
        assert torch.are_deterministic_algorithms_enabled() and torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
        hook.remove()
    assert seen == {False}


def test_where_the_peak_cannot_be_read_nothing_is_said_of_it(
    state: ModelState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "PEAK_SWITCH", Path("/nowhere/clear_refs"))
    found = measure(state, batch=1, device=CPU, threads=1, repeats=2)
    assert found.peak_memory_bytes is None and "not measured" in "\n".join(latency_lines(found))


@pytest.mark.check
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells the peak of the resident set")
@pytest.mark.parametrize("batches", [[1], pytest.param([1, 64], marks=pytest.mark.long)], ids=["one", "two"])
def test_memory_in_a_fresh_process_is_that_of_weights_and_activations(batches: list[int], tmp_path: Path) -> None:
    state = pruned("resnet18")
    save_model(state, tmp_path)
    weights_bytes = sum(tensor.nbytes for tensor in state.tensors.values())
    peaks = {}
    for batch in batches:
        typed = [
            "model",
            "time",
            str(tmp_path),
            "--batch",
            str(batch),
            "--repeats",
            "2",
            "--threads",
            "1",
            "--device",
            "cpu",
        ]
        finished = subprocess.run(
            [sys.executable, "-m", "transtailor", *typed, "--json"], capture_output=True, text=True, check=True
        )
        found = json.loads(finished.stdout)
        assert (found["network"], found["batch"], found["input_shape"]) == ("resnet18", batch, [3, 64, 64])
        peaks[batch] = found["peak_memory_bytes"]
    assert weights_bytes < peaks[1] < 3 * weights_bytes
    if batches == [1]:
        return
    first_maps_bytes = 4 * state.tensors["conv1.weight"].shape[0] * 32 * 32
    assert peaks[64] - peaks[1] > 64 * first_maps_bytes


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--batch", "0"], "--batch is 0; expected 1 or more"),
        (["--threads", "0"], "--threads is 0; expected 1 or more"),
        (["--repeats", "1"], "--repeats is 1; expected 2 or more"),
        (["--device", "tpu"], "no such device"),
    ],
)
def test_mistakes_are_named(
    state: ModelState, tmp_path: Path, capsys: pytest.CaptureFixture[str], typed: list[str], message: str
) -> None:
    save_model(state, tmp_path)
    assert main(["model", "time", str(tmp_path), *typed]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_without_a_model_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "time", str(tmp_path)]) == 2
    assert "transtailor trial run TRIAL --save FOLDER" in capsys.readouterr().err
