"""Norms measured again after a pruning, and momentum that outlives it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tailor import stages
from tailor.data import task_data
from tailor.execution.cache import Cache
from tailor.execution.dry_run import PlannedOutcome
from tailor.execution.runner import StageEvent
from tailor.methods.recipe import Recipe
from tailor.model.state import ModelState
from tailor.parallel.process_group import ProcessGroup
from tailor.pruning import surgery
from tailor.stage_execution import StageContext, apply, compute
from tailor.stages import GroupRule
from tests.tailor.trials import assert_equal_tensors, by_kind, short_trial

Run = Callable[..., list[StageEvent]]
Fitted = Callable[[str], ModelState]
PARENT = PlannedOutcome("0" * 64)


# --- norms ---


@pytest.mark.parametrize("network", ["digits_vgg_bn", "digits_resnet"])
def test_measured_statistics_are_the_mean_of_those_of_batches(
    network: str, fitted: Fitted, ranks: ProcessGroup
) -> None:
    """Written out: what each norm reads in each batch, its mean and unbiased variance, and their means over batches.

    The last batch has one image, and weighs as one.
    """
    state = fitted(network)
    found = surgery.groups(state.build(), state.input_shape, GroupRule())
    pruned = surgery.slim(state, {g.name: torch.arange(0, g.filters, 2) for g in found}, found)
    recipe = Recipe(short_trial({"name": "fine_tune"}, network=network, data={"train_images": 65}))
    stage = stages.MeasureNorms(of=PARENT, task=recipe.task, batch_size=32, seed=5)
    place = StageContext(ranks=ranks, checkpoint_folder=None, checkpoint_every_s=0.0)
    measured = apply(stage, pruned, compute(stage, pruned, place).tensors)

    model, read = pruned.build().train(), {}
    norms = {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    for name, norm in norms.items():
        read[name] = []
        norm.register_forward_pre_hook(lambda _norm, inputs, name=name: read[name].append(inputs[0].double()))
    with torch.no_grad():
        for batch in task_data.batches(task_data.splits(recipe.task).train, 32, 5, 0, "none", ranks):
            model(batch.images)
    expected = dict(pruned.tensors)
    for name, batches in read.items():
        assert len(batches) == 3
        means = [features.mean(dim=(0, 2, 3)) for features in batches]
        variances = [features.transpose(0, 1).flatten(1).var(dim=1) for features in batches]
        for part, of_batches in (("mean", means), ("var", variances)):
            of_images = sum(32 * value for value in of_batches[:2]) + of_batches[2]
            expected[f"{name}.running_{part}"] = (of_images / 65).float()
        expected[f"{name}.num_batches_tracked"] = torch.tensor(3)
    for name, tensor in measured.tensors.items():
        if "running" in name:
            torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5)
            assert not torch.allclose(tensor, pruned.tensors[name], rtol=1e-2)
        else:
            assert torch.equal(tensor, expected[name]), name


def test_a_network_without_norms_is_left_as_it_is(run: Run, shared_cache: Cache) -> None:
    points = []
    for measure in (False, True):
        trial = short_trial({"name": "prune"}, network="digits_vgg", pruning={"measure_norms": measure})
        points.append(by_kind(run(trial, shared_cache), "operating_point")[0].result.info)
    assert points[0] == points[1]


# --- momentum ---


def pruned_trial(optimiser_state: str, **optimisation: Any) -> Any:
    """Fine-tuning, pruning, fine-tuning."""
    return short_trial(
        {"name": "prune", "order": "tune_first", "allocation": "uniform"},
        network="digits_vgg",
        optimisation={"epochs": 1, "head_epochs": 2} | optimisation,
        pruning={"optimiser_state": optimiser_state},
    )


def test_momentum_is_sliced_with_the_weights(run: Run, shared_cache: Cache) -> None:
    """Written out for a chain of layers: outputs of one are inputs of the next, four positions each at the last."""
    events = run(pruned_trial("kept"), shared_cache)
    before, after = (
        by_kind(events, "fine_tune")[0].result.model_state(),
        by_kind(events, "prune")[0].result.model_state(),
    )
    stored = by_kind(events, "prune")[0].result.read_tensors()
    assert set(before.momentum) == {n for n in before.tensors if n.endswith(("weight", "bias"))}
    expected, chain = dict(before.momentum), ["features.0", "features.2", "features.5", "features.7", "classifier.0"]
    for layer, following in zip(chain, chain[1:], strict=False):
        kept = stored[f"kept/{layer}"].tolist()
        assert len(kept) < len(before.tensors[f"{layer}.weight"])
        for name in (f"{layer}.weight", f"{layer}.bias"):
            expected[name] = torch.stack([expected[name][index] for index in kept])
        inputs = [4 * i + p for i in kept for p in range(4)] if following == "classifier.0" else kept
        expected[f"{following}.weight"] = expected[f"{following}.weight"][:, inputs]
    assert_equal_tensors(after.momentum, expected)
    assert all(after.momentum[name].shape == after.tensors[name].shape for name in after.momentum)
    assert any(momentum.any() for momentum in after.momentum.values())


def test_reset_keeps_no_momentum(run: Run, shared_cache: Cache) -> None:
    for event in by_kind(run(pruned_trial("reset"), shared_cache), "fine_tune"):
        assert event.result.model_state().momentum == {}
        assert not any(name.startswith("momentum/") for name in event.result.read_tensors())


@pytest.mark.parametrize("optimiser_state", ["kept", "reset"])
def test_the_next_fine_tuning_starts_with_it(
    optimiser_state: str, run: Run, shared_cache: Cache, ranks: ProcessGroup
) -> None:
    """One step of SGD written out: v <- m v + g + d w, w <- w - r v, from the kept v or from none."""
    trial = pruned_trial(optimiser_state, batch_size=300, learning_rate=0.01)  # the 200 images are one step
    events = run(trial, shared_cache)
    before, after = (
        by_kind(events, "prune")[0].result.model_state(),
        by_kind(events, "fine_tune")[1].result.model_state(),
    )
    training, task = by_kind(events, "fine_tune")[1].result.stage.training, Recipe(trial).task
    (batch,) = task_data.batches(task_data.splits(task).train, 300, training.seed, 0, "none", ranks)
    model = before.build().train()
    named = dict(model.named_parameters())
    gradients = torch.autograd.grad(F.cross_entropy(model(batch.images), batch.labels), list(named.values()))
    assert bool(before.momentum) == (optimiser_state == "kept")
    for (name, parameter), gradient in zip(named.items(), gradients, strict=True):
        rate = 0.005 if name in before.head_names() else 0.01
        speed: Tensor = 0.9 * before.momentum.get(name, torch.zeros_like(parameter)) + gradient + 0.005 * parameter
        expected = parameter.detach() - rate * speed.detach()
        torch.testing.assert_close(
            after.tensors[name], expected, rtol=1e-5, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}"
        )
        if optimiser_state == "kept":
            torch.testing.assert_close(after.momentum[name], speed.detach(), rtol=1e-4, atol=1e-6)
