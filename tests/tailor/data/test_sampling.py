"""Classes of different sizes: weights against scikit-learn's and torch's, the balanced order against counts."""

import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from tailor.data import task_data
from tailor.data.sampling import balanced_order, image_weights
from tailor.data.task_data import Batch, Samples
from tailor.parallel.process_group import ProcessGroup
from tailor.stages import TrainingSettings
from tailor.training.backward import micro_batches

COUNTS = (40, 25, 0, 5)  # of the third class the training split has no image
LABELS = torch.cat([torch.full((count,), label) for label, count in enumerate(COUNTS)])
NUMBERS = torch.Generator().manual_seed(3)
PIXELS = torch.randint(0, 256, (len(LABELS), 3, 9, 9), dtype=torch.uint8, generator=NUMBERS)
SAMPLES = Samples(images=PIXELS, labels=LABELS, ids=torch.arange(500, 500 + len(LABELS)), crop_px=5)


def ranks(count: int) -> list[ProcessGroup]:
    return [ProcessGroup(rank=rank, world_size=count, device=torch.device("cpu")) for rank in range(count)]


def batches(settings: TrainingSettings, rank: ProcessGroup, first_step: int = 0) -> list[Batch]:
    return list(task_data.batches(SAMPLES, 16, 7, 2, "crop_flip", rank, first_step, settings))


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    expected = compute_class_weight("balanced", classes=LABELS.unique().numpy(), y=LABELS.numpy())
    found = [image_weights(LABELS, "balanced")[label == LABELS][0].item() for label in LABELS.unique()]
    assert found == pytest.approx(expected)
    assert image_weights(LABELS, "balanced").mean().item() == pytest.approx(1.0)


@pytest.mark.parametrize("weights", ["balanced", (1.0, 2.0, 1.0, 0.5)])
def test_a_weighted_loss_is_torchs_over_the_global_batch(weights: str | tuple[float, ...]) -> None:
    settings = TrainingSettings(class_weights=weights)
    of_classes = torch.tensor([1.0, 2.0, 1.0, 0.5])
    if weights == "balanced":
        of_classes = torch.tensor([70 / (3 * count) if count else 0.0 for count in COUNTS])
    for batch in batches(settings, ranks(1)[0]):
        outputs = torch.randn(len(batch.labels), 4, generator=NUMBERS)
        expected = F.cross_entropy(outputs, batch.labels, weight=of_classes, reduction="sum")
        torch.testing.assert_close(batch.loss_sum(outputs), expected)
        parts = micro_batches(batch, 3, 1)
        sizes = [len(part.labels) for part in parts]
        of_parts = [part.loss_sum(own) for part, own in zip(parts, outputs.split(sizes), strict=True)]
        torch.testing.assert_close(sum(of_parts), expected)


def test_the_balanced_order_has_as_many_of_each_class_that_has_images() -> None:
    order = torch.cat([balanced_order(LABELS, NUMBERS) for _ in range(100)])
    shares = LABELS[order].bincount(minlength=4) / len(order)
    assert shares.tolist() == pytest.approx([1 / 3, 1 / 3, 0.0, 1 / 3], abs=0.03)
    assert len(balanced_order(LABELS, NUMBERS)) == len(LABELS)


def test_a_balanced_epoch_is_the_same_on_two_ranks_and_after_an_interruption() -> None:
    settings = TrainingSettings(sampling="balanced", class_weights=(1.0, 2.0, 1.0, 0.5))
    alone = batches(settings, ranks(1)[0])
    for whole, even, odd in zip(alone, *(batches(settings, rank) for rank in ranks(2)), strict=True):
        assert torch.equal(whole.images[0::2], even.images) and torch.equal(whole.images[1::2], odd.images)
        assert torch.equal(whole.terms[0][1][1::2], odd.terms[0][1])
    rest = batches(settings, ranks(1)[0], first_step=2)
    assert all(torch.equal(a.images, b.images) for a, b in zip(alone[2:], rest, strict=True))


def test_an_image_that_is_shown_again_is_cropped_anew() -> None:
    settings = TrainingSettings(sampling="balanced")
    shown = torch.cat([batch.images[batch.labels == 3] for batch in batches(settings, ranks(1)[0])])
    assert len(shown) > 15  # of five images
    assert len({image.numpy().tobytes() for image in shown}) > 10
