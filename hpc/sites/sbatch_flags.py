"""Which flags of sbatch a site may pass on, and which are refused because other parts of a sweep depend on them.

The lists are those of sbatch 20.02 to 25.11 (its manual, and `slurm_opt.c` for the spellings that no manual has). A
flag that is in no list is one of a plugin of the cluster (SPANK): it is passed on.
"""

ONE_TASK = "a job has one task on each node, which uses all that the job has there"
GPUS = "limits.gpu_hours_per_sweep and the plan count the GPUs of gpus_per_node"
OWN_JOB = "it belongs to each job"
READ_AND_OWN_JOB = f"the answers of sbatch are read, and {OWN_JOB}"
NODE = "a worker is one node, as the plan counts it"

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
    "ntasks": (ONE_TASK, ""),
    "ntasks-per-node": (ONE_TASK, ""),
    "tasks-per-node": (ONE_TASK, ""),
    "ntasks-per-core": (ONE_TASK, ""),
    "ntasks-per-socket": (ONE_TASK, ""),
    "ntasks-per-board": (ONE_TASK, ""),
    "ntasks-per-gpu": (ONE_TASK, ""),
    "ntasks-per-tres": (ONE_TASK, ""),
    "gpu-bind": (ONE_TASK, ""),
    "tres-bind": (ONE_TASK, ""),
    "cpu-bind": (ONE_TASK, ""),
    "het-group": ("jobs of several parts have several ids, and a worker has one", ""),
    "pack-group": ("jobs of several parts have several ids, and a worker has one", ""),
    "uid": ("squeue --me would not list the jobs of another user", ""),
    "gid": ("squeue --me would not list the jobs of another user", ""),
    "nodes": (NODE, ""),
    "array": (OWN_JOB, ""),
    "job-name": (OWN_JOB, ""),
    "output": (OWN_JOB, ""),
    "error": (OWN_JOB, ""),
    "open-mode": (OWN_JOB, ""),
    "signal": (OWN_JOB, ""),
    "requeue": (OWN_JOB, ""),
    "no-requeue": (OWN_JOB, ""),
    "dependency": (OWN_JOB, ""),
    "wrap": (OWN_JOB, ""),
    "wait": (READ_AND_OWN_JOB, ""),
    "parsable": (READ_AND_OWN_JOB, ""),
    "test-only": (READ_AND_OWN_JOB, ""),
    "quiet": (READ_AND_OWN_JOB, ""),
    "verbose": (READ_AND_OWN_JOB, ""),
    "help": (READ_AND_OWN_JOB, ""),
    "usage": (READ_AND_OWN_JOB, ""),
    "version": (READ_AND_OWN_JOB, ""),
}
"""Flag -> what depends on it, and the key of a site to use instead ("" if there is none)."""

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
    """Return why a site cannot set a flag in its table `[sbatch]`, and what to write instead; None if it can.

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
    is_whole_name = word in names
    shown = repr(flag)
    if not is_whole_name:
        shown += f" (short for {' or '.join(names[:MOST_NAMES])})"
    for name in names:
        if name in REFUSED:
            reason, key = REFUSED[name]
            advice = f"use {key}, a key above [sbatch]" if key else "leave it out"
            return f"{shown} cannot be set here: {reason}; {advice}"
    if names and not is_whole_name:
        return f"{shown}: write the whole name"
    return None


def _names(word: str) -> list[str]:
    """Return the flags for which sbatch may take a word: it completes the beginning of a name. [] if it knows none."""
    known = {*REFUSED, *PASSED_ON}
    name = SHORT.get(word) or OTHER_SPELLINGS.get(word) or word
    if name in known:
        return [name]
    if not word:
        return []
    return sorted(flag for flag in known if flag.startswith(word))
