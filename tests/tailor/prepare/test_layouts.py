"""Layouts: tiny archives as the official ones lie, and folders as people have them; faults that are named."""

import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from tailor.common.errors import ConfigError
from tailor.prepare.folder import list_folder
from tailor.prepare.layouts import LAYOUTS
from tailor.prepare.listing import FileListing
from tests.tailor.prepare.pictures import class_folders, fill

BIRDS = ["001.Albatross/a_1.jpg", "001.Albatross/a_2.jpg", "002.Auklet/b_1.jpg", "002.Auklet/b_2.jpg"]


def caltech256(root: Path) -> Path:
    fill(
        root / "256_ObjectCategories",
        [f"{name}/{name[:3]}_0001.jpg" for name in ("001.ak47", "002.flag", "257.clutter")],
    )
    (root / "256_ObjectCategories" / "002.flag" / "RENAME2").write_text("left there by the makers")
    return root


def cub200(root: Path) -> Path:
    base = root / "CUB_200_2011"
    fill(base / "images", BIRDS)
    (base / "images.txt").write_text("".join(f"{number} {name}\n" for number, name in enumerate(BIRDS, 1)))
    (base / "train_test_split.txt").write_text("1 1\n2 0\n3 1\n4 0\n")
    (root / "attributes.txt").write_text("1 has_bill_shape::curved\n")
    return root


def matlab_cells(names: list[str]) -> np.ndarray:
    cells = np.empty((len(names), 1), object)
    cells[:, 0] = [np.array([name]) for name in names]
    return cells


def stanford_dogs(root: Path, lists: str = "") -> Path:
    names = ["n1-Chihuahua/n1_1.jpg", "n1-Chihuahua/n1_2.jpg", "n2-Pug/n2_1.jpg", "n2-Pug/n2_2.jpg"]
    fill(root / "Images", names)
    (root / lists).mkdir(exist_ok=True)
    for split, part in (("train", names[::2]), ("test", names[1::2])):
        savemat(root / lists / f"{split}_list.mat", {"file_list": matlab_cells(part), "labels": [[1], [2]]})
    savemat(root / lists / "file_list.mat", {"file_list": matlab_cells(names)})
    return root


def indoor67(root: Path) -> Path:
    fill(root / "Images", ["bar/a.jpg", "bar/b.jpg", "gym/a.jpg", "gym/b.jpg", "gym/not_listed.jpg"])
    (root / "TrainImages.txt").write_text("bar/a.jpg\ngym/a.jpg")  # the official one has no end of line at its end
    (root / "TestImages.txt").write_text("bar/b.jpg\ngym/b.jpg\n")
    return root


def flowers102(root: Path) -> Path:
    fill(root / "jpg", [f"image_{number:05d}.jpg" for number in range(1, 7)])
    savemat(root / "imagelabels.mat", {"labels": np.array([[1, 1, 1, 102, 102, 102]], np.uint8)})
    savemat(root / "setid.mat", {"trnid": [[1, 4]], "valid": [[5, 2]], "tstid": np.array([[6, 3]], np.uint16)})
    return root


def stanford40(root: Path) -> Path:
    for action in ("applauding", "waving_hands"):
        fill(root / "JPEGImages", [f"{action}_00{number}.jpg" for number in (1, 2)])
        (root / "ImageSplits").mkdir(exist_ok=True)
        (root / "ImageSplits" / f"{action}_train.txt").write_text(f"{action}_001.jpg\n")
        (root / "ImageSplits" / f"{action}_test.txt").write_text(f"{action}_002.jpg\n")
    (root / "ImageSplits" / "train.txt").write_text("applauding_001.jpg\nwaving_hands_001.jpg\n")
    (root / "ImageSplits" / "test.txt").write_text("applauding_002.jpg\nwaving_hands_002.jpg\n")
    (root / "ImageSplits" / "actions.txt").write_text("action_name\tnumber_of_images\napplauding\t2\nwaving_hands\t2\n")
    return root


