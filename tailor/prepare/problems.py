"""All that is wrong or doubtful about the images of a data set: one list, on the screen and in a file."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from tailor.common.texts import as_text, in_one_line, some
from transtailor.terminal import say


@dataclass(frozen=True, kw_only=True)
class DataProblem:
    """One file, folder or line that the user must see to, or should look at."""

    place: Path
    kind: tuple[str, str, str]  # what it is, such as "image"; what is wrong with it; what to do
    detail: str  # what is wrong with this one, or ""
    stops: bool  # False: the data set is made nevertheless


@dataclass
class Problems:
    """The problems of one preparation, and where its notes are printed."""

    out: TextIO
    found: list[DataProblem] = field(default_factory=list)
    origins: dict[Path, str] = field(default_factory=dict)
    """Folder that is read -> how its user calls it: the folder with "/", or the archive that it was unpacked from."""

    def add(
        self, noun: str, fault: str, remedy: str, places: Iterable[Path], detail: str = "", *, stops: bool = True
    ) -> None:
        """Note a problem of each of these places."""
        kind = noun, fault, remedy
        self.found += [DataProblem(place=place, kind=kind, detail=detail, stops=stops) for place in places]

    def note(self, text: str) -> None:
        """Print what is no problem, but not always expected."""
        say(f"note: {text}", to=self.out)

    @property
    def stop(self) -> bool:
        """Whether no data set is made."""
        return any(problem.stops for problem in self.found)

    def texts(self, *, stopping: bool) -> Iterator[str]:
        """Yield a sentence for each kind of problem that stops, or for each other kind, with the first few of it."""
        kinds = defaultdict[tuple[str, str, str], list[str]](list)
        for at in self.found:
            if at.stops == stopping:
                kinds[at.kind].append(f"{self._called(at.place)}{f' ({at.detail})' if at.detail else ''}")
        for (noun, fault, remedy), places in kinds.items():
            nouns = noun if len(places) == 1 else {"class": "classes"}.get(noun, f"{noun}s")
            yield f"{len(places):,} {nouns} {fault}: {some(places)}; {remedy}"

    def lines(self) -> str:
        """Return a line for each problem, with tabs between its place, what is wrong, and what to do."""
        rows = []
        for at in self.found:
            noun, fault, remedy = at.kind
            fault = f"{noun} {fault}{f' ({at.detail})' if at.detail else ''}"
            rows.append("\t".join(map(in_one_line, (self._called(at.place, whole=True), fault, remedy))))
        return "".join(f"{row}\n" for row in rows)

    def _called(self, place: Path, *, whole: bool = False) -> str:
        for folder, origin in self.origins.items():
            if place.is_relative_to(folder):
                inside = as_text(place.relative_to(folder).as_posix())
                return f"{origin}{inside}" if whole or inside == "." else inside
        return as_text(str(place))
