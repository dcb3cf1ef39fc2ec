"""Weights from a file: verified against their SHA-256, loaded without pickle, checked against the network."""

import hashlib
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from tailor import networks
from tailor.catalog import NETWORKS
from tailor.errors import ConfigError

BLOCK_BYTES = 1 << 22


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits.

    Raises:
        ConfigError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
    except OSError as error:
        raise ConfigError(f"source.weights: cannot read {path}: {error}") from error
    return digest.hexdigest()


def load(path: Path, sha256: str, network: str) -> tuple[dict[str, Tensor], int]:
    """The state_dict in a `.safetensors` or `.pth` file, and how many classes its head has.

    A `.pth` file is read with torch's loader for weights alone, which executes nothing.

    Raises:
        ConfigError: the file is another one than its SHA-256 says, or holds another architecture.
    """
    if (found := sha256_of(path)) != sha256:
        raise ConfigError(
            f"source.weights: {path} has SHA-256 {found}, source.weights_sha256 says {sha256}: it is another file"
        )
    try:
        if path.suffix == ".safetensors":
            tensors = safetensors.torch.load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  # both readers raise whatever a damaged file makes them raise
        raise ConfigError(f"source.weights: {path} holds no weights ({type(error).__name__}: {error})") from error
    return _checked(tensors, network, path)


def _checked(tensors: dict[str, Tensor], network: str, path: Path) -> tuple[dict[str, Tensor], int]:
    head = f"{NETWORKS[network].head}.weight"
    if head not in tensors:
        raise ConfigError(
            f"source.weights: {path} has no {head}, the head of {network}; it holds {', '.join(sorted(tensors)[:5])}, "
            "...: weights of another architecture?"
        )
    classes = len(tensors[head])
    expected = {name: t.shape for name, t in networks.build(network, classes, seed=0).state_dict().items()}
    # Weights saved by other programs may lack the norms' counters, which nothing here reads.
    missing = [name for name in expected if name not in tensors and not name.endswith("num_batches_tracked")]
    wrong = [name for name in expected if name in tensors and tensors[name].shape != expected[name]]
    extra = sorted(set(tensors) - set(expected))
    if missing or wrong or extra:
        raise ConfigError(
            f"source.weights: {path} does not fit {network}: missing {missing[:3]}, of another shape {wrong[:3]}, "
            f"unknown {extra[:3]}"
        )
    whole = networks.build(network, classes, seed=0).state_dict() | tensors
    return {name: tensor.contiguous() for name, tensor in whole.items()}, classes
