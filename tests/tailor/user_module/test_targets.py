"""Targets as loaders of users give them: cast where that is all they need, else refused in clear words."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tailor
from tailor.common.errors import ConfigError

LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
KINDS: dict[str, Callable[[Tensor], Any]] = {
    "int32": lambda labels: labels.int(),
    "uint8": lambda labels: labels.byte(),
    "a column": lambda labels: labels[:, None],
    "a column of int32": lambda labels: labels[:, None].int(),
    "one-hot": lambda labels: F.one_hot(labels, 3),
    "one-hot bool": lambda labels: F.one_hot(labels, 3).bool(),
    "one-hot floats": lambda labels: F.one_hot(labels, 3).float(),
    "a list": lambda labels: labels.tolist(),
    "a tuple": lambda labels: tuple(labels.tolist()),
    "floats": lambda labels: labels.float(),
    "float64, as pandas reads a column with gaps": lambda labels: labels.double(),
    "a column of float64": lambda labels: labels.double()[:, None],
    "a list of floats": lambda labels: labels.double().tolist(),
    "a list of columns": lambda labels: labels[:, None].tolist(),
}


def pruned(targets: Any) -> tailor.PrunedNetwork:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    inputs = torch.randn(6, 8)
    return tailor.prune(network, inputs, asked_removed_macs_fraction=0.4, loader=[(inputs, targets)])


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_read_as_class_numbers(kind: str) -> None:
    assert pruned(KINDS[kind](LABELS)).groups == pruned(LABELS).groups


def test_the_result_names_the_loss_and_how_many_outputs_are_labels() -> None:
    assert str(pruned(LABELS % 2)).endswith("\nTask: 6 inputs, cross-entropy over 3 outputs, 2 of which are labels")


def test_bools_are_two_classes() -> None:
    assert pruned(LABELS == 1).groups == pruned((LABELS == 1).long()).groups


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (
            LABELS + 1,
            "the labels are 1 to 3, and the network has 3 outputs; expected 0 to 2: subtract 1 from the labels",
        ),
        (LABELS + 7, "the labels are 7 to 9, and the network has 3 outputs; expected 0 to 2, or -100 for what does"),
        (torch.ones(6, 3).int(), "rows of 3 integers that are not one-hot"),
        (LABELS.double() + 7, "the labels are 7 to 9, and the network has 3 outputs"),
        (LABELS + 0.5, "torch.float32, which are no numbers of its classes"),
        (LABELS / torch.zeros(6), "the targets of loader have numbers that are NaN or infinite"),
        (torch.tensor([[0.5, 0.3, 0.2]] * 6), r"shares that sum to 1; give loss = torch.nn.CrossEntropyLoss\(\) if"),
        (["cat", "dog", "eel"] * 2, "the targets in batch 0 of loader are no numbers"),
    ],
)
def test_others_are_refused(targets: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pruned(targets)


def test_a_class_of_each_pixel_may_be_a_float_or_have_a_channel_and_is_checked_in_all_batches() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 3, 1))
    images, labels = torch.randn(4, 1, 6, 6), torch.randint(0, 3, (4, 6, 6))
    prune = partial(tailor.prune, network, images[:1], asked_removed_macs_fraction=0.4)
    usual = prune(loader=[(images, labels)]).groups
    for targets in (labels.float(), labels[:, None], labels[:, None].float()):
        assert prune(loader=[(images, targets)]).groups == usual
    assert prune(loader=[(images[:0], labels[:0]), (images, labels)]).groups == usual
    with pytest.raises(ConfigError, match="the labels are 0 to 255, and the network has 3 outputs"):
        prune(loader=[(images, labels), (images, torch.full_like(labels, 255))])


@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 4)])
def test_yes_or_no_as_floats_needs_a_loss_and_the_one_that_is_named_works(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, shape[-1] if len(shape) > 1 else 1))
    if len(shape) == 1:
        network.append(nn.Flatten(0))
    answers = torch.ones(shape)
    prune = partial(tailor.prune, network, torch.zeros(1, 8), asked_removed_macs_fraction=0.4)
    with pytest.raises(ConfigError, match="the targets are floats of 0 and 1") as found:
        prune(loader=[(torch.randn(6, 8), answers)])
    loss = eval(str(found.value).partition("give loss = ")[2].partition(";")[0])  # noqa: S307  # as the message says
    assert prune(loader=[(torch.randn(6, 8), answers)], loss=loss).removed_macs_fraction >= 0.4
    if shape != (6, 4):
        with pytest.raises(
            ConfigError, match=r"integers, and the network has one output, .*, targets.float\(\), if .*flatten"
        ):
            prune(loader=[(torch.randn(6, 8), answers.long() * 0)])


def test_a_softmax_in_the_module_is_named_and_the_loss_for_it_works() -> None:
    network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3), nn.Softmax(dim=1))
    loader = [(torch.randn(6, 8), LABELS)]
    with pytest.raises(ConfigError, match="Sequential returns probabilities, and cross-entropy") as found:
        tailor.prune(network, torch.zeros(1, 8), asked_removed_macs_fraction=0.4, loader=loader)
    loss = eval(str(found.value).partition("loss = ")[2])  # noqa: S307  # what the message says to type
    pruned = tailor.prune(network, torch.zeros(1, 8), asked_removed_macs_fraction=0.4, loader=loader, loss=loss)
    of_logits = tailor.prune(network[:3], torch.zeros(1, 8), asked_removed_macs_fraction=0.4, loader=loader)
    assert pruned.groups[0] == of_logits.groups[0]


def test_a_sigmoid_in_the_module_is_named_unless_a_loss_is_given() -> None:
    network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3), nn.Sigmoid())
    loader = [(torch.randn(6, 8), LABELS)]
    with pytest.raises(ConfigError, match="Sequential ends in a sigmoid, and cross-entropy takes the softmax") as found:
        tailor.prune(network, torch.zeros(1, 8), asked_removed_macs_fraction=0.4, loader=loader)
    loss = eval(str(found.value).partition("loss = ")[2])  # noqa: S307  # what the message says to type
    assert tailor.prune(network, torch.zeros(1, 8), asked_removed_macs_fraction=0.4, loader=loader, loss=loss).groups
    without = network[:3]
    nn.init.zeros_(without[2].weight)
    nn.init.constant_(without[2].bias, 0.5)  # outputs between 0 and 1 of no sigmoid
    assert tailor.prune(without, torch.zeros(1, 8), asked_removed_macs_fraction=0.4, loader=loader).groups


class Returning(nn.Module):
    """A network of two layers whose outputs are returned in another form."""

    def __init__(self, form: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        self.form = form

    def forward(self, inputs: Tensor) -> Any:
        return self.form(self.layers(inputs))


@pytest.mark.parametrize("form", [lambda outputs: {"aux": None, "logits": outputs}, lambda outputs: (outputs, outputs)])
@pytest.mark.parametrize("loss", [None, nn.MSELoss()])
def test_the_loss_that_is_advised_for_several_outputs_works(form: Callable[[Tensor], Any], loss: Any) -> None:
    prune = partial(tailor.prune, Returning(form), torch.zeros(1, 8), asked_removed_macs_fraction=0.4)
    loader = [(torch.randn(6, 8), LABELS)]
    with pytest.raises(ConfigError, match="from outputs that are a .* choose one of the outputs") as found:
        prune(loader=loader, loss=loss)
    advised = eval(str(found.value).partition("loss = ")[2])  # noqa: S307  # what the message says to type
    assert prune(loader=loader, loss=advised).groups


@pytest.mark.parametrize("sizes", [[6, 1], [6], [1]])
def test_outputs_that_lose_the_axis_of_the_batch_for_one_input_are_refused(sizes: list[int]) -> None:
    loader = [(torch.randn(size, 8), LABELS[:size]) for size in sizes]
    prune = partial(tailor.prune, example_input=torch.zeros(1, 8), asked_removed_macs_fraction=0.4, loader=loader * 2)
    with pytest.raises(ConfigError, match=r"returns a tensor \(3,\) .* for one input, .*keep the axis of the batch"):
        prune(Returning(torch.squeeze))
    assert prune(Returning(lambda outputs: outputs.squeeze(-1))).groups


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (nn.CrossEntropyLoss, r"CrossEntropyLoss'>; give a function of .*, as CrossEntropyLoss\(\) is one"),
        ("mse", "loss is 'mse'; give a function"),
    ],
)
def test_a_loss_that_is_no_function_is_named(loss: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tailor.prune(
            Returning(torch.relu),
            torch.zeros(1, 8),
            asked_removed_macs_fraction=0.4,
            loader=[(torch.randn(6, 8), LABELS)],
            loss=loss,
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"macs_fraction": 0.3}, "no setting 'macs_fraction'; did you mean 'asked_removed_macs_fraction'"),
        ({"pruning_ratio": 0.3}, "no setting 'pruning_ratio'; did you mean 'asked_removed_macs_fraction'"),
        ({"asked_removed_macs_fraction": 0.3, "criterium": "l1"}, "no setting 'criterium'; did you mean 'criterion'"),
        ({"loaders": []}, "no setting 'loaders'; did you mean 'loader'"),
    ],
)
def test_an_unknown_word_is_named_first(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tailor.prune(nn.Linear(4, 2), torch.zeros(1, 4), **settings)


class Gated(nn.Module):
    """One gate multiplies all outputs of a layer (spatial attention), so that they can only go together."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.gate = nn.Linear(16, 1)
        self.second = nn.Linear(16, 16)
        self.last = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        x = x * self.gate(x).sigmoid()
        outputs: Tensor = self.last(self.second(x).relu())
        return outputs


def test_a_layer_that_stays_says_how_many_filters_it_has() -> None:
    network = tailor.prune(Gated(), torch.zeros(1, 8), criterion="l2", asked_removed_macs_fraction=0.2)
    first = next(group for group in network.groups if group.layers[0] == "first")
    assert first.reason is not None
    assert (first.filters, len(first.kept)) == (16, 16) and "16 stay" in str(first)
