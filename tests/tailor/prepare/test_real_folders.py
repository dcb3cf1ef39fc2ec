"""Folders of images as people have them: with what systems put there, dots, deeper folders, and without labels."""

import os
import shutil
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from tailor.common.errors import ConfigError
from tailor.prepare.folder import list_folder
from tests.tailor.prepare.pictures import class_folders, encoded, fill, pack, picture, prepare
from transtailor.__main__ import main

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
    assert "warning: 42 images among them: cat/in/0.jpg" in said and "move, rename, convert or download them" in said


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["eel/deep/a.jpg", "eel/deep/b.jpg"],
            r"class .eel. has no images: .*; 2 images are in folders inside of them.*; if the folders in .eel. are the "
            r"classes, give that",
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
    with pytest.raises(ConfigError, match=r"(its|test) images have no labels, move .* away"):
        prepare("pets", tmp_path, tmp_path.with_name("sets"))


@pytest.mark.parametrize("faulty", [1, 2, 7])
def test_faulty_files_are_listed_however_few_they_are(faulty: int, tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photographs", per_class=8)
    for number in range(faulty):
        (folder / "cat" / f"{number}.jpg").write_bytes(b"no image")
    with pytest.raises(ConfigError, match=r"pets\.refused\.txt"):
        prepare("pets", folder, tmp_path / "sets")
    (listed,) = (tmp_path / "sets").rglob("pets.refused.txt")
    assert len(listed.read_text().splitlines()) == faulty


def refused_paths(root: Path) -> list[Path]:
    (listed,) = root.rglob("pets.refused.txt")
    return [Path(line.split("\t")[0]) for line in listed.read_text().splitlines()]


@pytest.mark.parametrize("split", ["", "train"])
def test_faults_of_all_kinds_are_named_by_one_call(split: str, tmp_path: Path) -> None:
    """And the data set can be made once they are away."""
    root = tmp_path / "photographs"
    folder = class_folders(root / split)
    if split:
        class_folders(root / "test", first=100)
        (folder / "dog" / "copy.jpg").write_bytes((root / "test" / "dog" / "0.jpg").read_bytes())
    (folder / "fox").mkdir()
    fill(folder, [".gnu/1.jpg", ".gnu/2.jpg", "r\red/1.jpg", "r\red/2.jpg"], first=50)
    (folder / "cat" / "dead.jpg").symlink_to("nowhere.jpg")
    for name in ("cat/1.jpg", "eel/2.jpg"):
        (folder / name).write_bytes(b"")
    with pytest.raises(ConfigError) as refused:
        prepare("pets", root, tmp_path / "sets")
    said = str(refused.value)
    faults = ["begin with a dot", "'fox' has no images", "to what is not there", "line ends", "an empty file"]
    faults += ["splits overlap"] if split else []
    assert [fault for fault in faults if fault not in said] == [] and "type the same command again" in said
    for path in refused_paths(tmp_path):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)  # one whose name is escaped in the list
    shutil.rmtree(folder / "r\red")
    if not split:
        fill(folder, ["owl/1.jpg", "Cat/1.jpg"], first=60)
        with pytest.raises(ConfigError, match=r"'owl' has 1 image.*the same name are kept apart: 'Cat' and 'cat'"):
            prepare("pets", root, tmp_path / "sets")
        for path in refused_paths(tmp_path):
            path.unlink()
            path.parent.rmdir()
    said = prepare("pets", root, tmp_path / "sets")
    assert "of 3 classes" in said


