"""From a folder of images or official archives to finished trials: the whole way by the commands, small."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from scipy.io import savemat

from tailor.config.parsing import parse_trial
from tailor.execution.cache import Cache
from tailor.execution.runner import StageEvent
from tailor.facts.weights import sha256_of
from tailor.networks import building
from tests.tailor.prepare.pictures import class_folders, fill, pack, prepare
from tests.tailor.prepare.test_layouts import matlab_cells
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


@pytest.mark.check
def test_weights_of_a_file_and_random_crops(root: Path, run: Run, shared_cache: Cache, tmp_path: Path) -> None:
    weights = building.build("resnet18", 7, seed=5).state_dict()
    path = tmp_path / "resnet18.safetensors"
    safetensors.torch.save_file(weights, path)
    source = {
        "weights": str(path),
        "weights_sha256": sha256_of(path),
        "pixel_mean": [0.485, 0.456, 0.406],
        "pixel_std": [0.229, 0.224, 0.225],
    }
    crops = {"augmentation": "crop_flip", "crop_px": 28}
    events = run(trial(root, {"name": "head_only"}, source=source, data=crops), shared_cache)
    loaded, fitted = events[0].result.model_state(), events[1].result.model_state()
    assert all(torch.equal(loaded.tensors[name], tensor) for name, tensor in weights.items())
    assert (loaded.classes, fitted.classes, fitted.input_shape) == (7, 3, (3, 28, 28))
    images = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = loaded.build().eval()(images * 2 - 1)  # data come in [-1, 1]
        plain = building.rebuild("resnet18", 7, loaded.tensors).eval()
        mean, std = (torch.tensor(source[name])[:, None, None] for name in ("pixel_mean", "pixel_std"))
        torch.testing.assert_close(found, plain((images - mean) / std), rtol=1e-4, atol=1e-5)


# --- archives, small: two classes, eight images of each; what the other layouts list is in test_layouts.py ---

CLASSES = ("001.ant", "002.bee")
TRAIN, TEST = range(1, 7), range(7, 9)


def stanford_dogs(folder: Path) -> list[Path]:
    lists = folder / "lists"
    lists.mkdir(parents=True)
    for split, numbers in (("train", TRAIN), ("test", TEST)):
        names = [f"n0-{name}/n0_{number}.jpg" for name in CLASSES for number in numbers]
        fill(folder / "unpacked" / "Images", names, first=100 * len(split))
        savemat(lists / f"{split}_list.mat", {"file_list": matlab_cells(names)})
    return [pack(folder / "unpacked", folder / "images.tar"), pack(lists, folder / "lists.tar")]


def flowers102(folder: Path) -> list[Path]:
    fill(folder / "unpacked" / "jpg", [f"image_{number:05d}.jpg" for number in range(1, 17)])
    savemat(folder / "imagelabels.mat", {"labels": np.repeat([1, 102], 8)[None].astype(np.uint8)})
    first, second = np.arange(1, 9), np.arange(9, 17)
    splits = {"trnid": (0, 3), "valid": (3, 6), "tstid": (6, 8)}
    cut = {name: np.concatenate([part[slice(*of)] for part in (first, second)])[None] for name, of in splits.items()}
    savemat(folder / "setid.mat", cut)
    return [pack(folder / "unpacked", folder / "102flowers.tgz"), folder / "imagelabels.mat", folder / "setid.mat"]


def folder(folder: Path) -> list[Path]:
    return [class_folders(folder / "photographs", 8, CLASSES)]


ARCHIVES = {function.__name__: function for function in (folder, stanford_dogs, flowers102)}


@pytest.fixture(scope="module")
def resnet18_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    safetensors.torch.save_file(building.build("resnet18", 7, seed=5).state_dict(), path)
    return path


@pytest.mark.check
@pytest.mark.parametrize("layout", ARCHIVES)
def test_from_an_archive_to_a_finished_trial_by_the_commands(
    layout: str, tmp_path: Path, resnet18_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    origins = [str(path) for path in ARCHIVES[layout](tmp_path)]
    root, file = str(tmp_path / "datasets"), tmp_path / "trial.toml"
    chosen = [] if layout == "folder" else ["--layout", layout, "--unofficial"]
    assert main(["data", "prepare", "mine", *chosen, "--from", *origins, "--to", root, "--image-px", "36"]) == 0
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
