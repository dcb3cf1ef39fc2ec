"""Two published methods that prune while they train, which TransTailor is compared with: SFP and GBN.

Marks: P = printed in the paper, T = the authors' code, C = our choice; see docs/methods/sfp.md and gbn.md.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from tailor.common.seeds import stream
from tailor.common.settings import Count
from tailor.config.allocations import Global, Uniform
from tailor.config.trial import Method, TrialConfig, register
from tailor.facts.regularisation import Slimming
from tailor.methods.feasibility import refuse_impossible
from tailor.methods.path import check_path
from tailor.methods.recipe import Recipe
from tailor.stages import FineTuneSoftly, Grouping, StageGenerator, TrainGates, Training


@register
class SoftFilterPruning(Method):
    """Zero the smallest filters of every layer after each epoch, keep training them, remove them at the end.

    He et al., IJCAI 2018.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"filters", "last_weights"})
    tunes_pruned: ClassVar[bool] = False
    name: Literal["sfp"] = "sfp"
    asked_removed_macs_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    """Share of the original network's MACs that is removed at the end (C: the paper gives the share of filters); every
    layer loses the same share of its filters (P)."""
    evaluated: Annotated[Literal["slimmed", "masked"], Field(json_schema_extra={"neutral": "slimmed"})] = "slimmed"
    """The network that is measured: without the zeroed filters (C), or the whole one in which they are zero, with the
    constants that their biases and norms still give (T)."""

    def check(self, config: TrialConfig) -> None:
        """Refuse a budget that the network cannot lose, and norms to be measured where nothing is removed."""
        refuse_impossible(config, self.asked_removed_macs_fraction)
        if self.evaluated == "masked" and config.pruning.measure_norms:
            raise ValueError(
                "pruning.measure_norms = true measures norms after filters are removed, and with evaluated = 'masked' "
                "none is; leave one of them out"
            )

    @property
    def scores_by_images(self) -> bool:
        """It compares weights."""
        return False

    def walk(self, config: TrialConfig) -> StageGenerator:
        """Yield head, one fine-tuning with zeroing, removal, measurement; no fine-tuning after the removal (P)."""
        recipe = Recipe(config)
        model = yield from recipe.head()
        tuned = yield FineTuneSoftly(
            **vars(recipe.fine_tune(model, 1)),
            rule=recipe.rule,
            asked_removed_macs_fraction=self.asked_removed_macs_fraction,
            minimum_filters_fraction=config.pruning.minimum_filters_fraction,
            widths=config.pruning.widths,
        )
        if self.evaluated == "masked":
            yield recipe.point(tuned, self.asked_removed_macs_fraction)
            return
        scores = yield recipe.scores(tuned, "l2")  # 0 only for filters that the last epoch zeroed
        pruned = yield from recipe.prune(scores, self.asked_removed_macs_fraction, Uniform())
        yield recipe.point(pruned, self.asked_removed_macs_fraction)


@register
class GateDecorator(Method):
    """Train the gates and score the filters (tick), prune the lowest of all layers; after some ticks, tune all (tock).

    You et al., NeurIPS 2019, "Gate Decorator".
    """

    needs: ClassVar[frozenset[str]] = frozenset({"filters", "norm", "trained_norms"})
    has_own_penalty: ClassVar[bool] = True
    name: Literal["gbn"] = "gbn"
    steps: Count = 5
    """Tocks of the path; each comes after `step_removed_macs_fraction` more was removed and ends in an operating point
    (C)."""
    step_removed_macs_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Share of the ORIGINAL network's MACs that is removed between two tocks (C: as TransTailor's)."""
    grouping: Grouping = "sum"
    """How the scores of layers that lose filters together are combined (P: summed)."""
    # Constants, which a plugin's subclass may set otherwise.
    ticks: ClassVar[int] = 10
    """Ticks before each tock, each with an equal share of the step's pruning (T)."""
    tick_epochs: ClassVar[int] = 1
    """Epochs of one tick (P)."""
    tick_learning_rate: ClassVar[float] = 0.001
    """Learning rate of the gates in a tick (T); momentum is the trial's, no weight decay (C)."""
    sparsity_strength: ClassVar[float] = 0.001
    """Factor of the penalty on |phi| in the tock (T)."""

    @model_validator(mode="after")
    def _budget_is_possible(self) -> "GateDecorator":
        check_path(self.steps, self.step_removed_macs_fraction)
        return self

    def check(self, config: TrialConfig) -> None:
        """Refuse a budget that the network cannot lose."""
        refuse_impossible(config, self.steps * self.step_removed_macs_fraction)

    @property
    def scores_by_images(self) -> bool:
        """Its gates are always trained on the target."""
        return False

    @property
    def trains_by_sgd(self) -> bool:
        """The gates are, whatever trains the weights."""
        return True

    def walk(self, config: TrialConfig) -> StageGenerator:
        """Yield the head; then ticks with pruning, tock and measurement for each step."""
        recipe = Recipe(config)
        penalty = Slimming(strength=self.sparsity_strength)
        model = yield from recipe.head()
        yield recipe.point(model)
        for step in range(1, self.steps + 1):
            for tick in range(1, self.ticks + 1):
                budget = (step - 1 + tick / self.ticks) * self.step_removed_macs_fraction
                training = self.tick_training(recipe, step, tick)
                scores = yield TrainGates(of=model, task=recipe.task, training=training, rule=recipe.rule)
                model = yield from recipe.prune(scores, budget, Global(), self.grouping)
            model = yield recipe.fine_tune(model, step, penalty)  # the tock
            yield recipe.point(model, step * self.step_removed_macs_fraction)

    def tick_training(self, recipe: Recipe, step: int, tick: int) -> Training:
        """How the gates train in one tick."""
        return recipe.plain_tuning(step).replace(
            epochs=self.tick_epochs,
            learning_rate=self.tick_learning_rate,
            head_learning_rate=0.0,
            weight_decay=0.0,
            seed=stream(recipe.config.seed, "gate order", step, tick),
        )
