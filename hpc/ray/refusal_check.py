"""Call a Ray head without its token, or without its certificates, and make sure that it refuses.

Ray's variables have no public contract: one that a newer Ray has renamed would silently open the cluster. The call is
written by hand (HTTP/2, RFC 9113 and 7541), because Ray's own client would send the token.
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
_CALL = "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo"  # it only reads
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA = 0  # kinds of frames
_HEADERS = 1
_SETTINGS = 4
_END_HEADERS = 4  # flags of frames
_END_STREAM = 1
_UNAUTHENTICATED = b"16"  # of gRPC
_MOST_BYTES = 1 << 20
_INSTEAD = "so nothing is started; install the version of Ray that pyproject.toml names"


def check_closed(address: str, variables: Mapping[str, str]) -> None:
    """Raise ClusterError unless the head at `address` ("ip:port") refuses a call without a token.

    With TLS it has to refuse clients without a certificate, and the same call with one.

    Args:
        variables: of Ray; they set TLS and its certificate.

    Raises:
        HeadStartError: it does not listen.
        ClusterError: it answers the call, or refuses it in another way.
    """
    tls = None
    try:
        if variables.get("RAY_USE_TLS") == "1":
            tls = ssl.create_default_context(cafile=variables["RAY_TLS_CA_CERT"])
            tls.set_alpn_protocols(["h2"])
            _check_refuses_without_certificate(address, tls)
            tls.load_cert_chain(variables["RAY_TLS_SERVER_CERT"], variables["RAY_TLS_SERVER_KEY"])
        status = _call(address, tls)
    except OSError as error:
        raise HeadStartError(f"the Ray head at {address} does not answer: {error}") from error
    if status != _UNAUTHENTICATED:
        raise ClusterError(
            f"the Ray head at {address} does not ask for its token (status {status.decode(errors='replace')!r}): "
            f"any user in the network could run code as you, {_INSTEAD}"
        )


def _check_refuses_without_certificate(address: str, tls: ssl.SSLContext) -> None:
    """Raise ClusterError if the head answers a plain connection, or an encrypted one without a certificate."""
    for context in (None, tls):
        try:
            status = _call(address, context)
        except ConnectionRefusedError:  # no server listens
            raise
        except OSError:  # an alert, or the connection is closed
            continue
        if status:
            raise ClusterError(f"the Ray head at {address} answers without a certificate, {_INSTEAD}")


def _call(address: str, context: ssl.SSLContext | None) -> bytes:
    """Call the head without a token; return gRPC's status of the answer, or b"" if there is none."""
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), LIMIT_S) as plain,
        context.wrap_socket(plain, server_hostname=host) if context else nullcontext(plain) as connection,
    ):
        connection.settimeout(LIMIT_S)
        connection.sendall(_request())
        return _status(connection)


def check_driver(address: str) -> None:
    """Raise ClusterError unless this process sends a token to the head, which refuses calls without one."""
    if not shows_token():
        raise ClusterError(f"Ray in this process is not in its token mode, though RAY_AUTH_MODE is set, {_INSTEAD}")
    check_closed(address, os.environ)


def _request() -> bytes:
    """Return the bytes of the call, which has no token."""
    headers = {
        ":method": "POST", ":scheme": "http", ":path": _CALL, ":authority": "x",
        "content-type": "application/grpc", "te": "trailers",
    }  # fmt: skip
    header_block = b"".join(b"\0" + _text(name) + _text(value) for name, value in headers.items())
    return (
        _PREFACE
        + _frame(_SETTINGS, flags=0, stream=0, payload=b"")
        + _frame(_HEADERS, flags=_END_HEADERS, stream=1, payload=header_block)
        + _frame(_DATA, flags=_END_STREAM, stream=1, payload=bytes(5))  # an empty message of gRPC
    )


def _text(value: str) -> bytes:
    return bytes([len(value)]) + value.encode()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _status(connection: socket.socket) -> bytes:
    """Read gRPC's status of the answer; b"" if the connection ends without one."""
    answer = b""
    while len(answer) < _MOST_BYTES:
        received = connection.recv(1 << 16)
        answer += received
        after_name = answer.partition(b"grpc-status")[2]
        if after_name:
            length = after_name[0]
            if len(after_name) > length:
                return after_name[1 : 1 + length]
        if not received:
            break
    return b""
