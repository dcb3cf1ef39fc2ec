"""Which filters sub-models keep, and how far two sub-models agree on them, compared with chance.

Two sub-models are compared only if both were pruned from one source stage: then they start from the same weights, and
filter 7 of a layer is the same filter in both. Filters of different sources have no common order.
"""

from results.store.reader import Run

MOST_SEEDS = 32
"""Only this many seeds of each arm are compared, the first ones: the number of pairs grows with their square."""

PAIRS = """
WITH source AS (
    SELECT trial_id, any_value(stage_key) AS source FROM stages WHERE len(parents) = 0
    GROUP BY trial_id HAVING count(*) = 1
), ends AS (
    SELECT arm, seed, trial_id, point, validation_score FROM compared_points
    WHERE is_compared AND {where}
        AND (abs(asked_removed_macs_fraction - {asked}) < 1e-6 OR asked_removed_macs_fraction IS NULL)
    QUALIFY row_number() OVER (PARTITION BY trial_id ORDER BY point DESC) = 1
), chosen AS (
    SELECT * FROM ends JOIN source USING (trial_id)
    QUALIFY dense_rank() OVER (PARTITION BY arm ORDER BY seed) <= {most_seeds} AND row_number() OVER (
        PARTITION BY arm, seed
        ORDER BY CASE WHEN isfinite(validation_score) THEN 0 ELSE 1 END, validation_score DESC, trial_id) = 1
), selected AS (
    SELECT arm, seed, source, layer, "order", original_width AS filters, count(*) AS kept,
        bitstring_agg(place, 0, {last_place}) AS bits
    FROM (
        SELECT arm, seed, source, layer, "order", original_width, unnest(filters) AS place
        FROM chosen JOIN layers USING (trial_id, point) JOIN kept_filters USING (trial_id, point, layer)
    ) GROUP BY ALL
), pairs AS (
    SELECT one.arm, other.arm AS other_arm, one.seed, other.seed AS other_seed, layer, one."order", one.filters,
        one.kept, other.kept AS other_kept, bit_count(one.bits & other.bits) AS shared
    FROM selected AS one JOIN selected AS other USING (source, layer, seed) WHERE one.arm < other.arm
    UNION ALL
    SELECT one.arm, other.arm, one.seed, other.seed, layer, one."order", one.filters,
        one.kept, other.kept, bit_count(one.bits & other.bits)
    FROM selected AS one JOIN selected AS other USING (source, layer, arm) WHERE one.seed < other.seed
), agreed AS (
    SELECT *, kept * other_kept / filters AS shared_by_chance,
        2 * (filters * shared - kept * other_kept) / (filters * (kept + other_kept) - 2 * kept * other_kept) AS kappa
    FROM pairs
)
"""
"""Pairs of sub-models layer by layer (`agreed`): two arms with one seed, or two seeds of one arm.

`shared` counts the filters that both keep. Two independent selections of `kept` and `other_kept` out of `filters` share
kept * other_kept / filters by chance, the mean of the hypergeometric distribution.
`kappa` is Cohen's: (p_o - p_e) / (1 - p_e), where p_o is the share of filters that both keep or both remove, and p_e
that share by chance. 1: the same filters; 0: as by chance, for any two sizes; below 0: fewer than by chance.

Only layers that lost filters in both count. Of several trials of one arm and seed, the best by validation counts.
"""

OF_SEEDS = """
SELECT arm, layer, min("order") AS "order", max(filters) AS filters, count(*) AS pairs_of_seeds,
    avg(kept + other_kept) / 2 AS mean_kept, avg(shared) AS mean_shared, avg(shared_by_chance) AS shared_by_chance,
    avg(kappa) AS kappa
FROM agreed WHERE arm = other_arm
GROUP BY arm, layer ORDER BY arm, "order", layer
"""
"""How far the seeds of each arm agree, layer by layer: the mean over pairs of seeds (Light's kappa)."""

OF_ARMS = """
SELECT arm, other_arm, count(DISTINCT layer) AS layers, count(DISTINCT (seed, other_seed)) AS pairs,
    sum(shared) / sum(least(kept, other_kept)) AS overlap_fraction,
    sum(shared_by_chance) / sum(least(kept, other_kept)) AS overlap_by_chance_fraction, avg(kappa) AS kappa
FROM agreed
GROUP BY arm, other_arm ORDER BY arm, other_arm
"""
"""How far two arms agree: the mean over layers and common seeds (for a arm with itself, over pairs of its seeds).
The overlap is the share of the smaller selection that is in both (the overlap coefficient)."""


def agreement_sql(run: Run, answer: str, *, where: str, asked: float) -> str:
    """Return the complete query for `OF_SEEDS` or `OF_ARMS`; without pairs that have no common layer or source.

    Args:
        run: its widest layer sets the length of the bit strings.
        answer: the SELECT that follows `PAIRS`.
        where: condition on rows of `operating_points`; arms are compared within it, so name one network.
        asked: share of the MACs to remove; points whose budget a rule decided are included.
    """
    (row,) = run.rows("SELECT coalesce(max(original_width), 1) - 1 AS last_place FROM layers")
    pairs = PAIRS.format(where=where, asked=repr(asked), most_seeds=MOST_SEEDS, last_place=row["last_place"])
    return pairs + answer
