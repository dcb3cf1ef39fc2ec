"""The text of a job at a site: each field of site, need and controller has its lines, and no value leaves its own."""

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hpc.cluster.needs import RankNeed, controller_need, worker_need
from hpc.errors import SiteError
from hpc.sites.site import Controller, Need, Site, SubmissionLimits
from hpc.slurm.script import SAY_FAILURES, SAY_NO_MORE, sbatch_parameters, script

SITE = Site(cpus_per_node=8, memory_gb=32, gpus_per_node=4, walltime_min=120)
NEED = Need(log_folder=Path("/shared/run/logs"))
HOSTILE = """it's "x" $(touch pwned) `touch pwned` ; touch pwned # é"""

# Each field of a site: another value, and the lines that it takes from the text and adds to it.
SITE_CHANGES: dict[str, tuple[Any, set[str], set[str]]] = {
    "description": ("a site", set(), set()),
    "cluster": ("wice", set(), {"#SBATCH --clusters=wice"}),
    "partition": ("gpu", set(), {"#SBATCH --partition=gpu"}),
    "account": ("lab", set(), {"#SBATCH --account=lab"}),
    "qos": ("high", set(), {"#SBATCH --qos=high"}),
    "constraint": ("a100|h100", set(), {"#SBATCH --constraint='a100|h100'"}),
    "gpus_per_node": (2, {"#SBATCH --gpus-per-node=4"}, {"#SBATCH --gpus-per-node=2"}),
    "gres": ("gpu:a100", {"#SBATCH --gpus-per-node=4"}, {"#SBATCH --gres=gpu:a100:4"}),
    "cpus_per_node": (16, {"#SBATCH --cpus-per-task=8", "srun 8"}, {"#SBATCH --cpus-per-task=16", "srun 16"}),
    "memory_gb": (1.5, {"#SBATCH --mem=32768MB"}, {"#SBATCH --mem=1536MB"}),
    "memory": ("per_cpu", {"#SBATCH --mem=32768MB"}, {"#SBATCH --mem-per-cpu=4096MB"}),
    "walltime_min": (90, {"#SBATCH --time=120"}, {"#SBATCH --time=90"}),
    "exclusive": (True, set(), {"#SBATCH --exclusive"}),
    "setup": (
        ("module load cuda", "x=$(hostname)"),
        set(),
        {SAY_FAILURES, "module load cuda", "x=$(hostname)", SAY_NO_MORE},
    ),
    "container": (("run", "a b"), {"echo hi"}, {"run 'a b' echo hi"}),
    "network_interface": ("ib0", set(), {"export GLOO_SOCKET_IFNAME=ib0 NCCL_SOCKET_IFNAME=ib0"}),
    "shared_folder": ("/shared", set(), {"#SBATCH --chdir=/shared"}),
    "scratch_folder": (
        "/scratch/$USER/a b",
        set(),
        {
            """export TMPDIR=/scratch/"${USER:?is not set on this node}"'/a b'""",
            'mkdir -p -- "$TMPDIR" || { echo "scratch_folder $TMPDIR cannot be made" >&2; exit 1; }',
        },
    ),
    "on_end": (("tell", "me"), set(), set()),
    "drain_before_s": (60, set(), set()),  # these say what sweeps do with their jobs
    "idle_s": (5, set(), set()),
    "controller": (Controller(partition="cpu", cpus=2), set(), set()),
    "limits": (SubmissionLimits(max_jobs=9, gpu_hours_per_sweep=9), set(), set()),
    "sbatch": (
        {"reservation": "a b", "nice": 3, "hold": True},
        set(),
        {"#SBATCH --reservation='a b'", "#SBATCH --nice=3", "#SBATCH --hold"},
    ),
}
NEED_CHANGES: dict[str, tuple[Any, set[str], set[str]]] = {
    "job_name": ("a b", {"#SBATCH --job-name=transtailor"}, {"#SBATCH --job-name='a b'"}),
    "cpus": (3, {"#SBATCH --cpus-per-task=8", "srun 8"}, {"#SBATCH --cpus-per-task=3", "srun 3"}),
    "memory_gb": (4, {"#SBATCH --mem=32768MB"}, {"#SBATCH --mem=4096MB"}),
    "gpus": (0, {"#SBATCH --gpus-per-node=4"}, set()),
    "walltime_min": (7, {"#SBATCH --time=120"}, {"#SBATCH --time=7"}),
    "signal_before_s": (60, {"#SBATCH --signal=USR2@90"}, {"#SBATCH --signal=USR2@60"}),
    "requeue": (False, {"#SBATCH --requeue"}, {"#SBATCH --no-requeue"}),
}


