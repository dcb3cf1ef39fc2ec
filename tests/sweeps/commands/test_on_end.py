"""The command for the end of a sweep: called with how it ended and the run's folder, and never in the way."""

import sys
from pathlib import Path

import pytest

from sweeps.commands.controller import _tell_end
from sweeps.slurm.cluster_run import RunOutcome


@pytest.mark.parametrize(("code", "how"), [(0, "finished"), (1, "failed"), (2, "failed"), (130, "interrupted")])
def test_it_is_called_with_how_it_ended(tmp_path: Path, code: int, how: str) -> None:
    said = tmp_path / "said"
    program = f"import sys; open({str(said)!r}, 'w').write(repr(sys.argv[1:])); sys.exit(3)"
    _tell_end((sys.executable, "-c", program), RunOutcome(code=code, text=""), tmp_path / "a run")
    assert said.read_text() == repr([how, str(tmp_path / "a run")])


def test_what_cannot_be_called_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _tell_end((), RunOutcome(code=0, text=""), tmp_path)
    assert capsys.readouterr().out == ""
    _tell_end(("/nowhere/tell",), RunOutcome(code=0, text=""), tmp_path)
    assert "on_end: [Errno 2] No such file or directory: '/nowhere/tell'" in capsys.readouterr().out
