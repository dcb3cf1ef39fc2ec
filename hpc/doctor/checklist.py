"""Print the doctor's list: a line for each check when it ends, and on a terminal what the doctor is waiting for."""

import sys
import time
from dataclasses import dataclass, field
from typing import TextIO

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType
from rich.text import Text

from hpc.doctor.finding import Finding, State
from transtailor.terminal import printable

MARKS: dict[State, str] = {"fine": "✓", "missing": "✗", "unknown": "–"}
PLAIN_MARKS: dict[State, str] = {"fine": "ok  ", "missing": "MISS", "unknown": "-   "}
STYLES: dict[State, str] = {"fine": "green", "missing": "bold red", "unknown": "dim"}
NEW_LINE = Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2))

QUIET_S = 5.0  # what ends sooner is not worth a line


@dataclass
class Checklist:
    """Prints the list; counts misses, and checks that were not possible."""

    stream: TextIO = field(default_factory=lambda: sys.stdout)
    misses: int = 0
    unknowns: int = 0
    _waits_for: str = ""
    _waits_since_s: float = 0.0
    _has_printed_wait: bool = False

    def __post_init__(self) -> None:
        self._console = Console(file=self.stream, force_terminal=self.stream.isatty(), highlight=False)

    def add(self, title: str, finding: Finding) -> None:
        """Print the result of one check."""
        self._print_line(f" {title}: {finding.text}", finding.state)
        if finding.state == "unknown":
            self.unknowns += 1
        if finding.state == "missing":
            self.misses += 1
            if finding.advice:
                self._print_line(f"    -> {finding.advice}")

    def print_lines(self, *texts: str) -> None:
        """Print other lines."""
        for text in texts:
            self._print_line(text)

    def show_wait(self, text: str) -> None:
        """Show what the doctor is waiting for: at once on a terminal, and once in a log after `QUIET_S`."""
        now_s = time.monotonic()
        if text != self._waits_for:
            self._waits_for = text
            self._waits_since_s = now_s
            self._has_printed_wait = False
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._console.control(NEW_LINE)
            self._console.print(self._printable(f"… {text}"), no_wrap=True, overflow="ellipsis", end="")
        elif not self._has_printed_wait and now_s - self._waits_since_s >= QUIET_S:
            self._has_printed_wait = True
            self._print_line(f"  waits for {text}")

    def _print_line(self, text: str, state: State | None = None) -> None:
        line = self._printable(text)
        if state is not None:
            line = Text.assemble((self._mark(state), STYLES[state]), line)
        self._console.control(NEW_LINE)  # prints nothing if lines cannot be erased
        self._console.print(line, soft_wrap=True)

    def _printable(self, text: str) -> Text:
        """Escape what the stream cannot encode: logs may hold anything."""
        encoded = printable(text).encode(self._encoding, "backslashreplace")
        return Text(encoded.decode(self._encoding))

    def _mark(self, state: State) -> str:
        try:
            MARKS[state].encode(self._encoding)
        except UnicodeEncodeError:
            return PLAIN_MARKS[state]
        return MARKS[state]

    @property
    def _encoding(self) -> str:
        return self.stream.encoding or "ascii"
