"""A folder becomes a data set: what is written is what was asked for, and what is read; whole or not at all."""

import csv
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tailor.catalogue import datasets, manifest
from tailor.core.errors import ConfigError
from tailor.data import task_data
from tailor.data.prepared import image_tensor
from tailor.prepare.arrays import Arrays, load
from tailor.prepare.decode import decode
from tests.shared_data import DATA, needs_data
from tests.tailor.prepare.pictures import class_folders, encoded, fill, pack, prepare
from transtailor.shell import command as to_type

PHOTOGRAPHS = "trashnet6"
NOBODY = 65534


def lines_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "images.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def assert_is_what_plain_decoding_gives(origin: Path, root: Path, name: str, image_px: int = 16) -> None:
    """The slow and obvious reference: every line of images.csv, its file decoded alone."""
    arrays, found = load(root, name), manifest.read(root, name)
    names = found.classes
    seen = {"source": 0, "target": 0}
    for line in lines_of(root / name):
        task, place = line["task"], seen[line["task"]]
        of = arrays[task]
        expected = decode(origin / line["name"], image_px).pixels
        assert expected is not None
        np.testing.assert_array_equal(of.images[place], expected)
        assert int(of.ids[place]) == int(line["id"])
        assert names[task][int(of.labels[place])] == line["class"] == Path(line["name"]).parent.name
        assert bool(of.is_test[place]) == (task == "target" and line["split"] == "test")
        seen[task] += 1
    assert seen == {task: len(of) for task, of in arrays.items()}


def test_a_folder_becomes_a_data_set(tmp_path: Path) -> None:
    origin = class_folders(tmp_path / "animals", per_class=5, classes=("cat", "cow", "dog", "eel"))
    said = prepare("animals", origin, tmp_path / "root", "--source-classes", "dog,eel")
    found = manifest.read(tmp_path / "root", "animals")
    assert (found.name, found.input_shape) == ("animals", (3, 16, 16))
    assert found.classes == {"source": ("dog", "eel"), "target": ("cat", "cow")}
    assert (found.source_images, found.target_images, found.test_images) == (10, 10, 2)
    assert (found.source_classes, found.target_classes) == (2, 2)
    assert_is_what_plain_decoding_gives(origin, tmp_path / "root", "animals")
    assert found.digest in said and to_type("data", "check") in said
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["animals"]


def test_a_set_that_is_prepared_again_is_read_again(tmp_path: Path) -> None:
    """In one process, such as a notebook."""
    origin, seen = class_folders(tmp_path / "animals"), []
    for image_px in (16, 24):
        prepare("animals", origin, tmp_path / "root", "--image-px", image_px)
        info = datasets.info("animals", str(tmp_path / "root"))
        images = task_data.load("animals", str(tmp_path / "root"))["target"].images
        assert info.sha256 == manifest.read(tmp_path / "root", "animals").digest
        assert info.input_shape == tuple(images.shape[1:])
        seen.append(images.shape[-1])
        shutil.rmtree(tmp_path / "root" / "animals")
    assert seen == [16, 24]
    with pytest.raises(ConfigError, match="no data set 'animals' is prepared"):
        datasets.info("animals", str(tmp_path / "root"))


def test_names_that_are_not_utf_8_are_drawn_and_listed(tmp_path: Path) -> None:
    """As on disks of older systems, here in Latin-1."""
    latin = os.fsdecode(b"caf\xe9")
    prepare("drinks", class_folders(tmp_path / "images", classes=(latin, "tea")), tmp_path)
    with (tmp_path / "drinks" / "images.csv").open(newline="", errors="surrogateescape") as file:
        assert {line["class"] for line in csv.DictReader(file)} == {latin, "tea"}
    assert datasets.info("drinks", str(tmp_path)).test_images == 2


