"""Files of weights: safe to load, complete, of the right network, also under the names of older files."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import safetensors.torch
import torch
from torch import Tensor
from torchvision import models
from torchvision.models import densenet

from tailor.common.errors import ConfigError
from tailor.config.parsing import parse_trial
from tailor.config.source import SourceConfig
from tailor.config.trial import METHODS, TrialConfig
from tailor.execution.cache import Cache
from tailor.execution.runner import StageEvent
from tailor.execution.weights_check import refuse_missing
from tailor.extend import Method, Recipe, register
from tailor.facts.weights import find, sha256_of, table
from tailor.networks import building, pretrained
from tailor.parallel.process_group import ProcessGroup
from tailor.stage_execution import StageContext, apply, compute
from tailor.stages import LoadWeights, StageGenerator
from tests.shared_data import DATA, needs_data
from tests.tailor.saved_models import with_measured_norms
from tests.tailor.trials import assert_equal_tensors

WEIGHTS = "mobilenet_v2_imagenet.safetensors"


def saved(path: Path, tensors: Any) -> tuple[Path, str]:
    if path.suffix == ".pth":
        torch.save(tensors, path)
    else:
        safetensors.torch.save_file(tensors, path)
    return path, sha256_of(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("classes", [5, 7])
def test_a_file_is_loaded_whatever_its_classes(suffix: str, classes: int, tmp_path: Path) -> None:
    tensors = building.build("digits_vgg_bn", classes, seed=3).state_dict()
    path, sha256 = saved(tmp_path / f"net{suffix}", dict(tensors))
    loaded, found = pretrained.load(path, sha256, "digits_vgg_bn")
    assert found == classes
    assert_equal_tensors(loaded, dict(tensors))
    assert pretrained.load(path, sha256[:8], "digits_vgg_bn")[1] == classes  # as weights by name are pinned


def test_counters_and_precision_are_the_networks(tmp_path: Path) -> None:
    tensors = building.build("digits_vgg_bn", 5, seed=3).state_dict()
    halves = {n: t.half() for n, t in tensors.items() if not n.endswith("num_batches_tracked")}
    loaded, _ = pretrained.load(*saved(tmp_path / "net.safetensors", halves), "digits_vgg_bn")
    assert {n: t.dtype for n, t in loaded.items()} == {n: t.dtype for n, t in tensors.items()}


def broken(tensors: dict[str, Tensor], how: str) -> dict[str, Any]:
    first = next(iter(tensors))
    if how == "missing":
        return {n: t for n, t in tensors.items() if n != first}
    if how == "wider":
        return tensors | {first: torch.zeros(25, *tensors[first].shape[1:])}
    if how == "more":
        return tensors | {"layer9.weight": torch.zeros(1)}
    if how == "not finite":
        return tensors | {first: torch.full_like(tensors[first], float("nan"))}
    if how == "headless":
        return {n: t for n, t in tensors.items() if not n.startswith(("classifier.2", "features.0"))}
    assert how == "by numbers"
    return dict(enumerate(tensors.values()))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", r"does not fit digits_vgg: missing \['features.0.weight'\]"),
        ("wider", r"of another shape \['features.0.weight'\]"),
        ("more", r"unknown \['layer9.weight'\]"),
        ("not finite", r"holds numbers that are not finite, in features.0.weight"),
        ("headless", r"has no classifier.2.weight, the head of digits_vgg"),
    ],
)
def test_what_does_not_fit_is_named(how: str, message: str, tmp_path: Path) -> None:
    tensors = dict(building.build("digits_vgg", 5, seed=3).state_dict())
    path, sha256 = saved(tmp_path / "net.pth", broken(tensors, how))
    with pytest.raises(ConfigError, match=message):
        pretrained.load(path, sha256, "digits_vgg")


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
@pytest.mark.parametrize(
    ("convert", "said"),
    [
        (lambda weight: weight.to(torch.int8), "torch.int8, torch.strided, cpu; expected dense tensors of torch.float"),
        (lambda weight: weight.to_sparse(), "torch.float32, torch.sparse_coo"),
        (lambda weight: weight.to("meta"), "torch.float32, torch.strided, meta"),
    ],
)
def test_numbers_that_are_not_the_weights_are_named(
    convert: Callable[[Tensor], Tensor], said: str, tmp_path: Path
) -> None:
    tensors = dict(building.build("digits_vgg", 5, seed=3).state_dict())
    tensors["features.0.weight"] = convert(tensors["features.0.weight"])
    path, sha256 = saved(tmp_path / "net.pth", tensors)
    with pytest.raises(ConfigError, match=f"has features.0.weight as {said}"):
        pretrained.load(path, sha256, "digits_vgg")


@pytest.mark.parametrize("suffixes", [(".pth", ".safetensors"), (".safetensors", ".pth"), (".safetensors", ".ST")])
def test_a_file_is_read_whatever_its_suffix(suffixes: tuple[str, str], tmp_path: Path) -> None:
    tensors = dict(building.build("digits_vgg", 5, seed=3).state_dict())
    path, sha256 = saved(tmp_path / f"net{suffixes[0]}", tensors)
    loaded, _ = pretrained.load(path.rename(tmp_path / f"net{suffixes[1]}"), sha256, "digits_vgg")
    assert_equal_tensors(loaded, tensors)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", ["<!DOCTYPE html><html>", ""])
def test_a_file_of_something_else_is_refused(content: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_text(content)
    with pytest.raises(ConfigError, match="torch.save"):
        pretrained.load(path, sha256_of(path), "digits_vgg")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file_is_refused_by_its_hash_and_by_its_reader(suffix: str, tmp_path: Path) -> None:
    path, sha256 = saved(tmp_path / f"net{suffix}", dict(building.build("digits_vgg", 5, seed=3).state_dict()))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ConfigError, match=r"has SHA-256 \w+, expected was one that is .*another file, or damaged"):
        pretrained.load(path, sha256, "digits_vgg")
    with pytest.raises(ConfigError, match=r"holds no weights \(.*; if it is a part of a file, download or copy it"):
        pretrained.load(path, sha256_of(path), "digits_vgg")


class _Runs:
    """What a pickle of someone else's could do."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("executed",)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "net.pth"
    path.write_bytes(pickle.dumps({"features.0.weight": _Runs()}))
    with pytest.raises(ConfigError, match="holds objects of Python, or nothing that torch reads"):
        pretrained.load(path, sha256_of(path), "digits_vgg")
    assert not (tmp_path / "executed").exists()


