"""The statistics keep what they claim, by simulation with a fixed seed; the page coverage.md has more repeats."""

import pytest

from benchmarks.coverage import Case, cases, rate

REPEATS = 400
SECONDS = "46 arms, 10 seeds"  # seconds for each, and 6 seeds are alike
CLAIMS = [
    pytest.param(
        case,
        id=f"{case.what}, {case.n}, {case.world}",
        marks=[pytest.mark.long] if case.n == SECONDS else [],
    )
    for case in cases()
    if case.claimed is not None and "skewed" not in case.world
]


@pytest.mark.parametrize("case", CLAIMS)
def test_what_is_claimed_is_kept(case: Case) -> None:
    """Intervals and power reach what is claimed and tests do not err more often, up to 3.5 standard errors."""
    assert case.claimed is not None
    found, count = rate(case, REPEATS)
    slack = 3.5 * (case.claimed * (1 - case.claimed) / count) ** 0.5
    if case.claimed > 0.5:
        assert found >= case.claimed - slack
    else:
        assert found <= case.claimed + slack


def test_an_interval_that_is_too_short_would_be_seen() -> None:
    """The same simulation finds the normal's quantile in the place of t's: 81% at three values."""
    import numpy as np

    def too_short(generator: np.random.Generator) -> bool:
        values = generator.normal(0, 1, 3)
        return bool(abs(values.mean()) <= 1.96 * values.std(ddof=1) / 3**0.5)

    case = Case(what="", n="3", world="normal", claimed=0.95, hit=too_short)
    found, count = rate(case, REPEATS)
    assert found < 0.95 - 3.5 * (0.95 * 0.05 / count) ** 0.5
