"""What the table of networks says of saved ones: rebuilt in a fresh process without pickle, exported by the command."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tailor.saved_models import pruned
from tools import networks_saved
from tools.networks_document import (
    DOCUMENT,
    MOST_USED,
    NOT_TRIED,
    VERSION,
    Checked,
    load_table,
    page,
)
from tools.networks_saved import SAID_FILE, YES, save_example, try_export, try_rebuild


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_example(pruned("digits_vgg"), tmp_path)
    return tmp_path


def test_a_saved_network_is_rebuilt_and_exported(folder: Path) -> None:
    assert try_rebuild(folder) == YES
    assert try_export(folder, "torch-export") == YES
    assert (folder / "model.pt2").exists()


def test_other_outputs_are_a_difference(folder: Path) -> None:
    said = load_file(folder / SAID_FILE)
    for outputs in (said["outputs"] * (1 + 1e-6), said["outputs"] * float("nan")):
        save_file(said | {"outputs": outputs}, folder / SAID_FILE)
        assert try_rebuild(folder).startswith("outputs differ by ")


def test_a_torn_network_is_neither_and_says_why(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"torn")
    for said in (try_rebuild(folder), try_export(folder, "torch-export")):
        assert "FOLDER/model.safetensors was changed or is incomplete" in said
        assert str(folder) not in said


def test_what_unpickles_is_not_rebuilt(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = networks_saved.REBUILD.replace("said = ", "import pickle; pickle.loads(pickle.dumps(Exception)); said = ")
    monkeypatch.setattr(networks_saved, "REBUILD", script)
    assert "rebuilding it unpickles" in try_rebuild(folder)


def test_a_saved_example_is_what_the_network_says(folder: Path) -> None:
    said = load_file(folder / SAID_FILE)
    with torch.no_grad():
        assert torch.equal(pruned("digits_vgg").fold_factors().build().eval()(said["images"]), said["outputs"])
    assert said["outputs"].abs().max() > 0.1


# --- the page ---


def test_the_page_is_what_the_file_says() -> None:
    """But for the version of torchvision that it was made with: another one may be installed here."""
    text, replaced = re.subn(r"torchvision \d[\d.]*;", f"torchvision {VERSION};", DOCUMENT.read_text())
    assert replaced == 1
    assert text == page(load_table())


def test_what_was_tried_went_well() -> None:
    """The floor of 74 is on what passes; of the rest, whatever was measured."""
    for name, found in load_table().items():
        checked = Checked(**found["checked"])
        assert {checked.rebuilt, checked.torch_export} <= {YES, NOT_TRIED}, name
        assert checked.onnx == NOT_TRIED or name in MOST_USED
