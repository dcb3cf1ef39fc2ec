"""The table `[resources]` of a spec: ranks, threads and GPUs of each trial."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Resources(BaseModel):
    """The resources of one trial; they change its speed, never its id."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    ranks: int = Field(default=1, ge=1)
    """Processes that train one trial together (DDP)."""
    threads_per_rank: int = Field(default=1, ge=1)
    """Threads (and cores) of each rank."""
    gpus_per_rank: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    """GPUs of each rank, at most 1. Below 1, several trials (of one rank each) share a GPU; 0 trains on CPUs. Left out:
    1 on a SLURM site with GPUs (`gpus_per_node`), 0 elsewhere."""
    placement: Literal["pack", "spread"] = "pack"
    """Whether to place the ranks of a trial on as few nodes as possible, or on as many."""
    hang_limit_s: float = Field(default=1800.0, gt=0.0, allow_inf_nan=False)
    """Seconds without progress (a batch on any rank) after which a trial's ranks are replaced."""

    @property
    def says_gpus(self) -> bool:
        """Whether the spec has `gpus_per_rank`; where it has not, the site decides."""
        return "gpus_per_rank" in self.model_fields_set

    def on_nodes_with(self, gpus_per_node: int) -> "Resources":
        """Return these resources with the GPUs that ranks get on a SLURM site.

        >>> Resources().on_nodes_with(4).gpus_per_rank
        1.0
        >>> Resources(gpus_per_rank=0).on_nodes_with(4).gpus_per_rank
        0.0
        """
        if self.says_gpus:
            return self
        values = dict(self) | {"gpus_per_rank": 1.0 if gpus_per_node else 0.0}
        return Resources.model_construct(self.model_fields_set, **values)  # the spec still says nothing about GPUs

    def as_said(self) -> dict[str, Any]:
        """Return the table `[resources]` of a spec: all keys, but `gpus_per_rank` only if the spec has it."""
        return self.model_dump(exclude=set() if self.says_gpus else {"gpus_per_rank"})

    @field_validator("gpus_per_rank", mode="before")
    @classmethod
    def _is_one_or_a_part(cls, gpus: Any) -> Any:
        if isinstance(gpus, int) and not isinstance(gpus, bool):
            gpus = float(gpus)
        if isinstance(gpus, float) and gpus > 1.0:
            raise ValueError("a rank trains on one GPU or a part of it, such as 0.25; for more GPUs give more ranks")
        return gpus

    @model_validator(mode="after")
    def _ranks_of_a_trial_share_no_gpu(self) -> "Resources":
        if self.ranks > 1 and 0.0 < self.gpus_per_rank < 1.0:
            raise ValueError(
                f"ranks = {self.ranks} with gpus_per_rank = {self.gpus_per_rank:g}: ranks of a trial cannot use one "
                "GPU (NCCL refuses it); choose ranks = 1, so that several trials share it, or gpus_per_rank = 1"
            )
        return self
