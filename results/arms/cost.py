"""What sharing saves: the seconds of all computed stages, compared with each operating point computed alone."""

from dataclasses import dataclass

from results.store.reader import Run

COSTS = """
WITH has AS (
    SELECT arm, stage_key, false AS is_point
    FROM stages JOIN (SELECT trial_id, arm FROM planned UNION SELECT trial_id, arm FROM operating_points)
        USING (trial_id)
    UNION SELECT arm, stage_key, true FROM operating_points
    UNION SELECT NULL, stage_key, false FROM stages
    UNION SELECT NULL, stage_key, true FROM operating_points
), named AS (
    SELECT arm, stage_key FROM has
    UNION SELECT arm, unnest(parents) FROM has JOIN computed_stages USING (stage_key) WHERE NOT is_point
), lost AS (
    SELECT arm, count(*) AS unrecorded FROM named ANTI JOIN computed_stages USING (stage_key) GROUP BY arm
)
SELECT has.arm, count(*) FILTER (NOT is_point) AS stages, count(*) FILTER (is_point) AS points,
    coalesce(sum(each.compute_s) FILTER (NOT is_point), 0) AS shared_s,
    coalesce(sum(alone.compute_s) FILTER (is_point), 0) AS separate_s, coalesce(any_value(unrecorded), 0) AS unrecorded
FROM has LEFT JOIN computed_stages AS each USING (stage_key) LEFT JOIN unshared_costs AS alone USING (stage_key)
    LEFT JOIN lost ON has.arm IS NOT DISTINCT FROM lost.arm
GROUP BY has.arm ORDER BY has.arm
"""
"""Of each arm, and with the arm null of all together."""


@dataclass(frozen=True)
class SharingSavings:
    """Stage-seconds of a set of operating points."""

    stages: int = 0  # distinct stages
    points: int = 0  # distinct operating points
    shared_s: float = 0.0  # each stage once, however many trials needed it
    separate_s: float = 0.0  # each distinct operating point as a trial of its own, from the start
    unrecorded: int = 0  # stages that are a parent or a point and have no row: they count as 0 seconds

    @property
    def ratio(self) -> float | None:
        """separate_s / shared_s; None if nothing was computed."""
        return self.separate_s / self.shared_s if self.shared_s else None


def cost_of_run(run: Run) -> tuple[SharingSavings, dict[str, SharingSavings]]:
    """Compute the cost of the whole run, and of each arm on its own.

    Arms share stages, so their shared seconds add up to more than those of the run.
    """
    whole = SharingSavings()
    by_arm = {}
    for row in run.rows(COSTS):
        arm = row.pop("arm")
        if arm is None:
            whole = SharingSavings(**row)
        else:
            by_arm[arm] = SharingSavings(**row)
    return whole, by_arm
