"""A sub-model in 8-bit integers: how good it is, channels of zeros, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tailor.common.errors import ConfigError
from tailor.data.task_data import Samples, splits
from tailor.deploy.card import save_point
from tailor.deploy.export import export
from tailor.deploy.int8 import quantise, score, splits_of
from tailor.execution.cache import Cache
from tailor.execution.runner import run_trial
from tailor.methods.recipe import Recipe
from tailor.model.state import DESCRIPTION_FILE, ModelState, save_model
from tailor.parallel.process_group import join
from tailor.pruning.padding import pad
from tests.tailor.saved_models import pruned
from tests.tailor.trials import short_trial
from transtailor.__main__ import main

pytestmark = pytest.mark.check  # the network that all tests share takes 15 s


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sub-model of a short trial, with its card."""
    folder = tmp_path_factory.mktemp("int8")
    config = short_trial(
        {"name": "prune", "criterion": "l1", "asked_removed_macs_fraction": 0.3}, network="digits_resnet"
    )
    for event in run_trial(config, cache=Cache(folder / "cache"), ranks=join("cpu")):
        if event.point is not None:
            save_point(config, event, event.result.model_state(), folder / "model", command="typed", licence=None)
    return folder / "model"


def test_the_splits_are_those_of_the_trial(saved: Path) -> None:
    config = short_trial(
        {"name": "prune", "criterion": "l1", "asked_removed_macs_fraction": 0.3}, network="digits_resnet"
    )
    expected = splits(Recipe(config).task)
    found = splits_of(saved, None)
    assert torch.equal(found.train.ids, expected.train.ids)
    assert torch.equal(found.validation.ids, expected.validation.ids)


def test_without_a_card_or_with_other_data_it_is_refused(saved: Path, tmp_path: Path) -> None:
    save_model(pruned("friedman_mlp"), tmp_path / "plain")
    with pytest.raises(ConfigError, match="does not say which"):
        splits_of(tmp_path / "plain", None)
    description = json.loads((saved / DESCRIPTION_FILE).read_bytes())
    description["facts"]["data_sha256"] = "0" * 64
    (tmp_path / DESCRIPTION_FILE).write_text(json.dumps(description))
    with pytest.raises(ConfigError, match="the model was made with 0000"):
        splits_of(tmp_path, None)
    description["facts"]["settings"]["data"]["name"] = "lost"
    (tmp_path / DESCRIPTION_FILE).write_text(json.dumps(description))
    with pytest.raises(ConfigError, match="'digits' of the model was not found; give the folder .*--data-root FOLDER"):
        splits_of(tmp_path, None)
    with pytest.raises(ConfigError, match=f"not found: no data set 'lost' is prepared in {tmp_path}"):
        splits_of(tmp_path, tmp_path)


@pytest.mark.parametrize("typed", [["--to", "torch-export"], ["--to", "onnx", "--batch", "2"]])
def test_it_is_for_onnx_with_any_number_of_images(
    saved: Path, typed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "export", str(saved), *typed, "--int8"]) == 2
    assert "--to onnx, without --batch" in capsys.readouterr().err


@pytest.mark.check
def test_the_command_writes_integers_beside_the_floats(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnx

    file = tmp_path / "small.onnx"
    assert main(["model", "export", str(saved), "--to", "onnx", "--no-time", "--int8", "--out", str(file)]) == 0
    said = capsys.readouterr().out
    assert "int8: validation accuracy" in said and "times as fast as in float32" in said
    integers = onnx.load(tmp_path / "small.int8.onnx")
    kinds = {node.op_type for node in integers.graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds and "BatchNormalization" not in kinds
    data = splits_of(saved, None)
    of_floats = score(file.read_bytes(), data.validation)
    of_integers = score((tmp_path / "small.int8.onnx").read_bytes(), data.validation)
    card = json.loads((saved / DESCRIPTION_FILE).read_bytes())["facts"]["scores"]
    assert of_floats.score == pytest.approx(card["validation"], abs=1e-6)
    assert abs(of_integers.score - of_floats.score) < 0.05


@pytest.mark.check
def test_channels_of_zeros_do_no_harm() -> None:
    """A padded network in integers computes about what it computes in floats: no scale is zero."""
    state = pruned("digits_vgg_bn").fold_factors()
    padded = pad(state, 8)
    assert padded.widths
    images = torch.rand(40, *state.input_shape) * 2 - 1
    samples = Samples(
        images=images, labels=torch.zeros(40, dtype=torch.int64), ids=torch.arange(40), device=images.device
    )
    for model in (state, padded.state, with_a_zero_filter(state)):
        content = export(model, "onnx").content
        floats, integers = (outputs(program, images) for program in (content, quantise(content, samples)))
        assert bool(integers.isfinite().all())
        assert float((integers - floats).abs().max()) < 0.1 * float(floats.abs().max())


def with_a_zero_filter(state: ModelState) -> ModelState:
    weight = state.tensors["features.0.weight"].clone()
    weight[0] = 0.0
    return replace(state, tensors=state.tensors | {"features.0.weight": weight})


def outputs(program: bytes, images: torch.Tensor) -> torch.Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(program, providers=["CPUExecutionProvider"])
    (made,) = session.run(None, {"images": images.numpy()})
    return torch.from_numpy(made)
