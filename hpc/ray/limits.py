"""Limits of the shell that a process comes from (`ulimit`), which its children inherit: raised, or told of."""

import resource

MOST_FILES = 65_536  # more makes every start of a process slower, where it closes all that could be open
FILES_PER_WORKER = 10  # that a Ray head keeps open for a worker, and for each trial
OTHER_FILES = 100
_RAISED = ("NOFILE", "NPROC", "CPU", "AS", "DATA", "FSIZE")
_IN_WORDS = {
    "CPU": "seconds of processor time (ulimit -t)",
    "AS": "bytes of address space (ulimit -v)",
    "DATA": "bytes of data (ulimit -d)",
    "FSIZE": "bytes of a file (ulimit -f)",
}


def raise_limits() -> None:
    """Lets this process, and those that it starts, have as much as the system allows it."""
    for name in _RAISED:
        number = getattr(resource, f"RLIMIT_{name}")
        soft, hard = resource.getrlimit(number)
        most = min(hard, MOST_FILES) if name == "NOFILE" and hard != resource.RLIM_INFINITY else hard
        if name == "NOFILE" and hard == resource.RLIM_INFINITY:
            most = MOST_FILES
        if soft != resource.RLIM_INFINITY and (most == resource.RLIM_INFINITY or soft < most):
            resource.setrlimit(number, (most, hard))


def open_files() -> int:
    """How many files this process may have open, once `raise_limits` was called."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def list_fatal_limits() -> list[str]:
    """Those limits of this process that end one which needs much, in words; ranks that die may have met them."""
    found = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0] for name in _IN_WORDS}
    return [f"{soft} {_IN_WORDS[name]}" for name, soft in found.items() if soft != resource.RLIM_INFINITY]


def limits_hint() -> str:
    """The end of a message about a process that died; empty where no limit can have ended it."""
    found = list_fatal_limits()
    return f"; processes here are limited to {' and '.join(found)}" if found else ""
