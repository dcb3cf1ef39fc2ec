"""Explain SLURM's usual reasons why a job waits or ended, and the usual refusals of sbatch; others stay as they are.

Names and sentences are those of SLURM 20.02 to 25.11: the tables in its `job_state_reason.c` (before 23.11 in
`slurm_protocol_defs.c`) and `slurm_errno.c`.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

from transtailor.documents import read_toml
from transtailor.lines import lines_of

# Limits of accounting of one job alone, such as QOSMaxGRESPerJob and QOSMinCpuNotSatisfied; others may end.
OF_ONE_JOB = re.compile(r"(Assoc|QOS)(Max\w+Per(Job|Node)(Limit)?|MaxWall\w+|Min\w+)", re.IGNORECASE)
SAYS = re.compile(r"^(sbatch: |error: |fatal: |Batch job submission failed: |allocation failure: )+", re.IGNORECASE)


@cache
def explanations() -> dict[str, Any]:
    """Return what SLURM's reasons and refusals mean, from the file `explanations.toml`."""
    return read_toml(Path(__file__).with_name("explanations.toml"))


def explain_reason(reason: str) -> str | None:
    """Return what a reason of squeue means, and what to change if that is needed; None if it is none of the usual.

    >>> explain_reason("PartitionTimeLimit"), explain_reason("QOSMaxCpuPerUserLimit")
    ('its walltime is longer than its partition allows: lower walltime_min', None)
    """
    explanation: str | None = explanations()["reasons"].get(_code_of(reason))
    return explanation


def never_ends(reason: str) -> bool:
    """Whether a job with this reason starts only after someone has changed or released it.

    >>> never_ends("QOSMaxGRESPerJob"), never_ends("QOSMaxGRESPerUser")
    (True, False)
    """
    code = _code_of(reason)
    return code in explanations()["for_good"] or OF_ONE_JOB.fullmatch(code) is not None


def explain_refusal(error: str) -> str | None:
    """Return what to do about a refusal of sbatch, by the first line that is a usual sentence of SLURM's own, or None.

    A site's own filter says what it likes, so its lines are not interpreted.

        >>> explain_refusal("sbatch: error: Batch job submission failed: Invalid partition name specified")
        'partition is wrong: sinfo --summarize lists them'

    Args:
        error: what sbatch has printed.
    """
    sentences = explanations()["sentences"]
    said = (SAYS.sub("", line.strip()) for line in lines_of(error))
    return next((str(sentences[sentence]) for sentence in said if sentence in sentences), None)


def _code_of(reason: str) -> str:
    """Return SLURM's code of a reason, without additions of some versions, such as names of nodes."""
    words = reason.replace("_", " ").strip("()")
    return words if words in explanations()["reasons"] else re.split(r",| \(", words)[0]
