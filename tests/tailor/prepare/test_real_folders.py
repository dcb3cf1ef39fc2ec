"""Folders of images as people have them: with what systems put there, dots, deeper folders, and without labels."""

from pathlib import Path

import pytest

from tailor.core.errors import ConfigError
from tailor.prepare.folder import list_folder
from tests.tailor.prepare.pictures import class_folders, encoded, fill, prepare

OF_SYSTEMS = [
    "@eaDir", "$RECYCLE.BIN", "__MACOSX", ".ipynb_checkpoints", "System Volume Information", "lost+found", "#recycle",
    ".Trash-1000", "@Recycle", ".git",
]  # fmt: skip


@pytest.mark.parametrize("name", OF_SYSTEMS)
@pytest.mark.parametrize("place", ["", "train", "cat"])
def test_what_systems_put_there_is_no_class(name: str, place: str, tmp_path: Path) -> None:
    root = class_folders(tmp_path / "train") if place == "train" else class_folders(tmp_path)
    outer = tmp_path if place == "train" else root
    fill(outer / (place if place != "cat" else "cat") / name, ["a.jpg", "b.jpg"], first=100)
    listing = list_folder((outer,))
    assert {file.class_name for file in listing.files} == {"cat", "dog", "eel"}
    assert len(listing.files) == 15 and not listing.left_out_images


@pytest.mark.parametrize("name", [".NET", ".22 rifle", "...and more"])
@pytest.mark.parametrize("place", ["", "train/"])
def test_a_class_that_begins_with_a_dot_does_not_vanish(name: str, place: str, tmp_path: Path) -> None:
    class_folders(tmp_path / place)
    fill(tmp_path / place / name, ["a.jpg", "b.jpg"], first=100)
    with pytest.raises(ConfigError, match=rf"begin with a dot: '{name}' \(2 images\); give classes names without the"):
        list_folder((tmp_path,))


def test_images_below_a_class_and_without_a_suffix_are_counted(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photographs")
    fill(folder, [f"cat/{place}/{number}.jpg" for place in ("in", "out") for number in range(20)], first=50)
    (folder / "dog" / "rex").write_bytes(encoded(99))
    (folder / "dog" / "rex.jfif").write_bytes(encoded(98))
    (folder / "dog" / "notes.txt").write_text("good dog")
    said = prepare("pets", folder, tmp_path / "sets")
    assert "note: 43 file(s) are left out" in said and "(40 .jpg, 1 .txt, 1 no suffix, 1 .jfif)" in said.replace(
        "1 no suffix, 1 .jfif, 1 .txt", "1 .txt, 1 no suffix, 1 .jfif"
    )
    assert "warning: 42 of them are images: cat/in/0.jpg" in said and "move or rename them" in said


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["eel/deep/a.jpg", "eel/deep/b.jpg"],
            r"class 'eel' has no images: .*; 2 images are in folders inside of them",
        ),
        (
            ["eel/a", "eel/b"],
            r"class 'eel' has no images: .*; 2 images are in folders inside .*, or have no such suffix",
        ),
    ],
)
def test_a_class_without_images_says_where_they_may_be(names: list[str], message: str, tmp_path: Path) -> None:
    class_folders(tmp_path, classes=["cat", "dog"])
    fill(tmp_path, names, first=50)
    with pytest.raises(ConfigError, match=message):
        list_folder((tmp_path,))


@pytest.mark.parametrize("names", [["test/1.jpg", "test/2.jpg"], ["test/unknown/1.jpg"], ["test/test/1.jpg"]])
def test_a_test_folder_without_labels_is_explained(names: list[str], tmp_path: Path) -> None:
    class_folders(tmp_path / "train")
    fill(tmp_path, names, first=50)
    with pytest.raises(ConfigError, match=r"(its images|images of a split) have no labels, move .* away"):
        list_folder((tmp_path,))


@pytest.mark.parametrize("faulty", [1, 2, 7])
def test_faulty_files_are_listed_however_few_they_are(faulty: int, tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photographs", per_class=8)
    for number in range(faulty):
        (folder / "cat" / f"{number}.jpg").write_bytes(b"no image")
    with pytest.raises(ConfigError, match=r"pets\.refused\.txt"):
        prepare("pets", folder, tmp_path / "sets")
    (listed,) = (tmp_path / "sets").rglob("pets.refused.txt")
    assert len(listed.read_text().splitlines()) == faulty


@pytest.mark.parametrize("name", ["ca\rt", "ca\nt", "ca\x85t", "ca\u2028t", "ca\x1bt"])
def test_a_class_whose_name_would_break_tables_is_refused(name: str, tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photographs", classes=[name, "dog"])
    with pytest.raises(ConfigError, match=r"line ends or other control characters.*; rename them"):
        prepare("pets", folder, tmp_path / "sets")


def test_classes_of_few_images_are_warned_of(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photographs")
    fill(folder, ["fox/1.jpg", "fox/2.jpg"], first=50)
    said = prepare("pets", folder, tmp_path / "sets")
    assert "warning: 'fox' has 2 images; " in said and "'cat'" not in said