TEXT = """\
#!/bin/bash

# Parameters
#SBATCH --cpus-per-task=8
#SBATCH --error={logs}/%j_0_log.err
#SBATCH --export=ALL
#SBATCH --gpus-per-node=4
#SBATCH --job-name=transtailor
#SBATCH --mem=32768MB
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output={logs}/%j_0_log.out
#SBATCH --propagate=NONE
#SBATCH --requeue
#SBATCH --signal=USR2@90
#SBATCH --time=120

# setup
unset SLURM_JWT

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output {logs}/%j_%t_log.out --error {logs}/%j_%t_log.err --export=ALL --cpus-per-task=8 echo hi
"""


def test_the_text_of_a_plain_site_is_this() -> None:
    assert script(SITE, NEED, ["echo", "hi"]) == TEXT.format(logs=NEED.log_folder)


def lines_of(text: str) -> set[str]:
    """The lines, with the last one as its parts that can change: the step's CPUs and the command."""
    *lines, last = text.strip().splitlines()
    start, _, rest = last.partition(" --cpus-per-task=")
    cpus, _, command = rest.partition(" ")
    return {line for line in lines if line and line != "# setup"} | {start, f"srun {cpus}", command}


def changed(base: tuple[Site, Need], other: tuple[Site, Need]) -> tuple[set[str], set[str]]:
    """What the text loses and gains."""
    before, after = (lines_of(script(*pair, ["echo", "hi"])) for pair in (base, other))
    return before - after, after - before


def test_the_changes_are_of_all_fields() -> None:
    assert set(SITE_CHANGES) | {"tls"} == set(Site.model_fields)  # which is for Ray, and in no line of a job
    assert set(NEED_CHANGES) | {"log_folder", "again_if_killed"} == set(Need.model_fields)


@pytest.mark.parametrize("field", SITE_CHANGES)
def test_each_field_of_a_site_changes_its_lines_and_no_other(field: str) -> None:
    value, lost, gained = SITE_CHANGES[field]
    other = Site.model_validate(dict(SITE) | {field: value})
    assert other != SITE
    assert changed((SITE, NEED), (other, NEED)) == (lost, gained)


@pytest.mark.parametrize("field", NEED_CHANGES)
def test_each_field_of_a_need_changes_its_lines_and_no_other(field: str) -> None:
    value, lost, gained = NEED_CHANGES[field]
    assert changed((SITE, NEED), (SITE, Need.model_validate(dict(NEED) | {field: value}))) == (lost, gained)


def test_the_step_keeps_the_variables_of_setup_whatever_the_job_is_given() -> None:
    site = Site.model_validate(dict(SITE) | {"sbatch": {"export": "NONE"}})
    lost, gained = changed((SITE, NEED), (site, NEED))
    assert (lost, gained) == ({"#SBATCH --export=ALL"}, {"#SBATCH --export=NONE"})
    *_, step = script(site, NEED, ["echo", "hi"]).splitlines()
    assert "--export=ALL" in shlex.split(step)


def test_a_shared_folder_may_be_reached_by_links(tmp_path: Path) -> None:
    """The working folder is known by its real path, and a site file has the path that its author types."""
    real, link = tmp_path / "real", tmp_path / "link"
    (real / "work" / "logs").mkdir(parents=True)
    link.symlink_to(real)
    (tmp_path / "home").symlink_to(real / "work")
    for shared in (real, link, tmp_path / "real" / "..", link / "work" / ".."):
        site = Site.model_validate(dict(SITE) | {"shared_folder": str(shared)})
        for folder in (real, link):
            need = Need.model_validate(dict(NEED) | {"log_folder": folder / "work" / "logs"})
            assert f"#SBATCH --chdir={shared}\n" in script(site, need, ["true"])
    site = Site.model_validate(dict(SITE) | {"shared_folder": str(tmp_path / "home")})
    elsewhere = Need.model_validate(dict(NEED) | {"log_folder": link / "logs"})
    with pytest.raises(SiteError, match=f"not below shared_folder = {tmp_path}/home"):
        script(site, elsewhere, ["true"])


