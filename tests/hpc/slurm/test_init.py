"""A first site file from what a cluster says of itself, on fakes with the outputs of real clusters' kinds."""

import getpass
import os
import shlex
import signal
import stat
import tomllib
from pathlib import Path

import pytest

from hpc.errors import SlurmError
from hpc.sites.site import Need, Site, find_site, read_site
from hpc.slurm.first_site import ask_cluster, gpus_of, site_text
from hpc.slurm.script import script
from tests.commands import parsed as parsed_command
from tests.hpc.fakes.commands import FakeSlurm
from transtailor.__main__ import main

SINFO = """\
cpu*|up|infinite|10|64|256000|NO|(null)
gpu|up|2-00:00:00|1|128|1024000|EXCLUSIVE|gpu:h100:8(S:0-1)
gpu|up|2-00:00:00|6|64+|512000+|EXCLUSIVE|gpu:a100:4(S:0,1),shard:8
old|down|30:00|2|16|900|YES:4|gpu:2
"""
CONFIG = """\
Configuration data as of 2026-01-01T00:00:00
AccountingStorageEnforce = associations,limits,qos
ClusterName             = alps
SlurmctldHost[0]        = head(10.0.0.1)

Slurmctld(primary) at head is UP
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """A cluster with three partitions, at which the user has one account."""
    fake = FakeSlurm(tmp_path, monkeypatch)
    fake.says("sinfo", SINFO)
    fake.says("scontrol", CONFIG)
    fake.says("sacctmgr", "lab\nlab\n")  # once for each of its partitions
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return fake


def parsed(text: str) -> Site:
    return Site.model_validate(tomllib.loads(text))


def test_the_site_is_of_the_default_partition(slurm: FakeSlurm) -> None:
    site = parsed(site_text(ask_cluster()))
    assert (site.partition, site.account, site.qos) == ("cpu", "lab", None)
    assert (site.cpus_per_node, site.memory_gb, site.gpus_per_node, site.gres) == (64, 250.0, 0, None)
    assert (site.walltime_min, site.exclusive) == (24 * 60, False)
    assert [len(slurm.calls(name)) for name in ("sinfo", "scontrol", "sacctmgr")] == [1, 1, 1]
    assert f"user={getpass.getuser()}" in slurm.calls("sacctmgr")[0]
    slurm.says("sinfo", SINFO.replace("cpu*|up", "cpu*|down"))
    assert parsed(site_text(ask_cluster())).partition == "gpu"


@pytest.mark.usefixtures("slurm")
def test_a_partition_with_gpus_is_described_by_its_most_frequent_nodes() -> None:
    text = site_text(ask_cluster(), "gpu")
    site = parsed(text)
    assert (site.partition, site.gres, site.gpus_per_node, site.cpus_per_node) == ("gpu", "gpu:a100", 4, 64)
    assert (site.walltime_min, site.exclusive) == (2 * 24 * 60, True)
    assert "1 x 128 CPUs, 1024000 MB, 8 x gpu:h100\n" in text
    assert "old, not up: time limit 30:00; 2 x 16 CPUs, 900 MB, 2 x gpu\n" in text


@pytest.mark.usefixtures("slurm")
def test_less_than_a_gigabyte_is_asked_for() -> None:
    site = parsed(site_text(ask_cluster(), "old"))
    assert (site.memory_gb, site.gres, site.gpus_per_node, site.walltime_min) == (0.8, "gpu", 2, 30)


@pytest.mark.parametrize(
    ("limit", "minutes"),
    [
        ("2-01:30:00", 2970), ("1:00:00", 60), ("30:00", 30), ("00:30", 1), ("365-00:00:00", 525600),
        ("infinite", 1440), ("n/a", 1440),
    ],
)  # fmt: skip
def test_limits_of_time(slurm: FakeSlurm, limit: str, minutes: int) -> None:
    slurm.says("sinfo", f"p*|up|{limit}|9|64|512000|NO|(null)\n")
    assert parsed(site_text(ask_cluster())).walltime_min == minutes


def test_a_partition_without_nodes_or_known_memory_gives_a_file_to_complete(slurm: FakeSlurm) -> None:
    slurm.says("sinfo", "CPU nodes (dyn)*|up|infinite|0|0|1|NO|(null)\n")
    site = parsed(site_text(ask_cluster()))
    assert (site.partition, site.cpus_per_node, site.memory_gb) == ("CPU nodes (dyn)", 1, None)


@pytest.mark.parametrize(
    "accounting", ["lab\nteaching\n", {"error": "sacctmgr: error: Problem talking to the database", "returncode": 1}]
)
def test_of_several_accounts_none_is_chosen_and_unknown_ones_are_said(
    slurm: FakeSlurm, accounting: str | dict[str, object], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    slurm.says("sacctmgr", accounting)
    path = tmp_path / "alps.toml"
    assert main(["init", "--to", str(path)]) == 0
    assert read_site(path).account is None
    are_known = isinstance(accounting, str)
    assert f"yours: {'lab, teaching' if are_known else 'unknown'}\n" in path.read_text()
    assert ("Problem talking" in capsys.readouterr().out) != are_known


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
        ask_cluster()


def test_hostile_names_of_a_cluster_stay_in_their_place(slurm: FakeSlurm) -> None:
    slurm.says("sinfo", "a\"]'$(touch x)#*|up|infinite|1|4|4096|NO|(null)\n")
    slurm.says("sacctmgr", 'b"\\n$(x)\n')
    with pytest.raises(SlurmError, match="make no valid site"):  # a backslash is no part of an account's name
        site_text(ask_cluster())
    slurm.says("sacctmgr", 'b"$(x)\n')
    site = parsed(site_text(ask_cluster()))
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
    site = parsed(site_text(ask_cluster(), "gpu"))
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


def test_a_line_of_a_wrapper_hides_no_partition(slurm: FakeSlurm) -> None:
    slurm.says("sinfo", "CLUSTER: alps\nwelcome | to | alps\n\n" + SINFO)
    assert {nodes.partition for nodes in ask_cluster().nodes} == {"cpu", "gpu", "old"}


def test_accounts_and_all_else_are_those_of_the_cluster_that_is_asked(slurm: FakeSlurm, tmp_path: Path) -> None:
    assert main(["init", "--to", str(tmp_path / "own.toml")]) == 0
    assert "cluster=alps" in slurm.calls("sacctmgr")[0]  # one slurmdbd may have the accounts of several clusters
    assert main(["init", "--to", str(tmp_path / "other.toml"), "--cluster", "wice"]) == 0
    assert read_site(tmp_path / "own.toml").cluster is None
    assert read_site(tmp_path / "other.toml").cluster == "wice"
    assert all(words[:2] == ["-M", "wice"] for name in ("sinfo", "scontrol") for words in slurm.calls(name)[-1:])


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
