"""`data check`: every byte verified, faults named; pairs of images that look alike found, and no others."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailor.common.errors import ConfigError
from tailor.facts import manifest
from tailor.facts.manifest import ARRAY_FILES, IMAGES_FILE
from tailor.prepare import arrays
from tailor.prepare.decode import decode
from tailor.prepare.duplicates import look_alikes
from tailor.prepare.fingerprint import SIDE_PX, bits_of, fingerprint
from tests.tailor.prepare.pictures import class_folders, data, encoded, picture, prepare


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A prepared data set with a source task."""
    origin = class_folders(tmp_path / "images", per_class=5, classes=("cat", "cow", "dog", "eel"))
    prepare("animals", origin, tmp_path, "--source-classes", "dog,eel")
    return tmp_path / "animals"


def test_an_undamaged_data_set_passes(folder: Path) -> None:
    said = data("check", folder)
    assert "all files are unchanged" in said
    assert "train and test: 0 pair(s)" in said and "source and target: 0 pair(s)" in said


def test_it_may_be_moved_with_its_root(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    folder.rename(tmp_path / "elsewhere" / "animals")
    assert "all files" in data("check", tmp_path / "elsewhere" / "animals")


@pytest.mark.parametrize("name", [*ARRAY_FILES, IMAGES_FILE])
def test_one_changed_bit_in_any_file_is_found(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ConfigError, match=f"{name} is not the file that the manifest describes"):
        data("check", folder)
    if name.endswith(("labels.npy", "ids.npy", "is_test.npy")):  # training verifies these whenever it reads them
        with pytest.raises(ConfigError, match=name):
            arrays.load(folder.parent, "animals")


@pytest.mark.parametrize("name", [*ARRAY_FILES, IMAGES_FILE])
def test_a_file_that_is_cut_off_or_missing_is_found_when_planning(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1])
    with pytest.raises(ConfigError, match=rf"{name} has {len(content) - 1} bytes, the manifest says {len(content)}"):
        manifest.read(folder.parent, "animals")
    (folder / name).unlink()
    with pytest.raises(ConfigError, match=name):
        manifest.read(folder.parent, "animals")


def rewritten(folder: Path, **fields: object) -> None:
    """Puts values into the manifest by hand."""
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields, indent=1))


def sealed(folder: Path) -> None:
    """Gives a manifest that was changed the digest of what it now says."""
    content = json.loads((folder / "manifest.json").read_text())
    rewritten(folder, sha256=manifest.manifest_sha256(content))


