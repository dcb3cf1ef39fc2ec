"""Errors of sites, SLURM and Ray clusters, and explanations of SLURM's reasons and refusals."""

from transtailor.errors import UserError

# SLURM's code of why a job waits or how it ended -> an explanation (squeue's manual, JOB REASON CODES).
REASONS = {
    "None": "nothing keeps it: it runs or has ended, or the scheduler has not looked at it yet",
    "Priority": "jobs with a higher priority are first",
    "Resources": "its turn has come; the nodes that it needs are still busy",
    "Dependency": "a job that it depends on has not ended",
    "DependencyNeverSatisfied": "the job that it depends on ended in another way than required: it will never start",
    "BeginTime": "its earliest start is in the future, as for some seconds (up to minutes) after a requeue",
    "JobHeldUser": "it is held by its owner; scontrol release ends that",
    "JobHeldAdmin": "it is held by an administrator; ask them",
    "launch failed requeued held": "it failed to start and is held; scontrol release tries again",
    "ReqNodeNotAvail": "a node that it needs is down, drained or reserved",
    "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions":
        "the nodes that it needs are down, drained, or kept for partitions with a higher priority",
    "Reservation": "its reservation has not begun",
    "PartitionConfig": "it asks for more than its partition allows: walltime, nodes or memory",
    "PartitionDown": "its partition is down",
    "PartitionInactive": "its partition starts no jobs at present",
    "PartitionNodeLimit": "it asks for more nodes than its partition allows, or they are down: ask for fewer",
    "PartitionTimeLimit": "its walltime is longer than its partition allows: lower walltime_min",
    "JobArrayTaskLimit": "the limit of running elements of its array is reached",
    "AssociationJobLimit": "the account has reached its limit of jobs",
    "AssocGrpGRES": "the account has reached its limit of GPUs",
    "AssocGrpCpuLimit": "the account has reached its limit of CPUs",
    "AssocMaxJobsLimit": "you have reached your limit of jobs in this account",
    "AssocGrpGRESMinutes": "the account has used up its GPU time",
    "AssocGrpCPUMinutesLimit": "the account has used up its CPU time",
    "QOSMaxJobsPerUserLimit": "you have reached the limit of jobs of this quality of service",
    "QOSMaxGRESPerUser": "you have reached the limit of GPUs of this quality of service",
    "QOSMaxCpuPerUserLimit": "you have reached the limit of CPUs of this quality of service",
    "QOSGrpGRES": "all users together have reached the limit of GPUs of this quality of service",
    "QOSMaxWallDurationPerJobLimit": "its walltime is longer than its quality of service allows: lower walltime_min",
    "AssocMaxWallDurationPerJobLimit": "its walltime is longer than the account allows: lower walltime_min",
    "QOSResourceLimit": "a limit of its quality of service is reached",
    "InvalidAccount": "its account does not exist or may not be used: set account",
    "InvalidQOS": "its quality of service may not be used: set qos",
    "BadConstraints": "no node has what it asks for: see constraint, gres and memory_gb",
    "Job's account not permitted to use this partition": "its account may not use its partition: set account, or "
        "partition; scontrol show partition lists AllowAccounts",
    "Job's QOS not permitted to use this partition": "its quality of service may not use its partition: set qos, or "
        "partition; scontrol show partition lists AllowQos",
    "Licenses": "a licence that it needs is taken",
    "NonZeroExitCode": "its command ended with an error: see its log",
    "TimeLimit": "it reached its walltime",
    "NodeDown": "its node went down",
    "OutOfMemory": "it used more memory than it had asked for: raise memory_gb",
    "RaisedSignal": "a signal ended it: see its log",
    "Cleaning": "its earlier run is still being cleaned up",
    "Vanished": "SLURM has forgotten it, and accounting (sacct) is absent or does not know it either",
}  # fmt: skip
# Reasons that end only after a change of the site.
FOR_GOOD = frozenset([
    "DependencyNeverSatisfied", "PartitionTimeLimit", "BadConstraints",
    "QOSMaxWallDurationPerJobLimit", "AssocMaxWallDurationPerJobLimit", "InvalidAccount", "InvalidQOS",
    "Job's account not permitted to use this partition", "Job's QOS not permitted to use this partition",
])  # fmt: skip
_ACCOUNTS = "sacctmgr show associations user=$USER lists yours"
# Text in sbatch's refusal -> advice that names a key of the site.
REFUSALS = {
    "Invalid account": f"account is missing or wrong: {_ACCOUNTS}",
    # Messages of a site's own plugin; they vary.
    "specify an account": f"this cluster wants an account: set account; {_ACCOUNTS}",
    "--account": f"this cluster wants an account: set account; {_ACCOUNTS}",
    "Invalid partition": "partition is wrong: sinfo --summarize lists them",
    "Invalid qos": "qos is wrong or not open to this account: sacctmgr show associations user=$USER format=account,qos",
    "Invalid feature": "constraint names a feature that no node has: sinfo --format='%P %f' lists them",
    "Invalid generic resource": "gres names a resource that no node has: sinfo --format='%P %G' lists them",
    "time limit": "walltime_min is longer than the partition allows: sinfo --format='%P %l' lists the limits",
    "Memory specification": "memory_gb is more than a node has: sinfo --format='%P %m' lists it in MB",
    "node configuration is not available": "no node has this many CPUs or GPUs or this memory: see sinfo --long --Node",
    "Node count": "more nodes than the partition has or allows",
    "job array": "the array is larger than MaxArraySize: set limits.array_size to that",
    "violates accounting/QOS policy": "a limit of your account is reached, or the account is missing: set account and "
    "qos, ask for less, or wait for jobs to end",
    "QOSMaxSubmitJobPerUserLimit": "you have reached your limit of jobs in the queue: set limits.max_jobs",
    "MaxWallDurationPerJobLimit": "walltime_min is longer than your account or quality of service allows: "
    "sacctmgr show qos format=name,maxwall lists the limits",
    "Access/permission denied": "you may not submit here: is partition or account right?",
}


class SiteError(UserError, ValueError):
    """A mistake in a site or in a request to it; the text says what was given, what is expected, and what to do."""


class SlurmError(RuntimeError):
    """SLURM refused, did not answer in time, or gave an unreadable answer; the text says which and what to do."""


class ClusterError(RuntimeError):
    """A process of a Ray cluster did not start or join; the text says which one, and where to look."""


class FolderError(ClusterError):
    """The folder that jobs share could not be read or written for too long; the text has the system's error."""


class HeadStartError(ClusterError):
    """A Ray head did not start; the text says where its output is. Another try, on other ports, may succeed."""


class GpuHoursSpentError(UserError, ClusterError):
    """A sweep has used up what the site's `limits.gpu_hours_per_sweep` allows it."""
