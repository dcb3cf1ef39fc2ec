"""What the tests of ranks ask of processes."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import psutil


def are_ended(process_ids: list[int], limit_s: float = 300.0) -> bool:
    """Whether the processes are gone within the limit (not even zombies of ours are left)."""
    _, alive = psutil.wait_procs([process for process in psutil.process_iter() if process.pid in process_ids], limit_s)
    return not alive


@contextmanager
def limited_processor_time() -> Iterator[str]:
    """Limit this process, and what it starts, to hours of processor time; the text that a hint contains."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (100_000, hard))
    try:
        yield "; processes here are limited to 100000 seconds of processor time (ulimit -t)"
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def spend_processor_time(process_id: int) -> None:
    """Limit another process to a second of it, as if it had used the rest."""
    resource.prlimit(process_id, resource.RLIMIT_CPU, (1, 100_000))
