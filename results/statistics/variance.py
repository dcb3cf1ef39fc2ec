"""Analysis of variance: how much of a score's variance each setting explains, alone and with another one."""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import linalg, special

from results.statistics.means import finite

_RANK_TOLERANCE = 1e-10
"""Of what is left of a column beside those before it, against the largest: dependent columns leave below 1e-13."""
_ROUNDING = 1e-20
"""A sum of squares below this share of the values' own squares is 0: rounding leaves below 1e-28."""
_ROUNDING_OF_DIFFERENCES = 1e-12
"""A difference of two sums below this share of the larger one is 0: rounding leaves below 1e-14, and F would be a ratio
of such remains."""


@dataclass(frozen=True)
class Effect:
    """What one factor, or the interaction of two, explains.

    Attributes:
        f, p: F ratio and its p; None without residual degrees of freedom, or if nothing is left as noise.
        omega_squared: the share expected in new data, corrected for chance and at least 0 (Hays 1963; Olejnik and
            Algina 2003); None without residual degrees of freedom.
    """

    name: str  # the factor, or two joined by " x "
    degrees: int  # degrees of freedom; 0 if the data cannot separate it from the others
    sum_of_squares: float  # what it explains beyond all terms that do not contain it (type II)
    f: float | None
    p: float | None
    eta_squared: float | None  # share of the whole sum of squares
    partial_eta_squared: float | None  # share of its own and the residual sum of squares; None if both are 0
    omega_squared: float | None


@dataclass(frozen=True)
class Anova:
    """An analysis of variance.

    Attributes:
        fewest, most: smallest and largest number of values in a possible cell.
    """

    effects: tuple[Effect, ...]  # block first, main effects, then interactions
    n: int  # number of values
    residual_degrees: int  # residual degrees of freedom
    residual_sum_of_squares: float
    sum_of_squares: float  # of all values around their mean
    cells: tuple[int, int]  # number of combinations of levels that occur, and of all possible ones
    fewest: int
    most: int

    @property
    def is_balanced(self) -> bool:
        """Whether all combinations of levels have the same number of values; else effects are not fully separable."""
        return self.fewest == self.most


def anova(
    values: Sequence[float], factors: Mapping[str, Sequence[str]], block: tuple[str, Sequence[str]] | None = None
) -> Anova:
    """Analyse main effects and two-way interactions, with sums of squares of type II (Yates 1934; Langsrud 2003).

    In a balanced design all types agree. A block (the seed) is a term of its own, which removes what all arms of a seed
    have in common from the noise. It has no interaction terms, so the seeds' interactions are the noise.

    Args:
        values: one score per observation.
        factors: name -> the level of each observation; at least one.
        block: name and level of each observation.

    Raises:
        ValueError: a value is not finite, there are no factors, or a column has another length.

    Example:
        >>> result = anova([0.9, 0.8, 0.7, 0.5], {"epochs": ["5", "5", "9", "9"]}, ("seed", ["0", "1", "0", "1"]))
        >>> [(effect.name, effect.degrees, round(effect.eta_squared, 2)) for effect in result.effects]
        [('seed', 1, 0.26), ('epochs', 1, 0.71)]
    """
    data = finite(values)
    columns: dict[str, Sequence[str]] = {}
    if block is not None:
        block_name, block_levels = block
        columns[block_name] = block_levels
    columns.update(factors)
    if not factors or any(len(levels) != len(data) for levels in columns.values()):
        raise ValueError(f"expected factors of {len(data)} levels each, given {list(factors)}")
    terms: list[tuple[str, ...]] = [(name,) for name in columns]
    terms += list(itertools.combinations(factors, 2))
    cells = {}
    for term in terms:
        cells[term] = _cells([columns[name] for name in term])

    @cache
    def fit(*terms_fitted: tuple[str, ...]) -> tuple[float, int]:
        return _fit(data, [cells[term] for term in terms_fitted])

    residual, rank = fit(*terms)
    residual_degrees = len(data) - rank
    whole, _ = fit()
    effects = [_effect(term, terms, fit, (residual, residual_degrees), whole) for term in terms]
    counts = Counter(zip(*columns.values(), strict=True))
    possible = int(np.prod([len(set(levels)) for levels in columns.values()]))
    return Anova(
        effects=tuple(effects),
        n=len(data),
        residual_degrees=residual_degrees,
        residual_sum_of_squares=residual,
        sum_of_squares=whole,
        cells=(len(counts), possible),
        fewest=min(counts.values()) if len(counts) == possible else 0,
        most=max(counts.values()),
    )


