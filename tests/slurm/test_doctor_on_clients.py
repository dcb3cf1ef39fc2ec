"""The doctor on a real SLURM each of whose nodes is a client of its own: what it finds, keeps, and refuses."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hpc.doctor.names import read_verdict
from tests.clients.conftest import client_program
from tests.product import ROOT
from tests.slurm.conftest import raised
from tests.slurm.testbed import Testbed

pytestmark = pytest.mark.long
CACHED_S = 20
"""How long names are believed: longer than the doctor allows also on a busy machine, and shorter than NFS does."""
SITE = """
partition = "main"
cpus_per_node = 1
memory_gb = 1.5
walltime_min = 10
drain_before_s = 30
network_interface = "eth0"
shared_folder = "{shared}"
"""


@pytest.fixture
def testbed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Testbed]:
    """Two nodes; its parameter is whether opening a folder asks the server, as without `nocto`."""
    times = (f"{name}={CACHED_S}" for name in ("acregmin", "acregmax", "acdirmin", "acdirmax"))
    options = (f"cto={request.param}", *times)
    yield from raised(2, accounting=False, client=client_program(tmp_path), client_options=options)


def typed(testbed: Testbed, *words: str) -> tuple[int, str]:
    """Exit code and output of `transtailor`, called in the shared folder."""
    done = subprocess.run(
        [sys.executable, "-m", "transtailor", *words], cwd=testbed.shared, env=testbed.environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=500, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("testbed", "mark", "said"),
    [(1, "✓", ", without opening its folder after "), (0, "✗", ", though its folder is opened")],
    indirect=["testbed"],
    ids=["NFS", "nocto"],
)
def test_the_folder_is_tried_and_its_verdict_kept_for_plans(testbed: Testbed, mark: str, said: str) -> None:
    site = testbed.shared / "site.toml"
    site.write_text(SITE.format(shared=testbed.shared))
    plan = ["plan", str(ROOT / "sweeps" / "specs" / "tour.toml"), "--site", str(site)]
    _, before = typed(testbed, *plan)
    assert "folder    not tried whether nodes see each other's files in time" in before, before
    _, out = typed(testbed, "doctor", "--site", str(site))
    (line,) = [line for line in out.splitlines() if "files of other machines:" in line]
    assert line.startswith(mark) and said in line, out
    advice = "mount it without nocto (NFS), or with actimeo=1 (SMB, FUSE)"
    assert (f"-> {advice}" in out) == (mark == "✗"), out
    verdict = read_verdict(testbed.folder / "server")
    assert verdict is not None and verdict.mount == "client, fuse.nfs_model"
    assert datetime.now(UTC).isoformat()[:10] == verdict.at[:10]
    _, after = typed(testbed, *plan)
    (told,) = [line for line in after.splitlines() if line.startswith("folder ")]
    assert verdict.finding.text in told and (advice in told) == (mark == "✗") and verdict.at[:10] in told
