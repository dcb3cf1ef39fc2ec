"""A node's network cable as a process: each frame passes through it, late, held back, or with its connections broken.

`python tests/slurm/bad_cable.py CABLE PID SOCKET` as root makes a device CABLE here and eth0 in the network of the
process PID, and joins them until it is ended. `tell` says what happens to the frames from then on.
"""

import errno
import fcntl
import os
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

SET_DEVICE, TAP_WITHOUT_HEADER = 0x400454CA, 0x1002  # of linux/if_tun.h: TUNSETIFF, IFF_TAP | IFF_NO_PI
FRAME_BYTES = 1 << 16
ETHERNET, IPV4, TCP = 14, b"\x08\x00", 6
FIN, SYN, RST = 1, 2, 4
ANSWER_LIMIT_S = 60.0

Flow = tuple[bytes, bytes]  # both addresses; both ports


def tell(control: Path, command: str) -> int:
    """Tell a cable what to do with its frames; the number of frames that are in it.

    Args:
        control: its socket.
        command: `delay SECONDS` lets each frame arrive so much later; `hold` lets none arrive; `break` resets every
            TCP connection that has used the cable; `pass` ends a delay or a hold; `count` changes nothing.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
        asking.settimeout(ANSWER_LIMIT_S)
        asking.connect(str(control))
        asking.send(command.encode())
        return int(asking.recv(32))


class Cable:
    """Two devices, and the frames between them."""

    def __init__(self, ends: tuple[int, int]) -> None:
        self._other = dict(zip(ends, reversed(ends), strict=True))
        self._delay_s, self._is_held = 0.0, False
        self._inside: deque[tuple[float, int, bytes]] = deque()  # when due, to which end, frame
        self._flows: dict[Flow, tuple[int, bytes, int]] = {}  # to which end, Ethernet header, next sequence number

    def take(self, end: int) -> None:
        """Take the next frame that was sent at an end."""
        frame, to = os.read(end, FRAME_BYTES), self._other[end]
        due_s = time.monotonic() + self._delay_s
        self._inside.append((max(due_s, self._inside[-1][0] if self._inside else 0.0), to, frame))

    def deliver(self) -> float | None:
        """Let those frames arrive that are due; seconds until the next one is, None: none will be."""
        while self._inside and not self._is_held:
            left_s = self._inside[0][0] - time.monotonic()
            if left_s > 0:
                return left_s
            _, to, frame = self._inside.popleft()
            self._follow(to, frame)
            _write(to, frame)
        return None

    def obey(self, command: str) -> int:
        """Do what `tell` says."""
        what, *of = command.split()
        if what == "delay":
            self._delay_s = float(of[0])
        elif what in ("hold", "pass"):
            self._delay_s, self._is_held = 0.0, what == "hold"
        elif what == "break":
            for flow, (to, header, number) in self._flows.items():
                _write(to, header + reset(flow, number))
            self._flows.clear()
        return len(self._inside)

    def _follow(self, to: int, frame: bytes) -> None:
        """Note what a TCP connection sends next; a reset is heard only with this number."""
        packet = frame[ETHERNET:]
        if frame[12:14] != IPV4 or packet[9] != TCP:
            return
        header_bytes = 4 * (packet[0] & 15)
        segment = packet[header_bytes : int.from_bytes(packet[2:4], "big")]
        number, flags = int.from_bytes(segment[4:8], "big"), segment[13]
        data_bytes = len(segment) - 4 * (segment[12] >> 4)
        flow = packet[12:20], segment[:4]
        if flags & RST:
            self._flows.pop(flow, None)
        else:
            following = number + data_bytes + bool(flags & SYN) + bool(flags & FIN)
            self._flows[flow] = to, frame[:ETHERNET], following % 2**32


def reset(flow: Flow, number: int) -> bytes:
    """An IPv4 packet that ends a connection, as if its sender had sent it."""
    addresses, ports = flow
    segment = ports + struct.pack(">IIBBHHH", number, 0, 5 << 4, RST, 0, 0, 0)
    pseudo = addresses + struct.pack(">BBH", 0, TCP, len(segment))
    segment = segment[:16] + _checksum(pseudo + segment) + segment[18:]
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0, 64, TCP, 0) + addresses
    return header[:10] + _checksum(header) + header[12:] + segment


def _checksum(data: bytes) -> bytes:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">H", ~total & 0xFFFF)


def _write(end: int, frame: bytes) -> None:
    try:
        os.write(end, frame)
    except OSError as error:
        if error.errno != errno.EIO:  # a device that is down: the frame is lost
            raise


def _device(name: str) -> int:
    end = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(end, SET_DEVICE, struct.pack("16sH22x", name.encode(), TAP_WITHOUT_HEADER))
    return end


def main(name: str, process: str, control: str) -> None:
    """Join both devices until one of them is gone."""
    ends = _device(name), _device(f"{name}n")
    subprocess.run(["ip", "link", "set", f"{name}n", "netns", process, "name", "eth0"], check=True)
    cable = Cable(ends)
    Path(control).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asked, selectors.DefaultSelector() as ready:
        asked.bind(control)
        asked.listen()
        for one in (*ends, asked.fileno()):
            ready.register(one, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select(cable.deliver()):
                if key.fd in ends:
                    cable.take(key.fd)
                    continue
                with asked.accept()[0] as asking:
                    asking.send(str(cable.obey(asking.recv(64).decode())).encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
