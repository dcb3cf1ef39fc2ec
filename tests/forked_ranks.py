"""Ranks of `--site serial` as forks of a process that has imported torch: a fresh one imports for seconds.

What a fork does is the product's: `hpc.ranks.process_ranks.serve` and its pipe.
"""

import atexit
import ctypes
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

PR_SET_CHILD_SUBREAPER = 36
ROOM_BYTES = 2**20  # of what is said of a rank
IMPORTED = ("sweeps.worker.trial", "torch._dynamo", "scipy.stats", "sklearn.metrics", "torchvision")


class ForkedRank:
    """The part of subprocess.Popen that ranks need, for a fork that is a child of this process."""

    def __init__(self, command: list[str], process_id: int) -> None:
        self.args, self.pid, self.returncode = command, process_id, None

    def poll(self) -> int | None:
        """The exit status, once it has ended."""
        if self.returncode is None:
            process, status = os.waitpid(self.pid, os.WNOHANG)
            if process:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Sends a signal, if it runs still."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it, if it runs still."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """The exit status; raises subprocess.TimeoutExpired."""
        until_s = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if until_s is not None and time.monotonic() > until_s:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            time.sleep(0.01)
        return code


def forking(
    inherited: Sequence[int], fork: Callable[[list[str], dict[str, str], int, Sequence[int]], ForkedRank]
) -> SimpleNamespace:
    """What stands for the module `subprocess` in `hpc.ranks.process_ranks`.

    `fork` is called with a rank's command, its environment, the file for its output, and the files that it keeps:
    `inherited`, and those that the product passes.
    """

    def start(command: list[str], *, env: dict[str, str], pass_fds: list[int], stdout: Any, **_: Any) -> ForkedRank:
        return fork(command, env, stdout.fileno(), (*pass_fds, *inherited))

    return SimpleNamespace(**vars(subprocess) | {"Popen": start})


def be_rank(numbers: Sequence[int], environment: dict[str, str], output: int, keep: Sequence[int]) -> NoReturn:
    """What a fresh rank's program does, without its imports: nothing of its ancestor's is left but the memory."""
    from hpc.ranks.process_ranks import serve

    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        for number in {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2, *keep}:  # noqa: PTH208
            try:
                os.close(number)
            except OSError:  # the one by which the folder was listed
                continue
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.environ.clear()
        os.environ.update(environment)
        tempfile.tempdir = None
        if environment.get("OMP_NUM_THREADS", "1") != "1":
            sys.modules["torch"].set_num_threads(int(environment["OMP_NUM_THREADS"]))
        serve(*numbers)
    except BaseException:  # noqa: BLE001  # a fork must never go on as its parent
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


class ForkServer:
    """A process without threads that has imported what ranks need; its forks become children of this process."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forked_ranks", str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()], start_new_session=True, env=os.environ | {
                    "OMP_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false",
                },
            )  # fmt: skip
        atexit.register(self._end)

    def fork(self, command: list[str], environment: dict[str, str], output: int, keep: Sequence[int]) -> ForkedRank:
        """A rank; see `forking`."""
        os.umask(mask := os.umask(0))
        files = [output, *keep]
        said = [str(Path.cwd()), mask, environment, command[-3:], list(files)]
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        try:
            socket.send_fds(self._ours, [json.dumps(said).encode()], files)
            answer = self._ours.recv(ROOM_BYTES)  # after the fork has become a child of this process
        finally:
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0)
        return ForkedRank(command, int(answer))

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()


def _serve_forks(connection: socket.socket, owner: int) -> None:
    while True:
        said, files, _, _ = socket.recv_fds(connection, ROOM_BYTES, 8)
        if not said:
            return
        child = os.fork()
        if child == 0:
            if os.fork() == 0:
                _fork_of(connection, owner, json.loads(said), files)
            os._exit(0)
        os.waitpid(child, 0)
        for number in files:
            os.close(number)


def _fork_of(connection: socket.socket, owner: int, said: list[Any], files: Sequence[int]) -> NoReturn:
    folder, mask, environment, numbers, names = said
    try:
        os.setsid()
        while os.getppid() != owner:
            time.sleep(0.001)
        os.chdir(folder)
        os.umask(mask)
        connection.send(str(os.getpid()).encode())
        as_here = dict(zip(map(str, names), files, strict=True))
        rank = (int(as_here[numbers[0]]), int(as_here[numbers[1]]), owner)
        be_rank(rank, environment, files[0], files[1:])
    finally:
        os._exit(1)


if __name__ == "__main__":
    import importlib

    for module in IMPORTED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    _serve_forks(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
