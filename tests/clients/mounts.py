"""Clients of one shared folder on this machine: mounts of `client.c`, each with caches of its own."""

import os
import shutil
import signal
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

PACKAGES = "fuse3 libfuse3-dev pkg-config gcc libc6-dev"
SOURCE = Path(__file__).with_name("client.c")
FOR_EVER = {"acregmin": 3600, "acregmax": 3600, "acdirmin": 3600, "acdirmax": 3600, "delay": 3600}
"""Times of a client that learns nothing by waiting: a test with it needs no pauses."""
START_LIMIT_S = 60.0
FAULTS = "4i"


def no_fuse() -> str | None:
    """Why no file system can be mounted here, whatever is installed; None where one can."""
    if os.geteuid() != 0:
        return "clients of a shared folder are mounts, which need root"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"/dev/fuse cannot be opened ({error.strerror}), as in some containers"
    return None


def missing() -> str | None:
    """Why no clients can be mounted here, and what to type; None where they can."""
    if reason := no_fuse():
        return reason
    libraries = shutil.which("pkg-config") and subprocess.run(["pkg-config", "fuse3"], check=False).returncode == 0
    if not (libraries and shutil.which("gcc") and shutil.which("fusermount3")):
        return f"no FUSE or no compiler: apt-get install -y --no-install-recommends {PACKAGES}"
    return None


def compiled(folder: Path) -> Path:
    """Compile the client; returns its program."""
    program = folder / "client"
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "fuse3"], capture_output=True, text=True, check=True)
    words = ["gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(program), str(SOURCE), *flags.stdout.split()]
    subprocess.run(words, check=True)
    return program


class Clients:
    """The clients of one server, by name; each sees the server's folder at its own path."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program, self._folder = program, folder
        self.server = folder / "server"
        self.server.mkdir(parents=True, exist_ok=True)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *names: str, **options: float) -> list[Path]:
        """Mount clients with options of client.c, by default `FOR_EVER`; returns where they see the server's folder."""
        return [self._start(name, FOR_EVER | options) for name in names]

    def _start(self, name: str, options: dict[str, Any]) -> Path:
        place = self._folder / name
        place.mkdir()
        words = [f"source={self.server}", f"mount={place}", f"log={self._log(name)}", f"faults={self._faults(name)}"]
        words += [f"{option}={value}" for option, value in options.items()]
        self._processes[name] = subprocess.Popen([self._program, *words], stdin=subprocess.DEVNULL)
        end_s = time.monotonic() + START_LIMIT_S
        while not place.is_mount():
            assert self._processes[name].poll() is None and time.monotonic() < end_s, f"{name} is not mounted"
            time.sleep(0.01)
        return place

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _faults(self, name: str) -> Path:
        return self._folder / f"{name}.faults"

    def untrue(self, name: str) -> list[str]:
        """What a client has said that differs from the truth, such as "absent /runs/x/cluster/stop 4711 python"."""
        return self._log(name).read_text().splitlines()

    def fail(self, name: str, error: int, *, before: int = 0, times: int = 1) -> None:
        """Let `before` calls of the server go well, and the next `times` end with an error."""
        self._faults(name).write_bytes(struct.pack(FAULTS, error, before, times, 0))

    def calls(self, name: str) -> int:
        """How many calls of the server there were since `fail`."""
        return int(struct.unpack(FAULTS, self._faults(name).read_bytes())[3])

    def stop(self, name: str, *, hangs: bool = True) -> None:
        """Let a client hang, or go on."""
        self._processes[name].send_signal(signal.SIGSTOP if hangs else signal.SIGCONT)

    def cut(self, name: str) -> None:
        """Take a client's power: what it has not written to the server is lost."""
        self._processes.pop(name).kill()
        subprocess.run(["umount", "--lazy", str(self._folder / name)], check=False)

    def end(self) -> None:
        """Unmount all."""
        for name, process in self._processes.items():
            process.send_signal(signal.SIGCONT)
            subprocess.run(["umount", "--lazy", str(self._folder / name)], check=False)
            process.terminate()
            try:
                process.wait(10.0)
            except subprocess.TimeoutExpired:  # a file is still open
                process.kill()
                process.wait(10.0)
