"""Data sets by name: papers' files as they lie and as they are published, and torchvision's; faults are named."""

import hashlib
import io
import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from tailor.common.errors import ConfigError
from tailor.facts import manifest
from tailor.facts.official import ALGORITHMS, OFFICIAL, OfficialFile, OfficialSet
from tailor.prepare.forms import TEST, TRAIN, ImageFile
from tailor.prepare.problems import Problems
from tailor.prepare.sets import LISTS, TORCHVISION, check_counts, list_official, verify_files
from tests.tailor.prepare.pictures import class_folders, data, fill, pack, prepare

BIRDS = ["001.Albatross/a_1.jpg", "001.Albatross/a_2.jpg", "002.Auklet/b_1.jpg", "002.Auklet/b_2.jpg"]
CONTENT = b"an archive"


def caltech256(root: Path) -> Path:
    names = [f"{name}/{name[:3]}_0001.jpg" for name in ("001.ak47", "002.flag", "257.clutter")]
    fill(root / "256_ObjectCategories", names)
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
    (root / "TrainImages.txt").write_text("bar/a.jpg\ngym/a.jpg", encoding="utf-8-sig")  # as Windows' editors write
    (root / "TestImages.txt").write_text("bar/b.jpg\ngym/b.jpg\n")
    return root


def flowers102(root: Path) -> Path:
    fill(root / "jpg", [f"image_{number:05d}.jpg" for number in range(1, 7)])
    savemat(root / "imagelabels.mat", {"labels": np.array([[1, 1, 1, 102, 102, 102]], np.uint8)})
    savemat(root / "setid.mat", {"trnid": [[1, 4]], "valid": [[5, 2]], "tstid": np.array([[6, 3]], np.uint16)})
    return root


def stanford40(root: Path) -> Path:
    (root / "ImageSplits").mkdir(parents=True)
    for action in ("applauding", "waving_hands"):
        fill(root / "JPEGImages", [f"{action}_00{number}.jpg" for number in (1, 2)])
        (root / "ImageSplits" / f"{action}_train.txt").write_text(f"{action}_001.jpg\n")
        (root / "ImageSplits" / f"{action}_test.txt").write_text(f"{action}_002.jpg\n")
    return root


PAPERS: dict[str, Callable[[Path], Path]] = {
    function.__name__: function for function in (caltech256, cub200, stanford_dogs, indoor67, flowers102, stanford40)
}
EXPECTED = {
    "caltech256": {("001.ak47", "", "001.ak47/001_0001.jpg"), ("002.flag", "", "002.flag/002_0001.jpg")},
    "cub200": {(name.split("/")[0], split, name) for name, split in zip(BIRDS, ["train", "test"] * 2, strict=True)},
    "stanford_dogs": {
        ("n1-Chihuahua", "test", "n1-Chihuahua/n1_2.jpg"), ("n1-Chihuahua", "train", "n1-Chihuahua/n1_1.jpg"),
        ("n2-Pug", "test", "n2-Pug/n2_2.jpg"), ("n2-Pug", "train", "n2-Pug/n2_1.jpg"),
    },
    "indoor67": {
        ("bar", "test", "bar/b.jpg"), ("bar", "train", "bar/a.jpg"), ("gym", "test", "gym/b.jpg"),
        ("gym", "train", "gym/a.jpg"),
    },
    "flowers102": {
        ("001", "test", "image_00003.jpg"), ("001", "train", "image_00001.jpg"), ("001", "val", "image_00002.jpg"),
        ("102", "test", "image_00006.jpg"), ("102", "train", "image_00004.jpg"), ("102", "val", "image_00005.jpg"),
    },
    "stanford40": {
        ("applauding", "test", "applauding_002.jpg"), ("applauding", "train", "applauding_001.jpg"),
        ("waving_hands", "test", "waving_hands_002.jpg"), ("waving_hands", "train", "waving_hands_001.jpg"),
    },
}  # fmt: skip


def read(layout: str, *roots: Path) -> set[tuple[str, str, str]]:
    problems = Problems(io.StringIO())
    files = list_official(layout, roots, problems)
    if problems.stop:
        raise ConfigError("\n".join(problems.texts(stopping=True)))
    assert all(file.path.is_file() for file in files)
    return {(file.class_name, file.split, file.name) for file in files}


