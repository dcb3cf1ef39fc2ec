"""The training loop against the same steps written by hand; its settings are in test_training_settings.py."""

import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from tailor.common import heartbeat
from tailor.common.errors import TrainingError
from tailor.data import task_data
from tailor.data.task_data import Samples
from tailor.methods.recipe import Recipe
from tailor.networks import building
from tailor.parallel.process_group import ProcessGroup
from tailor.stages import Training
from tailor.training.checkpoint import Checkpoint, TrainingProgress
from tailor.training.loop import TrainingExtras, describe_progress, draws_randomly, group, optimiser_for, train
from tailor.training.prediction import predict
from tests.tailor.networks.test_timm import needs_timm
from tests.tailor.trials import assert_equal_tensors, short_trial

ALONE = ProcessGroup(rank=0, world_size=1, device=torch.device("cpu"))


def samples(count: int = 50) -> Samples:
    return task_data.splits(Recipe(short_trial({"name": "head_only"})).task).train.take(torch.arange(count))


def training(**settings: object) -> Training:
    defaults = {
        "epochs": 3,
        "batch_size": 16,
        "learning_rate": 0.01,
        "head_learning_rate": 0.02,
        "momentum": 0.9,
        "weight_decay": 0.01,
        "schedule": "constant",
        "seed": 7,
    }
    return Training(**(defaults | settings))  # type: ignore[arg-type]


def no_checkpoint() -> Checkpoint:
    return Checkpoint(None, 0.0, ALONE)


def head_apart(model: torch.nn.Module, settings: Training) -> torch.optim.Optimizer:
    head = list(model.get_submodule("classifier.2").parameters())
    rest = [p for name, p in model.named_parameters() if not name.startswith("classifier.2")]
    return optimiser_for([group(rest, settings.learning_rate), group(head, settings.head_learning_rate)], settings)


def all_of(model: torch.nn.Module, settings: Training) -> torch.optim.Optimizer:
    return optimiser_for([group(list(model.parameters()), 0.01)], settings)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_loop_equals_steps_written_by_hand(schedule: str) -> None:
    settings = training(schedule=schedule)
    model, by_hand = (building.build("digits_vgg", 5, seed=0) for _ in range(2))
    history = train(model, head_apart(model, settings), samples(), settings, "shift", no_checkpoint())

    velocity = {name: torch.zeros_like(p) for name, p in by_hand.named_parameters()}
    for epoch in range(settings.epochs):
        scale = 1.0 if schedule == "constant" else 0.5 * (1 + math.cos(math.pi * epoch / settings.epochs))
        losses, correct = [], 0
        for batch in task_data.batches(samples(), 16, 7, epoch, "shift", ALONE):
            by_hand.zero_grad()
            logits = by_hand(batch.images)
            F.cross_entropy(logits, batch.labels).backward()
            losses += F.cross_entropy(logits, batch.labels, reduction="none").tolist()
            correct += int((logits.argmax(1) == batch.labels).sum())
            with torch.no_grad():
                for name, p in by_hand.named_parameters():
                    rate = (0.02 if name.startswith("classifier.2") else 0.01) * scale
                    velocity[name] = 0.9 * velocity[name] + p.grad + 0.01 * p
                    p -= rate * velocity[name]
        assert history[epoch]["train_loss"] == pytest.approx(sum(losses) / 50, rel=1e-5)
        assert history[epoch]["train_accuracy_fraction"] == correct / 50
        assert history[epoch]["images"] == 50  # the short last batch counts by its images
        assert history[epoch]["learning_rate"] == pytest.approx(0.01 * scale)
        assert history[epoch]["head_learning_rate"] == pytest.approx(0.02 * scale)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p, by_hand.get_parameter(name), rtol=1e-4, atol=1e-6)


class InterruptedCheckpoint(Checkpoint):
    """Ends the training once it has written."""

    def __init__(self, path: Path, ranks: ProcessGroup = ALONE) -> None:
        super().__init__(path, 0.0, ranks)

    def save(self, *args: object) -> None:
        super().save(*args)  # type: ignore[arg-type]
        raise KeyboardInterrupt


def test_a_checkpoint_inside_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailor.training.checkpoint.AGREE_EVERY_STEPS", 2)  # an epoch has four steps here
    settings = training(epochs=2)
    straight = building.build("digits_vgg", 5, seed=0)
    whole = train(straight, head_apart(straight, settings), samples(), settings, "shift", no_checkpoint())
    path = tmp_path / "stage.safetensors"
    interrupted = building.build("digits_vgg", 5, seed=0)
    with pytest.raises(KeyboardInterrupt):
        train(
            interrupted,
            head_apart(interrupted, settings),
            samples(),
            settings,
            "shift",
            InterruptedCheckpoint(path),
        )
    resumed = building.build("digits_vgg", 5, seed=1)
    checkpoint = Checkpoint(path, 1e9, ALONE)
    history = train(resumed, head_apart(resumed, settings), samples(), settings, "shift", checkpoint)
    assert_equal_tensors(dict(resumed.state_dict()), dict(straight.state_dict()))
    assert [e["train_loss"] for e in history] == pytest.approx([e["train_loss"] for e in whole], rel=1e-12)
    assert [e["images"] for e in history] == [50, 50]


