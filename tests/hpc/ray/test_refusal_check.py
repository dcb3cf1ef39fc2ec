"""A Ray that would let strangers in is noticed before anything runs on it; real ones are asked in test_strangers.py."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from hpc.cluster.cluster_folder import ClusterFolder
from hpc.errors import ClusterError, HeadStartError
from hpc.ray.private import read_environment_again, shows_token
from hpc.ray.refusal_check import check_closed, check_driver
from hpc.sites.site import Site
from tests.hpc.refusing_head import REFUSES

ANSWERS = REFUSES.replace(b"\x0216", b"\x010")


@contextmanager
def server(answer: bytes, tls: ssl.SSLContext | None = None, calls: int = 1) -> Iterator[str]:
    """A port that answers so many calls, each in two pieces, and closes; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve_one(plain: socket.socket) -> None:
            secured = tls.wrap_socket(plain, server_side=True) if tls else plain
            with secured as connection:
                connection.recv(1 << 16)
                for piece in (answer[: len(answer) // 2], answer[len(answer) // 2 :]):
                    connection.sendall(piece)

        def serve() -> None:
            for _ in range(calls):
                plain, _ = listening.accept()
                with plain, suppress(OSError):  # no TLS, no certificate
                    serve_one(plain)

        thread = threading.Thread(target=serve)
        thread.start()
        host, port = listening.getsockname()
        yield f"{host}:{port}"
        thread.join()


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """Of a node with a certificate for the loopback."""
    folder = ClusterFolder(tmp_path / "cluster")
    folder.make(Site(cpus_per_node=1, walltime_min=10, tls=True), "demo")
    return folder.tls("127.0.0.1", tmp_path)


def context(variables: dict[str, str], asks: ssl.VerifyMode) -> ssl.SSLContext:
    """Of a server with that certificate."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(variables["RAY_TLS_SERVER_CERT"], variables["RAY_TLS_SERVER_KEY"])
    tls.load_verify_locations(variables["RAY_TLS_CA_CERT"])
    tls.verify_mode = asks
    return tls


def test_a_head_that_refuses_is_used() -> None:
    with server(REFUSES) as address:
        check_closed(address, {})


@pytest.mark.parametrize("answer", [ANSWERS, b"HTTP/1.1 200 OK\r\n\r\n", b"grpc-status", b"grpc-status\x7f16", b""])
def test_a_head_that_does_not_refuse_is_not_used(answer: bytes) -> None:
    with server(answer) as address, pytest.raises(ClusterError, match="does not ask for its token"):
        check_closed(address, {})


def test_a_head_that_is_not_there_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(ClusterError, match="does not answer"):
        check_closed(f"127.0.0.1:{port}", {})


def test_a_driver_whose_ray_takes_no_token_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    before = shows_token()
    with monkeypatch.context() as changed:
        changed.setenv("RAY_AUTH_MODE", "disabled")
        read_environment_again()
        with pytest.raises(ClusterError, match="not in its token mode"):
            check_driver("127.0.0.1:1")
    read_environment_again()
    assert shows_token() == before


def test_with_tls_a_head_that_wants_certificate_and_token_is_used(variables: dict[str, str]) -> None:
    with server(REFUSES, context(variables, ssl.CERT_REQUIRED), calls=3) as address:
        check_closed(address, variables)


def test_with_tls_a_head_that_wants_no_certificate_is_not_used(variables: dict[str, str]) -> None:
    with server(REFUSES) as address, pytest.raises(ClusterError, match="answers without a certificate"):
        check_closed(address, variables)
    with (
        server(REFUSES, context(variables, ssl.CERT_NONE), calls=2) as address,
        pytest.raises(ClusterError, match="answers without a certificate"),
    ):
        check_closed(address, variables)


def test_with_tls_a_head_that_wants_no_token_is_not_used(variables: dict[str, str]) -> None:
    with (
        server(ANSWERS, context(variables, ssl.CERT_REQUIRED), calls=3) as address,
        pytest.raises(ClusterError, match="does not ask for its token"),
    ):
        check_closed(address, variables)


@pytest.mark.parametrize(("authority", "at"), [("other", "127.0.0.1"), ("cluster", "10.0.0.9")])
def test_a_certificate_of_another_authority_or_address_is_not_believed(
    authority: str, at: str, variables: dict[str, str], tmp_path: Path
) -> None:
    folder = ClusterFolder(tmp_path / authority)
    folder.make(Site(cpus_per_node=1, walltime_min=10, tls=True), "demo")
    (tmp_path / "node").mkdir()
    impostor = context(folder.tls(at, tmp_path / "node"), ssl.CERT_REQUIRED)
    with (
        server(REFUSES, impostor, calls=3) as address,
        pytest.raises(HeadStartError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        check_closed(address, variables)
