"""Networks of attention that lost heads and channels of the stream: counted, saved, rebuilt, exported; forged sizes."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tailor.common.errors import ConfigError
from tailor.data.task_data import generator
from tailor.facts.networks import NETWORKS, NetworkInfo
from tailor.model.cost import macs_of, original_macs
from tailor.model.state import ModelState, load_model, load_state, save_model
from tailor.networks import building
from tailor.pruning import budget_solver, surgery
from tailor.pruning.network_facts import find_facts
from tailor.stages import GroupRule
from tests.tailor import small_transformers

ALL = GroupRule(residual="coupled", linear=True, stream=True, heads=True)
SHAPE = (3, 16, 16)
NAMES = ("ViT", "FusedViT", "TorchvisionViT", "Swin", "SwinV2", "Mixer")


def made(name: str, num_classes: int) -> nn.Module:
    model: nn.Module = getattr(small_transformers, name)()
    head = next(n for n, m in model.named_modules() if getattr(m, "out_features", 0) == 5)
    owner, _, last = head.rpartition(".")
    setattr(model.get_submodule(owner), last, nn.Linear(model.get_submodule(head).in_features, num_classes))  # type: ignore[arg-type]
    return model


@cache
def record(name: str) -> NetworkInfo:
    """What is known of a small transformer, found once."""
    with pytest.MonkeyPatch.context() as patch:
        first = NetworkInfo(description=f"The small {name}.", builder=partial(made, name), input_shape=SHAPE)
        patch.setitem(NETWORKS._records, name, first)  # type: ignore[attr-defined]
        return find_facts(name)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small transformers are networks by their names."""
    for name in NAMES:
        monkeypatch.setitem(NETWORKS._records, name, record(name))  # type: ignore[attr-defined]


def state_of(name: str) -> ModelState:
    draw = generator(0, "noise")
    tensors = {
        key: tensor + 0.3 * torch.randn(tensor.shape, generator=draw) if tensor.dtype.is_floating_point else tensor
        for key, tensor in building.build(name, 5, seed=0).state_dict().items()
    }
    return ModelState(network=name, classes=5, input_shape=SHAPE, tensors=tensors)


def slimmed(name: str, rule: GroupRule = ALL) -> ModelState:
    state = state_of(name)
    found = surgery.groups(state.build(), SHAPE, rule)
    draw = generator(1, "kept")
    kept = {g.name: torch.randperm(g.filters, generator=draw)[: 1 + g.filters // 2].sort().values for g in found}
    return surgery.slim(state, kept, found)


def images(count: int) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=generator(0, "images"))


@pytest.mark.parametrize("rule", [ALL, GroupRule(heads=True)], ids=["all", "heads"])
@pytest.mark.parametrize("name", NAMES)
def test_macs_are_half_of_torchs_flops(name: str, rule: GroupRule) -> None:
    state = slimmed(name, rule)
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        state.build().eval()(images(1))
    assert macs_of(state) == counter.get_total_flops() // 2
    assert (macs_of(state) < original_macs(state)) == (rule.stream or name != "Mixer")  # which has no heads


@pytest.mark.parametrize("name", ["FusedViT", "Swin"])
def test_a_budget_counts_products_of_heads(name: str) -> None:
    state = state_of(name)
    for _ in range(2):  # also of a network that lost heads before
        found = surgery.groups(state.build(), SHAPE, ALL)
        removed = {group.name: int(group.filters > 1) for group in found}
        kept = {group.name: torch.arange(removed[group.name], group.filters) for group in found}
        expected = budget_solver.macs_after(state, found)(removed)
        state = surgery.slim(state, kept, found)
        assert macs_of(state) == expected


REBUILT = """
import sys
def refuse(event, _):
    assert event != "pickle.find_class"
sys.addaudithook(refuse)
sys.path.insert(0, sys.argv[1])
import safetensors.torch
from tests.tailor.model import test_saved_transformers as here
from tailor.facts.networks import NETWORKS, NetworkInfo
from functools import partial
import tailor, torch
torch.set_num_threads(1)  # as in the tests: with more, sums are added up in another order
for folder in sys.argv[2:]:
    name = folder.rpartition("/")[2]
    NETWORKS.add(name, NetworkInfo(description="", builder=partial(here.made, name), input_shape=here.SHAPE))
    safetensors.torch.save_file({"logits": tailor.load_model(folder)(here.images(4)).detach()}, folder + "/logits")
"""


@pytest.mark.check
def test_saved_models_are_rebuilt_in_a_fresh_process_bit_for_bit(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    for name in NAMES:
        save_model(slimmed(name), tmp_path / name)
    folders = [str(tmp_path / name) for name in NAMES]
    subprocess.run([sys.executable, "-c", REBUILT, str(Path.cwd()), *folders], check=True)
    for name, folder in zip(NAMES, folders, strict=True):
        with torch.no_grad():
            assert torch.equal(load_file(folder + "/logits")["logits"], slimmed(name).build().eval()(images(4)))


def test_only_sizes_make_the_second_format(tmp_path: Path) -> None:
    save_model(state_of("ViT"), tmp_path / "whole")
    save_model(slimmed("ViT"), tmp_path / "slimmed")
    whole, smaller = (json.loads((tmp_path / name / "model.json").read_text()) for name in ("whole", "slimmed"))
    assert (whole["format"], "sizes" in whole) == (1, False)
    assert (smaller["format"], smaller["sizes"]) == (2, {f"blocks.{n}.attn": {"num_heads": 2} for n in range(2)})
    assert load_state(tmp_path / "slimmed").sizes == smaller["sizes"]


Sizes = dict[str, dict[str, Any]]
FORGED: dict[str, Callable[[Sizes], Sizes]] = {
    "a module that there is not": lambda sizes: sizes | {"blocks.7.attn": {"num_heads": 2}},
    "an attribute that is no size": lambda sizes: sizes | {"blocks.0.attn": {"training": 1}},
    "an attribute that is a method": lambda sizes: sizes | {"blocks.0.attn": {"forward": 1}},
    "no head": lambda sizes: sizes | {"blocks.0.attn": {"num_heads": 0}},
    "more heads than there were": lambda sizes: sizes | {"blocks.0.attn": {"num_heads": 6}},
    "other heads than in the tensors": lambda sizes: sizes | {"blocks.0.attn": {"num_heads": 1}},
    "a number of heads that is a text": lambda sizes: sizes | {"blocks.0.attn": {"num_heads": "2"}},
    "sizes of nothing": lambda _sizes: {"blocks.0.attn": {"num_heads": 2}},
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_sizes_are_refused(case: str, tmp_path: Path) -> None:
    save_model(slimmed("ViT"), tmp_path)
    load_model(tmp_path)
    described_as = json.loads((tmp_path / "model.json").read_text())
    described_as["sizes"] = FORGED[case](described_as["sizes"])
    (tmp_path / "model.json").write_text(json.dumps(described_as))
    with pytest.raises(ConfigError, match=r"sizes|does not run with its sizes"):
        load_model(tmp_path)


@pytest.mark.check
@pytest.mark.parametrize("name", ["FusedViT", "TorchvisionViT", "Swin", pytest.param("SwinV2", marks=pytest.mark.long)])
def test_it_is_exported_for_any_number_of_images(name: str) -> None:
    model = slimmed(name).build().eval()
    dims = ({0: torch.export.Dim("images", min=1, max=64)},)
    program = torch.export.export(model, (images(2),), dynamic_shapes=dims).module()
    with torch.no_grad():
        torch.testing.assert_close(program(images(5)), model(images(5)))
