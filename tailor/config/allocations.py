"""How a budget is divided over layers: the settings of each allocation, and its stages. Without torch."""

import shlex
from abc import abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from tailor.common.registry import Registry
from tailor.common.seeds import stream
from tailor.common.settings import Count, Fraction, Rate, Settings
from tailor.facts.widths import WidthRule
from tailor.stages import (
    Division,
    Grouping,
    GroupRule,
    LearnRanking,
    Prune,
    PruneByKnapsack,
    PruneByTable,
    PruneToLatency,
    ScoreNormalisation,
    StageOutcome,
    StageSubgenerator,
    Task,
    Training,
)


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What to remove, for any allocation."""

    rule: GroupRule
    grouping: Grouping
    normalisation: ScoreNormalisation
    asked_removed_macs_fraction: float
    minimum_filters_fraction: float
    task: Task
    batch_size: int
    seed: int  # of random numbers
    step: int  # of the path, from 1: what is drawn has other numbers in each
    widths: WidthRule
    at_random: bool  # remove random filters instead of the lowest-scored ones

    def settings(self) -> dict[str, Any]:
        """Return the settings that all stages with a budget in MACs have."""
        names = ("rule", "grouping", "asked_removed_macs_fraction", "minimum_filters_fraction", "widths")
        return {name: getattr(self, name) for name in names}

    def of_surgery(self) -> dict[str, Any]:
        """Return these, and how the scores of layers are compared."""
        return self.settings() | {"normalisation": self.normalisation, "step": self.drawn_step}

    @property
    def random_seed(self) -> int | None:
        """Seed of the random choice of filters; None if the scores choose them."""
        return self.seed if self.at_random else None

    @property
    def drawn_step(self) -> int:
        """Return the step if random numbers choose the filters, else 1: without them all steps share one key."""
        return self.step if self.at_random else 1


class Allocation(Settings):
    """Settings of an allocation; subclasses set `name` to a literal and are added to ALLOCATIONS."""

    name: str
    compares_layers: ClassVar[bool] = True
    """Whether scores of different layers are compared as they are, so that their normalisation counts."""

    @property
    def in_steps(self) -> bool:
        """Whether it can prune in several steps, each with a share of the budget."""
        return True

    def of_step(self, part: float) -> "Allocation":  # noqa: ARG002
        """Return the allocation of a step after which this part of all that is asked is removed, in (0, 1]."""
        return self

    def label(self) -> str:
        """Return this allocation's part of an arm's name.

        >>> Global().label(), ToLatency(asked_latency_ms=2.5).label()
        ('global', '2.5 ms on cpu')
        """
        return self.name

    def asked(self, asked_removed_macs_fraction: float) -> dict[str, float | None]:
        """Return what is asked of its operating points: the budget in MACs, unless it has another kind of budget.

        >>> Global().asked(0.3)
        {'asked_removed_macs_fraction': 0.3}
        """
        return {"asked_removed_macs_fraction": asked_removed_macs_fraction}

    def unread(self) -> set[str]:
        """Return the names of its settings that have no effect beside its others; by default none."""
        return set()

    @abstractmethod
    def stages(self, scores: StageOutcome, cut: Cut) -> StageSubgenerator:
        """Yield the stages from scores to a pruned model; return the outcome of the last stage."""


class Divided(Allocation):
    """An allocation that is one surgery, whose division of the budget over layers has the same name."""

    name: Division

    def stages(self, scores: StageOutcome, cut: Cut) -> StageSubgenerator:
        """Yield one surgery."""
        return (yield _prune(scores, cut, self.name))


class Global(Divided):
    """The lowest-scored filters of the whole network go first; each layer keeps `pruning.minimum_filters_fraction`."""

    name: Literal["global"] = "global"


class Uniform(Divided):
    """Every layer loses the same share of its filters, its lowest-scored ones."""

    name: Literal["uniform"] = "uniform"
    compares_layers = False


class ByKind(Divided):
    """Heads, channels of the stream, groups and other filters lose the same share each; within a kind, as `global`.

    Fang et al., ECCV 2024, "Isomorphic Pruning", which also tells layers apart by their types.
    """

    name: Literal["by_kind"] = "by_kind"


class Knapsack(Allocation):
    """The widths that keep the largest sum of scores for their MACs: what a filter costs counts beside its score.

    Solved exactly where the network allows it; the stage's record says whether it was.
    """

    name: Literal["knapsack"] = "knapsack"

    def stages(self, scores: StageOutcome, cut: Cut) -> StageSubgenerator:
        """Yield one surgery."""
        return (yield PruneByKnapsack(of=scores, seed=cut.random_seed, **cut.of_surgery()))


class LeGR(Allocation):
    """The lowest-scored filters of the whole network go, after a search scaled and shifted the scores of each layer.

    Chin et al., CVPR 2020, "Towards Efficient Model Compression via Learned Global Ranking". The published search is
    `population = 64, samples = 16, generations = 400, tuning_steps = 200` on the criterion `l2_squared`; our default
    search is smaller.
    """

    name: Literal["legr"] = "legr"
    compares_layers = False  # the search scales each layer's scores
    population: Count = 16
    """Rankings alive at a time (P: 64)."""
    samples: Count = 4
    """Rankings drawn from the population, of which the best is mutated (P: 16)."""
    generations: Count = 30
    """Rankings tried in all (P: 400)."""
    mutated_fraction: Fraction = 0.1
    """Share of the layers that a mutation changes (P), at least one (C)."""
    scale_sigma: Rate = 1.0
    """Standard deviation of the logarithm of a new scale (P)."""
    tuning_steps: Annotated[int, Field(ge=0)] = 0
    """Steps of SGD on the training images before a ranking is evaluated (P: 200)."""
    tuning_learning_rate: Rate = 0.001
    """Learning rate of those steps (P), with momentum 0.9 and weight decay 0.0005 (P)."""
    learned_at: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Share of the MACs removed while rankings are evaluated, if it is more than the budget. Then all budgets up to it
    share one ranking, as published. None: each budget has its own ranking."""

    @model_validator(mode="after")
    def _search_is_possible(self) -> "LeGR":
        if self.samples > self.population:
            raise ValueError(
                f"samples = {self.samples} is more than population = {self.population}; choose at most as many"
            )
        if self.generations < self.population:
            raise ValueError(
                f"generations = {self.generations} counts the first population, which has {self.population}; choose "
                "more generations or a smaller population"
            )
        return self

    def unread(self) -> set[str]:
        """Without steps of tuning, their learning rate."""
        return set() if self.tuning_steps else {"tuning_learning_rate"}

    def stages(self, scores: StageOutcome, cut: Cut) -> StageSubgenerator:
        """Yield the search, and one surgery by its ranking."""
        learning_fraction = max(self.learned_at or 0.0, cut.asked_removed_macs_fraction)
        learning_cut = replace(cut, asked_removed_macs_fraction=learning_fraction)
        learned_ranking = yield LearnRanking(
            of=scores,
            population=self.population,
            samples=self.samples,
            generations=self.generations,
            mutated_fraction=self.mutated_fraction,
            scale_sigma=self.scale_sigma,
            task=cut.task,
            tuning_steps=self.tuning_steps,
            training=self._training(cut) if self.tuning_steps else None,
            seed=cut.seed,
            **learning_cut.settings(),
        )
        return (yield _prune(learned_ranking, cut, "global"))

    def _training(self, cut: Cut) -> Training:
        return Training(
            epochs=1,
            batch_size=cut.batch_size,
            learning_rate=self.tuning_learning_rate,
            head_learning_rate=self.tuning_learning_rate,
            momentum=0.9,
            weight_decay=0.0005,
            schedule="constant",
            seed=stream(cut.seed, "legr order"),
        )


