"""Which flags of sbatch a site may pass on: each is decided, and a refusal says why and what to write."""

from pathlib import Path

import pytest

from hpc.sites.sbatch_flags import OTHER_SPELLINGS, PASSED_ON, REFUSED, SHORT, refusal
from transtailor.__main__ import main

# The manual of sbatch 22.05 (Debian's package), and what the manuals of 23.02 to 25.11 have more.
MANUAL = """
account acctg-freq array batch bb bbf begin chdir cluster-constraint clusters comment constraint container
contiguous core-spec cores-per-socket cpu-freq cpus-per-gpu cpus-per-task deadline delay-boot dependency
distribution error exclude exclusive export export-file extra-node-info get-user-env gid gpu-bind gpu-freq gpus
gpus-per-node gpus-per-socket gpus-per-task gres gres-flags help hint hold ignore-pbs input job-name
kill-on-invalid-dep licenses mail-type mail-user mcs-label mem mem-bind mem-per-cpu mem-per-gpu mincpus network nice
no-kill no-requeue nodefile nodelist nodes ntasks ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket
open-mode output overcommit oversubscribe parsable partition power prefer priority profile propagate qos quiet
reboot requeue reservation signal sockets-per-node spread-job switches test-only thread-spec threads-per-core time
time-min tmp uid usage use-min-nodes verbose version wait wait-all-nodes wckey wrap container-id extra tres-per-task
tres-bind resv-ports oom-kill-step stepmgr segment spread-segments consolidate-segments
""".split()  # noqa: SIM905  # a list of one word a line would be long


def test_each_flag_of_the_manual_is_decided_once() -> None:
    assert set(REFUSED) & PASSED_ON == set()
    assert set(MANUAL) - set(REFUSED) - PASSED_ON == set()
    assert {*SHORT.values(), *OTHER_SPELLINGS.values()} <= {*REFUSED, *PASSED_ON}


@pytest.mark.parametrize("flag", sorted(PASSED_ON))
def test_flags_on_which_nothing_depends_are_passed_on(flag: str) -> None:
    assert refusal(flag) is None


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ('clusters = "wice"', ["squeue, sacct, scancel and scontrol have to ask the same cluster", "use cluster"]),
        ('cluster = "wice"', ["short for clusters", "use cluster"]),
        ('"-M" = "wice"', ["short for clusters", "use cluster"]),
        ('M = "wice"', ["use cluster"]),
        ('cluster-constraint = "x"', ["use cluster"]),
        ("ntasks = 4", ["one task on each node", "leave it out"]),
        ("n = 4", ["short for ntasks", "leave it out"]),
        ("ntask = 4", ["short for ntasks or ntasks-per-board", "leave it out"]),
        ("tasks-per-node = 4", ["one task on each node"]),
        ("gpus = 8", ["limits.gpu_hours_per_sweep", "use gpus_per_node"]),
        ("G = 8", ["short for gpus", "use gpus_per_node"]),
        ("gpu = 8", ["short for gpu-bind or gpu-freq or gpus"]),
        ("gpus-per-task = 8", ["use gpus_per_node"]),
        ('tres-per-task = "gres/gpu:8"', ["gpus_per_node"]),
        ('mem-per-cpu = "4G"', ["use memory_gb"]),
        ('mem-per-gpu = "4G"', ["use memory_gb"]),
        ('mem-per = "4G"', ["short for mem-per-cpu or mem-per-gpu", "use memory_gb"]),
        ("het-group = 1", ["jobs of several parts"]),
        ('array = "0-9"', ["belongs to each job"]),
        ("c = 4", ["use cpus_per_node"]),
        ('time-min = "1"', ["use walltime_min"]),
        ("share = true", ["short for oversubscribe", "use exclusive"]),
        ("exclu = true", ["short for exclude or exclusive"]),
        ("uid = 0", ["another user"]),
        ("quiet = true", ["answers of sbatch are read"]),
        ("licen = true", ["(short for licenses): write the whole name"]),
    ],
)
def test_a_refused_flag_says_what_depends_on_it_and_what_to_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str, said: list[str]
) -> None:
    path = tmp_path / "site.toml"
    path.write_text(f"cpus_per_node = 4\nwalltime_min = 60\n[sbatch]\n{flag}\n")
    assert main(["doctor", "--site", str(path)]) == 2
    message = capsys.readouterr().err
    assert [part for part in said if part not in message] == []
    assert repr(flag.partition(" ")[0].strip('"')) in message


def test_a_plugins_flag_is_passed_on() -> None:
    assert refusal("numa-policy") is None


@pytest.mark.parametrize("name", ["wice,genius", "all", "a b", "--x"])
def test_a_cluster_is_one_name(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    path = tmp_path / "site.toml"
    path.write_text(f'cpus_per_node = 4\nwalltime_min = 60\ncluster = "{name}"\n')
    assert main(["doctor", "--site", str(path)]) == 2
    assert 'the name of one cluster, such as "wice"' in capsys.readouterr().err
