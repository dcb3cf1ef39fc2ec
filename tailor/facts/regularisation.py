"""What may be added to the loss of a fine-tuning: settings; `tailor.training.penalties` computes. Without torch."""

from typing import ClassVar, Literal

from tailor.common.registry import Registry
from tailor.common.settings import Rate, Settings


class Regulariser(Settings):
    """Settings of a regulariser; subclasses set `name` to a literal and are added to REGULARISERS.

    >>> REGULARISERS["l2_sp"](strength=0.01).needs
    frozenset({'pretrained_start'})
    """

    name: str
    needs_anchor: ClassVar[bool] = False  # the pre-trained weights, kept beside the model
    runs_anchor: ClassVar[bool] = False  # one forward pass of the pre-trained network per step
    needs: ClassVar[frozenset[str]] = frozenset()
    """What a trial must have for it; tailor/config/needs.py has the words."""


class L2SP(Regulariser):
    """L2-SP (Li et al., ICML 2018): strength / 2 x ||w - w0||^2 on what is shared, head_strength / 2 x ||head||^2."""

    name: Literal["l2_sp"] = "l2_sp"
    needs_anchor: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"pretrained_start"})
    strength: Rate = 0.1
    """Factor of the penalty in the loss."""
    head_strength: Rate = 0.01
    """The same for the squared weights of the new head."""


class Delta(Regulariser):
    """DELTA (Li et al., ICLR 2019): feature maps kept near the pre-trained network's, channels weighed by attention."""

    name: Literal["delta"] = "delta"
    needs_anchor: ClassVar[bool] = True
    runs_anchor: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"feature_maps", "pretrained_start", "whole_batches"})
    strength: Rate = 0.01
    """Factor of the penalty in the loss."""
    # Constants, which a plugin's subclass may set otherwise.
    head_strength: ClassVar[float] = 0.01
    """The same for the squared weights of the new head."""
    attention_images: ClassVar[int] = 256
    """Training images on which the loss is measured with each channel zeroed; at most all of them."""


class BSS(Regulariser):
    """Batch spectral shrinkage (Chen et al., NeurIPS 2019): strength x the `smallest` squared singular values' sum."""

    name: Literal["bss"] = "bss"
    needs: ClassVar[frozenset[str]] = frozenset({"whole_batches"})
    strength: Rate = 0.001
    """Factor of the penalty in the loss."""
    smallest: ClassVar[int] = 1
    """How many singular values of a batch's features are penalised, from the smallest on; a plugin may set another."""


class Slimming(Regulariser):
    """Network slimming (Liu et al., ICCV 2017): strength x sum of |gamma| of the norms behind prunable layers."""

    name: Literal["slimming"] = "slimming"
    needs: ClassVar[frozenset[str]] = frozenset({"some_norm", "trained_norms"})
    strength: Rate = 1e-4
    """Factor of the penalty in the loss."""


REGULARISERS: Registry[type[Regulariser]] = Registry("regulariser")
for _settings in (L2SP, Delta, BSS, Slimming):
    REGULARISERS.add(_settings.model_fields["name"].default, _settings)
