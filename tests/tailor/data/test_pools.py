"""A pool: its three splits are drawn by each trial, classes keep their shares, images that look alike stay together."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tailor.common.errors import ConfigError
from tailor.config.parsing import parse_trial
from tailor.config.trial import TrialConfig
from tailor.data import arrays, task_data
from tailor.data.pool_draw import draw_splits
from tailor.data.task_data import Splits
from tailor.execution.dry_run import dry_run
from tailor.facts import manifest
from tailor.facts.datasets import info
from tailor.facts.pool import split_sizes
from tailor.methods.recipe import Recipe
from tests.tailor.prepare.pictures import class_folders, data, encoded, picture, prepare
from transtailor.__main__ import main

CLASSES = {"cat": 20, "dog": 10, "eel": 30}
POOL = ("--test-split", "trial", "--image-px", 32)
Draw = dict[str, list[int]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool of 60 images and, as its source task, 12 more; four files are copies, compressed anew."""
    folder = tmp_path_factory.mktemp("pooled")
    for number, (name, count) in enumerate({**CLASSES, "ant": 6, "bee": 6}.items()):
        class_folders(folder / "images", count - (2 if name in ("cat", "eel") else 0), (name,), first=100 * number)
    for name, original in (("cat", 3), ("eel", 203)):
        for quality in (50, 60):
            (folder / "images" / name / f"again{quality}.jpg").write_bytes(encoded(original, quality=quality))
    said = prepare("animals", folder / "images", folder / "data", *POOL, "--source-classes", "ant,bee")
    assert "6 images belong together or look like another one, in 2 groups; each stays whole" in said
    assert "60 images of 3 classes (cat, dog, eel), 12 of them test images, drawn by each trial" in said
    return folder / "data"


def trial(root: Path, split_seed: int = 0, **settings: Any) -> TrialConfig:
    values = {"network": "resnet18", "method": "head_only", "optimisation": {"head_epochs": 1, "batch_size": 8}}
    target = {"name": "animals", "root": str(root), "train_images": 36, "split_seed": split_seed}
    return parse_trial(values | {"source": {"epochs": 1}, "data": target} | settings, "test")


def splits_of(config: TrialConfig) -> Splits:
    return task_data.splits(Recipe(config).task, config.data.root)


def drawn(root: Path, split_seed: int) -> Draw:
    splits = splits_of(trial(root, split_seed))
    return {name: part.ids.tolist() for name, part in vars(splits).items()}


@pytest.mark.parametrize("seed", range(5))
def test_the_three_splits_are_disjoint_and_are_the_pool(root: Path, seed: int) -> None:
    found = drawn(root, seed)
    assert {name: len(ids) for name, ids in found.items()} == {"train": 36, "validation": 12, "test": 12}
    assert sorted(sum(found.values(), [])) == arrays.load(root, "animals")["target"].ids.tolist()


def test_the_split_seed_alone_draws_all_three(root: Path) -> None:
    task_data.splits.cache_clear()
    first = drawn(root, 1)
    task_data.splits.cache_clear()
    other = drawn(root, 2)
    assert drawn(root, 1) == first
    assert all(set(other[name]) != set(ids) for name, ids in first.items())
    keys = {stage.key for stage in dry_run(trial(root, 1)).stages} & {s.key for s in dry_run(trial(root, 2)).stages}
    assert len(keys) == 1  # the source network


@pytest.mark.parametrize("seed", range(20))
def test_images_that_look_alike_are_on_one_side(root: Path, seed: int) -> None:
    of = arrays.load(root, "animals")["target"]
    assert of.group is not None
    side = {number: name for name, ids in drawn(root, seed).items() for number in ids}
    sides = [{side[int(n)] for n in of.ids[of.group == group]} for group in np.unique(of.group)]
    assert len(sides) == 56 and all(len(found) == 1 for found in sides)


def test_a_few_images_of_each_class_come_from_the_training_split(root: Path) -> None:
    target = {"name": "animals", "root": str(root), "train_images": 36, "images_per_class": 5}
    few = splits_of(trial(root, data=target)).train
    assert torch.bincount(few.labels).tolist() == [5, 5, 5]
    assert set(few.ids.tolist()) < set(drawn(root, 0)["train"])


def test_single_images_are_in_each_split_as_often_as_its_size_says() -> None:
    """Drawn group by group, yet each image is a test image in a fifth of the draws: 5 standard deviations are 0.1."""
    pool = {"a": 10, "b": 20}
    labels = torch.tensor([0] * 10 + [1] * 20)
    count = torch.zeros(30)
    for seed in range(400):
        parts = draw_splits(labels, torch.arange(30), split_sizes(pool, 18, 6), torch.Generator().manual_seed(seed))
        assert [len(part) for part in parts] == [18, 6, 6]
        count[parts[2]] += 1
    assert (count / 400 - 0.2).abs().max() < 0.1


def test_a_group_without_room_stays_whole_and_sizes_give_way() -> None:
    labels, groups = torch.zeros(12, dtype=torch.int64), torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    parts = draw_splits(labels, groups, split_sizes({"a": 12}, 6, 3), torch.Generator().manual_seed(0))
    assert sorted(len(part) for part in parts) == [4, 4, 4]
    assert sorted(len(set(groups[part].tolist())) for part in parts) == [1, 1, 1]
    one = torch.zeros(12, dtype=torch.int64)
    with pytest.raises(ConfigError, match="class 'a' cannot be divided: 12 images are in too few groups"):
        draw_splits(labels, one, split_sizes({"a": 12}, 8, 2), torch.Generator().manual_seed(0))