def test_faults_of_all_kinds_in_a_table_are_named_by_one_call(tmp_path: Path) -> None:
    names = [f"{number}.jpg" for number in range(20)]
    folder = fill(tmp_path / "photographs", [*names, "two.jpg", "two.png"])
    (folder / "3.jpg").write_bytes(b"text")
    lines = ["image,class,split"] + [
        f"{name},{'cat' if index % 2 else 'dog'},train" for index, name in enumerate(names)
    ]
    lines += ["0.jpg,cat,train", "5.jpg,nan,train", "6.jpg,,train", "7.jpg,dog", "gone.jpg,dog,train", "8.jpg,dog,tset"]
    lines += ["9.jpg,cat,test", "two,cat,test"]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    with pytest.raises(ConfigError) as refused:
        prepare("pets", folder, tmp_path / "sets", "--labels", str(tmp_path / "labels.csv"))
    said = str(refused.value)
    faults = ["'nan'", "'6.jpg, , train'", "'7.jpg, dog'", "did you mean 'test'", "two may be two.jpg or two.png"]
    faults += ["0.jpg (dog, cat)", "gone.jpg", "9.jpg are in the lists more than once", "3.jpg (it is no image"]
    assert [fault for fault in faults if fault not in said] == []
    assert {path.name for path in refused_paths(tmp_path)} == {
        *(f"labels.csv, line {number}" for number in (23, 24, 25, 27)), "0.jpg", "gone.jpg", "9.jpg", "3.jpg", "two",
    }  # fmt: skip


def test_no_note_is_written_of_what_is_left_without_refused_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fill(tmp_path / "photographs", [f"{number}.jpg" for number in range(20)])
    lines = ["image,class", *(f"{number},{'cat' if number % 2 else 'dog'}" for number in range(19)), "19,nan"]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    words = [
        "data",
        "prepare",
        "pets",
        "--from",
        folder,
        "--to",
        tmp_path / "sets",
        "--labels",
        tmp_path / "labels.csv",
    ]
    assert main([*map(str, words), "--image-px", "16"]) == 2
    said = capsys.readouterr()
    assert "line 21: the class of 19 is 'nan'" in said.err and "left out" not in said.out


def test_no_split_is_said_to_be_missing_whose_images_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = class_folders(tmp_path / "photographs" / "train").parent
    for name in ("cat", "dog"):
        (folder / "test" / name).mkdir(parents=True)
        (folder / "test" / name / "1.jpg").symlink_to("nowhere.jpg")
    assert main(["data", "prepare", "pets", "--from", str(folder), "--to", str(tmp_path / "sets")]) == 2
    assert "no test split" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("name", ["ca\rt", "ca\nt", "ca\x85t", "ca\u2028t", "ca\x1bt"])
