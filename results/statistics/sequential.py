"""Paired comparisons that are looked at several times while seeds are added: boundaries, verdicts, intervals.

Looking again at a comparison after each extension finds a difference that is none in one of five sweeps. Here each look
may spend a part of alpha (Lan and DeMets, Biometrika 70, 1983), so that all looks together err as often as one test:

- The t statistic of the differences becomes a normal one by its tail probability, and is compared with boundaries of a
  Brownian motion, by numerical integration (Armitage, McPherson and Rowe, JRSS A 132, 1969; Jennison and Turnbull,
  Group Sequential Methods, 2000). The spending function is alpha * t^1.5, of the family of Kim and DeMets (Biometrika
  74, 1987).
- Several comparisons with one control are a family: Holm's correction, where a settled comparison hands its alpha on to
  those that are open, also for the looks that they have had (Maurer and Bretz, Statistics in Biopharmaceutical Research
  5, 2013).
- An interval that holds at all looks at once (a repeated confidence interval) inside the margin says that no difference
  matters.

Numbers in, numbers out: which seeds and arms they are of is not known here.
"""

import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Literal, TypeVar

import numpy as np
from scipy import optimize, special

from results.sign_flip import smallest_p
from results.statistics.pairs import sign_flip_p

Verdict = Literal["better", "worse", "no difference that matters", "open"]
Name = TypeVar("Name", bound=Hashable)

EXPONENT = 1.5  # of the spending function
FEWEST_FOR_EQUAL = 18
"""Below this many seeds no comparison is called equal: a collapse in one of ten seeds may not have happened yet."""
COLLAPSE = 10.0
"""A difference beyond so many times the median absolute one, or an image, is a collapse; such an arm is never called
equal."""
_NODES = 400  # of the integration, between the boundaries
_MOST_Z = 9.0  # a boundary that is never crossed
_LARGEST_Z = 37.0  # beyond it the tail of the normal distribution is 0 in floating point


def spent(alpha: float, fraction: float) -> float:
    """Return how much of alpha may be spent until this fraction of the seeds.

    >>> round(spent(0.05, 0.5), 4), spent(0.05, 1.0)
    (0.0177, 0.05)
    """
    return alpha * float(fraction**EXPONENT)


@dataclass(frozen=True)
class _Motion:
    """A Brownian motion at a look, if it has crossed no limit yet: where it may be, with which weight."""

    states: np.ndarray
    weights: np.ndarray
    fraction: float
    drift: float

    def crossing(self, limit: float, fraction: float) -> tuple[float, float]:
        """Return the probabilities that z is below -limit, and above limit, at the next look."""
        means = self.states + self.drift * (fraction - self.fraction)
        width = math.sqrt(fraction - self.fraction)
        bound = limit * math.sqrt(fraction)
        down = self.weights @ special.ndtr((-bound - means) / width)
        up = self.weights @ special.ndtr((means - bound) / width)
        return float(down), float(up)

    def go_on(self, limit: float, fraction: float) -> "_Motion":
        """Return the motion at the next look, between the limits."""
        means = self.states + self.drift * (fraction - self.fraction)
        width = math.sqrt(fraction - self.fraction)
        bound = limit * math.sqrt(fraction)
        nodes, node_weights = _nodes()
        states = bound * nodes
        density = np.exp(-0.5 * ((states[:, None] - means[None, :]) / width) ** 2) / (width * math.sqrt(2 * math.pi))
        return _Motion(states, bound * node_weights * (density @ self.weights), fraction, self.drift)


@cache
def _nodes() -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights of the integration between -1 and 1."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return nodes, weights


def _motion(drift: float = 0.0) -> _Motion:
    return _Motion(np.array([0.0]), np.array([1.0]), 0.0, drift)


