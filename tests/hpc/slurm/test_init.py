"""A first site file from what a cluster says of itself, on fakes with the outputs of real clusters' kinds."""

import getpass
import os
import re
import shlex
import signal
import stat
import tomllib
from pathlib import Path

import pytest

from hpc.errors import SlurmError
from hpc.sites.site import Need, Site, find_site, read_site
from hpc.slurm.calls import Patience
from hpc.slurm.cluster_facts import ask_cluster, gpus_of
from hpc.slurm.first_site import site_text
from hpc.slurm.partition_rules import NOT_USED, USED, hints
from hpc.slurm.script import script
from tests.commands import parsed as parsed_command
from tests.hpc.fakes.commands import FakeSlurm
from transtailor.__main__ import main

QUICK = Patience(timeout_s=20.0, tries=2, pause_s=0.0)
SINFO = """\
cpu*|up|infinite|10|64|256000|(null)|(null)
gpu|up|2-00:00:00|1|128|1024000|gpu:h100:8(S:0-1)|h100,ib
gpu|up|2-00:00:00|6|64+|512000+|gpu:a100:4(S:0,1),shard:8|a100,ib
old|down|30:00|2|16|900|gpu:2|(null)
"""
PARTITIONS = """\
PartitionName=cpu AllowGroups=ALL Default=YES OverSubscribe=NO State=UP
PartitionName=gpu AllowGroups=ALL Default=NO OverSubscribe=EXCLUSIVE State=UP
PartitionName=old AllowGroups=ALL Default=NO OverSubscribe=NO State=DOWN
"""
QOS = "normal|||\nhigh|1-00:00:00|8|10\ngpu-short|02:00:00|4|\n"
ACCOUNTS = "lab||normal,high||||40\nteaching|cpu|normal|||2|\nlab-gpu|gpu|gpu-short||||\n"


