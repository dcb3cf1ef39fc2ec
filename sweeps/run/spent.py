"""The hours that a run has taken, over all launches."""

from results.store.reader import load
from sweeps.run.run_folder import RunFolder
from sweeps.spec.resources import Resources

SPENT = """
SELECT coalesce(sum(seconds), 0) / 3600 AS hours, coalesce(sum(trial_s), 0) * ? / 3600 AS gpu_hours
FROM (
    SELECT epoch(max(coalesce(ended_at, started_at))) - epoch(min(started_at)) AS seconds,
        sum(epoch(coalesce(ended_at, started_at)) - epoch(started_at)) AS trial_s
    FROM attempts GROUP BY driver
)
"""
"""Hours in which launches have run trials, and hours of the GPUs (`?` of each trial) that these had."""


def time_limit_reached(
    run: RunFolder, resources: Resources, *, hours: float | None, gpu_hours: float | None
) -> str | None:
    """Say which limit of time the run has reached, with all launches; None: none."""
    limits = {"hours": hours, "gpu_hours": gpu_hours}
    if not any(limits.values()):
        return None
    with load(run.path) as tables:
        (spent,) = tables.rows(SPENT, [resources.ranks * resources.gpus_per_rank])
    for name, limit in limits.items():
        if limit is not None and spent[name] >= limit:
            return f"{name} = {limit:g} were reached"
    return None
