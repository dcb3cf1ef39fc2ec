"""A user's own module pruned with data: the same as in a trial, and mistakes are explained."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tailor
from tailor.common.errors import ConfigError, TrainingError
from tailor.config.parsing import parse_trial
from tailor.data.task_data import ordered_batches, splits
from tailor.execution.cache import Cache
from tailor.execution.runner import Result, StageEvent
from tailor.methods.recipe import Recipe
from tailor.pruning.criteria import CRITERIA

Run = Callable[..., list[StageEvent]]
TUNING = {"epochs": 1, "batch_size": 32, "learning_rate": 0.01, "head_learning_rate": 0.02}
TRIAL: dict[str, Any] = {
    "network": "digits_resnet",
    "data": {"train_images": 100},
    "source": {"epochs": 1},
    "optimisation": TUNING | {"head_epochs": 1},
    "pruning": {"residual": "coupled", "linear": True},
    "seed": 3,
}


def trial(
    run: Run, cache: Cache, method: dict[str, Any]
) -> tuple[list[Result], nn.Module, list[tuple[Tensor, Tensor]]]:
    """The results of a trial's stages, its network with a fitted head, and its training images as a user's loader."""
    config = parse_trial(TRIAL | {"method": method}, "test")
    results = [event.result for event in run(config, cache)]
    (fitted,) = (result for result in results if result.stage.kind == "fit_head")
    return results, fitted.model_state().build(), list(ordered_batches(splits(Recipe(config).task).train))


def last(results: list[Result], kind: str) -> Result:
    return [result for result in results if result.stage.kind == kind][-1]


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_it_prunes_by_data_as_a_trial_does(run: Run, shared_cache: Cache) -> None:
    method = {"name": "prune", "criterion": "taylor", "asked_removed_macs_fraction": 0.3}
    results, model, loader = trial(run, shared_cache, method)
    made = tailor.prune(
        model, loader[0][0], criterion="taylor", asked_removed_macs_fraction=0.3, loader=loader, batch_size=32, seed=3
    )
    expected = last(results, "prune").model_state()
    assert same(made.model.state_dict(), expected.tensors)
    assert {group.layers[0]: list(group.kept) for group in made.groups if len(group.kept) < group.filters} == {
        group.layers[0]: kept.tolist()
        for group in made.groups
        if (kept := (expected.kept or {}).get(group.layers[0])) is not None
    }


def test_transtailor_is_that_of_a_trial(run: Run, shared_cache: Cache) -> None:
    method = {"name": "transtailor", "steps": 2, "step_removed_macs_fraction": 0.15, "alpha_epochs": 1}
    results, model, loader = trial(run, shared_cache, method)
    before = copy.deepcopy(model.state_dict())
    made = tailor.transtailor(
        model, loader[0][0], asked_removed_macs_fraction=0.3, loader=loader, steps=2, alpha_epochs=1, seed=3, **TUNING
    )
    expected = last(results, "fine_tune").model_state().fold_factors()
    assert same(made.model.state_dict(), expected.tensors)
    assert same(model.state_dict(), before)
    assert made.removed_macs_fraction == pytest.approx(last(results, "prune").removed_macs_fraction)


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))


def pairs(count: int = 3) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(0)
    return [(torch.randn(6, 8, generator=draw), torch.randint(0, 3, (6,), generator=draw)) for _ in range(count)]


class Named(nn.Module):
    """Its outputs are in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = small()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": self.inside(x)}


def named_loss(outputs: dict[str, Tensor], targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs["out"], targets)


def test_a_loss_of_the_users_own_is_the_one_that_scores_and_trains() -> None:
    """The usual loss given as the user's own, for the same network: equal up to how the mean is rounded."""
    usual = tailor.transtailor(
        small(), torch.zeros(1, 8), asked_removed_macs_fraction=0.3, loader=pairs(), steps=1, alpha_epochs=2, epochs=2
    )
    torch.manual_seed(0)
    own = tailor.transtailor(
        Named(),
        torch.zeros(1, 8),
        asked_removed_macs_fraction=0.3,
        loader=iter(pairs()),
        loss=named_loss,
        steps=1,
        alpha_epochs=2,
        epochs=2,
    )
    for name, tensor in usual.model.state_dict().items():
        torch.testing.assert_close(own.model.state_dict()[f"inside.{name}"], tensor, rtol=1e-4, atol=1e-6)


