"""The steps on a card, done by the code of docs/export.md without this package, give the program's own pixels."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from tailor.config.parsing import parse_trial
from tailor.data import task_data
from tailor.data.augmentation import centre
from tailor.deploy.card import SPEED_UNKNOWN, facts_of, record, save_with_card
from tailor.deploy.speed import Speed
from tailor.facts.preprocess import steps_from_file
from tailor.methods.recipe import task_of
from tailor.prepare.pictures import decode
from tests.pages import DOCS, blocks
from tests.tailor.deploy.test_card import POINT
from tests.tailor.prepare.pictures import class_folders, picture, prepare
from tests.tailor.saved_models import pruned
from transtailor.__main__ import main

SIDES = [(80, 57), (57, 80), (83, 131), (40, 40), (65, 200), (81, 80)]
Inputs = Callable[[Path, list[dict[str, Any]]], Tensor]


@pytest.fixture(scope="module")
def inputs_of() -> Inputs:
    """The function of the page."""
    names: dict[str, Any] = {}
    (block,) = (block for block in blocks(DOCS / "export.md") if "def inputs_of" in block.text)
    exec(block.text, names)  # noqa: S102  # our own page
    function: Inputs = names["inputs_of"]
    return function


def files(folder: Path) -> Iterator[Path]:
    """Image files of every shape and kind that is read otherwise than a plain RGB."""
    for number, size in enumerate(SIDES):
        file = folder / f"{number}.jpg"
        turned = Image.Exif()
        turned[0x0112] = 1 + number  # EXIF's orientation
        picture(number, size).save(file, exif=turned)
        yield file
    for number, mode in enumerate(("L", "P", "CMYK", "1")):
        file = folder / f"{mode}.tif"
        picture(number, (71, 90), mode).save(file)
        yield file
    for number, mode in enumerate(("RGBA", "LA")):
        image = picture(number, (97, 71)).convert(mode)
        image.putalpha(picture(number + 5, (97, 71), "L"))
        image.save(folder / f"{mode}.png")
        yield folder / f"{mode}.png"
    image = picture(3, (71, 90)).quantize(16)
    image.save(folder / "hole.gif", transparency=3)
    yield folder / "hole.gif"


@pytest.mark.parametrize(("image_px", "crop_px"), [(80, 65), (80, None), (33, 32), (48, 17)])
def test_the_page_makes_the_programs_pixels(
    image_px: int, crop_px: int | None, inputs_of: Inputs, tmp_path: Path
) -> None:
    steps: Any = steps_from_file(image_px, crop_px)
    cut_at_once = [step for step in steps if step != {"step": "center_crop", "side_px": image_px}]
    others = 0
    for file in files(tmp_path):
        decoded = decode(file, image_px)
        assert decoded.pixels is not None, decoded.problem
        expected = task_data.normalise(centre(torch.from_numpy(decoded.pixels)[None], crop_px))
        assert torch.equal(inputs_of(file, steps), expected), file.name
        if crop_px is not None:
            others += not torch.equal(inputs_of(file, cut_at_once), expected)
    if (image_px - (crop_px or image_px)) % 2:
        assert others  # to cut once, from the image, is not the same


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A model with the card of a trial on a prepared set of 32 pixels, of which the network sees 25."""
    photographs = class_folders(tmp_path / "photographs", 10, ("ant", "bee", "cat", "d\u00f6g"))
    prepare("animals", photographs, tmp_path / "data", "--image-px", 32, "--source-classes", "ant,bee")
    data = {"name": "animals", "root": str(tmp_path / "data"), "train_images": 9, "crop_px": 25}
    config = parse_trial({"network": "resnet18", "method": "fine_tune", "data": data}, "test")
    facts = facts_of(config, POINT | {"test_score": None}, command="typed", licence=None)
    save_with_card(pruned("digits_resnet"), facts, tmp_path / "model")
    return tmp_path / "model"


def test_the_card_of_a_prepared_set_has_the_steps_and_classes_of_its_images(
    saved: Path, inputs_of: Inputs, tmp_path: Path
) -> None:
    card = json.loads((saved / "model.json").read_bytes())
    text = (saved / "card.md").read_text()
    assert json.dumps(card["preprocess"][-2]) in text
    assert card["class_names"] == ["cat", "d\u00f6g"] and '["cat", "d\u00f6g"]' in text
    of_trial = card["facts"]["settings"]["data"] | {"root": str(tmp_path / "data")}
    config = parse_trial({"method": "fine_tune", "network": "resnet18", "data": of_trial}, "test")
    train = task_data.splits(task_of(config.data, 0), config.data.root).train
    images = torch.cat([images for images, _ in task_data.ordered_batches(train)])
    by_file = [inputs_of(file, card["preprocess"]) for file in sorted((tmp_path / "photographs").rglob("*.jpg"))]
    for image in images:
        assert any(torch.equal(image[None], inputs) for inputs in by_file)


@pytest.mark.check
def test_exported_files_have_the_steps_and_the_classes(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = json.loads((saved / "model.json").read_bytes())["preprocess"]
    assert main(["model", "export", str(saved), "--to", "torch-export"]) == 0
    assert "exporting it to torch-export ..." in capsys.readouterr().err
    extra = {"preprocess": "", "class_names": ""}
    program = torch.export.load(saved / "model.pt2", extra_files=extra)
    assert json.loads(extra["preprocess"]) == steps and json.loads(extra["class_names"]) == ["cat", "d\u00f6g"]
    assert program.module()(torch.zeros(2, 1, 8, 8)).shape[0] == 2
    onnxruntime = pytest.importorskip("onnxruntime")
    speed = {"times_as_fast": 1.5, "latency_ms": 2.0, "whole_latency_ms": 3.0, "is_steady": True}
    record(saved, "speed_of_files", asdict(Speed(**speed, circumstance="here")), saved / "model.onnx")
    assert SPEED_UNKNOWN not in (saved / "card.md").read_text()
    assert main(["model", "export", str(saved), "--to", "onnx", "--no-time"]) == 0
    assert SPEED_UNKNOWN in (saved / "card.md").read_text()  # that of another file
    session = onnxruntime.InferenceSession(saved / "model.onnx", providers=["CPUExecutionProvider"])
    of_files = session.get_modelmeta().custom_metadata_map
    assert json.loads(of_files["preprocess"]) == steps and json.loads(of_files["class_names"]) == ["cat", "d\u00f6g"]


def test_data_that_are_no_image_files_have_no_steps(tmp_path: Path) -> None:
    config = parse_trial({"network": "digits_resnet", "method": "fine_tune"}, "test")
    facts = facts_of(config, POINT | {"test_score": None}, command="typed", licence=None)
    save_with_card(pruned("digits_resnet"), facts, tmp_path)
    assert "preprocess" not in json.loads((tmp_path / "model.json").read_bytes())
    assert "image file" not in (tmp_path / "card.md").read_text()
    assert facts["class_names"] == ["5", "6", "7", "8", "9"]
    numbers = parse_trial({"network": "friedman_mlp", "data": {"name": "friedman1"}, "method": "fine_tune"}, "test")
    assert facts_of(numbers, POINT | {"test_score": None}, command="typed", licence=None)["class_names"] is None
