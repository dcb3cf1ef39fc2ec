"""A folder becomes a data set: what is written is what was asked for, and what is read; whole or not at all."""

import csv
import errno
import itertools
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tailor.common.errors import ConfigError
from tailor.data.arrays import load
from tailor.facts import datasets, manifest
from tailor.prepare.pictures import decode
from tests.tailor.prepare.pictures import class_folders, data, encoded, fill, pack, picture, prepare
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
            pytest.raises(ConfigError, match="that cannot be read: dog .Permission denied.; make it readable for you"),
        ):
            prepare("animals", folder / "images", folder / "root")


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
    assert "'Dog': only test images" in str(refused.value) and "'dog': no test image" in str(refused.value)
    assert "in two spellings" in str(refused.value)


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


def test_problems_of_both_tasks_and_of_an_archive_are_in_one_file(tmp_path: Path) -> None:
    names = [f"{name}/{number}.jpg" for name in ("ant", "cat", "eel") for number in range(5)]
    origin = class_folders(tmp_path / "images", 10, ("ant", "bee", "cat", "dog", "eel"))
    for name in names:
        (origin / name).write_bytes(b"text")
    for place, prefix in ((origin, f"{origin}/"), (pack(origin, tmp_path / "a.zip"), f"{tmp_path}/a.zip: ")):
        with pytest.raises(ConfigError, match="15 images that cannot be read: ant/0.jpg .*and 10 more"):
            prepare("animals", place, tmp_path / "root", "--source-classes", "ant,bee")
        lines = (tmp_path / "root" / "animals.problems.txt").read_text().splitlines()
        assert sorted(line.split("\t")[0] for line in lines) == sorted(f"{prefix}{name}" for name in names)
        assert [path.name for path in (tmp_path / "root").iterdir()] == ["animals.problems.txt"]


def test_a_line_end_in_a_name_breaks_no_message_and_no_list(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photographs")
    (folder / "cat" / "a\nb\t.jpg").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"cat/a\\nb\\t\.jpg \(it is an empty file"):
        prepare("pets", folder, tmp_path / "sets")
    assert (tmp_path / "sets" / "pets.problems.txt").read_text().startswith(f"{folder}/cat/a\\nb\\t.jpg\t")


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
    line = "among the images that are not for testing: "
    assert (line in said) == (line in data("check", tmp_path / "animals")) == is_warned_of
    assert ("cat/0.jpg = cat/again.jpg" in said) == is_warned_of


def test_a_source_class_may_have_a_comma_in_its_name(tmp_path: Path) -> None:
    class_folders(tmp_path / "images", classes=["cat, big", "cat", "dog", "eel", "fox"])
    options = ("--source-classes", '"cat, big"\neel', "--source-classes", "fox")
    assert "source: 15 images of 3 classes" in prepare("animals", tmp_path / "images", tmp_path, *options)


