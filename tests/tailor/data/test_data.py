"""Splits that do not move, and batches that neither ranks nor resuming change."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits

from tailor.common.errors import ConfigError
from tailor.data import augmentation, task_data
from tailor.data.task_data import Samples
from tailor.facts.datasets import DATASETS, DataInfo
from tailor.methods.recipe import Recipe
from tailor.parallel.process_group import ProcessGroup
from tailor.stages import Task
from tests.tailor.trials import short_trial


def task(**settings: object) -> Task:
    return Recipe(short_trial({"name": "head_only"}, data=settings)).task


def rank(number: int, count: int) -> ProcessGroup:
    return ProcessGroup(rank=number, world_size=count, device=torch.device("cpu"))


def test_splits_are_disjoint_and_complete() -> None:
    splits = task_data.splits(task())
    ids = [split.ids.tolist() for split in (splits.train, splits.validation, splits.test)]
    assert [len(i) for i in ids] == [200, 348, 348]
    assert len(set(ids[0] + ids[1] + ids[2])) == DATASETS["digits"].target_images


def test_no_two_digits_are_copies_of_each_other() -> None:
    """So a draw needs no groups: the two most alike are further apart than noise would move a copy."""
    images = torch.as_tensor(load_digits().data)  # (N, 64) from 0 to 16
    apart = torch.cdist(images, images).fill_diagonal_(float("inf"))
    assert apart.min() > 5.0


def test_the_test_split_never_moves_with_the_training_set() -> None:
    for settings in ({"train_images": 20}, {"train_images": 500}, {"images_per_class": 2}, {"augmentation": "shift"}):
        assert torch.equal(task_data.splits(task(**settings)).test.ids, task_data.splits(task()).test.ids)


def test_the_trial_seed_moves_no_split() -> None:
    tasks = [Recipe(short_trial({"name": "head_only"}, seed=seed)).task for seed in (0, 1)]
    assert tasks[0] == tasks[1]


def test_another_split_seed_is_another_split() -> None:
    assert not torch.equal(task_data.splits(task(split_seed=1)).test.ids, task_data.splits(task()).test.ids)


def test_a_subset_is_drawn_per_class_by_the_seed() -> None:
    subsets = []
    for seed in (0, 1):
        config = short_trial({"name": "head_only"}, seed=seed, data={"images_per_class": 5})
        train = task_data.splits(Recipe(config).task).train
        assert torch.bincount(train.labels).tolist() == [5] * 5
        assert set(train.ids.tolist()) <= set(task_data.splits(task()).train.ids.tolist())
        subsets.append(set(train.ids.tolist()))
    assert subsets[0] != subsets[1]


@pytest.mark.parametrize("how", ["none", "shift"])
@pytest.mark.parametrize("images", [33, 32])
def test_two_ranks_see_what_one_sees(how: str, images: int) -> None:
    samples = task_data.splits(task()).train.take(torch.arange(images))
    alone = list(task_data.batches(samples, 8, 3, 1, how, rank(0, 1)))
    shares = [list(task_data.batches(samples, 8, 3, 1, how, rank(r, 2))) for r in (0, 1)]
    assert [batch.global_count for batch in alone] == [batch.global_count for batch in shares[1]]
    for whole, even, odd in zip(alone, *shares, strict=True):
        assert torch.equal(whole.images[0::2], even.images)
        assert torch.equal(whole.images[1::2], odd.images)
        assert torch.equal(whole.labels[1::2], odd.labels)
    seen = torch.cat([batch.labels for batch in alone])
    assert torch.equal(seen.sort().values, samples.labels.sort().values)  # every image once


def test_resuming_in_an_epoch_sees_the_rest_of_it() -> None:
    samples = task_data.splits(task()).train
    whole = list(task_data.batches(samples, 32, 0, 0, "shift", rank(0, 1)))
    rest = list(task_data.batches(samples, 32, 0, 0, "shift", rank(0, 1), first_step=4))
    assert len(rest) == len(whole) - 4
    assert all(torch.equal(a.images, b.images) for a, b in zip(whole[4:], rest, strict=True))


def test_epochs_differ_in_order_and_shift() -> None:
    samples = task_data.splits(task()).train
    orders = [torch.cat([b.labels for b in task_data.batches(samples, 32, 0, e, "none", rank(0, 1))]) for e in (0, 1)]
    assert not torch.equal(orders[0], orders[1])
    images = samples.fetch().images
    places = [augmentation.draw_places("shift", samples.ids, (8, 8), None, 0, epoch) for epoch in (0, 1)]
    shifted = [augmentation.augment(images, "shift", drawn, None) for drawn in places]
    assert not torch.equal(shifted[0], shifted[1])


def test_shift_moves_by_up_to_one_pixel_and_all_moves_occur() -> None:
    """Against the slow and obvious way: cut each window out of the padded image."""
    images = torch.arange(1, 65, dtype=torch.uint8).reshape(1, 1, 8, 8).repeat(500, 1, 1, 1)
    places = augmentation.draw_places("shift", torch.arange(500), (8, 8), None, 0, 0)
    moved = augmentation.augment(images, "shift", places, None)
    padded = torch.nn.functional.pad(images[:1], (1, 1, 1, 1))[0]
    windows = {(r, c): padded[:, r : r + 8, c : c + 8] for r in range(3) for c in range(3)}
    found = [next(key for key, window in windows.items() if torch.equal(window, image)) for image in moved]
    assert {found.count(key) > 25 for key in windows} == {True}  # 55 expected of each of the nine moves


def test_normalised_pixels_are_torchs_division_in_every_layout() -> None:
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).repeat(2, 3, 1, 1)
    for images in (every, every[..., 2:9, 3:8], every.contiguous(memory_format=torch.channels_last)):
        found, expected = task_data.normalise(images), images.div(127.5).sub_(1.0)
        assert torch.equal(found, expected) and found.stride() == expected.stride()


MISTAKES: dict[str, tuple[Callable[[Samples], dict[str, Samples]], str]] = {
    "fewer": (lambda made: {"target": made.take(torch.arange(20))}, "number of labels of target is 20, expected 40"),
    "more": (lambda made: {"target": made.take(torch.arange(80) % 40)}, "labels of target is 80, expected 40"),
    "from 1": (lambda made: {"target": replace(made, labels=made.labels + 1)}, "has labels such as 2, expected 0 to 1"),
    "int32": (lambda made: {"target": replace(made, labels=made.labels.int())}, "torch.int32, expected torch.int64"),
    "real": (lambda made: {"target": replace(made, labels=made.labels.float())}, "torch.float32, expected torch.int64"),
    "ids": (lambda made: {"target": replace(made, ids=made.ids[:3])}, "number of ids of target is 3, expected 40"),
    "images": (lambda made: {"target": replace(made, images=made.images[:3])}, "number of images of target is 3"),
    "shape": (lambda made: {"target": replace(made, images=made.images[..., :4])}, r"\(1, 8, 4\), expected \(1, 8, 8"),
    "test too": (lambda made: {"target": made, "test": made.take(torch.arange(10))}, "is 40, expected 30"),
    "test": (lambda made: {"target": made.take(torch.arange(30)), "test": made}, "labels of test is 40, expected 10"),
    "repeated": (
        lambda made: {"target": replace(made, ids=made.ids // 2)},
        "20 ids are there twice, expected each once",
    ),
    "float64": (lambda made: {"target": replace(made, images=made.images.double())}, "float64, expected torch.float32"),
    "array": (
        lambda made: {"target": replace(made, images=made.images.numpy())},  # type: ignore[arg-type]
        "images of target: expected Samples of tensors, given a ndarray",
    ),
    "NaN": (
        lambda made: {"target": replace(made, images=made.images / made.images)},
        "2560 numbers in the images of target are NaN",
    ),
    "column": (
        lambda made: {"target": replace(made, labels=made.labels[:, None])},
        r"a label of target is \(1,\), exp",
    ),
    "pair": (lambda made: (made, made), "its loader returns a tuple, expected a dictionary"),  # type: ignore[return-value]
    "no target": (lambda made: {"source": made.take(torch.arange(0))}, "it has no 'target'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_loader_that_differs_from_its_record_is_refused(mistake: str) -> None:
    change, words = MISTAKES[mistake]
    images = torch.zeros(40, 1, 8, 8, dtype=torch.uint8)
    made = Samples(images=images, labels=torch.arange(40) % 2, ids=torch.arange(40))
    record = DataInfo(
        description="", loader=lambda: change(made), sha256=None, input_shape=(1, 8, 8), source_classes=0,
        target_classes=2, source_images=0, target_images=40, test_images=10,
    )  # fmt: skip
    with DATASETS.borrow("of_a_user", record), pytest.raises(ConfigError, match=f"'of_a_user' is not what.*{words}"):
        task_data.load("of_a_user")


@pytest.mark.parametrize(
    ("loader", "words"),
    [
        (lambda: 1 // 0, r"cannot be loaded \(ZeroDivisionError: .*; mend the loader of its DataInfo"),
        (lambda: task_data.load("digits"), "its test_images is 0, expected 1 or more"),
    ],
)
def test_a_loader_that_fails_and_a_target_without_test_images_are_refused(loader: Any, words: str) -> None:
    record = replace(DATASETS["digits"], loader=loader, test_images=0, input_shape=[1, 8, 8])  # type: ignore[arg-type]
    assert record.input_shape == (1, 8, 8)
    with DATASETS.borrow("of_a_user", record), pytest.raises(ConfigError, match=words):
        task_data.load("of_a_user")


def test_data_that_differ_from_the_catalog_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS._records, "digits", replace(DATASETS["digits"], sha256="0" * 64))
    task_data._load.cache_clear()
    with pytest.raises(ConfigError, match="SHA-256"):
        task_data.load("digits")
    task_data._load.cache_clear()
