"""The forms of images: class folders and tables. What is in doubt is refused, in one list, with what makes it right."""

import csv
import io
import os
import shutil
import subprocess
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import pandas
import pytest
from PIL import Image

from tailor.common.errors import ConfigError
from tailor.facts import manifest
from tailor.prepare.forms import ImageFile, list_folder
from tailor.prepare.problems import Problems
from tests.tailor.prepare.pictures import class_folders, encoded, fill, pack, prepare
from transtailor.__main__ import main

NFC, NFD = "caf\u00e9", "cafe\u0301"


def classes_of(root: Path, name: str = "pets") -> dict[str, int]:
    """The target's classes and how many images each has."""
    with (root / name / "images.csv").open(newline="", encoding="utf-8") as file:
        return dict(Counter(line["class"] for line in csv.DictReader(file)))


def listed(root: Path) -> list[ImageFile]:
    problems = Problems(io.StringIO())
    files = list_folder(root, problems)
    assert not problems.found
    return files


# --- folders ---

FOLDERS = {
    "an empty class": ("mkdir fox", "rm fox", "without images: fox"),
    "an image in no class": ("add 1.jpg", "rm 1.jpg", "beside the folders of classes: 1.jpg"),
    "nested": ("add cat/in/9.jpg", "mv cat/in/9.jpg cat/9.jpg", "inside of a class: cat/in/9.jpg"),
    "only nested": ("add fox/in/8.jpg fox/in/9.jpg", "mv fox/in wolf; rm fox", "inside of a class: fox/in/8.jpg"),
    "HEIC": ("write cat/a.heic", "rm cat/a.heic", "not called as one that is read: cat/a.heic"),
    "no suffix": ("add cat/rex", "mv cat/rex cat/rex.jpg", "not called as one that is read: cat/rex"),
    "in a cloud": ("write cat/.a.jpg.icloud", "rm cat/.a.jpg.icloud", "cat/.a.jpg.icloud"),
    "a dot": ("add .NET/1.jpg .NET/2.jpg", "mv .NET NET", "begins with a dot: .NET"),
    "a dead link": ("link cat/a.jpg", "rm cat/a.jpg", "to what is not there: cat/a.jpg"),
    "a dead class": ("link fox", "rm fox", "to what is not there: fox"),
    "a class called test": ("add test/1.jpg test/2.jpg", "mv test exam", "has the splits test, but not 'train'"),
    "two spellings": ("add Cat/1.jpg Cat/2.jpg", "mv Cat lynx", "in two spellings"),
    "two numbers": ("mv cat 1; mv dog 1.0; mv eel 02", "mv 1.0 3", "('1' and '1.0')"),
    "masks": ("add masks/1.jpg masks/2.jpg", "rm masks", "none by its name"),
    "nan": ("add nan/1.jpg nan/2.jpg", "mv nan naan", "whose name is no class: nan"),
    "a blank": ("add fox\xa0/1.jpg fox\xa0/2.jpg", "mv fox\xa0 fox", "begins or ends with a blank"),
    "a line end": ("add fo\x85x/1.jpg fo\x85x/2.jpg", "mv fo\x85x fox", "control character"),
    "one class": ("rm dog; rm eel", "add dog/1.jpg dog/2.jpg", "has one class, 'cat'"),
    "no class": (
        "rm cat; rm dog; rm eel; add 1.jpg",
        "mv 1.jpg a/1.jpg; add a/2.jpg b/3.jpg b/4.jpg",
        "has no folders",
    ),
    "one image": ("add fox/1.jpg", "add fox/2.jpg", "too few images for a test split"),
    "text": ("write cat/0.jpg", "rm cat/0.jpg", "cannot be read: cat/0.jpg"),
    "a cut image": ("cut cat/0.jpg", "rm cat/0.jpg", "cannot be read: cat/0.jpg"),
    "two classes": ("cp cat/0.jpg dog/9.jpg", "rm dog/9.jpg", "in another class: cat/0.jpg (cat/0.jpg = dog/9.jpg)"),
}


