"""What torch says of networks is asked once, in a process beside one without torch, and kept."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
ASKED = """
import sys
from tailor.facts.networks import NETWORKS

print(NETWORKS["squeezenet1_1"].macs, "timm/no_such_network" in NETWORKS, "no_such_network" in NETWORKS)
assert "torch" not in sys.modules
"""
SAID = "asking torch once: facts squeezenet1_1"


def said(script: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", "-c", script]
    own = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(command, env=own, capture_output=True, text=True, check=False, timeout=300)


def test_a_network_is_asked_once(tmp_path: Path) -> None:
    first = said(ASKED, XDG_CACHE_HOME=str(tmp_path))
    assert first.returncode == 0, first.stderr
    assert SAID in first.stderr
    again = said(ASKED, XDG_CACHE_HOME=str(tmp_path))
    assert (again.stdout, again.stderr) == (first.stdout, "")
    (kept,) = tmp_path.glob("transtailor/*.json")
    kept.write_bytes(kept.read_bytes()[:-9])
    assert SAID in said(ASKED, XDG_CACHE_HOME=str(tmp_path)).stderr


def test_a_process_that_cannot_answer_is_an_error_and_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('no torch here')")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    found = said("from tailor.facts.asked import ask; ask('names')", PYTHONPATH=path, XDG_CACHE_HOME=str(tmp_path))
    assert "ConfigError: the process that asks torch of 'names' ended" in found.stderr
    assert "no torch here" in found.stderr
    assert list(tmp_path.glob("transtailor/*.json")) == []
