"""A user's own module pruned in one call: the original stays, the result is right, mistakes are explained."""

import copy
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import tailor
from tailor.common.errors import ConfigError
from tailor.data.task_data import generator
from tailor.facts.networks import NETWORKS
from tailor.pruning.groups import groups
from tailor.stages import GroupRule
from tailor.user_module.pruned import PrunedNetwork
from tests.tailor import small_networks, small_transformers
from tools.masked_reference import mask_model

NETWORKS_OF_USERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, Any]]] = {
    "gated": (small_networks.Gated, (3, 8, 8), {}),
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=7), (3, 32, 32), {}),
    "mobilenet_v2": (lambda: torchvision.models.mobilenet_v2(width_mult=0.25), (3, 32, 32), {}),
    "vit": (small_transformers.ViT, (3, 16, 16), {"heads": True, "stream": True, "allocation": "by_kind"}),
}


def noisy(model: nn.Module) -> nn.Module:
    """The network with other norms than new ones have, in float64."""
    draw = generator(0, "noise")
    with torch.no_grad():
        for tensor in [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]:
            tensor.add_(torch.rand(tensor.shape, generator=draw) * 0.3)
    return model.double()


def images(shape: tuple[int, ...], count: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(count, *shape, generator=generator(0, "images"), dtype=dtype)


@pytest.fixture(
    scope="module",
    params=[
        "gated",
        "vit",
        pytest.param("resnet18", marks=pytest.mark.check),
        pytest.param("mobilenet_v2", marks=pytest.mark.check),
    ],
)
def pruned(request: pytest.FixtureRequest) -> tuple[nn.Module, PrunedNetwork, Tensor, dict[str, Any]]:
    torch.manual_seed(0)
    make, shape, settings = NETWORKS_OF_USERS[request.param]
    model, example = noisy(make()), images(shape)
    return (
        model,
        tailor.prune(model, example, criterion="l2", asked_removed_macs_fraction=0.4, **settings),
        example,
        settings,
    )


def run(model: nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        outputs: Tensor = copy.deepcopy(model).eval()(inputs)
    return outputs


def test_masked_equals_slimmed(pruned: tuple[nn.Module, PrunedNetwork, Tensor, dict[str, Any]]) -> None:
    model, made, example, settings = pruned
    reference = copy.deepcopy(model).eval()
    asked = {name: value for name, value in settings.items() if name != "allocation"}
    rule = GroupRule(residual="coupled", linear=True, **asked)
    found = groups(reference, tuple(example.shape[1:]), rule)
    fates = [group for group in made.groups if group.reason is None]
    kept = {group.name: torch.tensor(fate.kept) for group, fate in zip(found, fates, strict=True)}
    assert any(len(fate.kept) < fate.filters for fate in fates)
    mask_model(reference, kept, found, is_norm_masked=True)
    expected, outputs = run(reference, example), run(made.model, example)
    torch.testing.assert_close(outputs, expected, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(outputs, run(model, example), rtol=1e-3)


def test_its_budget_is_met_and_its_costs_are_counted(
    pruned: tuple[nn.Module, PrunedNetwork, Tensor, dict[str, Any]],
) -> None:
    model, made, _, _ = pruned
    assert 0.4 <= made.removed_macs_fraction <= 0.45
    assert made.params == sum(p.numel() for p in made.model.parameters())
    assert made.original_params == sum(p.numel() for p in model.parameters()) > made.params
    shown = str(made).splitlines()
    assert f"{made.original_macs:,} -> {made.macs:,} MACs" in shown[0] and len(shown) == 1 + len(made.groups) + 1


def test_what_was_saved_is_loaded_bit_by_bit(
    pruned: tuple[nn.Module, PrunedNetwork, Tensor, dict[str, Any]], tmp_path: Path
) -> None:
    model, made, example, _ = pruned
    before = copy.deepcopy(model.state_dict())
    made.save(tmp_path)
    loaded = tailor.load(tmp_path, model=model)
    assert torch.equal(run(loaded, example), run(made.model, example))
    assert loaded.state_dict().keys() == made.model.state_dict().keys()
    assert not re.search("pixel|127", (tmp_path / "model.json").read_text()), "what inputs are is their user's matter"
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in before.items())
    assert not [name for name in NETWORKS if type(model).__name__ in name]


def test_a_head_that_was_replaced_since_is_loaded_into_a_network_with_such_a_head(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    made = tailor.prune(network, torch.zeros(1, 8), criterion="l2", asked_removed_macs_fraction=0.5)
    made.model.add_module("2", nn.Linear(8, 5))
    made.save(tmp_path)
    network.add_module("2", nn.Linear(16, 5))
    assert torch.equal(run(tailor.load(tmp_path, model=network), torch.ones(1, 8)), run(made.model, torch.ones(1, 8)))


def pruned_chain() -> tuple[nn.Module, PrunedNetwork]:
    torch.manual_seed(0)
    network, example = small_networks.Chain(), images((3, 8, 8), dtype=torch.float32)
    return network, tailor.prune(network, example, criterion="l2", asked_removed_macs_fraction=0.4)


CHANGES: dict[str, Callable[[small_networks.Chain], Any]] = {
    "another layer": lambda model: setattr(model, "head", nn.Sequential(model.head, nn.ReLU())),
    "an added layer": lambda model: model.add_module("more", nn.Linear(3, 3)),
    "an added buffer": lambda model: model.register_buffer("more", torch.zeros(3)),
    "a removed bias": lambda model: setattr(model.first, "bias", None),
    "a computed weight": lambda model: nn.utils.parametrizations.weight_norm(model.first),
    "another norm": lambda model: setattr(model, "norm", nn.Identity()),
    "a stride": lambda model: setattr(model.first, "stride", (2, 2)),
    "eps": lambda model: setattr(model.norm, "eps", 0.1),
    "momentum": lambda model: setattr(model.norm, "momentum", 0.5),
    "a hook": lambda model: model.head.register_forward_hook(lambda _module, _inputs, outputs: 2 * outputs),
    "its code": lambda model: setattr(model, "forward", lambda x: type(model).forward(model, 2 * x)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_that_load_would_not_give_again_is_not_saved(change: str, tmp_path: Path) -> None:
    """It was written, and refused by `load`, or loaded with other outputs."""
    _, made = pruned_chain()
    made.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    CHANGES[change](made.model)  # type: ignore[arg-type]
    for folder in (tmp_path, tmp_path / "new"):
        with pytest.raises(ConfigError, match="is not written: tailor.load would not"):
            made.save(folder)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("change", ["half", "bfloat16", "double", "train"])
def test_another_precision_or_mode_is_saved(change: str, tmp_path: Path) -> None:
    network, made = pruned_chain()
    getattr(made.model, change)()
    made.save(tmp_path)
    for name, tensor in tailor.load(tmp_path, model=network).state_dict().items():
        assert (
            torch.equal(tensor, made.model.state_dict()[name]) and tensor.dtype == made.model.state_dict()[name].dtype
        )


def test_what_was_pruned_twice_is_loaded_into_the_whole_network(tmp_path: Path) -> None:
    once = tailor.prune(linear(), torch.zeros(1, 8), criterion="l2", asked_removed_macs_fraction=0.3)
    twice = tailor.prune(once.model, torch.zeros(1, 8), criterion="l2", asked_removed_macs_fraction=0.35)
    twice.save(tmp_path)
    assert torch.equal(run(tailor.load(tmp_path, model=linear()), torch.ones(1, 8)), run(twice.model, torch.ones(1, 8)))
    assert repr(twice) == str(twice)


def test_the_original_is_untouched() -> None:
    torch.manual_seed(0)
    model, seen = small_networks.Gated(), list[int]()
    model.norm.eval()
    model.second.weight.requires_grad_(False)
    hook = model.head.register_forward_hook(lambda *_: seen.append(1))
    model(images((3, 8, 8), dtype=torch.float32)).sum().backward()
    before = copy.deepcopy(model.state_dict())
    tensors = {name: id(p) for name, p in model.named_parameters()}
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    flags = [module.training for module in model.modules()]
    drawn = torch.random.get_rng_state()
    made = tailor.prune(model, images((3, 8, 8), dtype=torch.float32), criterion="l2", asked_removed_macs_fraction=0.4)
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert {name: id(p) for name, p in model.named_parameters()} == tensors
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is None or torch.equal(p.grad, gradients[name]) for name, p in model.named_parameters())
    assert [module.training for module in model.modules()] == flags
    assert list(model.head._forward_hooks) == [hook.id]  # type: ignore[comparison-overlap]
    assert [module.training for module in made.model.modules()] == flags
    assert not made.model.get_parameter("second.weight").requires_grad
    assert made.model.get_parameter("first.weight").requires_grad
    assert not {p.data_ptr() for p in made.model.parameters()} & {p.data_ptr() for p in model.parameters()}


class OfDistances(nn.Sequential):
    """Multiplies by a weight in an operation that is not counted."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 6))
        self.centres = nn.Parameter(torch.rand(3, 6))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cdist(super().forward(x), self.centres)


def test_what_is_not_counted_is_named() -> None:
    def prune(model: nn.Module) -> PrunedNetwork:
        return tailor.prune(model, torch.zeros(1, 6), asked_removed_macs_fraction=0.5, criterion="l1")

    assert "_cdist_forward of centres" in str(prune(OfDistances()))
    assert prune(nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 6))).uncounted == ()


def test_excluded_modules_keep_all_filters() -> None:
    torch.manual_seed(0)
    model, example = small_networks.Chain(), images((3, 8, 8), dtype=torch.float32)
    made = tailor.prune(model, example, criterion="l2", asked_removed_macs_fraction=0.3, exclude=["second"])
    fate = {group.layers[0]: group for group in made.groups}
    assert fate["second"].kept == tuple(range(8)) and "excluded" in str(fate["second"].reason)
    assert len(fate["first"].kept) < 8
    for wrong in (["secnd"], [model.second]):
        with pytest.raises(ConfigError, match="exclude"):
            tailor.prune(model, example, criterion="l2", asked_removed_macs_fraction=0.3, exclude=wrong)


class CountsFilters(nn.Module):
    """The number of its filters is in what it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        out: Tensor = self.second(x / x.shape[1])
        return out


class Branches(CountsFilters):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > 0 else -x)


class Named(CountsFilters):
    def forward(self, x: Tensor) -> Any:
        return {"out": self.second(self.first(x)), "aux": [x.sum(dim=1)]}


class Boxed(CountsFilters):
    def forward(self, _x: Tensor) -> Any:
        return Boxed


class Series(nn.Module):
    """Convolutions over time, one of them depthwise; transposed ones keep their filters."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.deep = nn.Conv1d(4, 16, 3), nn.Conv1d(16, 16, 3, groups=16)
        self.last, self.up = nn.Conv1d(16, 8, 3), nn.ConvTranspose1d(8, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.up(torch.relu(self.last(torch.relu(self.deep(self.first(x))))))
        return out


def linear() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))


class Extra(CountsFilters):
    def get_extra_state(self) -> Any:
        return {"version": 1}


class OwnFactor(CountsFilters):
    """Its parameter has the name of what is attached to a module."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x)) * self.factor
        return out


def broken(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        model.get_parameter("0.weight")[0, 0] = torch.inf
    return model


ROW = torch.zeros(1, 8)
MISTAKES: dict[str, tuple[Callable[[], Any], Any, dict[str, Any], str]] = {
    "per cent": (linear, ROW, {"asked_removed_macs_fraction": 30}, "asked_removed_macs_fraction.*than 1"),
    "too much": (linear, ROW, {"asked_removed_macs_fraction": 0.99}, "can lose.*; choose a smaller budget"),
    "a class": (lambda: nn.Flatten, ROW, {}, r"model is a type; .* \(Net\(\), not Net\)"),
    "compiled": (lambda: torch.compile(linear()), ROW, {}, "model is a OptimizedModule; .* neither compiled nor"),
    "scripted": (lambda: torch.jit.trace(linear(), ROW), ROW, {}, "model is a TopLevelTracedModule"),
    "criterion": (linear, ROW, {"criterion": "l22"}, "no such criterion; did you mean 'l2'"),
    "no data": (linear, ROW, {"criterion": "taylor"}, "criterion 'taylor' reads data; give loader"),
    "no data for norms": (small_networks.Gated, images((3, 8, 8)).float(), {"measure_norms": True}, "give loader"),
    "setting": (linear, ROW, {"residul": "inside"}, "no setting 'residul'; did you mean 'residual'"),
    "not of prune": (linear, ROW, {"epochs": 3}, "prune has no setting 'epochs'"),
    "value": (linear, ROW, {"residual": "all"}, "arguments: residual: .*'inside' or 'coupled'"),
    "no norm": (linear, ROW, {"criterion": "bn_gamma"}, "Sequential has no norm"),
    "not prunable": (lambda: nn.Linear(8, 3), ROW, {}, "no filter of Linear can be removed"),
    "no parameters": (nn.ReLU, ROW, {}, "ReLU has no parameters"),
    "half": (lambda: linear().half(), ROW.half(), {}, "scores are too coarse; give model.float"),
    "extra state": (Extra, ROW, {}, "Extra has state that is no tensor.*_extra_state"),
    "not finite": (lambda: broken(linear()), ROW, {}, "not finite.*0.weight"),
    "taken name": (OwnFactor, ROW, {}, "names that pruning attaches to modules.*factor"),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(3)), ROW, {}, "run it once: model"),
    "meta": (lambda: linear().to("meta"), ROW, {}, "is on meta; give it on one device"),
    "no batch": (linear, torch.zeros(8), {}, r"example_input is a tensor \(8,\) of torch.float32; expected"),
    "no tensor": (linear, [1.0], {}, r"example_input is a list; expected"),
    "shape": (linear, torch.zeros(1, 9), {}, r"does not run on example_input, a tensor \(1, 9\).*; give a batch"),
    "branches": (Branches, torch.ones(1, 8), {}, "Branches cannot be analysed .*; its forward must run"),
    "counts": (CountsFilters, torch.ones(1, 8), {}, "CountsFilters computes something else than with zeros"),
    "outputs": (Boxed, torch.ones(1, 8), {}, "Boxed returns a type; expected are tensors"),
    "loss without data": (linear, ROW, {"loss": nn.MSELoss()}, "loss is given, and no data"),
}


@pytest.mark.parametrize("mistake", sorted(MISTAKES))
def test_mistakes_are_explained(mistake: str) -> None:
    make, example, given, words = MISTAKES[mistake]
    with pytest.raises(ConfigError, match=words) as found:
        tailor.prune(make(), example, **{"criterion": "l2", "asked_removed_macs_fraction": 0.3} | given)
    assert "#" not in str(found.value) and "pruning." not in str(found.value)


def test_outputs_may_be_dictionaries_and_weights_tied() -> None:
    made = tailor.prune(Named(), torch.ones(1, 8), criterion="l2", asked_removed_macs_fraction=0.3)
    assert made.model(torch.ones(2, 8))["out"].shape == (2, 3)


def test_series_are_inputs_as_images_are(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, example = Series(), torch.randn(2, 4, 20)
    made = tailor.prune(network, example, criterion="l2", asked_removed_macs_fraction=0.28)
    deep = made.model.get_submodule("deep")
    assert isinstance(deep, nn.Conv1d) and deep.groups == deep.in_channels == deep.out_channels < 16
    made.save(tmp_path)
    assert torch.equal(run(tailor.load(tmp_path, model=network), example), run(made.model, example))


def test_no_model_of_another_module_is_lost(tmp_path: Path) -> None:
    pruned = tailor.prune(linear(), torch.zeros(1, 8), criterion="l2", asked_removed_macs_fraction=0.3)
    pruned.save(tmp_path)
    pruned.save(tmp_path)  # once more, as after further training
    other = tailor.prune(Series(), torch.randn(2, 4, 20), criterion="l2", asked_removed_macs_fraction=0.28)
    with pytest.raises(ConfigError, match="has a sub-model of Sequential; give another folder, or remove this one"):
        other.save(tmp_path)


@pytest.mark.parametrize("name", ["model.onnx", "model.safetensors", "model.json"])
def test_no_file_of_the_users_is_lost(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    pruned = tailor.prune(linear(), torch.zeros(1, 8), criterion="l2", asked_removed_macs_fraction=0.3)
    with pytest.raises(ConfigError, match=f"{name}, and no saved model: saving one would replace them; give another"):
        pruned.save(tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_a_file_is_no_folder_to_save_in(tmp_path: Path) -> None:
    (tmp_path / "net.pth").touch()
    pruned = tailor.prune(linear(), torch.zeros(1, 8), criterion="l2", asked_removed_macs_fraction=0.3)
    for wrong in (tmp_path / "net.pth", tmp_path / "net.pth/pruned"):
        with pytest.raises(ConfigError, match="net.pth"):
            pruned.save(wrong)
    pruned.save(tmp_path / "a")
    for wrong in (tmp_path, tmp_path / "a/model.safetensors"):
        with pytest.raises(ConfigError, match=f"did you mean {tmp_path / 'a'}.; to save one"):
            tailor.load(wrong, model=linear())


def test_another_network_is_refused(tmp_path: Path) -> None:
    tailor.prune(linear(), torch.zeros(1, 8), criterion="l2", asked_removed_macs_fraction=0.3).save(tmp_path)
    with pytest.raises(ConfigError, match="do not fit CountsFilters: '0.bias' is unknown"):
        tailor.load(tmp_path, model=CountsFilters())
    narrow = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 3))
    with pytest.raises(
        ConfigError, match=r"another network than this Sequential: 0.weight is \(11, 8\) there and \(4,"
    ):
        tailor.load(tmp_path, model=narrow)
    with pytest.raises(ConfigError, match="does not run with what"):
        tailor.load(tmp_path, model=nn.Sequential(nn.Linear(8, 16), nn.Unflatten(1, (16,)), nn.Linear(16, 3)))
    (tmp_path / "model.safetensors").write_bytes(b"changed")
    with pytest.raises(ConfigError, match="was changed or is incomplete"):
        tailor.load(tmp_path, model=linear())
    with pytest.raises(ConfigError, match=r"holds no saved model .*; to save one, type: pruned.save\(folder\)"):
        tailor.load(tmp_path / "nothing", model=linear())


def test_what_prune_saved_is_not_for_the_functions_that_read_a_trials_model(tmp_path: Path) -> None:
    tailor.prune(linear(), torch.zeros(1, 8), criterion="l2", asked_removed_macs_fraction=0.3).save(tmp_path)
    with pytest.raises(ConfigError, match=r"a network of your own; .*--module net.py:Net.*tailor.load\('"):
        tailor.load_model(tmp_path)


def test_wide_layers_keep_multiples_of_eight_unless_they_are_coarse() -> None:
    torch.manual_seed(0)
    example = torch.zeros(1, 3, 8, 8)
    widths = [3, 32, 64, 96, 128, 128, 128, 128]
    convolutions = [nn.Conv2d(inputs, filters, 3, padding=1) for inputs, filters in itertools.pairwise(widths)]
    model = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(128 * 64, 5))

    def filters_of(**settings: Any) -> list[int]:
        made = tailor.prune(model, example, asked_removed_macs_fraction=0.3, criterion="random", **settings).model
        return [len(layer.weight) for layer in made[:-2]]

    narrow, *wide = filters_of()
    assert narrow % 8 != 0 and [filters % 8 for filters in wide] == [0] * len(wide)
    assert any(filters % 8 for filters in filters_of(width_multiple=1)[1:])
    coarse = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 4, 1))
    filters = tailor.prune(coarse, example, criterion="l2", asked_removed_macs_fraction=0.3).model[0].out_channels
    assert filters == 44  # 0.3 and no more, as any width allows; eight filters are an eighth of the MACs
