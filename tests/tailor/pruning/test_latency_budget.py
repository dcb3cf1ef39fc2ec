"""Budgets in milliseconds: the search on latencies that are functions, and a trial that measures."""

import math
from collections.abc import Callable
from dataclasses import asdict

import pytest
import torch
from torch import nn

from tailor.common.errors import ConfigError
from tailor.config.allocations import ToLatency
from tailor.config.parsing import parse_trial
from tailor.config.trial import TrialConfig
from tailor.execution.cache import Cache
from tailor.execution.dry_run import dry_run
from tailor.execution.runner import StageEvent
from tailor.model.circumstance import circumstance_here
from tailor.model.latency import measure
from tailor.pruning.latency_budget import MARGIN, RESOLUTION, least_removal
from tests.tailor.trials import SHORT, short_trial

CPU = torch.device("cpu")
Run = Callable[..., list[StageEvent]]


def linear(removed: float) -> float:
    return 10.0 * (1.0 - removed)


# --- the search ---


@pytest.mark.parametrize("asked", [9.5, 7.0, 5.2])
def test_the_least_removal_is_found(asked: float) -> None:
    tries = least_removal(asked, 0.0, 0.5, linear)
    last = tries[-1]
    assert last.pruning_latency_ms <= asked
    assert last.asked_removed_macs_fraction - (1.0 - asked / 10.0) <= RESOLUTION
    assert last.pruning_latency_ms == linear(last.asked_removed_macs_fraction)
    assert len(tries) == len(set(tries)) <= 3 + math.log2(0.5 / RESOLUTION)


def test_the_search_starts_with_what_is_gone() -> None:
    tries = least_removal(6.0, 0.3, 0.8, linear)
    assert min(one.asked_removed_macs_fraction for one in tries) == 0.3
    assert tries[-1].asked_removed_macs_fraction == pytest.approx(0.4, abs=RESOLUTION)


def stairs(removed: float) -> float:
    """As of a GPU, which widths cost alike up to some multiple."""
    return 10.0 if removed < 0.2 else 6.0


@pytest.mark.parametrize(
    ("asked", "latency", "message"),
    [
        (10.0, linear, r"asked_latency_ms = 10 is met already: a forward pass takes 10 ms before any"),
        (
            4.9,
            linear,
            r"asked_latency_ms = 4.9 is not reached: a pass takes 5 ms with asked_removed_macs_fraction = 0.5, and",
        ),
        (
            8.0,
            stairs,
            r"asked_latency_ms = 8 is missed by more than 10%: a pass takes 10 ms with 0\.19\d of .* 6 ms with 0\.20",
        ),
    ],
)
def test_what_is_not_found_says_why(asked: float, latency: Callable[[float], float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        least_removal(asked, 0.0, 0.5, latency)


def test_stairs_are_met_at_their_edge() -> None:
    assert least_removal(6.5, 0.0, 0.5, stairs)[-1].asked_removed_macs_fraction == pytest.approx(0.2, abs=RESOLUTION)


# --- in a trial ---


def trial(asked_latency_ms: float, asked_removed_macs_fraction: float = 0.8, **settings: object) -> TrialConfig:
    allocation = {
        "name": "latency",
        "asked_latency_ms": asked_latency_ms,
        "batch_size": 16,
        "repeats": 100,
        "runtime": "eager",
    }
    allocation |= settings
    method = {"name": "prune", "criterion": "l1", "asked_removed_macs_fraction": asked_removed_macs_fraction}
    return short_trial(method | {"allocation": allocation})


def test_what_is_asked_is_in_the_id_and_nothing_measured_is() -> None:
    keys = {name: [s.key for s in dry_run(trial(**given)).stages] for name, given in {  # type: ignore[arg-type]
        "one": {"asked_latency_ms": 2.0}, "again": {"asked_latency_ms": 2.0}, "faster": {"asked_latency_ms": 1.0},
        "batch": {"asked_latency_ms": 2.0, "batch_size": 1}, "bf16": {"asked_latency_ms": 2.0, "precision": "bf16"},
        "device": {"asked_latency_ms": 2.0, "device": "cuda"}, "threads": {"asked_latency_ms": 2.0, "threads": 2},
        "runtime": {"asked_latency_ms": 2.0, "runtime": "compiled"},
        "format": {"asked_latency_ms": 2.0, "memory_format": "contiguous"},
    }.items()}  # fmt: skip
    assert keys["one"] == keys["again"]
    assert len({tuple(found) for found in keys.values()}) == 8


def test_it_is_one_step_and_its_points_answer_to_no_budget_in_macs() -> None:
    method = {"name": "prune", "steps": 2, "allocation": {"name": "latency", "asked_latency_ms": 1.0}}
    with pytest.raises(
        ConfigError,
        match=r"reaches .* in one step, and steps = 2; .* give asked_latency_fraction and a table",
    ):
        parse_trial(SHORT | {"method": method}, "test")
    assert ToLatency(asked_latency_ms=2.5).asked(0.3) == {
        "asked_removed_macs_fraction": None, "asked_latency_ms": 2.5, "asked_latency_fraction": None,
    }  # fmt: skip
    assert trial(2.5).method.label() == "prune l1 2.5 ms on cpu, eager"
    assert trial(2.5, runtime=None).method.label() == "prune l1 2.5 ms on cpu"


def test_a_trial_meets_a_latency_that_it_measures(
    run: Run, shared_cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that goes on by a nanosecond with each multiplication: other programs do not change what it says."""
    now_s = [0.0]

    def work(module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        if isinstance(module, nn.Conv2d | nn.Linear):
            now_s[0] += 1e-9 * output.numel() * module.weight[0].numel()

    monkeypatch.setattr("tailor.model.timing.perf_counter", lambda: now_s[0])
    circumstance = circumstance_here(CPU, runtime="eager", batch=16, threads=1)
    whole = run(short_trial({"name": "head_only"}), shared_cache)[-1].result.model_state()
    with nn.modules.module.register_module_forward_hook(work):
        took = measure(whole, circumstance, device=CPU, repeats=100)
        asked = round(0.6 * took.latency_lower_quartile_ms, 6)
        events = run(trial(asked), shared_cache)
    (cut,) = (event.result for event in events if event.result.stage.kind == "prune_to_latency")
    assert (1 - MARGIN) * asked <= cut.info["pruning_latency_ms"] <= asked == cut.info["asked_latency_ms"]
    assert 0.05 < cut.removed_macs_fraction < 0.85
    assert cut.info["tries"][-1]["pruning_latency_ms"] == cut.info["pruning_latency_ms"]
    assert cut.info["circumstance"] == asdict(circumstance)
    again = run(trial(asked), shared_cache)
    assert all(event.result.cached for event in again)  # measured once, shared from then on


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_is_not_there_is_refused(run: Run, shared_cache: Cache) -> None:
    with pytest.raises(ConfigError, match=r"is for cuda, and torch sees no GPU here; run the trial on a machine"):
        run(trial(1.0, device="cuda"), shared_cache)


def test_it_is_measured_in_the_precision_asked_for(fitted: Callable[[str], object]) -> None:
    state = fitted("digits_resnet")
    circumstance = circumstance_here(CPU, runtime="eager", precision="bf16", batch=2, threads=1)
    found = measure(state, circumstance, device=CPU, repeats=2)  # type: ignore[arg-type]
    assert found.circumstance.precision == "bfloat16"
