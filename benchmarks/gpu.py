"""All that is measured on a GPU: `make bench-gpu`; without one it says so and measures nothing.

python benchmarks/gpu.py                            # a quarter of an hour on a large GPU
python benchmarks/gpu.py --device cpu --quick       # tiny networks: only to check that it runs
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import argparse
import subprocess
import tempfile
from collections.abc import Sequence

from benchmarks.packed_trials import gpu_name
from benchmarks.record import EVIDENCE

SCRIPTS = ("gpu_step", "packed_trials", "pruned_speed")
HERE = Path(__file__).resolve().parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run each script in a process of its own; 1 if one failed, after the others have run."""
    parser = argparse.ArgumentParser(description="our steps, packed trials and pruned networks on a GPU")
    parser.add_argument("--quick", action="store_true", help="tiny networks: for a look, not for a record")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu goes with --quick")
    parser.add_argument(
        "--out", type=Path, help="folder of the tables (default: docs/results/evidence; a new one for --quick)"
    )
    options = parser.parse_args(arguments)
    if options.device == "cuda" and gpu_name() is None:
        print("no GPU: torch sees none, so nothing was measured; to see that this runs: --device cpu --quick")
        return 0
    options.out = options.out or (Path(tempfile.mkdtemp(prefix="bench-gpu-")) if options.quick else EVIDENCE)
    codes = [subprocess.run(words, check=False).returncode for words in commands(options)]
    return int(any(codes))


def commands(options: argparse.Namespace) -> list[list[str]]:
    """What is run: on a GPU, the table of pruned networks is next to that of the CPU."""
    quick = ["--quick"] * options.quick
    names = {script: script for script in SCRIPTS}
    if options.device == "cuda":
        names["pruned_speed"] = "pruned_speed_on_a_gpu"
    return [
        [
            sys.executable,
            str(HERE / f"{script}.py"),
            "--device",
            options.device,
            *quick,
            "--out",
            str(options.out / name),
        ]
        for script, name in names.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
