"""The state of a model between stages: its whole function as plain tensors, and how to rebuild the model."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from torch import Tensor, nn

from tailor.common.errors import ConfigError
from tailor.common.plugin_digests import digest_of
from tailor.facts.networks import NETWORKS
from tailor.model.factors import FACTORS, attach, carries, fold_into
from tailor.networks import building
from tailor.networks.sizes import Sizes
from transtailor.files import make_folder, write_file
from transtailor.plural import first_few
from transtailor.shell import command
from transtailor.validation import list_faults

Format = Literal[1, 2]
PLAIN: Format = 1
WITH_SIZES: Format = 2  # as 1, and the sizes of modules that lost heads or channels of a stream
MODEL_FILE = "model.safetensors"
DESCRIPTION_FILE = "model.json"
PROGRAMS = ("model.pt2", "model.onnx", "model.int8.onnx")  # what `transtailor model export` writes beside them


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """A network's normalisation: (pixel - mean) / std of pixels in [0, 1], one number or one per channel."""

    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)

    def hook(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Inputs in [-1, 1], as data sets give them, converted to what the network expects (a forward pre-hook)."""
        (images,) = inputs
        mean = _on_device_of(images, self.mean)[:, None, None]
        std = _on_device_of(images, self.std)[:, None, None]
        return ((images * 0.5 + (0.5 - mean)) / std,)


def _on_device_of(images: Tensor, numbers: tuple[float, ...]) -> Tensor:
    """A tensor of these numbers, filled on the device: the host would have to wait for a copy, in each step."""
    return torch.stack([torch.full((), number, dtype=images.dtype, device=images.device) for number in numbers])


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelState:
    """A model as data. A *site* is the module at whose output a filter's factor is: its layer, norm or activation."""

    network: str
    classes: int
    input_shape: tuple[int, ...]  # of one image
    pixels: Pixels = Pixels()
    tensors: dict[str, Tensor]  # `building.tensors_of`, whose shapes are the widths
    factors: dict[str, Tensor] = field(default_factory=dict)  # site -> (filters,), frozen, part of the function
    gradient_factors: dict[str, Tensor] = field(default_factory=dict)  # layer -> (filters,), scale gradients only
    alpha: dict[str, Tensor] = field(default_factory=dict)  # site -> (filters,), TransTailor's factors, until scored
    scores: dict[str, Tensor] = field(default_factory=dict)  # layer -> (filters,), until attached or dropped
    anchor: dict[str, Tensor] = field(default_factory=dict)  # pre-trained weights, pruned like `tensors`
    channel_weights: dict[str, Tensor] = field(default_factory=dict)  # site -> (filters,), DELTA's attention
    momentum: dict[str, Tensor] = field(default_factory=dict)  # by tensor, where the next fine-tuning keeps it
    essential: dict[str, Tensor] = field(default_factory=dict)  # by tensor, 1 where PAC-Net found a weight essential
    kept: dict[str, Tensor] | None = field(default_factory=dict)
    """Layer that lost filters -> indices of the remaining ones in the unpruned network, ascending. None: the filters
    are not from that network, because they were initialised again, or the indices were not stored."""
    sizes: Sizes = field(default_factory=dict)  # of modules that lost heads or channels of a stream

    def build(self, device: torch.device | None = None) -> nn.Module:
        """A new module with this state, its factors attached; needs no tracing.

        Raises:
            ConfigError: the tensors or factors do not fit the network.
        """
        model = building.rebuild(self.network, self.classes, self.tensors, self.sizes)
        try:
            attach(model, self.factors)
        except AttributeError as error:
            raise ConfigError(f"these factors do not fit {self.network}: {error}") from error
        if self.pixels != Pixels():
            model.register_forward_pre_hook(self.pixels.hook)
        return model.to(device or torch.device("cpu"))

    def fold_factors(self) -> "ModelState":
        """The same function with its factors multiplied into the weights; those after an activation stay attached.

        For saving and timing, not for training: `anchor` and `momentum` are not converted.
        """
        if not self.factors:
            return self
        model = building.skeleton(self.network, self.classes)
        moved = {site: values for site, values in self.factors.items() if carries(model, site)}
        stay = {site: values for site, values in self.factors.items() if site not in moved}
        return replace(self, tensors=fold_into(self.tensors, moved), factors=stay)

    def with_weights_of(self, model: nn.Module) -> "ModelState":
        """This state with the parameters and buffers of `model`."""
        return replace(self, tensors=weights(model))

    def head_names(self) -> list[str]:
        """Names of the tensors of all heads: of the last layer, and of others with an output for each class."""
        return NETWORKS[self.network].head_tensors(self.tensors)


def weights(model: nn.Module) -> dict[str, Tensor]:
    """The model's tensors without the attached factors, copied to the CPU."""
    copies = {}
    for name, tensor in building.tensors_of(model).items():
        if name.rpartition(".")[2] not in FACTORS:
            copies[name] = tensor.detach().to("cpu", copy=True).contiguous()
    return copies


class _Facts(BaseModel):
    """What a card says of the modules that made the model; a card has other facts, too."""

    model_config = ConfigDict(frozen=True, strict=True)

    imports: dict[str, str] = {}  # what the user's modules registered of it -> the module's SHA-256


class _Description(BaseModel):
    """The required fields of `model.json` and their ranges; a card may add others."""

    model_config = ConfigDict(frozen=True, strict=True)

    format: Format
    network: str
    classes: Annotated[int, Field(ge=1, lt=2**31)]
    input_shape: tuple[Annotated[int, Field(ge=1, lt=2**31)], ...]
    pixel_mean: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = Pixels().mean
    pixel_std: tuple[Annotated[float, Field(gt=0.0, allow_inf_nan=False)], ...] = Pixels().std
    sha256: str
    sizes: dict[str, dict[str, Annotated[int, Field(ge=1, lt=2**31)]]] = {}
    facts: _Facts = _Facts()


def save_model(state: ModelState, folder: Path) -> None:
    """Write a model, its factors folded, so that `load_model` rebuilds it in a fresh process; no pickle.

    Writes: `model.safetensors` and `model.json` in `folder`, each whole or absent, the description last. Programs that
    were exported there of other weights, inputs or pixels are removed, because the new description is not theirs.
    """
    make_folder(folder)
    state = state.fold_factors()
    tensors = {f"tensors/{name}": tensor for name, tensor in state.tensors.items()}
    factors = {f"factors/{site}": factor for site, factor in state.factors.items()}
    content = safetensors.torch.save(tensors | factors)
    description: dict[str, object] = {
        "format": WITH_SIZES if state.sizes else PLAIN,
        "network": state.network,
        "classes": state.classes,
        "input_shape": list(state.input_shape),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    if "#" not in state.network:  # a module of `tailor.prune` reads what its user makes of images
        description |= {"pixel_mean": list(state.pixels.mean), "pixel_std": list(state.pixels.std)}
    if state.sizes:
        description["sizes"] = state.sizes
    before = saved_in(folder) | {"network": state.network}  # a module of `tailor.prune` has another name in each call
    if any(before.get(key) != value for key, value in description.items()):
        for name in PROGRAMS:
            (folder / name).unlink(missing_ok=True)
    write_file(folder / MODEL_FILE, content)
    write_file(folder / DESCRIPTION_FILE, json.dumps(description, indent=1))


def saved_in(folder: Path, *more: str) -> dict[str, Any]:
    """Return what `model.json` says of the model that is saved in a folder; nothing if none is.

    Args:
        more: names of files that are saved with it.

    Raises:
        ConfigError: files there have the names of a saved model's, and are of none: saving one would lose them.
    """
    there = [name for name in (MODEL_FILE, DESCRIPTION_FILE, *PROGRAMS, *more) if (folder / name).exists()]
    if not there:
        return {}
    try:
        content = (folder / DESCRIPTION_FILE).read_bytes()
        _Description.model_validate_json(content)
    except (OSError, ValidationError) as error:
        names = ", ".join(there)
        raise ConfigError(
            f"{folder} has {names}, and no saved model: saving one would replace them; give another folder, or move "
            "them away"
        ) from error
    saved: dict[str, Any] = json.loads(content)
    return saved


def load_state(folder: Path, network: str | None = None) -> ModelState:
    """The state that `save_model` wrote.

    Args:
        folder: where it is.
        network: the name of a network in place of the one in the file; the caller tries whether it runs.

    Raises:
        ConfigError: the folder has no complete model, its bytes changed, they are not tensors, or the network is now
            registered by another version of the user's module.
    """
    try:
        description = _Description.model_validate_json((folder / DESCRIPTION_FILE).read_bytes())
        content = (folder / MODEL_FILE).read_bytes()
    except (OSError, ValidationError) as error:
        how = "pruned.save(folder)" if network else command("trial", "run", "TRIAL", "--save", "FOLDER")
        how += "" if network else f", or for one of a sweep: {command('best', 'RUN')}"
        raise ConfigError(
            f"{folder} holds no saved model ({_words(error)}){_saved_near(folder)}; to save one, type: {how}"
        ) from error
    if hashlib.sha256(content).hexdigest() != description.sha256:
        raise ConfigError(
            f"{folder / MODEL_FILE} was changed or is incomplete: its SHA-256 is not that in {DESCRIPTION_FILE}"
        )
    if network is None:
        if "#" in description.network:  # saved by `tailor.prune`
            raise ConfigError(
                f"{folder} holds a network of your own; give a command what makes the network that was pruned: "
                f"--module net.py:Net; or load it in Python: tailor.load({str(folder)!r}, model=...)"
            )
        _refuse_other_version(description, folder)
    parts: dict[str, dict[str, Tensor]] = {"tensors": {}, "factors": {}}
    try:
        for name, tensor in safetensors.torch.load(content).items():
            part, _, rest = name.partition("/")
            parts[part][rest] = tensor
    except (SafetensorError, KeyError) as error:
        raise ConfigError(
            f"{folder / MODEL_FILE} has no tensors as `run --save` writes them: {type(error).__name__}: {error}"
        ) from error
    state = ModelState(
        network=network or description.network,
        classes=description.classes,
        input_shape=description.input_shape,
        pixels=Pixels(mean=description.pixel_mean, std=description.pixel_std),
        tensors=parts["tensors"],
        factors=parts["factors"],
        kept=None,
        sizes=description.sizes,
    )
    if state.sizes and network is None:
        _refuse_other_sizes(state, folder)
    return state


def _refuse_other_version(description: _Description, folder: Path) -> None:
    """Raise ConfigError if the network is registered by another version of the user's module than that on the card."""
    expected = description.facts.imports.get(f"{NETWORKS.noun} {description.network}")
    registered = digest_of(NETWORKS, description.network)
    is_own = expected is not None and registered is not None
    if is_own and expected != registered:
        raise ConfigError(
            f"{folder} is of network {description.network!r} from a module of SHA-256 {expected}, and the module that "
            f"registers it now has {registered}: it may compute something else; give that version: --import FILE"
        )


def _refuse_other_sizes(state: ModelState, folder: Path) -> None:
    """Raise ConfigError unless the network runs with its sizes and tensors, which is tried on shapes alone."""
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in state.tensors.items()}
    image = torch.zeros(1, *state.input_shape, device="meta")
    try:
        with torch.no_grad():
            building.rebuild(state.network, state.classes, shapes, state.sizes).eval()(image)
    except RuntimeError as error:
        raise ConfigError(
            f"{folder / DESCRIPTION_FILE}: {state.network} does not run with its sizes and the tensors in {MODEL_FILE} "
            f"({str(error).partition(chr(10))[0]}); to save the model again, type: "
            + command("trial", "run", "TRIAL", "--save", "FOLDER")
        ) from error


def _saved_near(folder: Path) -> str:
    """Ask whether one of the models is meant that are saved in a folder's folders, or beside a file."""
    near = [folder.parent] if folder.is_file() else sorted(folder.glob("*/"))
    models = [str(path) for path in near if (path / DESCRIPTION_FILE).is_file()]
    return f"; did you mean {first_few(models)}?" if models else ""


def _words(error: OSError | ValidationError) -> str:
    """The faults of a description, in one line."""
    if isinstance(error, OSError):
        return str(error)
    faults = []
    for fault in list_faults(error):
        faults.append(": ".join(part for part in (fault.key, fault.expected) if part))
    return f"{DESCRIPTION_FILE}: {'; '.join(faults)}"


def load_model(folder: str | Path) -> nn.Module:
    """The pruned model saved in `folder`, in evaluation mode.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     tensors = building.build("friedman_mlp", classes=1, seed=0).state_dict()
    ...     save_model(ModelState(network="friedman_mlp", classes=1, input_shape=(10,), tensors=tensors), Path(folder))
    ...     model = load_model(folder)
    >>> model(torch.zeros(2, 10)).shape
    torch.Size([2, 1])

    Raises:
        ConfigError: as of `load_state`.
    """
    return load_state(Path(folder)).build().eval()
