"""The benchmarks of `make bench`, `bench-long` and `bench-faults`, one after the other; ends with one that fails.

python benchmarks/all.py bench
python benchmarks/all.py bench-long --since 2026-11-26   # resumes: leaves out tables since that day
"""

import argparse
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

from benchmarks.record import EVIDENCE, ROOT

GROUPS = {
    "bench": """
        python benchmarks/empty_trial.py
        python benchmarks/sharing.py --site serial --spec benchmarks/paper_like.toml
        python benchmarks/planning.py
    """,
    "bench-long": """
        python benchmarks/pruned_speed.py
        python benchmarks/coverage.py
        python benchmarks/many_trials.py
        python benchmarks/answer.py
        python benchmarks/utilisation.py
    """,
    "bench-faults": """
        python benchmarks/faults.py --faults 300 --seed 61
        python benchmarks/faults.py --with search --faults 200
        python benchmarks/faults.py --with settle --faults 22 --seed 0 --minutes 5
        python benchmarks/faults.py --with ray --faults 60 --seed 61
        python benchmarks/faults.py --with slurm --faults 30 --minutes 25 --seed 61
        python benchmarks/faults.py --with slurm --clients --faults 100 --seed 71 --minutes 60
        python benchmarks/chaos.py
        python benchmarks/simulated_days.py --minutes 20 --processes 2
        python benchmarks/soak.py
        python benchmarks/fuzzing.py
        python benchmarks/stopping.py
        python benchmarks/client_delays.py
        python benchmarks/simulated_days.py --minutes 30 --planted
    """,
}
RECORD = re.compile(r"^- date: `(?P<date>[\d-]+) .*`\n- command: `(?P<command>.*)`$", re.MULTILINE)


def commands_of(group: str, since: date | None = None, tables: Path = EVIDENCE) -> list[str]:
    """The commands of a group, without those of which `tables` has a table of that day or later."""
    known = set() if since is None else _commands_measured_since(since, tables)
    return [command for line in GROUPS[group].strip().splitlines() if (command := line.strip()) not in known]


def _commands_measured_since(day: date, tables: Path) -> set[str]:
    records = [RECORD.search(path.read_text(encoding="utf-8")) for path in tables.glob("*.md")]
    found = [record for record in records if record and date.fromisoformat(record["date"]) >= day]
    return {re.split(" --(?:networks|rows) ", record["command"])[0] for record in found}  # they resume by parts


def main(words: Sequence[str] | None = None) -> int:
    """Run a group."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("group", choices=GROUPS)
    parser.add_argument(
        "--since",
        metavar="DAY",
        type=date.fromisoformat,
        help="leave out what docs/results/evidence has since, as 2026-11-26",
    )
    options = parser.parse_args(words)
    for command in commands_of(options.group, options.since):
        print(f"== {command}", flush=True)
        _python, *script = shlex.split(command)
        if code := subprocess.run([sys.executable, *script], cwd=ROOT, check=False).returncode:
            print(f"== ended with {code}: {command}; --since would leave it out if it has a table", flush=True)
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