@pytest.mark.parametrize(
    ("need", "said"),
    [
        ({"cpus": 9}, "9 CPUs, and a node has cpus_per_node = 8"),
        ({"memory_gb": 33}, "33 GB, and jobs may use memory_gb = 32"),
        ({"gpus": 5}, "5 GPUs, and a node has gpus_per_node = 4"),
        ({"walltime_min": 121}, "121 minutes, and walltime_min = 120"),
        ({"walltime_min": 1, "signal_before_s": 60}, "a signal 60 s before a walltime of 1 min"),
        ({"walltime_min": 120}, "8 GPU-hours, and limits.gpu_hours_per_sweep = 7"),
        ({"log_folder": Path("/sharedX/logs")}, "not below shared_folder = /shared (work in a folder below it)"),
    ],
)
def test_what_a_site_cannot_give_is_refused(need: dict[str, Any], said: str) -> None:
    limits = SubmissionLimits(gpu_hours_per_sweep=7)
    site = Site.model_validate(dict(SITE) | {"shared_folder": "/shared", "limits": limits})
    assert sbatch_parameters(site, NEED.model_copy(update={"walltime_min": 90}))
    with pytest.raises(SiteError) as raised:
        sbatch_parameters(site, Need.model_validate(dict(NEED) | need))
    assert said in str(raised.value)
    assert "ask for less, or edit the site" in str(raised.value)


@pytest.mark.parametrize("folder", ["logs", "/a/%j", "/a\nb", "/a\\b"])
def test_log_folders_that_slurm_would_read_otherwise_are_refused(folder: str) -> None:
    with pytest.raises(ValueError, match="absolute path of one line"):
        Need(log_folder=Path(folder))


def test_hostile_values_stay_one_word_and_run_nothing(tmp_path: Path) -> None:
    """The text is run by bash with an `srun` that writes down its words."""
    fields = dict.fromkeys(["partition", "account", "qos", "constraint", "network_interface", "description"], HOSTILE)
    folder = tmp_path / HOSTILE.replace("/", "")
    scratch = tmp_path / "scratch"
    site = Site(
        cpus_per_node=1, walltime_min=60, shared_folder=str(folder), scratch_folder=f"$SCRATCH/{HOSTILE}",
        sbatch={"comment": HOSTILE}, container=("run", HOSTILE), **fields,
    )  # fmt: skip
    text = script(site, Need(log_folder=folder, job_name=HOSTILE), ["echo", HOSTILE, "a\nb"])
    flags = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH")]
    assert {"--comment=" + HOSTILE, "--chdir=" + str(folder), "--job-name=" + HOSTILE} <= {
        word for flag in flags for word in shlex.split(flag)
    }
    (tmp_path / "srun").write_text(
        f'#!/bin/sh\nprintf "%s\\0" "$TMPDIR" "$NCCL_SOCKET_IFNAME" "$@" > {tmp_path}/words\n'
    )
    (tmp_path / "srun").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SCRATCH": f"{scratch} $(touch pwned)", "LC_ALL": "C.UTF-8"}
    subprocess.run(["bash", "-c", text], cwd=tmp_path, env=environment, check=True)
    temporary, interface, *words = (tmp_path / "words").read_text().split("\0")[:-1]
    assert temporary == f"{scratch} $(touch pwned)/{HOSTILE}"
    assert Path(temporary).is_dir()
    assert interface == HOSTILE
    assert words[-6:] == ["--cpus-per-task=1", "run", HOSTILE, "echo", HOSTILE, "a\nb"]
    assert words[words.index("--output") + 1] == f"{folder}/%j_%t_log.out"
    assert not (tmp_path / "pwned").exists()