# --- torchvision's older files ---


@pytest.mark.check
def test_the_old_names_of_vit(tmp_path: Path) -> None:
    model = building.build("vit_b_32", 3, seed=0)
    old = {
        n.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): t
        for n, t in model.state_dict().items()
    }
    assert set(old) != set(model.state_dict())
    other = building.build("vit_b_32", 3, seed=1)
    other.load_state_dict(old)  # torchvision's own reading of them
    loaded, _ = pretrained.load(*saved(tmp_path / "net.safetensors", old), "vit_b_32")
    assert_equal_tensors(loaded, dict(other.state_dict()))


class _Published:
    """Weights as torchvision's loader of DenseNet asks for them."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors

    def get_state_dict(self, **_: Any) -> dict[str, Tensor]:
        return dict(self.tensors)


@pytest.mark.check
def test_the_old_names_of_densenet(tmp_path: Path) -> None:
    model = building.build("densenet121", 3, seed=0)
    old = {}
    for name, tensor in model.state_dict().items():
        parts = name.split(".")
        if len(parts) > 2 and parts[2].startswith("denselayer"):
            parts[3] = f"{parts[3][:-1]}.{parts[3][-1]}"
        old[".".join(parts)] = tensor
    old = {n: t for n, t in old.items() if not n.endswith("num_batches_tracked")}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    other = building.build("densenet121", 3, seed=1)
    densenet._load_state_dict(other, _Published(old), progress=False)
    loaded, _ = pretrained.load(*saved(tmp_path / "net.safetensors", old), "densenet121")
    assert_equal_tensors(loaded, dict(other.state_dict()))


@pytest.mark.check
@pytest.mark.parametrize(
    "name",
    ["GoogLeNet_Weights.IMAGENET1K_V1", pytest.param("Inception_V3_Weights.IMAGENET1K_V1", marks=pytest.mark.long)],
)
def test_auxiliary_heads_go_and_the_pixels_are_the_networks(name: str, tmp_path: Path) -> None:
    """Torchvision's network takes ImageNet's normalisation and changes it inside; ours takes what it makes of it."""
    info = find(name)
    builder, draw = models.get_model_builder(info.network), torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = builder(weights=None, num_classes=3, aux_logits=True, transform_input=True, init_weights=True)
    # With norms that measured nothing the outputs hardly hang on the images, or hang on rounding.
    theirs = with_measured_norms(theirs, (3, 96, 96), draw).eval()
    loaded, _ = pretrained.load(*saved(tmp_path / "net.pth", theirs.state_dict()), info.network)
    ours = building.rebuild(info.network, 3, loaded).eval()
    images = torch.rand(2, 3, 96, 96, generator=draw)
    transforms = models.get_weight(name).transforms()
    pixels = [(images - torch.tensor(m)[:, None, None]) / torch.tensor(s)[:, None, None] for m, s in
              ((transforms.mean, transforms.std), (info.pixel_mean, info.pixel_std))]  # fmt: skip
    with torch.no_grad():
        expected = theirs(pixels[0])
        tolerance = 1e-4 * float(expected.abs().max())
        torch.testing.assert_close(ours(pixels[1]), expected, rtol=0, atol=tolerance)
        assert float((ours(pixels[0]) - expected).abs().max()) > 100 * tolerance


# --- in a trial ---


def test_a_stage_reads_weights_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranks: ProcessGroup) -> None:
    """From the folder, with the normalisation that belongs to them."""
    name = "SqueezeNet1_1_Weights.IMAGENET1K_V1"
    tensors = building.build("squeezenet1_1", 9, seed=2).state_dict()
    path, sha256 = saved(tmp_path / "net.pth", dict(tensors))
    info = type(find(name))(**vars(find(name)) | {"file": "net.pth", "sha256": sha256[:8]})
    monkeypatch.setitem(table(), name, info)
    source = SourceConfig(weights=name, weights_folder=str(tmp_path))
    stage = LoadWeights(
        of=None,
        network="squeezenet1_1",
        network_sha256=None,
        input_shape=(3, 64, 64),
        weights_sha256=source.weights_sha256 or "",
        pixel_mean=source.pixel_mean,
        pixel_std=source.pixel_std,
    )
    place = StageContext(ranks=ranks, checkpoint_folder=None, checkpoint_every_s=0.0, weights=source.weights_file)
    made = compute(stage, None, place)
    state = apply(stage, None, made.tensors)
    assert made.info["classes"] == state.classes == 9
    assert state.pixels.mean == (0.485, 0.456, 0.406)
    assert_equal_tensors(state.tensors, dict(tensors))


def test_weights_without_their_head_give_what_the_whole_ones_give(
    run: Callable[..., list[StageEvent]], tmp_path: Path
) -> None:
    """But for PAC-Net, which goes on with that head."""
    tensors = dict(building.build("digits_vgg_bn", 7, seed=3).state_dict())
    headless = {name: tensor for name, tensor in tensors.items() if not name.startswith("classifier.2")}

    def trial(content: dict[str, Tensor], name: str, method: str) -> TrialConfig:
        path, sha256 = saved(tmp_path / f"{name}.safetensors", content)
        source = {"weights": str(path), "weights_sha256": sha256}
        settings = {"source": source, "optimisation": {"epochs": 1, "head_epochs": 1}}
        return parse_trial(settings | {"network": "digits_vgg_bn", "method": method}, "test")

    trials = [trial(content, name, "fine_tune") for name, content in (("whole", tensors), ("headless", headless))]
    assert refuse_missing(trials[:1]) == []
    (text,) = refuse_missing(trials)
    assert "headless.safetensors has no head" in text
    whole, other = (run(config, Cache(tmp_path / "cache"))[-1].result.model_state() for config in trials)
    assert_equal_tensors(other.tensors, whole.tensors)
    with pytest.raises(ConfigError, match="the weights have no head; .* of digits, or none"):
        refuse_missing([trial(headless, "headless", "pac_net")])


def test_a_method_that_goes_on_with_the_source_refuses_weights_without_a_head(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(METHODS, "_records", dict(METHODS))

    @register
    class Straight(Method):
        name: Literal["straight"] = "straight"

        def walk(self, config: TrialConfig) -> StageGenerator:
            recipe = Recipe(config)
            source = yield recipe.source()
            tuned = yield recipe.fine_tune(source, 1)
            yield recipe.point(tuned)

    whole = dict(building.build("digits_vgg_bn", 5, seed=3).state_dict())
    headless = {name: tensor for name, tensor in whole.items() if not name.startswith("classifier.2")}
    trials = []
    for name, content in {"whole": whole, "headless": headless}.items():
        path, sha256 = saved(tmp_path / f"{name}.pth", content)
        source = {"weights": str(path), "weights_sha256": sha256}
        trials.append(parse_trial({"source": source, "network": "digits_vgg_bn", "method": "straight"}, "test"))
    assert refuse_missing(trials[:1]) == []
    with pytest.raises(ConfigError, match="the weights have no head"):
        refuse_missing(trials)


@needs_data(WEIGHTS)
def test_real_weights_without_their_head(tmp_path: Path) -> None:
    body = {n: t for n, t in safetensors.torch.load_file(DATA / WEIGHTS).items() if not n.startswith("classifier.1")}
    loaded, classes = pretrained.load(*saved(tmp_path / "net.pth", body), "mobilenet_v2")
    assert (classes, loaded["classifier.1.weight"].shape) == (0, (0, 1280))
    assert_equal_tensors({name: loaded[name] for name in body}, body)


@needs_data(WEIGHTS)
def test_real_weights() -> None:
    path = DATA / WEIGHTS
    loaded, classes = pretrained.load(path, sha256_of(path), "mobilenet_v2")
    assert classes == 1000
    with pytest.raises(ConfigError, match="the head of resnet18"):
        pretrained.load(path, sha256_of(path), "resnet18")
    assert len(loaded) == len(building.skeleton("mobilenet_v2", 1000).state_dict())
