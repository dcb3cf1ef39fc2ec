"""Raise or report the limits that a process inherits from its shell (`ulimit`)."""

import resource

MOST_FILES = 65_536  # more would slow down each start of a process that closes all possible files
_RAISED = ("NOFILE", "NPROC", "CPU", "AS", "DATA", "FSIZE")
_FATAL = {
    "CPU": "seconds of processor time (ulimit -t)",
    "AS": "bytes of address space (ulimit -v)",
    "DATA": "bytes of data (ulimit -d)",
    "FSIZE": "bytes of a file (ulimit -f)",
}


def raise_limits() -> None:
    """Raise the limits of this process, and of those that it starts, as far as the system allows."""
    for name in _RAISED:
        number = getattr(resource, f"RLIMIT_{name}")
        soft, hard = resource.getrlimit(number)
        wanted = hard
        if name == "NOFILE":
            wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
        is_lower = soft != resource.RLIM_INFINITY and (wanted == resource.RLIM_INFINITY or soft < wanted)
        if is_lower:
            resource.setrlimit(number, (wanted, hard))


def open_files() -> int:
    """Return how many files this process may have open, after `raise_limits`."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft


def list_fatal_limits() -> list[str]:
    """Describe the limits that are set and end a process which exceeds them; ranks that die may have done so."""
    descriptions = []
    for name, description in _FATAL.items():
        soft, _hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
        if soft != resource.RLIM_INFINITY:
            descriptions.append(f"{soft} {description}")
    return descriptions


def limits_hint() -> str:
    """Return the end of a message about a process that died; "" if no limit can have ended it."""
    limits = list_fatal_limits()
    return f"; processes here are limited to {' and '.join(limits)}" if limits else ""