def changed(value: Any) -> Iterator[Any]:
    """Copies of a JSON value, each with one number or text in it changed, and with one entry less."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield {name: kept for name, kept in value.items() if name != key}
            yield from (value | {key: other} for other in changed(inner))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield value[:place] + value[place + 1 :]
            yield from ([*value[:place], other, *value[place + 1 :]] for other in changed(inner))
    else:
        yield value + (1 if isinstance(value, int) else "x")


def test_whatever_is_changed_in_a_manifest_by_hand_is_noticed_when_planning(folder: Path) -> None:
    path = folder / "manifest.json"
    written = json.loads(path.read_text())
    others = list(changed(written))
    assert len(others) > 100
    for content in others:
        path.write_text(json.dumps(content))
        with pytest.raises(ConfigError, match="remove .* and prepare the data set again"):
            manifest.read(folder.parent, "animals")
    path.write_text(json.dumps(written, sort_keys=True))  # another layout says the same
    assert manifest.read(folder.parent, "animals").sha256


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("format_version", 2, "version 2, this program reads 1"),
        ("digest", "0" * 64, "digest is not that of its arrays"),
        ("input_shape", [3, 8, 8], "shape"),
        ("classes", {"source": ["dog", "eel"], "target": ["cat"]}, "beyond the class names"),
        ("test_images", 3, "test split has another size"),
        ("name", "others", "is of data set 'others'"),
        ("files", {}, "lists the files"),
    ],
)
def test_a_manifest_that_does_not_fit_its_files_is_refused(folder: Path, key: str, value: object, said: str) -> None:
    rewritten(folder, **{key: value})
    sealed(folder)
    with pytest.raises(ConfigError, match=said):
        data("check", folder)
    if key != "digest":  # training reads no images to compare it
        with pytest.raises(ConfigError, match=said):
            arrays.load(folder.parent, "animals")


def test_a_manifest_that_is_none_is_refused(folder: Path) -> None:
    for content in ("", "[]", "{}", '{"format_version": 1}'):
        (folder / "manifest.json").write_text(content)
        with pytest.raises(ConfigError, match="is not a manifest"):
            manifest.read(folder.parent, "animals")


def test_a_missing_data_set_names_the_nearest(folder: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'animals'.*data prepare animal "):
        manifest.read(folder.parent, "animal")


def test_copies_between_splits_and_tasks_are_found(tmp_path: Path) -> None:
    """The copies are compressed anew or enlarged, so no checksum would find them."""
    origin = tmp_path / "images"
    for number, split in enumerate(("train", "val", "test")):
        class_folders(origin / split, per_class=4, classes=("cat", "cow", "dog", "eel"), first=100 * number)
    (origin / "test" / "cat" / "again.jpg").write_bytes(encoded(1, quality=60))  # train/cat/1.jpg
    picture(105).resize((80, 64)).save(origin / "train" / "cow" / "large.png")  # val/cow/1.jpg
    (origin / "train" / "eel" / "cat.jpg").write_bytes(encoded(2, quality=60))  # train/cat/2.jpg
    prepare("animals", origin, tmp_path, "--image-px", 32, "--source-classes", "dog,eel")
    said = data("check", tmp_path / "animals").splitlines()
    found = {line.split(" (")[0].strip() for line in said if " = " in line}
    assert found == {
        "train/cat/1.jpg = test/cat/again.jpg",
        "train/cow/large.png = val/cow/1.jpg",
        "train/eel/cat.jpg = train/cat/2.jpg",
    }
    assert {line for line in said if "pair(s)" in line} == {
        "source and target: 1 pair(s) of images look alike",
        "training and validation images: 1 pair(s) of images look alike",
        "train and test: 1 pair(s) of images look alike",
        "val and test: 0 pair(s) of images look alike",
    }


def test_all_copies_are_listed_on_demand_and_counted_otherwise(tmp_path: Path) -> None:
    origin = class_folders(tmp_path / "images", per_class=30)
    for number in range(25):
        (origin / "dog" / f"again{number}.jpg").write_bytes((origin / "cat" / f"{number}.jpg").read_bytes())
    assert "50 images have equal ones in another class" in prepare("animals", origin, tmp_path)
    some, every = (data("check", tmp_path / "animals", *option) for option in ((), ("--all",)))
    assert "50 images have equal ones in another class" in some and "and 5 more" in some
    assert all(f"cat/{number}.jpg = dog/again{number}.jpg" in every for number in range(25))


def test_a_link_to_a_data_set_has_its_own_name(folder: Path, tmp_path: Path) -> None:
    """Trials read ROOT/NAME, wherever the link leads."""
    (tmp_path / "store").mkdir()
    folder.rename(tmp_path / "store" / "of_all")
    folder.symlink_to(tmp_path / "store" / "of_all")
    assert "all files are unchanged" in data("check", folder)


def slow_fingerprint(grey: np.ndarray) -> list[bool]:
    """Bits of one grey image (72, 72): the definition, cell by cell, in whole numbers."""
    cells = [[int(grey[9 * y : 9 * y + 9, 9 * x : 9 * x + 9].sum()) for x in range(8)] for y in range(8)]
    wide = [[int(grey[9 * y : 9 * y + 9, 8 * x : 8 * x + 8].sum()) for x in range(9)] for y in range(8)]
    total = sum(map(sum, cells))
    brighter = [64 * cell > total for row in cells for cell in row]
    return brighter + [right > left for row in wide for left, right in zip(row, row[1:], strict=False)]


def test_fingerprints_are_as_defined() -> None:
    images = [picture(number, (SIDE_PX, SIDE_PX)) for number in range(200)]
    found = bits_of([fingerprint(image) for image in images])
    assert found.tolist() == [slow_fingerprint(np.asarray(image.convert("L"))) for image in images]


def test_pairs_are_those_whose_hashes_both_differ_in_two_bits_or_fewer() -> None:
    draw = np.random.default_rng(0)
    left = draw.random((1500, 128)) < 0.5
    right = left[::3].copy()
    flips = {0: [3], 1: [3, 4], 2: [3, 4, 5], 3: [3, 4, 70, 71], 4: [3, 70, 71, 72]}  # bits 0-63: mean hash
    for row, bits in flips.items():
        right[row, bits] ^= True
    found = {(index, other): bits for bits, index, other in look_alikes(left, right).T.tolist()}
    expected = {(3 * row, row): 0 for row in range(500)}
    expected |= {(0, 0): 1, (3, 1): 2, (9, 3): 2}
    for row in (2, 4):
        del expected[3 * row, row]
    assert found == expected
    assert look_alikes(left[:0], right).size == 0 == look_alikes(left, right[:0]).size


def test_a_photograph_compressed_anew_is_alike_and_another_is_not(tmp_path: Path) -> None:
    prints = []
    for number in range(20):
        for quality in (95, 50):
            path = tmp_path / f"{number}_{quality}.jpg"
            picture(number, (200, 160)).save(path, quality=quality)
            prints.append(decode(path, 64).fingerprint)
    found = bits_of(prints)
    assert look_alikes(found[::2], found[1::2])[1:].T.tolist() == [[n, n] for n in range(20)]
