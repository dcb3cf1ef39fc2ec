"""What may happen on a day, drawn from its seed: biased to moments at which something is half done, and to pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

HOWS: Mapping[str, int] = {
    "kill": 4, "kill launcher": 4, "power": 8, "kill slot": 3, "kill rank": 3, "cut off": 3, "node": 2, "drain": 2,
    "stop": 2, "stop twice": 1, "ENOSPC": 2, "EROFS": 1, "ESTALE": 1, "EIO": 2, "full": 1, "clock back": 1,
    "clock ahead": 1, "hang": 1, "slow": 1, "late": 1, "no start": 1, "second launch": 1, "extend": 1, "code": 1,
}  # fmt: skip
"""How often each is drawn, in relation to the others."""
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


def drawn(seed: int, moments: Sequence[tuple[str, str]]) -> tuple[Disturbance, ...]:
    """The disturbances of a seed.

    Args:
        moments: event and place of each change of an undisturbed launch.
    """
    chance = Random(f"disturbances {seed}")
    found: list[Disturbance] = []
    for number in range(chance.randint(1, MOST)):
        (how,) = chance.choices(list(HOWS), list(HOWS.values()))
        if number and chance.random() < NEAR_FRACTION:
            event, place, nth = "", "", chance.randint(0, NEAR)
        else:  # each kind of change is as likely, however often it happens
            event, place = chance.choice(
                sorted({moment for moment in moments if not number or "creating" not in moment[1]})
            )
            nth = chance.randrange(moments.count((event, place))) // chance.choice((1, 2, 4))
        found.append(Disturbance(how, event, place, nth, chance.getrandbits(32)))
    return tuple(found)