def config(enforce: str, size: str = "1001") -> str:
    return f"""\
Configuration data as of 2026-01-01T00:00:00
AccountingStorageEnforce = {enforce}
ClusterName             = alps
MaxArraySize            = {size}
SlurmctldHost[0]        = head(10.0.0.1)

Slurmctld(primary) at head is UP
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """A cluster with three partitions, accounts, and an account that each job must have."""
    fake = FakeSlurm(tmp_path, monkeypatch)
    fake.says("sinfo", SINFO)
    fake.says("scontrol", *[config("associations,limits,qos"), PARTITIONS] * 8)
    fake.says("sacctmgr", *[ACCOUNTS, QOS] * 8)  # for as many calls of init
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return fake


def parsed(text: str) -> Site:
    return Site.model_validate(tomllib.loads(text))


def test_the_site_is_of_the_default_partition(slurm: FakeSlurm) -> None:
    text = site_text(ask_cluster(QUICK))
    site = parsed(text)
    assert (site.partition, site.account, site.qos) == ("cpu", "lab", None)
    assert (site.cpus_per_node, site.memory_gb, site.gpus_per_node, site.gres) == (64, 250.0, 0, None)
    assert (site.walltime_min, site.exclusive) == (24 * 60, False)
    assert "the partition sets none" in text
    assert (site.limits.max_jobs, site.limits.array_size) == (40, 1001)  # not the 2 of the other account
    assert [len(slurm.calls(name)) for name in ("sinfo", "scontrol", "sacctmgr")] == [1, 2, 2]
    assert f"user={getpass.getuser()}" in slurm.calls("sacctmgr")[0]


@pytest.mark.usefixtures("slurm")
def test_a_partition_with_gpus_is_described_by_its_most_frequent_nodes() -> None:
    text = site_text(ask_cluster(QUICK), "gpu")
    site = parsed(text)
    assert (site.partition, site.gres, site.gpus_per_node, site.cpus_per_node) == ("gpu", "gpu:a100", 4, 64)
    assert (site.walltime_min, site.exclusive, site.limits.max_jobs) == (2 * 24 * 60, True, 40)
    assert "Your accounts: lab, lab-gpu\n" in text
    assert "open to you: normal, high, gpu-short" in text
    assert "features of nodes here: a100,ib, h100,ib" in text
    assert "1 node of 128 CPUs, 1024000 MB, 8 x gpu:h100, features h100,ib" in text
    assert "old, not up: at most 30 min; 2 nodes of 16 CPUs, 900 MB, 2 x gpu" in text


@pytest.mark.usefixtures("slurm")
def test_less_than_a_gigabyte_is_asked_for() -> None:
    site = parsed(site_text(ask_cluster(QUICK), "old"))
    assert (site.memory_gb, site.gres, site.gpus_per_node, site.walltime_min) == (0.8, "gpu", 2, 30)


def test_memory_that_no_node_tells_is_left_to_slurm(slurm: FakeSlurm) -> None:
    slurm.says("scontrol", config("none"), "PartitionName=p AllowGroups=ALL State=UP\n")
    slurm.says("sinfo", "p*|up|infinite|9|64|1|(null)|(null)|idle|2\n")
    assert parsed(site_text(ask_cluster(QUICK))).memory_gb is None


def test_without_accounting_all_else_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = FakeSlurm(tmp_path, monkeypatch)
    slurm.says("sinfo", SINFO)
    slurm.says("scontrol", config("none", "0"), PARTITIONS)
    cluster = ask_cluster(QUICK)
    assert len(cluster.missing) == 1
    assert "no sacctmgr on PATH" in cluster.missing[0]
    text = site_text(cluster)
    assert parsed(text).account is None
    assert parsed(text).limits.array_size is None
    assert "# MISSING: accounts and qos are unknown" in text
    assert "not needed here" in text


@pytest.mark.parametrize(
    "accounting", ["", {"error": "sacctmgr: error: Problem talking to the database", "returncode": 1}]
)
def test_a_mandatory_account_that_is_not_found_is_said(
    slurm: FakeSlurm, accounting: str | dict[str, object], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    slurm.says("sacctmgr", accounting)
    assert main(["init", "--to", str(tmp_path / "alps.toml")]) == 0
    said = capsys.readouterr().out
    assert "the cluster refuses jobs without an account, and you seem to have none: set account" in said
    assert ("Problem talking" in said) == bool(accounting)
    text = (tmp_path / "alps.toml").read_text()
    assert '# account = "..."  # needed here' in text
    assert "# MISSING: the cluster refuses jobs without an account" in text


@pytest.mark.usefixtures("slurm")
def test_the_file_goes_to_the_users_sites_and_is_never_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "config" / "transtailor" / "sites"
    assert main(["init"]) == 0
    assert read_site(folder / "alps.toml").partition == "cpu"
    (folder / "alps.toml").write_text("mine")
    assert main(["init"]) == 2
    assert "is not changed" in capsys.readouterr().err
    assert (folder / "alps.toml").read_text() == "mine"
    assert main(["init", "--name", "alps-gpu", "--partition", "gpu"]) == 0
    assert read_site(folder / "alps-gpu.toml").partition == "gpu"
    assert main(["init", "--name", "../x"]) == main(["init", "--name", ".toml"]) == 2
    assert main(["init", "--name", "y", "--partition", "gpus"]) == 2
    assert "no partition 'gpus'; did you mean 'gpu'?" in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == ["alps-gpu.toml", "alps.toml"]


@pytest.mark.parametrize("path", ["/proc/x.toml", "/proc/none/x.toml", "/dev/null/x.toml"])
@pytest.mark.usefixtures("slurm")
def test_a_place_that_holds_no_files_is_said(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--to", path]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {path} cannot be written: ") and "choose another --name or --to" in said, said


@pytest.mark.usefixtures("slurm")
def test_nobody_else_may_write_the_file_and_a_kill_leaves_no_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sites" / "alps.toml"
    before = os.umask(0o002)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", lambda _: os.kill(os.getpid(), signal.SIGINT))
            assert main(["init", "--to", str(path)]) == 130
        assert list(path.parent.iterdir()) == []
        assert main(["init", "--to", str(path)]) == 0
    finally:
        os.umask(before)
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o644, 0o755)
    assert read_site(path).partition == "cpu"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("", "no partition: may you use this cluster"),
        ("%&/\n", "sinfo gave no readable answer"),
        ({"error": "slurm_load_partitions: Unable to contact slurm controller", "returncode": 1}, "scontrol ping"),
    ],
)
def test_a_cluster_that_cannot_be_read_is_said(slurm: FakeSlurm, answer: str | dict[str, object], said: str) -> None:
    slurm.says("sinfo", answer)
    with pytest.raises(SlurmError, match=said):
        ask_cluster(QUICK)


def test_hostile_names_of_a_cluster_stay_in_their_place(slurm: FakeSlurm) -> None:
    slurm.says("sinfo", 'a"]\'$(touch x)#*|up|infinite|1|4|4096|(null)|é"""\n')
    slurm.says("sacctmgr", 'b"\\n$(x)||q"\'||||\n')
    with pytest.raises(SlurmError, match="make no valid site"):  # a backslash is no part of an account's name
        site_text(ask_cluster(QUICK))
    slurm.says("sacctmgr", 'b"$(x)||q"\'||||\n')
    slurm.says("scontrol", PARTITIONS + config("associations"))
    site = parsed(site_text(ask_cluster(QUICK)))
    assert (site.partition, site.account) == ("a\"]'$(touch x)#", 'b"$(x)')


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        ("gpu:a100:4(S:0-1)", ("gpu:a100", 4)),
        ("gpu:2", ("gpu", 2)),
        ("shard:8,gpu:1g.5gb:7(S:0,2)", ("gpu:1g.5gb", 7)),
        ("gpu:a100_80:2", ("gpu:a100_80", 2)),
        ("gpu:3090:8(S:0-1)", ("gpu:3090", 8)),
        ("gpu:v100:2,gpu:3090:4", ("gpu:3090", 4)),
        ("(null)", None),
        ("fpga:2", None),
    ],
)
def test_gpus_among_generic_resources(gres: str, gpus: tuple[str, int] | None) -> None:
    assert gpus_of(gres) == gpus
    if gpus:
        assert Site(cpus_per_node=1, walltime_min=1, gres=gpus[0], gpus_per_node=gpus[1]).gres == gpus[0]


