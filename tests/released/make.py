"""Makes what a version leaves on disk, for tests/released/test_released.py, by the commands of that version.

    python -m tests.released.make tests/released/0.2.0     # from the tag

It has a run that was interrupted, with its cache; a sub-model that was saved; a data set; a site file; and what their
version reads in them, in expected.json.
"""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

from tests.commands import COMMAND

NAME = "kept"
MODEL = "models/point_1"
TRIALS = 4
LIMIT_S = 300.0
STAGES_BEFORE_THE_END = 16  # of 36, those of two of the trials
SPEC = f"""\
name = "{NAME}"

[trial]
network = "friedman_mlp"
pruning.linear = true
data = {{ name = "friedman1", train_images = 20 }}
source.epochs = 1
optimisation = {{ epochs = 40, head_epochs = 1 }}

[axes]
seed = [0, 1]

[[variants]]
method.name = "fine_tune"

[[variants]]
method = {{ name = "transtailor", steps = 2, alpha_epochs = 1 }}
"""
TRIAL = """\
network = "friedman_mlp"
pruning.linear = true
data = { name = "friedman1", train_images = 20 }
source.epochs = 1
optimisation = { epochs = 1, head_epochs = 1 }

[method]
name = "transtailor"
steps = 1
alpha_epochs = 1
"""
SITE = """\
partition = "gpu"
account = "my-project"
cpus_per_node = 64
memory_gb = 480
gpus_per_node = 8
walltime_min = 1440
setup = ["module load cuda", "source /shared/env/bin/activate"]
network_interface = "ib0"
shared_folder = "/shared"
scratch_folder = "/scratch/$SLURM_JOB_ID"
drain_before_s = 120
idle_s = 60

[controller]
partition = "cpu"
"""


def main(arguments: list[str]) -> int:
    """Make everything in a new folder."""
    folder = Path(arguments[0]).absolute()
    folder.mkdir(parents=True)
    (folder / "spec.toml").write_text(SPEC)
    (folder / "trial.toml").write_text(TRIAL)
    (folder / "mysite.toml").write_text(SITE)
    interrupt_a_sweep(folder)
    _run(folder, "trial", "run", "trial.toml", "--save", "models")
    draw_photographs(folder / "photographs")
    words = ("--from", "photographs", "--to", "datasets", "--image-px", "16", "--source-classes", "green,yellow")
    _run(folder, "data", "prepare", "dots", *words)
    shutil.rmtree(folder / "photographs")
    shutil.rmtree(folder / "runs" / NAME / "code")  # the version's own sources, which its tag has
    provenance = folder / "runs" / NAME / "provenance.json"
    provenance.write_text(provenance.read_text().replace(str(COMMAND), "transtailor").replace(str(folder), "/tmp/kept"))
    (folder / "expected.json").write_text(json.dumps(expected(folder), indent=1, sort_keys=True) + "\n")
    return 0


def interrupt_a_sweep(folder: Path) -> None:
    """Launch the sweep, and end it with SIGINT when some of its trials have finished."""
    words = [str(COMMAND), "run", "spec.toml", "--site", "serial"]
    with subprocess.Popen(words, cwd=folder) as launch:
        end_s = time.monotonic() + LIMIT_S
        while len(list((folder / "cache").rglob("*.stage"))) < STAGES_BEFORE_THE_END:  # a row may come seconds later
            if time.monotonic() > end_s or launch.poll() is not None:
                launch.kill()
                raise TimeoutError("the sweep ended, or has too few stages")
            time.sleep(0.05)
        launch.send_signal(signal.SIGINT)
        code = launch.wait(LIMIT_S)
    if code != 130:
        raise RuntimeError(f"the launch that was interrupted ended with {code}, not with 130")


def draw_photographs(folder: Path) -> None:
    """Write six small images of each of four colours."""
    for place, name in enumerate(("blue", "green", "red", "yellow")):
        (folder / name).mkdir(parents=True)
        for number in range(6):
            colour = (60 * place, 30 * number, 255 - 40 * number)
            Image.new("RGB", (20, 18), colour).save(folder / name / f"{number}.png")


def expected(folder: Path) -> dict[str, Any]:
    """Return what this version reads in the folder."""
    import torch

    import tailor
    from results.store.reader import load
    from results.store.schema import TABLES

    with load(folder / "runs" / NAME) as run:
        rows = {name: run.rows(f"SELECT count(*) AS n FROM {name}")[0]["n"] for name in TABLES}
        points = run.rows(
            "SELECT trial_id, point, arm, macs, params, model_key, validation_score, test_score FROM measured_points"
            " ORDER BY trial_id, point"
        )
        trials = run.rows("SELECT trial_id, arm, seed FROM planned ORDER BY trial_id")
        finished = run.rows("SELECT trial_id FROM trials WHERE status = 'finished' ORDER BY trial_id")
    assert 0 < len(finished) < TRIALS == len(trials)
    model = tailor.load_model(folder / MODEL).eval()
    outputs = model(torch.linspace(0.0, 1.0, 30).reshape(3, 10))
    return {
        "rows": rows,
        "points": points,
        "trials": trials,
        "finished": [row["trial_id"] for row in finished],
        "cached": sorted(str(path.relative_to(folder)) for path in (folder / "cache").rglob("*") if path.is_file()),
        "outputs": outputs.tolist(),
    }


def _run(folder: Path, *words: str) -> None:
    subprocess.run([str(COMMAND), *words], cwd=folder, check=True, timeout=LIMIT_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