def test_every_layout_is_tried() -> None:
    assert set(PAPERS) == {*LISTS, "caltech256"} == set(EXPECTED) == set(OFFICIAL)


@pytest.mark.parametrize("name", PAPERS)
def test_papers_files_are_read(tmp_path: Path, name: str) -> None:
    root = PAPERS[name](tmp_path / ".hidden above" / "unpacked")
    assert read(name, root) == EXPECTED[name]
    with pytest.raises(ConfigError, match=f"layout {name} needs .*; give "):
        read(name, class_folders(tmp_path / "animals"))


def test_lists_may_lie_beside_the_images_or_come_alone_and_the_folder_itself_may_be_given(tmp_path: Path) -> None:
    together = stanford_dogs(tmp_path / "together", "lists")
    apart = stanford_dogs(tmp_path / "apart")
    lists = tmp_path / "lists_alone"
    lists.mkdir()
    for path in apart.glob("*.mat"):
        path.rename(lists / path.name)
    assert read("stanford_dogs", together) == read("stanford_dogs", apart, lists) == EXPECTED["stanford_dogs"]
    assert read("cub200", cub200(tmp_path / "birds") / "CUB_200_2011") == EXPECTED["cub200"]


@pytest.mark.parametrize(
    ("name", "file", "content", "said"),
    [
        ("cub200", "CUB_200_2011/train_test_split.txt", None, "needs train_test_split.txt"),
        ("cub200", "CUB_200_2011/train_test_split.txt", "1 1\n2 0\n3 1\n", "do not fit each other"),
        ("cub200", "CUB_200_2011/train_test_split.txt", "1 1\n2 0\n3 1\n4 2\n", "do not fit each other"),
        ("cub200", "CUB_200_2011/images.txt", "1 b.jpg\n2 x\n3 y\n4 z\n", "<class>/<image>"),
        ("indoor67", "TestImages.txt", None, "needs TestImages.txt"),
        ("indoor67", "TestImages.txt", "bar/a.jpg\ngym/b.jpg\n", "of an image that has another line"),
        ("indoor67", "TestImages.txt", "bar/gone.jpg\n", "image is not there: the test list, bar/gone.jpg"),
        ("indoor67", "TestImages.txt", "../up.jpg\n", "image is not there"),
        ("indoor67", "TestImages.txt", "/etc/passwd\n", "<class>/<image>"),
        ("stanford_dogs", "test_list.mat", "no MATLAB file, and long enough to be read as one" * 9, "MATLAB"),
        ("flowers102", "setid.mat", None, "needs setid.mat"),
        ("stanford40", "ImageSplits/applauding_test.txt", None, "needs applauding_test.txt"),
        ("stanford40", "JPEGImages/applauding_002.jpg", None, "1 line whose image is not there"),
    ],
)
def test_faults_of_lists_are_named(tmp_path: Path, name: str, file: str, content: str | None, said: str) -> None:
    root = PAPERS[name](tmp_path)
    (root / file).unlink()
    if content is not None:
        (root / file).write_text(content)
    with pytest.raises(ConfigError, match=said):
        read(name, root)


def test_flowers_beyond_the_labels_are_refused(tmp_path: Path) -> None:
    savemat(flowers102(tmp_path) / "setid.mat", {"trnid": [[1, 7]], "valid": [[2]], "tstid": [[3]]})
    with pytest.raises(ConfigError, match="names images beyond the 6"):
        read("flowers102", tmp_path)


# --- what is published ---


def official(algorithm: str | None, digest: str = "", size_bytes: int | None = len(CONTENT)) -> OfficialSet:
    words = {"size_bytes": size_bytes, "algorithm": algorithm, "digest": digest, "published_in": "a program"}
    file = OfficialFile(name="a.tar", **words)
    return OfficialSet(title="Birds", page="https://birds.org", files=(file,), classes=2, images=4, test_images=2)


