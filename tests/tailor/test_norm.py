"""Norms over all ranks: two ranks with a part of the batch each beside one norm with all of it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tailor.data import generator
from tailor.distributed import Ranks
from tailor.errors import ConfigError
from tailor.factors import attach
from tailor.norm import synchronise_norms
from tests.tailor.test_timm import needs_timm

TWO_ON = {device: Ranks(rank=0, count=2, device=torch.device(device)) for device in ("cpu", "cuda")}
PROGRAM = """
import sys
import torch
from pathlib import Path
from tailor.distributed import join, leave
from tests.tailor.test_norm import BUILDERS, gradients_of, inputs
from tailor.norm import synchronise_norms

torch.set_num_threads(1)
ranks = join("cpu")
name = sys.argv[1]
whole = inputs(name)[: int(sys.argv[3])]
mine = [whole[:5], whole[5:]][ranks.rank]  # shares of different sizes
model = synchronise_norms(BUILDERS[name](), ranks)
found = gradients_of(model, mine)
torch.save(found, Path(sys.argv[2]) / f"{ranks.rank}.pt")
leave()
"""


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


def on_two_ranks(name: str, images: int, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Let two ranks write in a folder what they found for so many of the inputs: five of them are the first one's."""
    program = folder / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(program)]
    here = str(Path(__file__).parents[2])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": here}
    typed = [*command, name, str(folder), str(images)]
    return subprocess.run(typed, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_one_value_per_channel_over_all_ranks_is_refused(tmp_path: Path) -> None:
    done = on_two_ranks("rows", 1, tmp_path)
    assert done.returncode != 0 and "a norm got one value per channel, which has no variance" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", [name if name != "timm" else pytest.param(name, marks=needs_timm) for name in SHAPES])
def test_two_ranks_compute_what_one_norm_does_with_all_images(name: str, tmp_path: Path) -> None:
    done = on_two_ranks(name, 8, tmp_path)
    assert done.returncode == 0, done.stderr
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for what, expected in gradients_of(BUILDERS[name](), inputs(name)).items():
        if what in ("outputs", "gradient"):
            found = torch.cat([rank[what] for rank in ranks])
        else:  # DDP sums gradients of parameters over ranks; statistics are those of all images on each
            found = ranks[0][what] + ranks[1][what] if what.startswith("gradient") else ranks[1][what]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, msg=lambda m, w=what: f"{w}: {m}")


@pytest.mark.parametrize("device", TWO_ON)
@pytest.mark.parametrize("name", [name if name != "timm" else pytest.param(name, marks=needs_timm) for name in SHAPES])
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

    message = "body.1, a .*Centred, cannot compute over several ranks.* .resources.ranks = 1"
    for norm in (Centred(4), nn.BatchNorm2d(4, affine=False), nn.BatchNorm2d(4, track_running_stats=False)):
        model = nn.Sequential()
        model.add_module("body", nn.Sequential(nn.Conv2d(3, 4, 3), norm))
        with pytest.raises(ConfigError, match=message.replace(".*Centred", ".*")):
            synchronise_norms(model, TWO_ON["cpu"])


@needs_timm
def test_timms_norms_lie_where_they_are_looked_for() -> None:
    from timm.layers import BatchNormAct2d

    from tailor.norm import TIMMS

    assert BatchNormAct2d.__module__ == TIMMS