def crossing_probabilities(
    limits: Sequence[float], fractions: Sequence[float], drift: float = 0.0
) -> tuple[list[float], list[float]]:
    """Return the probabilities that z first leaves (-limit, limit) at each look: downwards, and upwards.

    Args:
        limits: one per look, positive.
        fractions: of the information at each look, increasing, up to 1.
        drift: mean of z at fraction 1; at fraction t it is drift * sqrt(t).

    Example:
        Pocock's constant for five looks and alpha = 0.05 (Jennison and Turnbull, Table 2.1):

        >>> down, up = crossing_probabilities([2.413] * 5, [0.2, 0.4, 0.6, 0.8, 1.0])
        >>> round(sum(down) + sum(up), 4)
        0.05
    """
    down: list[float] = []
    up: list[float] = []
    motion = _motion(drift)
    for limit, fraction in zip(limits, fractions, strict=True):
        below, above = motion.crossing(limit, fraction)
        down.append(below)
        up.append(above)
        motion = motion.go_on(limit, fraction)
    return down, up


@cache
def boundaries(alpha: float, fractions: tuple[float, ...]) -> tuple[float, ...]:
    """Return the limits of |z| at each look with which all looks together err with probability alpha.

    >>> [round(limit, 3) for limit in boundaries(0.05, (0.5, 1.0))]
    [2.372, 2.056]
    """
    limits: list[float] = []
    motion = _motion()
    spent_before = 0.0
    for fraction in fractions:
        allowed = spent(alpha, fraction) - spent_before
        limit = _limit(motion, fraction, allowed)
        limits.append(limit)
        motion = motion.go_on(limit, fraction)
        spent_before += allowed
    return tuple(limits)


def signs_can_reach(limit: float, seeds: int) -> bool:
    """Whether a sign-flip test of so many seeds can reach the level of this limit of |z|, whatever the signs are."""
    return bool(smallest_p(seeds) <= 2 * special.ndtr(-limit))


def _limit(motion: _Motion, fraction: float, allowed: float) -> float:
    """Return the limit that the motion crosses at the next look with this probability."""

    def excess(limit: float) -> float:
        return sum(motion.crossing(limit, fraction)) - allowed

    if excess(_MOST_Z) > 0:
        return _MOST_Z
    return float(optimize.brentq(excess, 0.01, _MOST_Z, xtol=1e-9))


def median_unbiased_drift(limits: Sequence[float], fractions: Sequence[float], z: float) -> float:
    """Return the drift with which a motion stops beyond the observed end as often as before it.

    The mean after a stop is biased towards the boundary that was crossed. Ends are ordered by look and then by z
    (stage-wise ordering; Jennison and Turnbull, section 8.4).

    Args:
        limits: of the looks before the last one, and of the last one, at which z was seen.
        fractions: of these looks.
        z: at the last of them.
    """
    sign = -1.0 if z < 0 else 1.0

    def share_beyond(drift: float) -> float:
        bounds = [*limits[:-1], max(sign * z, 1e-9)]
        _, up = crossing_probabilities(bounds, fractions, drift)
        return sum(up) - 0.5

    reach = abs(z) / math.sqrt(fractions[-1]) + 10.0
    return sign * float(optimize.brentq(share_beyond, -reach, reach, xtol=1e-6))


@dataclass(frozen=True)
class Design:
    """How a family of comparisons is looked at.

    Attributes:
        looks: numbers of seeds at which it is looked at, increasing.
        alpha: the chance of any false better or worse in the family.
        matters: the smallest difference that matters, in the unit of the differences.
        family: how many comparisons the family has; it is sealed at the first look.
    """

    looks: tuple[int, ...]
    alpha: float
    matters: float
    family: int

    @property
    def fractions(self) -> tuple[float, ...]:
        """The share of the seeds at each look."""
        return tuple(seeds / self.looks[-1] for seeds in self.looks)

    def limits(self, left: int | None = None) -> tuple[float, ...]:
        """Return the limits of |z| while this many comparisons of the family are not better or worse; None: all."""
        return boundaries(self.alpha / (left or self.family), self.fractions)

    @property
    def fewest_seeds(self) -> int | None:
        """The first look that can settle a comparison, whatever was measured before; None: no look can."""
        for seeds, limit in zip(self.looks, self.limits(), strict=True):
            if seeds >= FEWEST_FOR_EQUAL or signs_can_reach(limit, seeds):
                return seeds
        return None