def _effect(
    term: tuple[str, ...],
    terms: Sequence[tuple[str, ...]],
    fit: Callable[..., tuple[float, int]],
    residual: tuple[float, int],
    whole: float,
) -> Effect:
    """Compute what a term explains in addition to all terms that do not contain it.

    Args:
        fit: from terms to the sum of squares that they leave, and their rank.
        residual: the sum of squares that all terms leave, and its degrees of freedom.
        whole: the sum of squares around the mean.
    """
    others = [other for other in terms if not set(term) <= set(other)]
    others_and_term = [other for other in terms if other == term or other in others]
    left_by_others, rank_of_others = fit(*others)
    left, rank = fit(*others_and_term)
    degrees = rank - rank_of_others
    explained = left_by_others - left
    if explained <= _ROUNDING_OF_DIFFERENCES * left_by_others:
        explained = 0.0
    rest, rest_degrees = residual
    error = rest / rest_degrees if rest_degrees else None
    f = None
    if degrees and error:
        f = explained / degrees / error
    omega_squared = None
    if error is not None and whole + error:
        omega_squared = max(0.0, (explained - degrees * error) / (whole + error))
    return Effect(
        name=" x ".join(term),
        degrees=degrees,
        sum_of_squares=explained,
        f=f,
        p=None if f is None else float(special.fdtrc(degrees, rest_degrees, f)),
        eta_squared=explained / whole if whole else None,
        partial_eta_squared=explained / (explained + rest) if explained + rest else None,
        omega_squared=omega_squared,
    )


def _cells(levels: Sequence[Sequence[str]]) -> np.ndarray:
    """Number the combinations of levels that occur from 1; their indicators span the term and all it contains."""
    number_of: dict[tuple[str, ...], int] = {}
    numbers = []
    for combination in zip(*levels, strict=True):
        numbers.append(number_of.setdefault(combination, 1 + len(number_of)))
    return np.array(numbers)


def _fit(data: np.ndarray, terms: Sequence[np.ndarray]) -> tuple[float, int]:
    """Fit a mean and the cells of these terms (none: the mean) by least squares; return what is left and the rank.

    What is left is the residual sum of squares, 0 where it is only rounding.
    """
    widths = [int(cells.max()) for cells in terms]
    ends = np.cumsum([1, *widths])
    # Each value has one column of each term: 0 is the mean, and the columns of a term follow those of the term before.
    columns = [np.zeros(len(data), int)]
    for cells, end_before in zip(terms, ends[:-1], strict=True):
        columns.append(cells + end_before - 1)
    rest = data - data.mean()
    # Normal equations: their entries are counts, which are exact, and there are far fewer columns than values.
    products = np.zeros((ends[-1], ends[-1]))
    right = np.zeros(ends[-1])
    for column in columns:
        right += np.bincount(column, rest, ends[-1])
        for other in columns:
            np.add.at(products, (column, other), 1.0)
    # Cholesky's factors with the largest column first: the first `rank` columns span all of them.
    factor, order, rank, _ = linalg.lapack.dpstrf(products, tol=_RANK_TOLERANCE * products.max())
    spanning = order[:rank] - 1
    solution = np.zeros(ends[-1])
    solution[spanning] = linalg.cho_solve((factor[:rank, :rank], False), right[spanning])
    left = float(((rest - solution[np.stack(columns)].sum(axis=0)) ** 2).sum())
    return (left if left > _ROUNDING * float(data @ data) else 0.0), int(rank)
