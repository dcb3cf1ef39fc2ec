"""The input of a criterion."""

from collections.abc import Iterable
from dataclasses import dataclass

from tailor.common.errors import ConfigError
from tailor.data.task_data import Samples
from tailor.model.state import ModelState
from tailor.parallel.process_group import ProcessGroup
from tailor.pruning.group_records import Group, members_of
from tailor.stages import Placement


@dataclass(frozen=True, kw_only=True, eq=False)
class Scoring:
    """A model to be scored; fields that the criterion does not declare are None."""

    state: ModelState
    found: tuple[Group, ...]  # all groups that can lose filters, whose layers are scored
    ranks: ProcessGroup
    samples: Samples | None  # the target's training images
    batch_size: int | None  # global
    placement: Placement | None
    seed: int | None

    @property
    def data(self) -> Samples:
        """The samples of a criterion that declared `reads_data`. Raises ConfigError: it did not."""
        if self.samples is None:
            raise ConfigError("this criterion reads scoring.data: declare it, Criterion(..., reads_data=True)")
        return self.samples


def norms_behind(state: ModelState, groups: Iterable[Group], reader: str) -> dict[str, str]:
    """Layer -> the norm after it, of all layers of the groups; the first check of networks that no table has.

    Args:
        reader: the part that reads the norms' factors, such as "method 'gbn'".

    Raises:
        ConfigError: a layer has no norm with factors after it, or there is no layer.
    """
    norms: dict[str, str] = {}
    for member in members_of(groups):
        if member.norm is None or f"{member.norm}.weight" not in state.tensors:
            raise ConfigError(
                f"{reader} reads the factor of the norm behind each layer, and {member.layer} of {state.network} has "
                "none; choose another, or pruning.linear = false if it is linear"
            )
        if member.norm in norms.values():
            raise ConfigError(
                f"{reader} reads the factor of the norm behind each layer, and {member.norm} of {state.network} "
                f"follows {member.layer} and another layer; choose another"
            )
        norms[member.layer] = member.norm
    if not norms:
        raise ConfigError(
            f"{reader} reads the factor of the norm behind each layer that can lose filters, and {state.network} has "
            "no such layer; set pruning.residual = 'coupled' or pruning.linear = true"
        )
    return norms
