"""Images on the device or in the memory map: wherever they lie, batches are the same bit for bit."""

import pytest
import torch

from tailor.data import task_data
from tailor.data.device_images import DeviceImages, fits, free_on
from tailor.data.task_data import Samples, Splits
from tailor.parallel.process_group import ProcessGroup
from tailor.stages import Task
from tests.tailor.prepare.pictures import class_folders, prepare

CPU, ELSEWHERE = torch.device("cpu"), torch.device("meta")  # which has shapes and no pixels
PX, CROP_PX = 24, 16
TASK = Task(
    name="animals",
    sha256="0" * 64,
    train_images=30,
    images_per_class=6,
    split_seed=3,
    subset_seed=5,
    augmentation="crop_flip",
    crop_px=CROP_PX,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A prepared set of 60 images, 12 of them test images."""
    folder = tmp_path_factory.mktemp("prepared")
    prepare("animals", class_folders(folder / "images", 20), folder / "data", "--image-px", PX)
    return str(folder / "data")


def batches(samples: Samples, epoch: int = 1, rank: int = 0, count: int = 1) -> list[task_data.Batch]:
    ranks = ProcessGroup(rank=rank, world_size=count, device=CPU)
    return list(task_data.batches(samples, 7, 11, epoch, "crop_flip", ranks))


def in_memory(samples: Samples) -> Samples:
    """Each sample's pixels read one by one into memory, as a set that was copied to where it is trained from."""
    rows = range(len(samples)) if samples.rows is None else samples.rows.tolist()
    return Samples(
        images=torch.stack([samples.images[row].clone() for row in rows]),
        labels=samples.labels.clone(),
        ids=samples.ids.clone(),
        crop_px=samples.crop_px,
    )


@pytest.mark.parametrize(
    ("images_bytes", "free_bytes", "expected"),
    [(0, 0, True), (50, 100, True), (51, 100, False), (1, 1, False), (10**11, 139 * 2**30, False)],
)
def test_images_are_resident_where_they_take_at_most_half_of_what_is_free(
    images_bytes: int, free_bytes: int, expected: bool
) -> None:
    assert fits(images_bytes, free_bytes) == expected


def test_no_split_copies_an_image(root: str) -> None:
    splits, stored = task_data.splits(TASK, root), task_data.load("animals", root)["target"].images
    assert [len(split) for split in vars(splits).values()] == [18, 18, 12]
    for split in vars(splits).values():
        assert split.images is stored
        again = DeviceImages(CPU).place(split.take(torch.arange(3)))
        assert again.images is stored
    ids = torch.cat([split.ids for split in vars(splits).values()])
    assert len(ids.unique()) == 48


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_batches_from_the_map_are_those_of_images_in_memory(split: str, root: str) -> None:
    mapped = getattr(task_data.splits(TASK, root), split)
    resident = in_memory(mapped)
    for rank, count in ((0, 1), (0, 2), (1, 2)):
        pairs = zip(batches(mapped, 1, rank, count), batches(resident, 1, rank, count), strict=True)
        for one, other in pairs:
            assert one.images.shape[1:] == (3, CROP_PX, CROP_PX)
            assert torch.equal(one.images, other.images)
            assert torch.equal(one.labels, other.labels)
    shown = zip(task_data.ordered_batches(mapped), task_data.ordered_batches(resident), strict=True)
    assert all(torch.equal(one[0], other[0]) and torch.equal(one[1], other[1]) for one, other in shown)
    assert not torch.equal(batches(mapped, 1)[0].images, batches(mapped, 2)[0].images)


@pytest.mark.parametrize("is_resident", [True, False])
def test_batches_are_made_on_the_device_wherever_the_images_lie(is_resident: bool, root: str) -> None:
    asked = []

    def free(device: torch.device) -> int:
        asked.append(device)
        return 2 * 60 * 3 * PX * PX - (0 if is_resident else 1)

    residence, splits = DeviceImages(ELSEWHERE, free), task_data.splits(TASK, root)
    placed = Splits(**{name: residence.place(split) for name, split in vars(splits).items()})
    assert asked == [ELSEWHERE]  # once for all that share the images
    home = ELSEWHERE if is_resident else CPU
    for split in vars(placed).values():
        assert split.images is placed.train.images
        assert {t.device for t in (split.images, split.labels, split.ids, split.rows)} == {home}
        for batch, known in zip(batches(split), batches(in_memory(split) if not is_resident else split), strict=True):
            assert (batch.images.device, batch.labels.device) == (ELSEWHERE, ELSEWHERE)
            assert (batch.images.shape, batch.labels.shape) == (known.images.shape, known.labels.shape)
            assert batch.images.dtype == torch.float32
        assert {images.device for images, _ in task_data.ordered_batches(split)} == {ELSEWHERE}
    if not is_resident:
        assert placed.train.images is splits.train.images  # still the memory map


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_resident_or_not_is_equal_bit_for_bit(root: str) -> None:
    gpu, train = torch.device("cuda", 0), task_data.splits(TASK, root).train
    assert 0 < free_on(gpu) <= torch.cuda.mem_get_info(gpu)[1]
    resident, mapped = DeviceImages(gpu).place(train), DeviceImages(gpu, lambda _: 0).place(train)
    assert (resident.images.device, mapped.images.device) == (gpu, CPU)
    for one, other, known in zip(batches(resident), batches(mapped), batches(train), strict=True):
        assert one.images.device == other.images.device == gpu
        assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)
        torch.testing.assert_close(one.images.cpu(), known.images, rtol=0.0, atol=1e-6)
        assert torch.equal(one.labels.cpu(), known.labels)


def test_a_set_of_the_catalog_is_placed_alike() -> None:
    samples = task_data.source("digits").take(torch.arange(9))
    placed = DeviceImages(ELSEWHERE, lambda _: 2 * samples.images.nbytes).place(samples)
    assert placed.images.device == ELSEWHERE and placed.fetch().images.shape == (9, 1, 8, 8)
