"""Pruning by a simple criterion, the rival of every method: criterion, allocation and grouping are three axes."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, SerializeAsAny, field_validator

from tailor.common.named import name_validator
from tailor.common.seeds import stream
from tailor.common.settings import Count, Rate, ReadIf
from tailor.config.allocations import ALLOCATIONS, Allocation, Global, ToLatency
from tailor.config.pruning import OF_MACS, PruningConfig
from tailor.config.trial import Method, TrialConfig, register
from tailor.facts.regularisation import REGULARISERS, Regulariser
from tailor.methods.feasibility import refuse_impossible
from tailor.methods.recipe import Recipe
from tailor.pruning.criteria import CRITERIA
from tailor.stages import Grouping, Reinitialise, ScoreNormalisation, StageGenerator
from transtailor.names import nearest

OF_BETA = ReadIf(lambda c: c.method.criterion == "beta", "criterion = 'beta'")


@register
class Pruning(Method):
    """Score, prune, fine-tune: once or in several steps, before or after a first fine-tuning."""

    name: Literal["prune"] = "prune"
    criterion: str = "taylor"
    """What scores the filters; docs/criteria.md has the names."""
    normalisation: Annotated[
        Literal["auto", "mean", "none"],
        ReadIf(
            lambda c: c.method.allocation.compares_layers,
            "an allocation that compares the scores of different layers",
            refused=True,
            harmless=("none",),
        ),
    ] = "auto"
    """By what the scores of a layer are divided before layers are compared: by their mean, or by nothing. `auto` is
    `mean` for criteria that read only weights (Torch-Pruning: T), else `none`; docs/criteria.md says why."""
    allocation: Annotated[SerializeAsAny[Allocation], name_validator(ALLOCATIONS)] = Global()
    """How the budget is divided over layers."""
    grouping: Grouping = "sum"
    """How the scores of layers that lose filters together are combined."""
    steps: Count = 1
    """1 is one-shot; more steps remove equal shares of the budget, each with new scores and a fine-tuning."""
    asked_removed_macs_fraction: Annotated[float, Field(gt=0.0, lt=1.0), OF_MACS] = 0.2
    """Share of the original network's MACs that is removed after the last step."""
    order: Literal["head_first", "tune_first"] = "head_first"
    """`head_first` scores after training only the head; `tune_first` fine-tunes all layers before the first scoring."""
    first_regulariser: Annotated[
        SerializeAsAny[Regulariser] | None,
        name_validator(REGULARISERS),
        ReadIf(lambda c: c.method.order == "tune_first", "order = 'tune_first'", refused=True),
    ] = None
    """Only for the tuning before the first scoring, such as slimming's penalty; None: the trial's own."""
    weights: Literal["kept", "reinitialised"] = "kept"
    """`reinitialised` trains the pruned widths from scratch."""
    alpha_epochs: Annotated[int, Field(ge=0), OF_BETA] = 10
    """Epochs of training factors before scoring; read only by the criterion `beta`."""
    alpha_learning_rate: Annotated[Rate, OF_BETA] = 0.01
    """Learning rate of those factors."""

    @field_validator("criterion")
    @classmethod
    def _criterion_exists(cls, criterion: str) -> str:
        if criterion not in CRITERIA:
            raise ValueError(f"no such criterion{nearest(criterion, CRITERIA)}")
        return criterion

    def score_normalisation(self) -> ScoreNormalisation:
        """The normalisation of the scores, `auto` resolved; `none` if the allocation compares no layers."""
        if not self.allocation.compares_layers:
            return "none"
        return CRITERIA[self.criterion].normalisation if self.normalisation == "auto" else self.normalisation

    def resolve(self, network: str) -> "Pruning":  # noqa: ARG002
        """With the value of `normalisation`."""
        return self.model_copy(update={"normalisation": self.score_normalisation()})

    def check(self, config: TrialConfig) -> None:
        """Refuse a budget that the network cannot lose, and settings that contradict each other."""
        if self.first_regulariser is not None and self.first_regulariser.needs_anchor:
            raise ValueError(
                f"first_regulariser = {self.first_regulariser.name!r} compares with the pre-trained weights, which are "
                "kept only for the trial's own regulariser; set optimisation.regulariser instead"
            )
        if self.steps > 1 and not self.allocation.in_steps:
            raise ValueError(
                f"allocation {self.allocation.name!r} reaches {self.allocation.label()} in one step, and steps = "
                f"{self.steps}; leave steps out, or give asked_latency_fraction and a table"
            )
        refuse_impossible(config, self.asked_removed_macs_fraction)

    @property
    def parts(self) -> dict[str, frozenset[str]]:
        """With the criterion, and the regulariser of the first tuning."""
        criterion = CRITERIA[self.criterion]
        needs = criterion.needs
        if not criterion.scores_wholes:
            needs |= {"filters"}
        if criterion.has_gates:
            needs |= {"no_conv_groups"}
        found = super().parts | {f"criterion {self.criterion!r}": needs}
        if self.first_regulariser is not None:
            found[f"regulariser {self.first_regulariser.name!r}"] = self.first_regulariser.needs
        return found

    @property
    def scores_by_images(self) -> bool:
        """Whether the criterion does."""
        return CRITERIA[self.criterion].reads_data

    @property
    def trains_by_sgd(self) -> bool:
        """The factors of `beta` are, whatever trains the weights."""
        return self.criterion == "beta"

    def latency_budgets(self) -> tuple[ToLatency, ...]:
        """The allocation, if it reads a table."""
        return (self.allocation,) if isinstance(self.allocation, ToLatency) else ()

    def label(self) -> str:
        """One arm for each criterion, allocation and order; its budgets are points of that arm."""
        parts = ["prune", self.criterion]
        if self.score_normalisation() != CRITERIA[self.criterion].normalisation and self.allocation.compares_layers:
            parts.append("not normalised" if self.normalisation == "none" else "normalised")
        if self.allocation.name != "global":
            parts.append(self.allocation.label())
        if self.order != "head_first":
            parts.append(self.order)
        if self.steps > 1:
            parts.append("iterative")
        if self.weights == "reinitialised":
            parts.append("from scratch")
        return " ".join(parts)

    def walk(self, config: TrialConfig) -> StageGenerator:
        """Yield the head, perhaps a first tuning; then scores, surgery, fine-tuning and measurement for each step."""
        recipe = Recipe(config)
        model = yield from recipe.head()
        tunings = 0
        if self.order == "tune_first":
            tunings += 1
            model = yield recipe.fine_tune(model, tunings, self.first_regulariser)
        for step in range(1, self.steps + 1):
            budget = self.asked_removed_macs_fraction * step / self.steps
            allocation = self.allocation.of_step(step / self.steps)
            tunings += 1
            scored = yield from recipe.to_score(model)
            if self.criterion == "beta":
                scored = yield recipe.train_factors(
                    scored, tunings, epochs=self.alpha_epochs, learning_rate=self.alpha_learning_rate
                )
            scored = yield recipe.scores(scored, self.criterion, step=step)
            scores = yield from recipe.adopted(model, scored)
            model = yield from recipe.prune(
                scores, budget, allocation, self.grouping, normalisation=self.score_normalisation(), step=step
            )
            if self.weights == "reinitialised":
                model = yield Reinitialise(of=model, seed=stream(config.seed, "reinitialise"))
            model = yield recipe.fine_tune(model, tunings)
            yield recipe.point(model, **allocation.asked(budget))


@register
class SmallerDense(Method):
    """A narrower network of the same MACs, pre-trained on the source and fine-tuned: is pruning worth the effort?"""

    needs: ClassVar[frozenset[str]] = frozenset({"source_training"})
    unread: ClassVar[frozenset[str]] = frozenset(
        f"pruning.{name}"
        for name in PruningConfig.model_fields
        if name != "width_multiple"  # its layers have it, too
    )
    name: Literal["smaller_dense"] = "smaller_dense"
    asked_removed_macs_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    """Share of the original network's MACs that it lacks; every layer is narrower by the same share."""

    @property
    def scores_by_images(self) -> bool:
        """It scores nothing."""
        return False

    def walk(self, config: TrialConfig) -> StageGenerator:
        """Yield the narrower source network, its head, full fine-tuning, measurement."""
        recipe = Recipe(config)
        model = yield from recipe.head(self.asked_removed_macs_fraction)
        tuned = yield recipe.fine_tune(model, 1)
        yield recipe.point(tuned, self.asked_removed_macs_fraction)
