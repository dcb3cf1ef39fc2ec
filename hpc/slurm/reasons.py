"""Explain SLURM's reasons why a job waits, and the refusals of sbatch, each with the key of a site to change.

Names and sentences are those of SLURM 20.02 to 25.11: the tables in its `job_state_reason.c` (before 23.11 in
`slurm_protocol_defs.c`) and `slurm_errno.c`. Limits of accounting have names that are made of parts: `AccountingLimit`
reads them by these, and the file `explanations.toml` has the rest.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from transtailor.documents import read_toml
from transtailor.lines import lines_of

LIMIT = re.compile(
    r"(?P<owner>Assoc|QOS|)(?P<bound>Grp|Max|Min)"
    r"(?P<what>BB|Billing|CPU|Energy|GRES|Jobs?|License|Mem(?:ory)?|Node|SubmitJobs?|Unknown|Wall(?:Duration)?)"
    r"(?P<running>Run)?(?P<minutes>Minutes)?(?:Per(?P<per>Account|Job|Node|User))?(?:Limit|NotSatisfied)?",
    re.IGNORECASE,
)
RESOURCES = {  # what is limited -> its name, and the keys of a site that ask for it
    "bb": ("burst buffers", "bb in [sbatch]"),
    "billing": ("billing units", "cpus_per_node, memory_gb or gpus_per_node"),
    "cpu": ("CPUs", "cpus_per_node"),
    "energy": ("energy", "walltime_min"),
    "gres": ("GPUs", "gpus_per_node"),
    "license": ("licences", "licenses in [sbatch]"),
    "mem": ("memory", "memory_gb"),
    "memory": ("memory", "memory_gb"),
    "node": ("nodes", ""),
    "unknown": ("other resources", "cpus_per_node, memory_gb or gpus_per_node"),
    "wall": ("walltime", "walltime_min"),
    "wallduration": ("walltime", "walltime_min"),
}
SAYS = re.compile(r"(sbatch: |error: |fatal: |Batch job submission failed: |allocation failure: )+", re.IGNORECASE)
WANTS_GPUS = re.compile(r"\b(gpus?|gres|cpu[- ]only|cpu jobs?)\b", re.IGNORECASE)


@cache
def explanations() -> dict[str, Any]:
    """Return what SLURM's reasons and refusals mean, from the file `explanations.toml`."""
    return read_toml(Path(__file__).with_name("explanations.toml"))


@dataclass(frozen=True)
class AccountingLimit:
    """A limit of accounting, by the parts of its name."""

    owner: str  # "account" or "quality of service"
    bound: str  # "grp", "max" or "min"
    what: str  # a resource, "jobs", or "jobs in the queue"
    is_of_running: bool  # of the time that running jobs still have
    is_of_minutes: bool  # amounts times minutes
    per: str  # "account", "job", "node", "user" or ""

    @property
    def ends(self) -> bool:
        """Whether a job that waits for it may start without a change: the limit is not of one job alone.

        >>> limit_of("QOSMaxGRESPerUser").ends, limit_of("QOSMaxGRESPerJob").ends, limit_of("QOSMinGRES").ends
        (True, False, False)
        """
        is_of_walltime = self.what == "wallduration" or (self.bound == "max" and self.what == "wall")
        return self.bound != "min" and self.per not in ("job", "node") and not is_of_walltime

    def explain(self, *, is_refusal: bool) -> str:
        """Return why a job waits for it, or was refused by it, and what to change.

        >>> limit_of("QOSMaxMemoryPerJob").explain(is_refusal=True)
        'it asks for more memory than its quality of service allows a job: lower memory_gb'
        """
        if "jobs" in self.what:
            return (
                f"{self._users} reached the limit of {self.what} of the {self.owner}: set limits.max_jobs to that "
                f"limit, wait for jobs to end, or set another {self._key}"
            )
        name, keys = RESOURCES[self.what]
        minutes = name if "wall" in self.what else f"{name.removesuffix('s')} minutes"
        if not self.ends:
            return self._excess_of_one_job(name, keys)
        if self.is_of_running:
            return f"the running jobs of {self._pool} have as many {minutes} before them as may be at a time"
        if self.is_of_minutes or self.what == "wall":
            return f"{self._users} used up the {minutes} of the {self.owner}: ask for more, or set another {self._key}"
        if is_refusal:  # sbatch compares the job alone with what all of them may have
            return f"it asks for more {name} than {self._pool} may have at a time: {self._change('lower', keys)}"
        return f"{self._users} reached the limit of {name} of the {self.owner}"

    def _excess_of_one_job(self, name: str, keys: str) -> str:
        if self.bound == "min":
            return f"its {self.owner} wants more {name} of each job: {self._change('raise', keys)}"
        if "wall" in self.what:
            return f"its walltime is longer than its {self.owner} allows: lower walltime_min"
        if self.is_of_minutes:
            return f"its {name} times its walltime are more than its {self.owner} allows a job: lower walltime_min"
        on_a_node = " on a node" if self.per == "node" else ""
        change = self._change("lower", keys)
        return f"it asks for more {name}{on_a_node} than its {self.owner} allows a job: {change}"

    def _change(self, verb: str, keys: str) -> str:
        return f"{verb} {keys}" if keys else f"set another partition or {self._key}, as a worker has one node"

    @property
    def _key(self) -> str:
        return "account" if self.owner == "account" else "qos"

    @property
    def _pool(self) -> str:
        if self.bound == "grp":
            return f"all users of the {self.owner} together"
        return "the account" if self.per == "account" else "you"

    @property
    def _users(self) -> str:
        return f"{self._pool} {'has' if self._pool == 'the account' else 'have'}"


