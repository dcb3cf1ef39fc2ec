"""TransTailor (Liu, Cai, Guo, Chen; AAAI 2021; arXiv 2103.01542), Algorithm 1.

Marks: P = printed in the paper, T = third-party code, C = our choice if the paper does not say it.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from tailor.common.seeds import stream
from tailor.common.settings import Count, Fraction, Rate, ReadIf
from tailor.config.allocations import Global, ToLatency
from tailor.config.pruning import OF_SURGERY
from tailor.config.trial import Method, TrialConfig, register
from tailor.facts.networks import NETWORKS
from tailor.methods.feasibility import refuse_impossible
from tailor.methods.path import check_path, exceeds_tolerance
from tailor.methods.recipe import Recipe
from tailor.stages import (
    AttachImportance,
    BetaMode,
    BetaNormalisation,
    FoldImportance,
    Grouping,
    Placement,
    StageGenerator,
)


@register
class TransTailor(Method):
    """Learn scaling factors on the target, prune by |gradient x factor|, fine-tune with the importance, repeat."""

    needs: ClassVar[frozenset[str]] = frozenset({"no_conv_groups"})
    name: Literal["transtailor"] = "transtailor"
    steps: Count = 5
    """Iterations of the path; each removes `step_removed_macs_fraction` more and ends in an operating point (C); 1:
    once."""
    step_removed_macs_fraction: Annotated[
        float, Field(gt=0.0, lt=1.0), ReadIf(lambda c: not c.method.latency_budgets(), "a budget in MACs")
    ] = 0.1
    """Share of the ORIGINAL network's MACs that one iteration removes (P: 10%)."""
    step_removed_latency_fraction: Annotated[
        float | None, Field(gt=0.0, lt=1.0, json_schema_extra={"neutral": None})
    ] = None
    """The same in milliseconds by `table`, of the whole network's: the widths of each step keep the most beta (C);
    `step_removed_macs_fraction` is not read then."""
    table: Annotated[str | None, Field(json_schema_extra={"in_no_id": True})] = None
    """The file of a table that `transtailor model table` measured, for `step_removed_latency_fraction`."""
    table_sha256: Annotated[str | None, Field(json_schema_extra={"neutral": None})] = None
    """The file's SHA-256, which identifies it."""
    prune_by: Literal["beta", "random", "nothing"] = "beta"
    """The controls of the loop (C): random filters instead of those of lowest beta, or no filter at all."""
    alpha_epochs: Annotated[int, Field(ge=0)] = 10
    """Epochs of training the factors (C); 0 scores with untrained factors, which at 1 is plain Taylor."""
    alpha_learning_rate: Annotated[Rate, ReadIf(lambda c: c.method.alpha_epochs > 0, "alpha_epochs above 0")] = 0.01
    """Learning rate of the factors (C); their momentum is the trial's, they have no weight decay."""
    alpha_start: Annotated[float, Field(gt=0.0)] = 1.0
    """Initial value of every factor (C; the paper says randomly)."""
    alpha_noise: Rate = 0.0
    """Standard deviation of the normal noise added to that value (C)."""
    placement: Placement = "after_norm"
    """Where the factor is: at the layer's output, after its norm (if any), or after its activation (C)."""
    beta: Literal["auto", "fold", "sqrt", "grad", "raw", "off"] = "auto"
    """How the importance enters fine-tuning (C): `fold` keeps the function and scales the step; `sqrt` multiplies its
    root; `grad` multiplies gradients only; `raw` is Eq. 6 to the letter; `off`; `auto` is `fold`, and `off` where no
    factor can be folded."""
    beta_normalisation: Annotated[
        Literal["auto", "layer_mean", "rms", "none", "permuted"],
        ReadIf(
            lambda c: c.method.mode(c.network) not in ("raw", "off"), "beta = 'sqrt', 'fold' or 'grad'", refused=True
        ),
    ] = "auto"
    """By what beta is divided in each layer (C); `permuted` also permutes the values of a layer's filters at random,
    the placebo. `auto` is `layer_mean`, and `none` for `raw` and `off`."""
    grouping: Annotated[Grouping, OF_SURGERY] = "sum"
    """How the scores of layers that lose filters together are combined (T: summed)."""
    stop_early: bool = False
    """Stop by the paper's rule (P) instead of following the whole path (C)."""
    tolerance_fraction: Annotated[Fraction, ReadIf(lambda c: c.method.stop_early, "stop_early = true")] = 0.003
    """Drop of the accuracy that the rule tolerates (P: tau = 0.3, read as percentage points)."""

    @model_validator(mode="after")
    def _budget_is_possible(self) -> "TransTailor":
        if self.step_removed_latency_fraction is None:
            check_path(self.steps, self.step_removed_macs_fraction)
        elif self.steps * self.step_removed_latency_fraction >= 1.0:
            raise ValueError(
                f"steps x step_removed_latency_fraction = {self.steps * self.step_removed_latency_fraction:g} leaves "
                "no time; choose fewer steps or a smaller step"
            )
        by_table = (self.step_removed_latency_fraction, self.table, self.table_sha256)
        if self.step_removed_latency_fraction is None and by_table != (None, None, None):
            raise ValueError(
                "step_removed_latency_fraction and table belong together: milliseconds are read from a table; give "
                "both, or leave table and table_sha256 out"
            )
        if self.step_removed_latency_fraction is not None:
            self.latency_budgets()  # refuses a table without its SHA-256
        return self

    @property
    def parts(self) -> dict[str, frozenset[str]]:
        """With the placement of the factors."""
        after = ("activation",) if self.placement == "after_activation" else ()
        kept = () if self.removes else ("prunable",)  # only prunable filters have factors
        return super().parts | {f"placement = {self.placement!r}": frozenset((*after, *kept))}

    @property
    def removes(self) -> bool:
        """Not in the loop that prunes nothing."""
        return self.prune_by != "nothing"

    @property
    def trains_by_sgd(self) -> bool:
        """The factors are, whatever trains the weights."""
        return True

    def latency_budgets(self) -> tuple[ToLatency, ...]:
        """The budget of each step, if the path is by milliseconds."""
        if self.step_removed_latency_fraction is None:
            return ()
        fractions = [round(1.0 - step * self.step_removed_latency_fraction, 9) for step in range(1, self.steps + 1)]
        return tuple(
            ToLatency(asked_latency_fraction=fraction, table=self.table, table_sha256=self.table_sha256)
            for fraction in fractions
        )

    def mode(self, network: str) -> BetaMode:
        """The mode of beta for a network, `auto` resolved; see docs/methods/transtailor.md."""
        if self.beta == "auto":
            return "fold" if self._can_fold(network) else "off"
        return self.beta

    def _can_fold(self, network: str) -> bool:
        """Whether a factor can be moved into the next layer without changing the function."""
        return self.placement != "after_activation" or NETWORKS[network].activation == "ReLU"

    def normalisation(self, network: str) -> BetaNormalisation:
        """The normalisation of beta for a network, `auto` resolved."""
        if self.beta_normalisation == "auto":
            return "none" if self.mode(network) in ("raw", "off") else "layer_mean"
        return self.beta_normalisation

    def resolve(self, network: str) -> "TransTailor":
        """With the values of `beta` and `beta_normalisation` for the network."""
        values = {"beta": self.mode(network), "beta_normalisation": self.normalisation(network)}
        return self.model_copy(update=values)

    def check(self, config: TrialConfig) -> None:
        """Refuse a budget that the network cannot lose, and settings of the factors that do not fit together."""
        if self.removes:
            refuse_impossible(config, self.steps * self.step_removed_macs_fraction)
        mode = self.mode(config.network)
        info = NETWORKS[config.network]
        if mode == "grad" and config.pruning.heads:
            raise ValueError(
                "beta = 'grad' scales the gradients of filters' weights, and heads have none of their own; choose "
                "beta = 'fold' or 'sqrt', or leave out pruning.heads"
            )
        if self.placement == "before_norm" and info.has_norm and mode in ("sqrt", "raw"):
            raise ValueError(
                f"beta = {mode!r} with placement = 'before_norm': the norm of {config.network} cancels a factor "
                "before it; choose placement = 'after_norm', or beta = 'grad'"
            )
        if mode == "fold" and not self._can_fold(config.network):
            raise ValueError(
                f"beta = 'fold' with placement = 'after_activation': a factor cannot be moved through the "
                f"{info.activation} of {config.network} without changing the function; choose placement = "
                "'after_norm', or beta = 'grad' or 'off'"
            )
        if mode in ("sqrt", "raw") and self.steps > 1 and not self._can_fold(config.network):
            raise ValueError(
                f"beta = {mode!r} with placement = 'after_activation' and steps = {self.steps}: before the second step "
                f"the factors become a part of the weights, and none can be moved through the {info.activation} of "
                f"{config.network} without changing the function; choose placement = 'after_norm', beta = 'grad' or "
                "'off', or steps = 1"
            )

    def label(self) -> str:
        """One arm, and one for each control of the loop."""
        name = self.name if self.step_removed_latency_fraction is None else f"{self.name} by ms"
        return name if self.prune_by == "beta" else f"{name} pruning {self.prune_by}"

    def walk(self, config: TrialConfig) -> StageGenerator:
        """Yield Algorithm 1; line numbers are the paper's, its Acc is measured on the validation split (C)."""
        recipe = Recipe(config)
        mode, normalisation = self.mode(config.network), self.normalisation(config.network)
        by_ms = self.latency_budgets()
        model = yield from recipe.head()  # line 1: W_o, only the new classifier trained
        point = yield recipe.point(model)
        for step in range(1, self.steps + 1):
            budget, score = step * self.step_removed_macs_fraction, point.deciding_score
            allocation = by_ms[step - 1] if by_ms else Global()
            if step > 1:
                model = yield FoldImportance(of=model, rule=recipe.rule)  # into the weights; the function stays (C)
            scored = yield from recipe.to_score(model)
            factors = yield recipe.train_factors(  # Eq. 3: alpha*, all weights frozen
                scored,
                step,
                epochs=self.alpha_epochs,
                learning_rate=self.alpha_learning_rate,
                placement=self.placement,
                start=self.alpha_start,
                noise=self.alpha_noise,
            )
            scored = yield recipe.scores(factors, "beta", self.placement)  # Eq. 5: beta
            importance = yield from recipe.adopted(model, scored)
            pruned = importance
            if self.prune_by != "nothing":
                at_random = self.prune_by == "random"
                pruned = yield from recipe.prune(
                    importance, budget, allocation, self.grouping, at_random=at_random, step=step
                )
            aware = yield AttachImportance(
                of=pruned,
                rule=recipe.rule,
                mode=mode,
                normalisation=normalisation,
                placement=self.placement,
                seed=stream(config.seed, "placebo", step) if normalisation == "permuted" else None,
            )
            tuned = yield recipe.fine_tune(aware, step)  # Eq. 6: W_p
            # Also of the control, which is compared with this step.
            point = yield recipe.point(tuned, **allocation.asked(budget))
            if self.stop_early and exceeds_tolerance(score, point.deciding_score, self.tolerance_fraction):
                return
            model = tuned  # W_o = W_p
