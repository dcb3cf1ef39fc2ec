"""Each regulariser beside its formula written out, on whole and on pruned models; one rank == two ranks."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tailor import stages
from tailor.common.errors import ConfigError
from tailor.config.needs import refuse_missing
from tailor.config.trial import METHODS, TrialConfig
from tailor.data import task_data
from tailor.data.task_data import Batch
from tailor.execution.cache import Cache
from tailor.execution.dry_run import PlannedOutcome, dry_run
from tailor.execution.runner import StageEvent
from tailor.facts.regularisation import BSS, L2SP, REGULARISERS, Delta, Regulariser, Slimming
from tailor.methods.recipe import Recipe
from tailor.model.state import ModelState
from tailor.networks import building
from tailor.parallel.process_group import ProcessGroup
from tailor.pruning import importance, surgery
from tailor.stage_execution import StageContext, apply, compute
from tailor.stages import GroupRule
from tailor.training import penalties
from tailor.training.feature_maps import compared_layers
from tailor.training.penalties import Penalty
from tests.tailor.other_constants import ThreeBSS
from tests.tailor.trials import assert_equal_tensors, short_trial

Fitted = Callable[[str], ModelState]
MAPS = {"digits_vgg": ["features.2", "features.7"], "digits_vgg_bn": ["features.3", "features.10"]}


def batch(images: int = 12) -> Batch:
    numbers = task_data.generator(0, "test batch")
    return Batch(
        images=torch.randn(images, 1, 8, 8, generator=numbers),
        labels=torch.randint(5, (images,), generator=numbers),
        global_count=images,
    )


def tuned(state: ModelState, *, pruned: bool) -> ModelState:
    """A state with an anchor and channel weights whose present weights have moved away; perhaps half as wide."""
    numbers = task_data.generator(1, "test perturbation")
    head = state.head_names()
    maps = compared_layers(state)
    noise = {
        n: 0.05 * torch.randn(t.shape, generator=numbers) for n, t in state.tensors.items() if t.is_floating_point()
    }
    state = replace(
        state,
        anchor={name: tensor for name, tensor in state.tensors.items() if name not in head},
        channel_weights={layer: torch.rand(width, generator=numbers) + 0.5 for layer, width in maps.items()},
        tensors=state.tensors | {n: state.tensors[n] + v for n, v in noise.items() if "running" not in n},
    )
    if not pruned:
        return state
    found = surgery.groups(state.build(), state.input_shape, GroupRule(residual="coupled"))
    return surgery.slim(state, {g.name: torch.arange(0, g.filters, 2) for g in found}, found)


def gradients(model: nn.Module, value: Tensor) -> dict[str, Tensor]:
    """By parameter, zero where the value does not depend on it."""
    named = dict(model.named_parameters())
    found = torch.autograd.grad(value, list(named.values()), allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(named.items(), found, strict=True)}


def assert_like_the_formula(
    regulariser: Regulariser, state: ModelState, formula: Callable[[nn.Module, Batch], Tensor], ranks: ProcessGroup
) -> None:
    """Equal values and gradients; float32 sums in another order."""
    some, model, naive = batch(), state.build().train(), state.build().train()
    of = penalties.penalty_for(regulariser, state, ranks)
    assert of is not None
    penalty: Penalty = of(model)
    value, expected = penalty(some, model(some.images)), formula(naive, some)
    assert value.item() > 0
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-7)
    wanted = gradients(naive, expected)
    assert any(gradient.abs().max() > 0 for gradient in wanted.values())
    for name, gradient in gradients(model, value).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(("network", "pruned"), [("digits_vgg", False), ("digits_resnet", True)])
def test_l2_sp(network: str, pruned: bool, fitted: Fitted, ranks: ProcessGroup) -> None:
    state = tuned(fitted(network), pruned=pruned)

    def formula(model: nn.Module, _batch: Batch) -> Tensor:
        total = torch.zeros(())
        for name, parameter in model.named_parameters():
            if name in state.head_names():
                total = total + 0.01 / 2 * parameter.norm() ** 2
            else:
                assert state.anchor[name].shape == parameter.shape  # pruned alike
                total = total + 0.1 / 2 * (parameter - state.anchor[name]).norm() ** 2
        return total

    assert_like_the_formula(L2SP(), state, formula, ranks)


@pytest.mark.parametrize(("network", "pruned"), [("digits_vgg", False), ("digits_vgg_bn", True)])
def test_delta(network: str, pruned: bool, fitted: Fitted, ranks: ProcessGroup) -> None:
    """The feature map of a layer is what the network's sequence puts out up to that layer."""
    state = tuned(fitted(network), pruned=pruned)
    assert list(state.channel_weights) == MAPS[network]

    def up_to(model: nn.Module, layer: str, images: Tensor) -> Tensor:
        maps: Tensor = model.features[: int(layer.split(".")[1]) + 1](images)
        return maps

    def formula(model: nn.Module, some: Batch) -> Tensor:
        anchor = replace(state, tensors=state.anchor | {n: state.tensors[n] for n in state.head_names()}).build().eval()
        total = torch.zeros(())
        for layer, weights in state.channel_weights.items():
            now, then = up_to(model, layer, some.images), up_to(anchor, layer, some.images).detach()
            _, channels, height, width = now.shape
            for channel in range(channels):
                distance = (now[:, channel] - then[:, channel]).norm() ** 2 / (height * width)
                total = total + 0.01 / 2 * weights[channel] * distance
        for name in state.head_names():
            total = total + 0.01 / 2 * model.get_parameter(name).norm() ** 2
        return total

    assert_like_the_formula(Delta(), state, formula, ranks)