OFFICIAL = {
    function.__name__: function for function in (caltech256, cub200, stanford_dogs, indoor67, flowers102, stanford40)
}
EXPECTED = {
    "caltech256": [("001.ak47", "", "001.ak47/001_0001.jpg"), ("002.flag", "", "002.flag/002_0001.jpg")],
    "cub200": [(name.split("/")[0], split, name) for name, split in zip(BIRDS, ["train", "test"] * 2, strict=True)],
    "stanford_dogs": [
        ("n1-Chihuahua", "test", "n1-Chihuahua/n1_2.jpg"),
        ("n1-Chihuahua", "train", "n1-Chihuahua/n1_1.jpg"),
        ("n2-Pug", "test", "n2-Pug/n2_2.jpg"),
        ("n2-Pug", "train", "n2-Pug/n2_1.jpg"),
    ],
    "indoor67": [
        ("bar", "test", "bar/b.jpg"),
        ("bar", "train", "bar/a.jpg"),
        ("gym", "test", "gym/b.jpg"),
        ("gym", "train", "gym/a.jpg"),
    ],
    "flowers102": [
        ("001", "test", "image_00003.jpg"),
        ("001", "train", "image_00001.jpg"),
        ("001", "val", "image_00002.jpg"),
        ("102", "test", "image_00006.jpg"),
        ("102", "train", "image_00004.jpg"),
        ("102", "val", "image_00005.jpg"),
    ],
    "stanford40": [
        ("applauding", "test", "applauding_002.jpg"),
        ("applauding", "train", "applauding_001.jpg"),
        ("waving_hands", "test", "waving_hands_002.jpg"),
        ("waving_hands", "train", "waving_hands_001.jpg"),
    ],
}


def rows(listing: FileListing) -> list[tuple[str, str, str]]:
    assert all(file.path.is_file() for file in listing.files)
    return sorted((file.class_name, file.split, file.name) for file in listing.files)


def test_every_official_layout_is_tried() -> None:
    assert set(OFFICIAL) == set(LAYOUTS) - {"folder"} == set(EXPECTED)


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_layouts_are_read(tmp_path: Path, name: str) -> None:
    root = OFFICIAL[name](tmp_path / ".hidden above" / "unpacked")
    assert rows(LAYOUTS[name].list_images((root,))) == sorted(EXPECTED[name])


@pytest.mark.parametrize("name", OFFICIAL)
def test_a_wrong_archive_is_told_from_the_right_one(tmp_path: Path, name: str) -> None:
    root = class_folders(tmp_path / "animals")
    with pytest.raises(ConfigError, match=f"layout {name} needs .*; give "):
        LAYOUTS[name].list_images((root,))


def test_lists_may_lie_beside_the_images_or_come_alone(tmp_path: Path) -> None:
    together = stanford_dogs(tmp_path / "together", "lists")
    apart = stanford_dogs(tmp_path / "apart")
    lists = tmp_path / "lists_alone"
    lists.mkdir()
    for path in apart.glob("*.mat"):
        path.rename(lists / path.name)
    read = LAYOUTS["stanford_dogs"].list_images
    assert rows(read((together,))) == rows(read((apart, lists))) == sorted(EXPECTED["stanford_dogs"])


def test_the_folder_itself_may_be_given(tmp_path: Path) -> None:
    for name, folder in (("caltech256", "256_ObjectCategories"), ("cub200", "CUB_200_2011")):
        root = OFFICIAL[name](tmp_path / name)
        assert rows(LAYOUTS[name].list_images((root / folder,))) == sorted(EXPECTED[name])


def test_what_is_no_image_is_left_out_and_named(tmp_path: Path) -> None:
    assert LAYOUTS["caltech256"].list_images((caltech256(tmp_path),)).left_out == ("002.flag/RENAME2",)


def test_lists_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """As Windows' editors write them."""
    root = indoor67(tmp_path)
    for name in ("TrainImages.txt", "TestImages.txt"):
        (root / name).write_text((root / name).read_text(), encoding="utf-8-sig")
    assert rows(LAYOUTS["indoor67"].list_images((root,))) == sorted(EXPECTED["indoor67"])


