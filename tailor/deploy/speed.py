"""How fast a sub-model is beside its whole network, as measured, in one line."""

from dataclasses import dataclass

from transtailor.plural import times_as_fast


@dataclass(frozen=True, kw_only=True)
class Speed:
    """The times of a sub-model and of its whole network, in turns.

    >>> print(Speed(times_as_fast=0.5, latency_ms=4.0, whole_latency_ms=2.0, is_steady=True, circumstance="eager here"))
    0.50 times as fast as the whole network, SLOWER (4 ms instead of 2 ms; eager here)
    """

    times_as_fast: float  # below 1: it is slower
    latency_ms: float  # median
    whole_latency_ms: float
    is_steady: bool
    circumstance: str

    def __str__(self) -> str:
        unsteady = "" if self.is_steady else "; NOT STEADY: end other work on this machine and measure again"
        return (
            f"{times_as_fast(self.times_as_fast)} ({self.latency_ms:.4g} ms instead of "
            f"{self.whole_latency_ms:.4g} ms; {self.circumstance}){unsteady}"
        )