def limit_of(word: str) -> AccountingLimit | None:
    """Return the limit of accounting that a reason of squeue names; None if the reason is no such limit.

    >>> limit_of("AssocGrpCPURunMinutesLimit").what, limit_of("QOSMaxSubmitJobPerUserLimit").what, limit_of("Priority")
    ('cpu', 'jobs in the queue', None)
    """
    match = LIMIT.fullmatch(word)
    if match is None:
        return None
    parts = {name: (part or "").lower() for name, part in match.groupdict().items()}
    has_owner = parts["owner"] != "" or parts["per"] == "account"  # as in MaxJobsPerAccount, which begins without one
    if not has_owner:
        return None
    what = parts["what"]
    if what.startswith("submitjob"):
        what = "jobs in the queue"
    elif what.startswith("job"):
        what = "running jobs"
    return AccountingLimit(
        owner="account" if parts["owner"] == "assoc" else "quality of service",
        bound=parts["bound"],
        what=what,
        is_of_running=bool(parts["running"]),
        is_of_minutes=bool(parts["minutes"]),
        per=parts["per"],
    )


def explain_reason(reason: str, *, is_refusal: bool = False) -> str | None:
    """Return what a reason of squeue means, and what to change if that is needed; None if it is unknown.

    Args:
        reason: as squeue prints it.
        is_refusal: sbatch has refused the job for that reason; otherwise the job waits.

    >>> explain_reason("QOSMaxWallDurationPerJobLimit")
    'its walltime is longer than its quality of service allows: lower walltime_min'
    """
    code = _code_of(reason)
    explanation = explanations()["reasons"].get(code)
    if explanation is not None:
        return str(explanation)
    limit = limit_of(code)
    return None if limit is None else limit.explain(is_refusal=is_refusal)


def never_ends(reason: str) -> bool:
    """Whether a job with this reason starts only after someone has changed or released it."""
    code = _code_of(reason)
    limit = limit_of(code)
    return code in explanations()["for_good"] or (limit is not None and not limit.ends)


def explain_refusal(error: str, gpus: int) -> str | None:
    """Return what to do about a refusal of sbatch; None if it is not known.

    A reason's name decides, wherever it is. Otherwise it is the first line that is known: SLURM's sentences by their
    beginning, and those of a site's own plugin, which vary, by some of their words.

    Args:
        error: what sbatch has printed.
        gpus: how many of each node the job asked for.
    """
    lines = [SAYS.sub("", line.strip(), count=1) for line in lines_of(error) if "warning:" not in line]
    for word in re.findall(r"\w+", error):
        if limit_of(word) is not None:
            return explain_reason(word, is_refusal=True)
    for line in lines:
        if line in explanations()["reasons"]:
            return explain_reason(line)
    return next(_explain_lines(lines, gpus), None)


def _explain_lines(lines: list[str], gpus: int) -> Iterator[str]:
    """Yield what to do about each line that is known."""
    for line in lines:
        for sentence, advice in explanations()["sentences"].items():
            if line.lower().startswith(sentence.lower()):
                yield advice
        if gpus == 0 and WANTS_GPUS.search(line):
            yield explanations()["reasons"]["QOSMinGRES"]
        for words, advice in explanations()["plugins"].items():
            if words.lower() in line.lower():
                yield advice


def _code_of(reason: str) -> str:
    """Return SLURM's code of a reason, without additions of some versions, such as names of nodes."""
    words = reason.replace("_", " ").strip("()")
    return words if words in explanations()["reasons"] else re.split(r",| \(", words)[0]