def do(folder: Path, commands: str) -> None:
    """Changes a folder as a shell would; `add` makes pictures, `write` a text, `link` leads nowhere."""
    for number, command in enumerate(commands.split("; ")):
        verb, *names = command.split(" ")
        at = [folder / name for name in names]
        at[-1].parent.mkdir(parents=True, exist_ok=True)
        match verb:
            case "add":
                fill(folder, names, first=200 + 50 * number + len(commands))
            case "write":
                at[0].write_text("no image")
            case "cut":
                at[0].write_bytes(at[0].read_bytes()[:-150])
            case "mkdir":
                at[0].mkdir()
            case "link":
                at[0].symlink_to("nowhere")
            case "mv":
                at[0].rename(at[1])
            case "cp":
                shutil.copy(at[0], at[1])
            case "rm":
                shutil.rmtree(at[0]) if at[0].is_dir() else at[0].unlink()


@pytest.mark.parametrize("what", FOLDERS)
def test_a_folder_in_doubt_is_refused_and_what_is_said_makes_it_right(what: str, tmp_path: Path) -> None:
    faulty, mend, said = FOLDERS[what]
    folder = class_folders(tmp_path / "photographs")
    do(folder, faulty)
    with pytest.raises(ConfigError) as refused:
        prepare("pets", folder, tmp_path / "sets")
    assert said in str(refused.value)
    assert {path.name for path in (tmp_path / "sets").iterdir()} <= {"pets.problems.txt"}
    do(folder, mend)
    prepare("pets", folder, tmp_path / "sets")
    assert manifest.read(tmp_path / "sets", "pets").target_classes >= 2


SPLIT_FOLDERS = {
    "no train": (["test/cat/1.jpg", "val/cat/1.jpg"], "but not 'train'"),
    "a folder beside": (["train/cat/1.jpg", "train/dog/2.jpg", "teste/cat/3.jpg"], "beside the splits train: teste"),
    "twice": (
        ["train/cat/1.jpg", "train/dog/2.jpg", "val/cat/3.jpg", "Valid/cat/4.jpg"],
        "beside the splits val, train: Valid",
    ),
    "no classes": (["train/1.jpg", "test/2.jpg"], "a table with a column split"),
    "no labels": (["train/cat/1.jpg", "train/dog/2.jpg", "test/3.jpg"], "move it away"),
    "other classes": (["train/cat/1.jpg", "train/dog/2.jpg", "test/cat/3.jpg", "test/fox/4.jpg"], "only test images"),
}


@pytest.mark.parametrize("what", SPLIT_FOLDERS)
def test_splits_in_doubt_are_refused(what: str, tmp_path: Path) -> None:
    names, said = SPLIT_FOLDERS[what]
    with pytest.raises(ConfigError, match=said):
        prepare("pets", fill(tmp_path / "photographs", names), tmp_path / "sets")