def test_a_type_of_digits_is_written_and_asked_for(slurm: FakeSlurm) -> None:
    slurm.says("sinfo", SINFO.replace("gpu:a100:4(S:0,1),shard:8", "gpu:3090:8(S:0-1)"))
    site = parsed(site_text(ask_cluster(QUICK), "gpu"))
    assert (site.gres, site.gpus_per_node) == ("gpu:3090", 8)
    assert "#SBATCH --gres=gpu:3090:8\n" in script(site, Need(log_folder=Path("/logs")), ["true"])


@pytest.mark.parametrize(
    ("memory_gb", "said"), [("0.0001", "at least 0.001"), ("0.0009", "at least 0.001"), ("1e308", "at most 1000000")]
)
def test_no_amount_of_memory_becomes_all_of_it(
    tmp_path: Path, memory_gb: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "site.toml"
    path.write_text(f"cpus_per_node = 1\nwalltime_min = 60\nmemory_gb = {memory_gb}\n")
    assert main(["doctor", "--site", str(path)]) == 2
    assert said in capsys.readouterr().err
    path.write_text("cpus_per_node = 1\nwalltime_min = 60\nmemory_gb = 0.001\n")
    assert "--mem=1MB" in script(read_site(path), Need(log_folder=tmp_path), ["true"])


# What `scontrol show partition` prints, in the forms of: ComputeCanada/puppet-magic_castle/issues/124 (20.11), 22.05.8
# of Debian, documentation of clusters with 23.11 and 24.05 (ExclusiveTopo, MaxCPUsPerSocket), a cluster's in Geneva
# (25.05: Exclusive), SlinkyProject/slurm-operator/issues/113 (25.11: NodeSets). Values are ours.
SHOWN = {
    "20.11": """PartitionName=p AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=YES QoS=N/A \
DefaultTime=01:00:00 DisableRootJobs=NO ExclusiveUser=NO GraceTime=0 Hidden=NO MaxNodes=UNLIMITED MaxTime=1-00:00:00 \
MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED Nodes=node[1-9] PriorityJobFactor=1 PriorityTier=1 RootOnly=NO ReqResv=NO \
OverSubscribe=YES:4 OverTimeLimit=NONE PreemptMode=OFF State=UP TotalCPUs=144 TotalNodes=9 SelectTypeParameters=NONE \
JobDefaults=(null) DefMemPerCPU=256 MaxMemPerNode=UNLIMITED""",
    "22.05": """PartitionName=p AllowGroups=ALL DenyAccounts=other AllowQos=ALL AllocNodes=ALL Default=YES QoS=N/A \
DefaultTime=NONE DisableRootJobs=NO ExclusiveUser=NO GraceTime=0 Hidden=NO MaxNodes=8 MaxTime=UNLIMITED MinNodes=0 \
LLN=NO MaxCPUsPerNode=UNLIMITED NodeSets=cn Nodes=cn[1-9] PriorityJobFactor=1 PriorityTier=1 RootOnly=NO ReqResv=NO \
OverSubscribe=EXCLUSIVE OverTimeLimit=NONE PreemptMode=REQUEUE State=UP TotalCPUs=144 TotalNodes=9 \
SelectTypeParameters=NONE JobDefaults=DefCpuPerGPU=30 DefMemPerNode=UNLIMITED MaxMemPerNode=UNLIMITED \
TRES=cpu=144,mem=9G,node=9,billing=144,gres/gpu=8 TRESBillingWeights=CPU=1.0,Mem=0.25G""",
    "24.05": """PartitionName=p AllowGroups=ALL AllowAccounts=lab DenyQos=low AllocNodes=ALL Default=NO QoS=N/A \
DefaultTime=NONE DisableRootJobs=NO ExclusiveUser=NO ExclusiveTopo=NO GraceTime=0 Hidden=NO MaxNodes=UNLIMITED \
MaxTime=3-00:00:00 MinNodes=1 LLN=NO MaxCPUsPerNode=124 MaxCPUsPerSocket=UNLIMITED NodeSets=h100 Nodes=gh[1-9] \
PriorityJobFactor=1 PriorityTier=1 RootOnly=NO ReqResv=NO OverSubscribe=FORCE:1 OverTimeLimit=NONE \
PreemptMode=REQUEUE State=UP TotalCPUs=1152 TotalNodes=9 SelectTypeParameters=NONE JobDefaults=DefCpuPerGPU=30 \
DefMemPerCPU=12000 MaxMemPerCPU=12000 TRES=cpu=1116,mem=13G,node=9,billing=9,gres/gpu=36""",
    "25.05": """PartitionName=p AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=NO QoS=N/A \
DefaultTime=00:01:00 DisableRootJobs=NO Exclusive=NO GraceTime=0 Hidden=NO MaxNodes=UNLIMITED MaxTime=7-00:00:00 \
MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED MaxCPUsPerSocket=UNLIMITED Nodes=gpu4 PriorityJobFactor=4 PriorityTier=4 \
RootOnly=NO ReqResv=NO OverSubscribe=NO OverTimeLimit=NONE PreemptMode=OFF State=UP TotalCPUs=64 TotalNodes=1 \
SelectTypeParameters=NONE JobDefaults=(null) DefMemPerNode=UNLIMITED MaxMemPerNode=UNLIMITED \
TRES=cpu=62,mem=750G,node=1,billing=264,gres/gpu=1,gres/gpu:nvidia_h100_nvl=1""",
}


@pytest.mark.parametrize("version", SHOWN)
def test_each_rule_that_slurm_prints_is_used_or_named_as_not_used(slurm: FakeSlurm, version: str) -> None:
    shown = SHOWN[version]
    printed = set(re.findall(r"(\w+)=", re.sub(r"(JobDefaults|TRES|TRESBillingWeights)=\S*", r"\1=", shown)))
    assert printed - USED - NOT_USED == set()
    slurm.says("scontrol", config("none"), shown.replace("\n", " ") + "\n")
    slurm.says("sinfo", "p|up|infinite|9|128|1024000|gpu:4|(null)|idle|2\n")
    (partition,) = ask_cluster(QUICK).partitions
    assert partition.faults == [] and [*hints(partition.rules)] == []
    assert partition.kind.cpus == (124 if version == "24.05" else 128)
    assert partition.kind.memory_mb == 1024000
    assert partition.exclusive == (version == "22.05")


@pytest.mark.parametrize(
    ("rules", "cpus", "memory_gb"),
    [
        ("MaxCPUsPerNode=UNLIMITED MaxMemPerNode=UNLIMITED", 64, 500.0),
        ("MaxCPUsPerNode=48 MaxMemPerNode=UNLIMITED", 48, 500.0),
        ("MaxCPUsPerSocket=16 MaxMemPerNode=100000", 32, 97.6),
        ("MaxCPUsPerNode=8 MaxMemPerCPU=2048", 8, 16.0),
        ("MaxMemPerNode=500", 64, 0.4),
    ],
)
def test_a_site_asks_for_no_more_of_a_node_than_the_partition_allows(
    slurm: FakeSlurm, rules: str, cpus: int, memory_gb: float
) -> None:
    slurm.says("scontrol", config("none"), f"PartitionName=p AllowGroups=ALL {rules} State=UP\n")
    slurm.says("sinfo", "p*|up|infinite|9|64|512000|(null)|(null)|idle|2\n")
    site = parsed(site_text(ask_cluster(QUICK)))
    assert (site.cpus_per_node, site.memory_gb) == (cpus, memory_gb)


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("RootOnly=YES", "RootOnly=YES: only administrators submit to it"),
        ("AllowGroups=nobodys,others", "AllowGroups=nobodys,others: you are in none of these groups"),
        ("MinNodes=2", "MinNodes=2: its jobs have at least 2 nodes, and a worker has one"),
        ("MaxNodes=0", "MaxNodes=0"),
        ("State=DRAIN", "State=DRAIN: it starts no jobs at present"),
        ("TotalNodes=0", "TotalNodes=0: it has no nodes at present"),
    ],
)
def test_a_partition_where_no_job_of_a_sweep_runs_is_not_chosen_and_says_why(
    slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch, rules: str, said: str, capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getgroups", list)
    other = "PartitionName=hidden Hidden=YES State=UP\nPartitionName=open AllowGroups=ALL State=UP\n"
    slurm.says("scontrol", *[config("none"), f"PartitionName=first {rules}\n{other}"] * 2)
    slurm.says("sinfo", "first*|up|infinite|9|64|5120|(null)|(null)|idle|2\n" + "".join(
        f"{name}|up|infinite|1|8|5120|(null)|(null)|idle|2\n" for name in ("hidden", "open")
    ))  # fmt: skip
    assert parsed(site_text(ask_cluster(QUICK))).partition == "open"
    assert main(["init", "--to", str(tmp_path / "x.toml"), "--partition", "first"]) == 0
    assert f"missing: partition first: {said}" in capsys.readouterr().out
    assert f"# MISSING: partition first: {said}" in (tmp_path / "x.toml").read_text()


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("ReqResv=YES", "ReqResv=YES: its jobs need a reservation"),
        ("AllocNodes=login[1-2]", "AllocNodes=login[1-2]: it accepts jobs from there alone"),
        ("OverSubscribe=FORCE:4", "OverSubscribe=FORCE:4: other jobs may use the same CPUs"),
        ("NewRule=7", "NewRule=7 is a rule that init does not know"),
    ],
)
def test_what_a_partition_wants_is_said(slurm: FakeSlurm, rules: str, said: str) -> None:
    slurm.says("scontrol", config("none"), f"PartitionName=p AllowGroups=ALL {rules} State=UP\n")
    slurm.says("sinfo", "p*|up|infinite|9|64|512000|(null)|(null)|idle|2\n")
    text = site_text(ask_cluster(QUICK))
    assert f"# MISSING: partition p: {said}" in text and parsed(text).partition == "p"


