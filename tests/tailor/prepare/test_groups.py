"""Groups: all images of an animal, a patient or a field are in one split, and in one draw of each trial."""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from tailor.common.errors import ConfigError
from tailor.config.parsing import parse_trial
from tailor.data import arrays, task_data
from tailor.data.images_file import ListedImage, read_images
from tailor.execution.untrained import split_images
from tailor.facts import manifest
from tailor.methods.recipe import Recipe
from tests.tailor.prepare.pictures import data, fill, prepare

TRIAL = {"network": "resnet18", "method": "head_only", "source": {"weights": "ResNet18_Weights.IMAGENET1K_V1"}}
Rows = list[tuple[str, str, str]]  # image, class, group


def ten_animals() -> Rows:
    """40 images of ten animals, of two kinds."""
    return [(f"{n}.jpg", "cat" if n % 10 < 5 else "dog", f"animal {n % 10}") for n in range(40)]


def prepared(rows: Rows, tmp_path: Path, *options: object, splits: str = "", column: str = "group") -> str:
    """Prepares images of a table; the letters of `splits` say the split of each image."""
    fill(tmp_path / "images", [image for image, _, _ in rows])
    lines = [",".join(row) for row in rows]
    if splits:
        lines = [f"{line},{'train' if letter == 't' else 'test'}" for line, letter in zip(lines, splits, strict=True)]
    head = f"image,class,{column}" + (",split" if splits else "")
    (tmp_path / "labels.csv").write_text("\n".join([head, *lines]))
    return prepare("pets", tmp_path / "images", tmp_path, "--labels", tmp_path / "labels.csv", *options)


def images(tmp_path: Path) -> list[ListedImage]:
    return read_images(tmp_path / "pets" / "images.csv")


def splits_of_groups(tmp_path: Path) -> dict[str, set[str]]:
    found = defaultdict[str, set[str]](set)
    for image in images(tmp_path):
        found[image.group].add(image.split)
    return dict(found)


@pytest.mark.parametrize("seed", range(5))
def test_all_images_of_a_group_are_in_one_split(seed: int, tmp_path: Path) -> None:
    said = prepared(ten_animals(), tmp_path, "--split-seed", seed)
    assert "40 images belong together, in 10 groups" in said
    found = splits_of_groups(tmp_path)
    assert len(found) == 10 and all(len(splits) == 1 for splits in found.values())
    tests = Counter(image.class_name for image in images(tmp_path) if image.split == "test")
    assert tests == {"cat": 4, "dog": 4}  # an animal of each kind, a fifth
    assert "all files are unchanged" in data("check", tmp_path / "pets")


@pytest.mark.parametrize("by_trial", [False, True])
def test_a_trial_draws_groups_whole(by_trial: bool, tmp_path: Path) -> None:
    prepared(ten_animals(), tmp_path, *(("--test-split", "trial") if by_trial else ()))
    group_of = {image.id: image.group for image in images(tmp_path)}
    drawn = set()
    for seed in range(6):
        target = {"name": "pets", "root": str(tmp_path), "train_images": 24, "split_seed": seed}
        config = parse_trial(TRIAL | {"data": target}, "test")
        splits = vars(task_data.splits(Recipe(config).task, config.data.root))
        side = defaultdict[str, set[str]](set)
        for name, part in splits.items():
            for number in part.ids.tolist():
                side[group_of[number]].add(name)
        assert len(side) == 10 and all(len(names) == 1 for names in side.values())
        assert sorted(sum((part.ids.tolist() for part in splits.values()), [])) == sorted(group_of)
        assert [len(part) for part in splits.values()] == split_images(config.data) == [24, 8, 8]
        drawn.add(tuple(splits["train"].ids.tolist()))
    assert len(drawn) > 1