def one_output() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))


def test_real_targets_may_be_a_column() -> None:
    settings: dict[str, Any] = {"asked_removed_macs_fraction": 0.3, "steps": 1, "alpha_epochs": 1, "epochs": 2}
    batches = [(inputs, inputs[:, 0] * 2.0) for inputs, _ in pairs()]
    row, column = (
        tailor.transtailor(one_output(), torch.zeros(1, 8), loader=loader, **settings).model.state_dict()
        for loader in (batches, [(inputs, targets[:, None]) for inputs, targets in batches])
    )
    assert same(row, column)


class Pixelwise(nn.Sequential):
    """Three classes of each pixel."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))


def test_a_label_of_each_pixel_trains_as_torchs_mean_does() -> None:
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(8, 1, 6, 6, generator=draw)
    loader = [(images, (images[:, 0] > 0).long() + (images[:, 0] > 1).long())]
    settings: dict[str, Any] = {"steps": 1, "alpha_epochs": 1, "epochs": 2, "learning_rate": 0.05}
    usual, own = (
        tailor.transtailor(
            Pixelwise(), images[:1], asked_removed_macs_fraction=0.375, loader=loader, loss=loss, **settings
        ).model.state_dict()
        for loss in (None, nn.CrossEntropyLoss())
    )
    for name, tensor in usual.items():
        torch.testing.assert_close(own[name], tensor, rtol=1e-4, atol=1e-6)


def test_outputs_in_a_dictionary_are_not_converted_to_another_precision() -> None:
    settings: dict[str, Any] = {"steps": 1, "alpha_epochs": 1, "epochs": 1, "precision": "bf16"}
    with pytest.raises(ConfigError, match="Named returns a dict; leave precision out"):
        tailor.transtailor(
            Named(), torch.zeros(1, 8), asked_removed_macs_fraction=0.3, loader=pairs(), loss=named_loss, **settings
        )


def test_another_loss_chooses_other_filters() -> None:
    kept = []
    for loss in (None, nn.CrossEntropyLoss(), lambda outputs, _targets: outputs[:, 0].square().mean()):
        settings: dict[str, Any] = {"loader": pairs(), "loss": loss}
        kept.append(
            tailor.prune(small(), torch.zeros(1, 8), asked_removed_macs_fraction=0.5, **settings).groups[0].kept
        )
    assert kept[0] == kept[1] != kept[2]


@pytest.mark.parametrize("criterion", sorted(CRITERIA))
def test_every_criterion_scores(criterion: str) -> None:
    made = tailor.prune(
        small(), torch.zeros(1, 8), asked_removed_macs_fraction=0.4, criterion=criterion, loader=pairs()
    )
    assert made.removed_macs_fraction >= 0.4


def test_what_changes_the_function_on_purpose_is_not_compared() -> None:
    made = tailor.prune(
        small(),
        torch.zeros(1, 8),
        asked_removed_macs_fraction=0.4,
        loader=pairs(),
        measure_norms=True,
        shift_means=True,
    )
    plain = tailor.prune(small(), torch.zeros(1, 8), criterion="l2", asked_removed_macs_fraction=0.4)
    assert made.params == plain.params
    assert not torch.equal(made.model.get_buffer("1.running_mean"), plain.model.get_buffer("1.running_mean"))


def test_norms_are_measured_on_no_last_batch_of_one_row() -> None:
    data = torch.utils.data.TensorDataset(torch.randn(17, 8), torch.arange(17) % 3)
    settings: dict[str, Any] = {"asked_removed_macs_fraction": 0.4, "measure_norms": True}
    settings["loader"] = torch.utils.data.DataLoader(data, batch_size=8)
    with pytest.raises(ConfigError, match=r"17 images in batches of 8 leave a last batch.*; set batch_size = 9$"):
        tailor.prune(small(), torch.zeros(1, 8), **settings)
    tailor.prune(small(), torch.zeros(1, 8), **settings, batch_size=9)


class Doubled(nn.Linear):
    """A layer of the user's own."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2.0


def own_layer() -> nn.Sequential:
    return nn.Sequential(Doubled(8, 16), nn.ReLU(), nn.Linear(16, 3))


def frozen() -> nn.Sequential:
    model = small()
    model[:2].requires_grad_(False)
    return model


def with_norm() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))


