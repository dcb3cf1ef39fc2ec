"""Errors of sites, SLURM and Ray clusters."""

from transtailor.errors import ExplainedError, UserError


class SiteError(UserError, ValueError):
    """A mistake in a site or in a request to it; the text says what was given, what is expected, and what to do."""


class SlurmError(ExplainedError, RuntimeError):
    """SLURM refused, did not answer in time, or gave an unreadable answer; the text says which and what to do."""


class ClusterError(ExplainedError, RuntimeError):
    """A process of a Ray cluster did not start or join; the text says which one, and where to look."""


class FolderError(ClusterError):
    """A folder that a job needs could not be read or written, or not for too long; the text has the system's error."""


class HeadStartError(ClusterError):
    """A Ray head did not start; the text says where its output is. Another try, on other ports, may succeed."""


class GpuHoursSpentError(UserError, ClusterError):
    """A sweep has used up what the site's `limits.gpu_hours_per_sweep` allows it."""
