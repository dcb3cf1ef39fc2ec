"""The numbers that plans rely on, counted anew from the networks and the data."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tailor.data import digits, task_data
from tailor.facts.datasets import DATASETS
from tailor.facts.networks import EMBEDDED, NETWORKS
from tailor.model import cost
from tailor.networks import building
from tailor.pruning.groups import groups
from tailor.stages import GroupRule


@pytest.mark.parametrize("name", EMBEDDED)
def test_macs_and_parameters_are_those_of_the_network(name: str) -> None:
    """Torchvision's are held by test_torchvision.py."""
    info, model = NETWORKS[name], building.build(name, 5, seed=0).eval()
    # An independent count, with two operations per multiply-accumulate; of attention as its two products.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(torch.zeros(1, *info.input_shape))
    assert info.macs == counter.get_total_flops() // 2
    assert info.macs == cost.macs(name, 5, cost.original_shapes(name, 5), info.input_shape)
    assert info.params_count == sum(p.numel() for p in model.parameters())
    assert info.head_params_count == sum(p.numel() for p in model.get_submodule(info.head).parameters())
    members = [m for g in groups(model, info.input_shape, GroupRule(linear=True)) for m in g.members]
    assert info.has_norm == any(member.norm is not None for member in members)
    assert {info.activation} == {member.activation_kind for member in members}


def test_digits_are_what_the_catalog_says() -> None:
    info, loaded = DATASETS["digits"], digits.load()
    assert task_data.digest(loaded) == info.sha256
    assert len(loaded["source"]) == info.source_images
    assert len(loaded["target"]) == info.target_images
    assert sorted(loaded["target"].labels.unique().tolist()) == list(range(info.target_classes))
    assert sorted(loaded["source"].labels.unique().tolist()) == list(range(info.source_classes))
    assert loaded["target"].images.shape[1:] == info.input_shape
    assert not set(loaded["source"].ids.tolist()) & set(loaded["target"].ids.tolist())


def test_networks_are_initialised_from_their_seed_alone() -> None:
    torch.manual_seed(1)
    first = building.build("digits_vgg", 5, seed=3).state_dict()
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    second = building.build("digits_vgg", 5, seed=3).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = building.build("digits_vgg", 5, seed=4).state_dict()
    assert not torch.equal(first["features.0.weight"], other["features.0.weight"])