@dataclass(frozen=True)
class Look:
    """A comparison at one look.

    Attributes:
        low, high: of the interval that holds at all looks of the family at once.
        deviation: of the differences, at least one test image.
        z: of the t statistic.
        limit: of |z| at this look, when it was decided.
        p: of the sign-flip test; None if it was not needed, because z is inside the limit.
    """

    seeds: int
    mean: float
    low: float
    high: float
    deviation: float
    z: float
    limit: float
    p: float | None
    verdict: Verdict


def look_at(differences: Mapping[Name, Sequence[float]], design: Design, image: float = 0.0) -> dict[Name, list[Look]]:
    """Look at a family of comparisons at each look for which there are seeds, and decide.

    Better or worse needs both z beyond its limit and a sign-flip test at that limit's level: the t statistic alone
    errs in a third of all families if the differences are skewed. A comparison that is settled is not looked at again.

    Args:
        differences: name of the comparison -> its differences to the control, by seed, in the order in which seeds were
            added; arms may have different numbers of them.
        image: the smallest step of a score, one test image: the deviation of differences is at least this.

    Returns:
        name -> its looks; the verdict of the last one is that of the comparison.
    """

    @cache
    def sign_p(name: Name, seeds: int) -> float:
        return sign_flip_p(differences[name][:seeds])

    looks: dict[Name, list[Look]] = {name: [] for name in differences}
    different: dict[Name, int] = {}  # better or worse -> how many of the family were not, when it became so
    open_names = set(differences)
    for number, seeds in enumerate(design.looks):
        seen = [name for name in differences if name in open_names and len(differences[name]) >= seeds]
        for name in seen:
            looks[name].append(_measure(np.asarray(differences[name][:seeds], dtype=float), design, number, image))
        while (crossed := _first_crossed(seen, looks, sign_p, design, different)) is not None:
            different[crossed] = design.family - len(different)  # it hands its alpha on
        left_now = max(1, design.family - len(different))
        for name in seen:
            last = looks[name][-1]
            verdict: Verdict = "open"
            if name in different:
                verdict = "better" if last.mean > 0 else "worse"
            elif _is_equal(last, np.asarray(differences[name][:seeds], dtype=float), design, image):
                verdict = "no difference that matters"
            if verdict != "open":
                open_names.discard(name)
            left = different.get(name, left_now)
            limit = design.limits(left)[number]
            p = sign_p(name, seeds) if name in different or abs(last.z) > limit else None
            looks[name][-1] = replace(last, limit=limit, p=p, verdict=verdict)
    return looks


def _first_crossed(
    seen: Sequence[Name],
    looks: Mapping[Name, Sequence[Look]],
    sign_p: Callable[[Name, int], float],
    design: Design,
    different: Collection[Name],
) -> Name | None:
    """Return the first comparison that is better or worse with the alpha that it has now; None: no more."""
    left = design.family - len(different)
    for name in seen:
        if name not in different and _has_crossed(looks[name], partial(sign_p, name), design, left):
            return name
    return None


def _measure(values: np.ndarray, design: Design, number: int, image: float) -> Look:
    """Compute mean, interval and z of the differences at a look."""
    seeds = len(values)
    mean = math.fsum(values) / seeds
    deviation = max(float(values.std(ddof=1)), image)
    error = deviation / math.sqrt(seeds)
    degrees = seeds - 1
    tail = special.ndtr(-design.limits()[number])
    half = float(special.stdtrit(degrees, 1 - tail)) * error
    if error == 0.0:
        z = math.copysign(_LARGEST_Z, mean) if mean else 0.0
    else:
        t = abs(mean) / error
        z = math.copysign(min(-float(special.ndtri(special.stdtr(degrees, -t))), _LARGEST_Z), mean)
    return Look(seeds, mean, mean - half, mean + half, deviation, z, design.limits()[number], None, "open")