OF_MEASUREMENT = ("batch_size", "device", "memory_format", "precision", "repeats", "runtime", "threads", "within")
"""Settings of an allocation by latency that only a measurement reads."""


class ToLatency(Allocation):
    """A latency, either predicted by a table of measured blocks, or measured where the trial runs.

    With a `table` (`transtailor model table`) the widths keep the largest sum of scores within the milliseconds;
    nothing is timed, and the method's budget in MACs is not read. Without one, the smallest removal that meets
    `asked_latency_ms` is searched for, and the method's budget is the upper limit.

    What is measured is a forward pass in evaluation mode on images that are on the device, in the runtime that will run
    the sub-model. The lower quartile of the repeats counts (C: other load on the machine can only add time).
    """

    name: Literal["latency"] = "latency"
    asked_latency_ms: Annotated[
        float | None, Field(gt=0.0, allow_inf_nan=False, json_schema_extra={"neutral": None})
    ] = None
    """Latency of a forward pass of one batch."""
    asked_latency_fraction: Annotated[float | None, Field(gt=0.0, lt=1.0, json_schema_extra={"neutral": None})] = None
    """The same as a share of the whole network's milliseconds in the table."""
    table: Annotated[str | None, Field(json_schema_extra={"in_no_id": True})] = None
    """The file of a table; its circumstance is the one of the latency, and the settings from `device` on are its."""
    table_sha256: Annotated[str | None, Field(json_schema_extra={"neutral": None})] = None
    """The file's SHA-256, which identifies it."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where it is measured."""
    runtime: Literal["eager", "compiled", "onnxruntime"] | None = None
    """What runs the network; None: ONNX Runtime on a CPU, a compiled network on a GPU."""
    memory_format: Literal["contiguous", "channels_last"] | None = None
    """Of images; None: ONNX Runtime's own, else channels last."""
    batch_size: Count = 1
    """Images of a forward pass."""
    threads: Count = 1
    """Threads of the CPU."""
    precision: Literal["float32", "bf16"] | None = None
    """Of a forward pass; None: float32 on a CPU, bf16 on a GPU."""
    repeats: Annotated[int, Field(ge=2)] = 50
    """Forward passes of a measurement."""
    within: Division = "global"
    """How the removal is divided over layers."""

    @field_validator("table")
    @classmethod
    def _path_is_absolute(cls, path: str | None) -> str | None:
        return None if path is None else str(Path(path).expanduser().resolve())  # ranks run in other folders

    @model_validator(mode="after")
    def _one_latency(self) -> "ToLatency":
        if (self.asked_latency_ms is None) == (self.asked_latency_fraction is None):
            raise ValueError("give one of asked_latency_ms and asked_latency_fraction")
        if (self.table is None) != (self.table_sha256 is None):
            raise ValueError(
                "table and table_sha256 belong together: give the file and its SHA-256 (type: "
                f"{shlex.join(['sha256sum', self.table or 'FILE'])})"
            )
        if self.table is None and self.asked_latency_fraction is not None:
            raise ValueError(
                "asked_latency_fraction is a share of the whole network's time in a table; give table and table_sha256 "
                "(type: transtailor model table), or asked_latency_ms"
            )
        other = [name for name in OF_MEASUREMENT if getattr(self, name) != type(self).model_fields[name].default]
        if self.table is not None and other:  # defaults are no mistake: a planned trial has them written out
            raise ValueError(f"{other[0]} is not read with a table, which has its own circumstance; leave it out")
        return self

    @property
    def in_steps(self) -> bool:
        """Whether a step can be asked for a part of the milliseconds: only a table knows how many the whole takes."""
        return self.asked_latency_fraction is not None

    def of_step(self, part: float) -> Allocation:
        """Return the allocation of a step: the same part of the milliseconds that are to go.

        >>> ToLatency(asked_latency_fraction=0.5, table="t.json", table_sha256="ab").of_step(0.5).asked_latency_fraction
        0.75
        """
        if self.asked_latency_fraction is None:
            return self
        return self.model_copy(
            update={"asked_latency_fraction": round(1.0 - part * (1.0 - self.asked_latency_fraction), 9)}
        )

    def label(self) -> str:
        """Return latency and device: each latency is an arm, as its operating points meet no budget in MACs.

        >>> ToLatency(asked_latency_fraction=0.6, table="t.json", table_sha256="ab").label()
        '0.6 of the ms by table ab'
        """
        if self.table_sha256 is not None:
            asked = (
                f"{self.asked_latency_fraction:g} of the ms"
                if self.asked_latency_ms is None
                else f"{self.asked_latency_ms:g} ms"
            )
            return f"{asked} by table {self.table_sha256[:8]}"
        runtime = "" if self.runtime is None else f", {self.runtime}"
        return f"{self.asked_latency_ms:g} ms on {self.device}{runtime}"

    def unread(self) -> set[str]:
        """With a table, what only a measurement reads."""
        return set() if self.table is None else set(OF_MEASUREMENT)

    def asked(self, asked_removed_macs_fraction: float) -> dict[str, float | None]:  # noqa: ARG002
        """Return the latency, which its operating points meet instead."""
        return {
            "asked_removed_macs_fraction": None,
            "asked_latency_ms": self.asked_latency_ms,
            "asked_latency_fraction": self.asked_latency_fraction,
        }

    def stages(self, scores: StageOutcome, cut: Cut) -> StageSubgenerator:
        """Yield one surgery, by the table or by measured latencies."""
        if self.table_sha256 is not None:
            return (
                yield PruneByTable(
                    of=scores,
                    rule=cut.rule,
                    grouping=cut.grouping,
                    normalisation=cut.normalisation,
                    minimum_filters_fraction=cut.minimum_filters_fraction,
                    table_sha256=self.table_sha256,
                    asked_latency_ms=self.asked_latency_ms,
                    asked_latency_fraction=self.asked_latency_fraction,
                    seed=cut.random_seed,
                    step=cut.drawn_step,
                )
            )
        assert self.asked_latency_ms is not None  # `_one_latency`
        on_gpu = self.device == "cuda"
        return (
            yield PruneToLatency(
                of=scores,
                allocation=self.within,
                asked_latency_ms=self.asked_latency_ms,
                device=self.device,
                runtime=self.runtime or ("compiled" if on_gpu else "onnxruntime"),
                memory_format=self.memory_format,
                batch_size=self.batch_size,
                threads=self.threads,
                precision=self.precision or ("bf16" if on_gpu else "float32"),
                repeats=self.repeats,
                seed=cut.random_seed,
                **cut.of_surgery(),
            )
        )


def _prune(scores: StageOutcome, cut: Cut, allocation: Division) -> Prune:
    return Prune(of=scores, allocation=allocation, seed=cut.random_seed, **cut.of_surgery())


ALLOCATIONS: Registry[type[Allocation]] = Registry("allocation")
for _settings in (Global, Uniform, ByKind, Knapsack, LeGR, ToLatency):
    ALLOCATIONS.add(_settings.model_fields["name"].default, _settings)
