"""What a sign-flip test can reach with n pairs, for tables and for plans. No numpy: `--plan` starts fast."""

import math

SIGNIFICANCE = 0.05
EXACT_UP_TO = 12
"""Up to this many pairs all 2^n sign patterns are counted; above, patterns are drawn."""
DRAWS = 9_999
LOOKS = (10, 13, 18, 25, 35, 50)
"""Numbers of seeds at which comparisons are looked at while seeds are added. Fewer than 10 can hardly settle one of ten
comparisons, and each look has about a third more than the one before."""


def smallest_p(n: int) -> float:
    """Return the smallest two-sided p that a sign-flip test of n pairs can reach: twice that of all signs equal."""
    reachable = min(1.0, 2 / (1 << n))
    return reachable if n <= EXACT_UP_TO else max(reachable, 1 / (DRAWS + 1))


def pairs_needed(significance: float = SIGNIFICANCE) -> int:
    """Return the fewest pairs with which a sign-flip test can reach that p: 6 for 0.05."""
    return math.ceil(round(math.log2(2 / significance), 9))
