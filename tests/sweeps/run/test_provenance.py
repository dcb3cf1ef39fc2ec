"""What a run says of where it comes from, and that the copy of its code is all of it."""

import subprocess
from pathlib import Path

import pytest

from sweeps.run.provenance import provenance
from transtailor.sources import PACKAGES, ROOT, code_digest, sources


def test_the_copy_of_the_code_has_every_file_of_the_packages() -> None:
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", *PACKAGES], capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("this is no git checkout, so that nobody says which files belong to it")
    assert set(listed.stdout.splitlines()) <= {path.as_posix() for path in sources()}


def test_the_machine_is_named() -> None:
    said = provenance(sources())
    assert said["cores"] >= 1
    assert said["memory_bytes"] > 2**28
    assert isinstance(said["gpus"], list)
    assert said["cpu"]


def test_the_commit_is_written_down_and_git_is_optional(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    facts = provenance(sources())
    if (ROOT / ".git").exists():
        command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
        head = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        assert facts["git"]["commit"] == head
        assert facts["git"]["dirty"] == bool(facts["git"]["changes"])
    monkeypatch.setenv("PATH", str(tmp_path))
    without = provenance(sources())
    assert without == {**facts, "at": without["at"], "git": None}


def test_the_digest_is_of_code_and_not_of_specs(tmp_path: Path) -> None:
    for name in ("hpc", "results", "sweeps", "tailor"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "code.py").write_text("x = 1\n")
    (tmp_path / "sweeps" / "specs").mkdir()
    first = code_digest(sources(tmp_path))
    (tmp_path / "sweeps" / "specs" / "paper.toml").write_text("name = 'paper'\n")
    (tmp_path / "tailor" / "notes.md").write_text("not code")
    assert code_digest(sources(tmp_path)) == first
    assert Path("sweeps/specs/paper.toml") in sources(tmp_path)
    (tmp_path / "tailor" / "code.py").write_text("x = 2\n")
    second = code_digest(sources(tmp_path))
    (tmp_path / "tailor" / "code.py").rename(tmp_path / "tailor" / "renamed.py")
    assert len({first, second, code_digest(sources(tmp_path))}) == 3
