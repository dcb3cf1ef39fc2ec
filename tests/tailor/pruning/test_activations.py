"""Criteria that read activations, against loops over images and positions that use no hook and no batch."""

import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tailor.data.task_data import Samples, normalise, splits
from tailor.facts.networks import NETWORKS
from tailor.methods.recipe import Recipe
from tailor.model.state import ModelState
from tailor.networks import building
from tailor.parallel.process_group import ProcessGroup
from tailor.pruning.criteria import CRITERIA
from tailor.pruning.criteria.base import Scoring
from tailor.stage_execution.pruning import groups_of
from tailor.stages import GroupRule
from tests.tailor.trials import short_trial

IMAGES = 5
READINGS: dict[str, Callable[[float], float]] = {
    "mean_activation": lambda a: a,
    "mean_absolute_activation": abs,
    "apoz": lambda a: 1.0 if a != 0.0 else 0.0,
}
EVERYTHING = GroupRule(residual="coupled", linear=True)


def few_samples() -> Samples:
    return splits(Recipe(short_trial({"name": "head_only"})).task).train.take(torch.arange(IMAGES))


def scoring(state: ModelState, ranks: ProcessGroup, batch_size: int = 2) -> Scoring:
    return Scoring(
        state=state,
        found=groups_of(state, EVERYTHING),
        ranks=ranks,
        samples=few_samples(),
        batch_size=batch_size,
        placement=None,
        seed=None,
    )


