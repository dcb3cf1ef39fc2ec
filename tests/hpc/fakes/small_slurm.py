"""A SLURM of a few jobs, told by files: `small_slurm.py NAME FOLDER ARGUMENTS...`; the test plays the jobs' nodes.

FOLDER/state is what squeue says of all jobs ("RUNNING|None"), empty while there is none; FOLDER/state-9 of job 9 alone.
FOLDER/refusals.json has what a command refuses, by its name: {"sbatch": "text", "--test-only": ..., "requeue": ...,
"--signal": ...}, or by a line of a job that is submitted; "without GPUs" has what each job that asks for none is told.
"""

import json
import sys
from pathlib import Path

command, folder, *arguments = sys.argv[1:]
state, log = Path(folder, "state"), Path(folder, "calls")
with log.open("a", encoding="utf-8") as calls:
    calls.write(json.dumps([command, *arguments]) + "\n")
refusals = json.loads(Path(folder, "refusals.json").read_text(encoding="utf-8"))
text = Path(arguments[-1]).read_text(encoding="utf-8") if command == "sbatch" else ""
for name, said in refusals.items():
    if name == "without GPUs" and text and "--gpus-per-node" not in text:
        sys.exit(f"{command}: error: {said}")
    is_line = name in text.splitlines() and "--test-only" not in arguments
    if is_line or name in (command, *(word.partition("=")[0] for word in arguments)):
        if name == "--test-only" and "--exclude" not in text:  # a second node is refused, and one is not
            continue
        sys.exit(f"{command}: error: {said}")
if command == "sbatch" and "--test-only" not in arguments:
    number = 7 + len(list(Path(folder).glob("submitted-*")))
    Path(folder, "submitted.new").write_text(text, encoding="utf-8")
    Path(folder, "submitted.new").rename(Path(folder, f"submitted-{number}"))  # who waits for it reads all of it
    state.write_text(Path(folder, "first_state").read_text())
    sys.stdout.write(f"{number}\n")
elif command == "squeue" and state.read_text():
    many = any("%e" in word for word in arguments)
    for number in (int(path.name.removeprefix("submitted-")) for path in sorted(Path(folder).glob("submitted-*"))):
        own = Path(folder, f"state-{number}")
        is_own = own.exists() and state.read_text() == "RUNNING|None"
        job, reason = (own if is_own else state).read_text().split("|")
        sys.stdout.write(f"{number}|{job}|N/A|node{number}|{reason}|\n" if many else f"{number}|{job}|{reason}\n")
elif command == "sinfo":
    sys.stdout.write(Path(folder, "gres").read_text())
elif command == "scancel" and "--signal=USR2" in arguments:
    Path(folder, "signalled").touch()
elif command == "scancel":
    state.write_text("CANCELLED|None")
elif command == "scontrol":
    sys.stdout.write("Slurmctld(primary) at head is UP\n")
    if "requeue" in arguments:
        state.write_text("PENDING|BeginTime")