def unbiased_mean(looks: Sequence[Look], design: Design) -> float:
    """Return the median-unbiased estimate of the difference of a comparison that was settled at the last of its looks.

    The mean is shrunk as z is. A look that could not have stopped the comparison with the limit that it had does not
    count. It is approximate where other comparisons have handed alpha on meanwhile.
    """
    last = looks[-1]
    if last.z == 0.0:
        return last.mean
    counting = [*(look for look in looks[:-1] if signs_can_reach(look.limit, look.seeds)), last]
    fractions = [look.seeds / design.looks[-1] for look in counting]
    drift = median_unbiased_drift([look.limit for look in counting], fractions, last.z)
    return last.mean * drift * math.sqrt(fractions[-1]) / last.z


def _has_crossed(looks: Sequence[Look], sign_p: Callable[[int], float], design: Design, left: int) -> bool:
    """Whether a comparison is better or worse at one of its looks, while this many of the family are not.

    Args:
        sign_p: seeds -> p of the sign-flip test of the first so many differences.
    """
    first = design.looks.index(looks[0].seeds)
    limits = design.limits(left)[first:]
    for look, limit in zip(looks, limits, strict=False):
        if abs(look.z) > limit and sign_p(look.seeds) <= 2 * special.ndtr(-limit):
            return True
    return False


def _is_equal(look: Look, values: np.ndarray, design: Design, image: float) -> bool:
    """Whether the interval is inside the margin, with enough seeds and without a collapse among them."""
    if look.seeds < FEWEST_FOR_EQUAL or has_collapse(values, image):
        return False
    return -design.matters < look.low and look.high < design.matters


def has_collapse(differences: Sequence[float] | np.ndarray, image: float = 0.0) -> bool:
    """Whether one difference is far beyond the others; a few images are not, where most differences are 0.

    >>> has_collapse([0.01, -0.01, 0.02, -0.30]), has_collapse([0.01, -0.01, 0.02, -0.03])
    (True, False)
    """
    sizes = np.abs(np.asarray(differences, dtype=float))
    return bool(sizes.max() > COLLAPSE * max(float(np.median(sizes)), image))


def anytime_interval(values: Sequence[float], alpha: float, best_at: int, image: float = 0.0) -> tuple[float, float]:
    """Return an interval of the mean that holds at every number of values at once, however it was chosen.

    It is the asymptotic confidence sequence of Waudby-Smith et al. (Annals of Statistics 52, 2024, Theorem 2.2), from
    the normal mixture of Howard et al. (Annals of Statistics 49, 2021). Its boundary is for a known deviation; as at
    looks, it is turned into that of a t statistic of the same tail probability, which is our choice: without it, the
    interval misses in 7% from six values on.

    Args:
        values: at least two.
        best_at: the number of values at which the sequence is narrowest.
        image: the smallest step of a score; the deviation is at least this.

    Example:
        >>> low, high = anytime_interval([0.02, 0.03, 0.01, 0.02, 0.03, 0.02, 0.01, 0.02, 0.03, 0.02], 0.05, 10)
        >>> round(low, 3), round(high, 3)
        (0.011, 0.031)
    """
    n = len(values)
    mean = math.fsum(values) / n
    deviation = max(float(np.std(np.asarray(values, dtype=float), ddof=1)), image)
    rho_squared = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / best_at
    weight = n * rho_squared + 1
    boundary = math.sqrt(2 * weight / (n * rho_squared) * math.log(math.sqrt(weight) / alpha))
    half = float(special.stdtrit(n - 1, special.ndtr(boundary))) * deviation / math.sqrt(n)
    return mean - half, mean + half
