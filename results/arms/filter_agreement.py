"""Which filters sub-models keep, and how far two of them agree on that: overlaps, and what chance alone would give.

Two sub-models are compared where their filters are the same ones: where both were pruned from one source stage (the
same weights, so that filter 7 of a layer is one filter to both). What was pruned from another source is compared with
nothing, because the order of its filters means nothing there.
"""

from typing import Any

from results.store.reader import Run

MOST_SEEDS = 32
"""Of each label so many seeds are compared, the first: pairs grow with their square."""

PAIRS = """
WITH source AS (
    SELECT trial_id, any_value(stage_key) AS source FROM stages WHERE len(parents) = 0
    GROUP BY trial_id HAVING count(*) = 1
), ends AS (
    SELECT label, seed, trial_id, point, validation_score FROM operating_points
    WHERE {where} AND (abs(asked_removed_macs_fraction - {asked}) < 1e-6 OR asked_removed_macs_fraction IS NULL)
    QUALIFY row_number() OVER (PARTITION BY trial_id ORDER BY point DESC) = 1
), chosen AS (
    SELECT * FROM ends JOIN source USING (trial_id)
    QUALIFY dense_rank() OVER (PARTITION BY label ORDER BY seed) <= {most_seeds} AND row_number() OVER (
        PARTITION BY label, seed
        ORDER BY CASE WHEN isfinite(validation_score) THEN 0 ELSE 1 END, validation_score DESC, trial_id) = 1
), selected AS (
    SELECT label, seed, source, layer, "order", original_width AS filters, count(*) AS kept,
        bitstring_agg(place, 0, {last_place}) AS bits
    FROM (
        SELECT label, seed, source, layer, "order", original_width, unnest(filters) AS place
        FROM chosen JOIN layers USING (trial_id, point) JOIN kept_filters USING (trial_id, point, layer)
    ) GROUP BY ALL
), pairs AS (
    SELECT one.label, other.label AS other_label, one.seed, other.seed AS other_seed, layer, one."order", one.filters,
        one.kept, other.kept AS other_kept, bit_count(one.bits & other.bits) AS shared
    FROM selected AS one JOIN selected AS other USING (source, layer, seed) WHERE one.label < other.label
    UNION ALL
    SELECT one.label, other.label, one.seed, other.seed, layer, one."order", one.filters,
        one.kept, other.kept, bit_count(one.bits & other.bits)
    FROM selected AS one JOIN selected AS other USING (source, layer, label) WHERE one.seed < other.seed
), agreed AS (
    SELECT *, kept * other_kept / filters AS shared_by_chance,
        2 * (filters * shared - kept * other_kept) / (filters * (kept + other_kept) - 2 * kept * other_kept) AS kappa
    FROM pairs
)
"""
"""Pairs of sub-models layer by layer (`agreed`): two labels with one seed, or two seeds of one label.

`shared` counts the filters that both keep. Two selections of `kept` and `other_kept` out of `filters` that know nothing
of each other share kept * other_kept / filters by chance, the mean of the hypergeometric distribution.
`kappa` is Cohen's: (p_o - p_e) / (1 - p_e), where p_o is the share of filters that both keep or both remove, and p_e
that share by chance. 1: the same filters; 0: as chance would have it, whatever the two sizes are; below 0: fewer.

Layers that lost filters in both count, no others: where all are left there is nothing to agree on. Of several trials of
one label and seed, the best by validation counts.
"""

OF_SEEDS = """
SELECT label, layer, min("order") AS "order", max(filters) AS filters, count(*) AS pairs_of_seeds,
    avg(kept + other_kept) / 2 AS mean_kept, avg(shared) AS mean_shared, avg(shared_by_chance) AS shared_by_chance,
    avg(kappa) AS kappa
FROM agreed WHERE label = other_label
GROUP BY label, layer ORDER BY label, "order", layer
"""
"""How far the seeds of each label agree, layer by layer: the mean over pairs of seeds (Light's kappa)."""

OF_LABELS = """
SELECT label, other_label, count(DISTINCT layer) AS layers, count(DISTINCT (seed, other_seed)) AS pairs,
    sum(shared) / sum(least(kept, other_kept)) AS overlap_fraction,
    sum(shared_by_chance) / sum(least(kept, other_kept)) AS overlap_by_chance_fraction, avg(kappa) AS kappa
FROM agreed
GROUP BY label, other_label ORDER BY label, other_label
"""
"""How far two labels agree: the mean over layers and the seeds that both have; of a label with itself, over pairs of
its seeds. The overlap is the share of the smaller selection that is in both (the overlap coefficient)."""


def agreement_sql(run: Run, answer: str, *, where: str, asked: float) -> str:
    """The query for one of `OF_SEEDS` and `OF_LABELS`, which runs alone.

    Args:
        run: that it is for: the widest layer says how long selections are.
        answer: what stands behind `PAIRS`.
        where: condition on rows of `operating_points`; labels are compared within it, so name one network.
        asked: share of the MACs that was to be removed; what a rule decided counts, too.
    """
    (row,) = run.rows("SELECT coalesce(max(original_width), 1) - 1 AS last_place FROM layers")
    pairs = PAIRS.format(where=where, asked=repr(asked), most_seeds=MOST_SEEDS, last_place=row["last_place"])
    return pairs + answer


def agreement_of_labels(run: Run, *, where: str, asked: float) -> list[dict[str, Any]]:
    """The records of `OF_LABELS`; pairs that have no layer in common, or no source, are not there.

    Raises:
        ResultsError: the condition is no SQL.
    """
    return run.rows(agreement_sql(run, OF_LABELS, where=where, asked=asked))


def agreement_of_seeds(run: Run, *, where: str, asked: float) -> list[dict[str, Any]]:
    """The records of `OF_SEEDS`; labels with one seed, and seeds with sources of their own, are not there.

    Raises:
        ResultsError: the condition is no SQL.
    """
    return run.rows(agreement_sql(run, OF_SEEDS, where=where, asked=asked))
