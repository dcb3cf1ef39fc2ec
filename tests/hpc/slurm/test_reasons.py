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
        (f"{FAILED} Invalid account or account/partition combination specified", "account is"),
        (f"{FAILED} Invalid partition name specified", "partition is wrong: sinfo"),
        (f"{FAILED} Invalid qos specification", "qos is wrong"),
        ("sbatch: error: Memory specification can not be satisfied", "memory_gb is more"),
        ("sbatch: error: something new", "something new"),
        # From public reports: RWTH, a Chinese centre, Barcelona.
        (f"sbatch: error: AssocMaxSubmitJobLimit\n{POLICY}", "a limit of your account is reached"),
        (f"sbatch: error: min tres(gres/dcu) request 0 exceeds\nsbatch: error: QOSMinGRES\n{POLICY}", "ask for a GPU"),
        (f"allocation failure:{POLICY.removeprefix(FAILED)}", "a limit of your account is reached"),
        ("sbatch: error: use --mem-per-cpu\nsbatch: error: cli_filter plugin terminated with error", "set memory"),
        (f"sbatch: error: Memory specification can not be satisfied\n{FAILED} Unspecified error", "; memory is how"),
    ],
)
def test_a_refusal_is_not_retried_and_says_what_to_do(slurm: FakeSlurm, tmp_path: Path, said: str, advice: str) -> None:
    slurm.says("sbatch", {"error": said, "returncode": 1})
    with pytest.raises(SlurmError, match="did not submit") as raised:
        submit(SITE, Need(log_folder=tmp_path), ["true"])
    assert said[:25] in str(raised.value)
    assert advice in str(raised.value)
    assert len(slurm.calls("sbatch")) == 1


@pytest.mark.parametrize(
    "said",
    [
        "your --account-group is at 95%",
        "you have no account with GPUs: ask for one",
        "This partition takes only jobs with GPUs, see --gres",
        "please specify an account",
        "Invalid account: the lab of 2025 is closed",
        "we have raised QOSMaxMemoryPerJob, try again",
        "Priority, as agreed, is for the night",
        "Licenses",  # a heading; SLURM has a reason of this name
        "see the page on: Invalid qos specification",
    ],
)
def test_what_a_filter_of_the_site_says_is_passed_on_as_it_is(slurm: FakeSlurm, tmp_path: Path, said: str) -> None:
    printed = f"sbatch: error: {said}\n{FAILED} this error is of the site, too"
    slurm.says("sbatch", {"error": printed, "returncode": 1})
    with pytest.raises(SlurmError) as raised:
        submit(SITE, Need(log_folder=tmp_path, gpus=0), ["true"])
    assert str(raised.value).endswith(f": exit code 1, {printed!r}")


def test_usual_reasons_are_said_in_plain_words_and_others_as_slurm_says_them() -> None:
    unavailable = JobState("PENDING", "ReqNodeNotAvail, UnavailableNodes:node1")
    assert unavailable.explanation == explanations()["reasons"]["ReqNodeNotAvail"]
    assert JobState("PENDING", "SomethingNew").explanation == "SomethingNew"


MAY_END = ["AssocGrpCpuLimit", "AssocGrpWallLimit", "MaxJobsPerAccount", "QOSMaxNodePerUserLimit", "QOSGrpNodeLimit"]
NEVER_END = [
    *["AssocMaxCpuMinutesPerJobLimit", "AssocMaxGRESPerNode", "AssocMaxWallDurationPerJobLimit", "PartitionTimeLimit"],
    *["QOSMaxMemoryPerJob", "QOSMaxNodePerJobLimit", "QOSMinCpuNotSatisfied", "QOSMinGRES"],
]


def test_a_job_waits_for_good_for_a_limit_of_one_job_alone() -> None:
    assert [reason for reason in MAY_END if JobState("PENDING", reason).waits_for_good] == []
    assert [reason for reason in NEVER_END if not JobState("PENDING", reason).waits_for_good] == []
    assert not JobState("RUNNING", "QOSMinGRES").waits_for_good
