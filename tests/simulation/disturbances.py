"""What may happen on a day, drawn from its seed: biased to moments at which something is half done, and to pairs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from tests.simulation.kinds import Kind

HOWS: Mapping[str, int] = {
    "kill": 4, "kill launcher": 4, "power": 8, "kill slot": 3, "kill rank": 4, "cut off": 4, "node": 3, "drain": 5,
    "stop": 3, "stop twice": 1, "ENOSPC": 4, "EROFS": 1, "ESTALE": 1, "EIO": 2, "full": 1, "clock back": 3,
    "clock ahead": 1, "hang": 2, "slow": 1, "late": 1, "no start": 2, "second launch": 3, "frozen": 3, "damage": 3,
    "extend": 2, "code": 1,
}  # fmt: skip
"""How often each is drawn, in relation to the others."""
SLURM_HOWS: Mapping[str, int] = {
    "kill": 2, "power": 4, "kill launcher": 4, "kill rank": 2, "kill slot": 1, "cut off": 2, "kill job": 4,
    "kill ray": 4, "host off": 5, "host cut": 5, "preempt": 3, "leave": 4, "walltime": 4, "commands": 7, "damage": 1,
    "queue stands": 2, "stop": 3, "ENOSPC": 2, "EIO": 2, "ESTALE": 2, "clock back": 3, "clock ahead": 2, "hang": 1,
    "late": 1, "second launch": 2, "extend": 1, "code": 1,
}  # fmt: skip
"""The same on a day on SLURM."""
FOLLOWS: Mapping[str, Sequence[str]] = {
    "clock back": ("kill launcher", "kill", "power", "kill job", "host off", "commands"), "kill rank": ("power",),
    "cut off": ("power", "stop"), "host cut": ("walltime", "kill job"), "commands": ("kill ray", "walltime", "stop"),
    "queue stands": ("clock back", "walltime", "kill job"), "walltime": ("clock back", "host off"),
    "node": ("power",), "extend": ("kill", "power"), "ENOSPC": ("kill launcher",), "no start": ("stop",),
}  # fmt: skip
"""What is worst after another one."""
WORST: Mapping[str, str] = {
    "power": "fsync|replace|link", "ENOSPC": "write|fsync runs/day/", "kill rank": "fsync shared",
    "cut off": "shared/cache", "node": "shared/cache", "drain": "shared/cache", "hang": "shared/cache",
    "stop": "shared/cache", "second launch": "writing|shared/cache", "clock back": "attempts",
    "frozen": "replace runs/day/tables|runs/day/.writing",
}  # fmt: skip
"""Before which changes it is worst, as an expression for event and place."""
WORST_FRACTION = 0.6
FOLLOWS_FRACTION = 0.4  # of disturbances that come after one of these
TABLE = re.compile(r"(?<=/tables/)\w+(?:/[\w*-]+\.parquet)?|(?<=/\.writing/\*/)[\w*-]+\.parquet")
MOST = 5
NEAR = 25  # changes of files between two disturbances that belong together
NEAR_FRACTION = 0.5  # of disturbances that follow another one


@dataclass(frozen=True)
class Disturbance:
    """Something that happens before a file is changed, after the disturbance before it.

    Attributes:
        how: one of `HOWS`.
        event, place: before which kind of change; with an empty event, before any.
        nth: before the how-manieth such change since the last disturbance, or since the launch began.
        seed: of what it leaves to chance.
    """

    how: str
    event: str
    place: str
    nth: int
    seed: int

    def __str__(self) -> str:
        return f"{self.how} before {f'{self.event} {self.place}' if self.event else 'a change'} [{self.nth}]"


def drawn(
    seed: int, moments: Sequence[tuple[str, str]], later: Sequence[tuple[str, str]], kind: Kind = "grid"
) -> tuple[Disturbance, ...]:
    """The disturbances of a seed.

    Args:
        moments: event and place of each change of an undisturbed launch.
        later: of a launch that extends the run; what is only there is disturbed after an extension. Empty: the day has
            no extension but after the sweep has finished.
    """
    hows = dict(SLURM_HOWS if "slurm" in kind else HOWS)
    if "search" in kind:
        hows.pop("extend", None)  # a search of more settings is another search
    chance = Random(f"disturbances {seed}")
    found: list[Disturbance] = []
    for number in range(chance.randint(1, MOST)):
        follows = FOLLOWS.get(found[-1].how, ()) if found and chance.random() < FOLLOWS_FRACTION else ()
        follows = [how for how in follows if how in hows]
        (how,) = [chance.choice(follows)] if follows else chance.choices(list(hows), list(hows.values()))
        if number and chance.random() < NEAR_FRACTION:
            event, place, nth = "", "", chance.randint(0, NEAR)
        else:
            possible = tuple(moments) if not number else (*moments, *later)
            event, place = _moment(chance, possible, how, is_first=not number)
            times = (moments if (event, place) in moments else later).count((event, place))
            nth = chance.randrange(times) // chance.choice((1, 2, 4))
            if (event, place) not in moments:
                found.append(Disturbance("extend", "", "", chance.randint(0, NEAR), 0))
        found.append(Disturbance(how, event, place, nth, chance.getrandbits(32)))
    return tuple(found)


def _moment(chance: Random, moments: tuple[tuple[str, str], ...], how: str, *, is_first: bool) -> tuple[str, str]:
    """A kind of change: each is as likely, however often it happens, and all tables count as one."""
    worst = WORST.get(how, "") if chance.random() < WORST_FRACTION else ""
    kinds = _kinds(moments, worst, is_first=is_first)
    return chance.choice(kinds[chance.choice(sorted(kinds))])


@lru_cache
def _kinds(
    moments: tuple[tuple[str, str], ...], worst: str, *, is_first: bool
) -> Mapping[tuple[str, str], Sequence[tuple[str, str]]]:
    """Kind of change -> the changes of it among which `worst` chooses."""
    kinds: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for event, place in sorted(set(moments)):
        if (is_first or "creating" not in place) and re.search(worst, f"{event} {place}"):
            kinds.setdefault((event, TABLE.sub("*", place)), []).append((event, place))
    return kinds