def test_limits_of_a_quality_of_service_are_kept(slurm: FakeSlurm) -> None:
    slurm.says(
        "sacctmgr", "lab||normal||||\n", "normal||||cpu=32,gres/gpu:a100=3|gres/gpu=2,mem=100G\nhigh||||cpu=1|\n"
    )
    text = site_text(ask_cluster(QUICK), "gpu")
    site = parsed(text)
    assert (site.cpus_per_node, site.gpus_per_node, site.memory_gb) == (32, 2, 100.0)
    assert "allows at most (memory in MB): cpu=32, gres/gpu:a100=3, gres/gpu=2, mem=102400" in text


@pytest.mark.parametrize(
    ("least", "gpus"), [("gres/gpu=1", 1), ("cpu=2,gres/gpu:a100=4", 4), ("cpu=2", 0), ("", 0), ("gres/gpu=0", 0)]
)
def test_where_each_job_has_to_ask_for_gpus_the_controller_does(slurm: FakeSlurm, least: str, gpus: int) -> None:
    slurm.says("sacctmgr", "lab||normal||||\n", f"normal||||||{least}\n")
    text = site_text(ask_cluster(QUICK), "gpu")
    site = parsed(text)
    assert site.controller.gpus_per_node == gpus
    assert (site.controller_site().gres or "none") == ("gpu:a100" if gpus else "none")
    assert '# partition = "cpu"  # another one for it, without GPUs' in text
    assert ("# gpus_per_node = 1  # if the partition refuses jobs without a GPU" in text) == (gpus == 0)
    assert slurm.calls("sacctmgr")[1][-1].endswith(",MinTRES")


