"""What the tests of ranks ask of processes."""

import psutil


def are_ended(process_ids: list[int], limit_s: float = 300.0) -> bool:
    """Whether the processes are gone within the limit (not even zombies of ours are left)."""
    _, alive = psutil.wait_procs([one for one in psutil.process_iter() if one.pid in process_ids], limit_s)
    return not alive
