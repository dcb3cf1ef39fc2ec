"""Asks a Ray head as somebody without its token, or its certificates, would, and makes sure that it refuses.

Ray's variables have no public contract: one that a newer Ray has renamed would open the cluster without a word. The
call is written by hand (HTTP/2 as RFC 9113 and 7541 have it), for Ray's own client would show the token.
"""

import os
import socket
import ssl
import struct
from collections.abc import Mapping
from contextlib import nullcontext

from hpc.errors import ClusterError, HeadStartError
from hpc.ray.private import shows_token

LIMIT_S = 60.0
_CALL = "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo"  # changes nothing, and is asked first
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _END = 0, 1, 4, 4
_UNAUTHENTICATED = b"16"  # of gRPC
_MOST_BYTES = 1 << 20
_INSTEAD = "so nothing is started; install the version of Ray that pyproject.toml names"


def check_closed(address: str, variables: Mapping[str, str]) -> None:
    """Do nothing if the head at `address` ("ip:port") refuses a call that shows no token.

    With TLS it has to refuse who shows no certificate, and the same call with one.

    Args:
        address: of the head.
        variables: of Ray, which say whether there is TLS, and with which certificate.

    Raises:
        HeadStartError: it is not there.
        ClusterError: it answers, or says something else.
    """
    known = None
    try:
        if variables.get("RAY_USE_TLS") == "1":
            known = ssl.create_default_context(cafile=variables["RAY_TLS_CA_CERT"])
            known.set_alpn_protocols(["h2"])
            _refuse_unencrypted(address, known)
            known.load_cert_chain(variables["RAY_TLS_SERVER_CERT"], variables["RAY_TLS_SERVER_KEY"])
        status = _asked(address, known)
    except OSError as error:
        raise HeadStartError(f"the Ray head at {address} does not answer: {error}") from error
    if status != _UNAUTHENTICATED:
        raise ClusterError(
            f"the Ray head at {address} does not ask for its token (status {status.decode(errors='replace')!r}): "
            f"anybody in the network could run code as you, {_INSTEAD}"
        )


def _refuse_unencrypted(address: str, no_certificate: ssl.SSLContext) -> None:
    for how in (None, no_certificate):
        try:
            status = _asked(address, how)
        except ConnectionRefusedError:  # nobody listens
            raise
        except OSError:  # an alert, or the connection is closed
            continue
        if status:
            raise ClusterError(f"the Ray head at {address} answers who shows no certificate, {_INSTEAD}")


def _asked(address: str, context: ssl.SSLContext | None) -> bytes:
    """gRPC's status of the answer; empty where there is none."""
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), LIMIT_S) as plain,
        context.wrap_socket(plain, server_hostname=host) if context else nullcontext(plain) as connection,
    ):
        connection.settimeout(LIMIT_S)
        connection.sendall(_request())
        return _status(connection)


def check_driver(address: str) -> None:
    """Do nothing if this process shows a token to the head at `address`, which refuses who shows none.

    Raises:
        ClusterError: see `check_closed`; or Ray in this process is in another mode.
    """
    if not shows_token():
        raise ClusterError(f"Ray in this process is not in its token mode, though RAY_AUTH_MODE says so, {_INSTEAD}")
    check_closed(address, os.environ)


def _request() -> bytes:
    headers = {
        ":method": "POST", ":scheme": "http", ":path": _CALL, ":authority": "x",
        "content-type": "application/grpc", "te": "trailers",
    }  # fmt: skip
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in headers.items())
    return _PREFACE + _frame(_SETTINGS, 0, 0, b"") + _frame(_HEADERS, _END, 1, block) + _frame(_DATA, 1, 1, bytes(5))


def _text(value: str) -> bytes:
    return bytes([len(value)]) + value.encode()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _status(connection: socket.socket) -> bytes:
    """gRPC's status of the answer; empty where the connection ends without one."""
    read = b""
    while len(read) < _MOST_BYTES:
        more = connection.recv(1 << 16)
        read += more
        rest = read.partition(b"grpc-status")[2]
        if rest and len(rest) > rest[0]:
            return rest[1 : 1 + rest[0]]
        if not more:
            break
    return b""
