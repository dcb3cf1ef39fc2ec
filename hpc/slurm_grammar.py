"""Read the texts that SLURM's commands print, from 20.02 to 25.11: resources and states. All readers use this.

Lists of nodes, such as "node[1-3,7]", are not read: they are shown, and handed back to SLURM, as it prints them.
"""

import re
from dataclasses import dataclass

NO_CONSUME = "no_consume"  # SLURM then counts no GPU as used
NOT_SET = frozenset(["", "(null)", "n/a", "none"])  # in small letters: the commands differ
TYPE_DIGITS = 3  # a type of digits alone, such as 3090, has at least as many; a node has fewer GPUs


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


def job_state(text: str) -> str:
    """Return the state of a job without what sacct adds to it, as in "CANCELLED by 1000" and "CANCELLED+".

    >>> job_state("CANCELLED by 1000")
    'CANCELLED'
    """
    return text.split()[0].rstrip("+") if text.strip() else ""
