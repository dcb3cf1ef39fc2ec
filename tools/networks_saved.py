"""A pruned network as users get it: saved, rebuilt in a fresh process without pickle, and exported.

Each is done with the command or function that users call, in a separate process.
"""

import subprocess
import sys
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file

from tailor.model.programs import images_for
from tailor.model.state import ModelState, save_model

YES = "yes"
SAID_FILE = "said.safetensors"  # images, and the outputs of the network when it was saved
REBUILD = f"""
import sys
import tailor, torch
from safetensors.torch import load_file

def refuse(event, _arguments):
    if event == "pickle.find_class":
        raise RuntimeError("rebuilding it unpickles")

load_model = tailor.load_model  # imports all that is needed
sys.addaudithook(refuse)
torch.set_num_threads(int(sys.argv[1]))  # with more, sums are added up in another order
for line in sys.stdin:
    try:
        said = load_file(line.strip() + "/{SAID_FILE}")
        with torch.no_grad():
            outputs = load_model(line.strip())(said["images"])
        difference = float((outputs - said["outputs"]).abs().max())
        print("{YES}" if difference == 0.0 else f"outputs differ by {{difference:.1e}}", flush=True)
    except Exception as error:
        print(f"{{type(error).__name__}}: {{str(error).partition(chr(10))[0]}}", flush=True)
"""


def save_example(state: ModelState, folder: Path, batch: int = 2) -> None:
    """Save a network, and in the same folder random images and its outputs for them, with the saved weights."""
    state = state.fold_factors()
    save_model(state, folder)
    images = images_for(state, batch, seed=0)
    with torch.no_grad():
        outputs = state.build().eval()(images)
    save_file({"images": images, "outputs": outputs.contiguous()}, folder / SAID_FILE)


def try_rebuild(folder: Path) -> str:
    """Rebuild in a process that only reads what `save_example` wrote, without pickle, and compare outputs bit for bit.

    Returns:
        "yes", or the error in one line.
    """
    process = _rebuilder(REBUILD)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{folder}\n")
    process.stdin.flush()
    said = process.stdout.readline().strip()
    return said.replace(str(folder), "FOLDER") if said else f"ended with exit code {process.wait(timeout=60)}"


@cache
def _rebuilder(script: str) -> "subprocess.Popen[str]":
    """A process that rebuilds one folder after the other; it ends with this one."""
    typed = [sys.executable, "-c", script, str(torch.get_num_threads())]
    return subprocess.Popen(typed, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def try_export(folder: Path, to: str) -> str:
    """Export a saved network with `transtailor model export`, which compares the program with the model.

    Returns:
        "yes", or the error in one line.
    """
    typed = [sys.executable, "-m", "transtailor", "model", "export", str(folder), "--to", to, "--no-time"]
    done = subprocess.run(typed, capture_output=True, text=True, check=False)
    return _reason(done, folder) if done.returncode else YES


def _reason(done: "subprocess.CompletedProcess[str]", folder: Path) -> str:
    lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
    return lines[-1].strip().replace(str(folder), "FOLDER") if lines else f"ended with exit code {done.returncode}"