def test_all_problems_are_in_one_list_and_mended_in_one_go(tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    for number, split in enumerate(("train", "test")):
        class_folders(folder / split, first=100 * number)
    shutil.copy(folder / "test/dog/0.jpg", folder / "train/dog/copy.jpg")
    (folder / "train" / "dog" / "near.jpg").write_bytes(encoded(100, quality=60))  # test/cat/0.jpg
    (folder / "train" / "fox").mkdir()
    fill(folder, ["train/cat/deep/1.jpg"], first=50)
    (folder / "train" / "cat" / "dead.jpg").symlink_to("nowhere.jpg")
    for name in ("train/cat/1.jpg", "test/eel/2.jpg"):
        (folder / name).write_bytes(b"")
    with pytest.raises(ConfigError) as refused:
        prepare("pets", folder, tmp_path / "sets")
    lines = [line.split("\t") for line in (tmp_path / "sets" / "pets.problems.txt").read_text().splitlines()]
    assert all(len(line) == 3 for line in lines)
    places = [Path(line[0]) for line in lines]
    assert Counter(str(path.relative_to(folder)) for path in places) == Counter([
        "train/fox", "train/cat/deep/1.jpg", "train/cat/dead.jpg", "train/cat/1.jpg", "test/eel/2.jpg",
        "test/dog/0.jpg", "train/dog/near.jpg",
    ])  # fmt: skip
    assert "near copy" not in str(refused.value)  # it is said, and stops nothing
    for path in places:
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
    (folder / "train/cat/deep").rmdir()
    (folder / "train/dog/copy.jpg").rename(folder / "test/dog/0.jpg")
    prepare("pets", folder, tmp_path / "sets")
    assert not (tmp_path / "sets" / "pets.problems.txt").exists()


def test_a_folder_of_classes_as_people_have_it(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "a" / "b" / "animals", per_class=2)
    of_systems = [
        "@eaDir/a.jpg",
        "__MACOSX/cat/a.jpg",
        ".git/x.jpg",
        "cat/._thumb.jpg",
        "cat/@eaDir/1.jpg",
        "eel/Thumbs.db",
    ]
    fill(root, ["cat/upper.JPG", "dog/x.png", *of_systems], first=10)
    (root / "cat" / "notes.md").write_text("of the photographer")
    os.mkfifo(root / "cat" / "pipe.jpg")
    said = prepare("pets", tmp_path / "a", tmp_path / "sets")  # folders that hold but one folder are entered
    assert classes_of(tmp_path / "sets") == {"cat": 3, "dog": 3, "eel": 2}
    assert "1 file that are no images are left out: b/animals/cat/notes.md" in said


@pytest.mark.parametrize("names", [("training", "valid", "testing"), ("Train", "VALIDATION", "Test"), ("train", "dev")])
def test_splits_go_by_several_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    for number, name in enumerate(names):
        class_folders(tmp_path / name, per_class=number + 1)
    found = Counter((file.name.split("/")[0], file.split) for file in listed(tmp_path))
    expected = zip(names, ("train", "val", "test"), (3, 6, 9), strict=False)
    assert found == {(name, split): count for name, split, count in expected}


@pytest.mark.parametrize("forms", [(NFC, NFD), (NFD, NFC), ("\uac15", "\u1100\u1161\u11bc"), ("\ufa10", "\u585a")])
def test_a_class_in_two_forms_of_unicode_is_one(tmp_path: Path, forms: tuple[str, str]) -> None:
    """macOS and archives made there write NFD; the files keep their names, and the class is in NFC."""
    one, other = forms
    fill(tmp_path, [f"train/{one}/1.jpg", f"val/{other}/2.jpg", "train/Tea/3.jpg"])
    assert {(file.class_name, file.name) for file in listed(tmp_path)} == {
        (unicodedata.normalize("NFC", one), f"train/{one}/1.jpg"),
        (unicodedata.normalize("NFC", one), f"val/{other}/2.jpg"),
        ("Tea", "train/Tea/3.jpg"),
    }


def test_val_alone_and_how_to_keep_it_is_said(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "val")):
        class_folders(tmp_path / "photographs" / split, first=100 * number)
    assert "to keep it as the test split, call it test" in prepare("pets", tmp_path / "photographs", tmp_path / "sets")


