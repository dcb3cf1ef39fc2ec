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


def section(findings: Findings) -> Section:
    """List errors by their last line, then trial by trial."""
    section_failures = Section("failures", "Missing and failed trials", short="Failures")
    run = findings.run
    failed = listing(run, FAILED, "Failed")
    missing = listing(run, MISSING, "Missing")
    if len(failed.table.rows) > 1:
        section_failures.blocks.append(listing(run, ERRORS, "Errors, by their last line"))
    for block in (failed, missing):
        section_failures.blocks.append(replace(block, folded=len(block.table.rows) > _FOLDED_ABOVE))
    return section_failures
