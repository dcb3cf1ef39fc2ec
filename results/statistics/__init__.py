"""Statistics on plain numbers, by subject. docs/statistics.md says what each means and when it applies."""

from results.sign_flip import DRAWS, EXACT_UP_TO, SIGNIFICANCE, pairs_needed, smallest_p
from results.statistics.fronts import FRONT_DRAWS, front_shares, on_front
from results.statistics.images import Crossed, McNemar, mcnemar, over_seeds_and_images
from results.statistics.means import (
    BOOTSTRAP_FROM,
    LEVEL,
    Mean,
    Summary,
    iqm_interval,
    mean_interval,
    stratified_mean,
    summary,
)
from results.statistics.pairs import (
    Paired,
    Share,
    compare_pairs,
    doubts,
    holm,
    pairs_text,
    sign_flip_p,
    wilson,
)
from results.statistics.paths import best_stop_rule, patience_rule, score_at, stop_rule
from results.statistics.power import POWER, detectable_effect, largest_deviation, pairs_for, power_of_pairs
from results.statistics.variance import Anova, Effect, anova
from results.statistics.with_best import with_best_p

__all__ = [
    "BOOTSTRAP_FROM", "DRAWS", "EXACT_UP_TO", "FRONT_DRAWS", "LEVEL", "POWER", "SIGNIFICANCE", "Anova", "Crossed",
    "Effect", "McNemar", "Mean", "Paired", "Share", "Summary", "anova", "best_stop_rule",
    "detectable_effect", "doubts", "front_shares", "holm", "iqm_interval", "largest_deviation", "mcnemar",
    "mean_interval", "on_front", "over_seeds_and_images", "compare_pairs", "pairs_for", "pairs_text", "pairs_needed",
    "patience_rule", "power_of_pairs", "score_at", "sign_flip_p", "smallest_p", "stop_rule", "stratified_mean",
    "summary", "wilson", "with_best_p",
]  # fmt: skip