def test_a_placeholder_a_few_images_and_numbers_are_told(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photographs", per_class=8)
    Image.new("RGB", (81, 81)).save(folder / "cat" / "gone.png")
    fill(folder, ["fox/1.jpg", "fox/2.jpg", "fox/3.jpg"], first=90)
    said = prepare("pets", folder, tmp_path / "sets")
    assert "1 image alone of its format: cat/gone.png (PNG)" in said
    assert "1 image alone of its size: cat/gone.png ((81, 81))" in said
    assert "with few images: fox ('fox' has 3)" in said
    said = prepare("ages", class_folders(tmp_path / "others", classes=["1.5", "2.25"]), tmp_path / "sets")
    assert "called by measured numbers" in said


def test_an_archive_of_archives_is_called_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    pack(class_folders(tmp_path / "images"), tmp_path / "parts" / "a.zip")
    with pytest.raises(ConfigError, match="unpack its archives into one folder: a.zip"):
        prepare("pets", pack(tmp_path / "parts", tmp_path / "all.zip"), tmp_path / "sets")


# --- tables ---


def table_of(tmp_path: Path, text: str | list[str], names: list[str] | None = None) -> tuple[Path, Path]:
    """A folder of ten images, or of those with these names, and a table."""
    folder = fill(tmp_path / "photographs", names or ["a.jpg", *(f"{number}.jpg" for number in range(10))])
    table = tmp_path / "labels.csv"
    table.write_text(text if isinstance(text, str) else "\n".join(text), encoding="utf-8")
    return folder, table


def lines(*, end: str = "", name: str = "{}.jpg", between: str = ",") -> list[str]:
    return [between.join([name.format(n), "cat" if n % 2 else "dog"]) + end for n in range(10)]


TABLES = {
    "plain": (["image,class", *lines()], ()),
    "semicolons, a mark and empty lines": (["\ufeffimage;class", *lines(between=";"), "", ";", ""], ()),
    "tabs": (["image\tclass", *lines(between="\t")], ()),
    "quotes and blanks": (["image, class", *(f'"{n}.jpg", "{"cat" if n % 2 else "dog"}"' for n in range(10))], ()),
    "other columns": (["file,label,notes", *lines(end=",mine")], ("--image-column", "file", "--class-column", "label")),
    "with a dot": (["image,class", *lines(name="./{}.jpg")], ()),
}


@pytest.mark.parametrize("what", TABLES)
def test_a_table_says_the_classes(what: str, tmp_path: Path) -> None:
    text, options = TABLES[what]
    folder, table = table_of(tmp_path, text)
    prepare("pets", folder, tmp_path / "sets", "--labels", table, *options)
    assert classes_of(tmp_path / "sets") == {"cat": 5, "dog": 5}


@pytest.mark.parametrize("inner", ["", "all/", "all/of/"])
def test_names_may_begin_in_the_one_folder_that_has_all_images(inner: str, tmp_path: Path) -> None:
    folder, table = table_of(tmp_path, ["image,class", *lines()], [f"{inner}{n}.jpg" for n in range(10)])
    prepare("pets", pack(folder, tmp_path / "a.zip"), tmp_path / "sets", "--labels", table)
    assert classes_of(tmp_path / "sets") == {"cat": 5, "dog": 5}


def test_a_split_is_kept_and_what_no_line_names_is_left_out(tmp_path: Path) -> None:
    text = ["image,class,split", *lines(end=",Training")[:6], *lines(end=",test")[6:9]]
    folder, table = table_of(tmp_path, text)
    said = prepare("pets", folder, tmp_path / "sets", "--labels", table)
    assert manifest.read(tmp_path / "sets", "pets").splits["target"] == {"test": 3, "train": 6}
    assert "2 images in no line" in said and "9.jpg, a.jpg" in said


def test_names_are_found_in_another_form_of_unicode(tmp_path: Path) -> None:
    names = [f"{NFD}{n}.jpg" for n in range(10)]
    folder, table = table_of(tmp_path, ["image,class", *lines(name=NFC + "{}.jpg")], names)
    prepare("pets", folder, tmp_path / "sets", "--labels", table)
    assert manifest.read(tmp_path / "sets", "pets").target_images == 10


IN_DOUBT = {
    "an image that is not there": (["gone.jpg,dog"], "whose image is not there: .*labels.csv, line 12 .gone.jpg"),
    "an image twice": (["1.jpg,cat"], "has another line: .*line 12 .1.jpg, as labels.csv, line 3"),
    "an image under two names": (["./1.jpg,dog"], "has another line"),
    "outside": (["../labels.csv,dog"], "whose image is not there"),
    "no class": (["1.jpg,"], "without a value: .*line 12 .class"),
    "no image": ([",cat"], "without a value: .*line 12 .image"),
    "a short line": (["1.jpg"], "without a value"),
    "NaN": (["1.jpg,NaN"], "whose class is none"),
    "None": (["1.jpg,None"], "whose class is none"),
    "several classes": (["1.jpg,cat|dog"], "with several classes"),
    "classes in a row": (["1.jpg,cat dog"], "with several classes"),
    "two spellings": (["a.jpg,Cat"], "in two spellings"),
    "a long line": (["1.jpg,cat,brown"], "Expected 2 fields in line 12, saw 3"),
    "an open quote": (['1.jpg,"cat'], "EOF inside string"),
    "a late quote": (['1.jpg,"cat', '2.jpg,dog"'], "without a value|has another line"),
}


@pytest.mark.parametrize("what", IN_DOUBT)
def test_lines_in_doubt_are_refused(what: str, tmp_path: Path) -> None:
    more, said = IN_DOUBT[what]
    folder, table = table_of(tmp_path, ["image,class", *lines(), *more])
    with pytest.raises(ConfigError, match=said):
        prepare("pets", folder, tmp_path / "sets", "--labels", table)
    assert not (tmp_path / "sets" / "pets").exists()


NO_TABLES = {
    "other names": ("file,label\n1.jpg,cat\n", "has no column 'image'.*--image-column"),
    "no names": ("1.jpg,cat\n2.jpg,dog\n", "has no column 'image'"),
    "a column for each class": ("image,cat,dog\n1.jpg,1,0\n", r"idxmax\(axis=1\)"),
    "one name twice": ("image,class,class\n1.jpg,cat,dog\n", "several columns are called 'class'"),
    "one column": ("image\n1.jpg\n", "does not name columns"),
    "two separators": ("image,class;split\n", "one of comma, semicolon or tab"),
    "for Excel": ("sep=;\nimage;class\n", "has no column 'image'|Expected"),
    "JSON": ('[{"image": "1.jpg"}]', "has no column|does not name columns"),
    "empty": ("", "expected CSV in UTF-8"),
    "no split": ("image,class,split\n1.jpg,cat,tset\n2.jpg,dog,train\n", "did you mean 'test'"),
}


@pytest.mark.parametrize("what", NO_TABLES)
def test_what_is_no_table_of_images_and_classes_is_refused(what: str, tmp_path: Path) -> None:
    text, said = NO_TABLES[what]
    folder, table = table_of(tmp_path, text)
    with pytest.raises(ConfigError, match=said):
        prepare("pets", folder, tmp_path / "sets", "--labels", table)


def test_the_lines_of_pandas_in_the_messages_make_tables_right(tmp_path: Path) -> None:
    """Names without suffix and folder; a column for each class."""
    folder, table = table_of(
        tmp_path, ["image,class", *lines(name="C:/Users/me/{}")], [f"all/{n}.jpg" for n in range(10)]
    )
    fill(folder, ["other/a.jpg"], first=50)
    with pytest.raises(ConfigError) as refused:
        prepare("pets", folder, tmp_path / "sets", "--labels", table)
    run_pandas(str(refused.value), table)
    prepare("pets", folder, tmp_path / "sets", "--labels", table)
    one_hot = {"image": [f"all/{n}.jpg" for n in range(10)], "cat": [1, 0] * 5, "dog": [0, 1] * 5}
    pandas.DataFrame(one_hot).to_csv(table, index=False)
    with pytest.raises(ConfigError) as refused:
        prepare("hot", folder, tmp_path / "sets", "--labels", table)
    run_pandas(str(refused.value).replace('"labels.csv"', repr(str(table))), table)
    prepare("hot", folder, tmp_path / "sets", "--labels", table)
    assert classes_of(tmp_path / "sets", "hot") == {"cat": 5, "dog": 5}


def run_pandas(message: str, table: Path) -> None:
    """Runs the lines of pandas in a message."""
    code = message.partition("by pandas: ")[2].partition("index=False)")[0]
    begin = f"import pathlib, pandas; table = pandas.read_csv({str(table)!r}, dtype=str); "
    subprocess.run([sys.executable, "-c", f"{begin}{code}index=False)"], check=True)


def test_the_command_ends_with_2_and_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, table = table_of(tmp_path, ["image,class", *lines(), "gone.jpg,dog"])
    words = ["data", "prepare", "pets", "--from", folder, "--to", tmp_path / "sets", "--labels", table]
    assert main([*map(str, words)]) == 2
    said = capsys.readouterr()
    assert "gone.jpg" in said.err and "Traceback" not in said.err