def test_a_folder_that_cannot_be_read_is_named() -> None:
    was = os.geteuid()
    with tempfile.TemporaryDirectory() as made:  # others than root cannot enter pytest's own
        folder = Path(made)
        folder.chmod(0o777)
        class_folders(folder / "images")
        (folder / "images" / "dog").chmod(0)
        try:
            if was == 0:
                os.seteuid(NOBODY)
            with pytest.raises(ConfigError, match=f"{folder}/images/dog cannot be read: Permission denied"):
                prepare("animals", folder / "images", folder / "root")
        finally:
            os.seteuid(was)
            (folder / "images" / "dog").chmod(0o700)


def test_the_folder_s_own_splits_are_kept(tmp_path: Path) -> None:
    origin = tmp_path / "images"
    for number, split in enumerate(("train", "val", "test")):
        class_folders(origin / split, per_class=3 - number, first=100 * number)
    prepare("animals", origin, tmp_path)
    assert {(line["split"], line["name"].split("/")[0]) for line in lines_of(tmp_path / "animals")} == {
        (split, split) for split in ("train", "val", "test")
    }
    found = manifest.read(tmp_path, "animals")
    assert (found.source_images, found.source_classes, found.test_images) == (0, 0, 3)
    written = json.loads((tmp_path / "animals" / "manifest.json").read_text())
    assert written["splits"] == {"source": {}, "target": {"test": 3, "train": 9, "val": 6}}
    assert_is_what_plain_decoding_gives(origin, tmp_path, "animals")


def test_more_images_than_a_chunk_and_more_threads(tmp_path: Path) -> None:
    origin = class_folders(tmp_path / "animals", per_class=100)
    prepare("one", origin, tmp_path, "--threads", 1)
    prepare("three", origin, tmp_path, "--threads", 3)
    assert_is_what_plain_decoding_gives(origin, tmp_path, "three")
    assert manifest.read(tmp_path, "one").digest == manifest.read(tmp_path, "three").digest


def test_an_archive_gives_what_its_folder_gives(tmp_path: Path) -> None:
    origin = class_folders(tmp_path / "animals")
    prepare("of_folder", origin, tmp_path)
    for number, kind in enumerate(("a.zip", "a.tgz", "a.tar")):
        prepare(f"of_archive_{number}", pack(origin, tmp_path / kind), tmp_path)
        found = manifest.read(tmp_path, f"of_archive_{number}")
        assert found.digest == manifest.read(tmp_path, "of_folder").digest
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_second_folder_may_be_the_source(tmp_path: Path) -> None:
    target = class_folders(tmp_path / "animals", per_class=3)
    source = pack(class_folders(tmp_path / "others", per_class=2, classes=("ant", "bee"), first=50), tmp_path / "s.zip")
    prepare("both", target, tmp_path, "--source-from", source)
    found, arrays = manifest.read(tmp_path, "both"), load(tmp_path, "both")
    assert found.classes["source"] == ("ant", "bee") and found.source_images == 4
    expected = decode(tmp_path / "others" / "ant" / "0.jpg", 16).pixels
    assert expected is not None
    np.testing.assert_array_equal(arrays["source"].images[0], expected)
    assert len({*arrays["source"].ids.tolist(), *arrays["target"].ids.tolist()}) == 13


def test_the_digest_changes_with_all_that_training_reads_and_with_nothing_else(tmp_path: Path) -> None:
    origin = class_folders(tmp_path / "animals")
    options: dict[str, tuple[object, ...]] = {
        "same": (),
        "seed": ("--split-seed", 1),
        "fraction": ("--test-fraction", 0.4),
        "source": ("--source-from", class_folders(tmp_path / "others", classes=("ant", "bee"), first=70)),
    }
    digests = {}
    for name, typed in options.items():
        prepare(name, origin, tmp_path, *typed)
        digests[name] = manifest.read(tmp_path, name).digest
    prepare("moved", origin.rename(tmp_path / "elsewhere"), tmp_path)
    assert manifest.read(tmp_path, "moved").digest == digests["same"]
    (tmp_path / "elsewhere" / "cat" / "0.jpg").write_bytes(encoded(99))
    prepare("pixels", tmp_path / "elsewhere", tmp_path)
    digests["pixels"] = manifest.read(tmp_path, "pixels").digest
    assert len(set(digests.values())) == len(digests)


