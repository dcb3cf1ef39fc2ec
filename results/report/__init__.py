"""The report of a run: one self-contained HTML page; every number in it is computed from the run's tables."""

from results.report.page import write_report

__all__ = ["write_report"]
