"""Limits that a process inherits from its shell (`ulimit`): raise them, or report them."""

import resource

MOST_FILES = 65_536  # more would slow down each start of a process that closes all possible files
FILES_PER_WORKER = 10  # that a Ray head keeps open for a worker, and for each trial
OTHER_FILES = 100
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
        most = min(hard, MOST_FILES) if name == "NOFILE" and hard != resource.RLIM_INFINITY else hard
        if name == "NOFILE" and hard == resource.RLIM_INFINITY:
            most = MOST_FILES
        if soft != resource.RLIM_INFINITY and (most == resource.RLIM_INFINITY or soft < most):
            resource.setrlimit(number, (most, hard))


def open_files() -> int:
    """How many files this process may have open, after `raise_limits`."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def list_fatal_limits() -> list[str]:
    """Descriptions of the set limits that end a process which exceeds them; ranks that die may have done so."""
    limits = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0] for name in _FATAL}
    return [f"{soft} {_FATAL[name]}" for name, soft in limits.items() if soft != resource.RLIM_INFINITY]


def limits_hint() -> str:
    """The end of a message about a process that died; empty if no limit can have ended it."""
    limits = list_fatal_limits()
    return f"; processes here are limited to {' and '.join(limits)}" if limits else ""
