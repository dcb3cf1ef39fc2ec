"""What a run says of where it comes from, and that the copy of its code is all of it."""

import subprocess

import pytest

from sweeps.provenance import PACKAGES, ROOT, provenance, sources


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
    assert said["cpu"] is None or said["cpu"]