def test_a_partition_that_takes_no_account_of_yours_is_not_chosen(slurm: FakeSlurm) -> None:
    closed = PARTITIONS.replace("PartitionName=cpu AllowGroups=ALL", "PartitionName=cpu AllowAccounts=others")
    slurm.says("scontrol", config("associations"), closed)
    assert parsed(site_text(ask_cluster(QUICK))).partition == "gpu"


def test_a_partition_without_nodes_gives_a_file_to_complete(slurm: FakeSlurm) -> None:
    slurm.says("scontrol", config("none"), "PartitionName=dyn AllowGroups=ALL State=UP TotalNodes=0 Nodes=(null)\n")
    slurm.says("sinfo", "dyn*|up|infinite|0|0|0|(null)|(null)|n/a|0\n")
    text = site_text(ask_cluster(QUICK))
    assert "cpus_per_node = 1  # MISSING: no node says how many" in text
    assert "dyn, default: no time limit; no nodes at present" in text
    assert parsed(text).memory_gb is None


def test_a_name_of_several_words_has_its_rules(slurm: FakeSlurm) -> None:
    slurm.says("scontrol", config("none"), "PartitionName=CPU nodes (amd) AllowGroups=ALL MaxCPUsPerNode=8 State=UP\n")
    slurm.says("sinfo", "CPU nodes (amd)|up|infinite|9|64|512000|(null)|(null)|idle|2\n")
    site = parsed(site_text(ask_cluster(QUICK)))
    assert (site.partition, site.cpus_per_node) == ("CPU nodes (amd)", 8)