def test_the_facts_are_complete() -> None:
    for facts in OFFICIAL.values():
        assert facts.page.startswith("http") and 0 < facts.test_images < facts.images and facts.classes > 1
        for file in facts.files:
            assert (file.algorithm is None) == (file.digest == "") == (file.published_in == "")
            if file.algorithm is not None:
                assert len(bytes.fromhex(file.digest)) == hashlib.new(file.algorithm).digest_size
    assert {file.algorithm for facts in OFFICIAL.values() for file in facts.files} == {None, *ALGORITHMS}
    assert OFFICIAL["caltech256"].test_images == 29_780 - 256 * 60


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_published_file_is_recognised_and_one_changed_byte_is_not(tmp_path: Path, algorithm: str) -> None:
    path = tmp_path / "A.tar"  # some disks keep no small letters
    path.write_bytes(CONTENT)
    facts, problems = official(algorithm, hashlib.new(algorithm, CONTENT).hexdigest()), Problems(io.StringIO())
    expected = {"A.tar": {"sha256": hashlib.sha256(CONTENT).hexdigest(), "published_in": "a program"}}
    assert verify_files(facts, [path], problems, unofficial=False) == expected
    path.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(ConfigError, match=f"A.tar has {ALGORITHMS[algorithm]} .*another version.*birds.org"):
        verify_files(facts, [path], problems, unofficial=False)
    assert verify_files(facts, [path], problems, unofficial=True)["A.tar"]["published_in"] == ""
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(ConfigError, match="cut off"):
        verify_files(facts, [path], problems, unofficial=False)
    unknown = verify_files(official(None, size_bytes=None), [path, tmp_path], problems, unofficial=False)
    assert unknown["A.tar"]["published_in"] == "" and len(unknown) == 1


@pytest.mark.parametrize(("classes", "per_class"), [(1, 4), (2, 3), (2, 1)])
def test_a_class_missing_and_an_image_more_or_less_are_refused(classes: int, per_class: int) -> None:
    def files(classes: int, per_class: int) -> list[ImageFile]:
        names = [f"{c:03d}.x/{c:03d}_{n:04d}.jpg" for c in range(1, classes + 1) for n in range(per_class)]
        split = [TEST, *[TRAIN] * (len(names) - 1)]
        return [
            ImageFile(path=Path(name), name=name, class_name=name.split("/")[0], split=of)
            for name, of in zip(names, split, strict=True)
        ]

    problems = Problems(io.StringIO())
    with pytest.raises(ConfigError, match="classes, and there are 2.*images, and there are 4.*type --unofficial"):
        check_counts(official(None), files(classes, per_class), problems, unofficial=False)
    check_counts(official(None), files(classes, per_class), problems, unofficial=True)
    check_counts(official(None), files(2, 2), problems, unofficial=False)


def test_bad_downloads_are_refused_by_name_and_leave_nothing(tmp_path: Path) -> None:
    """Another version, a truncated archive, a web page in its place: at the command, before anything is unpacked."""
    root, layout = tmp_path / "root", ("--layout", "cub200")
    archive = pack(cub200(tmp_path / "unpacked"), tmp_path / "CUB_200_2011.tgz")
    with pytest.raises(ConfigError, match="CUB_200_2011.tgz has .* bytes, and the published file has 1,150,585,339"):
        prepare("birds", archive, root, *layout)
    with pytest.raises(ConfigError, match="--unofficial is for"):
        prepare("birds", archive, root, "--unofficial")
    archive.write_bytes(archive.read_bytes()[:-60])
    with pytest.raises(ConfigError, match="CUB_200_2011.tgz cannot be unpacked"):
        prepare("birds", archive, root, *layout, "--unofficial")
    archive.write_text("\n <!DOCTYPE html><title>503</title>")
    for options in ((), (*layout, "--unofficial")):
        with pytest.raises(ConfigError, match="CUB_200_2011.tgz cannot be unpacked"):
            prepare("birds", archive, root, *options)
    assert not root.exists() or list(root.iterdir()) == []


