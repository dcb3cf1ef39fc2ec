"""A Ray that would let strangers in is noticed before anything runs on it; real ones are asked in test_strangers.py."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hpc.errors import ClusterError
from hpc.ray.private import read_environment_again, shows_token
from hpc.ray.stranger import check_closed, check_driver
from tests.hpc.refusing_head import REFUSES

ANSWERS = REFUSES.replace(b"\x0216", b"\x010")


@contextmanager
def server(answer: bytes) -> Iterator[str]:
    """A port that gives this answer, in two pieces, and closes; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1 << 16)
                for piece in (answer[: len(answer) // 2], answer[len(answer) // 2 :]):
                    connection.sendall(piece)

        thread = threading.Thread(target=serve)
        thread.start()
        host, port = listening.getsockname()
        yield f"{host}:{port}"
        thread.join()


def test_a_head_that_refuses_is_used() -> None:
    with server(REFUSES) as address:
        check_closed(address)


@pytest.mark.parametrize("answer", [ANSWERS, b"HTTP/1.1 200 OK\r\n\r\n", b"grpc-status", b"grpc-status\x7f16", b""])
def test_a_head_that_does_not_refuse_is_not_used(answer: bytes) -> None:
    with server(answer) as address, pytest.raises(ClusterError, match="does not ask for its token"):
        check_closed(address)


def test_a_head_that_is_not_there_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(ClusterError, match="does not answer"):
        check_closed(f"127.0.0.1:{port}")


def test_a_driver_whose_ray_takes_no_token_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    before = shows_token()
    with monkeypatch.context() as changed:
        changed.setenv("RAY_AUTH_MODE", "disabled")
        read_environment_again()
        with pytest.raises(ClusterError, match="not in its token mode"):
            check_driver("127.0.0.1:1")
    read_environment_again()
    assert shows_token() == before
