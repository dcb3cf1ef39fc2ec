"""A prepared data set as it is read: every changed byte and every false manifest is noticed, and nothing is written."""

import json
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tailor.common.errors import ConfigError
from tailor.data import arrays, task_data
from tailor.data.arrays import Arrays, load, open_array
from tailor.data.images_file import read_images
from tailor.data.prepared import image_tensor
from tailor.facts import datasets, manifest
from tailor.facts.manifest import ARRAY_FILES, IMAGES_FILE
from tests.tailor.prepare.pictures import class_folders, data, prepare
from tests.tailor.prepare.test_preparation import unreadable


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A prepared data set with a source task."""
    origin = class_folders(tmp_path / "images", per_class=5, classes=("cat", "cow", "dog", "eel"))
    prepare("animals", origin, tmp_path, "--source-classes", "dog,eel")
    return tmp_path / "animals"


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