@pytest.mark.parametrize("images", [12, 100])  # fewer and more than there are features
@pytest.mark.parametrize("smallest", [1, 3])
def test_bss(smallest: int, images: int, fitted: Fitted, ranks: ProcessGroup) -> None:
    """Squared singular values are the eigenvalues of the smaller Gram matrix."""
    state = tuned(fitted("digits_resnet"), pruned=False)
    some, model, naive = batch(images), state.build().double(), state.build().double()
    of = penalties.penalty_for((BSS if smallest == 1 else ThreeBSS)(strength=0.5), state, ranks)
    assert of is not None
    value = of(model)(some, model(some.images.double()))
    features = naive.blocks(naive.stem(some.images.double())).mean(dim=(2, 3))
    gram = features @ features.T if images < features.shape[1] else features.T @ features
    expected = 0.5 * torch.linalg.eigvalsh(gram)[:smallest].sum()  # in ascending order
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-12)
    wanted = gradients(naive, expected)
    for name, gradient in gradients(model, value).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-8, msg=lambda m, n=name: f"{n}: {m}")


def test_bss_has_no_penalty_in_a_smaller_last_batch(fitted: Fitted, ranks: ProcessGroup) -> None:
    """Of one image, the smallest singular value is the norm of all its features."""
    state = fitted("digits_resnet")
    model, of = state.build(), penalties.penalty_for(BSS(strength=1.0), state, ranks)
    assert of is not None
    penalty = of(model)
    samples = task_data.source("digits").take(torch.arange(25))
    values = [penalty(b, model(b.images)).item() for b in task_data.batches(samples, 12, 0, 0, "none", ranks)]
    assert [value > 0.0 for value in values] == [True, True, False]
    (alone,) = task_data.batches(samples, 32, 0, 0, "none", ranks)
    assert penalty(alone, model(alone.images)).item() > 0.0  # all images in one batch


