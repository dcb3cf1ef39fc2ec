"""Weights from a file: verified against their SHA-256, loaded without pickle, checked against the network."""

import pickle
import re
from pathlib import Path
from typing import Any

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
NUMBERS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)  # integers stand for others, by a scale
COUNTER = "num_batches_tracked"  # of a norm; weights saved by other programs may lack it, and nothing here reads it
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # heads of GoogLeNet and Inception that only their training used


def load(path: Path, sha256: str, network: str) -> tuple[dict[str, Tensor], int]:
    """The state_dict in a `.safetensors` or `.pth` file, and how many classes its head has; 0: only a head is missing.

    A `.pth` file is read with torch's loader for weights only, which executes no code. A missing head has no outputs.

    Raises:
        ConfigError: the file has another SHA-256 than expected, is damaged, or is of another architecture.
    """
    verify(path, sha256)
    content = _read(path)
    head = f"{NETWORKS[network].head}.weight"
    known_names = set(building.skeleton(network, 1).state_dict())
    if _is_state_dict(content) and head not in content:
        tensors = _with_todays_names(content, known_names)
        missing = {name for name in known_names - tensors.keys() if not name.endswith(COUNTER)}
        if missing == set(NETWORKS[network].head_tensors(known_names)):
            new = building.build(network, 1, seed=0).state_dict()
            whole, _ = _check(tensors | {name: new[name] for name in missing}, network, path)
            return whole | {name: whole[name][:0] for name in missing}, 0
    if not _is_state_dict(content) or head not in content:
        raise ConfigError(
            f"source.weights: {path} has no {head}, the head of {network}; it holds {_shown(content)}; give "
            "torch.save(model.state_dict(), ...) of this architecture, with its names"
        )
    return _check(_with_todays_names(content, known_names), network, path)


def _read(path: Path) -> Any:
    """What is in a file, whatever its suffix. Raises ConfigError: it holds something else than tensors."""
    try:
        if _is_of_safetensors(path):
            return safetensors.torch.load_file(path)
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"source.weights: {path} holds objects of Python, or nothing that torch reads, and "
            "only tensors are read; give torch.save(model.state_dict(), ...)"
        ) from error
    except Exception as error:  # noqa: BLE001  # both readers raise whatever a damaged file makes them raise
        raise ConfigError(
            f"source.weights: {path} holds no weights ({type(error).__name__}: {error}); if it is "
            "a part of a file, download or copy it again, else give torch.save(model.state_dict(), ...)"
        ) from error


def _is_of_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors do: behind the length of a header (8 bytes) comes the header, JSON."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _is_state_dict(content: Any) -> bool:
    return isinstance(content, dict) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items()
    )


def _shown(content: Any) -> str:
    """What a file holds, in a few words.

    >>> _shown({"model": {}, "epoch": 3}), _shown([])
    ('epoch, model', 'a list')
    """
    if not isinstance(content, dict):
        return f"a {type(content).__name__}"
    names = sorted(map(str, content))
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") or "nothing"


def check_head(outputs: int, data_name: str, source_classes: int) -> None:
    """Raise ConfigError unless the head of a pre-trained network fits the source task; 0 outputs: it has none."""
    if not outputs:
        raise ConfigError(
            f"the method continues with the source task, and the weights have no head; give weights with the head that "
            f"was trained on the {source_classes} classes of {data_name}, or none"
        )
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
    classes = tensors[f"{NETWORKS[network].head}.weight"].shape[:1].numel()  # 1 of a single number
    new = building.build(network, classes, seed=0).state_dict()
    missing = [name for name in new if name not in tensors and not name.endswith(COUNTER)]
    wrong = [name for name in new if name in tensors and tensors[name].shape != new[name].shape]
    extra = sorted(set(tensors) - set(new))
    if missing or wrong or extra:
        raise ConfigError(
            f"source.weights: {path} does not fit {network}: missing {missing[:3]}, of another shape {wrong[:3]}, "
            f"unknown {extra[:3]}"
        )
    whole = new | tensors
    unfit = [name for name, tensor in new.items() if tensor.is_floating_point() and not _has_numbers(whole[name])]
    if unfit:
        name = unfit[0]
        raise ConfigError(
            f"source.weights: {path} has {name} as {whole[name].dtype}, {whole[name].layout}, {whole[name].device}; "
            f"expected dense tensors of {' or '.join(map(str, NUMBERS))}, not quantised"
        )
    broken = [name for name in new if not bool(torch.isfinite(whole[name]).all())]
    if broken:
        raise ConfigError(f"source.weights: {path} holds numbers that are not finite, in {', '.join(broken[:3])}")
    state_dict = {name: whole[name].to(tensor.dtype).contiguous() for name, tensor in new.items()}
    return state_dict, classes


def _has_numbers(tensor: Tensor) -> bool:
    return tensor.dtype in NUMBERS and tensor.layout == torch.strided and not tensor.is_meta
