"""The records that stages are made of: what they read, what they cost, what a method gets back. Without torch."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from tailor.common.settings import Settings

BACKWARD_WORK = 2.0  # a backward pass costs about two forward passes

Placement = Literal["before_norm", "after_norm", "after_activation"]
"""Where a filter's factor is: at its layer's output, after the norm (if any), or after the activation."""


TaskImages = Literal["target", "source", "noise", "scrambled", "shuffled"]
"""Which training images a stage reads: the task's own, its source's, or what is made of its own; see
`tailor.data.donor_images`."""


ConvGroups = Literal["none", "whole", "alike"]
"""What is removed of a convolution in groups: nothing, whole groups, or the filters at the same place in each group."""


def neutral(value: Any) -> Any:
    """A dataclass field with a default value; with this value it is in no key ("as before it existed")."""
    return field(default=value, metadata={"neutral": value})


class StageOutcome(Protocol):
    """What a method gets back for a stage: its key and, for an operating point, what decisions may read."""

    @property
    def key(self) -> str:
        """The stage's key, 64 hexadecimal digits."""

    @property
    def deciding_score(self) -> float:
        """The score that the trial's decisions read, the larger the better; NaN in plans and for other stages."""

    @property
    def removed_macs_fraction(self) -> float:
        """Of a pruning, the share of the original MACs that is removed; NaN in plans and for other stages."""


class GroupRule(Settings):
    """Which filters can be removed, the same for every method of a comparison."""

    residual: Literal["inside", "coupled"] = "inside"
    """`inside` prunes layers one by one; `coupled` also layers whose outputs are added to each other, as one group."""
    linear: bool = False
    """Whether hidden linear layers also lose outputs."""
    stream: Annotated[bool, Field(json_schema_extra={"neutral": False})] = False
    """Whether channels go that run through LayerNorms: the width of a transformer, from its patches to its head."""
    heads: Annotated[bool, Field(json_schema_extra={"neutral": False})] = False
    """Whether heads of attention go."""
    conv_groups: Annotated[ConvGroups, Field(json_schema_extra={"neutral": "none"})] = "none"
    """What goes of convolutions in groups: `whole` groups, or filters `alike` in each group (the same places)."""
    exclude: Annotated[tuple[str, ...], Field(json_schema_extra={"neutral": ()}, strict=False)] = ()
    """Modules by name whose filters all stay, with all that is in them."""

    @property
    def wholes(self) -> dict[str, bool | str]:
        """What the rule removes beside single filters: kind of group -> its setting."""
        settings: dict[str, bool | str] = {}
        if self.stream:
            settings["stream"] = True
        if self.heads:
            settings["heads"] = True
        if self.conv_groups != "none":
            settings["conv_groups"] = self.conv_groups
        return settings

    @property
    def name(self) -> str:
        """The rule's name in tables of what networks can lose; the modules that it excludes are not part of the name.

        >>> GroupRule(residual="coupled", linear=True, heads=True).name
        'coupled + linear + heads'
        """
        parts: list[str] = [self.residual]
        if self.linear:
            parts.append("linear")
        for kind, value in self.wholes.items():
            parts.append(f"{kind} {value}" if isinstance(value, str) else kind)
        return " + ".join(parts)

    @property
    def is_whole(self) -> bool:
        """Whether the rule removes more than single filters."""
        return bool(self.wholes)


@dataclass(frozen=True, kw_only=True)
class Task:
    """The images that a stage reads, as far as they are part of its identity."""

    name: str
    sha256: str
    train_images: int
    images_per_class: int | None
    split_seed: int
    subset_seed: int | None  # None unless a subset is drawn
    augmentation: str
    crop_px: int | None = None  # side of the square that a network sees of each image; None: the whole image
    images: TaskImages = neutral("target")
    images_seed: int | None = neutral(None)  # of what is drawn for other images than the target's

    def has_whole_batches(self, batch_size: int) -> bool:
        """Whether no smaller batch is left for the last; False where a class may have fewer images than are drawn."""
        images = self.train_images
        return images <= batch_size or (self.images_per_class is None and images % batch_size == 0)


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """Expected work (forward passes of one image x MACs) of a stage, and bytes on disk beside its description."""

    work: float = 0.0
    stored_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Size:
    """What the cost of a stage depends on, as a plan knows it."""

    macs: float  # of one image at the model's present width
    weights_bytes: int
    head_bytes: int
    train_images: int
    source_images: int
    measured_images: int  # of validation and test together

    @property
    def both_passes(self) -> float:
        """Work of one image forward and backward."""
        return self.macs * (1.0 + BACKWARD_WORK)

    def narrow(self, kept_fraction: float) -> "Size":
        """The size of a network that keeps this share of the MACs and of the weights."""
        return replace(self, macs=self.macs * kept_fraction, weights_bytes=int(self.weights_bytes * kept_fraction))

    def training_cost(self, epochs: int, images: int, stored_bytes: int = 0) -> StageCost:
        """The cost of a training: each image forward and backward in each epoch."""
        return StageCost(work=epochs * images * self.both_passes, stored_bytes=stored_bytes)