def maps_of_a_chain(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """Layer -> what its ReLU puts out, of a network whose layers follow each other."""
    maps, layer, values = {}, "", image
    for part in ("features", "classifier"):
        values = values.flatten(1) if part == "classifier" else values
        for name, module in model.get_submodule(part).named_children():
            values = module(values)
            if isinstance(module, nn.Conv2d | nn.Linear):
                layer = f"{part}.{name}"
            elif isinstance(module, nn.ReLU):
                maps[layer] = values[0].clone()
    return maps


def maps_of_a_residual_network(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """Layer -> what its ReLU puts out; a layer in front of an addition as if a ReLU stood before it, too."""
    values = model.get_submodule("stem")(image)
    maps = {"stem.0": values[0].clone()}
    for name, block in model.get_submodule("blocks").named_children():
        first = torch.relu(block.bn1(block.conv1(values)))
        second, skip = block.bn2(block.conv2(first)), block.skip(values)
        maps |= {f"blocks.{name}.conv1": first[0], f"blocks.{name}.conv2": torch.relu(second[0])}
        if not isinstance(block.skip, nn.Identity):
            maps[f"blocks.{name}.skip.0"] = torch.relu(skip[0])
        values = torch.relu(second + skip)
    return maps


MAPS = {
    "digits_vgg": maps_of_a_chain,
    "digits_vgg_bn": maps_of_a_chain,
    "digits_resnet": maps_of_a_residual_network,
}


def slow_means(model: nn.Module, network: str, reading: Callable[[float], float]) -> dict[str, list[float]]:
    """One image after the other, one position after the other."""
    sums: dict[str, list[float]] = {}
    for image in normalise(few_samples().fetch().images):
        with torch.no_grad():
            maps = MAPS[network](model, image[None])
        for layer, values in maps.items():
            rows = values.flatten(1).tolist() if values.dim() > 1 else [[v] for v in values.tolist()]
            before = sums.setdefault(layer, [0.0] * len(rows))
            sums[layer] = [s + sum(map(reading, row)) / len(row) for s, row in zip(before, rows, strict=True)]
    return {layer: [s / IMAGES for s in values] for layer, values in sums.items()}


@pytest.mark.parametrize("network", MAPS)
@pytest.mark.parametrize("criterion", READINGS)
def test_scores_are_means_over_images_and_positions(
    network: str, criterion: str, fitted: Callable[[str], ModelState], ranks: ProcessGroup
) -> None:
    state = fitted(network)
    scores = CRITERIA[criterion].function()(scoring(state, ranks))
    expected = slow_means(state.build().eval(), network, READINGS[criterion])
    assert scores.keys() == expected.keys()
    for layer, values in scores.items():
        assert values.tolist() == pytest.approx(expected[layer], rel=1e-5, abs=1e-7), layer
        assert len(set(values.tolist())) > 1, layer  # the filters of a layer differ, so that they can be told apart


def test_a_filter_that_is_never_active_scores_zero(fitted: Callable[[str], ModelState], ranks: ProcessGroup) -> None:
    state = fitted("digits_vgg")
    bias = state.tensors["features.2.bias"].clone()
    bias[3] = -1e6
    dead = replace(state, tensors=state.tensors | {"features.2.bias": bias})
    for criterion in READINGS:
        scores = CRITERIA[criterion].function()(scoring(dead, ranks))["features.2"]
        assert scores[3] == 0.0
        assert scores.argmin() == 3


def test_factors_in_the_model_count(fitted: Callable[[str], ModelState], ranks: ProcessGroup) -> None:
    """A factor at a convolution's output, or behind its ReLU, multiplies what is read there."""
    state = fitted("digits_vgg")
    plain = CRITERIA["mean_activation"].function()(scoring(state, ranks))["features.0"]
    for site in ("features.0", "features.1"):
        halved = replace(state, factors={site: torch.full((24,), 0.5)})
        scores = CRITERIA["mean_activation"].function()(scoring(halved, ranks))["features.0"]
        torch.testing.assert_close(scores, plain * 0.5)


class Shared(nn.Module):
    """Two convolutions that share a SiLU, a third with a plain function behind it."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 4, 3)
        self.third, self.silu = nn.Conv2d(4, 5, 1), nn.SiLU(inplace=True)
        self.head = nn.Linear(5, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        third = self.third(self.silu(self.second(self.silu(self.first(images)))))
        logits: Tensor = self.head(torch.relu(third).mean(dim=(2, 3)))
        return logits


@pytest.fixture
def shared_state(monkeypatch: pytest.MonkeyPatch) -> ModelState:
    info = replace(NETWORKS["digits_vgg"], builder="tests_shared_activation:Shared", head="head", activation="SiLU")
    monkeypatch.setitem(sys.modules, "tests_shared_activation", sys.modules[__name__])
    monkeypatch.setitem(NETWORKS._records, "shared_activation", info)
    tensors = building.build("shared_activation", 5, seed=0).state_dict()
    return ModelState(network="shared_activation", classes=5, input_shape=(1, 8, 8), tensors=tensors)


def test_a_shared_activation_and_a_plain_function_are_applied_to_what_the_layers_put_out(
    shared_state: ModelState, ranks: ProcessGroup
) -> None:
    model = shared_state.build().eval()
    assert isinstance(model, Shared)
    images = normalise(few_samples().fetch().images)
    silu = torch.nn.functional.silu
    with torch.no_grad():
        first = silu(model.first(images))
        second = silu(model.second(first))
        third = torch.relu(model.third(second))
    for criterion, read in (("mean_activation", lambda a: a), ("mean_absolute_activation", torch.abs)):
        scores = CRITERIA[criterion].function()(scoring(shared_state, ranks))
        for layer, values in {"first": first, "second": second, "third": third}.items():
            torch.testing.assert_close(scores[layer], read(values).mean(dim=(0, 2, 3)))


def test_neither_the_batch_size_nor_a_last_smaller_batch_changes_a_score(
    fitted: Callable[[str], ModelState], ranks: ProcessGroup
) -> None:
    state = fitted("digits_resnet")
    for criterion in READINGS:
        whole, pairs = (CRITERIA[criterion].function()(scoring(state, ranks, size)) for size in (IMAGES, 2))
        for layer, values in whole.items():
            torch.testing.assert_close(pairs[layer], values)


def test_a_network_without_a_layer_to_prune_has_no_scores(
    fitted: Callable[[str], ModelState], ranks: ProcessGroup
) -> None:
    nothing = replace(scoring(fitted("digits_vgg"), ranks), found=())
    for criterion in READINGS:
        assert CRITERIA[criterion].function()(nothing) == {}
