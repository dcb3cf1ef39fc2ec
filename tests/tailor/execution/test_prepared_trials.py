"""From a folder of images or official archives to finished trials: the whole way by the commands, small."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tailor.config.parsing import parse_trial
from tailor.execution.cache import Cache
from tailor.execution.runner import StageEvent
from tailor.facts.weights import sha256_of
from tailor.networks import building
from tests.tailor.prepare.pictures import class_folders, prepare
from transtailor.__main__ import main

Run = Callable[..., list[StageEvent]]
SHORT = {
    "source": {"epochs": 1},
    "optimisation": {"epochs": 1, "head_epochs": 1, "batch_size": 8},
    "network": "resnet18",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared set of 32 pixels: two classes are the source task, three the target."""
    folder = tmp_path_factory.mktemp("prepared")
    images = class_folders(folder / "images", 12, ("ant", "bee", "cat", "dog", "elk"))
    prepare("animals", images, folder / "data", "--image-px", 32, "--source-classes", "ant,bee")
    return folder / "data"


def trial(root: Path, method: dict[str, Any], **settings: Any) -> Any:
    data = {"name": "animals", "root": str(root), "train_images": 16} | settings.pop("data", {})
    return parse_trial(SHORT | {"method": method, "data": data} | settings, "test")


@pytest.mark.check
@pytest.mark.parametrize(
    "method",
    [
        {"name": "pac_net", "allocate_epochs": 1},
        {"name": "target_aware_adaptation", "iterations": 1, "kept_cumulative_fraction": 0.8},
    ],
    ids=lambda method: method["name"],
)
def test_the_published_systems_run_on_a_folder_of_images(
    method: dict[str, Any], root: Path, run: Run, shared_cache: Cache
) -> None:
    events = run(trial(root, method), shared_cache)
    assert events[0].result.stage.kind == "train_source"
    assert events[0].result.model_state().classes == 2
    last = events[-1].result
    assert last.model_state().classes == 3
    assert last.info["macs"] < last.info["original_macs"] or method["name"] == "pac_net"
    groups = {name.partition("/")[0] for name in last.read_tensors()}
    assert groups == {"validation", "test", "scores"} | (set() if method["name"] == "pac_net" else {"kept"})
    tests = last.read_tensors()["test/label"]
    assert torch.bincount(tests).tolist() == [2, 2, 2]  # a fifth of each class, rounded down


@pytest.fixture(scope="module")
def resnet18_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    safetensors.torch.save_file(building.build("resnet18", 7, seed=5).state_dict(), path)
    return path


@pytest.mark.check
def test_from_a_folder_to_a_finished_trial_by_the_commands(
    tmp_path: Path, resnet18_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    origin = str(class_folders(tmp_path / "photographs", 8, ("001.ant", "002.bee")))
    root, file = str(tmp_path / "datasets"), tmp_path / "trial.toml"
    assert main(["data", "prepare", "mine", "--from", origin, "--to", root, "--image-px", "36"]) == 0
    assert main(["data", "check", f"{root}/mine"]) == 0
    file.write_text(f"""
network = "resnet18"
data = {{ name = "mine", root = "{root}", train_images = 8, augmentation = "crop_flip", crop_px = 32 }}
method = {{ name = "transtailor", steps = 1, alpha_epochs = 1 }}
optimisation = {{ epochs = 1, head_epochs = 1, batch_size = 8 }}
[source]
weights = "{resnet18_file}"
weights_sha256 = "{sha256_of(resnet18_file)}"
""")
    capsys.readouterr()
    assert main(["trial", "run", str(file), "--cache", str(tmp_path / "cache"), "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "point 0: 0.0% of the MACs removed" in printed
    assert re.search(r"point 1: 1\d\.\d% of the MACs removed", printed)
