"""The command for the end of a sweep: called with how it ended and the run's folder, and never in the way."""

import sys
from pathlib import Path
from typing import Literal

import pytest

from hpc.cluster.cluster_folder import ClusterFolder
from hpc.cluster.sweep_end import call_on_end
from hpc.sites.site import Site
from sweeps.operations.controller import HOW


def folder_with(path: Path, *on_end: str) -> ClusterFolder:
    """The folder of a cluster in a run, whose site has that command."""
    folder = ClusterFolder(path / "a run" / "cluster")
    folder.make(Site(cpus_per_node=1, walltime_min=1, on_end=on_end), "demo")
    return folder


@pytest.mark.parametrize("how", ["finished", "failed", "interrupted"])
def test_it_is_called_with_how_it_ended(tmp_path: Path, how: Literal["finished", "failed", "interrupted"]) -> None:
    said = tmp_path / "said"
    program = f"import sys; open({str(said)!r}, 'w').write(repr(sys.argv[1:])); sys.exit(3)"
    call_on_end(folder_with(tmp_path, sys.executable, "-c", program), how)
    assert said.read_text() == repr([how, str(tmp_path / "a run")])
    assert [HOW.get(code, "failed") for code in (0, 1, 2, 130)] == ["finished", "failed", "failed", "interrupted"]


def test_what_cannot_be_called_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call_on_end(folder_with(tmp_path), "failed")
    assert capsys.readouterr().out == ""
    folder = folder_with(tmp_path, "/nowhere/tell")
    call_on_end(folder, "failed")
    assert "on_end: [Errno 2] No such file or directory: '/nowhere/tell'" in capsys.readouterr().out
    (folder.path / "site.json").chmod(0o666)  # another user could have named the command
    call_on_end(folder, "failed")
    assert f"on_end: others can write to {folder.path / 'site.json'}" in capsys.readouterr().out
    (folder.path / "site.json").unlink()
    (folder.path / "site.json").mkdir()
    call_on_end(folder, "failed")
    assert f"on_end: the cluster's folder {folder.path} cannot be read: [Errno 21]" in capsys.readouterr().out
