"""The doctor's list: a line for each check as it ends, and on a terminal what is waited for meanwhile."""

import shutil
import sys
import time
from dataclasses import dataclass, field
from typing import TextIO

from hpc.doctor.finding import Finding, State

MARKS: dict[State, str] = {"fine": "✓", "missing": "✗", "unknown": "–"}
PLAIN_MARKS: dict[State, str] = {"fine": "ok  ", "missing": "MISS", "unknown": "-   "}

QUIET_S = 5.0  # what ends sooner is not worth a line


@dataclass
class Board:
    """Where the list goes; counts the misses, and what could not be checked."""

    stream: TextIO = field(default_factory=lambda: sys.stdout)
    misses: int = 0
    unknowns: int = 0
    _waiting: str = ""
    _waiting_since_s: float = 0.0
    _said: bool = False

    def tell(self, title: str, finding: Finding) -> None:
        """Prints the end of one check."""
        self.misses += finding.state == "missing"
        self.unknowns += finding.state == "unknown"
        self._line(f"{self._mark(finding.state)} {title}: {finding.text}")
        if finding.advice and finding.state == "missing":
            self._line(f"    -> {finding.advice}")

    def lines(self, *texts: str) -> None:
        """Prints lines that are no check."""
        for text in texts:
            self._line(text)

    def waits(self, text: str) -> None:
        """What is waited for, told again and again: shown at once on a terminal, and once in a log if it stays."""
        now_s = time.monotonic()
        if text != self._waiting:
            self._waiting, self._waiting_since_s, self._said = text, now_s, False
        if self.stream.isatty():
            self.stream.write(f"\r\x1b[K… {text}"[: shutil.get_terminal_size().columns + len("\r\x1b[K") - 1])
            self.stream.flush()
        elif not self._said and now_s - self._waiting_since_s >= QUIET_S:
            self._said = True
            self._line(f"  waits for {text}")

    def _line(self, text: str) -> None:
        printable = "".join(one if one.isprintable() or one == "\n" else "?" for one in text)  # logs may hold anything
        printable = printable.encode(self._encoding, "backslashreplace").decode(self._encoding)
        begin = "\r\x1b[K" if self.stream.isatty() else ""
        self.stream.write(f"{begin}{printable}\n")
        self.stream.flush()

    def _mark(self, state: State) -> str:
        try:
            MARKS[state].encode(self._encoding)
        except UnicodeEncodeError:
            return PLAIN_MARKS[state]
        return MARKS[state]

    @property
    def _encoding(self) -> str:
        return self.stream.encoding or "ascii"