TRANSTAILOR: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], str]] = {
    "own layer": (own_layer, {}, "factors follow 0, a Doubled, .*; set exclude = \\['0'\\], or beta = 'grad'"),
    "smoothing": (small, {"loss": nn.CrossEntropyLoss(), "label_smoothing": 0.1}, "label_smoothing is a part"),
    "setting": (small, {"epoch": 1}, "no setting 'epoch'; did you mean 'epochs'"),
    "weights": (small, {"class_weights": [1.0, 2.0, 3.0]}, r"give loss = torch.nn.CrossEntropyLoss\(weight=...\)"),
    "sampling": (small, {"sampling": "balanced"}, "give a loader with a sampler"),
    "images": (small, {"mixup": 0.2}, "trials, not of transtailor; change the inputs in loader"),
    "criterion": (small, {"criterion": "l1"}, "criterion is a setting of other methods or of trials, .*; leave it out"),
    "fraction": (
        small,
        {"asked_removed_macs_fraction": 30},
        r"asked_removed_macs_fraction = 30; expected a number between 0 and 1: for 30% type 0.3",
    ),
    "steps": (small, {"steps": 0}, "steps: Input should be greater than or equal to 1"),
    "a step": (
        lambda: nn.Sequential(nn.Linear(8, 3), nn.ReLU(), nn.Linear(3, 3)),
        {"steps": 2, "asked_removed_macs_fraction": 0.5},
        r"= 0.5 in 2 steps, .* \(steps = 1 has .*\): after one of them, [^;]* = 0.25 is missed [^;]*$",
    ),
    "no data": (small, {"loader": None}, "give loader"),
    "frozen": (frozen, {"beta": "fold"}, "does not train 1.bias, 1.weight .*multiplies factors into them"),
    "one left": (
        with_norm,
        {"loader": [(torch.randn(4, 8), torch.zeros(4).long())] * 2, "batch_size": 7},
        "batch_size = 8",
    ),
}


@pytest.mark.parametrize("mistake", sorted(TRANSTAILOR))
def test_mistakes_of_transtailor_are_explained(mistake: str) -> None:
    make, given, words = TRANSTAILOR[mistake]
    settings: dict[str, Any] = {"asked_removed_macs_fraction": 0.3, "loader": pairs(), "epochs": 1, "alpha_epochs": 1}
    with pytest.raises(ConfigError, match=words) as found:
        tailor.transtailor(make(), torch.zeros(1, 8), **settings | given)
    assert "#" not in str(found.value)


def test_a_layer_of_the_users_own_can_be_tuned_without_factors() -> None:
    settings: dict[str, Any] = {"steps": 1, "epochs": 1, "alpha_epochs": 1, "beta": "grad"}
    made = tailor.transtailor(
        own_layer(), torch.zeros(1, 8), asked_removed_macs_fraction=0.3, loader=pairs(), **settings
    )
    assert not [name for name, _ in made.model.named_buffers()]
    assert not made.model[0]._forward_hooks  # type: ignore[index,union-attr]


def test_what_is_not_trained_stays_to_the_bit() -> None:
    settings: dict[str, Any] = {"steps": 1, "epochs": 1, "alpha_epochs": 1, "beta": "grad"}
    model = frozen()
    made = tailor.transtailor(model, torch.zeros(1, 8), asked_removed_macs_fraction=0.3, loader=pairs(), **settings)
    kept = list(made.groups[0].kept)
    assert torch.equal(made.model[0].weight, model[0].weight[kept])  # type: ignore[index,union-attr,arg-type]
    assert not made.model[0].weight.requires_grad  # type: ignore[index,union-attr]
    assert not torch.equal(made.model[3].weight, model[3].weight[:, kept])  # type: ignore[index,union-attr,arg-type]


def test_what_is_drawn_leaves_the_users_numbers_as_they_were() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5), nn.Linear(16, 3))
    settings: dict[str, Any] = {"steps": 1, "epochs": 1, "alpha_epochs": 1, "loader": pairs()}
    drawn = torch.random.get_rng_state()
    with torch.no_grad():
        one, other = (
            tailor.transtailor(model, torch.zeros(1, 8), asked_removed_macs_fraction=0.3, **settings) for _ in range(2)
        )
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert same(one.model.state_dict(), other.model.state_dict())


