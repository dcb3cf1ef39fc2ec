"""`data check`: every byte verified, faults named; pairs of images that look alike found, and no others."""

import re
from pathlib import Path

import numpy as np

from tailor.prepare.duplicates import look_alikes
from tailor.prepare.pictures import SIDE_PX, bits_of, decode, fingerprint
from tests.tailor.prepare.pictures import class_folders, data, encoded, picture, prepare


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
        (origin / "cat" / f"again{number}.jpg").write_bytes((origin / "cat" / f"{number}.jpg").read_bytes())
    prepare("animals", origin, tmp_path, "--test-fraction", 0.01)
    some, every = (data("check", tmp_path / "animals", *option) for option in ((), ("--all",)))
    assert "files have equal ones among the images that are not for testing" in some and re.search(r"and \d more", some)
    assert all(f"cat/{number}.jpg = cat/again{number}.jpg" in every for number in range(25))


def test_a_link_to_a_data_set_has_its_own_name(tmp_path: Path) -> None:
    """Trials read ROOT/NAME, wherever the link leads."""
    class_folders(tmp_path / "images", classes=("cat", "cow", "dog", "eel"))
    prepare("animals", tmp_path / "images", tmp_path, "--source-classes", "dog,eel")
    folder = (tmp_path / "animals").rename(tmp_path / "of_all")
    (tmp_path / "animals").symlink_to(folder)
    said = data("check", tmp_path / "animals")
    assert "all files are unchanged" in said
    assert "train and test: 0 pair(s)" in said and "source and target: 0 pair(s)" in said


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
