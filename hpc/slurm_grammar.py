"""Read the texts that SLURM's commands print, from 20.02 to 25.11: resources, times and states. All readers use this.

Lists of nodes, such as "node[1-3,7]", are not read: they are shown, and handed back to SLURM, as it prints them.
"""

import re
from dataclasses import dataclass

NO_CONSUME = "no_consume"  # SLURM then counts no GPU as used
NOT_SET = frozenset(["", "(null)", "n/a", "none"])  # in small letters: the commands differ
NO_LIMIT = NOT_SET | {"infinite", "unlimited"}
TYPE_DIGITS = 3  # a type of digits alone, such as 3090, has at least as many; a node has fewer GPUs
UNITS_MB = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2, "P": 1024.0**3}
UNUSABLE_STATES = frozenset(
    ["down", "drain", "drained", "draining", "error", "fail", "failing", "future", "inval", "unknown"]
)
UNUSABLE_FLAGS = UNUSABLE_STATES | {"invalid_reg"}  # not NOT_RESPONDING, which nodes have also while they boot


@dataclass(frozen=True)
class Gres:
    """One entry of a node's list of generic resources."""

    name: str
    type: str | None
    count: int
    is_consumed: bool = True  # else SLURM gives the same resource to many jobs

    @property
    def kind(self) -> str:
        """What a job asks for, without the number: "gpu" or "gpu:a100"."""
        return self.name if self.type is None else f"{self.name}:{self.type}"


def gres_of(text: str) -> list[Gres]:
    """Return the generic resources of a node, as sinfo (`%G`, GresUsed) and scontrol (`Gres=`) print them.

    Sockets, as `(S:0-1)`, and indices, as `(IDX:0,2)`, are left out, and so are resources without a count.

        >>> gres_of("gpu:3090:8(S:0-1),shard:32")
        [Gres(name='gpu', type='3090', count=8, is_consumed=True), Gres(name='shard', type=None, count=32, \
is_consumed=True)]
        >>> gres_of("gpu:(null):2(IDX:0-1)")
        [Gres(name='gpu', type=None, count=2, is_consumed=True)]
    """
    resources = []
    without_brackets = re.sub(r"\((?:S|IDX|CNT):[^)]*\)", "", text)  # these have commas
    for entry in without_brackets.split(","):
        name, *words = entry.strip().split(":")
        is_consumed = NO_CONSUME not in words
        words = [word for word in words if word != NO_CONSUME]
        count = re.fullmatch(r"(\d+)([KMG]?)", words[-1]) if words else None
        if count is None:
            continue
        has_type = len(words) > 1 and words[0].lower() not in NOT_SET
        number = int(count[1]) * 1024 ** " KMG".index(count[2] or " ")
        resources.append(Gres(name, words[0] if has_type else None, number, is_consumed))
    return resources


def is_gres_kind(text: str) -> bool:
    """Whether a text names a resource as a job asks for it, without the number.

    >>> [is_gres_kind(text) for text in ("gpu", "gpu:a100", "gpu:3090", "gpu:4", "gpu:a100:4")]
    [True, True, True, False, False]
    """
    match = re.fullmatch(r"\w+(?::([\w.-]+))?", text)
    if match is None:
        return False
    gres_type = match[1]
    return gres_type is None or not gres_type.isdecimal() or len(gres_type) >= TYPE_DIGITS


def minutes_of(limit: str) -> int | None:
    """Return a limit of time in whole minutes; None if there is none.

    sinfo prints D-H:M:S, H:M:S or M:S; sacctmgr and scontrol the same, and administrators also write M, D-H and D-H:M.

        >>> minutes_of("1-12:30:00")
        2190
        >>> minutes_of("UNLIMITED")

    Raises:
        ValueError: the text has none of these forms.
    """
    if limit.strip().lower() in NO_LIMIT:
        return None
    match = re.fullmatch(r"(?:(\d+)-(\d+)(?::(\d+))?(?::\d+)?|(?:(\d+):)?(\d+):\d+|(\d+))", limit.strip())
    if match is None:
        raise ValueError(f"{limit!r} is no limit of time, such as 1-00:00:00, 30:00 or infinite")
    # Of the three forms only the parts of one are there: D-H:M, H:M:S or M.
    days, day_hours, day_minutes, hours, minutes, only_minutes = (int(part or 0) for part in match.groups())
    return (days * 24 + day_hours + hours) * 60 + day_minutes + minutes + only_minutes


def count_of(text: str) -> int | None:
    """Return a number, also of the form "64+", the least of several nodes; None if it is not set or has no limit.

    >>> count_of("64+"), count_of("UNLIMITED"), count_of("n/a")
    (64, None, None)
    """
    match = re.fullmatch(r"(\d+)\+?", text.strip())
    return int(match[1]) if match else None


def memory_mb(text: str) -> int | None:
    """Return an amount of memory in MB (2**20 bytes); None if it is not set or has no limit. MB is the default unit.

    >>> memory_mb("240G"), memory_mb("256000+"), memory_mb("UNLIMITED")
    (245760, 256000, None)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGTP]?)\+?", text.strip())
    return int(float(match[1]) * UNITS_MB[match[2] or "M"]) if match else None


def tres_of(text: str) -> dict[str, int]:
    """Return trackable resources and their amounts, memory in MB, as sacctmgr (MaxTRES) and scontrol (TRES) print them.

    >>> tres_of("cpu=64,mem=240G,node=1,gres/gpu=4,gres/gpu:3090=4")
    {'cpu': 64, 'mem': 245760, 'node': 1, 'gres/gpu': 4, 'gres/gpu:3090': 4}
    """
    amounts = {}
    for entry in text.split(","):
        name, _, amount = entry.strip().partition("=")
        number = memory_mb(amount) if name == "mem" else count_of(amount)
        if number is not None:
            amounts[name] = number
    return amounts


def is_node_usable(state: str) -> bool:
    """Whether jobs can run on a node now or later, by its state in sinfo (`idle~`) or scontrol (`IDLE+CLOUD`).

    >>> [is_node_usable(state) for state in ("mixed-", "IDLE+CLOUD+POWERED_DOWN", "idle~", "down*", "IDLE+DRAIN")]
    [True, True, True, False, False]
    """
    base, *flags = state.lower().split("+")
    return base.rstrip("*~#!%$@^-") not in UNUSABLE_STATES and not UNUSABLE_FLAGS.intersection(flags)


def job_state(text: str) -> str:
    """Return the state of a job without what sacct adds to it, as in "CANCELLED by 1000" and "CANCELLED+".

    >>> job_state("CANCELLED by 1000")
    'CANCELLED'
    """
    return text.split()[0].rstrip("+") if text.strip() else ""