@contextmanager
def float64_by_default() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize(
    "around", [lambda: torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode, float64_by_default]
)
def test_what_is_switched_on_around_a_call_changes_nothing(around: Callable[[], Any]) -> None:
    model, example = small(), torch.zeros(1, 8)
    settings: dict[str, Any] = {"steps": 1, "epochs": 1, "alpha_epochs": 1, "loader": pairs()}

    def tailored() -> dict[str, Tensor]:
        return tailor.transtailor(model, example, asked_removed_macs_fraction=0.3, **settings).model.state_dict()

    expected = tailored()
    with around():
        assert same(tailored(), expected)


def test_a_loss_that_is_no_longer_finite_ends_the_training() -> None:
    settings: dict[str, Any] = {"steps": 1, "epochs": 3, "alpha_epochs": 0, "learning_rate": 1e30}
    with pytest.raises(TrainingError, match="a smaller learning rate may help"):
        tailor.transtailor(small(), torch.zeros(1, 8), asked_removed_macs_fraction=0.3, loader=pairs(), **settings)


def test_a_network_that_names_one_class_after_training_is_said_to() -> None:
    """A bias that no step can make up for."""
    network = small()
    list(network.parameters())[-1].data[0] += 1e4
    settings: dict[str, Any] = {"steps": 1, "epochs": 1, "alpha_epochs": 0, "asked_removed_macs_fraction": 0.3}
    labelled = [(torch.randn(4, 8), torch.tensor([0, 1, 2, 1]))] * 2
    said = [str(tailor.transtailor(net, torch.zeros(1, 8), loader=labelled, **settings)) for net in (network, small())]
    assert ["names one class for all of them" in text for text in said] == [True, False]


def test_a_last_step_after_which_the_loss_is_no_number_is_not_kept() -> None:
    settings: dict[str, Any] = {"steps": 1, "epochs": 1, "alpha_epochs": 0, "learning_rate": 1e30}
    with pytest.raises(TrainingError, match="after training; a smaller learning rate may help"):
        tailor.transtailor(small(), torch.zeros(1, 8), asked_removed_macs_fraction=0.3, loader=pairs(1), **settings)


