"""How fast a sub-model is beside its whole network, as measured, in one line."""

from dataclasses import dataclass

from tailor.model.latency import Latency
from tailor.saved_model import AS_PRUNED
from transtailor.plural import times_as_fast


@dataclass(frozen=True, kw_only=True)
class Speed:
    """The times of a sub-model and of its whole network, in turns.

    >>> print(Speed(times_as_fast=0.5, latency_ms=4.0, whole_latency_ms=2.0, is_steady=True, circumstance="eager here"))
    0.50 times as fast as the whole network, SLOWER (4 ms instead of 2 ms; as pruned or padded; eager here)
    """

    times_as_fast: float  # below 1: it is slower
    latency_ms: float  # median
    whole_latency_ms: float
    is_steady: bool
    circumstance: str
    widths: str = "as pruned or padded"  # which of them; cards of earlier versions do not say it

    def __str__(self) -> str:
        unsteady = "" if self.is_steady else "; NOT STEADY: end other work on this machine and measure again"
        return (
            f"{times_as_fast(self.times_as_fast)} ({self.latency_ms:.4g} ms instead of "
            f"{self.whole_latency_ms:.4g} ms; {self.widths}; {self.circumstance}){unsteady}"
        )


def speed_of(latency: Latency) -> Speed:
    """Return the speed of a model that was timed with its whole network."""
    assert latency.speed is not None and latency.whole_latency_ms is not None
    return Speed(
        times_as_fast=latency.speed,
        latency_ms=latency.latency_ms,
        whole_latency_ms=latency.whole_latency_ms,
        is_steady=latency.is_steady,
        circumstance=str(latency.circumstance),
        widths=AS_PRUNED,
    )
