"""Mutated input from others is given to the code that reads it: no traceback, no hang, no file elsewhere.

    python benchmarks/fuzzing.py                             # 50,000 inputs
    python benchmarks/fuzzing.py --inputs 500 --seed 7 --only spec

The inputs are those of tests/faults/hostile.py, drawn by hypothesis. Each target runs in a separate process, as many at
a time as there are cores, so that a crash is a fault like any other.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import contextlib
import io
import json
import math
import os
import shutil
import signal
import tempfile
import traceback
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, settings

from benchmarks.record import Measured, parser_of, write
from tests.faults.hostile import Target, targets
from tests.faults.moments import writes
from tests.faults.tiny_sweep import warm_up
from transtailor.terminal import printable

SHOWN = 600  # characters of an input that broke something; --seed and --only draw it again
LIMIT_S = 10.0  # of this process's own CPU, for one input; most take milliseconds


@dataclass
class Outcome:
    """The outcome of the inputs of a target."""

    target: str
    inputs: int = 0
    accepted: int = 0  # damage that changes nothing, or nothing that can be known
    refused: int = 0
    fault: str = ""  # the smallest input that broke something, and how


class Hangs(BaseException):
    """An input takes too long; not an `Exception`, so that no `except Exception` catches it."""


class Attack:
    """Gives inputs to a target, in a process that ends afterwards."""

    def __init__(self, name: str, target: Target, folder: Path) -> None:
        self.outcome = Outcome(name)
        self._target, self._folder = target, folder
        self._refusals = target.refusals()
        self._elsewhere: list[str] = []
        self._is_reading = False

    def run(self, inputs: int, seed: int) -> Outcome:
        """Try this many inputs, fewer if one breaks something."""
        sys.addaudithook(self._watch)
        signal.signal(signal.SIGVTALRM, _hangs)
        attack = hypothesis.given(self._target.inputs)(self._one)
        attack = hypothesis.seed(seed)(attack)
        attack = settings(
            max_examples=inputs, database=None, deadline=None, suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink], report_multiple_bugs=False,
        )(attack)  # fmt: skip
        try:
            attack()
        except (Exception, Hangs) as error:  # noqa: BLE001  # whatever it is, it is a fault
            drawn = " ".join(getattr(error, "__notes__", []))
            self.outcome.fault = f"{drawn[:SHOWN]}\n{''.join(traceback.format_tb(error.__traceback__)[-3:])}{error!r}"[
                : 4 * SHOWN
            ]
        return self.outcome

    def _one(self, drawn: Any) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        self.outcome.inputs += 1
        signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT_S)
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                self._is_reading = True
                accepted = self._target.read(self._folder, drawn)
            self.outcome.accepted += accepted
            self.outcome.refused += not accepted
        except self._refusals:
            self.outcome.refused += 1
        finally:
            self._is_reading = False
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        assert not self._elsewhere, f"it changed {self._elsewhere}"
        assert said.getvalue() == printable(said.getvalue()), "it showed what acts on a terminal"

    def _watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._is_reading:
            self._elsewhere += [path for path in writes(event, arguments) if not path.startswith(str(self._folder))]


def _hangs(_number: int, _frame: FrameType | None) -> None:
    raise Hangs(f"more than {LIMIT_S:g} s of CPU for one input")


class AttackInProcess:
    """An attack that runs in a fork of this process."""

    def __init__(self, name: str, target: Target, folder: Path, inputs: int, seed: int) -> None:
        self._name = name
        self._reading, writing = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            try:
                os.write(writing, json.dumps(vars(Attack(name, target, folder).run(inputs, seed))).encode())
            except BaseException:  # noqa: BLE001  # a fork must not continue as its parent
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        os.close(writing)

    def outcome(self) -> Outcome:
        """Wait for its end, also for a crash."""
        with os.fdopen(self._reading, "rb") as stream:
            answer = stream.read()
        code = os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1])
        return Outcome(**json.loads(answer)) if answer else Outcome(self._name, fault=f"the process ended with {code}")


def table(outcomes: list[Outcome], seed: int) -> Measured:
    """The outcomes of all inputs, by target."""
    rows = [
        (outcome.target, outcome.inputs, outcome.accepted, outcome.refused, int(bool(outcome.fault)))
        for outcome in outcomes
    ]
    sums = [sum(int(row[column]) for row in rows) for column in range(1, 5)]
    return Measured(
        title="Hostile input",
        columns=("what was read", "inputs", "accepted", "refused", "faults"),
        rows=(*rows, ("all", *sums)),
        notes=(
            f"Drawn by hypothesis with seed {seed}: one to three places flipped, cut out, doubled, cut off, or with "
            "something odd or deeply nested in them (tests/faults/hostile.py). Accepted: the change leaves the input a "
            "valid one.",
            f"A fault would be: any error except those that commands print, a crash, more than {LIMIT_S:g} s of "
            "CPU, a control character shown, or a file opened for writing, made, renamed or removed outside the folder "
            "that was given.",
        ),
    )


def _end_of(attack: AttackInProcess) -> Outcome:
    outcome = attack.outcome()
    print(f"{outcome.inputs} inputs: {outcome.target}", outcome.fault, sep="\n" * bool(outcome.fault), flush=True)
    return outcome


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 1 if something broke."""
    parser = parser_of(__doc__, "fuzzing")
    parser.add_argument("--inputs", type=int, default=50_000, help="of all targets together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="targets whose name begins so")
    options = parser.parse_args(arguments)
    warm_up()
    sys.dont_write_bytecode = True  # beside the modules, which is elsewhere
    with tempfile.TemporaryDirectory(prefix="fuzzing-") as folder:
        all_targets = targets(Path(folder) / "whole")
        chosen = {name: target for name, target in all_targets.items() if name.startswith(options.only)}
        shares = sum(target.share for target in chosen.values())
        outcomes: list[Outcome] = []
        running: deque[AttackInProcess] = deque()
        for number, (name, target) in enumerate(chosen.items()):
            if len(running) == len(os.sched_getaffinity(0)):
                outcomes.append(_end_of(running.popleft()))
            inputs = math.ceil(options.inputs * target.share / shares)
            running.append(AttackInProcess(name, target, Path(folder) / f"given_{number:02}", inputs, options.seed))
        outcomes += map(_end_of, running)
    write(table(outcomes, options.seed), options.out)
    return 1 if any(outcome.fault for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
