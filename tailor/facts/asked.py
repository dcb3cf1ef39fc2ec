"""What torch, torchvision and timm say of networks: asked once, in one child process, and kept per user by versions.

The keys are the questions; the file's name is of the libraries' versions and of the code that answers.
"""

import atexit
import hashlib
import json
import os
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tailor.common.errors import ConfigError
from tailor.common.registry import function_of
from transtailor.files import make_folder, write_file
from transtailor.terminal import say

TAILOR = Path(__file__).parent.parent
ANSWERING = ("common", "facts", "model", "networks", "pruning", "stages")  # whose code decides what is answered
LIBRARIES = ("torch", "torchvision", "timm")
_answers: dict[str, Any] = {}  # question -> answer, of this process


def ask(*question: Any) -> Any:
    """Return the answer to a question of `tailor.pruning.answers`, as JSON values.

    In a process with torch it is found there. Else a child process finds it, of which there is one for all questions.

    Raises:
        ConfigError: there is no such network, it cannot be analysed, or the child ended.
    """
    key = json.dumps(question)
    if key not in _answers:
        file = kept_file()
        with suppress(OSError, ValueError):  # none is kept yet, or it is damaged
            _answers.update(json.loads(file.read_bytes()))
        if key not in _answers:
            _answers[key] = _find(question)
            if "torch" in sys.modules:  # else the child has kept it, with what it asked itself meanwhile
                with suppress(OSError):  # such as a home that cannot be written: it is asked again
                    make_folder(file.parent)
                    write_file(file, json.dumps(_answers).encode())
    return _answers[key]


@cache
def kept_file() -> Path:
    """The user's file of answers."""
    digest = hashlib.sha256(sys.version.encode())
    for library in LIBRARIES:
        with suppress(PackageNotFoundError):
            digest.update(f"{library} {version(library)}".encode())
    for file in sorted(file for room in ANSWERING for file in (TAILOR / room).rglob("*.py")):
        digest.update(file.read_bytes())
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111  # never raises
    return Path(caches) / "transtailor" / f"networks-{digest.hexdigest()[:16]}.json"


def _find(question: tuple[Any, ...]) -> Any:
    if "torch" in sys.modules:
        return json.loads(json.dumps(function_of("tailor.pruning.answers:answer")(*question)))
    say(f"asking torch once: {' '.join(map(str, question))}", to=sys.stderr)
    child = _child()
    assert child.stdin is not None and child.stdout is not None
    line = ""
    with suppress(BrokenPipeError):
        child.stdin.write(f"{json.dumps(question)}\n")
        child.stdin.flush()
        line = child.stdout.readline()
    if not line:
        raise ConfigError(
            f"the process that asks torch of {question[-1]!r} ended; what it said is above. Type: "
            f"{sys.executable} -c 'import torch, torchvision'"
        )
    fault, answer = json.loads(line)
    if fault is not None:
        raise ConfigError(fault)
    return answer


@cache
def _child() -> "subprocess.Popen[str]":
    """The process that answers; it ends when its input is closed, with this process at the latest."""
    path = os.pathsep.join([str(TAILOR.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    child = subprocess.Popen(
        [sys.executable, "-P", "-W", "ignore", "-m", "tailor.pruning.answers"],
        env=os.environ | {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # no Ctrl-C from the terminal
    )
    atexit.register(child.kill)
    return child
