"""SFP's zeroing and GBN's tick beside their definitions written out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
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
from tailor.methods.schemes import GateDecorator
from tailor.model.state import ModelState
from tailor.parallel.process_group import ProcessGroup
from tailor.pruning import surgery
from tailor.stage_execution import StageContext, StageOutput, apply, compute
from tailor.stage_execution.schemes import zero_smallest
from tailor.stage_execution.tuning import compute_fine_tune
from tailor.stages import GroupRule, Stage
from tailor.training.checkpoint import Checkpoint
from tests.tailor.trials import assert_equal_tensors, by_kind, short_trial

pytestmark = pytest.mark.usefixtures("other_constants")

Run = Callable[..., list[StageEvent]]
Fitted = Callable[[str], ModelState]
NETWORKS = ("digits_vgg", "digits_vgg_bn", "digits_resnet")
PARENT = PlannedOutcome("0" * 64)


def outputs(state: ModelState) -> Tensor:
    with torch.no_grad():
        return state.build().eval()(torch.randn(16, 1, 8, 8, generator=task_data.generator(0, "test images")))


class Interrupted(Exception):
    """A stage was stopped behind its first checkpoint."""


class OneSave(Checkpoint):
    """A checkpoint behind whose first write the process ends."""

    def save(self, *state: Any) -> None:
        super().save(*state)
        raise Interrupted


class EndingPlace(StageContext):
    def checkpoint(self, key: str) -> Checkpoint:
        assert self.checkpoint_folder is not None
        return OneSave(self.checkpoint_folder / f"{key}.safetensors", 0.0, self.ranks)


def interrupted_and_resumed(stage: Stage, state: ModelState, place: StageContext, folder: Path) -> StageOutput:
    with pytest.raises(Interrupted):
        compute(stage, state, EndingPlace(ranks=place.ranks, checkpoint_folder=folder, checkpoint_every_s=0.0))
    return compute(stage, state, replace(place, checkpoint_folder=folder))


# --- SFP ---


def softly(network: str, **settings: Any) -> stages.FineTuneSoftly:
    recipe = Recipe(short_trial({"name": "fine_tune"}, network=network, **settings))
    return stages.FineTuneSoftly(
        **vars(recipe.fine_tune(PARENT, 1)),
        rule=recipe.rule,
        asked_removed_macs_fraction=0.3,
        minimum_filters_fraction=0.1,
    )


def zero_filters(state: ModelState, layer: str) -> set[int]:
    weight = state.tensors[f"{layer}.weight"]
    return {index for index in range(len(weight)) if not weight[index].any()}


@pytest.mark.parametrize("residual", ["inside", "coupled"])
@pytest.mark.parametrize("network", NETWORKS)
def test_the_smallest_filters_of_each_layer_are_zeroed_and_nothing_else(
    network: str, residual: str, fitted: Fitted
) -> None:
    state, model = fitted(network), fitted(network).build()
    found = surgery.groups(model, state.input_shape, GroupRule(residual=residual))
    counts = {group.name: 1 + number for number, group in enumerate(found)}
    zero_smallest(model, found, counts)
    after = state.with_weights_of(model)
    expected = dict(state.tensors)
    for group in found:
        norms = [
            sum(
                sum(float(w) ** 2 for w in state.tensors[f"{m.layer}.weight"][index].flatten()) ** 0.5
                for m in group.members
            )
            for index in range(group.filters)
        ]
        lowest = sorted(range(group.filters), key=lambda index: norms[index])[: counts[group.name]]  # noqa: B023
        for member in group.members:
            name = f"{member.layer}.weight"
            expected[name] = expected[name].clone()
            expected[name][lowest] = 0.0
    assert_equal_tensors(after.tensors, expected)


def test_zeroed_filters_go_on_training_and_others_may_be_zeroed_next(fitted: Fitted, place: StageContext) -> None:
    state = fitted("digits_vgg_bn")
    stage = softly("digits_vgg_bn", optimisation={"epochs": 4, "head_epochs": 2, "learning_rate": 0.05})
    found = surgery.groups(state.build(), state.input_shape, stage.rule)
    zeroed, trained = [], []

    def zero(model: nn.Module) -> None:
        trained.append(sum(len(zero_filters(state.with_weights_of(model), g.name)) for g in found))
        zero_smallest(model, found, {group.name: 5 for group in found})
        zeroed.append([zero_filters(state.with_weights_of(model), g.name) for g in found])

    compute_fine_tune(stage, state, place, zero)
    assert trained == [0, 0, 0, 0]  # an epoch later none of them is zero any more
    assert all(len(filters) == 5 for epoch in zeroed for filters in epoch)
    assert any(before != after for before, after in zip(zeroed, zeroed[1:], strict=False))


@pytest.mark.parametrize("network", NETWORKS)
def test_what_is_removed_is_what_the_last_epoch_zeroed(network: str, run: Run, shared_cache: Cache) -> None:
    events = run(short_trial({"name": "sfp", "asked_removed_macs_fraction": 0.3}, network=network), shared_cache)
    assert [event.result.stage.kind for event in events][2:] == [
        "fine_tune_softly",
        "score_filters",
        "prune",
        "operating_point",
    ]
    tuned, prune, point = (by_kind(events, kind)[0] for kind in ("fine_tune_softly", "prune", "operating_point"))
    whole, pruned = tuned.result.model_state(), prune.result.model_state()
    found = surgery.groups(whole.build(), whole.input_shape, GroupRule())
    kept = {name.removeprefix("kept/"): indices for name, indices in prune.result.read_tensors().items()}
    shares = []
    for group in found:
        removed = set(range(group.filters)) - set(kept[group.name].tolist())
        assert removed == zero_filters(whole, group.name) != set()
        shares.append(len(removed) / group.filters)
    assert max(shares) - min(shares) < 0.03  # of each layer the same share, up to whole filters
    removed_macs_fraction = 1.0 - point.result.info["macs"] / point.result.info["original_macs"]
    assert 0.3 <= removed_macs_fraction < 0.32
    # Sums over fewer terms round differently: some 1e-6 of outputs of order one.
    torch.testing.assert_close(outputs(surgery.mask(whole, kept, found)), outputs(pruned), rtol=1e-5, atol=1e-5)


def test_the_masked_network_is_the_whole_one_with_its_zeroed_filters(run: Run, shared_cache: Cache) -> None:
    """As the authors evaluate it: the same tuning, and no filter removed, so no MACs are saved."""
    method = {"name": "sfp", "asked_removed_macs_fraction": 0.3}
    slimmed = run(short_trial(method, network="digits_resnet"), shared_cache)
    masked = run(short_trial(method | {"evaluated": "masked"}, network="digits_resnet"), shared_cache)
    assert [event.result.key for event in masked[:3]] == [event.result.key for event in slimmed[:3]]
    assert [event.result.stage.kind for event in masked[2:]] == ["fine_tune_softly", "operating_point"]
    tuned, point = masked[2].result.model_state(), masked[3].result
    found = surgery.groups(tuned.build(), tuned.input_shape, GroupRule())
    assert all(zero_filters(point.model_state(), group.name) for group in found)
    assert point.info["macs"] == point.info["original_macs"]
    assert point.stage.asked_removed_macs_fraction == 0.3
    constants = outputs(tuned) - outputs(by_kind(slimmed, "prune")[0].result.model_state())
    assert constants.abs().max() > 0.01  # what the zeroed filters' norms still give


def test_soft_fine_tuning_resumed_equals_straight(fitted: Fitted, place: StageContext, tmp_path: Path) -> None:
    state, stage = fitted("digits_vgg_bn"), softly("digits_vgg_bn")
    straight = compute(stage, state, place)
    assert_equal_tensors(interrupted_and_resumed(stage, state, place, tmp_path).tensors, straight.tensors)


# --- GBN ---


def tick(network: str = "digits_vgg_bn", **settings: Any) -> stages.TrainGates:
    """A tick whose training has these settings."""
    trial = short_trial({"name": "gbn"}, network=network, data={"train_images": 40})
    recipe = Recipe(trial)
    assert isinstance(trial.method, GateDecorator)
    training = trial.method.tick_training(recipe, 1, 1).replace(**settings)
    return stages.TrainGates(of=PARENT, task=recipe.task, training=training, rule=recipe.rule)


def slow_tick(
    state: ModelState, stage: stages.TrainGates, ranks: ProcessGroup
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """phi and scores by norm: momentum SGD on phi x (x^ + b / gamma), and the mean of |dL/dphi x phi| over batches.

    Batches weigh as their images do.
    """
    found = surgery.groups(state.build(), state.input_shape, stage.rule)
    norms = [str(member.norm) for group in found for member in group.members]
    phi = {norm: state.tensors[f"{norm}.weight"].clone().requires_grad_() for norm in norms}
    ratio = {norm: state.tensors[f"{norm}.bias"] / state.tensors[f"{norm}.weight"] for norm in norms}
    speed = {norm: torch.zeros_like(phi[norm]) for norm in norms}
    scores, model, images = {norm: torch.zeros_like(phi[norm]) for norm in norms}, state.build().eval(), 0
    for epoch in range(stage.training.epochs):
        train, seed = task_data.splits(stage.task).train, stage.training.seed
        for batch in task_data.batches(train, stage.training.batch_size, seed, epoch, "none", ranks):
            gated = {f"{n}.weight": phi[n] for n in norms} | {f"{n}.bias": phi[n] * ratio[n] for n in norms}
            loss = F.cross_entropy(torch.func.functional_call(model, gated, batch.images), batch.labels)
            for norm, gradient in zip(norms, torch.autograd.grad(loss, [phi[n] for n in norms]), strict=True):
                scores[norm] += len(batch.labels) * (gradient * phi[norm].detach()).abs()
                speed[norm] = stage.training.momentum * speed[norm] + gradient
                with torch.no_grad():
                    phi[norm] -= stage.training.learning_rate * speed[norm]
            images += len(batch.labels)
    return {n: p.detach() for n, p in phi.items()}, {n: s / images for n, s in scores.items()}


@pytest.mark.parametrize("network", ["digits_vgg_bn", "digits_resnet"])
def test_a_tick_is_its_definition_and_changes_nothing_but_gates(
    network: str, fitted: Fitted, place: StageContext, ranks: ProcessGroup
) -> None:
    """The slow tick is compared up to float32 rounding; everything else stays bit for bit."""
    state, stage = fitted(network), tick(network, epochs=2, learning_rate=0.05)
    after = apply(stage, state, compute(stage, state, place).tensors)
    phi, scores = slow_tick(state, stage, ranks)
    norm_of = {
        m.layer: str(m.norm) for g in surgery.groups(state.build(), state.input_shape, stage.rule) for m in g.members
    }
    assert set(after.scores) == set(norm_of)
    for layer, norm in norm_of.items():
        torch.testing.assert_close(after.tensors[f"{norm}.weight"], phi[norm], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(after.scores[layer], scores[norm], rtol=1e-3, atol=1e-6)
        old, new = (s.tensors[f"{norm}.bias"] / s.tensors[f"{norm}.weight"] for s in (state, after))
        torch.testing.assert_close(new, old, rtol=1e-4, atol=1e-6)
    gates = {f"{norm}.{part}" for norm in norm_of.values() for part in ("weight", "bias")}
    assert_equal_tensors(
        {n: t for n, t in after.tensors.items() if n not in gates},
        {n: t for n, t in state.tensors.items() if n not in gates},
    )
    assert all(not torch.equal(after.tensors[f"{norm}.weight"], state.tensors[f"{norm}.weight"]) for norm in phi)


def test_a_tick_at_rate_zero_keeps_the_function(fitted: Fitted, place: StageContext) -> None:
    state, stage = fitted("digits_resnet"), tick("digits_resnet", learning_rate=0.0)
    after = apply(stage, state, compute(stage, state, place).tensors)
    torch.testing.assert_close(outputs(after), outputs(state), rtol=1e-5, atol=1e-5)


def test_a_norm_without_factor_gets_no_infinite_shift(fitted: Fitted, place: StageContext) -> None:
    state = fitted("digits_vgg_bn")
    weight, bias = state.tensors["features.1.weight"].clone(), state.tensors["features.1.bias"].clone()
    weight[0], bias[0] = 0.0, 0.0
    weight[1], bias[1] = 0.0, 1.0
    weight[2], bias[2] = 0.01, -1.0
    state = replace(state, tensors=state.tensors | {"features.1.weight": weight, "features.1.bias": bias})
    stage = tick(learning_rate=0.0)
    after = apply(stage, state, compute(stage, state, place).tensors)
    assert after.tensors["features.1.bias"][:3].tolist() == pytest.approx([0.0, 0.0, -0.1])
    assert all(tensor.isfinite().all() for tensor in (after.scores | after.tensors).values())


def test_a_tick_resumed_equals_straight(fitted: Fitted, place: StageContext, tmp_path: Path) -> None:
    state, stage = fitted("digits_vgg_bn"), tick(epochs=2)
    straight = compute(stage, state, place)
    assert_equal_tensors(interrupted_and_resumed(stage, state, place, tmp_path).tensors, straight.tensors)


def test_the_path_of_gbn(run: Run, shared_cache: Cache) -> None:
    """Two ticks per step, each with half of the step's pruning; the tock shrinks the gates."""
    method = {"name": "gbn_of_two_ticks", "steps": 2, "step_removed_macs_fraction": 0.1}
    events = run(short_trial(method, network="digits_vgg_bn"), shared_cache)
    step = ["train_gates", "prune", "train_gates", "prune", "fine_tune", "operating_point"]
    assert [e.result.stage.kind for e in events] == ["train_source", "fit_head", "operating_point", *step, *step]
    budgets = [event.result.stage.settings()["asked_removed_macs_fraction"] for event in by_kind(events, "prune")]
    assert budgets == pytest.approx([0.05, 0.1, 0.15, 0.2])
    for budget, event in zip(budgets, by_kind(events, "prune"), strict=True):
        assert budget <= event.result.removed_macs_fraction < budget + 0.02
    regularisers = [event.result.stage.settings()["regulariser"] for event in by_kind(events, "fine_tune")]
    assert regularisers == [{"name": "slimming", "strength": 0.001}] * 2
    orders = [event.result.stage.settings()["training"]["seed"] for event in by_kind(events, "train_gates")]
    assert len(set(orders)) == 4