def test_the_arrays_cannot_be_written_to(tmp_path: Path) -> None:
    prepare("animals", class_folders(tmp_path / "images"), tmp_path)
    of = load(tmp_path, "animals")["target"]
    assert isinstance(of.images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        of.images[0] = 0


@pytest.mark.filterwarnings("error")
def test_the_tensor_shares_the_pages_and_never_changes_the_file(tmp_path: Path) -> None:
    prepare("animals", class_folders(tmp_path / "images"), tmp_path)
    tasks = load(tmp_path, "animals")
    of: Arrays = tasks["target"]
    tensor = image_tensor(of.images)
    assert tensor.dtype == torch.uint8 and torch.equal(tensor, torch.from_numpy(np.array(of.images)))
    before = (tmp_path / "animals" / "target.images.npy").read_bytes()
    tensor.zero_()
    assert (tmp_path / "animals" / "target.images.npy").read_bytes() == before
    assert image_tensor(tasks["source"].images).shape == (0, 3, 16, 16)


FAULTS = {
    "truncated": (lambda root: (root / "cat" / "0.jpg").write_bytes(encoded(1)[:-150]), "1 file.*cat/0.jpg.*truncated"),
    "no image": (lambda root: (root / "dog" / "1.jpg").write_bytes(b"text"), "1 file.*dog/1.jpg"),
    "empty class": (lambda root: (root / "fox").mkdir(), "class 'fox' has no images"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_in_the_files_is_named_and_leaves_nothing(tmp_path: Path, what: str) -> None:
    origin = class_folders(tmp_path / "images")
    make, said = FAULTS[what]
    make(origin)
    with pytest.raises(ConfigError, match=said):
        prepare("animals", origin, tmp_path / "root")
    assert list((tmp_path / "root").iterdir()) == []


def test_all_broken_images_are_counted(tmp_path: Path) -> None:
    origin = class_folders(tmp_path / "images")
    for number in range(4):
        (origin / "eel" / f"{number}.jpg").write_bytes(b"text")
    with pytest.raises(ConfigError, match=r"4 file\(s\) .*eel/0.jpg.*eel/3.jpg"):
        prepare("animals", origin, tmp_path)


def test_own_splits_that_share_an_image_are_refused(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "test")):
        class_folders(tmp_path / "images" / split, per_class=3, first=100 * number)
    (tmp_path / "images" / "test" / "cat" / "copy.jpg").write_bytes(encoded(0))
    with pytest.raises(ConfigError, match="splits overlap: 1 file.*test/cat/copy.jpg = train/cat/0.jpg"):
        prepare("animals", tmp_path / "images", tmp_path / "root")
    assert list((tmp_path / "root").iterdir()) == []


def test_what_the_folder_does_not_say_is_told(tmp_path: Path) -> None:
    """A test split that is drawn, files that no class has, and copies: under two labels, on both sides of the split."""
    origin = class_folders(tmp_path / "images")
    for copy in (*(f"cat/again_{number}.jpg" for number in range(20)), "dog/a_cat.jpg"):
        (origin / copy).write_bytes(encoded(0))
    (origin / "readme.txt").write_text("mine")
    said = prepare("animals", origin, tmp_path)
    assert "no test split is given, so one is drawn: 0.2 of each class, drawn by seed 0" in said
    assert "1 file(s) are left out, because they are not images in the folder of a class: readme.txt" in said
    assert "warning: 1 file(s) have more than one label: cat/0.jpg = dog/a_cat.jpg" in said
    assert "warning: splits overlap: 1 file(s) are in more than one split: cat/" in said
    (of,) = [line for line in lines_of(tmp_path / "animals") if line["name"] == "dog/a_cat.jpg"]
    assert of["class"] == "dog"  # told, not decided
    usual = prepare("usual", class_folders(tmp_path / "others"), tmp_path)
    assert "warning" not in usual and "left out" not in usual


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--layout", "cup200"), "no such layout: 'cup200'; did you mean 'cub200'"),
        (("--image-px", 4), "--image-px is 4; expected a side"),
        (("--threads", 0), "--threads is 0"),
        (("--source-from", "gone"), "gone does not exist"),
        (("--source-classes", "cat,dgo"), "no such class: 'dgo'; did you mean 'dog'"),
    ],
)
def test_what_is_typed_wrong_is_told(tmp_path: Path, options: tuple[object, ...], said: str) -> None:
    origin = class_folders(tmp_path / "images")
    with pytest.raises(ConfigError, match=said):
        prepare("animals", origin, tmp_path / "root", *options)
    assert not (tmp_path / "root").exists() or list((tmp_path / "root").iterdir()) == []


