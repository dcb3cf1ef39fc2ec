"""A folder becomes a data set: what is written is what was asked for, and what is read; whole or not at all."""

import csv
import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from tailor.common.errors import ConfigError
from tailor.data import task_data
from tailor.data.prepared import image_tensor
from tailor.facts import datasets, manifest
from tailor.prepare.arrays import Arrays, load, open_array
from tailor.prepare.decode import decode
from tailor.prepare.images_file import read_images
from tests.shared_data import DATA, needs_data
from tests.tailor.prepare.pictures import class_folders, data, encoded, fill, pack, prepare
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
    written = lines_of(tmp_path / "drinks")  # in UTF-8, as every program reads it
    assert {line["class"] for line in written} == {"caf\\xe9", "tea"}
    assert {line["name"] for line in written if line["class"] != "tea"} == {f"caf\\xe9/{n}.jpg" for n in range(5)}
    assert manifest.read(tmp_path, "drinks").classes["target"] == ("caf\\xe9", "tea")
    assert datasets.info("drinks", str(tmp_path)).test_images == 2
    assert "all files are unchanged" in data("check", tmp_path / "drinks")


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Let nobody read a file or folder, and be nobody, if the tests run as root, who may read all."""
    was = os.geteuid()
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        if was == 0:
            os.seteuid(NOBODY)
        yield
    finally:
        os.seteuid(was)
        path.chmod(mode)


def test_a_folder_that_cannot_be_read_is_named() -> None:
    with tempfile.TemporaryDirectory() as made:  # others than root cannot enter pytest's own
        folder = Path(made)
        folder.chmod(0o777)
        class_folders(folder / "images")
        with (
            unreadable(folder / "images" / "dog"),
            pytest.raises(ConfigError, match=f"{folder}/images/dog cannot be read: Permission denied"),
        ):
            prepare("animals", folder / "images", folder / "root")


@pytest.mark.parametrize("file", ["manifest.json", "images.csv", "target.labels.npy", ""])
def test_a_data_set_that_may_not_be_read_is_not_to_be_removed(file: str) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o755)
        prepare("animals", class_folders(folder / "images"), folder)
        data_set = manifest.read(folder, "animals")
        with (
            unreadable(folder / "animals" / file),
            pytest.raises(ConfigError, match="Permission denied; ask its owner"),
        ):
            manifest.read(folder, "animals")
            read_images(folder / "animals" / "images.csv")
            open_array(folder / "animals", "target.labels.npy", data_set)


def test_the_folder_s_own_splits_are_kept(tmp_path: Path) -> None:
    origin = tmp_path / "images"
    for number, split in enumerate(("train", "val", "test")):
        class_folders(origin / split, per_class=3 - number, first=100 * number)
    said = prepare("animals", origin, tmp_path)
    assert (
        "note: val is not kept apart: each trial draws its validation split from all images but those of test" in said
    )
    assert {(line["split"], line["name"].split("/")[0]) for line in lines_of(tmp_path / "animals")} == {
        (split, split) for split in ("train", "val", "test")
    }
    found = manifest.read(tmp_path, "animals")
    assert (found.source_images, found.source_classes, found.test_images) == (0, 0, 3)
    written = json.loads((tmp_path / "animals" / "manifest.json").read_text())
    assert written["splits"] == {"source": {}, "target": {"test": 3, "train": 9, "val": 6}}
    assert_is_what_plain_decoding_gives(origin, tmp_path, "animals")


def test_val_may_lack_a_class_and_test_may_not(tmp_path: Path) -> None:
    """A trial draws its validation split itself."""
    origin = tmp_path / "images"
    for number, split in enumerate(("train", "val", "test")):
        class_folders(origin / split, per_class=2, first=100 * number)
    shutil.rmtree(origin / "val" / "dog")
    prepare("animals", origin, tmp_path)
    assert json.loads((tmp_path / "animals" / "manifest.json").read_text())["splits"]["target"]["val"] == 4
    (origin / "test" / "dog").rename(origin / "test" / "Dog")
    with pytest.raises(ConfigError) as refused:
        prepare("others", origin, tmp_path)
    assert "splits differ in their classes: 'Dog' (only test images), 'dog' (no test image); " in str(refused.value)
    assert "almost the same name are kept apart: 'Dog' and 'dog'; if they are one class, give" in str(refused.value)


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
    "truncated": (lambda root: (root / "cat" / "0.jpg").write_bytes(encoded(1)[:-150]), "1 of 15 .*cat/0.jpg.*trunc"),
    "no image": (lambda root: (root / "dog" / "1.jpg").write_bytes(b"text"), "1 of 15 .*dog/1.jpg.*no image"),
    "empty class": (lambda root: (root / "fox").mkdir(), "class 'fox' has no images"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_in_the_files_is_named_and_leaves_no_data_set(tmp_path: Path, what: str) -> None:
    origin = class_folders(tmp_path / "images")
    make, said = FAULTS[what]
    make(origin)
    with pytest.raises(ConfigError, match=said):
        prepare("animals", origin, tmp_path / "root")
    assert {path.name for path in (tmp_path / "root").iterdir()} == {"animals.refused.txt", ".animals.preparing"}


def broken_images(origin: Path, names: list[str]) -> None:
    for name in names:
        (origin / name).write_bytes(b"text")


def test_all_broken_images_are_in_a_file_and_what_was_decoded_is_kept(tmp_path: Path) -> None:
    """Of both tasks: else each call would name some more."""
    names = [f"{name}/{number}.jpg" for name in ("ant", "cat", "eel") for number in range(5)]
    origin = class_folders(tmp_path / "images", 20, ("ant", "bee", "cat", "dog", "eel"))
    broken_images(origin, names)
    options = ("--source-classes", "ant,bee")
    listed = tmp_path / "root" / "animals.refused.txt"
    with pytest.raises(ConfigError) as refused:
        prepare("animals", origin, tmp_path / "root", *options)
    said = str(refused.value)
    assert "15 of 100 image files cannot be read: ant/0.jpg" in said and "and 10 more" in said and str(listed) in said
    lines = [line.split("\t") for line in listed.read_text().splitlines()]
    assert sorted(path for path, _ in lines) == sorted(str(origin / name) for name in names)
    assert all("no image that is read here" in reason for _, reason in lines)
    for path, _ in lines:
        Path(path).unlink()
    said = prepare("animals", origin, tmp_path / "root", *options)
    assert "85 of them were decoded by an earlier call, verified and kept" in said
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["animals"]
    assert_is_what_plain_decoding_gives(origin, tmp_path / "root", "animals")


def test_broken_images_of_an_archive_are_named_by_the_archive(tmp_path: Path) -> None:
    names = [f"cat/{number}.jpg" for number in range(6)]
    origin = class_folders(tmp_path / "images", 10)
    broken_images(origin, names)
    packed = pack(origin, tmp_path / "images.zip")
    with pytest.raises(ConfigError, match="6 of 30"):
        prepare("animals", packed, tmp_path / "root")
    listed = (tmp_path / "root" / "animals.refused.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in listed] == [f"{packed}: {name}" for name in names]


def test_all_classes_without_images_are_in_a_file(tmp_path: Path) -> None:
    origin = class_folders(tmp_path / "images")
    for number in range(8):
        (origin / f"empty{number}").mkdir()
    with pytest.raises(ConfigError, match="8 classes have no images.*and 3 more"):
        prepare("animals", origin, tmp_path / "root")
    listed = (tmp_path / "root" / "animals.refused.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in listed] == [str(origin / f"empty{number}") for number in range(8)]
    with pytest.raises(ConfigError, match="gone does not exist"):
        prepare("animals", tmp_path / "gone", tmp_path / "root")


def test_images_that_are_listed_and_missing_are_all_in_a_file(tmp_path: Path) -> None:
    """An official list of which seven images were not unpacked."""
    listed = [f"{name}/{number}.jpg" for name in ("bar", "gym") for number in range(6)]
    fill(tmp_path / "Images", listed[7:])
    (tmp_path / "TrainImages.txt").write_text("\n".join(listed[::2]))
    (tmp_path / "TestImages.txt").write_text("\n".join(listed[1::2]))
    with pytest.raises(ConfigError, match="7 of 12 listed images are not in"):
        prepare("indoor", tmp_path, tmp_path / "root", "--layout", "indoor67")
    lines = (tmp_path / "root" / "indoor.refused.txt").read_text().splitlines()
    assert sorted(line.split("\t")[0] for line in lines) == sorted(
        str(tmp_path / "Images" / name) for name in listed[:7]
    )


def test_own_splits_that_share_an_image_are_refused(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "test")):
        class_folders(tmp_path / "images" / split, per_class=3, first=100 * number)
    (tmp_path / "images" / "test" / "cat" / "copy.jpg").write_bytes(encoded(0))
    again = tmp_path / "images" / "train" / "cat" / "again.jpg"
    again.write_bytes((again.parent / "0.jpg").read_bytes())
    names = "test/cat/copy.jpg = train/cat/0.jpg = train/cat/again.jpg"
    with pytest.raises(ConfigError, match=f"splits overlap: 1 file.*{names}(?s:.)*has each with the reason"):
        prepare("animals", tmp_path / "images", tmp_path / "root")
    assert not (tmp_path / "root" / "animals").exists()


@pytest.mark.parametrize(
    ("options", "is_warned_of"), [(["--split-seed", "2"], True), (["--test-split", "trial"], False)]
)
def test_copies_that_training_and_validation_may_share_are_told(
    options: list[str], is_warned_of: bool, tmp_path: Path
) -> None:
    """Trials divide the images that are not for testing; those of a pool by groups of equal images."""
    origin = class_folders(tmp_path / "images")
    (origin / "cat" / "again.jpg").write_bytes(encoded(0))
    said = prepare("animals", origin, tmp_path, *options)
    line = "warning: 2 images have equal ones among the images that are not for testing: cat/0.jpg = cat/again.jpg;"
    assert (line in said) == (line in data("check", tmp_path / "animals")) == is_warned_of


def test_another_name_is_another_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--also animals is the name of the data set itself"):
        prepare("animals", class_folders(tmp_path / "images"), tmp_path, "--also", "animals")


def test_a_source_class_may_have_a_comma_in_its_name(tmp_path: Path) -> None:
    class_folders(tmp_path / "images", classes=["cat, big", "cat", "dog", "eel", "fox"])
    options = ("--source-classes", '"cat, big"\neel', "--source-classes", "fox")
    assert "source: 15 images of 3 classes" in prepare("animals", tmp_path / "images", tmp_path, *options)


def test_images_that_are_in_both_tasks_are_told(tmp_path: Path) -> None:
    said = prepare("animals", class_folders(tmp_path / "images"), tmp_path, "--source-from", tmp_path / "images")
    assert "warning: 30 images have equal ones in the other task, source or target: cat/0.jpg = cat/0.jpg, " in said


def test_a_test_split_that_takes_images_of_a_validation_split_is_told(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        class_folders(tmp_path / "images" / split)
    said = prepare("animals", tmp_path / "images", tmp_path)
    assert "0.2 of each class, at least one image, drawn by seed 0, from train and val alike (--test-fraction" in said
    assert "note: val is not kept apart" in said


def test_what_the_folder_does_not_say_is_told(tmp_path: Path) -> None:
    """A test split that is drawn, files that no class has, and copies: under two labels, on both sides of the split."""
    origin = class_folders(tmp_path / "images")
    for copy in (*(f"cat/again_{number}.jpg" for number in range(20)), "dog/a_cat.jpg"):
        (origin / copy).write_bytes(encoded(0))
    (origin / "readme.txt").write_text("mine")
    said = prepare("animals", origin, tmp_path)
    assert "no test split is given, so one is drawn: 0.2 of each class, at least one image, drawn by seed 0 (" in said
    assert "1 file(s) are left out, because they are not images in the folder of a class (1 .txt): readme.txt" in said
    assert "warning: 22 images have equal ones in another class: cat/0.jpg = dog/a_cat.jpg = cat/again_0.jpg = " in said
    assert "warning: 22 images have equal ones on the other side of the test split: cat/" in said
    checked = data("check", tmp_path / "animals")
    for warning in (line for line in said.splitlines() if line.startswith("warning")):
        assert warning.partition(" = ")[0] in checked  # which names more of the copies
    (of,) = [line for line in lines_of(tmp_path / "animals") if line["name"] == "dog/a_cat.jpg"]
    assert of["class"] == "dog"  # told, not decided
    usual = prepare("usual", class_folders(tmp_path / "others"), tmp_path)
    assert "warning" not in usual and "left out" not in usual


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--layout", "cup200"), "no such layout: 'cup200'; did you mean 'cub200'"),
        (("--image-px", 4), "--image-px is 4; expected a side"),
        (("--source-from", "gone"), "gone does not exist; give .* in --source-from"),
        (("--source-classes", "dog", "eel"), "eel does not exist; .*one word: --source-classes A,B"),
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
        with pytest.raises(ConfigError, match="cannot be called .*: use a-z, A-Z, 0-9"):
            prepare(name, origin, tmp_path / "root")
    with pytest.raises(ConfigError, match="at most 100 characters"):
        prepare("a" * 101, origin, tmp_path / "root")
    with pytest.raises(ConfigError, match="gone does not exist"):
        prepare("animals", tmp_path / "gone", tmp_path / "root")
    (tmp_path / "labels.txt").touch()
    for file in (origin / "cat" / "0.jpg", tmp_path / "labels.txt"):
        with pytest.raises(ConfigError, match="neither a folder nor an archive.*unpacked.* belongs in --labels"):
            prepare("animals", [origin, file], tmp_path / "root")
    with pytest.raises(ConfigError, match="cannot write to"):
        prepare("animals", origin, fill(tmp_path, ["file.jpg"]) / "file.jpg")


@pytest.mark.parametrize("inside", ["", "sets"])
def test_data_sets_among_the_images_are_refused_before_they_count_as_a_class(inside: str, tmp_path: Path) -> None:
    origin = class_folders(tmp_path / "images")
    (tmp_path / "link").symlink_to(origin)
    with pytest.raises(ConfigError, match="is in the folder of the images, .*; give a folder outside of it"):
        prepare("animals", origin, tmp_path / "link" / inside)
    assert sorted(path.name for path in origin.iterdir()) == ["cat", "dog", "eel"]
    assert "of 3 classes" in prepare("animals", origin, tmp_path / "images of all")


def test_a_data_set_is_never_written_over(tmp_path: Path) -> None:
    origin = class_folders(tmp_path / "images")
    prepare("animals", origin, tmp_path)
    before = (tmp_path / "animals" / "manifest.json").read_bytes()
    with pytest.raises(ConfigError, match="is there already"):
        prepare("animals", origin, tmp_path, "--split-seed", 3)
    assert (tmp_path / "animals" / "manifest.json").read_bytes() == before


def test_photographs_are_not_taken_for_a_data_set_to_be_removed(tmp_path: Path) -> None:
    """Else who checks the photographs themselves is sent to `data prepare`, and from there to remove them."""
    origin = class_folders(tmp_path / "animals")
    with pytest.raises(ConfigError) as refused:
        data("check", origin)
    typed = shlex.split(str(refused.value).rpartition("type: ")[2])
    assert typed[-7:] == ["data", "prepare", "animals", "--from", str(origin), "--to", str(tmp_path / "datasets")]
    data("prepare", *typed[-5:])
    assert "all files are unchanged" in data("check", tmp_path / "datasets" / "animals")
    assert f"whose root is {typed[-1]}; type:" in str(refused.value)
    with pytest.raises(ConfigError, match=f"did you mean '{tmp_path / 'datasets' / 'animals'}'"):
        datasets.info("animals", str(tmp_path))  # the root of the photographs
    with pytest.raises(ConfigError, match="is there already and is no data set; choose another name") as refused:
        prepare("animals", origin, tmp_path)
    assert "remove" not in str(refused.value)


def test_a_data_set_that_is_elsewhere_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare("animals", class_folders(tmp_path / "images"), tmp_path / "datasets")
    monkeypatch.chdir(tmp_path)
    for typed in ("animals", "datasets"):  # without its root, and the root itself
        with pytest.raises(ConfigError, match=f"{tmp_path / 'datasets' / 'animals'}"):
            data("check", typed)
    with pytest.raises(ConfigError, match=f"is a data set itself; its root is {tmp_path / 'datasets'}"):
        datasets.info("animals", str(tmp_path / "datasets" / "animals"))
    with pytest.raises(ConfigError, match=f"is a data set itself; its root is {tmp_path / 'datasets'}"):
        data("check", tmp_path / "datasets" / "animals" / "manifest.json")


def test_an_official_data_set_with_images_and_lists_apart(tmp_path: Path) -> None:
    fill(tmp_path / "images" / "Images", ["bar/a.jpg", "bar/b.jpg", "gym/a.jpg", "gym/b.jpg"])
    packed = pack(tmp_path / "images", tmp_path / "indoorCVPR_09.tar")
    (tmp_path / "TrainImages.txt").write_text("bar/a.jpg\ngym/a.jpg")
    (tmp_path / "TestImages.txt").write_text("bar/b.jpg\ngym/b.jpg")
    origins = [packed, tmp_path / "TrainImages.txt", tmp_path / "TestImages.txt"]
    with pytest.raises(ConfigError, match="TrainImages|indoorCVPR_09.tar has SHA-1 .* type --unofficial"):
        prepare("indoor", origins, tmp_path, "--layout", "indoor67")
    said = prepare("indoor", origins, tmp_path, "--layout", "indoor67", "--unofficial")
    assert "2 classes, and there are 67; 4 images, and there are 6,700" in said
    assert_is_what_plain_decoding_gives(tmp_path / "images" / "Images", tmp_path, "indoor")
    assert manifest.read(tmp_path, "indoor").test_images == 2


def test_caltech_leaves_60_images_of_each_class_to_train_on(tmp_path: Path) -> None:
    class_folders(tmp_path / "256_ObjectCategories", per_class=62, classes=("001.ak47", "002.flag", "257.clutter"))
    prepare("caltech", tmp_path, tmp_path / "root", "--layout", "caltech256", "--unofficial")
    of = load(tmp_path / "root", "caltech")["target"]
    assert [int((~of.is_test[of.labels == label]).sum()) for label in (0, 1)] == [60, 60]
    assert manifest.read(tmp_path / "root", "caltech").test_images == 4
    prepare("fifth", tmp_path, tmp_path / "root", "--layout", "caltech256", "--unofficial", "--test-fraction", 0.5)
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
