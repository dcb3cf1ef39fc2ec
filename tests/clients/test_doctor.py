"""The doctor finds out how late nodes see each other's files, and refuses mounts on which that is too late."""

from pathlib import Path

import pytest

from hpc.doctor import names
from hpc.doctor.finding import DoctorFolder, Finding
from hpc.doctor.names import Made, NamesWatch, make_names, mount_of, read_verdict, write_verdict
from tests.clients.mounts import Clients


def found(node: Path, login: Path) -> Finding:
    """What a node finds, which looks before the login node makes the names, and reads other answers meanwhile."""
    for folder in (login, node):
        (folder / "doctor").mkdir(exist_ok=True)
    watch = NamesWatch(DoctorFolder(node / "doctor"), 0)
    make_names(DoctorFolder(login / "doctor"), range(1))
    assert DoctorFolder(node / "doctor").read("question", Made) is None
    return watch.finding()


def test_names_are_seen_where_opening_a_folder_asks_the_server(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "NAMES_LIMIT_S", 4.0)
    monkeypatch.setattr(names, "APART_S", 1.0)
    node, login = clients.start("node", "login")
    finding = found(node, login)
    assert finding.state == "fine" and finding.text.endswith("without opening its folder not within 4 s"), finding
    write_verdict(login, finding)
    verdict = read_verdict(node)
    assert verdict is not None and (verdict.finding, verdict.mount) == (finding, "client, fuse.nfs_model")


def test_a_mount_without_close_to_open_is_refused(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "NAMES_LIMIT_S", 4.0)
    monkeypatch.setattr(names, "APART_S", 1.0)
    (login,) = clients.start("login")
    (node,) = clients.start("node", cto=0)
    finding = found(node, login)
    assert finding.state == "missing" and "mount it without nocto" in finding.advice, finding


def test_a_local_folder_is_seen_at_once_and_its_mount_named(tmp_path: Path) -> None:
    (tmp_path / "doctor").mkdir()
    watch = NamesWatch(DoctorFolder(tmp_path / "doctor"), 0)
    make_names(DoctorFolder(tmp_path / "doctor"), range(1))
    assert watch.finding().state == "fine"
    assert read_verdict(tmp_path) is None
    assert mount_of(Path("/proc/self")) == "proc, proc"
