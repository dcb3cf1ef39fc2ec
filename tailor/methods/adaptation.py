"""Target-aware network adaptation (Zhong et al., 2018), our design within the published frame.

Marks: P = the paper's frame, C = our choice; statistic, threshold and priority of the paper are not known.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tailor.common.settings import Count, Fraction, ReadIf
from tailor.config.trial import Method, TrialConfig, register
from tailor.methods.path import exceeds_tolerance
from tailor.methods.recipe import Recipe
from tailor.pruning.adaptation_rules import best_point
from tailor.stages import CumulativeSum, Grouping, Priority, PruneByCumulativeSum, StageGenerator, StageOutcome

Share = Annotated[float, Field(gt=0.0, le=1.0)]


@register
class TargetAwareAdaptation(Method):
    """Fine-tune; then remove filters with weak activations on the target, a few layers at a time, and tune again."""

    needs: ClassVar[frozenset[str]] = frozenset({"filters", "prunable"})
    prunes_to_a_budget: ClassVar[bool] = False
    name: Literal["target_aware_adaptation"] = "target_aware_adaptation"
    statistic: Literal["mean_activation", "mean_absolute_activation", "apoz"] = "mean_activation"
    """The statistic of each filter over the target's training images (C): a criterion that reads activations."""
    kept_cumulative_fraction: Share = 0.99
    """Share of a layer's summed statistic that is in the filters that stay (C)."""
    priority: Priority = "removable"
    """Which layers are cut first (C): by the share of filters beyond the cumulative sum, or by that times the MACs."""
    layers_per_iteration: Count = 3
    """Most layers that lose filters in one iteration (C)."""
    most_filters_fraction: Share = 0.1
    """Largest share of a layer's filters that one iteration removes, at least one filter (C)."""
    grouping: Grouping = "sum"
    """How the statistics of layers that lose filters together are combined (C)."""
    iterations: Count = 8
    """Length of the path (C); it ends earlier if no filter can be removed (C)."""
    stop_early: bool = False
    """Stop by the rule below instead of following the whole path (C)."""
    tolerance_fraction: Annotated[Fraction, ReadIf(lambda c: c.method.stop_early, "stop_early = true")] = 0.01
    """Drop of the score below the best so far that the rule tolerates (C)."""

    @property
    def parts(self) -> dict[str, frozenset[str]]:
        """With a statistic that may not be negative."""
        is_signed = self.statistic == "mean_absolute_activation"
        return super().parts | {f"statistic = {self.statistic!r}": frozenset(() if is_signed else ("relu",))}

    @property
    def scores_by_images(self) -> bool:
        """Its statistics are always of the target."""
        return False

    def label(self) -> str:
        """One arm per statistic and priority."""
        parts: list[str] = [self.name]
        if self.statistic != "mean_activation":
            parts.append(self.statistic)
        if self.priority != "removable":
            parts.append(self.priority)
        return " ".join(parts)

    def walk(self, config: TrialConfig) -> StageGenerator:
        """Statistics, cumulative sums, priorities, surgery, optimisation (P: their order), once per iteration."""
        recipe = Recipe(config)
        fitted = yield from recipe.head()
        model = yield recipe.fine_tune(fitted, 1)  # the pre-trained network, tuned on the target
        point = yield recipe.point(model)
        path = [(point.deciding_score, 0.0)]  # score and removed share of the MACs of each point
        for iteration in range(1, self.iterations + 1):
            statistics = yield recipe.scores(model, self.statistic)
            pruned = yield self._surgery(statistics, config, recipe)
            if pruned.removed_macs_fraction <= path[-1][1]:
                return  # no filter can be removed; never true in a plan, whose outcomes are NaN
            smaller = yield from recipe.norms(pruned)
            model = yield recipe.fine_tune(smaller, iteration + 1)
            point = yield recipe.point(model, None)
            path.append((point.deciding_score, pruned.removed_macs_fraction))
            best_score = path[best_point(path)][0]
            if self.stop_early and exceeds_tolerance(best_score, point.deciding_score, self.tolerance_fraction):
                return

    def _surgery(self, statistics: StageOutcome, config: TrialConfig, recipe: Recipe) -> PruneByCumulativeSum:
        return PruneByCumulativeSum(
            of=statistics,
            rule=recipe.rule,
            grouping=self.grouping,
            cut=CumulativeSum(
                kept_cumulative_fraction=self.kept_cumulative_fraction,
                priority=self.priority,
                layers_per_iteration=self.layers_per_iteration,
                most_filters_fraction=self.most_filters_fraction,
            ),
            minimum_filters_fraction=config.pruning.minimum_filters_fraction,
        )
