"""From a folder of images with a source task to finished trials, and to weights of a file: the whole way, small."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tailor import networks
from tailor.cache import Cache
from tailor.config import parse_trial
from tailor.pretrained import sha256_of
from tailor.runner import StageEvent
from tests.tailor.prepare.pictures import class_folders, prepare

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


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [
        {"name": "transtailor", "steps": 1, "alpha_epochs": 1},
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
    assert events[0].result.state.classes == 2
    last = events[-1].result
    assert last.state.classes == 3
    assert last.info["macs"] < last.info["original_macs"] or method["name"] == "pac_net"
    splits = {name.partition("/")[0] for name in last.read_tensors()}
    assert splits == {"validation", "test"}
    tests = last.read_tensors()["test/label"]
    assert torch.bincount(tests).tolist() == [2, 2, 2]  # a fifth of each class, rounded down


@pytest.mark.slow
def test_weights_of_a_file_and_random_crops(root: Path, run: Run, shared_cache: Cache, tmp_path: Path) -> None:
    weights = networks.build("resnet18", 7, seed=5).state_dict()
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
    loaded, fitted = events[0].result.state, events[1].result.state
    assert all(torch.equal(loaded.tensors[name], tensor) for name, tensor in weights.items())
    assert (loaded.classes, fitted.classes, fitted.input_shape) == (7, 3, (3, 28, 28))
    images = torch.rand(2, 3, 28, 28)
    with torch.no_grad():
        found = loaded.build().eval()(images * 2 - 1)  # data come in [-1, 1]
        plain = networks.rebuild("resnet18", 7, loaded.tensors).eval()
        mean, std = (torch.tensor(source[name])[:, None, None] for name in ("pixel_mean", "pixel_std"))
        torch.testing.assert_close(found, plain((images - mean) / std), rtol=1e-4, atol=1e-5)
