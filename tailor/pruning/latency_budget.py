"""How much has to go for a forward pass to take so many milliseconds on this machine: a bisection that measures."""

from collections.abc import Callable
from dataclasses import dataclass

from tailor.core.errors import ConfigError

RESOLUTION = 0.005
"""Share of the MACs to which the search is exact (C)."""
MARGIN = 0.1
"""Share of the asked latency by which the found one may be shorter (C)."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One try of the search."""

    removed_macs_fraction: float  # asked for, of the original network
    latency_ms: float


def least_removal(
    asked_ms: float, present: float, most: float, latency_ms_at: Callable[[float], float]
) -> tuple[Measured, ...]:
    """All tries of the search for the smallest removal with which the latency is at most `asked_ms`; its result last.

    Args:
        asked_ms: milliseconds of a forward pass.
        present: share of the MACs that is gone already, where the search starts.
        most: share of the MACs that may go.
        latency_ms_at: the measured latency with this share of the MACs gone.

    Raises:
        ConfigError: nothing has to go, the most that may go does not suffice, or only a removal is found that is faster
            than asked by more than MARGIN.
    """

    def tried(fraction: float) -> Measured:
        tries.append(Measured(removed_macs_fraction=fraction, latency_ms=latency_ms_at(fraction)))
        return tries[-1]

    tries: list[Measured] = []
    slow, fast = tried(present), tried(most)
    if slow.latency_ms <= asked_ms:
        raise ConfigError(
            f"latency_ms = {asked_ms:g}: nothing has to go for that, a forward pass takes {slow.latency_ms:.4g} ms "
            "already; choose a smaller one"
        )
    if fast.latency_ms > asked_ms:
        raise ConfigError(
            f"latency_ms = {asked_ms:g} is not reached: a pass takes {fast.latency_ms:.4g} ms with "
            f"removed_macs_fraction = {most:g}, and {slow.latency_ms:.4g} ms before; ask for more, or let more go"
        )
    while fast.removed_macs_fraction - slow.removed_macs_fraction > RESOLUTION:
        middle = tried((slow.removed_macs_fraction + fast.removed_macs_fraction) / 2)
        slow, fast = (slow, middle) if middle.latency_ms <= asked_ms else (middle, fast)
    if fast.latency_ms < (1.0 - MARGIN) * asked_ms:
        raise ConfigError(
            f"latency_ms = {asked_ms:g} is missed by more than {MARGIN:.0%}: a pass takes {slow.latency_ms:.4g} ms "
            f"with {slow.removed_macs_fraction:.3f} of the MACs gone, and {fast.latency_ms:.4g} ms with "
            f"{fast.removed_macs_fraction:.3f}; choose another latency, or measure more repeats where nothing else runs"
        )
    return (*(one for one in tries if one is not fast), fast)
