"""The most that a network can lose, known without torch: an impossible budget is refused before anything is trained."""

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from tailor.catalog import NETWORKS

if TYPE_CHECKING:
    from tailor.config import TrialConfig

TABLE_FILE = Path(__file__).parent / "possible.json"  # made by `python -m tailor.possible_table`
TABLE_CLASSES = 5  # outputs of the networks' heads in the table

Coefficients = tuple[int, int, int]
"""c such that c0 + c1 k + c2 k^2 MACs are left when each group keeps the fraction k of its filters."""


@lru_cache(maxsize=1)
def table() -> dict[str, dict[str, Coefficients]]:
    """Network -> name of a rule (see `rule_name`) -> what is left as groups shrink."""
    found: dict[str, dict[str, Coefficients]] = json.loads(TABLE_FILE.read_bytes())
    return found


def rule_name(residual: str, linear: bool) -> str:
    """The name of a rule of groups in the table."""
    return f"{residual} + linear" if linear else residual


def most_removable(config: "TrialConfig") -> float:
    """An upper bound of the fraction of the original MACs that the trial's network can lose, in [0, 1].

    Every group keeps `pruning.minimum_filters_fraction`; that it keeps whole filters is not counted. 1.0 where little
    is known: a user's network, or another size of images than the table's, unless no filter at all can go.
    """
    name, data, kept = config.network, config.data, config.pruning.minimum_filters_fraction
    info = NETWORKS[name]
    lines = _lines(name)
    if lines is None:
        return 1.0
    c0, c1, c2 = lines[rule_name(config.pruning.residual, config.pruning.linear)]
    if not is_prunable(config):
        return 0.0
    if data.input_shape != info.input_shape:
        return 1.0
    features = info.head_params_count // TABLE_CLASSES  # or one more, where the head has a bias
    heads_difference = (data.info.target_classes - TABLE_CLASSES) * features
    left = c0 + c1 * kept + c2 * kept**2 + min(0, heads_difference)
    return 1.0 - max(0.0, left) / (c0 + c1 + c2 + heads_difference)


@lru_cache
def _lines(network: str) -> dict[str, Coefficients] | None:
    """What is known of a network; None: nothing."""
    if network.startswith("timm/"):  # whose facts need torch in any case
        from tailor.possible_table import lines

        return lines(network)
    return table().get(network)


def refuse_impossible(config: "TrialConfig", removed_macs_fraction: float) -> None:
    """Do nothing if the trial's network may be able to lose so much; for a method's `check`.

    Raises:
        ValueError: it cannot.
    """
    most = most_removable(config)
    if removed_macs_fraction > most:
        pruning = config.pruning
        raise ValueError(
            f"{removed_macs_fraction:g} of the MACs is more than {config.network} can lose, which is {most:.3f} with "
            f"pruning.residual = {pruning.residual!r}, pruning.linear = {str(pruning.linear).lower()} and "
            f"pruning.minimum_filters_fraction = {pruning.minimum_filters_fraction:g}; choose a smaller budget, or let "
            "more filters go with one of these"
        )


def is_prunable(config: "TrialConfig") -> bool:
    """Whether some filter of the trial's network may go; true where nothing is known of it.

    Which groups of filters there are is the same for images of any size.
    """
    lines = _lines(config.network)
    return lines is None or any(lines[rule_name(config.pruning.residual, config.pruning.linear)][1:])


def refuse_unprunable(config: "TrialConfig") -> None:
    """Do nothing if some filter of the trial's network may go; for a method's `check`.

    Raises:
        ValueError: none can, under the trial's rule of groups.
    """
    if not is_prunable(config):
        pruning = config.pruning
        raise ValueError(
            f"no layer of {config.network} can lose filters with pruning.residual = {pruning.residual!r} and "
            f"pruning.linear = {str(pruning.linear).lower()}; set pruning.linear = true or residual = 'coupled'"
        )