def test_nodes_that_are_down_are_not_those_that_a_site_describes(slurm: FakeSlurm) -> None:
    slurm.says("scontrol", config("none"), "PartitionName=p AllowGroups=ALL State=UP\n")
    slurm.says(
        "sinfo",
        "p*|up|infinite|90|16|64000|(null)|old|down*|2\np*|up|infinite|5|64|512000|gpu:8|new|idle~|2\n"
        "p*|up|infinite|4|64|512000|gpu:8|new|mixed-|2\n",
    )
    text = site_text(ask_cluster(QUICK))
    assert parsed(text).cpus_per_node == 64
    assert "9 nodes of 64 CPUs, 512000 MB, 8 x gpu, features new; 90 nodes of 16 CPUs" in text


@pytest.mark.parametrize("line_end", ["\n", "\r", "\v", "\f", "\x1c", "\x85", "\u2028"])
def test_a_line_that_cannot_be_read_hides_no_partition_and_is_said(slurm: FakeSlurm, line_end: str) -> None:
    first, *others = SINFO.splitlines(keepends=True)
    slurm.says("sinfo", "".join([first, f"gpu|up|1:00|3|4|512|(null)|a{line_end}b\n", *others[1:]]))
    slurm.says("sacctmgr", f"a{line_end}b||normal||||\nlab||normal||||\n", QOS)
    cluster = ask_cluster(QUICK)
    assert {partition.name for partition in cluster.partitions} == {"cpu", "gpu", "old"}
    assert "lab" in {account.name for account in cluster.accounts}
    said = [text for text in cluster.missing if "cannot be read" in text]
    assert said == (["sinfo printed a line that cannot be read: 'b'"] if line_end == "\n" else [])


