"""On a real SLURM: a site from `init`, a job from `submit`, watched and cancelled, and nothing left behind."""

import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from hpc.errors import SlurmError
from hpc.sites.site import Need, Site, read_site
from hpc.slurm.jobs import JobState, cancel, jobs, queue, submit, would_start
from tests.slurm.testbed import Testbed

HOSTILE = """it's "x" $(touch pwned) # é"""


@pytest.fixture(scope="module")
def site(slurm: Testbed) -> Site:
    """What `init` writes, as it stands."""
    path = slurm.folder / "site.toml"
    words = [sys.executable, "-m", "transtailor", "init", "--to", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"wrote {path}\n")
    return read_site(path)


def states_when(ids: tuple[str, ...], condition: Callable[[list[JobState]], bool]) -> list[JobState]:
    """The jobs' states as soon as they meet the condition."""
    end = time.monotonic() + 300.0
    while not condition(states := list(jobs(ids, None).values())):
        assert time.monotonic() < end, states
        time.sleep(0.2)
    return states


def all_ended(states: list[JobState]) -> bool:
    return all(state.ended for state in states)


def test_init_asks_the_cluster(slurm: Testbed, site: Site) -> None:
    assert (site.partition, site.walltime_min, site.cpus_per_node, site.memory_gb) == ("main", 60, 2, 3.9)
    assert (site.gres, site.gpus_per_node, site.exclusive) == ("gpu", 2, False)
    assert site.account == ("root" if slurm.accounting else None)
    whole_nodes = slurm.folder / "whole.toml"
    subprocess.run(["scontrol", "update", "PartitionName=preempt", "OverSubscribe=EXCLUSIVE"], check=True)
    words = ["init", "--partition", "preempt", "--to", str(whole_nodes)]
    subprocess.run([sys.executable, "-m", "transtailor", *words], check=True)
    subprocess.run(["scontrol", "update", "PartitionName=preempt", "OverSubscribe=NO"], check=True)
    assert read_site(whole_nodes).exclusive


def test_a_job_runs_as_it_was_asked_for(slurm: Testbed, site: Site) -> None:
    logs = slurm.folder / HOSTILE.replace("/", "") / "logs"
    hostile = Site.model_validate(
        dict(site)
        | {
            "shared_folder": str(slurm.folder), "scratch_folder": f"{slurm.folder}/$SLURMD_NODENAME {HOSTILE}",
            "sbatch": {"comment": HOSTILE}, "network_interface": "eth0",
            "setup": ("export FROM_SETUP=here SLURM_EXPORT_ENV=NONE",),  # the second one as clusters do
        }
    )  # fmt: skip
    show = 'printf "%s\\n" "$PWD" "$TMPDIR" "$FROM_SETUP" "$NCCL_SOCKET_IFNAME" "$CUDA_VISIBLE_DEVICES" "$1"; hostname'
    job = submit(hostile, Need(log_folder=logs, gpus=1, walltime_min=5), ["bash", "-c", show, "x", HOSTILE])
    (state,) = states_when([job], all_ended)
    assert state.state == "COMPLETED", (logs / f"{job}_0_log.err").read_text()
    folder, scratch, setup, interface, gpu, word, node = (logs / f"{job}_0_log.out").read_text().splitlines()
    assert (folder, scratch) == (str(slurm.folder), f"{slurm.folder}/{node} {HOSTILE}")
    assert (setup, interface, gpu, word) == ("here", "eth0", "0", HOSTILE)
    shown = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=True).stdout
    assert f"Comment={HOSTILE}" in shown
    assert "TimeLimit=00:05:00" in shown
    # SLURM removes folders meanwhile, of which rglob would make an error.
    assert not [place for place, _, names in os.walk(slurm.folder) if "pwned" in names]


def test_a_command_that_fails_and_an_unknown_job_are_told_apart(slurm: Testbed, site: Site) -> None:
    job = submit(site, Need(log_folder=slurm.folder / "logs"), ["false"])
    states_when([job], all_ended)
    states = jobs([job, "99999"], None)
    assert states[job].state == "FAILED"
    assert "see its log" in states[job].explanation
    assert states["99999"].state == "UNKNOWN"


def test_cancel_ends_exactly_the_jobs_named(slurm: Testbed, site: Site) -> None:
    need = Need(log_folder=slurm.folder / "logs", gpus=0, cpus=1, memory_gb=0.5)
    ids = [submit(site, need, ["sleep", "3600"]) for _ in range(3)]
    states_when(ids, lambda states: all(state.state == "RUNNING" for state in states))
    cancel(ids[1:2], None)
    states_when(ids[1:2], all_ended)
    assert [state.state for state in jobs(ids, None).values()] == ["RUNNING", "CANCELLED", "RUNNING"]
    cancel(ids, None)  # one of them has ended before
    states_when(ids, all_ended)
    cancel(["99999"], None)


def test_names_of_other_jobs_neither_hide_nor_forge_ours(slurm: Testbed, site: Site) -> None:
    need = Need(log_folder=slurm.folder / "logs", job_name="ours-controller", gpus=0, cpus=1, memory_gb=0.5)
    held = site.model_copy(update={"sbatch": {"hold": True}})
    ours = submit(held, need, ["true"])
    forged = "1\n999|RUNNING|N/A|node1|None|ours-controller"
    names = [f"a{line_end}b" for line_end in ("\n", "\r", "\f", "\x85", "\u2028")]
    words = ["sbatch", "--parsable", "--hold", "--output=/dev/null", "--mem=100", "--wrap=true"]
    others = [
        subprocess.run([*words, f"--job-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in (*names, forged)
    ]
    try:
        found = queue(["ours-controller", "ours-worker-1"], None)
        assert [(job.id, job.name, job.state.state) for job in found] == [(ours, "ours-controller", "PENDING")]
        assert {state.state for state in jobs([ours, *others], None).values()} == {"PENDING"}
    finally:
        cancel([ours, *others], None)


def test_a_cluster_that_is_named_is_asked_in_all_calls(slurm: Testbed, site: Site) -> None:
    if not slurm.accounting:
        pytest.skip("without accounting SLURM knows no cluster by its name; the parametrised fixture has both")
    named = site.model_copy(update={"cluster": "testbed"})
    need = Need(log_folder=slurm.folder / "logs", job_name="named", gpus=0, cpus=1, memory_gb=0.5)
    assert would_start(named, need, ["true"])
    job = submit(named, need, ["sleep", "3600"])
    states_when([job], lambda states: states[0].state == "RUNNING")
    assert [(one.id, one.state.state) for one in queue(["named"], "testbed")] == [(job, "RUNNING")]
    assert jobs([job], "testbed")[job].state == "RUNNING"
    cancel([job], "testbed")
    states_when([job], all_ended)


@pytest.mark.parametrize(
    ("key", "value", "advice"),
    [
        ("partition", "none", "partition is wrong"),
        ("constraint", "none", "constraint names a feature"),
        ("gres", "gpu:none", "no node has this many"),
        ("memory_gb", 900, "memory_gb is more"),
    ],
)
def test_refusals_say_which_key(slurm: Testbed, site: Site, key: str, value: object, advice: str) -> None:
    other = Site.model_validate(dict(site) | {key: value})
    with pytest.raises(SlurmError, match=advice):
        submit(other, Need(log_folder=slurm.folder / "logs"), ["true"])
