"""A saved sub-model that somebody made by hand, with a SHA-256 that fits: refused in words by whoever loads it."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from tailor.common.errors import ConfigError
from tailor.execution.plugins import load
from tailor.facts.networks import NETWORKS
from tailor.model.state import ModelState, load_model, load_state, save_model
from tailor.networks import building
from tests.faults.whole_files import write_model
from transtailor.__main__ import main

Tensors = dict[str, Tensor]


def forge(folder: Path, content: bytes) -> None:
    """A model of these bytes."""
    (folder / "model.safetensors").write_bytes(content)
    described = json.loads((folder / "model.json").read_text())
    described["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "model.json").write_text(json.dumps(described))


def _first(tensors: Tensors) -> str:
    return next(name for name, tensor in tensors.items() if tensor.dim() == 2 and len(tensor) > 1)


WORDS = re.compile("has no tensors as|do not fit friedman_mlp|does not compute")
FORGED: dict[str, Callable[[Tensors], Tensors]] = {
    "a part that there is not": lambda tensors: tensors | {"other/x": torch.ones(1)},
    "a factor of no module": lambda tensors: tensors | {"factors/no.such": torch.ones(1)},
    "a factor of another width": lambda tensors: tensors | {"factors/" + _first(tensors)[8:-7]: torch.ones(3)},
    "a weight of one dimension": lambda tensors: tensors | {_first(tensors): torch.ones(4)},
    "a weight of another width": lambda tensors: tensors | {_first(tensors): torch.ones(3, 2)},
    "a weight of whole numbers": lambda tensors: tensors | {_first(tensors): torch.ones(4, 4, dtype=torch.int8)},
    "a weight without numbers": lambda tensors: tensors | {_first(tensors): torch.ones(0, 0)},
    "a weight that is missing": lambda tensors: {name: t for name, t in tensors.items() if name != _first(tensors)},
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_tensors_are_refused(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_model(tmp_path)
    load_model(tmp_path)
    tensors = safetensors.torch.load_file(tmp_path / "model.safetensors")
    forge(tmp_path, safetensors.torch.save(FORGED[case](tensors)))
    assert main(["model", "time", str(tmp_path), "--repeats", "2"]) == 2
    said = capsys.readouterr().err
    assert WORDS.search(said), said
    assert "Traceback" not in said


@pytest.mark.parametrize("content", [b"", b"no tensors", (2**63).to_bytes(8, "little"), b"\x05" + 7 * b"\0" + b"[[[[["])
def test_bytes_that_are_no_tensors_are_refused(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model(tmp_path)
    forge(tmp_path, content)
    assert main(["model", "time", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "model.safetensors has no tensors as `run --save` writes them: SafetensorError: " in said
    assert "Traceback" not in said


def test_a_description_that_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path)
    (tmp_path / "model.json").write_text('{"a":' * 5000)
    with pytest.raises(ConfigError, match="holds no saved model"):
        load_state(tmp_path)


NETWORK = """
from tailor.extend import NETWORKS, NetworkInfo

def build(num_classes):
    from torch import nn
    return nn.Sequential(nn.Linear(10, 4), nn.ReLU(), nn.Linear(4, num_classes))

NETWORKS.add("of_a_user", NetworkInfo(description="", builder=build, head="2", input_shape=(10,)))
"""


def test_another_version_of_the_users_network_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tensors may fit it, and it may compute something else."""
    monkeypatch.setattr(NETWORKS, "_records", dict(NETWORKS._records))
    (tmp_path / "net.py").write_text(NETWORK)
    sha256 = load(tmp_path / "net.py").sha256
    tensors = building.build("of_a_user", 1, seed=0).state_dict()
    save_model(ModelState(network="of_a_user", classes=1, input_shape=(10,), tensors=tensors), tmp_path)
    described = json.loads((tmp_path / "model.json").read_text())
    for imports in ({}, {"network of_a_user": sha256}, {"network other": "0" * 64}):
        (tmp_path / "model.json").write_text(json.dumps(described | {"facts": {"imports": imports, "trial_id": "a"}}))
        load_model(tmp_path)
    other = described | {"facts": {"imports": {"network of_a_user": "0" * 64}}}
    (tmp_path / "model.json").write_text(json.dumps(other))
    with pytest.raises(ConfigError, match=f"of network 'of_a_user' from a module of SHA-256 {'0' * 64}.*{sha256}"):
        load_model(tmp_path)
    assert main(["model", "time", str(tmp_path), "--import", str(tmp_path / "net.py")]) == 2
    said = capsys.readouterr().err
    assert "give that version: --import FILE" in said and "Traceback" not in said


@pytest.mark.parametrize("facts", [[], {"imports": []}, {"imports": {"network friedman_mlp": 1}}])
def test_a_card_with_facts_of_another_kind_is_refused(facts: object, tmp_path: Path) -> None:
    write_model(tmp_path)
    described = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(described | {"facts": facts}))
    with pytest.raises(ConfigError, match="holds no saved model.*facts"):
        load_state(tmp_path)
