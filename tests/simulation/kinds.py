"""The kinds of days, each a share of the seeds."""

from typing import Literal

Kind = Literal["grid", "private", "search", "slurm", "slurm search"]
KINDS: tuple[Kind, ...] = ("grid", "grid", "search", "slurm", "grid", "private", "search", "slurm search")
"""Of a private one no trial shares a stage."""


def kind_of(seed: int) -> Kind:
    """The kind of a seed's day."""
    return KINDS[seed % len(KINDS)]
