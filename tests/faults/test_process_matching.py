"""Which processes a disturbance may hit: told by their arguments, in folders of any name."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.slurm.disturbances import module_run_by, processes

FOLDER = "/home/a -c b's/clone-c/run"
PYTHON = ["/opt/a -c b/bin/python3.11", "-P", "-u"]
HEAD = [*PYTHON, "-m", "hpc.cluster.head", FOLDER, "--", "env", f"PYTHONPATH={FOLDER}/code", *PYTHON]
DRIVER = ["-m", "sweeps.operations.controller", FOLDER]


@pytest.mark.parametrize(
    ("arguments", "module"),
    [
        ([*PYTHON, "-m", "hpc.cluster.worker", FOLDER], "hpc.cluster.worker"),
        ([*HEAD, *DRIVER], "hpc.cluster.head"),
        ([*PYTHON, *DRIVER], "sweeps.operations.controller"),
        (["bash", "-c", 'exec "$@"', "worker", *PYTHON, "-m", "hpc.cluster.worker", FOLDER], None),
        (["srun", "--unbuffered", *PYTHON, "-m", "hpc.cluster.worker", FOLDER], None),
        ([*PYTHON, f"{FOLDER}/-m"], None),
        ([*PYTHON, "-m"], None),
        ([""], None),
        ([], None),
    ],
)
def test_a_process_is_known_by_the_module_that_python_was_started_for(arguments: list[str], module: str | None) -> None:
    assert module_run_by(arguments) == module


def test_a_folder_with_spaces_and_options_in_its_name_stays_one_argument(tmp_path: Path) -> None:
    folder = tmp_path / "a -c b's"
    folder.mkdir()
    (folder / "waiting.py").write_text("print(flush=True); input()")
    words = [sys.executable, "-m", "waiting", str(folder)]
    with subprocess.Popen(words, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline()
        seen = [arguments for number, arguments, _ in processes() if number == child.pid]
        child.communicate(b"\n")
    assert [(module_run_by(arguments), arguments[-1]) for arguments in seen] == [("waiting", str(folder))]
