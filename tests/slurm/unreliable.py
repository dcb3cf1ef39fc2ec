"""SLURM's commands on a bad day: `unreliable.py NAME FOLDER ARGUMENTS...` stands before the real NAME on PATH.

What it does is drawn by FOLDER/day.json ({"seed": ..., "moods": {mood: weight}}) and the number of the call: it refuses
like a busy controller ("busy"), does what it was asked and then says that ("done but busy") or prints garbage
("garbage"), gives no answer ("hangs"), or is the real command ("real"). FOLDER/calls has a line for each call.
"""

import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sacct")
BUSY = "error: Socket timed out on send/recv operation"


def bad_day(folder: Path, moods: Mapping[str, int], seed: int = 0) -> str:
    """Writes such commands into a new folder; returns the value of PATH with which they are found."""
    folder.mkdir()
    (folder / "day.json").write_text(json.dumps({"seed": seed, "moods": moods}))
    for name in COMMANDS:
        words = shlex.join([sys.executable, "-SI", str(Path(__file__).resolve()), name, str(folder)])
        (folder / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (folder / name).chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def calls(folder: Path) -> Counter[tuple[str, str]]:
    """How often each command was called, by its name and mood."""
    lines = (folder / "calls").read_text().splitlines() if (folder / "calls").exists() else []
    return Counter((name, mood) for name, _, mood in (line.partition(" ") for line in lines))


def main() -> int:
    """Be the command; returns its exit code."""
    name, folder, *arguments = sys.argv[1:]
    day = json.loads(Path(folder, "day.json").read_text())
    with Path(folder, "calls").open("a+", encoding="utf-8") as log:
        log.seek(0)
        number = sum(line.split()[0] == name for line in log)
        (mood,) = random.Random(f"{day['seed']} {name} {number}").choices(*zip(*day["moods"].items(), strict=True))
        log.write(f"{name} {mood}\n")
    rest = [part for part in os.environ["PATH"].split(os.pathsep) if part != folder]
    if mood == "hangs":
        time.sleep(600.0)
    if mood == "busy":
        sys.exit(f"{name}: {BUSY}")
    done = subprocess.run([shutil.which(name, path=os.pathsep.join(rest)) or name, *arguments],
        capture_output=mood != "real", check=False)  # fmt: skip
    if mood == "done but busy":
        sys.exit(f"{name}: {BUSY}")
    if mood == "garbage":
        sys.stdout.write("%&/ oops\n")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
