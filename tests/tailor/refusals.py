"""Why the filters of a network's layers cannot be removed."""

from torch import nn

from tailor.pruning.groups import candidates
from tailor.stages import GroupRule


def refusals(model: nn.Module, input_shape: tuple[int, ...], rule: GroupRule) -> dict[str, str]:
    """Layer -> why its filters cannot be removed, for each layer in no group of `groups`."""
    refused = [candidate for candidate in candidates(model, input_shape, rule) if candidate.reason is not None]
    return {member.layer: str(candidate.reason) for candidate in refused for member in candidate.group.members}
