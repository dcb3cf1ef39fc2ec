"""What SLURM's reasons and refusals are taken for, and what is advised, on a fake sbatch."""

from pathlib import Path

import pytest

from hpc.errors import SlurmError
from hpc.sites.site import Need, Site
from hpc.slurm.jobs import JobState, submit
from hpc.slurm.reasons import explanations
from tests.hpc.fakes.commands import FakeSlurm

SITE = Site(cpus_per_node=8, memory_gb=32, gpus_per_node=4, walltime_min=120)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    return FakeSlurm(tmp_path, monkeypatch)


FAILED = "sbatch: error: Batch job submission failed:"
POLICY = f"{FAILED} Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("sbatch: error: Batch job submission failed: Invalid account or account/partition combination", "account is"),
        ("sbatch: error: Batch job submission failed: Invalid partition name specified", "partition is wrong: sinfo"),
        ("sbatch: error: Batch job submission failed: Invalid qos specification", "qos is wrong"),
        ("sbatch: error: Batch job submission failed: Invalid feature specification", "constraint names"),
        ("sbatch: error: Batch job submission failed: Invalid job array specification", "limits.array_size"),
        ("sbatch: error: Memory specification can not be satisfied", "memory_gb is more"),
        ("sbatch: error: Batch job submission failed: Requested node configuration is not available", "no node has"),
        ("sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (…)", "a limit of your"),
        ("sbatch: error: something new", "something new"),
        # From public reports: RWTH, LUMI, Bern, Stockholm, Frontera, Juelich, a Chinese centre, Nashville, Barcelona.
        (
            f"sbatch: error: AssocMaxSubmitJobLimit\n{POLICY}",
            "you have reached the limit of jobs in the queue of the a",
        ),
        (f"sbatch: error: QOSMaxSubmitJobPerUserLimit\n{POLICY}", "jobs in the queue of the quality of service: set l"),
        (f"sbatch: error: AssocGrpSubmitJobsLimit\n{POLICY}", "all users of the account together have reached the l"),
        (f"sbatch: error: AssocGrpBillingMinutes\n{POLICY}", "have used up the billing unit minutes of the account"),
        (f"sbatch: error: QOSMinNode\n{POLICY}", "wants more nodes of each job: set another partition or qos"),
        (f"sbatch: error: QOSMaxNodePerUserLimit:{POLICY}", "it asks for more nodes than you may have at a time"),
        (f"sbatch: error: min tres(gres/dcu) request 0 exceeds\nsbatch: error: QOSMinGRES\n{POLICY}", "ask for a GPU"),
        (f"sbatch: error: QOSGrpGRES\n{POLICY}", "it asks for more GPUs than all users of the quality of service"),
        (f"sbatch: error: qosmaxwalldurationperjoblimit\n{POLICY.lower()}", "its walltime is longer than its quality"),
        (f"sbatch: error: QOSMaxMemoryPerJob\n{POLICY}", "a job: lower memory_gb"),
        (f"sbatch: error: QOSMaxGRESPerUser\n{POLICY}", "it asks for more GPUs than you may have at a time: lower g"),
        (POLICY, "a limit of your account is reached, or the account is missing"),
        (
            f"{FAILED} Time limit specification required, but not provided",
            "a wrapper or plugin of sbatch takes it away",
        ),
        (
            f"sbatch: error: runtime is -t.\n{FAILED} Requested time limit is invalid (missing)",
            "lists the lim",
        ),
        (f"allocation failure:{POLICY.removeprefix(FAILED)}", "a limit of your account is reached"),
        (f"{FAILED} Access denied to requested reservation", "reservation in [sbatch]"),
        (f"{FAILED} No partition specified or system default partition", "set partition"),
    ],
)
def test_a_refusal_is_not_retried_and_says_what_to_do(slurm: FakeSlurm, tmp_path: Path, said: str, advice: str) -> None:
    slurm.says("sbatch", {"error": said, "returncode": 1})
    with pytest.raises(SlurmError, match="did not submit") as raised:
        submit(SITE, Need(log_folder=tmp_path), ["true"])
    assert said[:25] in str(raised.value)
    assert advice in str(raised.value)
    assert ("walltime" in str(raised.value)) == ("time limit is" in said or "walld" in said)  # no other advice
    assert len(slurm.calls("sbatch")) == 1