class Dropping(torch.nn.Module):
    """A network that draws in training."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = building.build("digits_vgg", 5, seed=0)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.inner(self.dropout(images))


def test_dropout_draws_by_the_seed_of_the_training_and_resumes(tmp_path: Path) -> None:
    settings, path = training(epochs=2), tmp_path / "stage.safetensors"

    def trained(checkpoint: Checkpoint, global_seed: int, **other: object) -> dict[str, torch.Tensor]:
        model, how = Dropping(), training(epochs=2, **other)
        torch.manual_seed(global_seed)
        train(model, all_of(model, how), samples(), how, "none", checkpoint)
        return dict(model.state_dict())

    straight = trained(no_checkpoint(), 1)
    assert_equal_tensors(trained(no_checkpoint(), 2), straight)
    with pytest.raises(KeyboardInterrupt):
        trained(InterruptedCheckpoint(path), 1)
    assert_equal_tensors(trained(Checkpoint(path, 1e9, ALONE), 3), straight)
    undropped = building.build("digits_vgg", 5, seed=0)
    train(undropped, all_of(undropped, settings), samples(), settings, "none", no_checkpoint())
    assert not torch.equal(undropped.features[0].weight, straight["inner.features.0.weight"])


def test_all_that_draws_in_training_is_known() -> None:
    assert all(
        draws_randomly(module)
        for module in (torch.nn.Dropout(0.1), torch.nn.AlphaDropout(0.1), StochasticDepth(0.1, "row"))
    )
    assert not any(
        draws_randomly(module) for module in (torch.nn.Dropout(0.0), StochasticDepth(0.0, "row"), torch.nn.ReLU())
    )


@pytest.mark.check
@needs_timm
def test_timms_swin_draws_in_training() -> None:
    assert any(draws_randomly(module) for module in building.skeleton("timm/swin_tiny_patch4_window7_224", 5).modules())
    assert not any(draws_randomly(module) for module in building.skeleton("timm/resnet26", 5).modules())


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    model = building.build("digits_vgg", 5, seed=0)
    settings = training(learning_rate=1e6, head_learning_rate=1e6, epochs=20)
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) in epoch \d+, from step \d+ on"):
        train(model, head_apart(model, settings), samples(), settings, "none", no_checkpoint())


def test_a_training_says_where_it_is() -> None:
    assert describe_progress(TrainingProgress(), 3, 4) == (0.0, "epoch 1 of 3")
    fresh = TrainingProgress(step=2, elapsed_s=0.5, sums=[1.0, 1.0, 32.0])
    assert describe_progress(fresh, 3, 4) == (2 / 12, "epoch 1 of 3, 64 images/s")
    last = {"train_loss": 0.41213, "images": 1234, "seconds": 0.5}
    slow = TrainingProgress(epoch=1, step=3, elapsed_s=20.0, sums=[1.0, 1.0, 32.0], history=[last])
    assert describe_progress(slow, 3, 4) == (7 / 12, "epoch 2 of 3, step 3 of 4, loss 0.4121, 2,468 images/s")
    assert describe_progress(TrainingProgress(epoch=3, history=[last] * 3), 3, 4) == (
        1.0,
        "epoch 3 of 3, loss 0.4121, 2,468 images/s",
    )
    settings, model = training(), building.build("digits_vgg", classes=5, seed=1)
    said: list[tuple[int, float, str]] = []
    train(
        model, all_of(model, settings), samples(), settings, "none", no_checkpoint(),
        TrainingExtras(after_epoch=lambda: said.append(heartbeat.latest())),
    )  # fmt: skip
    assert [words.partition(",")[0] for _, _, words in said] == ["epoch 1 of 3", "epoch 2 of 3", "epoch 3 of 3"]
    assert ["loss" in words for _, _, words in said] == [False, True, True]
    assert sorted(said) == said  # as its epochs go, so do signs and share


def test_predictions_are_in_the_order_of_the_samples() -> None:
    model, some = building.build("digits_resnet", 5, seed=0), samples(20)
    together = predict(model, some, ALONE)
    one_by_one = torch.cat([predict(model, some.take(torch.tensor([i])), ALONE) for i in range(20)])
    torch.testing.assert_close(together, one_by_one, rtol=1e-5, atol=1e-6)


def test_a_penalty_is_added_once_per_step_and_after_epoch_called_once_per_epoch() -> None:
    """The penalty 0.5 x decay x ||w||^2 by hand is what the optimiser's weight decay does."""
    decayed, penalised = (building.build("digits_vgg", 5, seed=0) for _ in range(2))
    settings, without = training(weight_decay=0.01), training(weight_decay=0.0)
    train(decayed, all_of(decayed, settings), samples(), settings, "none", no_checkpoint())
    epochs: list[int] = []
    train(
        penalised,
        all_of(penalised, without),
        samples(),
        without,
        "none",
        no_checkpoint(),
        TrainingExtras(
            penalty=lambda _batch, _outputs: 0.005 * sum(p.square().sum() for p in penalised.parameters()),
            after_epoch=lambda: epochs.append(len(epochs)),
        ),
    )
    assert epochs == [0, 1, 2]
    for name, p in penalised.named_parameters():
        torch.testing.assert_close(p, decayed.get_parameter(name), rtol=1e-4, atol=1e-6)
