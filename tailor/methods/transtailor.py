"""TransTailor (Liu, Cai, Guo, Chen; AAAI 2021; arXiv 2103.01542), Algorithm 1.

Marks: P = printed in the paper, C = our choice where the paper is silent.
"""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from tailor.catalog import NETWORKS
from tailor.methods.base import Method, Steps, register
from tailor.methods.recipe import Recipe
from tailor.settings import Count, Fraction, Rate
from tailor.stage import AttachImportance, FineTune, FoldImportance, OperatingPoint, Prune, TrainFactors
from tailor.stopping import falls_too_far

if TYPE_CHECKING:
    from tailor.config import TrialConfig

BetaMode = Literal["auto", "fold", "sqrt", "grad", "raw", "off"]


@register
class TransTailor(Method):
    """Learn scaling factors on the target, prune by |gradient x factor|, fine-tune with the importance, repeat."""

    name: Literal["transtailor"] = "transtailor"
    steps: Count = 5
    """Iterations of the path; each removes `step_macs_fraction` more and ends in an operating point (C)."""
    step_macs_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Share of the ORIGINAL network's MACs that one iteration removes (P: 10%)."""
    alpha_epochs: Annotated[int, Field(ge=0)] = 10
    """Epochs of training the factors (C); 0 scores with factors of one, which is plain Taylor."""
    alpha_learning_rate: Rate = 0.01
    """Learning rate of the factors (C); their momentum is the trial's, they have no weight decay."""
    beta: BetaMode = "auto"
    """How the importance enters fine-tuning (C): `fold` keeps the function and scales the step; `sqrt` multiplies its
    root; `grad` multiplies gradients only; `raw` is Eq. 6 to the letter; `off`; `auto` is `sqrt` with a norm, else
    `fold`."""
    minimum_filters_fraction: Fraction = 0.1
    """Share of each layer's original filters that always stay, at least one (C)."""
    stop_early: bool = False
    """Stop at the paper's rule (P) instead of walking the whole path and asking the table for it (C)."""
    tolerance_fraction: Fraction = 0.003
    """Fall of the accuracy that the rule tolerates (P: tau = 0.3, read as percentage points)."""

    @model_validator(mode="after")
    def _budget_is_possible(self) -> "TransTailor":
        if self.steps * self.step_macs_fraction >= 1.0:
            raise ValueError(
                f"steps x step_macs_fraction = {self.steps * self.step_macs_fraction:g} removes the whole network; "
                "choose fewer steps or a smaller step, so that the product stays below 1"
            )
        return self

    def mode(self, network: str) -> Literal["fold", "sqrt", "grad", "raw", "off"]:
        """The mode of beta for a network, `auto` resolved; see docs/methods/transtailor.md."""
        if self.beta == "auto":
            return "sqrt" if NETWORKS[network].has_norm else "fold"
        return self.beta

    def walk(self, config: "TrialConfig") -> Steps:
        """Algorithm 1; line numbers are the paper's, the validation split stands for its Acc (C)."""
        recipe = Recipe(config)
        model = yield from recipe.head()  # line 1: W_o, only the new classifier trained
        point = yield OperatingPoint(of=model, task=recipe.task, asked_removed_macs_fraction=0.0)
        for step in range(1, self.steps + 1):
            budget = round(step * self.step_macs_fraction, 9)
            accuracy = point.validation_accuracy
            if step > 1:
                model = yield FoldImportance(of=model)  # the factors into the weights; the function stays (C)
            alpha = recipe.factor_training(self.alpha_epochs, self.alpha_learning_rate, step)
            factors = yield TrainFactors(of=model, task=recipe.task, training=alpha)  # Eq. 3: alpha*, weights frozen
            importance = yield recipe.scores(factors, "taylor")  # Eq. 5: beta
            pruned = yield Prune(
                of=importance,
                removed_macs_fraction=budget,
                minimum_filters_fraction=self.minimum_filters_fraction,
            )
            aware = yield AttachImportance(of=pruned, mode=self.mode(config.network))
            tuned = yield FineTune(of=aware, task=recipe.task, training=recipe.fine_tuning(step))  # Eq. 6: W_p
            point = yield OperatingPoint(of=tuned, task=recipe.task, asked_removed_macs_fraction=budget)
            if self.stop_early and falls_too_far(accuracy, point.validation_accuracy, self.tolerance_fraction):
                return
            model = tuned  # W_o = W_p
