"""Trials that failed, with their errors, and trials that are missing."""

from dataclasses import replace

from results.arms.findings import Findings
from results.render.blocks import Section, listing
from results.store.completeness import FAILED, MISSING

ERRORS = """
SELECT
    coalesce(nullif(trim(list_last(string_split(rtrim(error, e'\\n '), e'\\n'))), ''), '(empty)') AS last_line,
    count(*) AS trials, list(DISTINCT arm ORDER BY arm)[:8] AS arms
FROM trials LEFT JOIN planned USING (trial_id)
WHERE status = 'failed' GROUP BY last_line ORDER BY trials DESC, last_line
"""
_FOLDED_ABOVE = 20


def section(found: Findings) -> Section:
    """List errors by their last line, then trial by trial."""
    made = Section("failures", "Missing and failed trials", short="Failures")
    run = found.run
    failed, missing = (listing(run, sql, title) for sql, title in ((FAILED, "Failed"), (MISSING, "Missing")))
    if len(failed.table.rows) > 1:
        made.blocks.append(listing(run, ERRORS, "Errors, by their last line"))
    made.blocks += [replace(one, folded=len(one.table.rows) > _FOLDED_ABOVE) for one in (failed, missing)]
    return made