def test_bss_by_finite_differences(fitted: Fitted, ranks: ProcessGroup) -> None:
    state, some = fitted("digits_vgg"), batch()
    model = state.build().double()
    of = penalties.penalty_for(ThreeBSS(strength=1.0), state, ranks)
    assert of is not None
    penalty, parameter, step = of(model), model.classifier[0].weight, 1e-6
    slope = gradients(model, penalty(some, model(some.images.double())))["classifier.0.weight"]
    for index in ((0, 0), (3, 40), (17, 100)):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter[index] += sign * step
                values.append(penalty(some, model(some.images.double())).item())
                parameter[index] -= sign * step
        assert slope[index].item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4, abs=1e-8)


@pytest.mark.parametrize(("network", "pruned"), [("digits_vgg_bn", False), ("digits_resnet", True)])
def test_slimming(network: str, pruned: bool, fitted: Fitted, ranks: ProcessGroup) -> None:
    state = tuned(fitted(network), pruned=pruned)

    def formula(model: nn.Module, _batch: Batch) -> Tensor:
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        assert len(norms) == (4 if network == "digits_vgg_bn" else 6)
        return 1e-4 * torch.stack([norm.weight.abs().sum() for norm in norms]).sum()

    assert_like_the_formula(Slimming(), state, formula, ranks)


# --- DELTA's attention ---


def test_channels_are_weighed_by_the_loss_without_them(fitted: Fitted, place: StageContext) -> None:
    """Written out: each channel's weights zeroed in a copy of the network, the loss on all drawn images."""
    network = "digits_vgg_bn"
    state = fitted(network)
    recipe = Recipe(short_trial({"name": "fine_tune"}, network=network, data={"train_images": 40}))
    stage = stages.WeighChannels(of=PlannedOutcome("0" * 64), task=recipe.task, images=10_000, seed=3)
    weighed = apply(stage, state, compute(stage, state, place).tensors)
    train = task_data.splits(recipe.task).train
    images, labels = task_data.normalise(train.fetch().images).double(), train.labels

    def loss(tensors: dict[str, Tensor]) -> float:
        model = replace(state, tensors=tensors).build().double().eval()
        with torch.no_grad():
            return nn.functional.cross_entropy(model(images), labels).item()

    whole = loss(state.tensors)
    for layer, weights in weighed.channel_weights.items():
        increases = []
        for channel in range(len(weights)):
            names = [name for name in (f"{layer}.weight", f"{layer}.bias") if name in state.tensors]
            without = {name: state.tensors[name].clone() for name in names}
            for tensor in without.values():
                tensor[channel] = 0.0
            increases.append(loss(state.tensors | without) - whole)
        mean = sum(increases) / len(increases)
        deviation = math.sqrt(sum((i - mean) ** 2 for i in increases) / len(increases))
        powers = [math.exp((i - mean) / deviation / 5.0) for i in increases]
        expected = torch.tensor([len(powers) * power / sum(powers) for power in powers])
        torch.testing.assert_close(weights, expected, rtol=1e-3, atol=1e-4)
        assert weights.mean().item() == pytest.approx(1.0, abs=1e-5)
        assert weights.max() > 1.2


def test_the_seed_draws_the_images(fitted: Fitted, place: StageContext) -> None:
    state = fitted("digits_vgg")
    task = Recipe(short_trial({"name": "fine_tune"})).task
    found = []
    for images, seed in ((20, 0), (20, 0), (20, 1), (40, 0)):
        stage = stages.WeighChannels(of=PlannedOutcome("0" * 64), task=task, images=images, seed=seed)
        found.append(compute(stage, state, place).tensors["channel_weights/features.2"])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[3])


def test_channel_weights_are_sliced_by_surgery(fitted: Fitted) -> None:
    whole = tuned(fitted("digits_vgg"), pruned=False)
    pruned = tuned(fitted("digits_vgg"), pruned=True)
    for layer, weights in whole.channel_weights.items():
        assert torch.equal(pruned.channel_weights[layer], weights[::2])


