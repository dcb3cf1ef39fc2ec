"""Changed images against torchvision's: each kind by its class of v2, given what was drawn."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy.stats import beta
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2

from tailor.common.errors import ConfigError
from tailor.data import image_changes, task_data
from tailor.data.image_changes import Draws, change_pixels, draw, erase, mix, operate
from tailor.data.task_data import Batch, Samples
from tailor.execution.dry_run import dry_run
from tailor.facts.datasets import DATASETS
from tailor.parallel.process_group import ProcessGroup
from tailor.stages import ImageChanges, TrainingSettings
from tests.tailor.trials import PHOTOGRAPHS, short_trial

NUMBERS = torch.Generator().manual_seed(5)
PIXELS = torch.randint(0, 256, (42, 3, 13, 11), dtype=torch.uint8, generator=NUMBERS)
LABELS = torch.arange(42) % 5
SAMPLES = Samples(images=PIXELS, labels=LABELS, ids=torch.arange(300, 342), crop_px=9)
IDS = torch.arange(5000)


@pytest.fixture(autouse=True)
def torchvisions_draws_are_the_same_each_time() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


SIZE = (13, 11)
ALL = ImageChanges(
    rand_augment=2, colour_jitter=0.4, random_erasing=0.5, mixup=0.8, cutmix=1.0
)  # fmt: skip


def smooth_image() -> Tensor:
    """An image in which each operation of RandAugment has another result."""
    rows, columns = torch.arange(24)[:, None], torch.arange(20)
    return torch.stack([40 + 5 * rows + columns, 200 - 6 * rows + 2 * columns, 90 + rows * columns // 8]).to(
        torch.uint8
    )


@pytest.mark.parametrize("magnitude", [5, 9, 10, 30])
def test_the_operations_are_those_of_torchvisions_rand_augment(magnitude: int) -> None:
    """All that its class makes of an image in many draws is what ours makes of it, and nothing else."""
    image = smooth_image()
    theirs = v2.RandAugment(num_ops=1, magnitude=magnitude)
    expected = {theirs(image).numpy().tobytes() for _ in range(600)}
    operations = range(2 * len(image_changes.OPERATIONS))
    assert {operate(image, number, magnitude).numpy().tobytes() for number in operations} == expected
    assert len(expected) > 18


def test_all_operations_occur_and_each_draw_is_applied() -> None:
    drawn = draw(ImageChanges(rand_augment=2), IDS, SIZE, 0, 0)
    assert drawn.operations is not None
    assert drawn.operations.shape == (5000, 2)
    assert drawn.operations.flatten().unique().tolist() == list(range(28))
    some = drawn.at(lambda whole: whole[:42])
    for image, before, numbers in zip(change_pixels(PIXELS, some), PIXELS, drawn.operations.tolist(), strict=False):
        first, second = numbers
        assert torch.equal(image, operate(operate(before, first, 9), second, 9))


def test_colours_are_those_of_torchvisions_functions() -> None:
    changes = ImageChanges(colour_jitter=0.4)
    drawn = draw(changes, IDS, SIZE, 0, 0)
    assert drawn.colours is not None
    factors = drawn.colours[:, :3]
    assert factors.min() >= 0.6 and factors.max() <= 1.4 and factors.mean().item() == pytest.approx(1.0, abs=0.01)
    assert drawn.colours[:, 3].unique().tolist() == [0, 1, 2, 3, 4, 5]
    functions = (v2.functional.adjust_brightness, v2.functional.adjust_contrast, v2.functional.adjust_saturation)
    changed = change_pixels(PIXELS, drawn.at(lambda whole: whole[:42]))
    for image, expected, (*own, order) in zip(changed, PIXELS, drawn.colours.tolist(), strict=False):
        for number in image_changes.ORDERS[int(order)]:
            expected = functions[number](expected, own[number])
        assert torch.equal(image, expected)


def test_erased_rectangles_are_of_torchvisions_kind_and_pixels_of_its_function() -> None:
    drawn = draw(ImageChanges(random_erasing=0.3), IDS, (60, 40), 0, 0)
    assert drawn.erased is not None
    top, left, bottom, right = drawn.erased.unbind(1)
    area = ((bottom - top) * (right - left)).double() / 2400
    assert (area > 0).double().mean().item() == pytest.approx(0.3, abs=0.02)
    theirs = [v2.RandomErasing(p=1.0).make_params([torch.zeros(3, 60, 40)]) for _ in range(3000)]
    of_theirs = torch.tensor([[p["h"] * p["w"] / 2400, p["h"] / p["w"], p["i"], p["j"]] for p in theirs])
    is_erased = area > 0
    ours = torch.stack([area, (bottom - top) / (right - left), top, left], dim=1)[is_erased]
    for quantile in (0.1, 0.5, 0.9):
        difference = (ours.quantile(quantile, dim=0) - of_theirs.double().quantile(quantile, dim=0)).abs()
        assert (difference < torch.tensor([0.02, 0.15, 3.0, 2.5])).all()
    images = torch.rand(50, 3, 60, 40, generator=NUMBERS)
    for image, before, (i, j, end, stop) in zip(
        erase(images, drawn.erased[:50]), images, drawn.erased.tolist(), strict=False
    ):
        assert torch.equal(image, v2.functional.erase(before, i, j, end - i, stop - j, torch.zeros(1, 1, 1)))


def mixed_by(settings: ImageChanges, images: Tensor) -> tuple[Draws, Tensor]:
    drawn = draw(settings, IDS[: len(images)], images.shape[-2:], 0, 0)
    return drawn, mix(images, images.roll(1, 0), drawn)


def test_mixtures_are_those_of_torchvisions_classes() -> None:
    images, labels = torch.randn(42, 3, 13, 11, generator=NUMBERS), torch.arange(42) % 5
    drawn, mixed = mixed_by(ImageChanges(mixup=0.8), images)
    assert drawn.share is not None and drawn.pixel_share is not None
    theirs = v2.MixUp(num_classes=5)
    for place in range(42):
        params = {"lam": float(drawn.pixel_share[place]), "labels": labels, "batch_size": 42}
        assert torch.equal(mixed[place], theirs.transform(images, params)[place])
    drawn, mixed = mixed_by(ImageChanges(cutmix=1.0), images)
    assert drawn.share is not None and drawn.pasted is not None
    cut = v2.CutMix(num_classes=5)
    for place, (top, left, bottom, right) in enumerate(drawn.pasted.tolist()):
        params = {"box": (left, top, right, bottom), "labels": labels, "batch_size": 42}
        assert torch.equal(mixed[place], cut.transform(images, params)[place])
        area = (bottom - top) * (right - left)
        assert float(drawn.share[place]) == pytest.approx(1.0 - area / (13 * 11))


@pytest.mark.parametrize("alpha", [0.2, 0.8, 2.0])
def test_shares_have_the_distribution_of_the_papers(alpha: float) -> None:
    drawn = draw(ImageChanges(mixup=alpha), IDS, SIZE, 0, 0)
    assert drawn.share is not None
    for limit in (0.05, 0.3, 0.5, 0.8):
        assert (drawn.share < limit).double().mean() == pytest.approx(beta.cdf(limit, alpha, alpha), abs=0.02)
    cut = draw(ImageChanges(cutmix=alpha), IDS, (60, 40), 0, 0)
    assert cut.share is not None
    theirs = v2.CutMix(alpha=alpha, num_classes=5)
    of_theirs = [theirs.make_params([torch.zeros(2, 3, 60, 40)])["lam_adjusted"] for _ in range(5000)]
    assert cut.share.mean().item() == pytest.approx(sum(of_theirs) / 5000, abs=0.02)


def test_with_both_kinds_each_image_has_one() -> None:
    drawn = draw(ImageChanges(mixup=0.8, cutmix=1.0), IDS, SIZE, 0, 0)
    assert drawn.pixel_share is not None
    assert (drawn.pixel_share == 1.0).double().mean().item() == pytest.approx(0.5, abs=0.03)


# --- batches ---


def batches(settings: TrainingSettings, ranks: int = 1, rank: int = 0, first_step: int = 0) -> list[Batch]:
    group = ProcessGroup(rank=rank, world_size=ranks, device=torch.device("cpu"))
    return list(task_data.batches(SAMPLES, 8, 7, 2, "crop_flip", group, first_step, settings))


EVERYTHING: dict[str, Any] = dict(ALL) | {"class_weights": (1.0, 2.0, 3.0, 4.0, 5.0)}


@pytest.mark.parametrize("sampling", ["shuffled", "balanced"])
@pytest.mark.parametrize("count", [2, 3])
def test_ranks_see_what_one_sees_and_an_interrupted_epoch_goes_on(sampling: str, count: int) -> None:
    settings = TrainingSettings(**EVERYTHING, sampling=sampling)
    alone = batches(settings)
    for rank in range(count):
        for whole, share in zip(alone, batches(settings, count, rank), strict=True):
            assert torch.equal(whole.images[rank::count], share.images)
            assert torch.equal(whole.labels[rank::count], share.labels)
            for (labels, weights), (own_labels, own_weights) in zip(whole.terms, share.terms, strict=True):
                assert torch.equal(labels[rank::count], own_labels) and torch.equal(weights[rank::count], own_weights)
    rest = batches(settings, first_step=3)
    assert all(torch.equal(a.images, b.images) for a, b in zip(alone[3:], rest, strict=True))


def test_the_loss_of_a_mixture_is_that_of_torchs_soft_labels() -> None:
    plain = TrainingSettings(mixup=0.8, cutmix=1.0)
    of_classes = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    weighted = TrainingSettings(mixup=0.8, cutmix=1.0, class_weights=(1.0, 2.0, 3.0, 4.0, 5.0))
    for batch, with_weights in zip(batches(plain), batches(weighted), strict=True):
        ((labels, share), (others, rest)) = batch.terms
        assert torch.equal(others, labels.roll(1))
        torch.testing.assert_close(share + rest, torch.ones(len(labels)))
        assert torch.equal(batch.labels, torch.where(share >= 0.5, labels, others))
        soft = share[:, None] * functional.one_hot(labels, 5) + rest[:, None] * functional.one_hot(others, 5)
        outputs = torch.randn(len(labels), 5, generator=NUMBERS)
        expected = functional.cross_entropy(outputs, soft, reduction="sum", label_smoothing=0.1)
        torch.testing.assert_close(batch.loss_sum(outputs, 0.1), expected)
        expected = functional.cross_entropy(outputs, soft, weight=of_classes, reduction="sum")
        torch.testing.assert_close(with_weights.loss_sum(outputs), expected)


def test_epochs_show_other_changes_and_mixtures_are_of_the_changed_images() -> None:
    """The slow way: image by image, changed, scaled, erased, and only then mixed."""
    settings = TrainingSettings(**dict(ALL))
    (batch, *_) = batches(settings)
    order = torch.randperm(42, generator=task_data.generator(7, "order", 2))[:8]
    cropped = torch.cat([b.images for b in batches(TrainingSettings())])[:8]
    drawn = draw(settings, SAMPLES.ids[order], (9, 9), 7, 2)
    pixels = ((cropped + 1.0) * 127.5).round().to(torch.uint8)
    shown = []
    for place in range(8):
        own = drawn.at(lambda whole, place=place: whole[place : place + 1])
        image = change_pixels(pixels[place : place + 1], own)
        shown.append(erase(task_data.normalise(image), own.erased))
    images = torch.cat(shown)
    torch.testing.assert_close(batch.images, mix(images, images.roll(1, 0), drawn))
    other = draw(settings, SAMPLES.ids[order], (9, 9), 7, 3)
    assert drawn.operations is not None and other.operations is not None
    assert not torch.equal(drawn.operations, other.operations)


def test_floats_have_no_colours_to_change() -> None:
    floats = replace(SAMPLES, images=PIXELS.float())
    alone = ProcessGroup(rank=0, world_size=1, device=torch.device("cpu"))
    settings = TrainingSettings(colour_jitter=0.4)
    with pytest.raises(ConfigError, match=r"bytes \(uint8\), and these are torch.float32; leave them out"):
        next(task_data.batches(floats, 8, 7, 2, "none", alone, 0, settings))


def test_changes_of_colours_are_in_ids_and_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS._records, "photographs", PHOTOGRAPHS)
    base = {"optimiser": "adam", "rand_augment": 1}
    others = [{}, {"rand_augment": 1}, base, {"colour_jitter": 0.2}]
    ids, keys = set(), set()
    for settings in others:
        trial = dry_run(
            short_trial(
                {"name": "head_only"},
                network="mobilenet_v2",
                data={"name": "photographs", "train_images": 100},
                source={"weights": "net.safetensors", "weights_sha256": "1" * 64},
                optimisation={"head_epochs": 2} | settings,
            )
        )
        ids.add(trial.trial_id)
        keys.add(trial.stages[-1].key)
    assert len(ids) == len(keys) == len(others)
