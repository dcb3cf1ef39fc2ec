"""What a sub-model costs here: what is counted, what is said, and memory in a fresh process."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tailor.model.circumstance import Circumstance, Timing
from tailor.model.cost import macs_of, original_shapes
from tailor.model.latency import latency_lines, measure, whole_network
from tailor.model.passes import onnx_pass, onnx_program
from tailor.model.programs import images_for
from tailor.model.state import ModelState, save_model
from tests.tailor.saved_models import pruned
from transtailor.__main__ import main

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def state() -> ModelState:
    return pruned("digits_resnet")


def eager(batch: int = 1, threads: int = 1) -> Circumstance:
    return Timing(device="cpu", runtime="eager", batch=batch, threads=threads).here()[0]


def test_numbers_belong_together(state: ModelState) -> None:
    found = measure(state, eager(batch=3), device=CPU, repeats=7, whole=whole_network(state))
    assert 0.0 < found.latency_lower_quartile_ms <= found.latency_ms <= found.latency_upper_quartile_ms
    assert (found.circumstance, found.repeats) == (eager(batch=3), 9)
    assert found.macs == macs_of(state) > 0
    assert found.params == sum(parameter.numel() for parameter in state.build().parameters())
    assert found.images_per_s == pytest.approx(3e3 / found.latency_ms)
    assert found.speed is not None and found.whole_latency_ms is not None
    assert found.whole_latency_ms == pytest.approx(found.speed * found.latency_ms)  # also on a busy machine
    text = "\n".join(latency_lines(found))
    for part in (
        f"{found.macs:,} MACs",
        "batch 3",
        "9 passes",
        "torch ",
        "1 CPU thread,",
        "times as fast as",
    ):
        assert part in text


def test_what_has_lost_nothing_is_as_fast_as_the_whole_network(state: ModelState) -> None:
    """Two copies of one network would be said to differ by what else the machine did."""
    whole = whole_network(state)
    tuned = replace(whole, tensors={name: tensor + 0.01 for name, tensor in whole.tensors.items()})
    found = measure(tuned, eager(), device=CPU, repeats=12, whole=whole)
    assert (found.speed, found.speed_lower_quartile, found.speed_upper_quartile, found.is_steady) == (
        1.0,
        1.0,
        1.0,
        True,
    )
    assert found.whole_latency_ms == found.latency_ms
    larger = replace(whole, input_shape=(1, 16, 16))  # the same tensors, and another cost
    assert measure(tuned, eager(), device=CPU, repeats=12, whole=larger).speed != 1.0


def test_a_slower_sub_model_and_an_unsteady_machine_are_said(state: ModelState) -> None:
    found = measure(state, eager(), device=CPU, repeats=2, whole=whole_network(state))
    slow = replace(found, speed=0.54, whole_latency_ms=2.0, is_steady=False)
    text = "\n".join(latency_lines(slow))
    assert "0.54 times as fast as the whole network, SLOWER (2 ms)" in text and "warning: not steady" in text
    as_fast = "\n".join(latency_lines(replace(found, speed=0.996, is_steady=True)))
    assert "SLOWER" not in as_fast and "steady" not in as_fast


def test_the_whole_network_has_all_filters_of_the_original(state: ModelState) -> None:
    shapes = {name: tensor.shape for name, tensor in whole_network(state).tensors.items()}
    assert shapes == original_shapes(state.network, state.classes)


@pytest.mark.check
def test_onnx_runtime_computes_what_the_module_computes(state: ModelState) -> None:
    images = images_for(state, 2, seed=0)
    run = onnx_pass(onnx_program(state, 2), images, threads=1)
    (outputs,) = run()  # type: ignore[misc]
    with torch.no_grad():
        expected = state.build().eval()(images)
    assert torch.allclose(torch.from_numpy(outputs), expected, atol=1e-4 * float(expected.abs().max()))


def test_threads_are_put_back(state: ModelState) -> None:
    measure(state, eager(), device=CPU, repeats=1)  # finds the network's facts by running it
    before = torch.get_num_threads()
    seen: set[int] = set()
    hook = nn.modules.module.register_module_forward_hook(lambda *_: seen.add(torch.get_num_threads()))
    try:
        measure(state, eager(threads=before + 1), device=CPU, repeats=2)
    finally:
        hook.remove()
    assert (seen, torch.get_num_threads()) == ({before + 1}, before)


def test_a_model_is_timed_with_any_algorithms_and_trainings_keep_theirs(state: ModelState) -> None:
    seen: set[bool] = set()

    def note(_module: nn.Module, _inputs: object, _output: object) -> None:
        seen.add(torch.are_deterministic_algorithms_enabled())

    hook = nn.modules.module.register_module_forward_hook(note)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        measure(state, eager(), device=CPU, repeats=2)
        assert torch.are_deterministic_algorithms_enabled() and torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
        hook.remove()
    assert seen == {False}


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--batch", "0"], "'--batch': 0 is not in the range x>=1"),
        (["--threads", "0"], "'--threads': 0 is not in the range x>=1"),
        (["--repeats", "1"], "'--repeats': 1 is not in the range x>=2"),
        (["--device", "tpu"], "no such device"),
        (["--runtime", "onnxruntime", "--precision", "bf16"], "in float32"),
        (["--runtime", "onnxruntime", "--memory-format", "channels_last"], "its own memory format"),
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
    said = capsys.readouterr().err
    assert (
        "transtailor trial run TRIAL --save FOLDER, or for one of a sweep: " in said and "transtailor best RUN" in said
    )