def test_two_names_are_one_reading_of_the_archive_and_one_copy_on_the_disk(tmp_path: Path) -> None:
    root, archive = tmp_path / "root", pack(cub200(tmp_path / "unpacked"), tmp_path / "CUB_200_2011.tgz")
    options = ("--also", "birds_60", "--layout", "cub200", "--unofficial")
    said = prepare("birds", archive, root, *options)
    assert said.count("unpacking") == 1
    first, second = (manifest.read(root, name) for name in ("birds", "birds_60"))
    assert (first.digest, first.files_digest) == (second.digest, second.files_digest)
    assert (root / "birds" / "target.images.npy").samefile(root / "birds_60" / "target.images.npy")
    for name in ("birds", "birds_60"):
        assert "all files are unchanged" in data("check", root / name)
    made = json.loads((root / "birds_60" / "manifest.json").read_text())["made"]
    assert made["archives"]["CUB_200_2011.tgz"]["published_in"] == ""
    with pytest.raises(ConfigError, match="birds_60 is there already"):
        prepare("others", archive, root, *options)
    with pytest.raises(ConfigError, match="--also others"):
        prepare("others", archive, root, "--also", "others")


def test_images_and_lists_apart(tmp_path: Path) -> None:
    indoor67(tmp_path / "images")
    packed = pack(tmp_path / "images" / "Images", tmp_path / "indoorCVPR_09.tar")
    inner = pack(
        fill(tmp_path / "in", [f"Images/{name}" for name in ("bar/a.jpg", "bar/b.jpg", "gym/a.jpg", "gym/b.jpg")]),
        packed,
    )
    origins = [inner, tmp_path / "images" / "TrainImages.txt", tmp_path / "images" / "TestImages.txt"]
    said = prepare("indoor", origins, tmp_path, "--layout", "indoor67", "--unofficial")
    assert "2 classes, and there are 67" in said and "4 images, and there are 6,700" in said
    assert manifest.read(tmp_path, "indoor").test_images == 2


def test_caltech_leaves_60_images_of_each_class_to_train_on(tmp_path: Path) -> None:
    class_folders(tmp_path / "256_ObjectCategories", per_class=62, classes=("001.ak47", "002.flag", "257.clutter"))
    prepare("caltech", tmp_path, tmp_path / "root", "--layout", "caltech256", "--unofficial")
    assert manifest.read(tmp_path / "root", "caltech").splits["target"] == {"test": 4, "train": 120}
    prepare("fifth", tmp_path, tmp_path / "root", "--layout", "caltech256", "--unofficial", "--test-fraction", 0.5)
    assert manifest.read(tmp_path / "root", "fifth").test_images == 62


# --- torchvision's ---


def test_about_thirty_sets_of_torchvision_are_known_and_there() -> None:
    from torchvision import datasets

    assert len(TORCHVISION) >= 25 and all(hasattr(datasets, name) for name in TORCHVISION)


def mnist(root: Path) -> Path:
    """MNIST's files with few images, as torchvision unpacks them."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 20), ("t10k", 10)):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 28, 28), np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, count, 28, 28) + pixels.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + labels.tobytes())
    return root


def test_a_set_of_arrays_has_torchvisions_splits_classes_and_pixels(tmp_path: Path) -> None:
    prepare("digits28", mnist(tmp_path / "downloads"), tmp_path, "--layout", "MNIST", "--image-px", 28)
    found = manifest.read(tmp_path, "digits28")
    assert found.splits["target"] == {"test": 10, "train": 20} and found.classes["target"][1] == "1 - one"
    images = np.load(tmp_path / "digits28" / "target.images.npy")
    expected = np.random.default_rng(10).integers(0, 256, (10, 28, 28), np.uint8)
    assert any((image == expected[0]).all() for image in images)
    again = prepare("again", tmp_path / "downloads", tmp_path, "--layout", "MNIST", "--image-px", 28)
    assert found.files_digest in again


def test_a_set_of_files_is_read_from_its_files(tmp_path: Path) -> None:
    class_folders(tmp_path / "downloads" / "eurosat" / "2750", classes=("Forest", "River"))
    said = prepare("land", tmp_path / "downloads", tmp_path, "--layout", "EuroSAT")
    assert "no test split is given, so one is drawn" in said
    with (tmp_path / "land" / "images.csv").open() as file:
        assert "eurosat/2750/Forest/0.jpg" in file.read()


def test_a_set_that_is_not_there_and_cannot_be_had_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody answers there
    with pytest.raises(ConfigError, match="torchvision's DTD is not in .*on a machine with a network"):
        prepare("textures", tmp_path / "downloads", tmp_path, "--layout", "DTD")
