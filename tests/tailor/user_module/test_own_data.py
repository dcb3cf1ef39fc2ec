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
    "own layer": (own_layer, {}, "factors follow 0, .*; set exclude = \\['0'\\], or beta = 'grad'"),
    "smoothing": (small, {"loss": nn.CrossEntropyLoss(), "label_smoothing": 0.1}, "label_smoothing is a part"),
    "of trials": (small, {"class_weights": [1.0, 2.0, 3.0]}, "transtailor has no setting 'class_weights'"),
    "a step": (
        lambda: nn.Sequential(nn.Linear(8, 3), nn.ReLU(), nn.Linear(3, 3)),
        {"steps": 2, "asked_removed_macs_fraction": 0.5},
        "= 0.5 in 2 steps, .*: after one of them, .* = 0.25 is missed",
    ),
    "no data": (small, {"loader": None}, "give loader"),
    "frozen": (frozen, {"beta": "fold"}, "does not train 1.bias, 1.weight .*writes into them"),
    "one left": (
        with_norm,
        {"loader": [(torch.randn(4, 8), torch.zeros(4).long())] * 2, "batch_size": 7},
        "set another batch_size",
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


def test_a_last_step_after_which_the_loss_is_no_number_is_not_kept() -> None:
    settings: dict[str, Any] = {"steps": 1, "epochs": 1, "alpha_epochs": 0, "learning_rate": 1e30}
    with pytest.raises(TrainingError, match="after training, .*a smaller learning rate may help"):
        tailor.transtailor(small(), torch.zeros(1, 8), asked_removed_macs_fraction=0.3, loader=pairs(1), **settings)


ONES, LABELS = torch.ones(6, 8), torch.arange(6) % 3
LOADERS: dict[str, tuple[Any, Any, str]] = {
    "no gradient": (pairs(1), lambda outputs, labels: F.cross_entropy(outputs.detach(), labels), "has no gradient"),
    "empty": ([], None, "loader cannot be read"),
    "single samples": (torch.utils.data.TensorDataset(*pairs(1)[0]), None, "loader cannot be read|loader gives inputs"),
    "arrays": ([(np.zeros((6, 8)), np.zeros(6))], None, "loader cannot be read .*give batches of two tensors"),
    "a number": (5, None, "loader cannot be read .*int"),
    "one tensor": ([torch.zeros(6, 8)], None, "loader cannot be read .*unpack"),
    "width": ([(torch.zeros(6, 9), LABELS)], None, r"inputs that are a tensor \(6, 9\) of torch.float32.*\(1, 8\)"),
    "numbers": ([(ONES.double(), LABELS)], None, "torch.float64.*torch.float32"),
    "lengths": ([(ONES, LABELS[:5]), (ONES[:5], LABELS)], None, "6 inputs and 5 targets in batch 0"),
    "widths": ([(ONES, torch.zeros(6, n)) for n in (3, 4)], nn.MSELoss(), "loader cannot be read"),
    "infinite": ([*pairs(1), (torch.full((6, 8), torch.inf), LABELS)], None, "NaN or infinite"),
    "floats": ([(ONES, LABELS / 2.0)], None, r"targets are torch.float32, .* class numbers; .*; else give loss"),
    "labels from 1": ([(ONES, LABELS), (ONES, LABELS + 1)], None, "labels are 0 to 3, and the network has 3 outputs"),
    "no label": ([(ONES, torch.full((6,), -100))], None, "the labels are -100 to -100"),
    "one-hot": ([(ONES, F.one_hot(LABELS, 3))], None, "the loss of the first batch cannot be computed"),
    "not a mean": (pairs(1), nn.CrossEntropyLoss(reduction="sum"), "loss is a sum over the batch; .* = 'mean'"),
    "no tensor": (pairs(1), lambda outputs, _: outputs.sum().item(), "one finite number in a tensor"),
    "loss": (pairs(1), lambda outputs, _: outputs, "expected is one finite number"),
    "a class of losses": (pairs(1), nn.CrossEntropyLoss, "give loss = FUNCTION"),
    "not finite": (pairs(1), lambda outputs, _: outputs.sum() / 0.0, "expected is one finite number"),
    "broken loss": (pairs(1), lambda _outputs, _targets: 1 // 0, "ZeroDivisionError.*; give loss = "),
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


def test_a_fraction_of_numpy_is_a_number() -> None:
    settings: dict[str, Any] = {"loader": pairs(), "asked_removed_macs_fraction": np.float32(0.5)}
    short = {"steps": 1, "epochs": 1, "alpha_epochs": 1}
    assert tailor.transtailor(small(), torch.zeros(1, 8), **settings, **short).removed_macs_fraction >= 0.5


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8])
def test_labels_may_be_any_integers(dtype: torch.dtype) -> None:
    kept = [
        tailor.prune(small(), torch.zeros(1, 8), asked_removed_macs_fraction=0.4, loader=loader).groups
        for loader in (pairs(1), [(inputs, targets.to(dtype)) for inputs, targets in pairs(1)])
    ]
    assert kept[0] == kept[1]


@pytest.mark.parametrize("last", [nn.Softmax(dim=1), nn.Sigmoid()])
def test_what_cross_entropy_takes_itself_is_named_unless_a_loss_is_given(last: nn.Module) -> None:
    network = nn.Sequential(*small(), last)
    settings: dict[str, Any] = {"asked_removed_macs_fraction": 0.4, "loader": pairs()}
    with pytest.raises(ConfigError, match=f"ends in a {type(last).__name__.lower()}, .* give loss, such as"):
        tailor.prune(network, torch.zeros(1, 8), **settings)
    made = tailor.prune(
        network, torch.zeros(1, 8), **settings, loss=lambda outputs, labels: F.nll_loss(outputs.log(), labels)
    )
    if isinstance(last, nn.Softmax):
        assert made.groups[0] == tailor.prune(small(), torch.zeros(1, 8), **settings).groups[0]
