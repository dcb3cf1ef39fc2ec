"""Norms over all ranks: two ranks with a part of the batch each beside one norm with all of it."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tailor.common.errors import ConfigError, TrainingError
from tailor.data.task_data import generator
from tailor.model.factors import attach
from tailor.parallel.norm import synchronise_norms
from tailor.parallel.process_group import ProcessGroup, join, leave
from tests.tailor.networks.test_timm import HAS_TIMM, needs_timm
from tests.tailor.two_ranks import on_two_ranks

TWO_ON = {device: ProcessGroup(rank=0, world_size=2, device=torch.device(device)) for device in ("cpu", "cuda")}


def plain(kind: type[nn.BatchNorm1d | nn.BatchNorm2d]) -> nn.Module:
    return randomised(kind(4))


def timms() -> nn.Module:
    from timm.layers import BatchNormAct2d

    return randomised(BatchNormAct2d(4, act_layer=nn.SiLU))


def randomised(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> nn.Module:
    draw = generator(0, "test norm")
    with torch.no_grad():
        norm.weight.copy_(torch.rand(4, generator=draw) + 0.5)
        norm.bias.copy_(torch.randn(4, generator=draw))
    return nn.Sequential(norm).train()


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "rows": lambda: plain(nn.BatchNorm1d),
    "sequences": lambda: plain(nn.BatchNorm1d),
    "images": lambda: plain(nn.BatchNorm2d),
    "timm": timms,
}
SHAPES = {"rows": (8, 4), "sequences": (8, 4, 3), "images": (8, 4, 3, 2), "timm": (8, 4, 3, 2)}
NAMES = [pytest.param(name, marks=needs_timm) if name == "timm" else name for name in SHAPES]


def inputs(name: str) -> Tensor:
    return torch.randn(SHAPES[name], generator=generator(1, "test norm")) * 3 + 1


def gradients_of(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Outputs, gradients of the outputs' squares, and running statistics."""
    images = images.clone().requires_grad_()
    outputs = model(images)
    outputs.square().sum().backward()
    assert images.grad is not None
    parameters = {f"gradient of {n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {"outputs": outputs.detach(), "gradient": images.grad, **dict(model.named_buffers()), **parameters}


def norms_on_two_ranks(folder: Path, names: list[str]) -> None:
    """In a rank: what the norms compute of its share, five images of eight being the first rank's."""
    ranks, found = join("cpu"), {}
    for name in names:
        share = inputs(name).tensor_split([5])[ranks.rank]  # of different sizes
        for what, tensor in gradients_of(synchronise_norms(BUILDERS[name](), ranks), share).items():
            found[f"{name}/{what}"] = tensor
    torch.save(found, folder / f"{ranks.rank}.pt")
    try:
        synchronise_norms(BUILDERS["rows"](), ranks)(inputs("rows")[:1].tensor_split([1])[ranks.rank])
    except TrainingError as error:
        sys.stdout.write(str(error))
    leave()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder in which two ranks wrote what their norms computed, and what they said."""
    folder = tmp_path_factory.mktemp("two_ranks")
    names = [name for name in SHAPES if name != "timm" or HAS_TIMM]
    return folder, on_two_ranks(norms_on_two_ranks, folder, names, folder=folder)


@pytest.mark.check
def test_one_value_per_channel_over_all_ranks_is_refused_on_each(two_ranks: tuple[Path, list[str]]) -> None:
    for said in two_ranks[1]:
        assert "a norm got one value per channel, which has no variance" in said


@pytest.mark.check
@pytest.mark.parametrize("name", NAMES)
def test_two_ranks_compute_what_one_norm_does_with_all_images(name: str, two_ranks: tuple[Path, list[str]]) -> None:
    ranks = [torch.load(two_ranks[0] / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for what, expected in gradients_of(BUILDERS[name](), inputs(name)).items():
        parts = [rank[f"{name}/{what}"] for rank in ranks]
        if what in ("outputs", "gradient"):
            found = torch.cat(parts)
        else:  # DDP sums gradients of parameters over ranks; statistics are those of all images on each
            found = parts[0] + parts[1] if what.startswith("gradient") else parts[1]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, msg=lambda m, w=what: f"{w}: {m}")


@pytest.mark.parametrize("device", TWO_ON)
@pytest.mark.parametrize("name", NAMES)
def test_what_was_done_to_a_norm_stays_with_it(name: str, device: str) -> None:
    """Its factor, a hook and its activation: in training on a GPU, in evaluation on a CPU, where it needs no other."""
    model, seen = BUILDERS[name](), list[Tensor]()
    attach(model, {"0": torch.tensor([0.5, 1.0, 1.5, 2.0])})
    model[0].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    model.train(device == "cuda")  # without a group of processes torch's norm for GPUs computes here, and alone
    expected = model(inputs(name)).detach()
    names = list(model.state_dict())
    changed = synchronise_norms(model, TWO_ON[device])
    assert type(changed[0]) is not type(BUILDERS[name]()[0]) and list(changed.state_dict()) == names
    torch.testing.assert_close(changed(inputs(name)), expected)
    assert len(seen) == 2


def test_a_norm_of_ones_own_is_refused_by_name() -> None:
    class Centred(nn.BatchNorm2d):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images - images.mean())

    message = "body.1, a .*, cannot compute over several ranks.* .resources.ranks = 1"
    for norm in (Centred(4), nn.BatchNorm2d(4, affine=False), nn.BatchNorm2d(4, track_running_stats=False)):
        model = nn.Sequential()
        model.add_module("body", nn.Sequential(nn.Conv2d(3, 4, 3), norm))
        with pytest.raises(ConfigError, match=message):
            synchronise_norms(model, TWO_ON["cpu"])


@needs_timm
def test_timms_norms_lie_where_they_are_looked_for() -> None:
    from timm.layers import BatchNormAct2d

    from tailor.parallel.norm import TIMMS

    assert BatchNormAct2d.__module__ == TIMMS
