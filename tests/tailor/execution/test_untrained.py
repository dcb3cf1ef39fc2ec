"""Classes that a draw of training images misses are named, by the draw itself, before anything is trained."""

import json
from pathlib import Path

import pytest

from tailor.config.data import DataConfig
from tailor.data import task_data
from tailor.execution.untrained import missed_classes
from tailor.methods.recipe import task_of
from tests.tailor.prepare.pictures import BIRDS, class_folders, fill, prepare
from transtailor.__main__ import main

SPEC = f"""{BIRDS}[axes]
data.split_seed = [0, 1, 2, 3, 4, 5]
data.train_images = [6, 14]
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Sixteen images of four classes in addition to the test split; only one of these is of an owl."""
    photographs = class_folders(tmp_path / "photographs", 6, ("jay", "kite", "wren"))
    fill(photographs, ["owl/1.jpg", "owl/2.jpg"], first=50)
    prepare("birds", photographs, tmp_path / "sets", "--image-px", "32")
    return tmp_path / "sets"


def test_they_are_those_of_the_draw(root: Path) -> None:
    missed = set()
    for split_seed in range(8):
        for train_images in (1, 6, 15):
            data = DataConfig(name="birds", root=str(root), train_images=train_images, split_seed=split_seed)
            splits = task_data.splits(task_of(data, 0), data.root)
            for split, samples in (("train", splits.train), ("validation", splits.validation)):
                labels = samples.labels.tolist()
                expected = [name for label, name in enumerate(("jay", "kite", "owl", "wren")) if label not in labels]
                assert list(missed_classes(data, split)) == expected
                missed.update((split, train_images, name) for name in expected)
    assert {("train", 6, "owl"), ("train", 15, "owl"), ("train", 1, "jay"), ("validation", 15, "jay")} <= missed


@pytest.mark.parametrize(("split", "change"), [("train", "raise"), ("validation", "lower")])
def test_the_plan_names_them(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], split: str, change: str
) -> None:
    draws = [
        DataConfig(name="birds", root=str(root), train_images=images, split_seed=seed)
        for seed in range(6)
        for images in (6, 14)
    ]
    spec = tmp_path / "birds.toml"
    spec.write_text(SPEC.format(root=str(root)))
    assert main(["plan", str(spec), "--runs", str(tmp_path / "runs")]) == 0
    kind = "training" if split == "train" else split
    (line,) = [line for line in capsys.readouterr().err.splitlines() if f"no {kind} image" in line]
    missed = [missed_classes(data, split) for data in draws]
    first, classes = next((data, classes) for data, classes in zip(draws, missed, strict=True) if classes)
    images = first.train_images if split == "train" else 16 - first.train_images
    assert line == (
        f"warning: data set birds: no {kind} image, among {images} at data.split_seed = {first.split_seed}, of "
        f"{len(classes)} of its 4 classes: {', '.join(map(repr, classes))}; {change} data.train_images, or prepare the "
        f"images without them; {sum(map(bool, missed)) - 1} other draws of this sweep likewise"
    )


@pytest.mark.parametrize("options", [[], ["--test-split", "trial"]])
def test_the_plan_counts_classes_with_fewer_images_than_asked(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photographs = class_folders(tmp_path / "photographs", 12, ("jay", "kite"))
    fill(photographs, [f"owl/{number}.jpg" for number in range(6)], first=50)
    prepare("birds", photographs, tmp_path / "sets", "--image-px", "32", *options)
    root = str(tmp_path / "sets")
    train_images = 18
    data = DataConfig(name="birds", root=root, train_images=train_images, images_per_class=5)
    labels = task_data.splits(task_of(data, 0), root).train.labels.tolist()
    assert 0 < labels.count(2) < 5 <= labels.count(0) == labels.count(1)
    spec = tmp_path / "birds.toml"
    spec.write_text(BIRDS.format(root=root))
    options = ["--set", f"trial.data.train_images={train_images}", "--set", "trial.data.images_per_class=5"]
    assert main(["plan", str(spec), "--runs", str(tmp_path / "runs"), *options]) == 0
    capsys.readouterr()
    assert main(["plan", str(spec), "--runs", str(tmp_path / "runs"), *options, "--format", "json"]) == 0
    (trial,) = json.loads(capsys.readouterr().out)["tables"]["trials"]
    assert trial["train_images"] == len(labels)


def test_the_plan_says_where_draws_of_images_per_class_stand_apart(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "birds.toml"
    spec.write_text(SPEC.format(root=str(root)).replace("train_images = 6", "train_images = 14, images_per_class = 4"))
    draws = [DataConfig(name="birds", root=str(root), train_images=14, split_seed=seed) for seed in range(6)]
    labels = [task_data.splits(task_of(data, 0), data.root).train.labels for data in draws]
    images = [int(one.bincount(minlength=4).clamp(max=4).sum()) for one in labels]
    assert min(images) < max(images)
    assert main(["plan", str(spec), "--runs", str(tmp_path / "runs"), "--set", "axes.data.train_images=[14]"]) == 0, (
        capsys.readouterr()
    )
    said = f"have {min(images)} to {max(images)} training images: results of each number stand apart"
    assert capsys.readouterr().err.count(said) == 1


@pytest.mark.parametrize("per_class", ["", ", images_per_class = 4"])
def test_the_plan_says_where_copies_change_the_size_of_a_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], per_class: str
) -> None:
    photographs = class_folders(tmp_path / "photographs", 12, ("jay", "kite"))
    for path in list(photographs.rglob("*.jpg")):
        path.with_name(f"again_{path.name}").write_bytes(path.read_bytes())
    prepare("birds", photographs, tmp_path, "--image-px", "32", "--test-split", "trial", "--test-fraction", "0.25")
    data = DataConfig(name="birds", root=str(tmp_path), train_images=25)
    splits = task_data.splits(task_of(data, 0), data.root)
    images = len(splits.train)
    spec = tmp_path / "birds.toml"
    spec.write_text(BIRDS.format(root=str(tmp_path)).replace("train_images = 6", f"train_images = 25{per_class}"))
    assert main(["plan", str(spec), "--runs", str(tmp_path / "runs")]) == 0
    printed = capsys.readouterr()
    assert images != 25
    sizes = (
        f"{8 if per_class else images} for training, {len(splits.validation)} for validation, {len(splits.test)} for"
    )
    assert f"images    birds: {sizes} testing" in printed.out


def test_other_data_have_none(tmp_path: Path) -> None:
    assert missed_classes(DataConfig(name="digits", train_images=1), "train") == ()
    prepare("pool", class_folders(tmp_path / "photographs", 6), tmp_path, "--image-px", "32", "--test-split", "trial")
    assert missed_classes(DataConfig(name="pool", root=str(tmp_path), train_images=6), "train") == ()


def test_the_plan_says_how_many_samples_of_real_values_are_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "few.toml"
    data = '{ name = "friedman1", train_images = 700, images_per_class = 10 }'
    spec.write_text(f'name = "few"\n[trial]\nnetwork = "friedman_mlp"\ndata = {data}\nmethod.name = "fine_tune"\n')
    assert main(["plan", str(spec), "--runs", str(tmp_path / "runs")]) == 0
    assert "friedman1: 10 for training, 100 for validation, 600 for testing" in capsys.readouterr().out