@pytest.mark.parametrize("gpus", [0, 4])
@pytest.mark.parametrize(
    "said",
    ["This partition takes only jobs with GPUs, see --gres", "*** Error: CPU job setup is not valid"],
)
def test_a_partition_that_refuses_jobs_without_gpus_is_understood(
    slurm: FakeSlurm, tmp_path: Path, said: str, gpus: int
) -> None:
    slurm.says("sbatch", {"error": f"sbatch: error: {said}\n{FAILED} Unspecified error\n", "returncode": 1})
    with pytest.raises(SlurmError) as raised:
        submit(SITE, Need(log_folder=tmp_path, gpus=gpus), ["true"])
    assert ("below [controller], or there a partition without GPUs" in str(raised.value)) == (gpus == 0)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("ReqNodeNotAvail, UnavailableNodes:node1", explanations()["reasons"]["ReqNodeNotAvail"]),
        ("(AssocGrpGRES)", "all users of the account together have reached the limit of GPUs of the account"),
        ("MaxCpuPerAccount", "the account has reached the limit of CPUs of the quality of service"),
        ("QOSMaxCpuPerUserLimit", "you have reached the limit of CPUs of the quality of service"),
        ("AssocMaxGRESMinutesPerJob", "its GPUs times its walltime are more than its account allows a job: lower wall"),
        (
            "QOSMaxMemoryPerNode",
            "it asks for more memory on a node than its quality of service allows a job: lower mem",
        ),
        ("QOSMinCpuNotSatisfied", "its quality of service wants more CPUs of each job: raise cpus_per_node"),
        (
            "AssocGrpCPURunMinutesLimit",
            "the running jobs of all users of the account together have as many CPU minutes",
        ),
        ("AssocGrpWallLimit", "all users of the account together have used up the walltime of the account: ask for"),
        ("SomethingNew", "SomethingNew"),
    ],
)
def test_reasons_are_said_in_plain_words(reason: str, words: str) -> None:
    assert JobState("PENDING", reason).explanation.startswith(words)