def test_a_class_whose_name_would_break_tables_is_refused(name: str, tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photographs", classes=[name, "dog"])
    with pytest.raises(ConfigError, match=r"line ends or other control characters.*; rename them") as refusal:
        prepare("pets", folder, tmp_path / "sets")
    assert "no images" not in str(refusal.value)  # that follows from the refusal, so it is no fault of its own


def test_classes_of_few_images_are_warned_of(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photographs")
    fill(folder, ["fox/1.jpg", "fox/2.jpg"], first=50)
    said = prepare("pets", folder, tmp_path / "sets")
    assert "warning: 'fox' has 2 images; " in said and "'cat'" not in said


OTHER_FORMATS = {
    "phone.heic": b"\0\0\0\x24ftypheic\0\0\0\0mif1", "web.avif": b"\0\0\0\x20ftypavif\0\0\0\0",
    "raw.cr3": b"\0\0\0\x18ftypcrx ",
    "scan.jp2": b"\0\0\0\x0cjP  \r\n", "new.jxl": b"\xff\n\xfa\x7f", "layers.psd": b"8BPS\0\1",
    "scan.PPM": b"P6 4 4 255\n", "old.tga": b"\0\0\2",
}  # fmt: skip


def test_images_of_formats_that_are_not_read_are_counted(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photographs")
    for name, head in OTHER_FORMATS.items():
        (folder / "cat" / name).write_bytes(head + bytes(40))
    (folder / "cat" / "film.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(40))
    listing = list_folder((folder,))
    assert sorted(listing.left_out_images) == sorted(f"cat/{name}" for name in OTHER_FORMATS)


def test_a_pipe_that_is_called_like_an_image_is_none(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photographs")
    os.mkfifo(folder / "cat" / "pipe.jpg")
    listing = list_folder((folder,))
    assert len(listing.files) == 15 and not listing.left_out_images


@pytest.mark.parametrize("inner", ["", "unpacked", "unpacked/data"])
@pytest.mark.parametrize("split", ["", "train"])
def test_images_beside_the_classes_are_counted(inner: str, split: str, tmp_path: Path) -> None:
    class_folders(tmp_path / "photographs" / inner / split)
    fill(tmp_path / "photographs", ["loose.jpg"], first=50)
    listing = list_folder((tmp_path / "photographs",))
    assert len(listing.files) == 15 and listing.files[0].name == f"{split}/cat/0.jpg".lstrip("/")
    assert listing.left_out == listing.left_out_images == ("loose.jpg",)


def test_a_test_folder_of_images_beside_the_classes_is_warned_of(tmp_path: Path) -> None:
    said = prepare("pets", class_folders(tmp_path / "images", classes=["cat", "dog", "test"]), tmp_path / "sets")
    assert "warning: 'test' is a class like others; " in said


def test_names_that_are_not_utf8_are_told(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "images")
    (folder / "cat" / "0.jpg").rename(folder / "cat" / os.fsdecode(b"caf\xe9.jpg"))
    (folder / "dog").rename(folder / os.fsdecode(b"d\xe9g"))
    said = prepare("pets", folder, tmp_path / "sets")
    assert (
        "note: names of images or classes that are not in UTF-8 on the disk have " in said
        and "cat/caf\\xe9.jpg, d\\xe9g" in said
    )


def test_what_is_still_in_a_cloud_is_an_image_left_out(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "images")
    (folder / "cat" / ".IMG_7.jpg.icloud").write_bytes(b"bplist00")
    said = prepare("pets", folder, tmp_path / "sets")
    assert "warning: 1 image among them: cat/.IMG_7.jpg.icloud; " in said and "or download them" in said


def test_an_empty_class_does_not_vanish_from_an_archive(tmp_path: Path) -> None:
    archive = pack(class_folders(tmp_path / "images"), tmp_path / "all.zip")
    with zipfile.ZipFile(archive, "a") as zipped:
        zipped.writestr("fox/", b"")
    with pytest.raises(ConfigError, match="class 'fox' has no images"):
        prepare("pets", archive, tmp_path / "sets")


def test_an_archive_of_archives_is_called_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    pack(class_folders(tmp_path / "images"), tmp_path / "parts" / "a.zip")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as all_parts:
        all_parts.write(tmp_path / "parts" / "a.zip", "a.zip")
    with pytest.raises(ConfigError, match=f"^{tmp_path}/all.zip has no folders, but archives: a.zip; unpack them"):
        prepare("pets", tmp_path / "all.zip", tmp_path / "sets")


@pytest.mark.parametrize(
    "names",
    [
        ["train2017", "val2017"],
        ["images", "masks"],
        ["trainA", "trainB", "testA"],
        ["A_train", "A_test"],
        ["['a']", "['b', 'c']"],
    ],
)
def test_splits_and_masks_do_not_become_classes_without_a_word(names: list[str], tmp_path: Path) -> None:
    said = prepare("pets", class_folders(tmp_path / "images", classes=names), tmp_path / "sets")
    assert f"warning: {', '.join(sorted(map(repr, names)))} are classes like others; " in said


def test_masks_beside_their_images_do_not_become_images_without_a_word(tmp_path: Path) -> None:
    names = [f"{name} ({number}){end}.png" for name in ("cat", "dog") for number in range(5) for end in ("", "_mask")]
    folder = fill(tmp_path / "images", [f"{name[:3]}/{name}" for name in [*names, "cat_1.png", "dog (1)_mask_1.png"]])
    said = prepare("pets", folder, tmp_path / "sets")
    assert "warning: 11 images may be made of others, by their names: cat/cat (0)_mask.png, " in said


def test_versions_of_photographs_are_named(tmp_path: Path) -> None:
    made = ["IMG_3_aug1", "IMG_3-150x150", "IMG_3~2", "IMG_E3", "IMG_5_jpg.rf.aa1", "IMG_5_jpg.rf.0b"]
    others = ["IMG_3", "IMG_4_left", "IMG_4_right", "IMG_6_jpg.rf.aa2", "IMG_4-2"]
    folder = fill(tmp_path / "images", [f"cat/{name}.jpg" for name in (*made, *others)])
    said = prepare("pets", fill(folder, ["dog/IMG_6_jpg.rf.aa1.jpg", "dog/IMG_E3.jpg"], first=50), tmp_path / "sets")
    names = ", ".join(sorted(f"cat/{name}.jpg" for name in made)[:5])
    assert f"warning: 6 images may be made of others, by their names: {names} and 1 more; if" in said


def test_a_class_called_recycler_is_none_of_the_system(tmp_path: Path) -> None:
    said = prepare("pets", class_folders(tmp_path / "images", classes=["recycler", "cat", "dog"]), tmp_path / "sets")
    assert "15 images of 3 classes" in said


@pytest.mark.parametrize("name", [" glass", "glass ", "glass\u200b", "nan"])
def test_folders_whose_names_may_be_mistakes_are_warned_of(name: str, tmp_path: Path) -> None:
    said = prepare("pets", class_folders(tmp_path / "images", classes=["cat", "dog", name]), tmp_path / "sets")
    hidden = f"begin or end with a blank, or with what is not shown: {name!r}"
    assert (hidden if name != "nan" else "'nan' is a class like others") in said


def test_archives_among_the_images_are_counted(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photographs")
    (folder / "cat" / "more.zip").write_bytes(b"PK")
    (folder / "fox.tar.gz").write_bytes(b"")
    (folder / "observations.csv").write_bytes(b"")
    said = prepare("pets", folder, tmp_path / "sets")
    assert "warning: tables among them: observations.csv; if one says the classes, give it in --labels\n" in said
    assert "warning: archives among them: cat/more.zip, fox.tar.gz; unpack" in said


def test_images_of_splits_without_classes_say_which_table_to_give(tmp_path: Path) -> None:
    packed = pack(fill(tmp_path / "images", ["train/1.jpg", "test/2.jpg"]), tmp_path / "all.zip")
    with pytest.raises(ConfigError, match=r"column called split, .*/all.zip: train alone, unpacked, in --from"):
        prepare("pets", packed, tmp_path / "sets")


def test_archives_are_named_also_where_a_class_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path / "images", ["cat/1.jpg"])
    pack(class_folders(tmp_path / "others"), tmp_path / "images" / "dog.zip")
    assert main(["data", "prepare", "pets", "--from", str(tmp_path / "images"), "--to", str(tmp_path / "sets")]) == 2
    said = capsys.readouterr()
    assert "warning: archives among them: dog.zip; unpack those with images" in said.out
    assert "the target task has one class, 'cat', of 1 images" in said.err


@pytest.mark.parametrize("dead", ["cat/dead.jpg", "train/cat/dead.jpg", "fox", "train/fox"])
def test_links_to_what_was_not_fetched_do_not_vanish(dead: str, tmp_path: Path) -> None:
    """As git-annex and DVC leave them."""
    folder = class_folders(tmp_path / "train", classes=("cat", "dog")) if "train" in dead else class_folders(tmp_path)
    root = tmp_path if "train" in dead else folder
    (root / dead).symlink_to("../.git/annex/SHA256E-s1.jpg")
    with pytest.raises(ConfigError, match=rf"1 symbolic link to what is not there: .*{dead} -> \.\./\.git/annex"):
        list_folder((root,))


def test_images_behind_a_link_in_a_class_are_counted_once(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photographs")
    fill(tmp_path / "other", ["a.jpg", "b.jpg"], first=50)
    (folder / "cat" / "deep").mkdir()
    (folder / "cat" / "deep" / "linked").symlink_to(tmp_path / "other")
    (folder / "cat" / "deep" / "itself").symlink_to(folder / "cat" / "deep")
    (folder / "cat" / "deep" / "dead.jpg").symlink_to("nowhere")
    expected = ("cat/deep/dead.jpg", "cat/deep/linked/a.jpg", "cat/deep/linked/b.jpg")
    assert list_folder((folder,)).left_out_images == expected


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["Cat", "cat"], "'Cat' and 'cat'"),
        (["cat ", "cat"], "'cat' and 'cat '"),
        (["oat_milk", "Oat-Milk", "oat milk"], "'Oat-Milk' and 'oat milk' and 'oat_milk'"),
        (["glass", "'glass'", "glass\u200b"], """"'glass'" and 'glass' and 'glass\\u200b'"""),
        (["gl\u0430ss", "glass", "\uff47lass"], "'glass' and 'gl\u0430ss' and '\uff47lass'"),  # Cyrillic, full width
        (["bird's-eye", "bird\u2019s\u2013eye"], "\"bird's-eye\" and 'bird\u2019s\u2013eye'"),
        (["C", "C++"], ""),
    ],
)
def test_classes_of_almost_the_same_name_are_warned_of(names: list[str], said: str, tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photographs", classes=[*names, "dog"])
    printed = prepare("pets", folder, tmp_path / "sets")
    assert (f"warning: classes with almost the same name are kept apart: {said}; " in printed) == bool(said)
    assert ("almost the same" in printed) == bool(said)


@pytest.mark.parametrize("suffix", ["gif", "tif", "webp", "png"])
def test_further_frames_and_pages_are_not_lost_without_a_word(suffix: str, tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photographs")
    frames = [picture(number) for number in (50, 51, 52)]
    frames[0].save(folder / "cat" / f"stack.{suffix}", save_all=True, append_images=frames[1:])
    for _ in range(2):  # the second call keeps what the first one decoded
        broken = fill(folder, ["dog/broken.jpg"]) / "dog" / "broken.jpg"
        broken.write_bytes(b"")
        with pytest.raises(ConfigError, match="an empty file"):
            prepare("pets", folder, tmp_path / "sets")
    broken.unlink()
    said = prepare("pets", folder, tmp_path / "sets")
    assert f"of 1 file(s) with several frames or pages the first is read: cat/stack.{suffix} (3)" in said


def test_images_that_are_transparent_are_named_also_where_they_were_decoded_before(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photographs")
    Image.new("RGBA", (40, 40), (200, 100, 50, 9)).save(folder / "cat" / "logo.png")
    (folder / "dog" / "0.jpg").write_bytes(b"")
    said = "note: 1 of 16 images are transparent in places, which become black: cat/logo.png"
    with pytest.raises(ConfigError, match="an empty file"):
        prepare("pets", folder, tmp_path / "sets")
    fill(folder, ["dog/0.jpg"], first=70)
    again = prepare("pets", folder, tmp_path / "sets")
    assert said in again and "15 of them were decoded by an earlier call" in again


def test_images_that_are_enlarged_are_named(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photographs")
    Image.new("RGB", (1, 1)).save(folder / "cat" / "pixel.png")
    said = prepare("pets", folder, tmp_path / "sets", "--image-px", "32")
    assert (
        "note: 1 of 16 images have a shorter side below 32 pixels and are enlarged (--image-px): cat/pixel.png (1 px)"
        in said
    )


def test_a_line_end_in_a_name_breaks_no_message_and_no_list(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "photographs")
    (folder / "cat" / "a\nb\t.jpg").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"cat/a\\nb\\t\.jpg \(it is an empty file\)"):
        prepare("pets", folder, tmp_path / "sets")
    (listed,) = (tmp_path / "sets").rglob("pets.refused.txt")
    assert listed.read_text() == f"{folder}/cat/a\\nb\\t.jpg\tit is an empty file\n"