@pytest.mark.parametrize(
    ("name", "file", "content", "said"),
    [
        ("cub200", "CUB_200_2011/train_test_split.txt", None, "needs train_test_split.txt"),
        ("cub200", "CUB_200_2011/train_test_split.txt", "1 1\n2 0\n3 1\n", "list different images"),
        ("cub200", "CUB_200_2011/train_test_split.txt", "1 1\n2 0\n3 1\n4 2\n", "0 or 1"),
        ("cub200", "CUB_200_2011/images.txt", "1 a/b.jpg\n1 c/d.jpg\n", "line '1 c/d.jpg'"),
        ("cub200", "CUB_200_2011/images.txt", "1 b.jpg\n2 x\n3 y\n4 z\n", "<class>/<image>"),
        ("indoor67", "TestImages.txt", None, "needs TestImages.txt"),
        ("indoor67", "TestImages.txt", "bar/a.jpg\ngym/b.jpg\n", "splits overlap: bar/a.jpg"),
        ("indoor67", "TestImages.txt", "bar/gone.jpg\n", "1 of 3 listed images are not in .*bar/gone.jpg"),
        ("indoor67", "TestImages.txt", "../up.jpg\n", "listed images are not in"),
        ("indoor67", "TestImages.txt", "/etc/passwd\n", "<class>/<image>|outside"),
        ("stanford_dogs", "test_list.mat", None, "needs test_list.mat"),
        ("stanford_dogs", "test_list.mat", "no MATLAB file, and long enough to be read as one" * 9, "MATLAB"),
        ("flowers102", "setid.mat", None, "needs setid.mat"),
        ("stanford40", "ImageSplits/applauding_test.txt", None, "needs applauding_test.txt"),
        ("stanford40", "JPEGImages/applauding_002.jpg", None, "1 of 4 listed images"),
    ],
)
def test_faults_of_lists_are_named(tmp_path: Path, name: str, file: str, content: str | None, said: str) -> None:
    root = OFFICIAL[name](tmp_path)
    (root / file).unlink()
    if content is not None:
        (root / file).write_text(content)
    with pytest.raises(ConfigError, match=said):
        LAYOUTS[name].list_images((root,))


def test_flowers_beyond_the_labels_are_refused(tmp_path: Path) -> None:
    savemat(flowers102(tmp_path) / "setid.mat", {"trnid": [[1, 7]], "valid": [[2]], "tstid": [[3]]})
    with pytest.raises(ConfigError, match="names image 7"):
        LAYOUTS["flowers102"].list_images((tmp_path,))


def test_a_folder_of_classes(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "a" / "b" / "animals", per_class=2)
    fill(root, ["cat/upper.JPG", "dog/x.png", "eel/._thumb.jpg", ".git/x.jpg"])
    (root / "cat" / "notes.md").write_text("of the photographer")
    listing = list_folder((tmp_path / "a",))  # folders that hold but one folder are entered
    assert Counter(file.class_name for file in listing.files) == {"cat": 3, "dog": 3, "eel": 2}
    assert {file.split for file in listing.files} == {""}
    assert listing.left_out == ("cat/notes.md",)


CAFE_NFC, CAFE_NFD = "caf\u00e9", "cafe\u0301"
FORMS = {
    "accent": (CAFE_NFC, CAFE_NFD),
    "umlaut": ("\u00dcbung", "U\u0308bung"),
    "kana": ("\u304c", "\u304b\u3099"),
    "hangul": ("\uac15", "\u1100\u1161\u11bc"),
    "compatibility ideograph": ("\u585a", "\ufa10"),
}