def test_accounts_and_all_else_are_those_of_the_cluster_that_is_asked(slurm: FakeSlurm, tmp_path: Path) -> None:
    assert main(["init", "--to", str(tmp_path / "own.toml")]) == 0
    assert "cluster=alps" in slurm.calls("sacctmgr")[0]  # one slurmdbd may have the accounts of several clusters
    assert main(["init", "--to", str(tmp_path / "other.toml"), "--cluster", "wice"]) == 0
    assert read_site(tmp_path / "own.toml").cluster is None
    assert read_site(tmp_path / "other.toml").cluster == "wice"
    assert all(words[:2] == ["-M", "wice"] for name in ("sinfo", "scontrol") for words in slurm.calls(name)[-1:])


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("AllowAccounts=ALL AllowQos=ALL QoS=N/A", ("lab", "normal, high, gpu-short", 2880, 40)),
        ("AllowAccounts=lab-gpu,other AllowQos=ALL QoS=N/A", ("lab-gpu", "gpu-short", 120, 4)),
        ("DenyAccounts=lab AllowQos=ALL", ("lab-gpu", "gpu-short", 120, 4)),
        ("AllowAccounts=lab AllowQos=high", ("lab", "high", 1440, 8)),
        ("AllowAccounts=lab DenyQos=high QoS=gpu-short", ("lab", "normal", 120, 4)),
        ("AllowAccounts=others", (None, "unknown", 2880, None)),
    ],
)
def test_what_a_partition_allows_is_kept_to(
    slurm: FakeSlurm, rules: str, expected: tuple[str | None, str, int, int | None]
) -> None:
    partitions = PARTITIONS.replace("PartitionName=gpu AllowGroups=ALL", f"PartitionName=gpu {rules}")
    slurm.says("scontrol", config("associations,limits,qos"), partitions)
    text = site_text(ask_cluster(QUICK), "gpu")
    site = parsed(text)
    account, qos, walltime_min, max_jobs = expected
    assert (site.account, site.walltime_min, site.limits.max_jobs) == (account, walltime_min, max_jobs)
    assert f"open to you: {qos}\n" in text
    assert ("accepts none of your accounts (lab, teaching, lab-gpu) with their qos" in text) == (account is None)


@pytest.mark.parametrize(
    ("accounts", "rules", "expected"),
    [
        ("lab||normal,high||||", "AllowQos=high", ("lab", "high", 1440)),  # jobs without qos would be refused
        ("lab||normal,high|high|||", "AllowQos=high", ("lab", None, 1440)),  # jobs get it by default
        ("lab||high||||", "AllowQos=high", ("lab", None, 1440)),  # the only one is the default
        ("lab||gpu-short,normal|normal|||", "AllowQos=ALL", ("lab", None, 2880)),  # not the limit of the first
        ("lab||gpu-short,normal||||", "DenyQos=normal", ("lab", "gpu-short", 120)),
        ("lab||normal||01:00:00||", "AllowQos=ALL", ("lab", None, 60)),  # the account's own limit
        ("lab||normal||||\nother||high||||", "AllowQos=high", ("other", None, 1440)),  # lab has no qos here
    ],
)
def test_jobs_get_a_quality_of_service_that_the_partition_allows(
    slurm: FakeSlurm, accounts: str, rules: str, expected: tuple[str, str | None, int]
) -> None:
    partitions = PARTITIONS.replace("PartitionName=gpu AllowGroups=ALL", f"PartitionName=gpu {rules}")
    slurm.says("scontrol", config("associations,limits,qos"), partitions)
    slurm.says("sacctmgr", accounts, QOS)
    site = parsed(site_text(ask_cluster(QUICK), "gpu"))
    assert (site.account, site.qos, site.walltime_min) == expected


@pytest.mark.parametrize(
    ("gres", "said"),
    [
        ("gpu:a100:no_consume:4", "gpu:a100 is no_consume, which is not supported"),
        ("gpu:mi300a:4", "gpu:mi300a is a name of AMD GPUs, which are not supported"),
        ("gpu:amd_instinct:4", "gpu:amd_instinct is a name of AMD GPUs"),
    ],
)
def test_gpus_that_trials_cannot_use_are_refused_by_name(slurm: FakeSlurm, gres: str, said: str) -> None:
    slurm.says("sinfo", SINFO.replace("gpu:a100:4", gres))
    text = site_text(ask_cluster(QUICK), "gpu")
    assert parsed(text).gpus_per_node == 0
    assert f"# MISSING: {said}" in text


def test_away_from_a_cluster_it_says_so_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm = FakeSlurm(tmp_path, monkeypatch)
    for name in ("scontrol", "sinfo"):
        slurm.says(
            name, {"error": "error: resolve_ctls: Unknown host\nerror: fetch_config: it failed", "returncode": 1}
        )
    assert main(["init"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: no SLURM cluster answers here; on a login node of the cluster type: ")
    assert "Unknown host" in line and "fetch_config" not in line


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize("given", ["", "--name mine.toml", "--to mine", "--to 'a b/c'"])
def test_the_command_that_it_ends_with_is_one_that_there_is(
    given: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", *shlex.split(given)]) == 0
    last = capsys.readouterr().out.splitlines()[-1].partition("type: ")[2]
    words = shlex.split(last)
    assert "doctor" in words[1:]
    options = parsed_command(words[words.index("doctor") :])
    assert find_site(str(options["site"])).partition == "cpu"
