"""What every method is measured against: the head alone, all layers, and pruning once by a simple criterion."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from tailor.methods.base import Method, Steps, register
from tailor.methods.recipe import Recipe
from tailor.settings import Fraction
from tailor.stage import FineTune, OperatingPoint, Prune

if TYPE_CHECKING:
    from tailor.config import TrialConfig


@register
class HeadOnly(Method):
    """A new last layer on frozen features ("FT" in TransTailor's tables)."""

    name: Literal["head_only"] = "head_only"

    def walk(self, config: "TrialConfig") -> Steps:
        """Fit the head and measure."""
        recipe = Recipe(config)
        model = yield from recipe.head()
        yield OperatingPoint(of=model, task=recipe.task, asked_removed_macs_fraction=0.0)


@register
class FullFineTuning(Method):
    """A new last layer first, then all layers ("FT-Full")."""

    name: Literal["fine_tune"] = "fine_tune"

    def walk(self, config: "TrialConfig") -> Steps:
        """Fit the head, tune everything, measure."""
        recipe = Recipe(config)
        model = yield from recipe.head()
        tuned = yield FineTune(of=model, task=recipe.task, training=recipe.fine_tuning(1))
        yield OperatingPoint(of=tuned, task=recipe.task, asked_removed_macs_fraction=0.0)


@register
class OneShot(Method):
    """Prune once by a criterion, then fine-tune; scores are compared over the whole network."""

    name: Literal["one_shot"] = "one_shot"
    criterion: Literal["l1", "taylor", "random"] = "l1"
    removed_macs_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    """Share of the original network's MACs to remove."""
    minimum_filters_fraction: Fraction = 0.1
    """Share of each layer's filters that always stay, at least one."""

    def label(self) -> str:
        """One arm per criterion; its budgets are points of that arm."""
        return f"one_shot {self.criterion}"

    def walk(self, config: "TrialConfig") -> Steps:
        """Head, scores, surgery, fine-tuning, measurement."""
        recipe = Recipe(config)
        model = yield from recipe.head()
        scores = yield recipe.scores(model, self.criterion)
        pruned = yield Prune(
            of=scores,
            removed_macs_fraction=self.removed_macs_fraction,
            minimum_filters_fraction=self.minimum_filters_fraction,
        )
        tuned = yield FineTune(of=pruned, task=recipe.task, training=recipe.fine_tuning(1))
        yield OperatingPoint(of=tuned, task=recipe.task, asked_removed_macs_fraction=self.removed_macs_fraction)