@pytest.mark.parametrize("by_trial", [False, True])
def test_a_group_over_two_classes_is_in_one_split(by_trial: bool, tmp_path: Path) -> None:
    """A field that has wheat and weeds."""
    rows = [(f"{n}.jpg", ("wheat", "weed")[n % 2], f"field {n // 2 % 6}") for n in range(48)]
    prepared(rows, tmp_path, *(("--test-split", "trial") if by_trial else ()))
    found = splits_of_groups(tmp_path)
    assert len(found) == 6 and all(len(splits) == 1 for splits in found.values())
    group = arrays.load(tmp_path, "pets")["target"].group
    assert group is not None and sorted(Counter(group.tolist()).values()) == [8] * 6
    if not by_trial:
        tests = Counter(image.class_name for image in images(tmp_path) if image.split == "test")
        assert tests == {"wheat": 4, "weed": 4}


def test_a_class_of_three_images_and_of_three_groups_is_divided(tmp_path: Path) -> None:
    rows = [*ten_animals(), *((f"fox{n}.jpg", "fox", f"fox {n}") for n in range(3))]
    said = prepared(rows, tmp_path)
    assert "'fox' has 3" in said
    assert Counter(image.split for image in images(tmp_path) if image.class_name == "fox") == {"train": 2, "test": 1}
    target = {"name": "pets", "root": str(tmp_path), "train_images": 24}
    config = parse_trial(TRIAL | {"data": target}, "test")
    splits = task_data.splits(Recipe(config).task, config.data.root)
    assert all(2 in part.labels.tolist() for part in vars(splits).values())


@pytest.mark.parametrize(
    ("rows", "splits", "said"),
    [
        ([*ten_animals(), ("a.jpg", "fox", "f"), ("b.jpg", "fox", "g")], "", "'fox': .*give it 3 groups"),
        ([*ten_animals(), ("a.jpg", "fox", "f"), ("b.jpg", "fox", "f")], "", "'fox': 0 groups for testing, 1 others"),
        (ten_animals(), "t" * 39 + "x", "on both sides of the test split: .*group 'animal 9'"),
        ([*ten_animals(), ("a.jpg", "cat", "")], "", "without a value: .*line 42 .group"),
    ],
)
def test_groups_that_cannot_be_divided_are_refused(rows: Rows, splits: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        prepared(rows, tmp_path, splits=splits)
    assert not (tmp_path / "pets").exists()


@pytest.mark.parametrize("column", ["patient", "Patient ID", "subject_id", "animal", "group_id", "plot no"])
def test_a_column_that_may_be_groups_is_said_and_can_be_given(column: str, tmp_path: Path) -> None:
    said = prepared(ten_animals(), tmp_path, column=column)
    assert f"type --group-column {column!r}" in said
    assert {image.group for image in images(tmp_path)} == {""}
    again = prepare(
        "again", tmp_path / "images", tmp_path, "--labels", tmp_path / "labels.csv", "--group-column", column
    )
    assert "belong together, in 10 groups" in again


def test_other_columns_are_not_said(tmp_path: Path) -> None:
    assert "--group-column" not in prepared(ten_animals(), tmp_path, column="photographer's note")


def test_a_split_that_fits_the_groups_is_kept(tmp_path: Path) -> None:
    splits = "".join("x" if n % 10 in (4, 9) else "t" for n in range(40))
    prepared(ten_animals(), tmp_path, splits=splits)
    assert {group for group, where in splits_of_groups(tmp_path).items() if where == {"test"}} == {
        "animal 4",
        "animal 9",
    }


def test_groups_are_in_both_digests_and_without_them_nothing_changes(tmp_path: Path) -> None:
    rows = ten_animals()
    digests = {}
    for name, groups in {
        "given": rows,
        "others": [(image, kind, f"{n % 20}") for n, (image, kind, _) in enumerate(rows)],
    }.items():
        prepared(groups, tmp_path / name, splits="".join("x" if n % 10 in (4, 9) else "t" for n in range(40)))
        found = manifest.read(tmp_path / name, "pets")
        digests[name] = found.files_digest, found.digest
        assert set(found.array_files) == {*manifest.ARRAY_FILES, manifest.GROUP_FILE}
    assert all(one != other for one, other in zip(digests["given"], digests["others"], strict=True))
    group = arrays.load(tmp_path / "given", "pets")["target"].group
    assert group is not None and len(np.unique(group)) == 10
