"""PAC-Net's promises: essential weights stay bit for bit, redundant ones start at exactly 0, the source is kept."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from tailor.common.errors import ConfigError
from tailor.config.trial import TrialConfig
from tailor.data import task_data
from tailor.data.task_data import normalise
from tailor.execution.cache import Cache
from tailor.execution.dry_run import dry_run
from tailor.execution.runner import Result, StageEvent, run_trial
from tailor.facts.networks import NETWORKS
from tailor.methods.recipe import Recipe
from tailor.model.state import ModelState
from tailor.networks import building
from tailor.parallel.process_group import ProcessGroup
from tailor.stage_execution.pac_net import essential_masks
from tests.tailor.trials import assert_equal_tensors, short_trial

Run = Callable[..., list[StageEvent]]
PAC_NET = {"name": "pac_net", "allocate_epochs": 2}
NETWORK_NAMES = ("digits_resnet", "friedman_mlp")  # classes and norms; real values
WITH_OPTIMISERS = [("digits_resnet", "adam"), ("digits_vgg", "sgd"), ("friedman_mlp", "adam")]


def trial(network: str, method: dict[str, Any] | None = None, **settings: Any) -> TrialConfig:
    """A short trial of PAC-Net on the data that the network reads; `settings` replace whole tables."""
    name = "friedman1" if network == "friedman_mlp" else "digits"
    tables = {"optimisation": {"epochs": 3, "head_epochs": 2, "batch_size": 32}} | settings
    tables["data"] = {"name": name} | tables.get("data", {})
    return short_trial(PAC_NET | (method or {}), network=network, **tables)


def by_kind(events: list[StageEvent]) -> dict[str, Result]:
    return {event.result.stage.kind: event.result for event in events}


def head_names(network: str) -> set[str]:
    return {f"{NETWORKS[network].head}.{part}" for part in ("weight", "bias")}


@torch.no_grad()
def outputs(state: ModelState, config: TrialConfig) -> Tensor:
    model = state.build().eval()
    return model(normalise(task_data.load(config.data.name)["source"].images[:100]))


# --- Prune ---


@pytest.mark.parametrize("prune_ratio", [0.0, 0.25, 0.8, 0.99])
def test_the_largest_weights_of_the_whole_network_are_essential(prune_ratio: float) -> None:
    """Against the slow and obvious way: sort all weights of all tensors, the largest first."""
    numbers = task_data.generator(0, "test")
    found = {"b": torch.randn(4, 3, 3, 3, generator=numbers), "a": 0.1 * torch.randn(5, 7, generator=numbers)}
    found["b"][0, 0, 0, :2] = found["a"][0, 0] = 0.5  # equal magnitudes: the first ones stay
    found["b"][0, 0, 0, 1] = -0.5
    ranking = [
        (-abs(value), name == "a", place, name)
        for name in found
        for place, value in enumerate(found[name].flatten().tolist())
    ]
    expected = {name: torch.zeros(tensor.numel(), dtype=torch.bool) for name, tensor in found.items()}
    for _, _, place, name in sorted(ranking)[: round((1.0 - prune_ratio) * len(ranking))]:
        expected[name][place] = True
    masks = essential_masks(found, prune_ratio)
    assert {name: mask.shape for name, mask in masks.items()} == {name: t.shape for name, t in found.items()}
    assert_equal_tensors({name: mask.flatten() for name, mask in masks.items()}, expected)


@pytest.mark.parametrize("network", NETWORK_NAMES)
def test_all_weights_but_biases_and_norms_are_candidates(network: str, run: Run, shared_cache: Cache) -> None:
    found = by_kind(run(trial(network), shared_cache))["find_essential"]
    model = found.model_state().build()
    layers = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    essential = found.model_state().essential
    assert set(essential) == {f"{name}.weight" for name in layers}
    kept = sum(int(mask.sum()) for mask in essential.values())
    total = sum(mask.numel() for mask in essential.values())
    assert kept == found.info["essential_weights"] == round(0.2 * total)
    assert found.info["weights"] == total
    assert found.info["redundant_fraction"] == pytest.approx(0.8, abs=1e-4)
    magnitude = {name: found.model_state().tensors[name].abs() for name in essential}
    least = min(float(magnitude[name][mask].min()) for name, mask in essential.items() if mask.any())
    most = max(float(magnitude[name][~mask].max()) for name, mask in essential.items() if not mask.all())
    assert most <= least


# --- Allocate and Calibrate, bit for bit ---


def test_the_start_penalty_holds_essential_weights_near_the_pretrained_ones(run: Run, shared_cache: Cache) -> None:
    distances = []
    for strength in (0.0, 0.01, 1.0):
        stages = by_kind(run(trial("friedman_mlp", {"start_penalty": strength}), shared_cache))
        found, allocated = stages["find_essential"].model_state(), stages["allocate"].model_state()
        moved = [
            ((allocated.tensors[name] - found.tensors[name]) * mask).square().sum()
            for name, mask in found.essential.items()
        ]
        distances.append(float(torch.stack(moved).sum()))
        assert all(allocated.tensors[name][~mask].abs().max() == 0.0 for name, mask in found.essential.items())
    assert distances[0] > 1.2 * distances[1] > 2.4 * distances[2] > 0.0


@pytest.mark.parametrize(("network", "optimiser"), WITH_OPTIMISERS)
def test_each_step_trains_its_own_weights_and_no_other(
    network: str, optimiser: str, run: Run, shared_cache: Cache
) -> None:
    config = trial(network, {"optimiser": optimiser})
    stages = by_kind(run(config, shared_cache))
    found, allocated = stages["find_essential"].model_state(), stages["allocate"].model_state()
    fitted, calibrated = stages["fit_head"].model_state(), stages["calibrate"].model_state()
    free = head_names(network)
    assert_equal_tensors(calibrated.essential, found.essential)
    for name, mask in found.essential.items():
        assert allocated.tensors[name][~mask].abs().max() == 0.0, name
        assert not torch.equal(allocated.tensors[name][mask], found.tensors[name][mask]), name
        if name not in free:
            assert ((calibrated.tensors[name] - allocated.tensors[name]) * mask).abs().max() == 0.0, name
            assert calibrated.tensors[name][~mask].abs().max() > 0.0, name
    for name in set(found.tensors) - set(found.essential) - free:  # biases, norms and their running statistics
        assert torch.equal(calibrated.tensors[name], allocated.tensors[name]), name
        assert not torch.equal(allocated.tensors[name], found.tensors[name]), name
    for name in free:
        assert not torch.equal(calibrated.tensors[name], fitted.tensors[name]), name


@pytest.mark.parametrize("network", NETWORK_NAMES)
def test_without_the_calibrated_weights_the_source_is_back_exactly(network: str, run: Run, shared_cache: Cache) -> None:
    config = trial(network)
    stages = by_kind(run(config, shared_cache))
    allocated, calibrated = stages["allocate"].model_state(), stages["calibrate"].model_state()
    tensors = dict(calibrated.tensors)
    for name, mask in calibrated.essential.items():
        if name not in head_names(network):
            tensors[name] = tensors[name] * mask
    source_head = {name: allocated.tensors[name] for name in head_names(network)}
    back = replace(calibrated, classes=allocated.classes, tensors=tensors | source_head)
    assert torch.equal(outputs(back, config), outputs(allocated, config))
    unchanged = replace(calibrated, tensors=calibrated.tensors | source_head)
    assert not torch.equal(outputs(unchanged, config), outputs(allocated, config))


@pytest.mark.parametrize(("network", "optimiser"), WITH_OPTIMISERS)
def test_calibrate_minimises_what_the_paper_says(network: str, optimiser: str, run: Run, shared_cache: Cache) -> None:
    """Two full-batch steps by hand: gradients of loss + lambda x sum of redundant w^2, at redundant weights alone.

    Adam's first step follows the sign of a gradient, which rounding decides where the gradient is about 0.
    """
    rate, head_rate, strength = 0.003, 0.01, 0.3
    config = trial(
        network,
        {"optimiser": optimiser, "calibrate_learning_rate": rate, "penalty_strength": strength},
        data={"train_images": 40},
        optimisation={"epochs": 2, "head_epochs": 1, "batch_size": 64, "head_learning_rate": head_rate},
    )
    stages = by_kind(run(config, shared_cache))
    fitted, calibrated = stages["fit_head"].model_state(), stages["calibrate"].model_state()
    samples = task_data.splits(Recipe(config).task).train
    model = fitted.build().eval()
    redundant = {n: (~mask).float() for n, mask in fitted.essential.items() if n not in head_names(network)}
    masks = redundant | {name: torch.tensor(1.0) for name in sorted(head_names(network))}
    weights = {name: weight for name, weight in model.named_parameters() if name in masks}
    groups = [{"params": [weights[n]], "lr": rate if n in redundant else head_rate} for n in weights]
    stepper = torch.optim.Adam(groups) if optimiser == "adam" else torch.optim.SGD(groups, momentum=0.9)
    for _ in range(2):
        found = model(normalise(samples.fetch().images))
        if config.data.name == "friedman1":
            loss = ((found[:, 0] - samples.labels) ** 2).mean()
        else:
            loss = torch.nn.functional.cross_entropy(found, samples.labels)
        penalty = sum(((weights[name] * mask) ** 2).sum() for name, mask in redundant.items())
        for weight in weights.values():
            weight.grad = None
        (loss + strength * penalty).backward()
        for name, weight in weights.items():
            weight.grad = weight.grad * masks[name]
        stepper.step()
    for name, weight in weights.items():
        is_other = (calibrated.tensors[name] - weight.detach()).abs() > 1e-5
        assert is_other.float().mean() < 1e-3, name


def test_a_ratio_of_0_calibrates_the_head_alone_and_the_network_stays_whole(run: Run, shared_cache: Cache) -> None:
    """Weights are zeroed, not removed: the point costs what the unpruned network costs."""
    stages = by_kind(run(trial("digits_resnet", {"prune_ratio": 0.0}), shared_cache))
    fitted, calibrated = stages["fit_head"].model_state(), stages["calibrate"].model_state()
    changed = {name for name, tensor in fitted.tensors.items() if not torch.equal(tensor, calibrated.tensors[name])}
    assert changed == head_names("digits_resnet")
    point = stages["operating_point"]
    assert point.info["macs"] == point.info["original_macs"] == NETWORKS["digits_resnet"].macs


# --- shared, resumed, on two ranks ---


def keys(config: TrialConfig) -> dict[str, str]:
    return {stage.kind: stage.key for stage in dry_run(config).stages}


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 1},
        {"data": {"train_images": 100, "images_per_class": 5, "split_seed": 1, "augmentation": "shift"}},
        {"optimisation": {"epochs": 7, "batch_size": 8, "learning_rate": 0.1, "momentum": 0.5, "optimiser": "adam"}},
        {"method": {"calibrate_learning_rate": 0.1, "penalty_strength": 0.1}},
    ],
)
def test_what_knows_the_source_alone_is_shared(settings: dict[str, Any]) -> None:
    before, after = keys(trial("digits_vgg")), keys(trial("digits_vgg", **settings))
    same = {kind for kind, key in before.items() if after[kind] == key}
    assert {"train_source", "find_essential", "allocate"} <= same
    assert "calibrate" not in same


@dataclass(frozen=True, kw_only=True)
class FailingRank(ProcessGroup):
    """A rank whose machine goes down as soon as a checkpoint lies in a folder."""

    folder: Path

    def sum(self, tensor: Tensor) -> Tensor:
        if self.folder.exists() and any(self.folder.iterdir()):
            raise ConnectionError("the machine is gone")
        return super().sum(tensor)


@pytest.mark.check
def test_resumed_inside_a_stage_equals_straight(run: Run, ranks: ProcessGroup, tmp_path: Path) -> None:
    config = trial("digits_resnet", data={"train_images": 100})
    straight = run(config, Cache(tmp_path / "straight"))
    cache, folder = Cache(tmp_path / "resumed"), tmp_path / "checkpoints"
    interrupted = set()
    for stage in ("train_source", "allocate", "fit_head", "calibrate"):
        shutil.rmtree(folder, ignore_errors=True)
        failing = FailingRank(rank=0, world_size=1, device=ranks.device, folder=folder)
        with pytest.raises(ConnectionError):
            list(run_trial(config, cache=cache, ranks=failing, checkpoint_folder=folder, checkpoint_every_s=0.0))
        interrupted |= {file.stem for file in folder.iterdir()}
        events = run_trial(config, cache=cache, ranks=ranks, checkpoint_folder=folder, checkpoint_every_s=0.0)
        while next(events).result.stage.kind != stage:  # the interrupted stage goes on to its end
            pass
    assert interrupted == {event.result.key for event in straight if "epochs" in event.result.info}
    resumed = run(config, cache)
    for before, after in zip(straight, resumed, strict=True):
        assert after.result.key == before.result.key
        assert cache.read_tensors(after.result.key) == Cache(tmp_path / "straight").read_tensors(before.result.key)


# --- mistakes ---


def weights_file(folder: Path, classes: int) -> dict[str, Any]:
    """Settings of a source that is read from a file."""
    content = safetensors.torch.save(building.build("digits_vgg", classes, seed=0).state_dict())
    (folder / "weights.safetensors").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    return {"weights": str(folder / "weights.safetensors"), "weights_sha256": sha256}


def test_weights_of_the_source_task_are_gone_on_with_and_others_refused(tmp_path: Path, run: Run) -> None:
    with pytest.raises(ConfigError, match="head has 7 outputs while the source task of digits has 5 classes"):
        run(trial("digits_vgg", source=weights_file(tmp_path, 7)), Cache(tmp_path / "cache"))
    stages = by_kind(run(trial("digits_vgg", source=weights_file(tmp_path, 5)), Cache(tmp_path / "cache")))
    assert {"load_weights", "allocate", "calibrate", "operating_point"} <= set(stages)
