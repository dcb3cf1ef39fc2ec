"""The baselines without pruning: training only the head, and all layers."""

from typing import ClassVar, Literal

from tailor.config.trial import Method, TrialConfig, register
from tailor.methods.recipe import Recipe
from tailor.stages import StageGenerator

OF_TUNING = ("epochs", "learning_rate", "norm", "regulariser", "layer_decay")  # what only a fine-tuning reads


@register
class HeadOnly(Method):
    """A new last layer on frozen features ("FT" in TransTailor's tables)."""

    unread: ClassVar[frozenset[str]] = frozenset({"pruning", *(f"optimisation.{name}" for name in OF_TUNING)})
    prunes_to_a_budget: ClassVar[bool] = False
    tunes_pruned: ClassVar[bool] = False
    rate: ClassVar[str] = "optimisation.head_learning_rate"
    name: Literal["head_only"] = "head_only"

    def walk(self, config: TrialConfig) -> StageGenerator:
        """Fit the head and measure."""
        recipe = Recipe(config)
        model = yield from recipe.head()
        yield recipe.point(model)


@register
class FullFineTuning(Method):
    """A new last layer first, then all layers ("FT-Full")."""

    unread: ClassVar[frozenset[str]] = frozenset({"pruning"})
    prunes_to_a_budget: ClassVar[bool] = False
    tunes_pruned: ClassVar[bool] = False
    name: Literal["fine_tune"] = "fine_tune"

    def walk(self, config: TrialConfig) -> StageGenerator:
        """Fit the head, tune everything, measure."""
        recipe = Recipe(config)
        model = yield from recipe.head()
        tuned = yield recipe.fine_tune(model, 1)
        yield recipe.point(tuned)
