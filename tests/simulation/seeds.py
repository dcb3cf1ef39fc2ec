"""Seeds and their days: simulated, replayed, and made smaller if they fail.

python -m tests.simulation.seeds 0 300           # the days of these seeds
python -m tests.simulation.seeds 17              # one day, with its history
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.simulation import trials
from tests.simulation.day import Day, Simulation, folder
from tests.simulation.disturbances import Disturbance, drawn
from tests.simulation.kinds import KINDS, Kind, kind_of

Moments = tuple[tuple[str, str], ...]  # event and place of each change of a file
LINES = 60  # of a history that are printed
EXTENDS = Disturbance("extend", "never", "", 0, 0)  # after the first launch has ended


@dataclass(frozen=True)
class Days:
    """A place to simulate days, with the undisturbed ones that others are compared with."""

    place: Path
    moments: Mapping[Kind, Moments]  # of an undisturbed day
    later: Moments  # of one of a grid, and of a second launch that extends the run

    @classmethod
    def below(cls, place: Path) -> "Days":
        """Simulate the undisturbed days.

        Raises:
            AssertionError: already these break a promise.
        """

        def quiet(kind: Kind, seeds: int = trials.SEEDS) -> Moments:
            day = Simulation("undisturbed", (), place / "undisturbed" / f"{kind} {seeds}", None, seeds, kind).run()
            assert day.broken == (), day.broken
            return day.moments

        moments = {kind: quiet(kind) for kind in dict.fromkeys(KINDS)}
        quiet("grid", trials.EXTENDED)
        quiet("private", trials.EXTENDED)
        extended = Simulation("undisturbed", (EXTENDS,), place / "day", place / "undisturbed").run()
        assert extended.broken == (), extended.broken
        return cls(place, moments, extended.moments)

    def day(self, seed: int, disturbances: Sequence[Disturbance] | None = None, kind: Kind | None = None) -> Day:
        """The day of a seed, with these disturbances instead of its own, and of this kind."""
        kind = kind or kind_of(seed)
        chosen = self.disturbances(seed, kind) if disturbances is None else disturbances
        return Simulation(str(seed), chosen, self.place / "day", self.place / "undisturbed", kind=kind).run()

    def disturbances(self, seed: int, kind: Kind | None = None) -> tuple[Disturbance, ...]:
        """What happens on the day of a seed, or on another one of that seed."""
        kind = kind or kind_of(seed)
        return drawn(seed, self.moments[kind], self.later if kind == "grid" else (), kind)

    def smaller(
        self, seed: int, disturbances: Sequence[Disturbance] | None = None, kind: Kind | None = None
    ) -> tuple[Disturbance, ...]:
        """The disturbances of a day that fails, its own or these, without those that it fails without, too."""
        kept = self.disturbances(seed, kind) if disturbances is None else tuple(disturbances)
        number = 0
        while number < len(kept):
            fewer = kept[:number] + kept[number + 1 :]
            if self.day(seed, fewer, kind).broken:
                kept = fewer
            else:
                number += 1
        return kept


def told(seed: int, disturbances: Sequence[Disturbance], day: Day) -> str:
    """A day for people: what was broken, what had happened, and in which order."""
    lines = [f"seed {seed}: {len(day.broken)} broken", *(f"  {text}" for text in day.broken[:8])]
    lines += ["disturbances:", *(f"  {one}" for one in disturbances)]
    return "\n".join([*lines, "history:", *(f"  {text}" for text in day.history[-LINES:])])


def main(words: Sequence[str]) -> int:
    """Simulate the days of some seeds; 1 if one breaks a promise."""
    first, last = int(words[0]), int(words[-1]) if len(words) > 1 else int(words[0]) + 1
    broken = 0
    with tempfile.TemporaryDirectory(dir=folder()) as place:
        days = Days.below(Path(place))
        for seed in range(first, last):
            day = days.day(seed)
            if day.broken or len(words) == 1:
                few = days.smaller(seed) if day.broken else days.disturbances(seed)
                sys.stdout.write(told(seed, few, days.day(seed, few)) + "\n")
                sys.stdout.flush()
                broken += bool(day.broken)
        sys.stdout.write(f"{last - first} days, {broken} broken\n")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
