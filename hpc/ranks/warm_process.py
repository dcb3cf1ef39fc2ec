"""The warm process: it has imported what ranks need, and forks them. So a rank starts in an instant and shares memory.

The standard library's fork server serves only the process that started it, and hides what it could not import. This one
is started before Ray and serves all slots of a machine.
"""

import gc
import os
import secrets
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, cast

from hpc.environment import for_ranks
from hpc.ranks.forked import NUMBER, user_of
from hpc.ranks.process_ranks import end_with_parent, serve
from hpc.ranks.ranks import CLOSE_LIMIT_S, class_of
from transtailor.waiting import reap

# Libraries start no threads while they are imported: a fork would lack them. The second is that of pyarrow's jemalloc.
# And torch's compiler makes no folder for its cache: forks have one of their own.
IMPORTING = {
    "OMP_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "TORCHINDUCTOR_CACHE_DIR": tempfile.gettempdir(),
}
FILES_OF_A_RANK = 3


@contextmanager
def warm_process(target: str) -> Iterator[str]:
    """Start a warm process for ranks of `target`, "module:Class"; yield its address at once, for `ProcessRanks`.

    It calls the class's static method `import_ahead`, if there is one. It ends with the context, or the thread that
    started it, and so do all ranks that it has forked. If it cannot fork, ranks start without it.
    """
    address = secrets.token_hex(16)  # an abstract one, which leaves no file; both ends ask who the other one is
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{address}")
        listener.listen()
        process = _start(target, listener.fileno())
    try:
        yield address
    finally:
        if process is not None:
            process.terminate()
            reap(process, CLOSE_LIMIT_S)


def _start(target: str, listener: int) -> subprocess.Popen[bytes] | None:
    """Start the process; None if that fails."""
    arguments = [str(listener), str(os.getpid()), target]  # of `main`
    with suppress(OSError):  # the environment is gone, no more processes: a fresh rank says so
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "hpc.ranks.warm_process", *arguments],
            env=for_ranks(os.environ) | IMPORTING,
            pass_fds=[listener],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # a fresh rank says what cannot be imported
            start_new_session=True,  # no Ctrl-C from the terminal
        )
    return None


@dataclass
class _Rank:
    """A forked process, and the connection to its owner."""

    process_id: int
    file: int  # ready once it has ended
    owner: socket.socket
    is_abandoned: bool = False  # its owner has closed the connection
    has_ended: bool = False


class _Forker:
    """Forks a rank for each connection, reports its end there, and ends it when the other end is closed."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._id = os.getpid()
        self._ranks: list[_Rank] = []
        self._selector = selectors.PollSelector()  # no file, which forks would share
        self._selector.register(listener, selectors.EVENT_READ)

    def run(self) -> NoReturn:
        """Serve until this process is ended; then end all ranks."""
        try:
            while True:
                for key, _ in self._selector.select():
                    if key.fileobj is self._listener:
                        self._accept()
                    elif key.data is None:
                        self._fork(cast(socket.socket, key.fileobj))
                    elif key.fd == key.data.file:
                        self._note_end(key.data)
                    else:
                        self._end(key.data)
        finally:
            for rank in self._ranks:
                os.killpg(rank.process_id, signal.SIGKILL)
            os._exit(0)  # at once: the libraries have nothing to finish

    def _accept(self) -> None:
        owner, _ = self._listener.accept()
        if user_of(owner) == os.geteuid():
            self._selector.register(owner, selectors.EVENT_READ)
        else:
            owner.close()

    def _fork(self, owner: socket.socket) -> None:
        """Fork a rank with the files that its owner has sent."""
        self._selector.unregister(owner)
        _, files, _, _ = socket.recv_fds(owner, 1, FILES_OF_A_RANK)
        try:
            process_id = os.fork() if len(files) == FILES_OF_A_RANK else None
        except OSError:  # no more processes, no memory: the owner hears that nothing comes
            process_id = None
        if process_id == 0:
            owner.close()
            self._be_rank(*files)
        for number in files:
            os.close(number)
        if process_id is None:
            owner.close()
            return
        with suppress(OSError):  # it has done so itself
            os.setpgid(process_id, process_id)
        rank = _Rank(process_id, os.pidfd_open(process_id), owner)
        self._ranks.append(rank)
        _send(owner, process_id)
        self._selector.register(rank.file, selectors.EVENT_READ, rank)
        self._selector.register(owner, selectors.EVENT_READ, rank)

    def _note_end(self, rank: _Rank) -> None:
        """Send a rank's exit status to its owner."""
        rank.has_ended = True
        self._selector.unregister(rank.file)
        if rank.is_abandoned:
            self._forget(rank)
            return
        # WNOWAIT: its id stays taken while its owner is there.
        end = os.waitid(os.P_PID, rank.process_id, os.WEXITED | os.WNOWAIT)
        assert end is not None
        was_killed = end.si_code != os.CLD_EXITED
        _send(rank.owner, -end.si_status if was_killed else end.si_status)

    def _end(self, rank: _Rank) -> None:
        """End a rank whose owner has closed the connection."""
        rank.is_abandoned = True
        os.killpg(rank.process_id, signal.SIGKILL)
        self._selector.unregister(rank.owner)
        rank.owner.close()
        if rank.has_ended:
            self._forget(rank)

    def _forget(self, rank: _Rank) -> None:
        os.waitpid(rank.process_id, 0)
        os.close(rank.file)
        self._ranks.remove(rank)

    def _be_rank(self, connection: int, heartbeats: int, output: int) -> NoReturn:
        """Do what a fresh rank's program does, in a fork that keeps nothing of its parent but the memory."""
        status = 1
        try:
            os.setpgid(0, 0)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._listener.close()
            for rank in self._ranks:
                rank.owner.close()
                os.close(rank.file)
            for number in (sys.stdout.fileno(), sys.stderr.fileno()):
                os.dup2(output, number)
            os.close(output)
            serve(connection, heartbeats, self._id)
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:  # noqa: BLE001  # a fork must never become its parent
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)


def _send(owner: socket.socket, number: int) -> None:
    with suppress(OSError):  # it has gone
        owner.send(NUMBER.pack(number))


def _why_not_fork() -> str | None:
    """Return why this process must not fork; None if it may."""
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads > 1:
        return f"it has {threads} threads, which a fork would lack"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return "it uses a GPU, which a fork cannot"
    return None


def main(listener_number: int, owner_id: int, target: str) -> None:
    """Import the target's module, then fork ranks until this process is ended."""
    end_with_parent(owner_id)
    cores = os.sched_getaffinity(0)
    target_class = class_of(target)
    if hasattr(target_class, "import_ahead"):
        target_class.import_ahead()
    os.sched_setaffinity(0, cores)  # a library may have pinned its importer, and so all forks
    reason = _why_not_fork()
    if reason is not None:
        sys.exit(f"no rank is forked from this process: {reason}")
    gc.collect()
    gc.freeze()  # the collector of a rank does not touch what it shares
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    _Forker(socket.socket(fileno=listener_number)).run()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