def test_what_the_folder_does_not_say_is_told(tmp_path: Path) -> None:
    """A test split that is drawn, files that no class has, and copies on both sides of that split."""
    origin = class_folders(tmp_path / "images")
    for copy in (f"cat/again_{number}.jpg" for number in range(20)):
        (origin / copy).write_bytes(encoded(0))
    (origin / "readme.txt").write_text("mine")
    stack = [picture(number) for number in (50, 51, 52)]
    stack[0].save(origin / "cat" / "stack.gif", save_all=True, append_images=stack[1:])
    Image.new("RGBA", (12, 12), (200, 100, 50, 9)).save(origin / "cat" / "logo.png")
    said = prepare("animals", origin, tmp_path)
    assert "no test split is given, so one is drawn: 0.2 of each class, at least one image, drawn by seed 0 (" in said
    assert "left out: readme.txt" in said
    assert "1 of 37 images have several frames, of which the first is read: cat/stack.gif" in said
    assert "1 of 37 images are transparent in places, which become black: cat/logo.png" in said
    assert (
        "1 of 37 images have a shorter side below 16 pixels and are enlarged (--image-px): cat/logo.png (12 px)" in said
    )
    for where in ("on the other side of the test split", "among the images that are not for testing"):
        assert where in said and where in data("check", tmp_path / "animals")
    usual = prepare("usual", class_folders(tmp_path / "others"), tmp_path)
    assert "warning" not in usual and "left out" not in usual


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--layout", "cup200"), "no such layout: 'cup200'; did you mean 'cub200'"),
        (("--source-from", "gone"), "gone does not exist; give a folder"),
        (("--source-classes", "dog", "eel"), "one word: --source-classes A,B"),
        (("--class-column", "kind"), "names one of a table; give it in --labels"),
        (("--layout", "cub200", "--labels", __file__), "--labels has no effect"),
        (("--test-fraction", 0.0), "--test-fraction is 0.0"),
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
    (tmp_path / "labels.txt").touch()
    for file in (origin / "cat" / "0.jpg", tmp_path / "labels.txt"):
        with pytest.raises(ConfigError, match="is no archive; .* belongs in --labels"):
            prepare("animals", file, tmp_path / "root")
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


# --- whole or not at all ---


def test_on_a_full_disk_nothing_is_left_and_with_room_the_same_call_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full from each file on that is made durable, of both names."""
    origin, fsync, files_left = class_folders(tmp_path / "images"), os.fsync, 0

    def fsync_while_there_is_room(handle: int) -> None:
        nonlocal files_left
        if stat.S_ISREG(os.fstat(handle).st_mode):
            files_left -= 1
            if files_left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", fsync_while_there_is_room)
    for room in itertools.count():
        root, files_left = tmp_path / f"room for {room}", room
        try:
            prepare("animals", origin, root, "--also", "others")
            break
        except ConfigError as error:
            assert "No space left on device; make room" in str(error)
            assert [*root.iterdir()] == []
    assert sorted(path.name for path in root.iterdir()) == ["animals", "others"]
    assert room >= len(list((root / "animals").iterdir())) + len(list((root / "others").iterdir()))


def test_whatever_fails_while_images_are_written_nothing_is_left(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            prepare("animals", class_folders(tmp_path / "images"), tmp_path / "root")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert [*(tmp_path / "root").iterdir()] == []


PROGRAM = """
import os, signal, sys
from pathlib import Path
from tailor.prepare import pictures
from tests.tailor.prepare.pictures import prepare

decode = pictures.decode

def decode_and_stop(path, image_px):
    if path.name == "3.jpg":
        os.kill(os.getpid(), signal.SIGSTOP)
    return decode(path, image_px)

pictures.decode = decode_and_stop
prepare("animals", Path(sys.argv[1]), Path(sys.argv[2]), "--threads", 1)
"""


@pytest.mark.check
def test_killed_it_leaves_a_hidden_folder_that_any_next_call_removes(tmp_path: Path) -> None:
    archive = pack(class_folders(tmp_path / "images"), tmp_path / "images.tar")
    root = tmp_path / "root"
    words = [sys.executable, "-c", PROGRAM, str(archive), str(root)]
    process = subprocess.Popen(words, cwd=Path(__file__).parents[3])
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    with pytest.raises(ConfigError, match="prepared by another process"):
        prepare("animals", archive, root)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (root / ".animals.preparing" / "a list").touch()
    assert [path.name for path in root.iterdir()] == [".animals.preparing"]
    with pytest.raises(ConfigError, match="no data set 'animals' is prepared"):
        manifest.read(root, "animals")
    with pytest.raises(ConfigError, match="does not exist"):
        prepare("another", tmp_path / "nowhere", root)
    assert list(root.iterdir()) == []
    prepare("animals", archive, root)
    prepare("straight", tmp_path / "images", root)
    assert manifest.read(root, "animals").digest == manifest.read(root, "straight").digest