def test_the_last_of_the_widest_convolutions_of_each_resolution_is_compared() -> None:
    """On a ResNet the stem and the last convolution of each stage, which the authors' code compares."""
    tensors = building.build("resnet50", 5, seed=0).state_dict()
    state = ModelState(network="resnet50", classes=5, input_shape=(3, 64, 64), tensors=tensors)
    expected = {"conv1": 64, "layer1.2.conv3": 256, "layer2.3.conv3": 512, "layer3.5.conv3": 1024}
    assert compared_layers(state) == expected | {"layer4.2.conv3": 2048}


# --- in a trial ---


def test_delta_weighs_channels_once_behind_the_head() -> None:
    trial = short_trial({"name": "prune"}, optimisation={"regulariser": "delta"})
    assert [stage.kind for stage in dry_run(trial).stages][:4] == [
        "train_source",
        "fit_head",
        "remember_weights",
        "weigh_channels",
    ]


@pytest.mark.parametrize("name", [pytest.param("l2_sp", marks=pytest.mark.check), "slimming"])
def test_strength_zero_changes_nothing(name: str, run: Callable[..., list[StageEvent]], tmp_path: Path) -> None:
    zero = {"name": name, "strength": 0.0} | ({"head_strength": 0.0} if name == "l2_sp" else {})
    settings = {"epochs": 1, "head_epochs": 1}
    found = []
    for regulariser in ({}, {"regulariser": zero}, {"regulariser": {"name": name, "strength": 0.5}}):
        trial = short_trial({"name": "fine_tune"}, network="digits_vgg_bn", optimisation=settings | regulariser)
        found.append(run(trial, Cache(tmp_path))[-1].result.model_state().tensors)
    assert_equal_tensors(found[0], found[1])
    assert any(not torch.equal(found[0][tensor], found[2][tensor]) for tensor in found[0])


def test_what_a_network_lacks_is_refused_before_training() -> None:
    fine_tune = METHODS["fine_tune"]()
    for network, name in (("digits_vgg", "slimming"), ("friedman_mlp", "slimming"), ("friedman_mlp", "delta")):
        trial = TrialConfig.model_construct(network=network, method=fine_tune)
        with pytest.raises(ValueError, match=f"{name}.*{network} has n"):
            refuse_missing(trial, {name: REGULARISERS[name]().needs})
    trial = TrialConfig.model_construct(network="digits_resnet", method=fine_tune)
    refuse_missing(trial, {name: REGULARISERS[name]().needs for name in REGULARISERS})


def test_without_an_anchor_there_is_nothing_to_compare_with(fitted: Fitted, ranks: ProcessGroup) -> None:
    for regulariser in (L2SP(), Delta()):
        with pytest.raises(ConfigError, match="set optimisation.regulariser"):
            penalties.penalty_for(regulariser, fitted("digits_vgg"), ranks)
    assert penalties.penalty_for(None, fitted("digits_vgg"), ranks) is None


@pytest.mark.parametrize("mode", ["fold", "sqrt", "raw"])
def test_slimming_shrinks_the_norms_of_layers_with_factors(mode: str, fitted: Fitted, ranks: ProcessGroup) -> None:
    state, rule = fitted("digits_resnet"), GroupRule()
    found = surgery.groups(state.build(), state.input_shape, rule)
    scores = {m.layer: torch.linspace(0.5, 1.5, g.filters) for g in found for m in g.members}
    how = stages.AttachImportance(
        of=None, rule=rule, mode=mode, normalisation="layer_mean", placement="after_norm", seed=None  # type: ignore[arg-type]
    )  # fmt: skip
    attached = importance.attach_importance(replace(state, scores=scores), found, how)
    assert attached.factors

    def penalised(one: ModelState) -> list[str]:
        model, penalty_of = one.build(), penalties.penalty_for(Slimming(), one, ranks)
        assert penalty_of is not None
        some = batch()
        value = penalty_of(model)(some, model(some.images))
        return sorted(name for name, gradient in gradients(model, value).items() if gradient.any())

    assert penalised(attached) == penalised(state)
