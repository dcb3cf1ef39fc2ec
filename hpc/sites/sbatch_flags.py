"""The flags of sbatch: which a site may pass on, and which are refused because other parts of a sweep depend on them.

The lists are those of sbatch 20.02 to 25.11 (its manual, and `slurm_opt.c` for the spellings that no manual has). A
flag that is in no list is one of a plugin of the cluster (SPANK): it is passed on.
"""

ONE_TASK = "a job has one task on each node, which uses all that the job has there"
GPUS = "limits.gpu_hours_per_sweep and the plan count the GPUs of gpus_per_node"
READ = "the answers of sbatch are read"
OWN_JOB = "it belongs to each job"
NODE = "a worker is one node, as the plan counts it"

# What depends on a flag, and what to write instead.
REFUSED: dict[str, tuple[str, str]] = {
    # A key of the site has the same meaning, and reaches all that depends on it.
    "clusters": ("squeue, sacct, scancel and scontrol have to ask the same cluster", "cluster"),
    "cluster-constraint": ("squeue, sacct, scancel and scontrol have to ask the same cluster", "cluster"),
    "partition": ("the controller may have another one", "partition"),
    "account": ("it is a key of the site", "account"),
    "qos": ("the controller may have another one", "qos"),
    "constraint": ("the controller may have another one", "constraint"),
    "exclusive": ("a controller shares its node", "exclusive"),
    "oversubscribe": ("it contradicts exclusive", "exclusive"),
    "gres": (GPUS, "gres and gpus_per_node"),
    "gpus": (GPUS, "gpus_per_node"),
    "gpus-per-node": (GPUS, "gpus_per_node"),
    "gpus-per-socket": (GPUS, "gpus_per_node"),
    "gpus-per-task": (GPUS, "gpus_per_node"),
    "tres-per-task": (GPUS, "cpus_per_node, gpus_per_node and gres"),
    "cpus-per-task": ("trials are placed by the CPUs of a node", "cpus_per_node"),
    "cpus-per-gpu": ("trials are placed by the CPUs of a node", "cpus_per_node"),
    "mincpus": ("trials are placed by the CPUs of a node", "cpus_per_node"),
    "overcommit": ("trials are placed by the CPUs of a node", "cpus_per_node"),
    "mem": ("sbatch takes one flag of memory", "memory_gb"),
    "mem-per-cpu": ("sbatch takes one flag of memory", "memory_gb"),
    "mem-per-gpu": ("sbatch takes one flag of memory", "memory_gb"),
    "time": ("workers are replaced before their walltime ends", "walltime_min"),
    "time-min": ("SLURM could shorten a walltime that the plan counts on", "walltime_min"),
    "chdir": ("logs have to be below the folder where a job starts", "shared_folder"),
    "container": ("SLURM would not signal the processes in the container", "container"),
    "container-id": ("SLURM would not signal the processes in the container", "container"),
    # Nothing to write instead: leave it out.
    **dict.fromkeys(
        ["ntasks", "ntasks-per-node", "tasks-per-node", "ntasks-per-core", "ntasks-per-socket", "ntasks-per-board"]
        + ["ntasks-per-gpu", "ntasks-per-tres", "gpu-bind", "tres-bind", "cpu-bind"],
        (ONE_TASK, ""),
    ),
    **dict.fromkeys(["het-group", "pack-group"], ("jobs of several parts have several ids, and a worker has one", "")),
    **dict.fromkeys(["uid", "gid"], ("squeue --me would not list the jobs of another user", "")),
    "nodes": (NODE, ""),
    **dict.fromkeys(
        ["array", "job-name", "output", "error", "open-mode", "signal", "requeue", "no-requeue", "dependency", "wrap"],
        (OWN_JOB, ""),
    ),
    **dict.fromkeys(
        ["wait", "parsable", "test-only", "quiet", "verbose", "help", "usage", "version"],
        (f"{READ}, and {OWN_JOB}", ""),
    ),
}  # fmt: skip

PASSED_ON = frozenset(
    ["acctg-freq", "batch", "bb", "bbf", "begin", "comment", "consolidate-segments", "contiguous", "core-spec"]
    + ["cores-per-socket", "cpu-freq", "deadline", "delay-boot", "distribution", "exclude", "export", "export-file"]
    + ["extra", "extra-node-info", "get-user-env", "gpu-freq", "gres-flags", "hint", "hold", "ignore-pbs", "input"]
    + ["kill-on-invalid-dep", "licenses", "mail-type", "mail-user", "mcs-label", "mem-bind", "network", "nice"]
    + ["no-kill", "nodefile", "nodelist", "oom-kill-step", "power", "prefer", "priority", "profile", "propagate"]
    + ["reboot", "reservation", "resv-ports", "segment", "sockets-per-node", "spread-job", "spread-segments"]
    + ["stepmgr", "switches", "thread-spec", "threads-per-core", "tmp", "use-min-nodes", "wait-all-nodes", "wckey"]
)
"""Flags on which nothing else depends."""

SHORT = {
    "A": "account", "B": "extra-node-info", "C": "constraint", "D": "chdir", "F": "nodefile", "G": "gpus", "H": "hold",
    "J": "job-name", "L": "licenses", "M": "clusters", "N": "nodes", "O": "overcommit", "Q": "quiet", "S": "core-spec",
    "V": "version", "W": "wait", "a": "array", "b": "begin", "c": "cpus-per-task", "d": "dependency", "e": "error",
    "h": "help", "i": "input", "k": "no-kill", "m": "distribution", "n": "ntasks", "o": "output", "p": "partition",
    "q": "qos", "s": "oversubscribe", "t": "time", "v": "verbose", "w": "nodelist", "x": "exclude",
}  # fmt: skip
"""One-letter forms."""

OTHER_SPELLINGS = {"cluster": "clusters", "share": "oversubscribe", "workdir": "chdir", "whole": "exclusive"}
"""Spellings of older versions, and of the other commands."""

MOST_NAMES = 4  # of a message


def refusal(flag: str) -> str | None:
    """Return why a site cannot set a flag in its table `[sbatch]`, and what to write instead; None: it can.

        >>> refusal("nice")
        >>> refusal("mem-per-cpu")
        "'mem-per-cpu' cannot be set here: sbatch takes one flag of memory; use memory_gb, a key above [sbatch]"
        >>> refusal("licen")
        "'licen' (short for licenses): write the whole name"

    Args:
        flag: as the site writes it; leading dashes do not count.
    """
    word = flag.lstrip("-")
    names = _names(word)
    given = repr(flag) if word in names else f"{flag!r} (short for {' or '.join(names[:MOST_NAMES])})"
    refused = next((name for name in names if name in REFUSED), None)
    if refused is not None:
        reason, instead = REFUSED[refused]
        do = f"use {instead}, a key above [sbatch]" if instead else "leave it out"
        return f"{given} cannot be set here: {reason}; {do}"
    return None if word in names or not names else f"{given}: write the whole name"


def _names(word: str) -> list[str]:
    """The flags that sbatch may take a word for: getopt completes the beginning of a name. None: a plugin's flag."""
    known = {*REFUSED, *PASSED_ON}
    name = SHORT.get(word) or OTHER_SPELLINGS.get(word) or word
    if name in known:
        return [name]
    return sorted(flag for flag in known if word and flag.startswith(word))
