"""Weights by torchvision's exact names, or in your own files: their facts and their folder. Without torch."""

import hashlib
import re
import shlex
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tailor.common.errors import ConfigError
from tailor.facts.asked import ask
from tailor.facts.networks import NETWORKS
from tailor.facts.pins import other_pin
from transtailor.files import is_there
from transtailor.names import nearest

FOLDER = "weights"  # the default, next to `runs` and `cache`
SHA256_DIGITS = 64
NAME = re.compile(r"(\w+_Weights)\.(\w+)")


@dataclass(frozen=True, kw_only=True)
class WeightsInfo:
    """Weights that torchvision publishes under an exact name."""

    network: str
    file: str  # its name, which has the first digits of its SHA-256
    sha256: str  # those digits
    pixel_mean: tuple[float, ...]  # of pixels in [0, 1], one per channel: what the weights were trained with
    pixel_std: tuple[float, ...]
    side_px: int  # of the images that they are for


@lru_cache(maxsize=1)
def table() -> dict[str, WeightsInfo]:
    """Return exact name, such as "ResNet18_Weights.IMAGENET1K_V1" -> what is known of the weights."""
    info_by_name = {}
    for name, facts in ask("weights").items():
        pixels = {key: tuple(facts[key]) for key in ("pixel_mean", "pixel_std")}
        info_by_name[name] = WeightsInfo(**facts | pixels)
    return info_by_name


def is_name(weights: str) -> bool:
    """Whether this is one of torchvision's names (valid or not) and no file.

    >>> is_name("ResNet18_Weights.IMAGENET1K_V1"), is_name("weights/mine.pth")
    (True, False)
    """
    return NAME.fullmatch(weights) is not None


def find(name: str) -> WeightsInfo:
    """Return what is known of the weights of this name.

    Raises:
        ConfigError: there are none; the text names those of the same network, or the nearest.
    """
    if name in table():
        return table()[name]
    enum = name.partition(".")[0]
    of_same_network = [known_name for known_name in table() if known_name.startswith(f"{enum}.")]
    if name.endswith(".DEFAULT") and of_same_network:
        raise ConfigError(
            f"{name} depends on the version of torchvision; give an exact name: {' or '.join(of_same_network)}"
        )
    if of_same_network:
        raise ConfigError(f"no such weights: {name!r} (valid: {', '.join(of_same_network)})")
    raise ConfigError(f"no such weights: {name!r}{nearest_names(name)}")


def nearest_names(typed: str) -> str:
    """Return the end of an error message: the names of the weights of a network, or those nearest to what was typed."""
    return nearest(typed, names_of(typed.casefold()) or table())


def names_of(network: str) -> list[str]:
    """Return the names of the weights of a network."""
    return [name for name, info in table().items() if info.network == network]


def complete_source(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the table `source` of a trial, completed by the facts of the weights that it names.

    These are the digits of the SHA-256 in the file's name, the pixels' mean and std, and the folder. Values that the
    table already has are kept. A file that is not there is given a digest that no file has, so that plans can be made.

    Raises:
        ConfigError: there are no such weights, or a file's have a name, and the pixels of others.
    """
    weights = raw.get("weights")
    if not isinstance(weights, str):
        return raw
    if not is_name(weights):
        if raw.get("weights_sha256") is not None or is_there(Path(weights).expanduser()):
            _refuse_other_pixels(raw)
            return raw
        return raw | {"weights_sha256": hashlib.sha256(f"not there: {weights}".encode()).hexdigest()}
    info = find(weights)
    facts = {
        "weights_sha256": info.sha256,
        "pixel_mean": info.pixel_mean,
        "pixel_std": info.pixel_std,
        "weights_folder": FOLDER,
    }
    given_values = {key: value for key, value in raw.items() if value is not None}
    return facts | given_values


def _refuse_other_pixels(raw: dict[str, Any]) -> None:
    """Raise ConfigError for a file of weights that have a name, and so pixels of their own, where none are given."""
    sha256 = str(raw.get("weights_sha256"))
    for name, info in table().items():
        if sha256.startswith(info.sha256) and not raw.keys() >= {"pixel_mean", "pixel_std"}:
            raise ConfigError(
                f"source.weights = {raw['weights']!r} are {name}, trained with pixel_mean = {list(info.pixel_mean)}, "
                f"pixel_std = {list(info.pixel_std)}; give these, or the name in place of the file and its SHA-256"
            )


def check_pin(weights: str, sha256: str) -> None:
    """Raise ConfigError unless these digits can be the SHA-256 of the weights."""
    if re.fullmatch(r"[0-9a-f]+", sha256) is None or len(sha256) > SHA256_DIGITS:
        file = "FILE" if is_name(weights) else weights
        raise ConfigError(
            f"weights_sha256 = {sha256!r}: expected {SHA256_DIGITS} digits of 0-9a-f (type: "
            f"{shlex.join(['sha256sum', file])})"
        )
    if is_name(weights):
        if not sha256.startswith(find(weights).sha256):
            raise ConfigError(
                f"weights_sha256 = {sha256!r} is not that of {weights}, which begins with {find(weights).sha256}; "
                "leave it out, or give the whole SHA-256 that `transtailor fetch` prints"
            )
    elif len(sha256) != SHA256_DIGITS:
        raise ConfigError(
            f"weights_sha256 has {len(sha256)} digits; your own file is pinned by all {SHA256_DIGITS} (type: "
            f"{shlex.join(['sha256sum', weights])})"
        )


def refuse_other_network(weights: str | None, network: str) -> None:
    """Raise ConfigError if these are weights by name, of another network or for images that it does not read."""
    if weights is None or not is_name(weights):
        return
    info = find(weights)
    if info.network != network:
        raise ConfigError(
            f"source.weights = {weights!r} are weights of {info.network}, and the network is {network}; "
            f"{what_to_give(network)}"
        )
    side_px = NETWORKS[network].input_shape[1]
    if info.side_px != side_px and not NETWORKS[network].any_size:
        raise ConfigError(
            f"source.weights = {weights!r} are for {info.side_px} px, and {network} is only built for {side_px}; "
            f"{what_to_give(network)}"
        )


def what_to_give(network: str) -> str:
    """Return what source.weights may be for a network."""
    return f"give source.weights the path of the file{''.join(f', or {name}' for name in names_of(network))}"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits. Raises ConfigError: the file cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"source.weights: cannot read {path}: {error}") from error


def verify(path: Path, sha256: str) -> str:
    """Compare the SHA-256 of a file with the expected one, or with its first digits; return the whole SHA-256.

    If only the first digits are given, the file must also agree with what `tailor.facts.pins` knows.

    Raises:
        ConfigError: it is another file.
    """
    whole_sha256 = sha256_of(path)
    is_whole_expected = len(sha256) == SHA256_DIGITS
    if not whole_sha256.startswith(sha256):
        relation = "is" if is_whole_expected else "begins with"
        raise ConfigError(
            f"source.weights: {path} has SHA-256 {whole_sha256}, expected was one that {relation} {sha256}: it is "
            "another file, or damaged"
        )
    if not is_whole_expected:
        conflict = other_pin(path, whole_sha256)
        if conflict is not None:
            raise ConfigError(
                f"source.weights: {path} has SHA-256 {whole_sha256}, and {conflict}: its first digits are right, "
                "as a forged file's can be; fetch it again, or remove that line if you know that this file is right"
            )
    return whole_sha256
