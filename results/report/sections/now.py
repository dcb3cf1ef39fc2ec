"""While the sweep runs: how far it is, what it will still take, the best so far, what runs where, the last events."""

from results.arms.counts import trial_counts
from results.arms.findings import Findings
from results.plot.costs import time_unit
from results.report.elements.blocks import Section, Words, listing
from results.report.sections.costs import hours_text

TO_COME = """
WITH ended AS (
    SELECT network, label, avg(seconds) AS mean_s FROM planned JOIN trials USING (trial_id) GROUP BY ALL
)
SELECT count(*) AS missing, (SELECT sum(seconds) FROM trials) / 3600 AS hours,
    sum(coalesce(mean_s, (SELECT avg(seconds) FROM trials))) / 3600 AS hours_to_come,
    (SELECT count(*) FROM attempts WHERE status = 'running') AS running
FROM planned LEFT JOIN ended USING (network, label) WHERE trial_id NOT IN (SELECT trial_id FROM trials)
"""
"""A trial to come is expected to take as long as the mean of its arm that has ended, else as the mean of all."""
RUNNING = """
SELECT coalesce(array_to_string(list_sort(list_distinct(nodes)), ' + '), host) AS machine, label AS arm, seed,
    trial_id, attempt, strftime(started_at, '%Y-%m-%d %H:%M:%S UTC') AS since
FROM attempts LEFT JOIN planned USING (trial_id) WHERE attempts.status = 'running' ORDER BY ALL
"""
LAST_EVENTS = """
SELECT strftime(happened_at, '%Y-%m-%d %H:%M:%S UTC') AS "at", kind, node, slots, detail FROM events
ORDER BY happened_at DESC, number DESC LIMIT 8
"""


def section(found: Findings) -> Section | None:
    """Tell how far the sweep is; None when no planned trial is missing."""
    run = found.run
    (row,) = run.rows(TO_COME)
    if not row["missing"]:
        return None
    made = Section("now", "While it runs", short="Now")
    if row["hours"]:
        unit = time_unit(run)
        at_once = (
            f", or {hours_text(row['hours_to_come'] / max(row['running'], 1), unit)} with {row['running']} at once"
        )
        made.blocks.append(Words(
            f"The trials that have ended took {hours_text(row['hours'], unit)}. Still to come: {row['missing']},"
            f" expected to take {hours_text(row['hours_to_come'], unit)}{at_once if row['running'] else ''}."
        ))  # fmt: skip
    counts = trial_counts(run)
    for problem in found.problems:
        arms = [arm for arm in found.arms if arm.problem == problem and arm.rank == 1]
        for arm in arms[:1]:
            planned = counts.get((problem, arm.label))
            of = f" of {len(planned.seeds)}" if planned else ""
            scale = found.scales[problem]
            made.blocks.append(Words(
                f"Best so far by validation on {problem}: {arm}, {scale.value(arm.validation.mean)}{scale.unit}"
                f" over {len(arm.models_by_seed)}{of} seeds."
            ))  # fmt: skip
    running, events = listing(run, RUNNING, "Running"), listing(run, LAST_EVENTS, "Last events")
    made.blocks += [one for one in (running, events) if one.table.rows]
    return made
