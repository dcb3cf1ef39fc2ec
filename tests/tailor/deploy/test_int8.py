"""A sub-model in 8-bit integers: how good it is, channels of zeros, and what is refused."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tailor.common.errors import ConfigError
from tailor.data.task_data import Samples, splits
from tailor.deploy.card import CARD_FILE, save_point
from tailor.deploy.export import export
from tailor.deploy.int8 import quantise, splits_of
from tailor.execution.cache import Cache
from tailor.execution.runner import run_trial
from tailor.methods.recipe import Recipe
from tailor.model.state import DESCRIPTION_FILE, ModelState, save_model
from tailor.parallel.process_group import join
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
    with pytest.raises(ConfigError, match="names no data set; leave it out"):
        splits_of(tmp_path / "plain", None)
    description = json.loads((saved / DESCRIPTION_FILE).read_bytes())
    description["facts"]["data_sha256"] = "0" * 64
    (tmp_path / DESCRIPTION_FILE).write_text(json.dumps(description))
    with pytest.raises(ConfigError, match="with SHA-256 0000.*--data-root FOLDER"):
        splits_of(tmp_path, None)
    description["facts"]["settings"]["data"]["name"] = "lost"
    (tmp_path / DESCRIPTION_FILE).write_text(json.dumps(description))
    for root, place in ((None, "this program"), (tmp_path, str(tmp_path))):
        with pytest.raises(ConfigError, match=f"'digits' of the model, .* is not in {place}; .*--data-root FOLDER"):
            splits_of(tmp_path, root)


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
    assert main(["model", "export", str(saved), "--to", "onnx", "--threads", "1", "--int8", "--out", str(file)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^speed of small.int8.onnx: .* times as fast as the whole network.*, int8, ", said, re.MULTILINE)
    integers = onnx.load(tmp_path / "small.int8.onnx")
    kinds = {node.op_type for node in integers.graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds and "BatchNormalization" not in kinds
    of_integers, of_floats = map(float, re.findall(r"(0\.\d{4}), in float32 (0\.\d{4}), on", said)[0])
    card = json.loads((saved / DESCRIPTION_FILE).read_bytes())["facts"]["scores"]
    assert of_floats == pytest.approx(card["validation"], abs=1e-4)
    assert abs(of_integers - of_floats) < 0.05
    description = json.loads((saved / DESCRIPTION_FILE).read_bytes())
    assert "small.int8.onnx" not in description.get("types_of_files", {})  # another folder's file


def test_no_cpu_saturates_it(saved: Path, tmp_path: Path) -> None:
    """AVX2 without VNNI adds two products of a byte and a weight in 16 bits, but for depthwise convolutions."""
    assert main(["model", "export", str(saved), "--to", "onnx", "--no-time", "--int8"]) == 0
    assert "model.int8.onnx" in (saved / CARD_FILE).read_text()
    layers = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(), nn.Linear(128, 5)
    ).eval()
    train = splits_of(saved, None).train
    names = {"input_names": ["images"], "dynamic_shapes": ({0: torch.export.Dim("images")},), "dynamo": True}
    torch.onnx.export(layers, (torch.rand(2, 1, 8, 8),), str(tmp_path / "depthwise.onnx"), external_data=False, **names)
    depthwise = quantise((tmp_path / "depthwise.onnx").read_bytes(), train)
    for program in ((saved / "model.int8.onnx").read_bytes(), depthwise):
        largest = largest_weights(program)
        assert largest["added in pairs"] * 255 * 2 < 2**15
    assert largest["depthwise"] > 100


def largest_weights(program: bytes) -> dict[str, int]:
    """The largest absolute 8-bit weight of depthwise convolutions, and of all other products."""
    import onnx

    graph = onnx.load_from_string(program).graph
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = {node.output[0]: arrays.get(node.input[0]) for node in graph.node if node.op_type == "DequantizeLinear"}
    largest = {"depthwise": 0, "added in pairs": 0}
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        weight = weights[node.input[1]]
        assert weight is not None and weight.dtype == "int8"
        groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        kind = "depthwise" if groups > 1 and groups == len(weight) else "added in pairs"
        largest[kind] = max(largest[kind], int(abs(weight.astype(int)).max()))
    return largest


@pytest.mark.check
def test_channels_of_zeros_do_no_harm() -> None:
    """A network with a filter of zeros computes in integers about what it computes in floats: no scale is zero."""
    state = pruned("digits_vgg_bn").fold_factors()
    images = torch.rand(40, *state.input_shape) * 2 - 1
    samples = Samples(
        images=images, labels=torch.zeros(40, dtype=torch.int64), ids=torch.arange(40), device=images.device
    )
    for model in (state, with_a_zero_filter(state)):
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