def test_an_unset_variable_of_the_scratch_folder_ends_the_job_with_its_name(tmp_path: Path) -> None:
    site = Site(cpus_per_node=1, walltime_min=60, scratch_folder="/scratch/$NOT_SET_HERE")
    run = subprocess.run(
        ["bash", "-c", script(site, NEED, ["true"])], cwd=tmp_path, env={"PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode != 0
    assert "NOT_SET_HERE: is not set on this node" in run.stderr


@pytest.mark.parametrize(
    ("setup", "code", "said"),
    [
        (["false", "[ -f none ] && source none", "source ./sourced", "exit 3"], 3, ["1: false", "3: exit 3"]),
        (["nothing_of_that_name", "true"], 9, ["127: nothing_of_that_name"]),
        (["trap 'exit 7' EXIT"], 7, []),  # it still runs at the end of the job
    ],
)
def test_a_line_of_setup_that_fails_is_named_in_the_log_and_ends_the_job_only_if_it_says_so(
    setup: list[str], code: int, said: list[str], tmp_path: Path
) -> None:
    (tmp_path / "srun").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "srun").chmod(0o755)
    (tmp_path / "sourced").write_text("false\ntrue\n")
    (tmp_path / "job").write_text(script(Site(cpus_per_node=1, walltime_min=60, setup=tuple(setup)), NEED, ["true"]))
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    run = subprocess.run(["bash", "job"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == code
    ends = [line for line in run.stderr.splitlines() if "a line of setup" in line]
    assert ends == [f"a line of setup ended with code {end}" for end in said]


def test_a_scratch_folder_that_cannot_be_made_is_named_in_the_log(tmp_path: Path) -> None:
    site = Site(cpus_per_node=1, walltime_min=60, scratch_folder="/proc/nowhere")
    words = ["bash", "-c", script(site, NEED, ["true"])]
    run = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr.splitlines()[-1]) == (
        1, "scratch_folder /proc/nowhere cannot be made",
    )  # fmt: skip


CONTROLLER_CHANGES: dict[str, tuple[Any, set[str], set[str]]] = {
    "partition": ("cpu", set(), {"#SBATCH --partition=cpu"}),
    "qos": ("long", set(), {"#SBATCH --qos=long"}),
    "constraint": ("ib", set(), {"#SBATCH --constraint=ib"}),
    "gpus_per_node": (1, set(), {"#SBATCH --gpus-per-node=1"}),
    "cpus": (2, {"#SBATCH --cpus-per-task=1", "srun 1"}, {"#SBATCH --cpus-per-task=2", "srun 2"}),
    "memory_gb": (2.0, {"#SBATCH --mem=4096MB"}, {"#SBATCH --mem=2048MB"}),
    "walltime_min": (600, {"#SBATCH --time=120"}, {"#SBATCH --time=600"}),
    "container": (("own", "image"), {"echo hi"}, {"own image echo hi"}),
}


NEED_OF_RANK = RankNeed(ranks=1, cpus_per_rank=1, gpus_per_rank=1)


def controllers(site: Site) -> set[str]:
    """The lines of the controller's job at a site, as `lines_of` has them."""
    need = controller_need(site, Path("/shared/cluster/logs"), "demo")
    need = need.model_copy(update={"again_if_killed": False})  # lines after the command, which have their own test
    return lines_of(script(site.controller_site(), need, ["echo", "hi"]))


def test_a_controller_gets_what_its_site_says_though_workers_have_less() -> None:
    small = Site(cpus_per_node=1, memory_gb=1.2, walltime_min=60)
    assert controllers(small) >= {"#SBATCH --cpus-per-task=1", "#SBATCH --mem=1229MB"}
    large = small.model_copy(update={"controller": Controller(cpus=2, memory_gb=2.5)})
    assert controllers(large) >= {"#SBATCH --cpus-per-task=2", "#SBATCH --mem=2560MB"}


@pytest.mark.parametrize(
    ("memory", "of_worker", "of_controller", "of_controller_with_gpus"),
    [
        ("per_node", "--mem=1229MB", "--mem=1229MB", "--mem=1229MB"),
        ("per_cpu", "--mem-per-cpu=153MB", "--mem-per-cpu=409MB", "--mem-per-cpu=409MB"),
        ("per_gpu", "--mem-per-gpu=307MB", "--mem-per-cpu=409MB", "--mem-per-gpu=614MB"),
        ("none", None, None, None),
    ],
)
def test_all_jobs_ask_for_memory_by_the_flag_of_their_site_and_never_for_more(
    memory: Any, of_worker: str | None, of_controller: str | None, of_controller_with_gpus: str | None
) -> None:
    site = Site(
        cpus_per_node=8, gpus_per_node=4, memory_gb=1.2, memory=memory, walltime_min=60, controller=Controller(cpus=3)
    )
    with_gpus = site.model_copy(update={"controller": Controller(cpus=3, gpus_per_node=2)})
    texts = lines_of(script(site, NEED, ["true"])), controllers(site), controllers(with_gpus)
    flags = [line.removeprefix("#SBATCH ") for lines in texts for line in lines if "--mem" in line]
    assert flags == [flag for flag in (of_worker, of_controller, of_controller_with_gpus) if flag is not None]


def test_a_share_of_memory_is_never_0_which_asks_for_all_of_it() -> None:
    site = Site(cpus_per_node=8, memory_gb=0.005, memory="per_cpu", walltime_min=60)
    assert "#SBATCH --mem-per-cpu=1MB" in lines_of(script(site, NEED, ["true"]))


def test_the_changes_are_of_all_fields_of_a_controller() -> None:
    assert set(CONTROLLER_CHANGES) | {"gres"} == set(Controller.model_fields)


@pytest.mark.parametrize("field", CONTROLLER_CHANGES)
def test_each_field_of_a_controller_changes_its_lines_and_no_workers(field: str) -> None:
    value, taken, added = CONTROLLER_CHANGES[field]
    other = SITE.model_copy(update={"controller": Controller(**{field: value})})
    assert (controllers(SITE) - controllers(other), controllers(other) - controllers(SITE)) == (taken, added)
    worker = worker_need(SITE, NEED_OF_RANK, Path("/shared/cluster/logs"), "demo")
    assert changed((SITE, worker), (other, worker)) == (set(), set())


def test_a_controller_has_no_gpu_and_what_its_partition_may_not_know() -> None:
    site = SITE.model_copy(update={"qos": "gpu", "constraint": "a100", "controller": Controller(partition="cpu")})
    lines = controllers(site)
    assert not [line for line in lines if "gpu" in line or "a100" in line]
    assert "#SBATCH --requeue" in lines
    assert "#SBATCH --signal=USR2@120" in lines


@pytest.mark.parametrize(
    ("controller", "asked_for"),
    [
        (Controller(gpus_per_node=1), "--gres=gpu:a100:1"),
        (Controller(gpus_per_node=1, gres="gpu:t4"), "--gres=gpu:t4:1"),
        (Controller(gpus_per_node=2, partition="small"), "--gpus-per-node=2"),
        (Controller(gpus_per_node=2, partition="small", gres="gpu:t4"), "--gres=gpu:t4:2"),
    ],
)
def test_a_controller_may_ask_for_gpus_where_each_job_has_to(controller: Controller, asked_for: str) -> None:
    limits = SubmissionLimits(gpu_hours_per_sweep=1.5)  # of workers
    site = SITE.model_copy(update={"gres": "gpu:a100", "controller": controller, "limits": limits})
    assert [line for line in controllers(site) if "gpu" in line] == [f"#SBATCH {asked_for}"]


def test_a_worker_that_is_lost_is_not_started_again_by_slurm() -> None:
    lines = lines_of(
        script(SITE, worker_need(SITE, NEED_OF_RANK, Path("/shared/cluster/logs"), "demo"), ["echo", "hi"])
    )
    assert "#SBATCH --no-requeue" in lines
    assert "#SBATCH --gpus-per-node=4" in lines


def test_a_worker_for_trials_without_gpus_asks_for_none() -> None:
    need = worker_need(SITE, RankNeed(ranks=2, cpus_per_rank=2), Path("/shared/cluster/logs"), "demo")
    assert not [line for line in lines_of(script(SITE, need, ["echo", "hi"])) if "gpu" in line]


@pytest.mark.parametrize(
    ("code", "state", "is_queued"), [(137, "RUNNING", True), (137, "CANCELLED", False), (75, "RUNNING", False)]
)
def test_a_controller_whose_step_was_killed_is_queued_again(
    tmp_path: Path, code: int, state: str, is_queued: bool
) -> None:
    need = controller_need(SITE, tmp_path / "cluster" / "logs", "demo")
    for name, line in (("srun", f"exit {code}"), ("scontrol", f'echo "$*" >>"$0.calls"; echo JobState={state}')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "job.sh").write_text(script(SITE, need, ["driver"]))
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "7"}
    done = subprocess.run(["bash", tmp_path / "job.sh"], env=environment, check=False, timeout=60)
    assert done.returncode == code
    calls = tmp_path / "scontrol.calls"
    assert (calls.exists() and "requeue 7" in calls.read_text()) == is_queued


def test_the_controller_is_in_no_container_but_its_own() -> None:
    site = SITE.model_copy(update={"container": ("run", "image")})
    assert "run image driver" in script(site, NEED, ["driver"])
    assert "run image" not in script(site.controller_site(), NEED, ["driver"])
    own = site.model_copy(update={"controller": Controller(container=("own", "image"))})
    assert "own image driver" in script(own.controller_site(), NEED, ["driver"])
