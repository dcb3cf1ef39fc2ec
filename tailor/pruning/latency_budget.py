"""How much must be removed for a wanted latency on this machine: a bisection that measures."""

from collections.abc import Callable
from dataclasses import dataclass

from tailor.common.errors import ConfigError

RESOLUTION = 0.005
"""Share of the MACs to which the search is exact (C)."""
MARGIN = 0.1
"""Share of the wanted latency by which the result may be shorter (C)."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One try of the search."""

    asked_removed_macs_fraction: float  # the budget of the try, of the original network
    pruning_latency_ms: float


def least_removal(
    asked_ms: float, present: float, most: float, latency_ms_at: Callable[[float], float]
) -> tuple[Measured, ...]:
    """Search for the smallest removal with which the latency is at most `asked_ms`; return all tries, the result last.

    >>> least_removal(6.0, 0.0, 0.8, latency_ms_at=lambda removed: 10.0 * (1.0 - removed))[-1]
    Measured(asked_removed_macs_fraction=0.4, pruning_latency_ms=6.0)

    Args:
        asked_ms: milliseconds of a forward pass.
        present: share of the MACs that is removed already, where the search starts.
        most: largest share of the MACs that may be removed.
        latency_ms_at: the measured latency with this share of the MACs removed.

    Raises:
        ConfigError: the latency is met already, `most` does not meet it, or the result is faster than wanted by more
            than MARGIN.
    """

    tries: list[Measured] = []

    def try_fraction(fraction: float) -> Measured:
        measured = Measured(asked_removed_macs_fraction=fraction, pruning_latency_ms=latency_ms_at(fraction))
        tries.append(measured)
        return measured

    slow = try_fraction(present)
    fast = try_fraction(most)
    if slow.pruning_latency_ms <= asked_ms:
        raise ConfigError(
            f"asked_latency_ms = {asked_ms:g} is met already: a forward pass takes {slow.pruning_latency_ms:.4g} ms "
            "before any removal; choose a smaller one"
        )
    if fast.pruning_latency_ms > asked_ms:
        raise ConfigError(
            f"asked_latency_ms = {asked_ms:g} is not reached: a pass takes {fast.pruning_latency_ms:.4g} ms with "
            f"asked_removed_macs_fraction = {most:g}, and {slow.pruning_latency_ms:.4g} ms before; choose larger ones"
        )
    while fast.asked_removed_macs_fraction - slow.asked_removed_macs_fraction > RESOLUTION:
        middle = try_fraction((slow.asked_removed_macs_fraction + fast.asked_removed_macs_fraction) / 2)
        if middle.pruning_latency_ms <= asked_ms:
            fast = middle
        else:
            slow = middle
    if fast.pruning_latency_ms < (1.0 - MARGIN) * asked_ms:
        raise ConfigError(
            f"asked_latency_ms = {asked_ms:g} is missed by more than {MARGIN:.0%}: a pass takes "
            f"{slow.pruning_latency_ms:.4g} ms with {slow.asked_removed_macs_fraction:.3f} of the MACs removed, and "
            f"{fast.pruning_latency_ms:.4g} ms with {fast.asked_removed_macs_fraction:.3f}; choose another latency, or "
            "measure more repeats on an idle machine"
        )
    others = [measured for measured in tries if measured is not fast]
    return (*others, fast)
