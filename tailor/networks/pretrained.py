"""Weights from a file: verified against their SHA-256, loaded without pickle, checked against the network."""

import pickle
import re
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from tailor.common.errors import ConfigError
from tailor.facts.networks import NETWORKS
from tailor.facts.weights import verify
from tailor.networks import building

# Names in older files of torchvision -> names in its networks today; its own loaders do the same.
RENAMED = (
    (re.compile(r"(\.denselayer\d+\.(?:norm|conv))\.([12]\.)"), r"\1\2"),  # DenseNet
    (re.compile(r"(\.mlp)\.linear_1\."), r"\1.0."),  # ViT
    (re.compile(r"(\.mlp)\.linear_2\."), r"\1.3."),
)
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # heads of GoogLeNet and Inception that only their training used


def load(path: Path, sha256: str, network: str) -> tuple[dict[str, Tensor], int]:
    """The state_dict in a `.safetensors` or `.pth` file, and how many classes its head has.

    A `.pth` file is read with torch's loader for weights only, which executes no code.

    Raises:
        ConfigError: the file has another SHA-256 than expected, is damaged, or is of another architecture.
    """
    verify(path, sha256)
    try:
        if path.suffix == ".safetensors":
            tensors = safetensors.torch.load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"source.weights: {path} holds objects of Python, or nothing that torch reads, and only tensors are read; "
            "give torch.save(model.state_dict(), ...)"
        ) from error
    except Exception as error:  # noqa: BLE001  # both readers raise whatever a damaged file makes them raise
        raise ConfigError(f"source.weights: {path} holds no weights ({type(error).__name__}: {error})") from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise ConfigError(f"source.weights: {path} holds no state_dict; give torch.save(model.state_dict(), ...)")
    known_names = set(building.skeleton(network, 1).state_dict())
    return _check(_with_todays_names(tensors, known_names), network, path)


def check_head(outputs: int, data_name: str, source_classes: int) -> None:
    """Raise ConfigError unless the head of a pre-trained network fits the source task."""
    if outputs != source_classes:
        raise ConfigError(
            f"the method continues with the source task, and the weights' head has {outputs} outputs while the source "
            f"task of {data_name} has {source_classes} classes; give weights that were trained on it, or none"
        )


def _with_todays_names(tensors: dict[str, Tensor], known: set[str]) -> dict[str, Tensor]:
    """The tensors under the names that the network knows, without auxiliary heads where it has none."""
    renamed = {}
    for old, tensor in tensors.items():
        name = _todays_name(old, known)
        if name in known or not name.startswith(AUXILIARY):
            renamed[name] = tensor
    return renamed


def _todays_name(old: str, known: set[str]) -> str:
    """The name that a network has in place of an older one; the older one if it has neither."""
    if old in known:
        return old
    for pattern, replacement in RENAMED:
        name = pattern.sub(replacement, old)
        if name in known:
            return name
    return old


def _check(tensors: dict[str, Tensor], network: str, path: Path) -> tuple[dict[str, Tensor], int]:
    head = f"{NETWORKS[network].head}.weight"
    if head not in tensors:
        raise ConfigError(
            f"source.weights: {path} has no {head}, the head of {network}; it holds {', '.join(sorted(tensors)[:5])}, "
            "...: weights of another architecture?"
        )
    classes = len(tensors[head])
    new = building.build(network, classes, seed=0).state_dict()
    # Weights saved by other programs may lack the norms' counters, which nothing here reads.
    missing = [name for name in new if name not in tensors and not name.endswith("num_batches_tracked")]
    wrong = [name for name in new if name in tensors and tensors[name].shape != new[name].shape]
    extra = sorted(set(tensors) - set(new))
    if missing or wrong or extra:
        raise ConfigError(
            f"source.weights: {path} does not fit {network}: missing {missing[:3]}, of another shape {wrong[:3]}, "
            f"unknown {extra[:3]}"
        )
    whole = new | tensors
    broken = [name for name, tensor in whole.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise ConfigError(f"source.weights: {path} holds numbers that are not finite, in {', '.join(broken[:3])}")
    state_dict = {name: whole[name].to(tensor.dtype).contiguous() for name, tensor in new.items()}
    return state_dict, classes
