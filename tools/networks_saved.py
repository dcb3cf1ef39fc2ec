"""A pruned network as users get it: saved, rebuilt in a fresh process without pickle, and exported.

Each is done with the command or function that users call, in a separate process, which frees its memory at its end.
"""

import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from tailor.deploy.export import images_for
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
torch.set_num_threads(int(sys.argv[2]))  # with more, sums are added up in another order
said = load_file(sys.argv[1] + "/{SAID_FILE}")
with torch.no_grad():
    outputs = load_model(sys.argv[1])(said["images"])
print(float((outputs - said["outputs"]).abs().max()))
"""


def save_example(state: ModelState, folder: Path, batch: int = 2) -> None:
    """Save a network, and in the same folder random images and its outputs for them, with the saved weights."""
    state = state.folded()
    save_model(state, folder)
    images = images_for(state, batch, seed=0)
    with torch.no_grad():
        outputs = state.build().eval()(images)
    save_file({"images": images, "outputs": outputs.contiguous()}, folder / SAID_FILE)


def try_rebuild(folder: Path) -> str:
    """Rebuild in a fresh process what `save_example` wrote, without pickle, and compare the outputs bit for bit.

    Returns:
        "yes", or the error in one line.
    """
    done = subprocess.run(
        [sys.executable, "-c", REBUILD, str(folder), str(torch.get_num_threads())],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return _reason(done, folder)
    difference = float(done.stdout)
    return YES if difference == 0.0 else f"outputs differ by {difference:.1e}"


def try_export(folder: Path, to: str) -> str:
    """Export a saved network with `transtailor model export`, which compares the program with the model.

    Returns:
        "yes", or the error in one line.
    """
    typed = [sys.executable, "-m", "tailor", "export", str(folder), "--to", to]
    done = subprocess.run(typed, capture_output=True, text=True, check=False)
    return _reason(done, folder) if done.returncode else YES


def _reason(done: "subprocess.CompletedProcess[str]", folder: Path) -> str:
    lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
    return lines[-1].strip().replace(str(folder), "FOLDER") if lines else f"ended with exit code {done.returncode}"
