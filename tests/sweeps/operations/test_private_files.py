"""Who may read what a sweep writes, whatever the umask; and a folder whose name would like to be code."""

import os
import stat
from pathlib import Path

import pytest

from results.store.reader import finished_trial_ids
from tests.commands import launch

HOSTILE = """-it's "a" $(touch pwned) `touch pwned`;touch pwned\n<img src=x onerror=alert(1)>"""
SPEC = """
name = "one"
[trial]
network = "friedman_mlp"
pruning.linear = true
data = { name = "friedman1", train_images = 20 }
source.epochs = 1
optimisation = { epochs = 1, head_epochs = 1 }
[[variants]]
label = "<img src=x onerror=alert(2)> $(touch pwned) '\\""
method.name = "fine_tune"
"""

pytestmark = pytest.mark.check


def launched(folder: Path, umask: int) -> None:
    """A sweep in that folder, by the real command, which is given paths as somebody there would type them."""
    folder.mkdir()
    (folder / "spec.toml").write_text(SPEC)
    before = os.umask(umask)
    try:
        done = launch(
            "spec.toml", "--site", "serial", f"--runs={folder / 'runs'}", "--cache", "cache", folder=folder
        )  # fmt: skip
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stderr


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("umask", "name"), [(0o000, "sweep"), pytest.param(0o027, "sweep", marks=pytest.mark.long), (0o077, HOSTILE)]
)
def test_tables_report_and_stages_are_read_by_whom_the_umask_allows(tmp_path: Path, umask: int, name: str) -> None:
    """A folder and a label that would like to be code are none."""
    launched(tmp_path / name, umask)
    run, cache = tmp_path / name / "runs" / "one", tmp_path / name / "cache"
    assert finished_trial_ids(run)
    assert not list(tmp_path.rglob("pwned"))
    report = (run / "report.html").read_text()
    assert "onerror=alert(2)" in report  # as text
    assert "<img src=x" not in report
    made = [path for folder in (run, cache) for path in [folder, *folder.rglob("*")]]
    assert {run / "report.html", run / "spec.toml"} <= set(made)
    for kind in ("*.parquet", "*.stage"):
        assert any(path.match(kind) for path in made), kind
    shown = {run / "report.html", *(run / "tables").rglob("*"), *cache.rglob("*")}
    for path in made:
        most = (0o777 if path.is_dir() else 0o666) & ~umask
        readable = mode(path) & ~0o022  # for others to write to, some are and some are not
        assert readable == most & ~0o022 if path in shown else not mode(path) & umask, (path, oct(mode(path)))
