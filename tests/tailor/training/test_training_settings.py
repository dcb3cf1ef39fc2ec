"""Each setting of a training against the same steps written by hand, slow and obvious."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tailor.common.errors import Paused
from tailor.data import task_data
from tailor.data.task_data import Samples
from tailor.methods.recipe import Recipe
from tailor.networks import building
from tailor.parallel.norm import set_norms
from tailor.parallel.process_group import ProcessGroup
from tailor.stages import Training
from tailor.training.checkpoint import Checkpoint
from tailor.training.loop import TrainingExtras, group, optimiser_for, train
from tailor.training.lr_schedule import scale
from tests.tailor.trials import assert_equal_tensors, short_trial

ALONE = ProcessGroup(rank=0, world_size=1, device=torch.device("cpu"))
IMAGES, BATCH = 44, 16  # three steps, the last with 12 images


def samples() -> Samples:
    return task_data.splits(Recipe(short_trial({"name": "head_only"})).task).train.take(torch.arange(IMAGES))


def training(**settings: Any) -> Training:
    usual: dict[str, Any] = {"epochs": 4, "batch_size": BATCH, "learning_rate": 0.02, "head_learning_rate": 0.02}
    usual |= {"momentum": 0.9, "weight_decay": 0.01, "schedule": "constant", "seed": 7}
    return Training(**(usual | settings))


def trained(network: str, settings: Training, checkpoint: Checkpoint | None = None, **extra: Any) -> nn.Module:
    model = set_norms(building.build(network, 5, seed=0), settings.norm, ALONE)
    optimiser = optimiser_for([group(list(model.parameters()), settings.learning_rate)], settings)
    train(
        model,
        optimiser,
        samples(),
        settings,
        "shift",
        checkpoint or Checkpoint(None, 0.0, ALONE),
        TrainingExtras(**extra),
    )
    return model


def by_hand(
    network: str,
    settings: Training,
    *,
    rates: list[float],
    loss_of: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    parts: int = 1,
) -> tuple[nn.Module, list[dict[str, Tensor]]]:
    """SGD with momentum and weight decay at one rate per epoch or step; the model, and its state after every step."""
    model, states = building.build(network, 5, seed=0).train(), []
    velocity = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for epoch in range(settings.epochs):
        for batch in task_data.batches(samples(), BATCH, 7, epoch, "shift", ALONE):
            rate = rates[len(states)] if len(rates) > settings.epochs else rates[epoch]
            total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
            for images, labels in zip(batch.images.chunk(parts), batch.labels.chunk(parts), strict=True):
                loss = loss_of(model(images), labels) * (len(labels) / len(batch.labels))
                gradients = torch.autograd.grad(loss, list(model.parameters()))
                for name, gradient in zip(total, gradients, strict=True):
                    total[name] += gradient
            if settings.clip_gradient_norm is not None:
                norm = math.sqrt(sum(float(gradient.double().square().sum()) for gradient in total.values()))
                for gradient in total.values():
                    gradient *= min(1.0, settings.clip_gradient_norm / norm)
            with torch.no_grad():
                for name, p in model.named_parameters():
                    velocity[name] = 0.9 * velocity[name] + total[name] + 0.01 * p
                    p -= rate * velocity[name]
            states.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
    return model, states


def assert_close(model: nn.Module, expected: dict[str, Tensor]) -> None:
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=2e-6, msg=lambda m, n=name: f"{n}: {m}")


# --- schedules ---

COSINE = [1.0, 0.5 * (1 + math.cos(math.pi / 4)), 0.5, 0.5 * (1 + math.cos(3 * math.pi / 4))]
WARM = {"warm_up_epochs": 2}
RISING = [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 6 / 6]


@pytest.mark.parametrize(
    ("settings", "scales"),
    [
        ({"schedule": "cosine"}, COSINE),
        ({"schedule": "step", "milestones": (0.5,)}, [1.0, 1.0, 0.1, 0.1]),
        ({"schedule": "step", "milestones": (0.3, 0.75), "gamma": 0.5}, [1.0, 1.0, 0.5, 0.25]),
        (WARM, [*RISING, *[1.0] * 6]),
        (WARM | {"schedule": "cosine"}, [*RISING, *[1.0] * 3, *[0.5] * 3]),
        (WARM | {"schedule": "step", "milestones": (0.5,)}, [*RISING, *[0.1] * 6]),
    ],
)
def test_schedules(settings: dict[str, Any], scales: list[float]) -> None:
    how = training(**settings)
    steps = [scales[epoch * 3 + step] if len(scales) > 4 else scales[epoch] for epoch in range(4) for step in range(3)]
    assert [scale(how, epoch, step, 3) for epoch in range(4) for step in range(3)] == pytest.approx(steps)
    _, states = by_hand("digits_vgg", how, rates=[0.02 * each for each in scales])
    assert_close(trained("digits_vgg", how), states[-1])


def test_the_history_has_the_rate_of_the_last_step() -> None:
    model, how = building.build("digits_vgg", 5, seed=0), training(**WARM)
    optimiser = optimiser_for([group(list(model.parameters()), 0.02)], how)
    history = train(model, optimiser, samples(), how, "none", Checkpoint(None, 0.0, ALONE))
    assert [row["learning_rate"] for row in history] == pytest.approx([0.01, 0.02, 0.02, 0.02])


# --- loss, clipping, average ---


def smoothed(outputs: Tensor, labels: Tensor) -> Tensor:
    """The mean over samples of -sum_k q_k log p_k with q = 0.8 of the label + 0.2 / 5 of every class."""
    total = torch.zeros(())
    for row, label in zip(outputs.log_softmax(dim=1), labels.tolist(), strict=True):
        total = total - sum((0.8 * (k == label) + 0.04) * row[k] for k in range(5))
    return total / len(labels)


def test_label_smoothing() -> None:
    how = training(label_smoothing=0.2)
    _, states = by_hand("digits_vgg", how, rates=[0.02] * 4, loss_of=smoothed)
    assert_close(trained("digits_vgg", how), states[-1])


@pytest.mark.parametrize("network", ["digits_vgg", "digits_resnet"])
def test_gradients_are_clipped_together(network: str) -> None:
    how = training(clip_gradient_norm=0.3)
    _, states = by_hand(network, how, rates=[0.02] * 4)
    model = trained(network, how)
    assert_close(model, states[-1])
    unclipped = trained(network, training())
    assert any(not torch.allclose(p, unclipped.get_parameter(name), rtol=1e-2) for name, p in model.named_parameters())


@pytest.mark.parametrize("decay", [0.4, 0.999])  # the second is never reached in twelve steps
def test_the_average_of_the_weights_is_what_a_training_ends_with(decay: float) -> None:
    how = training(ema_decay=decay)
    _, states = by_hand("digits_resnet", how, rates=[0.02] * 4)
    average = building.build("digits_resnet", 5, seed=0).state_dict()
    for step, state in enumerate(states, start=1):
        share = min(decay, step / (step + 9))
        for name, tensor in state.items():
            average[name] = share * average[name] + (1 - share) * tensor if tensor.is_floating_point() else tensor
    assert_close(trained("digits_resnet", how), average)


# --- accumulation ---


@pytest.mark.parametrize("parts", [2, 4, 8])  # into eight parts: 12 images make parts of 2 and 1
def test_a_batch_in_parts_is_the_batch_where_no_norm_is(parts: int) -> None:
    penalised = {"penalty": lambda _batch, outputs: 0.0 * outputs.sum()}
    whole, in_parts = trained("digits_vgg", training()), trained("digits_vgg", training(accumulation_steps=parts))
    assert_close(in_parts, whole.state_dict())
    assert_close(trained("digits_vgg", training(accumulation_steps=parts), **penalised), whole.state_dict())


def test_norms_see_the_parts_of_a_batch() -> None:
    how = training(accumulation_steps=4)
    _, states = by_hand("digits_resnet", how, rates=[0.02] * 4, parts=4)
    model = trained("digits_resnet", how)
    assert_close(model, states[-1])
    assert int(model.get_buffer(batches_tracked(model))) == 4 * 3 * 4


def batches_tracked(model: nn.Module) -> str:
    return next(name for name, _ in model.named_buffers() if name.endswith("num_batches_tracked"))


def test_a_penalty_counts_once_for_all_parts() -> None:
    def half(_batch: object, _outputs: object) -> Tensor:
        return 0.005 * sum(p.square().sum() for p in model.parameters())

    how = training(accumulation_steps=4, weight_decay=0.0)
    model = building.build("digits_vgg", 5, seed=0)
    optimiser = optimiser_for([group(list(model.parameters()), 0.02)], how)
    train(model, optimiser, samples(), how, "shift", Checkpoint(None, 0.0, ALONE), TrainingExtras(penalty=half))
    assert_close(model, trained("digits_vgg", training()).state_dict())


# --- norms ---


def test_frozen_norms_stay_bit_for_bit() -> None:
    before, model = building.build("digits_resnet", 5, seed=0), trained("digits_resnet", training(norm="frozen"))
    norms = [name for name, module in before.named_modules() if isinstance(module, nn.BatchNorm2d)]
    stay = {name for name in before.state_dict() if name.rpartition(".")[0] in norms}
    assert len(stay) == 5 * len(norms)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before.state_dict()[name]) == (name in stay), name


def test_frozen_norms_are_torchs_own_in_evaluation_mode() -> None:
    """Plain torch, momentum and weight decay included, from norms that have learned something."""
    how, plain = training(norm="frozen"), building.build("digits_resnet", 5, seed=0)
    norms = {name: module for name, module in plain.named_modules() if isinstance(module, nn.BatchNorm2d)}
    for name, norm in norms.items():
        draw = task_data.generator(2, name)
        for tensor in (norm.running_mean, norm.bias.data):
            tensor.normal_(generator=draw)
        for tensor in (norm.running_var, norm.weight.data):
            tensor.uniform_(0.5, 1.5, generator=draw)
    model = set_norms(copy.deepcopy(plain), "frozen", ALONE)
    optimiser = optimiser_for([group(list(model.parameters()), 0.02)], how)
    train(model, optimiser, samples(), how, "shift", Checkpoint(None, 0.0, ALONE))

    plain.train()
    for norm in norms.values():
        norm.eval()
    rest = [p for name, p in plain.named_parameters() if name.rpartition(".")[0] not in norms]
    plain_optimiser = torch.optim.SGD(rest, lr=0.02, momentum=0.9, weight_decay=0.01)
    for epoch in range(how.epochs):
        for batch in task_data.batches(samples(), BATCH, 7, epoch, "shift", ALONE):
            plain_optimiser.zero_grad()
            F.cross_entropy(plain(batch.images), batch.labels).backward()
            plain_optimiser.step()
    assert len(rest) == len(list(plain.parameters())) - 2 * len(norms)
    assert_close(model, plain.state_dict())


# --- how it is computed ---


@pytest.mark.parametrize("network", ["digits_vgg", "digits_resnet"])
def test_bf16_is_autocast_around_the_network_alone(network: str) -> None:
    how = training(precision="bf16", epochs=1)
    model = building.build(network, 5, seed=0).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=0.01)
    for batch in task_data.batches(samples(), BATCH, 7, 0, "shift", ALONE):
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            outputs = model(batch.images)
        assert outputs.dtype == torch.bfloat16
        (F.cross_entropy(outputs.float(), batch.labels, reduction="sum") / len(batch.labels)).backward()
        optimiser.step()
    found = trained(network, how)
    assert all(
        not tensor.is_floating_point() or tensor.dtype == torch.float32 for tensor in found.state_dict().values()
    )
    assert_close(found, model.state_dict())
    exact = trained(network, training(epochs=1))
    assert any(not torch.equal(p, exact.get_parameter(name)) for name, p in found.named_parameters())


@pytest.mark.parametrize("network", ["digits_vgg", "digits_resnet"])
def test_channels_last_changes_the_layout_alone(network: str) -> None:
    layouts: list[bool] = []

    class Watching(Checkpoint):
        def restore(self, model: nn.Module, *rest: Any) -> Any:
            four = [p for p in model.parameters() if p.dim() == 4 and p.shape[1] > 1 and p.shape[2] > 1]
            layouts.extend(p.is_contiguous(memory_format=torch.channels_last) for p in four)
            return super().restore(model, *rest)

    model = trained(network, training(memory_format="channels_last"), Watching(None, 0.0, ALONE))
    assert layouts and all(layouts)
    assert_close(model, trained(network, training()).state_dict())


# --- resumed == straight ---

EVERYTHING: dict[str, Any] = {
    "schedule": "step",
    "milestones": (0.5,),
    "warm_up_epochs": 1,
    "label_smoothing": 0.1,
    "clip_gradient_norm": 0.5,
    "ema_decay": 0.9,
    "accumulation_steps": 2,
    "precision": "bf16",
    "memory_format": "channels_last",
}
OF_CLASSES: dict[str, Any] = {
    "optimiser": "adamw",
    "class_weights": (1.0, 2.0, 3.0, 4.0, 5.0),
    "mixup": 0.8,
    "cutmix": 1.0,
    "random_erasing": 0.5,
}


@pytest.mark.parametrize("settings", [{"ema_decay": 0.9}, EVERYTHING, EVERYTHING | OF_CLASSES])
def test_resumed_equals_straight(settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paused within and between epochs; bit for bit, the average included."""
    monkeypatch.setattr("tailor.training.checkpoint.AGREE_EVERY_STEPS", 1)
    how, path = training(**settings), tmp_path / "stage.safetensors"
    straight = trained("digits_resnet", how)
    for _ in range(7):  # four epochs of three steps and an end: at two of these sixteen questions each time
        questions = iter([False, True])
        with pytest.raises(Paused):
            trained("digits_resnet", how, Checkpoint(path, 1e9, ALONE, lambda q=questions: next(q)))
    resumed = trained("digits_resnet", how, Checkpoint(path, 1e9, ALONE))
    assert_equal_tensors(dict(resumed.state_dict()), dict(straight.state_dict()))
