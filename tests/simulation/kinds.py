"""The kinds of days, each a share of the seeds."""

from typing import Literal

Kind = Literal["grid", "search", "slurm", "slurm search"]
KINDS: tuple[Kind, ...] = ("grid", "grid", "search", "slurm", "grid", "grid", "search", "slurm search")


def kind_of(seed: int) -> Kind:
    """The kind of a seed's day."""
    return KINDS[seed % len(KINDS)]
