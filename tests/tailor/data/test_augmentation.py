"""Crops and flips against the obvious: one image at a time, by slicing."""

from dataclasses import replace

import pytest
import torch
from torchvision.transforms import CenterCrop

from tailor.common.errors import ConfigError
from tailor.config.parsing import parse_trial
from tailor.data import augmentation, task_data
from tailor.parallel.process_group import ProcessGroup

IMAGES = torch.arange(60 * 3 * 8 * 8).remainder(251).to(torch.uint8).reshape(60, 3, 8, 8)
IDS = torch.arange(100, 160)


def crops(images: torch.Tensor, ids: torch.Tensor, seed: int, epoch: int, side: int) -> torch.Tensor:
    """The squares that an epoch shows."""
    places = augmentation.draw_places("crop_flip", ids, (8, 8), side, seed, epoch)
    return augmentation.augment(images, "crop_flip", places, side)


def squares(image: torch.Tensor, side: int) -> list[bytes]:
    """Every square of an image, as it is and mirrored."""
    found = []
    for top in range(image.shape[1] - side + 1):
        for left in range(image.shape[2] - side + 1):
            square = image[:, top : top + side, left : left + side]
            found += [square.contiguous().numpy().tobytes(), square.flip(2).contiguous().numpy().tobytes()]
    return found


def test_a_crop_is_a_square_of_its_image_and_all_squares_occur() -> None:
    image = IMAGES[:1].expand(4000, -1, -1, -1)
    seen = {crop.numpy().tobytes() for crop in crops(image, torch.arange(4000), 0, 0, 6)}
    assert seen == set(squares(IMAGES[0], 6))  # 9 places, each mirrored or not


def test_an_image_is_cropped_alike_whatever_comes_with_it() -> None:
    together = crops(IMAGES, IDS, 3, 2, 5)
    alone = torch.cat([crops(IMAGES[i : i + 1], IDS[i : i + 1], 3, 2, 5) for i in range(60)])
    assert torch.equal(together, alone)
    assert not torch.equal(together, crops(IMAGES, IDS, 3, 3, 5))
    assert not torch.equal(together, crops(IMAGES, IDS, 4, 2, 5))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_crops_are_the_same_by_index_and_by_slices(count: int, channels: int) -> None:
    draw = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count, channels, 9, 11), dtype=torch.uint8, generator=draw)
    top, left = torch.randint(0, 4, (count,), generator=draw), torch.randint(0, 6, (count,), generator=draw)
    flip = torch.randint(0, 2, (count,), generator=draw) == 1
    fast, slow = (cut(images, top, left, flip, 6) for cut in (augmentation.crop_by_slice, augmentation.crop_by_index))
    assert torch.equal(fast, slow)
    assert fast.is_contiguous()  # a network's bits and its speed depend on the layout
    assert slow.is_contiguous()
    places = augmentation.draw_places("shift", torch.arange(count), (9, 11), None, 0, 0)
    assert places is not None and augmentation.shift(images, places).is_contiguous()


def test_without_augmentation_the_centre_is_seen() -> None:
    assert augmentation.draw_places("none", IDS, (8, 8), 4, 0, 0) is None
    assert torch.equal(augmentation.augment(IMAGES, "none", None, 4), IMAGES[..., 2:6, 2:6])
    assert augmentation.augment(IMAGES, "none", None, None) is IMAGES


@pytest.mark.parametrize("crop_px", range(1, 12))
def test_the_centre_is_that_of_torchvision(crop_px: int) -> None:
    images = torch.arange(2 * 3 * 11 * 15).remainder(251).to(torch.uint8).reshape(2, 3, 11, 15)
    assert torch.equal(augmentation.centre(images, crop_px), CenterCrop(crop_px)(images))


def test_batches_show_crops_and_evaluation_the_centre() -> None:
    samples = task_data.Samples(images=IMAGES, labels=torch.zeros(60, dtype=torch.int64), ids=IDS, crop_px=6)
    alone = ProcessGroup(rank=0, world_size=1, device=torch.device("cpu"))
    (batch,) = task_data.batches(samples, 60, 0, 0, "crop_flip", alone)
    assert batch.images.shape == (60, 3, 6, 6)
    (plain,) = task_data.batches(samples, 60, 0, 0, "none", alone)
    order = torch.randperm(60, generator=task_data.generator(0, "order", 0))
    assert torch.equal(plain.images, task_data.normalise(IMAGES[order][..., 1:7, 1:7]))
    assert replace(samples, crop_px=None).fetch(torch.arange(3)).images.shape == (3, 3, 8, 8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augmentation": "crop_flip"}, "needs crop_px"),
        ({"crop_px": 9}, r"crop_px = 9 does not fit into digits, whose samples are \(1, 8, 8\)"),
    ],
)
def test_an_impossible_crop_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_trial({"method": {"name": "head_only"}, "data": settings}, "test")
