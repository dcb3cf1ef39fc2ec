"""Where the jobs of a cluster meet: files that are whole or absent, and the secret that nobody else reads."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc.cluster.cluster_folder import ClusterFolder, Head, HeadReader
from hpc.errors import ClusterError, FolderError
from hpc.sites.site import Site

SITE = Site(cpus_per_node=2, walltime_min=60, setup=("echo it's",))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o000, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("is_there", [True, False])
def test_the_folder_and_the_secret_are_the_users_alone_whatever_the_umask(tmp_path: Path, is_there: bool) -> None:
    folder = ClusterFolder(tmp_path / "cluster")
    if is_there:
        (tmp_path / "cluster").mkdir(mode=0o777)
    folder.make(SITE, "demo")
    assert (mode(folder.path), mode(folder.token)) == (0o700, 0o600)
    assert len(folder.token.read_text()) == 64


def test_with_tls_it_has_an_authority_that_is_the_users_alone(tmp_path: Path) -> None:
    folder, other, node = ClusterFolder(tmp_path / "a"), ClusterFolder(tmp_path / "b"), tmp_path / "node"
    node.mkdir()
    for cluster in (folder, other):
        cluster.make(SITE.model_copy(update={"tls": True}), "demo")
    authority = {path.name: path.read_bytes() for path in folder.path.glob("ca.*")}
    assert [mode(folder.path / name) for name in ("ca.key", "ca.pem")] == [0o600, 0o600]
    assert authority != {path.name: path.read_bytes() for path in other.path.glob("ca.*")}
    folder.make(SITE.model_copy(update={"tls": True}), "demo")
    assert authority == {path.name: path.read_bytes() for path in folder.path.glob("ca.*")}
    assert set(folder.tls("10.0.0.1", node)) == {
        "RAY_USE_TLS", "RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT",
    }  # fmt: skip
    assert {path.name: mode(path) for path in node.iterdir()} == {"node.key": 0o600, "node.pem": 0o600}
    (folder.path / "ca.key").chmod(0o640)
    with pytest.raises(ClusterError, match=r"others can read .*ca.key"):
        folder.check()
    (folder.path / "ca.key").write_text("torn")
    with pytest.raises(ClusterError, match=r"no certificate for 10.0.0.1 can be made: .*launch the sweep again"):
        folder.tls("10.0.0.1", node)
    other.make(SITE, "demo")
    assert other.tls("10.0.0.1", tmp_path) == {}


def test_made_again_it_keeps_secret_and_name_and_takes_the_new_site(tmp_path: Path) -> None:
    folder = ClusterFolder(tmp_path / "cluster")
    folder.make(SITE, "demo")
    before = folder.token.read_text(), folder.name
    other = SITE.model_copy(update={"partition": "gpu"})
    folder.make(other, "demo")
    assert (folder.token.read_text(), folder.name) == before
    assert folder.site() == other
    assert folder.name.startswith("demo-")


def test_two_clusters_of_one_name_have_different_jobs(tmp_path: Path) -> None:
    folders = [ClusterFolder(tmp_path / name) for name in ("a", "b")]
    for folder in folders:
        folder.make(SITE, "demo")
    assert folders[0].name != folders[1].name
    assert folders[0].token.read_text() != folders[1].token.read_text()


def test_a_head_takes_back_only_what_it_told(tmp_path: Path) -> None:
    folder = ClusterFolder(tmp_path)
    old, new = (Head(address=f"10.0.0.{number}:1", generation=str(number), job=str(number)) for number in (1, 2))
    assert folder.head() is None
    folder.set_head(old)
    folder.set_head(new)
    folder.unset_head(old.generation)  # it was cut off for a while, and comes to its end now
    assert folder.head() == new
    folder.unset_head(new.generation)
    assert folder.head() is None
    folder.unset_head(new.generation)


def test_a_folder_that_is_no_clusters_says_so(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="not the folder of a cluster: it has no site.json"):
        ClusterFolder(tmp_path).site()


def test_a_head_that_cannot_be_read_for_a_while_is_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ClusterFolder(tmp_path)
    head = Head(address="127.0.0.1:1", generation="g", job="7")
    folder.set_head(head)
    reader = HeadReader(folder)
    monkeypatch.setattr("hpc.cluster.cluster_folder.FAULT_LIMIT_S", 1e9)
    assert reader() == head
    (tmp_path / "head.json").unlink()
    assert reader() is None  # it has gone: that is no fault
    folder.set_head(head)
    assert reader() == head
    (tmp_path / "head.json").unlink()
    (tmp_path / "head.json").mkdir()  # for ESTALE, EIO or EACCES, which no test can have at will
    assert [reader(), reader()] == [head, head]
    assert capfd.readouterr().err.count("cannot be read") == 1
    monkeypatch.setattr("hpc.cluster.cluster_folder.FAULT_LIMIT_S", -1.0)
    with pytest.raises(FolderError, match="could not be read for -1 s"):
        reader()