@pytest.mark.parametrize("names", [*FORMS.values(), *(forms[::-1] for forms in FORMS.values())], ids=ascii)
def test_a_class_whose_name_has_another_unicode_form_in_another_split_is_the_same_class(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    """macOS and archives made there write NFD; the files keep their names, and the class is in NFC."""
    one, other = names
    name = unicodedata.normalize("NFC", one)
    fill(tmp_path, [f"train/{one}/1.jpg", f"val/{other}/2.jpg", "train/Tea/3.jpg", "val/Tea/4.jpg"])
    assert rows(list_folder((tmp_path,))) == [
        ("Tea", "train", "train/Tea/3.jpg"),
        ("Tea", "val", "val/Tea/4.jpg"),
        (name, "train", f"train/{one}/1.jpg"),
        (name, "val", f"val/{other}/2.jpg"),
    ]


def test_a_list_may_have_names_in_another_unicode_form_than_the_disk(tmp_path: Path) -> None:
    root = indoor67(tmp_path)
    (root / "Images" / "bar" / "a.jpg").rename(root / "Images" / "bar" / f"{CAFE_NFD}.jpg")
    (root / "TrainImages.txt").write_text(f"bar/{CAFE_NFC}.jpg\ngym/a.jpg")
    found = {file.name for file in LAYOUTS["indoor67"].list_images((root,)).files}
    assert found == {f"bar/{CAFE_NFD}.jpg", "bar/b.jpg", "gym/a.jpg", "gym/b.jpg"}


def test_folders_of_one_name_in_two_forms_of_unicode_are_one_class(tmp_path: Path) -> None:
    fill(tmp_path, [f"{CAFE_NFC}/1.jpg", f"{CAFE_NFD}/1.jpg", "tea/3.jpg"])
    assert Counter(file.class_name for file in list_folder((tmp_path,)).files) == {CAFE_NFC: 2, "tea": 1}


def test_a_folder_of_splits(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "val", "test")):
        class_folders(tmp_path / split, per_class=number + 1)
    found = Counter((file.split, file.class_name) for file in list_folder((tmp_path,)).files)
    assert found == {(s, c): n for n, s in enumerate(("train", "val", "test"), 1) for c in ("cat", "dog", "eel")}


@pytest.mark.parametrize("names", [("training", "valid", "testing"), ("Train", "VALIDATION", "Test"), ("train", "dev")])
def test_splits_go_by_several_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        class_folders(tmp_path / name, per_class=1)
    found = {file.name.split("/")[0]: file.split for file in list_folder((tmp_path,)).files}
    assert found == dict(zip(names, ("train", "val", "test"), strict=False))


def test_files_beside_the_folders_of_classes_are_left_out_and_named(tmp_path: Path) -> None:
    beside = ["loose.jpg", "training/also.jpg", "training/cat/notes.txt"]
    class_folders(tmp_path / "training", per_class=1)
    assert list_folder((fill(tmp_path, beside),)).left_out == tuple(beside)
    assert list_folder((tmp_path / "training",)).left_out == ("also.jpg", "cat/notes.txt")


def test_classes_may_be_called_like_splits(tmp_path: Path) -> None:
    listing = list_folder((class_folders(tmp_path, per_class=1, classes=("train", "tram", "bus")),))
    assert {(file.class_name, file.split) for file in listing.files} == {("train", ""), ("tram", ""), ("bus", "")}


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ([], "has no folders"),
        (["1.zip", "2.tar.gz"], "has no folders, but archives: 1.zip, 2.tar.gz; unpack them into one folder; expected"),
        (
            ["1.jpg", "2.jpg"],
            "2 images and no folders, so nothing says their classes.*in --from, give a table in --labels",
        ),
        (["cat/1.txt", "dog/1.txt", "eel/1.jpg"], "2 classes have no images.* is directly in .*cat, .*dog; put"),
        (["test/cat/1.jpg", "val/cat/1.jpg"], "but not 'train'"),
        (["cat/1.jpg", "dog/deeper/1.jpg", "eel/1.jpg"], "class 'dog' has no images"),
        (["train/cat/1.jpg", "train/dog/x.txt", "test/cat/1.jpg"], "class 'dog' has no images"),
        (["train/images/cat/1.jpg", "test/cat/1.jpg"], "in 'images' are the classes, move them one folder up"),
        (["train/cat/1.jpg", "teste/cat/1.jpg"], "the splits train and also teste; .*train, training, val"),
        (
            ["treino/cat/1.jpg", "teste/cat/1.jpg"],
            "2 classes have no images.*teste, .*treino.*names of splits are train, training",
        ),
        (["train/cat/1.jpg", "val/cat/1.jpg", "Valid/cat/1.jpg"], "Valid and val are names of the same split"),
        (
            ["train/1.jpg", "test/2.jpg"],
            "train has no folders; expected a folder for each class.* in --labels",
        ),
    ],
)
def test_faults_of_folders_are_named(tmp_path: Path, made: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        list_folder((fill(tmp_path, made),))
