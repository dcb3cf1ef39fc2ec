"""Means of a layer that a network calls several times in a pass: over all of its calls."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from tailor import stages
from tailor.data.task_data import normalise, splits
from tailor.facts.networks import NETWORKS, NetworkInfo
from tailor.methods.recipe import Recipe
from tailor.model.state import ModelState
from tailor.networks import building
from tailor.parallel.process_group import ProcessGroup
from tailor.pruning import surgery
from tailor.pruning.criteria import CRITERIA
from tailor.pruning.criteria.base import Scoring
from tailor.stage_execution import StageContext, compute
from tailor.stages import GroupRule
from tests.tailor.trials import short_trial

RULE = GroupRule(linear=True)
NAME = "repeated"


class Repeated(nn.Module):
    """Two layers that are called three times."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem, self.wide, self.narrow = nn.Linear(64, 6), nn.Linear(6, 8), nn.Linear(8, 6)
        self.head = nn.Linear(6, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        values = self.stem(images.flatten(1)).relu()
        for _ in range(3):
            values = self.narrow(self.wide(values).relu()).relu()
        logits: Tensor = self.head(values)
        return logits


@dataclass
class Outcome:
    """What `ShiftMeans` is given of the model before the surgery."""

    state: ModelState
    key: str = "0" * 64
    deciding_score: float = 0.0
    removed_macs_fraction: float = 0.0

    def model_state(self) -> ModelState:
        return self.state


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> ModelState:
    monkeypatch.setitem(NETWORKS._records, NAME, NetworkInfo(description="", builder=Repeated, input_shape=(1, 8, 8)))
    tensors = building.build(NAME, 5, seed=0).state_dict()
    return ModelState(network=NAME, classes=5, input_shape=(1, 8, 8), tensors=tensors)


def hidden_of(state: ModelState) -> Tensor:
    """(calls x N, 8): what `narrow` reads, of all training images."""
    read: list[Tensor] = []
    model = state.build().eval()
    model.get_submodule("narrow").register_forward_pre_hook(lambda _m, inputs: read.append(inputs[0]))
    with torch.no_grad():
        model(normalise(splits(TASK).train.fetch().images))
    return torch.cat(read)


TASK = Recipe(short_trial({"name": "head_only"})).task
READINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean_activation": lambda values: values,
    "apoz": lambda values: (values != 0).float(),
}


@pytest.mark.parametrize("criterion", READINGS)
def test_a_criterion_reads_the_mean_over_all_calls(criterion: str, state: ModelState, ranks: ProcessGroup) -> None:
    found = surgery.groups(state.build(), state.input_shape, RULE)
    scoring = Scoring(
        state=state, found=found, ranks=ranks, samples=splits(TASK).train, batch_size=32, placement=None, seed=None
    )  # fmt: skip
    scores = CRITERIA[criterion].function()(scoring)
    torch.testing.assert_close(scores["wide"], READINGS[criterion](hidden_of(state)).mean(dim=0))


def test_a_bias_takes_over_the_mean_of_all_calls(state: ModelState, place: StageContext) -> None:
    found = surgery.groups(state.build(), state.input_shape, RULE)
    pruned = surgery.slim(state, {"wide": torch.tensor([0, 2, 3, 5, 6])}, found)
    stage = stages.ShiftMeans(of=None, unpruned=Outcome(state), rule=RULE, task=TASK, batch_size=32)
    made = compute(stage, pruned, place).tensors
    gone = [1, 4, 7]
    expected = state.tensors["narrow.weight"][:, gone] @ hidden_of(state).mean(dim=0)[gone]
    torch.testing.assert_close(made["tensors/narrow.bias"], state.tensors["narrow.bias"] + expected)