def test_names_and_places_that_cannot_be_are_refused(tmp_path: Path) -> None:
    origin = class_folders(tmp_path / "images")
    for name in ("../out", ".hidden", "a/b", ""):
        with pytest.raises(ConfigError, match="cannot be called"):
            prepare(name, origin, tmp_path / "root")
    with pytest.raises(ConfigError, match="gone does not exist"):
        prepare("animals", tmp_path / "gone", tmp_path / "root")
    with pytest.raises(ConfigError, match="neither a folder nor an archive"):
        prepare("animals", origin / "cat" / "0.jpg", tmp_path / "root")
    with pytest.raises(ConfigError, match="cannot write to"):
        prepare("animals", origin, origin / "cat" / "0.jpg")


def test_a_data_set_is_never_written_over(tmp_path: Path) -> None:
    origin = class_folders(tmp_path / "images")
    prepare("animals", origin, tmp_path)
    before = (tmp_path / "animals" / "manifest.json").read_bytes()
    with pytest.raises(ConfigError, match="is there already"):
        prepare("animals", origin, tmp_path, "--split-seed", 3)
    assert (tmp_path / "animals" / "manifest.json").read_bytes() == before


def test_an_official_data_set_with_images_and_lists_apart(tmp_path: Path) -> None:
    fill(tmp_path / "images" / "Images", ["bar/a.jpg", "bar/b.jpg", "gym/a.jpg", "gym/b.jpg"])
    packed = pack(tmp_path / "images", tmp_path / "indoorCVPR_09.tar")
    (tmp_path / "TrainImages.txt").write_text("bar/a.jpg\ngym/a.jpg")
    (tmp_path / "TestImages.txt").write_text("bar/b.jpg\ngym/b.jpg")
    origins = [packed, tmp_path / "TrainImages.txt", tmp_path / "TestImages.txt"]
    said = prepare("indoor", origins, tmp_path, "--layout", "indoor67")
    assert "the complete official data set has 6700" in said
    assert_is_what_plain_decoding_gives(tmp_path / "images" / "Images", tmp_path, "indoor")
    assert manifest.read(tmp_path, "indoor").test_images == 2


def test_caltech_leaves_60_images_of_each_class_to_train_on(tmp_path: Path) -> None:
    class_folders(tmp_path / "256_ObjectCategories", per_class=62, classes=("001.ak47", "002.flag", "257.clutter"))
    prepare("caltech", tmp_path, tmp_path / "root", "--layout", "caltech256")
    of = load(tmp_path / "root", "caltech")["target"]
    assert [int((~of.is_test[of.labels == label]).sum()) for label in (0, 1)] == [60, 60]
    assert manifest.read(tmp_path / "root", "caltech").test_images == 4
    prepare("fifth", tmp_path, tmp_path / "root", "--layout", "caltech256", "--test-fraction", 0.5)
    assert manifest.read(tmp_path / "root", "fifth").test_images == 62


@pytest.mark.check
@needs_data(PHOTOGRAPHS)
def test_real_photographs(tmp_path: Path) -> None:
    origin = DATA / PHOTOGRAPHS
    command = ("--image-px", 176, "--source-classes", "metal,paper")
    prepare("trashnet", origin, tmp_path, *command)
    found = manifest.read(tmp_path, "trashnet")
    assert (found.source_images, found.target_images, found.test_images) == (1004, 1518, 301)
    assert_is_what_plain_decoding_gives(origin, tmp_path, "trashnet", image_px=176)
