"""How fast a sub-model and its exported files are beside the whole network: on its card and in what is printed."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import nn

import tailor
from tailor.deploy.card import SPEED_UNKNOWN, record, save_with_card
from tailor.deploy.speed import Speed
from tailor.model.state import ModelState, save_model
from tailor.networks import building
from tests.tailor.deploy.test_card import facts
from tests.tailor.saved_models import pruned
from transtailor.__main__ import main

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, outputs=5):
        super().__init__()
        self.first, self.head = nn.Linear(10, 40), nn.Linear(40, outputs)

    def forward(self, rows):
        return self.head(self.first(rows).relu())

class Pair(Net):
    def forward(self, rows):
        return super().forward(rows), rows

class Far(Net):
    def forward(self, rows):
        return torch.cdist(super().forward(rows), torch.ones(2, 5))

def other():
    return Net(outputs=3)

def nothing():
    return 3
"""


SPEED = Speed(times_as_fast=1.5, latency_ms=2.0, whole_latency_ms=3.0, is_steady=True, circumstance="here, batch 1")


def test_the_card_has_a_speed_for_each_timed_file_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_with_card(pruned("friedman_mlp"), facts(), folder)
    record(folder, "speed_of_files", asdict(SPEED), folder / "model.onnx")
    card = (folder / "card.md").read_text()
    assert "| speed of model.onnx | 1.50 times" in card and SPEED_UNKNOWN not in card
    record(folder, "speed_of_files", None, tmp_path / "model.onnx")  # a file elsewhere says nothing of the one here
    record(folder, "speed_of_files", None, folder / "other.onnx")
    assert (folder / "card.md").read_text() == card
    record(folder, "speed", asdict(SPEED))
    both = (folder / "card.md").read_text()
    assert "| speed | 1.50 times" in both and "| speed of model.onnx | 1.50 times" in both
    record(folder, "speed_of_files", None, folder / "model.onnx")  # an untimed one takes its place
    assert "speed of" not in (folder / "card.md").read_text()
    assert "3 ms; here, batch 1" in (folder / "card.md").read_text()


def test_a_speed_of_0_2_that_names_padded_widths_is_read(tmp_path: Path) -> None:
    save_with_card(pruned("friedman_mlp"), facts(), tmp_path)
    record(tmp_path, "speed_of_files", asdict(SPEED), tmp_path / "model.onnx")
    description = json.loads((tmp_path / "model.json").read_bytes())
    description["speed_of_files"]["model.onnx"]["widths"] = "padded to multiples of 8, 9 MACs"
    (tmp_path / "model.json").write_text(json.dumps(description))
    record(tmp_path, "speed", asdict(SPEED))
    assert "| speed of model.onnx | 1.50 times" in (tmp_path / "card.md").read_text()


def test_speed_and_licence_stay_where_the_same_weights_are_saved_again(tmp_path: Path) -> None:
    state = pruned("friedman_mlp")
    save_with_card(state, facts(licence="MIT"), tmp_path)
    record(tmp_path, "speed", asdict(SPEED))
    record(tmp_path, "speed_of_files", asdict(SPEED), tmp_path / "model.onnx")
    card = (tmp_path / "card.md").read_text()
    save_with_card(state, facts(), tmp_path)
    assert (tmp_path / "card.md").read_text() == card
    save_with_card(replace(state, tensors={name: x + 1 for name, x in state.tensors.items()}), facts(), tmp_path)
    card = (tmp_path / "card.md").read_text()
    assert SPEED_UNKNOWN in card and "MIT" not in card


def test_a_model_without_a_card_gets_none(tmp_path: Path) -> None:
    save_model(pruned("friedman_mlp"), tmp_path)
    before = (tmp_path / "model.json").read_bytes()
    record(tmp_path, "speed", asdict(SPEED))
    assert (tmp_path / "model.json").read_bytes() == before


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network of a user's own in net.py, and pruned in pruned/."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    names: dict[str, type[nn.Module]] = {}
    exec(NET, names)  # noqa: S102  # as the file has it
    torch.manual_seed(0)
    made = tailor.prune(names["Net"](), torch.zeros(1, 10), criterion="l2", asked_removed_macs_fraction=0.3)
    made.save("pruned")
    made.model.half()
    made.save("half")
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ([], "--module net.py:Net"),
        (["--module", "net.py"], "expected FILE:NAME"),
        (["--module", "net.py:Nett"], "did you mean 'Net'"),
        (["--module", "net.py:other"], "is of another network"),
        (["--module", "net.py:nothing"], "it makes a int and not a torch.nn.Module"),
        (["--module", "lost.py:Net"], "cannot be made"),
        (["--module", "net.py:Pair", "--no-time"], "Pair returns a tuple, and a program has one tensor of outputs"),
        (["--module", "net.py:Far", "--no-time", "--batch", "2"], "cannot be written as ONNX (No ONNX function found"),
        (["--module", "net.py:Net", "--threads", "0"], "'--threads': 0 is not in the range x>=1"),
    ],
)
def test_mistakes_with_a_network_of_ones_own_are_explained(
    own: Path, typed: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "export", "pruned", "--to", "onnx", *typed]) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
    assert not (own / "pruned" / "model.onnx").exists()


@pytest.mark.usefixtures("own")
def test_weights_in_half_are_exported_in_float32() -> None:
    assert main(["model", "export", "half", "--to", "torch-export", "--module", "net.py:Net"]) == 0


@pytest.mark.check
def test_a_network_of_ones_own_is_exported_and_timed(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What `tailor.prune(...).save` wrote, by the class that made it; the file computes what the loaded module does."""
    import onnxruntime

    assert main(["model", "export", "pruned", "--to", "onnx", "--module", "net.py:Net"]) == 0
    said = capsys.readouterr().out
    assert "times as fast as the whole network" in said
    names: dict[str, type[nn.Module]] = {}
    exec(NET, names)  # noqa: S102
    rows = torch.randn(3, 10)
    with torch.no_grad():
        expected = tailor.load("pruned", model=names["Net"]()).eval()(rows)
    session = onnxruntime.InferenceSession(own / "pruned" / "model.onnx", providers=["CPUExecutionProvider"])
    (outputs,) = session.run(None, {"images": rows.numpy()})
    torch.testing.assert_close(torch.from_numpy(outputs), expected, rtol=0.0, atol=1e-5)
    assert main(["model", "time", "pruned", "--runtime", "eager", "--repeats", "6", "--module", "net.py:Net"]) == 0
    assert "times as fast as the whole network" in capsys.readouterr().out


@pytest.mark.check
def test_a_network_that_lost_nothing_is_timed_beside_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = building.build("friedman_mlp", 5, seed=0).state_dict()
    save_model(ModelState(network="friedman_mlp", classes=5, input_shape=(10,), tensors=tensors), tmp_path)
    assert main(["model", "export", str(tmp_path), "--to", "onnx", "--batch", "1", "--threads", "1"]) == 0
    assert "speed of model.onnx: " in capsys.readouterr().out