# Of the table in SLURM's job_state_reason.c: those that are no limit, and limits by their last part.
OTHER_REASONS = """
    AccountNotAllowed AccountingPolicy AssociationJobLimit AssociationResourceLimit AssociationTimeLimit BadConstraints
    BeginTime BurstBufferOperation BurstBufferResources BurstBufferStageIn Cleaning Constraints DeadLine Dependency
    DependencyNeverSatisfied FedJobLock FrontEndDown InactiveLimit InvalidAccount InvalidQOS JobArrayTaskLimit
    JobHeldAdmin JobHeldUser JobHoldMaxRequeue JobLaunchFailure Licenses MaxMemPerLimit NodeDown NonZeroExitCode
    OutOfMemory PartitionConfig PartitionDown PartitionInactive PartitionNodeLimit PartitionTimeLimit PowerNotAvail
    PowerReserved Priority Prolog QOSJobLimit QOSNotAllowed QOSResourceLimit QOSTimeLimit QOSUsageThreshold RaisedSignal
    ReqNodeNotAvail Reservation ReservationDeleted ReservationInvalid Resources SchedDefer SystemFailure TimeLimit
"""
MAY_END = """
    AssocGrpBB AssocGrpBBMinutes AssocGrpBBRunMinutes AssocGrpBilling AssocGrpBillingMinutes AssocGrpBillingRunMinutes
    AssocGrpCPUMinutesLimit AssocGrpCPURunMinutesLimit AssocGrpCpuLimit AssocGrpEnergy AssocGrpEnergyMinutes
    AssocGrpEnergyRunMinutes AssocGrpGRES AssocGrpGRESMinutes AssocGrpGRESRunMinutes AssocGrpJobsLimit AssocGrpLicense
    AssocGrpLicenseMinutes AssocGrpLicenseRunMinutes AssocGrpMemLimit AssocGrpMemMinutes AssocGrpMemRunMinutes
    AssocGrpNodeLimit AssocGrpNodeMinutes AssocGrpNodeRunMinutes AssocGrpSubmitJobsLimit AssocGrpUnknown
    AssocGrpUnknownMinutes AssocGrpUnknownRunMinutes AssocGrpWallLimit AssocMaxJobsLimit AssocMaxSubmitJobLimit
    MaxBBPerAccount MaxBillingPerAccount MaxCpuPerAccount MaxEnergyPerAccount MaxGRESPerAccount MaxJobsPerAccount
    MaxLicensePerAccount MaxMemoryPerAccount MaxNodePerAccount MaxSubmitJobsPerAccount MaxUnknownPerAccount QOSGrpBB
    QOSGrpBBMinutes QOSGrpBBRunMinutes QOSGrpBilling QOSGrpBillingMinutes QOSGrpBillingRunMinutes QOSGrpCPUMinutesLimit
    QOSGrpCPURunMinutesLimit QOSGrpCpuLimit QOSGrpEnergy QOSGrpEnergyMinutes QOSGrpEnergyRunMinutes QOSGrpGRES
    QOSGrpGRESMinutes QOSGrpGRESRunMinutes QOSGrpJobsLimit QOSGrpLicense QOSGrpLicenseMinutes QOSGrpLicenseRunMinutes
    QOSGrpMemLimit QOSGrpMemoryMinutes QOSGrpMemoryRunMinutes QOSGrpNodeLimit QOSGrpNodeMinutes QOSGrpNodeRunMinutes
    QOSGrpSubmitJobsLimit QOSGrpUnknown QOSGrpUnknownMinutes QOSGrpUnknownRunMinutes QOSGrpWallLimit QOSMaxBBPerUser
    QOSMaxBillingPerUser QOSMaxCpuPerUserLimit QOSMaxEnergyPerUser QOSMaxGRESPerUser QOSMaxJobsPerUserLimit
    QOSMaxLicensePerUser QOSMaxMemoryPerUser QOSMaxNodePerUserLimit QOSMaxSubmitJobPerUserLimit QOSMaxUnknownPerUser
"""
NEVER_END = """
    AssocMaxBBMinutesPerJob AssocMaxBBPerJob AssocMaxBBPerNode AssocMaxBillingMinutesPerJob AssocMaxBillingPerJob
    AssocMaxBillingPerNode AssocMaxCpuMinutesPerJobLimit AssocMaxCpuPerJobLimit AssocMaxCpuPerNode
    AssocMaxEnergyMinutesPerJob AssocMaxEnergyPerJob AssocMaxEnergyPerNode AssocMaxGRESMinutesPerJob AssocMaxGRESPerJob
    AssocMaxGRESPerNode AssocMaxLicenseMinutesPerJob AssocMaxLicensePerJob AssocMaxMemMinutesPerJob AssocMaxMemPerJob
    AssocMaxMemPerNode AssocMaxNodeMinutesPerJob AssocMaxNodePerJobLimit AssocMaxUnknownMinutesPerJob
    AssocMaxUnknownPerJob AssocMaxUnknownPerNode AssocMaxWallDurationPerJobLimit QOSMaxBBPerJob QOSMaxBBPerNode
    QOSMaxBillingMinutesPerJob QOSMaxBillingPerJob QOSMaxBillingPerNode QOSMaxCpuMinutesPerJobLimit QOSMaxCpuPerJobLimit
    QOSMaxCpuPerNode QOSMaxEnergyMinutesPerJob QOSMaxEnergyPerJob QOSMaxEnergyPerNode QOSMaxGRESMinutesPerJob
    QOSMaxGRESPerJob QOSMaxGRESPerNode QOSMaxLicenseMinutesPerJob QOSMaxLicensePerJob QOSMaxMemoryMinutesPerJob
    QOSMaxMemoryPerJob QOSMaxMemoryPerNode QOSMaxNodeMinutesPerJob QOSMaxNodePerJobLimit QOSMaxUnknownMinutesPerJob
    QOSMaxUnknownPerJob QOSMaxUnknownPerNode QOSMaxWallDurationPerJobLimit QOSMinBB QOSMinBilling QOSMinCpuNotSatisfied
    QOSMinEnergy QOSMinGRES QOSMinLicense QOSMinMemory QOSMinNode QOSMinUnknown
"""


def test_each_reason_of_slurm_is_explained_and_those_of_one_job_alone_never_end() -> None:
    every = [*OTHER_REASONS.split(), *MAY_END.split(), *NEVER_END.split()]
    assert [reason for reason in every if JobState("PENDING", reason).explanation == reason] == []
    assert [reason for reason in MAY_END.split() if JobState("PENDING", reason).waits_for_good] == []
    assert [reason for reason in NEVER_END.split() if not JobState("PENDING", reason).waits_for_good] == []
    assert JobState("PENDING", "PartitionTimeLimit").waits_for_good
    assert not JobState("RUNNING", "QOSMinGRES").waits_for_good
