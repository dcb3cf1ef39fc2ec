"""Writes down what the test bed's SLURM says, for tests/hpc/slurm/test_outputs.py.

python tests/slurm/record_outputs.py     (root; from the repository's folder)
"""

import json
import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])  # the repository, instead of the folder of this script

from benchmarks.slurm_bed import slurm_bed
from tests.slurm.sweep import until

OUTPUTS = Path(__file__).resolve().parents[1] / "hpc" / "slurm" / "outputs"
LIMIT_S = 300.0
JOBS, QUEUE = "%i|%T|%r", "%i|%T|%e|%N|%r|%j"


def said(*words: str) -> dict[str, str | int]:
    """What a command prints and how it ends."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    answer: dict[str, str | int] = {"out": done.stdout}
    if done.returncode:
        answer |= {"error": done.stderr, "returncode": done.returncode}
    return answer


def main() -> int:
    """Three jobs: one runs, one is held, one has failed."""
    with slurm_bed(nodes=1, accounting=True):
        version = str(said("sbatch", "--version")["out"]).split()[-1]
        common = [
            "sbatch", "--parsable", "--chdir=/", "--mem=100", "--cpus-per-task=1", "--output=/dev/null",
            "--job-name=demo-worker",
        ]  # fmt: skip
        tasks = (["--wrap=sleep 600"], ["--hold", "--wrap=true"], ["--wrap=exit 3"])
        ids = [str(said(*common, *more)["out"]).strip() for more in tasks]
        squeue = ["squeue", "--all", "--noheader", "--states=all", f"--format={JOBS}", "--jobs=" + ",".join(ids)]
        sacct = [
            "sacct",
            "--noheader",
            "--parsable2",
            "--allocations",
            "--format=JobID,State,ExitCode",
            "--jobs=" + ids[2],
        ]
        until(lambda: f"{ids[0]}|RUNNING" in str(said(*squeue)), LIMIT_S, "a job that runs")
        until(lambda: f"{ids[2]}|FAILED" in str(said(*squeue)), LIMIT_S, "a failure")
        until(lambda: "FAILED" in str(said(*sacct)), LIMIT_S, "the accounting")
        states = {
            ids[0]: ["RUNNING", "None"],
            ids[1]: ["PENDING", "JobHeldUser"],
            ids[2]: ["FAILED", "NonZeroExitCode"],
        }
        refused = said("sbatch", "--partition=none", "--wrap=true")
        answers = [
            {"asked": "squeue", **said(*squeue), "expects": states},
            {
                "asked": "queue", **said("squeue", "--all", "--me", "--noheader", f"--format={QUEUE}"),
                "expects": [[ids[1], "PENDING", "", "demo-worker"], [ids[0], "RUNNING", "node1", "demo-worker"]],
            },
            {
                "asked": "scontrol", **said("scontrol", "--oneliner", "show", "job", ids[1]),
                "expects": {ids[1]: states[ids[1]]},
            },
            {"asked": "sacct", **said(*sacct), "expects": {ids[2]: ["FAILED", "exit code 3:0"]}},
            {"asked": "sbatch", **refused, "expects": "partition is wrong"},
        ]  # fmt: skip
        subprocess.run(["scancel", *ids], check=False)
    record = {"version": version, "source": "recorded by python tests/slurm/record_outputs.py", "answers": answers}
    OUTPUTS.joinpath("22.05.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
