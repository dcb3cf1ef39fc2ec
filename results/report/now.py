"""While the sweep runs: how far it is, what it will still take, the best so far, what runs where, the last events."""

from collections.abc import Iterator
from typing import Any

from results.arms.counts import planned_seeds
from results.arms.findings import Findings
from results.questions.costs import hours_text, time_unit
from results.render.blocks import Section, Words, listing
from results.store.completeness import TRIAL_STATES

TO_COME = f"""
WITH states AS ({TRIAL_STATES}), ended AS (
    SELECT network, dataset, train_images, arm, avg(seconds) AS mean_s
    FROM states WHERE seconds IS NOT NULL GROUP BY ALL
)
SELECT count(*) FILTER (state = 'missing') AS missing, count(*) FILTER (state = 'resting') AS resting,
    count(*) FILTER (state = 'stopped') AS stopped, (SELECT sum(seconds) FROM trials) / 3600 AS hours,
    sum(coalesce(mean_s, (SELECT avg(seconds) FROM trials))) FILTER (state = 'missing') / 3600 AS hours_to_come,
    (SELECT count(*) FROM attempts WHERE status = 'running') AS running
FROM states LEFT JOIN ended ON (states.network, states.dataset, states.train_images, states.arm)
    IS NOT DISTINCT FROM (ended.network, ended.dataset, ended.train_images, ended.arm)
"""
"""A trial to come is expected to take as long as the mean of its arm that has ended, else as the mean of all."""
RUNNING = """
SELECT coalesce(array_to_string(list_sort(list_distinct(nodes)), ' + '), host) AS machine, arm, seed,
    trial_id, attempt, strftime(started_at, '%Y-%m-%d %H:%M:%S UTC') AS since
FROM attempts LEFT JOIN planned USING (trial_id) WHERE attempts.status = 'running' ORDER BY ALL
"""
LAST_EVENTS = """
SELECT strftime(happened_at, '%Y-%m-%d %H:%M:%S UTC') AS "at", kind, node, slots, detail FROM events
ORDER BY happened_at DESC, number DESC LIMIT 8
"""


def section(findings: Findings) -> Section | None:
    """Tell how far the sweep is; None when no planned trial is missing or rests."""
    run = findings.run
    (row,) = run.rows(TO_COME)
    if not row["missing"] and not row["resting"]:
        return None
    section_now = Section("now", "While it runs", short="Now")
    section_now.blocks.append(Words(" ".join(_how_far(row, time_unit(run)))))
    planned = planned_seeds(run)
    for problem in findings.problems:
        first_ranked = [arm for arm in findings.arms if arm.problem == problem and arm.rank == 1]
        if not first_ranked:
            continue
        best = first_ranked[0]
        seeds = planned.get((problem, best.name))
        of = f" of {len(seeds)}" if seeds else ""
        scale = findings.scales[problem]
        section_now.blocks.append(
            Words(
                f"Best so far by validation on {problem}: {best}, {scale.value(best.validation.mean)}{scale.unit}"
                f" over {best.validation.n}{of} seeds."
            )
        )
    tables = [listing(run, RUNNING, "Running"), listing(run, LAST_EVENTS, "Last events")]
    section_now.blocks += [block for block in tables if block.table.rows]
    return section_now


def _how_far(row: dict[str, Any], unit: tuple[float, str]) -> Iterator[str]:
    """Write a sentence for each of: what has ended, what is to come, what rests, what is stopped."""
    if row["hours"]:
        yield f"The trials that have ended took {hours_text(row['hours'], unit)}."
    to_come = row["hours_to_come"]
    running = row["running"]
    at_once = f", or {hours_text(to_come / running, unit)} with {running} at once" if to_come and running else ""
    expected = f", expected to take {hours_text(to_come, unit)}{at_once}" if to_come else ""
    yield f"Still to come: {row['missing']}{expected}."
    if row["resting"]:
        yield f"Resting at a rung, from which the best continue: {row['resting']}."
    if row["stopped"]:
        yield f"Stopped by the search: {row['stopped']}."