LOADERS: dict[str, tuple[Any, Any, str]] = {
    "no gradient": (
        [(torch.ones(2, 8), torch.zeros(2).long())],
        lambda outputs, labels: F.cross_entropy(outputs.detach(), labels),
        r"the loss of the first batch has no gradient; compute it from the outputs, and leave \.detach\(\)",
    ),
    "losses": (
        [(torch.ones(2, 8), torch.zeros(2).long())],
        lambda outputs, _labels: outputs[:, 0] * 0 + 1.5,
        r"the loss of the first batch is a tensor \(2,\) of torch.float32; expected is one finite number",
    ),
    "empty": ([], None, "loader gives no input"),
    "samples": (
        torch.utils.data.TensorDataset(*pairs(1)[0]),
        None,
        "loader is a TensorDataset, which gives single samples; .*DataLoader",
    ),
    "empty batch": ([(torch.zeros(0, 8), torch.zeros(0).long())], None, "loader gives no input"),
    "arrays": ([(np.zeros((6, 8)), np.zeros(6))], None, "batch 0 of loader is a tuple of ndarray, .*torch.as_tensor"),
    "a number": (5, None, "loader cannot be read .*int.*give batches, as in loader = "),
    "a dict": (
        [{"image": torch.zeros(6, 8)}],
        None,
        r"is a dict of 'image'; .* loader = \(\(b\[...\], b\[...\]\) for b in",
    ),
    "one tensor": (
        [torch.zeros(6, 8)],
        None,
        r"batch 0 of loader is a tensor \(6, 8\) of torch.float32; expected two tensors",
    ),
    "width": ([(torch.zeros(6, 9), torch.zeros(6).long())], None, r"inputs \(6, 9\) of torch.float32 .*\(B, 8\)"),
    "second": ([*pairs(1), (torch.zeros(6, 9), torch.zeros(6).long())], None, "batch 1 of loader"),
    "numbers": ([(torch.zeros(6, 8).double(), torch.zeros(6).long())], None, "torch.float64 .* of torch.float32"),
    "lengths": ([(torch.zeros(6, 8), torch.zeros(5).long())], None, r"targets \(5,\)"),
    "classes": (
        [(torch.zeros(6, 8), torch.full((6,), 7))],
        None,
        "the labels are 7 to 7, and the network has 3 outputs; expected 0 to 2",
    ),
    "no label": ([(torch.ones(6, 8), torch.full((6,), -100))], None, "every label is -100"),
    "real values": ([(torch.zeros(6, 8), torch.full((6,), 0.5))], None, r"outputs \(6, 3\) .*targets \(6,\)"),
    "not a mean": (pairs(1), nn.CrossEntropyLoss(reduction="sum"), "loss is a sum over the batch; .* = 'mean'"),
    "no tensor": (
        pairs(1),
        lambda outputs, _: outputs.sum().item(),
        "batch is a float; .* one finite number in a tensor",
    ),
    "infinite": (
        [*pairs(1), (torch.full((6, 8), torch.inf), torch.zeros(6))],
        None,
        "inputs in batch 1 of loader .* NaN",
    ),
    "missing": ([(torch.zeros(6, 8), torch.full((6, 3), torch.nan))], None, "the targets of loader have .* NaN"),
    "turned": ([(torch.zeros(6, 8), torch.zeros(6, 1, 1, 4))], None, r"outputs \(6, 3\) .*targets \(6, 1, 1, 4\)"),
    "widths": ([(torch.zeros(6, 8), torch.zeros(6, n)) for n in (3, 4)], nn.MSELoss(), "targets of all batches"),
    "loss": (pairs(1), lambda outputs, _: outputs, "expected is one finite number"),
    "not finite": (pairs(1), lambda outputs, _: outputs.sum() / 0.0, "expected is one finite number"),
    "broken loss": (pairs(1), lambda _outputs, _targets: 1 // 0, r"ZeroDivisionError.*; give loss = "),
}


@pytest.mark.parametrize("mistake", sorted(LOADERS))
def test_mistakes_of_data_are_explained(mistake: str) -> None:
    loader, loss, words = LOADERS[mistake]
    with pytest.raises(ConfigError, match=words):
        tailor.prune(
            small(), torch.zeros(1, 8), asked_removed_macs_fraction=0.3, criterion="taylor", loader=loader, loss=loss
        )


def test_layers_under_no_grad_are_named() -> None:
    class Frozen(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            first, norm, *others = self
            with torch.no_grad():
                x = norm(first(x))
            for layer in others:
                x = layer(x)
            return x

    with pytest.raises(ConfigError, match=r"needs gradients by the filters of 0 .*under torch.no_grad\(\)"):
        tailor.prune(
            Frozen(*small()), torch.zeros(1, 8), asked_removed_macs_fraction=0.3, criterion="taylor", loader=pairs()
        )


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        (
            lambda self, x: list(self)[-1](nn.Sequential(*list(self)[:-1])(x).detach()),
            r"no gradient by what is trained: .* under torch.no_grad\(\)",
        ),
        (
            lambda self, x: (nn.Sequential.forward(self, x),) * (1 + self.training),
            "that, in training mode, are a tuple",
        ),
    ],
)
def test_what_only_a_training_shows_is_explained(forward: Callable[[nn.Module, Tensor], Any], words: str) -> None:
    model = type("Own", (nn.Sequential,), {"forward": forward})(*small())
    loss = None if "gradient" in words else lambda outputs, targets: F.cross_entropy(*outputs, targets)
    settings: dict[str, Any] = {"steps": 1, "epochs": 1, "alpha_epochs": 1, "loader": pairs(), "loss": loss}
    with pytest.raises(ConfigError, match=words):
        tailor.transtailor(model, torch.zeros(1, 8), asked_removed_macs_fraction=0.3, **settings)


def test_allocations_that_choose_by_validation_images_are_refused() -> None:
    with pytest.raises(ConfigError, match="'legr' chooses by validation images"):
        tailor.prune(small(), torch.zeros(1, 8), asked_removed_macs_fraction=0.3, allocation="legr", loader=pairs())


def test_a_fraction_of_numpy_is_a_number_and_a_loader_that_was_given_is_not_asked_for() -> None:
    settings: dict[str, Any] = {"loader": pairs(), "asked_removed_macs_fraction": np.float32(0.5)}
    short = {"steps": 1, "epochs": 1, "alpha_epochs": 1}
    assert tailor.transtailor(small(), torch.zeros(1, 8), **settings, **short).removed_macs_fraction >= 0.5
    said = str(tailor.prune(small(), torch.zeros(1, 8), **settings, criterion="l2"))
    assert said.endswith("the criterion 'l2' reads no data. To keep what the task needs, pass no criterion.")
