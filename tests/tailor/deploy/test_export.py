"""Saved sub-models in fresh processes: as modules, as torch's programs without this package, and as ONNX."""

import subprocess
import sys
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tailor.common.errors import ConfigError
from tailor.deploy.export import FORMATS, export
from tailor.facts.networks import NETWORKS
from tailor.model.programs import EXAMPLE_BATCH, images_for
from tailor.model.state import ModelState, Pixels, save_model
from tests.tailor.saved_models import EMBEDDED, TORCHVISION, outputs, pruned
from transtailor.__main__ import main

pytestmark = pytest.mark.check
ROOT = Path(__file__).parents[3]
FEW = ["digits_vgg_bn", "friedman_mlp"]  # images and rows of numbers
BATCHES = (1, EXAMPLE_BATCH, 5)
AS_MODULES = """
import sys, torch, tailor
torch.set_num_threads(1)
for name in sys.argv[2:]:
    model = tailor.load_model(f"{sys.argv[1]}/{name}")
    for batch in (1, 2, 5):
        images = torch.load(f"{sys.argv[1]}/{name}/images_{batch}.pt", weights_only=True)
        with torch.no_grad():
            torch.save(model(images), f"{sys.argv[1]}/{name}/module_{batch}.pt")
"""
AS_PROGRAMS = """
import sys, torch, onnxruntime
torch.set_num_threads(1)
for name in sys.argv[2:]:
    program = torch.export.load(f"{sys.argv[1]}/{name}/model.pt2").module()
    session = onnxruntime.InferenceSession(f"{sys.argv[1]}/{name}/model.onnx")
    for batch in (1, 2, 5):
        images = torch.load(f"{sys.argv[1]}/{name}/images_{batch}.pt", weights_only=True)
        with torch.no_grad():
            torch.save(program(images), f"{sys.argv[1]}/{name}/torch-export_{batch}.pt")
        said = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
        torch.save(said, f"{sys.argv[1]}/{name}/onnx_{batch}.pt")
assert not {"tailor", "torchvision"} & set(sys.modules)
"""


@dataclass(frozen=True)
class Saved:
    """Sub-models in folders of their names, and what fresh processes said of the same images."""

    folder: Path
    states: dict[str, ModelState]

    def images(self, network: str, batch: int) -> Tensor:
        return self.read(network, "images", batch)

    def read(self, network: str, what: str, batch: int) -> Tensor:
        tensor: Tensor = torch.load(self.folder / network / f"{what}_{batch}.pt", weights_only=True)
        return tensor


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(FEW, id="few"),
        pytest.param([name for name in EMBEDDED | TORCHVISION if name not in FEW], id="more", marks=pytest.mark.long),
    ],
)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    folder, states = tmp_path_factory.mktemp("saved"), {name: pruned(name) for name in request.param}
    for name, state in states.items():
        save_model(state, folder / name)
        for to, chosen in FORMATS.items():
            (folder / name / f"model{chosen.suffix}").write_bytes(export(state, to).content)
        for batch in BATCHES:
            torch.save(images_for(state, batch, seed=9), folder / name / f"images_{batch}.pt")
    for script in (AS_MODULES, AS_PROGRAMS):
        subprocess.run([sys.executable, "-c", script, str(folder), *states], check=True)
    return Saved(folder, states)


@pytest.fixture(scope="module")
def small() -> ModelState:
    return pruned("friedman_mlp")


@pytest.mark.parametrize("what", ["module", "torch-export", "onnx"])
def test_a_fresh_process_says_the_same(saved: Saved, what: str) -> None:
    for network, state in saved.states.items():
        for batch in BATCHES:
            expected = outputs(state, saved.images(network, batch))
            assert expected.shape == (batch, 5)
            said = saved.read(network, what, batch)
            torch.testing.assert_close(said, expected, rtol=0.0, atol=1e-5 * max(1.0, float(expected.abs().max())))


def test_leaving_out_factors_pixels_or_the_input_would_be_seen(saved: Saved) -> None:
    for network, state in saved.states.items():
        images = saved.images(network, 5)
        expected = outputs(state, images)
        others = [outputs(replace(state, factors={}), images), outputs(state, images.flip(0))]
        if len(state.input_shape) == 3:
            others.append(outputs(replace(state, pixels=Pixels()), images))
        for other in others:
            assert float((other - expected).abs().max()) > 1e-2 * float(expected.abs().max()), network
        assert sum(tensor.numel() for tensor in state.tensors.values()) < 0.9 * NETWORKS[network].params_count


def test_files_name_no_file_of_the_machine_that_wrote_them(saved: Saved) -> None:
    for network in saved.states:
        with zipfile.ZipFile(saved.folder / network / "model.pt2") as archive:
            contents = [archive.read(name) for name in archive.namelist()]
        contents.append((saved.folder / network / "model.onnx").read_bytes())
        for place in (str(ROOT), sys.prefix, ".py"):
            assert [place for content in contents if place.encode() in content] == []


