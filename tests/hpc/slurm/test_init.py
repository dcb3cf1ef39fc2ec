"""A first site file from what a cluster says of itself, on fakes with the outputs of real clusters' kinds."""

import getpass
import os
import shlex
import signal
import stat
import tomllib
from pathlib import Path

import pytest

from hpc.__main__ import _parser, main
from hpc.errors import SlurmError
from hpc.sites.site import Site, find_site, read_site
from hpc.slurm.first_site import ask_cluster, gpus_of, minutes_of, site_text
from hpc.slurm.jobs import Patience
from tests.hpc.fakes.commands import FakeSlurm

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
def test_less_than_a_gigabyte_leaves_memory_to_slurm() -> None:
    site = parsed(site_text(ask_cluster(QUICK), "old"))
    assert (site.memory_gb, site.gres, site.gpus_per_node, site.walltime_min) == (None, "gpu", 2, 30)


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


@pytest.mark.usefixtures("slurm")
def test_nobody_else_may_write_the_file_and_a_kill_leaves_no_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sites" / "alps.toml"
    before = os.umask(0o002)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", lambda _: os.kill(os.getpid(), signal.SIGINT))
            with pytest.raises(KeyboardInterrupt):
                main(["init", "--to", str(path)])
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
        ("(null)", None),
        ("fpga:2", None),
    ],
)
def test_gpus_among_generic_resources(gres: str, gpus: tuple[str, int] | None) -> None:
    assert gpus_of(gres) == gpus
    if gpus:
        assert Site(cpus_per_node=1, walltime_min=1, gres=gpus[0], gpus_per_node=gpus[1]).gres == gpus[0]


@pytest.mark.parametrize(
    ("limit", "minutes"),
    [("2-01:30:00", 2970), ("1:00:00", 60), ("30:00", 30), ("infinite", None), ("n/a", None), ("", None)],
)
def test_time_limits(limit: str, minutes: int | None) -> None:
    assert minutes_of(limit) == minutes


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
    assert line.startswith("no SLURM cluster answers here; on a login node of the cluster type: ")
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
    options = _parser("transtailor").parse_args(words[words.index("doctor") :])
    assert (options.command, find_site(options.site).partition) == ("doctor", "cpu")