def test_sizes_by_class_add_up_and_are_next_to_their_shares() -> None:
    pool = {f"class {number}": 10 + 3 * number for number in range(17)}
    whole = sum(pool.values())
    for train, test in ((300, 100), (301, 99), (450, 60)):
        sizes = split_sizes(pool, train, test)
        assert [sum(size) for size in sizes.values()] == [*pool.values()]
        assert (sum(size.train for size in sizes.values()), sum(size.test for size in sizes.values())) == (train, test)
        for name, count in pool.items():
            assert math.floor(test * count / whole) <= sizes[name].test <= math.ceil(test * count / whole)
            assert abs(sizes[name].train - train * count / whole) < 2


def test_a_plan_knows_the_sizes(root: Path) -> None:
    found = info("animals", str(root))
    assert (found.target_images, found.test_images, found.pool) == (60, 12, CLASSES)
    fewer = trial(root, data={"name": "animals", "root": str(root), "train_images": 30})
    whole, part = ({stage.kind: stage.work for stage in dry_run(config).stages} for config in (trial(root), fewer))
    assert part["operating_point"] / whole["operating_point"] == pytest.approx(30 / 24)  # validation and test images


@pytest.mark.parametrize(
    ("train_images", "said"),
    [
        (
            48,
            "leaves no validation image: animals has 48 target images in addition to its 12 test images; choose fewer",
        ),
        (
            46,
            "class 'dog' has 10 images, too few .* 8 for training, 0 for validation.*: lower data.train_images, or",
        ),
        (2, "it would have 0 for training, .*: raise data.train_images, or"),
    ],
)
def test_a_pool_that_is_too_small_for_a_class_is_refused_with_2(
    train_images: int, said: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trial.toml").write_text(
        f'network = "resnet18"\nmethod.name = "head_only"\n[data]\nname = "animals"\nroot = "{root}"\n'
        f"train_images = {train_images}\n"
    )
    assert main(["trial", "run", str(tmp_path / "trial.toml"), "--plan"]) == 2
    found = capsys.readouterr().err
    with pytest.raises(ConfigError, match=said):
        trial(root, data={"name": "animals", "root": str(root), "train_images": train_images})
    assert "Traceback" not in found and "train_images" in found


def test_a_class_of_two_groups_is_no_pool(tmp_path: Path) -> None:
    class_folders(tmp_path / "images", 5)
    class_folders(tmp_path / "images", 1, ("fox", "gnu"), first=300)
    for number in range(2):
        (tmp_path / "images" / "fox" / f"again{number}.jpg").write_bytes(encoded(300, quality=50 + 10 * number))
    with pytest.raises(ConfigError, match=r"'fox' has 3 images in 1 group.*3 or more groups"):
        prepare("animals", tmp_path / "images", tmp_path / "data", *POOL)
    assert not (tmp_path / "data" / "animals").exists()
    (tmp_path / "images" / "gnu" / "0.jpg").rename(tmp_path / "images" / "fox" / "gnu.jpg")
    (tmp_path / "images" / "gnu").rmdir()
    said = prepare("animals", tmp_path / "images", tmp_path / "data", "--image-px", 32)  # with a fixed test split
    assert "19 images of 4 classes" in said
    stored = {path.name for path in (tmp_path / "data" / "animals").iterdir()}
    assert stored == {*manifest.ARRAY_FILES, manifest.IMAGES_FILE, manifest.MANIFEST_FILE}


def test_the_folders_own_splits_are_pooled_too(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "test")):
        class_folders(tmp_path / "images" / split, 5, first=100 * number)
    said = prepare("animals", tmp_path / "images", tmp_path, *POOL, "--test-fraction", 0.3)
    assert "note: the images' own splits are not used: each trial draws its own" in said
    found = manifest.read(tmp_path, "animals")
    assert (found.target_images, found.test_images, found.class_images) == (30, 9, (10, 10, 10))
    written = json.loads((tmp_path / "animals" / "manifest.json").read_text())
    assert written["splits"]["target"] == {"pool": 30}


def test_a_pool_at_several_sizes_is_the_same_draw(tmp_path: Path) -> None:
    """So sizes of images can be compared in pairs; groups of images that look alike depended on the size."""
    images = tmp_path / "images"
    class_folders(images, 12, ("ant", "bee", "cat", "dog", "eel"))
    for number in (3, 27):  # nearly the same: small images of them differ in other bits than large ones
        noisy = np.asarray(picture(number)).astype(int) + np.random.default_rng(number).integers(-30, 31, (32, 40, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(images / "cat" / f"noisy{number}.png")
    drawn_files = {}
    for image_px in (16, 24, 33, 64, 90):
        options = ("--test-split", "trial", "--image-px", image_px, "--source-classes", "ant,bee")
        prepare(f"at_{image_px}", images, tmp_path, *options)
        groups = arrays.load(tmp_path, f"at_{image_px}")["target"].group
        assert groups is not None
        split_files = [groups.tolist()]
        for seed in range(3):
            data_config = {"name": f"at_{image_px}", "root": str(tmp_path), "train_images": 20, "split_seed": seed}
            splits = splits_of(trial(tmp_path, data=data_config))
            split_files += [part.ids.tolist() for part in vars(splits).values()]
        drawn_files[image_px] = split_files
    assert all(files == drawn_files[16] for files in drawn_files.values())


def test_a_pool_is_checked_as_every_data_set(tmp_path: Path) -> None:
    class_folders(tmp_path / "images", 5)
    prepare("animals", tmp_path / "images", tmp_path, *POOL)
    folder = tmp_path / "animals"
    said = data("check", folder)
    assert "all files are unchanged" in said and "train and test" not in said
    assert "0 images belong together or look like another one, in 0 groups\n" in said
    content = bytearray((folder / "target.group.npy").read_bytes())
    (folder / "target.group.npy").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ConfigError, match=r"target.group.npy is not the file that the manifest describes"):
        arrays.load(tmp_path, "animals")
