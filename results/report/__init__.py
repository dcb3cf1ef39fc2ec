"""The report of a run: one HTML page that needs nothing else, every number in it computed from the run's tables."""

from results.report.page import write_report
from results.report.watch import watch

__all__ = ["watch", "write_report"]