def test_a_program_for_one_batch_takes_no_other(tmp_path: Path) -> None:
    state = pruned("digits_vgg")
    file = tmp_path / "fixed.pt2"
    file.write_bytes(export(state, "torch-export", batch=3).content)
    program = torch.export.load(file).module()
    images = images_for(state, 3, seed=9)
    torch.testing.assert_close(program(images), outputs(state, images))
    with pytest.raises(AssertionError, match="== 3"):
        program(images[:2])


@pytest.mark.parametrize("to", FORMATS)
def test_what_computes_no_numbers_is_refused(small: ModelState, to: str) -> None:
    broken = replace(small, tensors=small.tensors | {"head.bias": torch.full((5,), float("nan"))})
    with pytest.raises(ConfigError, match="differs from the model by nan"):
        export(broken, to)


def test_the_command_writes_beside_the_model(
    small: ModelState, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(small, tmp_path)
    assert main(["model", "export", str(tmp_path), "--to", "torch-export", "--batch", "4"]) == 0
    assert "for 4 image(s) at once" in capsys.readouterr().out
    assert torch.export.load(tmp_path / "model.pt2").module()(torch.zeros(4, 10)).shape == (4, 5)
    assert main(["model", "export", str(tmp_path), "--to", "onnx", "--out", str(tmp_path / "other.onnx")]) == 0
    said = capsys.readouterr().out
    assert "read back and compared with the model" in said and "times as fast as the whole network" in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.json", "model.pt2", "model.safetensors", "other.onnx"]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--to", "onxx"], "did you mean 'onnx'"),
        (["--to", "onnx", "--batch", "0"], "expected a number of 1 or more, or dynamic"),
        (["--to", "onnx", "--batch", "many"], "expected a number of 1 or more, or dynamic"),
    ],
)
def test_mistakes_are_named(
    small: ModelState, tmp_path: Path, capsys: pytest.CaptureFixture[str], typed: list[str], message: str
) -> None:
    save_model(small, tmp_path)
    assert main(["model", "export", str(tmp_path), *typed]) == 2
    assert message in capsys.readouterr().err


OWN_NETWORK = """
import torch
from torch import nn
from tailor.extend import NETWORKS, NetworkInfo

class Undecided(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Linear(10, num_classes)
    def forward(self, rows):
        return self.head(rows) if rows.sum() > 0 else -self.head(rows)

NETWORKS.add("undecided", NetworkInfo(description="", builder=Undecided, head="head", input_shape=(10,)))
"""


def test_a_network_of_ones_own_is_brought_and_what_cannot_be_traced_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(NETWORKS, "_records", dict(NETWORKS._records))
    state = ModelState(
        network="undecided",
        classes=5,
        input_shape=(10,),
        tensors={"head.weight": torch.ones(5, 10), "head.bias": torch.zeros(5)},
    )
    save_model(state, tmp_path / "model")
    (tmp_path / "own.py").write_text(OWN_NETWORK)
    typed = ["model", "export", str(tmp_path / "model"), "--to", "torch-export"]
    assert main(typed) == 2
    assert "give the module that registers it: --import FILE" in capsys.readouterr().err
    assert main([*typed, "--import", str(tmp_path / "own.py")]) == 2
    refused = capsys.readouterr().err
    assert "network 'undecided': its code cannot be followed" in refused and "Traceback" not in refused


@pytest.mark.parametrize("out", ["folder", "file/model.pt2"])
def test_a_place_that_cannot_be_written_to_is_refused(
    out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(pruned("friedman_mlp"), tmp_path / "model")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    assert main(["model", "export", str(tmp_path / "model"), "--to", "torch-export", "--out", str(tmp_path / out)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path / out} cannot be written: ") and "--out FILE" in said  # before it exports
    table = ["model", "table", "digits_vgg", "--image-px", "8", "--out", str(tmp_path / out)]
    assert main(table) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith(f"error: {tmp_path / out} cannot be written: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "model"]
    assert not list((tmp_path / "folder").iterdir())


@pytest.mark.parametrize(
    ("out", "to", "other"), [("small.PT2", "onnx", "torch-export"), ("small.onnx", "torch-export", "onnx")]
)
def test_a_file_called_as_one_of_the_other_format_is_refused(
    out: str, to: str, other: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(pruned("friedman_mlp"), tmp_path / "model")
    assert main(["model", "export", str(tmp_path / "model"), "--to", to, "--out", str(tmp_path / out)]) == 2
    assert f"is a name for --to {other}, but --to is {to}" in capsys.readouterr().err
    assert not (tmp_path / out).exists()
