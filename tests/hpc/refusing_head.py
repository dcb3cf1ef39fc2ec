"""A port that answers as a Ray head does to who shows no token, for tests in which no Ray runs."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

REFUSES = b"\0\0\0\4\1\0\0\0\0" + b"\0\0\x0f\1\5\0\0\0\1\x40\x0bgrpc-status\x0216"


@contextmanager
def refusing_head(asked: Callable[[], object] = bool) -> Iterator[str]:
    """Its address, "ip:port", as long as the context lasts; `asked` is called before each answer."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):  # it was shut down
            while True:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(1 << 16)
                    asked()
                    connection.sendall(REFUSES)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        host, port = listening.getsockname()
        yield f"{host}:{port}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()
