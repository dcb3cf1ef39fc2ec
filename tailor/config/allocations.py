"""How a budget is divided over layers: the settings of each allocation, and its stages. Without torch."""

import shlex
from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from tailor.common.registry import Registry
from tailor.common.seeds import stream
from tailor.common.settings import Count, Settings
from tailor.stages import (
    Division,
    LearnRanking,
    Prune,
    PruneByTable,
    StageSubgenerator,
    Task,
    Training,
)


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

        >>> Global().label(), LeGR().label()
        ('global', 'legr')
        """
        return self.name

    def asked(self, asked_removed_macs_fraction: float) -> dict[str, float | None]:
        """Return what is asked of its operating points: the budget in MACs, unless it has another kind of budget.

        >>> Global().asked(0.3)
        {'asked_removed_macs_fraction': 0.3}
        """
        return {"asked_removed_macs_fraction": asked_removed_macs_fraction}

    @abstractmethod
    def stages(self, prune: Prune, *, task: Task, batch_size: int, seed: int) -> StageSubgenerator:
        """Yield the stages from scores to a pruned model; return the outcome of the last stage.

        Args:
            prune: the surgery of the allocation `global`.
            task: the target's images, for those that train or evaluate; the batch's size and the seed are theirs, too.
        """


class Divided(Allocation):
    """An allocation that is one surgery, whose division of the budget over layers has the same name."""

    name: Division

    def stages(self, prune: Prune, **_of_searches: Any) -> StageSubgenerator:
        """Yield one surgery."""
        return (yield replace(prune, allocation=self.name))


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


class Knapsack(Divided):
    """The widths that keep the largest sum of scores for their MACs: what a filter costs counts beside its score."""

    name: Literal["knapsack"] = "knapsack"


class LeGR(Allocation):
    """The lowest-scored filters of the whole network go, after a search scaled and shifted the scores of each layer.

    Chin et al., CVPR 2020, "Towards Efficient Model Compression via Learned Global Ranking". The published search is
    `population = 64, generations = 400`, with 16 samples and 200 steps of tuning, on the criterion `l2_squared`; ours
    is smaller.
    """

    name: Literal["legr"] = "legr"
    compares_layers = False  # the search scales each layer's scores
    population: Count = 16
    """Rankings alive at a time (P: 64)."""
    generations: Count = 30
    """Rankings tried in all (P: 400)."""
    # Constants, which a plugin's subclass may set otherwise.
    samples: ClassVar[int] = 4
    """Rankings drawn from the population, of which the best is mutated (P: 16)."""
    mutated_fraction: ClassVar[float] = 0.1
    """Share of the layers that a mutation changes (P), at least one (C)."""
    scale_sigma: ClassVar[float] = 1.0
    """Standard deviation of the logarithm of a new scale (P)."""
    tuning_steps: ClassVar[int] = 0
    """Steps of SGD on the training images before a ranking is evaluated (P: 200)."""
    tuning_learning_rate: ClassVar[float] = 0.001
    """Learning rate of those steps (P), with momentum 0.9 and weight decay 0.0005 (P)."""
    learned_at: ClassVar[float | None] = None
    """Share of the MACs removed while rankings are evaluated, if it is more than the budget. Then all budgets up to it
    share one ranking, as published. None: each budget has its own ranking."""

    @model_validator(mode="after")
    def _search_is_possible(self) -> "LeGR":
        if self.generations < self.population:
            raise ValueError(
                f"generations = {self.generations} counts the first population, which has {self.population}; choose "
                "more generations or a smaller population"
            )
        return self

    def stages(self, prune: Prune, *, task: Task, batch_size: int, seed: int) -> StageSubgenerator:
        """Yield the search, and one surgery by its ranking."""
        learned_ranking = yield LearnRanking(
            of=prune.of,
            rule=prune.rule,
            grouping=prune.grouping,
            asked_removed_macs_fraction=max(self.learned_at or 0.0, prune.asked_removed_macs_fraction),
            minimum_filters_fraction=prune.minimum_filters_fraction,
            widths=prune.widths,
            population=self.population,
            samples=self.samples,
            generations=self.generations,
            mutated_fraction=self.mutated_fraction,
            scale_sigma=self.scale_sigma,
            task=task,
            tuning_steps=self.tuning_steps,
            training=self._training(batch_size, seed) if self.tuning_steps else None,
            seed=seed,
        )
        return (yield replace(prune, of=learned_ranking))

    def _training(self, batch_size: int, seed: int) -> Training:
        return Training(
            epochs=1,
            batch_size=batch_size,
            learning_rate=self.tuning_learning_rate,
            head_learning_rate=self.tuning_learning_rate,
            momentum=0.9,
            weight_decay=0.0005,
            schedule="constant",
            seed=stream(seed, "legr order"),
        )


class ToLatency(Allocation):
    """A latency that a table of measured blocks predicts (`transtailor model table`).

    The widths keep the largest sum of scores within the milliseconds; nothing is timed, and the method's budget in MACs
    is not read.
    """

    name: Literal["latency"] = "latency"
    asked_latency_ms: Annotated[
        float | None, Field(gt=0.0, allow_inf_nan=False, json_schema_extra={"neutral": None})
    ] = None
    """Latency of a forward pass of one batch."""
    asked_latency_fraction: Annotated[float | None, Field(gt=0.0, lt=1.0, json_schema_extra={"neutral": None})] = None
    """The same as a share of the whole network's milliseconds in the table."""
    table: Annotated[str | None, Field(json_schema_extra={"in_no_id": True})] = None
    """The file of a table; its circumstance is the one of the latency."""
    table_sha256: Annotated[str | None, Field(json_schema_extra={"neutral": None})] = None
    """The file's SHA-256, which identifies it."""

    @field_validator("table")
    @classmethod
    def _path_is_absolute(cls, path: str | None) -> str | None:
        return None if path is None else str(Path(path).expanduser().resolve())  # ranks run in other folders

    @model_validator(mode="after")
    def _one_latency(self) -> "ToLatency":
        if (self.asked_latency_ms is None) == (self.asked_latency_fraction is None):
            raise ValueError("give one of asked_latency_ms and asked_latency_fraction")
        if self.table is None or self.table_sha256 is None:
            raise ValueError(
                "table and table_sha256 belong together: give the file that `transtailor model table` wrote, and its "
                f"SHA-256 (type: {shlex.join(['sha256sum', self.table or 'FILE'])})"
            )
        return self

    @property
    def in_steps(self) -> bool:
        """Whether a step can be asked for a part of the milliseconds, as it can of a share of them."""
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
        """Return the latency: each is an arm, as its operating points meet no budget in MACs.

        >>> ToLatency(asked_latency_fraction=0.6, table="t.json", table_sha256="ab").label()
        '0.6 of the ms by table ab'
        """
        asked = (
            f"{self.asked_latency_fraction:g} of the ms"
            if self.asked_latency_ms is None
            else f"{self.asked_latency_ms:g} ms"
        )
        return f"{asked} by table {(self.table_sha256 or '')[:8]}"

    def asked(self, asked_removed_macs_fraction: float) -> dict[str, float | None]:  # noqa: ARG002
        """Return the latency, which its operating points meet instead."""
        return {
            "asked_removed_macs_fraction": None,
            "asked_latency_ms": self.asked_latency_ms,
            "asked_latency_fraction": self.asked_latency_fraction,
        }

    def stages(self, prune: Prune, **_of_searches: Any) -> StageSubgenerator:
        """Yield one surgery."""
        assert self.table_sha256 is not None  # `_one_latency`
        return (
            yield PruneByTable(
                of=prune.of,
                rule=prune.rule,
                grouping=prune.grouping,
                normalisation=prune.normalisation,
                minimum_filters_fraction=prune.minimum_filters_fraction,
                table_sha256=self.table_sha256,
                asked_latency_ms=self.asked_latency_ms,
                asked_latency_fraction=self.asked_latency_fraction,
                seed=prune.seed,
                step=prune.step,
            )
        )


ALLOCATIONS: Registry[type[Allocation]] = Registry("allocation")
for _settings in (Global, Uniform, ByKind, Knapsack, LeGR, ToLatency):
    ALLOCATIONS.add(_settings.model_fields["name"].default, _settings)
