"""What somebody without the token finds on this machine: which ports a program listens on, and what they answer."""

import socket
import ssl
import struct
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass

import psutil

LIMIT_S = 60.0
OK, UNIMPLEMENTED, UNAUTHENTICATED = "0", "12", "16"  # of gRPC
# A call of each of Ray's servers: what would let code in, and what is asked first.
CALLS = (
    "ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "ray.rpc.JobInfoGcsService/AddJob",
    "ray.rpc.ActorInfoGcsService/RegisterActor",
    "ray.rpc.InternalKVGcsService/InternalKVPut",
    "ray.rpc.NodeManagerService/RequestWorkerLease",
    "ray.rpc.NodeManagerService/DrainRaylet",
    "ray.rpc.ObjectManagerService/Push",
    "ray.rpc.CoreWorkerService/PushTask",
)
_DATA, _HEADERS, _SETTINGS, _END_STREAM, _END_HEADERS = 0, 1, 4, 1, 4
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass(frozen=True, order=True)
class Port:
    """A port that a process listens on."""

    address: str
    number: int
    program: str  # the process's command line or, where it gave itself one, its title

    @property
    def place(self) -> tuple[str, int]:
        return self.address, self.number


def listening(*roots: psutil.Process) -> list[Port]:
    """All TCP ports on which these processes and their descendants listen: found by looking, at this moment."""
    ports = set()
    for process in {child for root in roots for child in [root, *root.children(recursive=True)]}:
        try:
            for at in process.net_connections(kind="tcp"):
                if at.status == psutil.CONN_LISTEN:
                    ip = at.laddr.ip.removeprefix("::ffff:")  # of IPv4, by a socket for both
                    ports.add(Port(ip, at.laddr.port, " ".join(process.cmdline())))
        except (psutil.NoSuchProcess, psutil.ZombieProcess):  # it has ended meanwhile
            continue
    return sorted(ports)


Answers = dict[str, dict[str, str | None]]  # by who asked, then by what was asked


def ask(ports: list[Port], token: str, wrong: str) -> dict[Port, Answers]:
    """What ports answer to who shows no token, a wrong one and the right one; without those that have closed."""
    with ThreadPoolExecutor(len(ports)) as pool:  # at once, for a port that answers nothing takes seconds
        answers_of_ports = pool.map(lambda port: _answers(port, token, wrong), ports)
        return {port: answers for port, answers in zip(ports, answers_of_ports, strict=True) if answers is not None}


def ask_encrypted(address: str, ports: list[Port], token: str, variables: Mapping[str, str]) -> list[dict[str, str]]:
    """What each server with TLS at an address answers: without it, without a certificate, without a token, with both.

    Who gets no answer is left out; so is a server that answers nobody.
    """
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    known = ssl.create_default_context(cafile=variables["RAY_TLS_CA_CERT"])
    known.load_cert_chain(variables["RAY_TLS_SERVER_CERT"], variables["RAY_TLS_SERVER_KEY"])
    for context in (anybody, known):
        context.set_alpn_protocols(["h2"])
    asking = {
        "no TLS": (token, None), "no certificate": (token, anybody), "no token": (None, known), "owner": (token, known),
    }  # fmt: skip
    answers_of_servers = []
    for port in ports:
        said = {}
        for who, (shown, context) in asking.items():
            with suppress(ConnectionRefusedError):  # it listens on the loopback alone, or has closed
                said[who] = grpc_status((address, port.number), CALLS[0], shown, context)
        answers_of_servers.append({who: status for who, status in said.items() if status is not None})
    return [said for said in answers_of_servers if said]


def _answers(port: Port, token: str, wrong: str) -> Answers | None:
    """None: it is closed by now."""
    answers: Answers = {}
    asking = {"stranger": None, "guesser": wrong, "owner": token}
    try:
        with ThreadPoolExecutor() as pool:  # at once: a port of torch's is silent until the limit
            first = pool.submit(grpc_status, port.place, CALLS[0], None)
            web = {who: pool.submit(http_status, port.place, shown) for who, shown in asking.items()}
        is_grpc = first.result() is not None
        for who, shown in asking.items():
            answers[who] = {"http": web[who].result()}
            if is_grpc:
                calls = CALLS[:1] if who == "owner" else CALLS  # the owner's would be acted on
                answers[who] |= {call: grpc_status(port.place, call, shown) for call in calls}
    except ConnectionRefusedError:
        return None
    return answers


def http_status(address: tuple[str, int], token: str | None) -> str:
    """The first line that a web server there answers; empty where none does."""
    shown = "" if token is None else f"Authorization: Bearer {token}\r\n"
    request = (
        f"POST /get_runtime_envs_info HTTP/1.1\r\nHost: x\r\n{shown}Content-Length: 0\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection(address, LIMIT_S) as connection:
        connection.settimeout(20.0)
        try:
            connection.sendall(request.encode())
            answer = connection.recv(64)
        except OSError:  # no web server
            return ""
    return answer.split(b"\r\n")[0].decode(errors="replace") if answer.startswith(b"HTTP/1") else ""


def grpc_status(
    address: tuple[str, int], call: str, token: str | None, context: ssl.SSLContext | None = None
) -> str | None:
    """The status with which a gRPC server there answers an empty request; None if there is no such server.

    Written by hand, so that no client's own rules stand between: what is sent is HTTP/2 as RFC 9113 and 7541 have it.
    """
    headers = {
        ":method": "POST", ":scheme": "http", ":path": f"/{call}", ":authority": "x",
        "content-type": "application/grpc", "te": "trailers",
    }  # fmt: skip
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    block = b"".join(b"\0" + _string(name) + _string(value) for name, value in headers.items())
    request = _PREFACE + _frame(_SETTINGS, 0, 0, b"")
    request += _frame(_HEADERS, _END_HEADERS, 1, block) + _frame(_DATA, _END_STREAM, 1, bytes(5))
    with socket.create_connection(address, LIMIT_S) as plain:
        plain.settimeout(30.0)
        try:
            with (
                context.wrap_socket(plain, server_hostname=address[0]) if context else nullcontext(plain) as connection
            ):
                connection.sendall(request)
                for kind, flags, payload in _frames(connection):
                    if kind == _SETTINGS and not flags:
                        connection.sendall(_frame(_SETTINGS, 1, 0, b""))
                    if kind == _HEADERS and b"grpc-status" in payload:
                        return _value_after(payload, b"grpc-status")
        except (OSError, EOFError):  # something else listens there
            return None
    return None


def _string(text: str) -> bytes:
    assert len(text) < 127
    return bytes([len(text)]) + text.encode()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _frames(connection: socket.socket) -> Iterator[tuple[int, int, bytes]]:
    while True:
        head = _exactly(connection, 9)
        size = int.from_bytes(head[:3], "big")
        if size > 1 << 20:
            raise EOFError("no HTTP/2")
        yield head[3], head[4], _exactly(connection, size)


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise EOFError("closed")
        data += more
    return data


def _value_after(block: bytes, name: bytes) -> str:
    """The plain string that follows a name in a header block."""
    rest = block.partition(name)[2]
    return rest[1 : 1 + rest[0]].decode()
