"""Times forward passes of several models in turns, so that a busy moment of the machine meets all of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles
from time import perf_counter

from tailor.common.heartbeat import beat

Pass = Callable[[], object]
"""Runs one forward pass and returns when its outputs are computed."""

WARM_UP_PASSES = 5
PASSES_OF_A_TURN = 3
"""Passes in a row of one model, whose median is the time of the turn; one more before them is not timed, since another
model ran before it and its weights are not in the processor's cache (C)."""
STEADY_FRACTION = 0.05
"""By how much the medians of the first and of the second half of the rounds may differ (C)."""
UNSTEADY = (
    "warning: not steady, also when timed again: differences within the quartiles say nothing; end other work on this "
    "machine and time it again"
)


@dataclass(frozen=True, kw_only=True)
class PassTimes:
    """What one model took, and its speed against the first model of the same rounds."""

    lower_quartile_ms: float
    median_ms: float
    upper_quartile_ms: float
    speed: float  # times as fast as the first model: the median over the rounds of the ratio within a round
    speed_lower_quartile: float  # of these ratios
    speed_upper_quartile: float
    is_steady: bool  # the ratios of both halves of the rounds agree; for the first model, its times

    @property
    def first_ms(self) -> float:
        """What the first model took in the same rounds, by time and speed of this one, so that all three agree."""
        return self.median_ms * self.speed


def time_in_turns(passes: Mapping[str, Pass], *, rounds: int) -> dict[str, PassTimes]:
    """Time models in turns; return the times of each by its name. The first one is what the others are compared with.

    In each round every model has a turn of a few passes in a row, in the order of `passes` and in the next round in
    the opposite order. Models that are not steady are timed again at the end, with the first one, once.

    >>> times = time_in_turns({"whole": lambda: sum(range(1000)), "pruned": lambda: sum(range(100))}, rounds=4)
    >>> list(times), times["whole"].speed
    (['whole', 'pruned'], 1.0)

    Args:
        passes: name -> what runs one forward pass. For a file of ONNX, or a sub-model: `tailor.model.passes`.
        rounds: at least 2.
    """
    for run in passes.values():
        for _ in range(WARM_UP_PASSES):
            beat()
            run()
    times = _summary(_rounds(passes, rounds))
    unsteady = [name for name, of_model in times.items() if not of_model.is_steady]
    if unsteady:
        first = next(iter(passes))
        again = {name: run for name, run in passes.items() if name in (first, *unsteady)}
        second = _summary(_rounds(again, rounds))
        times |= second
    return times


def _rounds(passes: Mapping[str, Pass], rounds: int) -> dict[str, list[float]]:
    """Return seconds of a pass by model, one number per round."""
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    order = list(passes)
    for _ in range(rounds):
        for name in order:
            seconds[name].append(_turn(passes[name]))
        order.reverse()
    return seconds


def _turn(run: Pass) -> float:
    """Return the median seconds of some passes in a row, after one that is not timed."""
    beat()
    run()
    seconds = []
    for _ in range(PASSES_OF_A_TURN):
        start_s = perf_counter()
        run()
        seconds.append(perf_counter() - start_s)
    return median(seconds)


def _summary(seconds: Mapping[str, list[float]]) -> dict[str, PassTimes]:
    """Return quartiles, speed and steadiness by model."""
    of_first = next(iter(seconds.values()))
    times = {}
    for name, of_model in seconds.items():
        lower_s, median_s, upper_s = quantiles(of_model, n=4, method="inclusive")
        ratios = [first_s / pass_s for first_s, pass_s in zip(of_first, of_model, strict=True)]
        slow, speed, fast = quantiles(ratios, n=4, method="inclusive")
        compared = of_model if of_model is of_first else ratios
        times[name] = PassTimes(
            lower_quartile_ms=1e3 * lower_s,
            median_ms=1e3 * median_s,
            upper_quartile_ms=1e3 * upper_s,
            speed=speed,
            speed_lower_quartile=slow,
            speed_upper_quartile=fast,
            is_steady=is_steady(compared),
        )
    return times


def is_steady(values: list[float]) -> bool:
    """Whether the medians of both halves of a series differ by at most STEADY_FRACTION of the smaller one.

    >>> is_steady([1.0, 1.1, 1.0, 1.02]), is_steady([1.0, 1.0, 2.0, 2.0])
    (True, False)
    """
    middle = len(values) // 2
    halves = sorted([median(values[:middle]), median(values[middle:])])
    return halves[1] <= (1.0 + STEADY_FRACTION) * halves[0]
