"""A cluster that is not ours (see `Testbed`): from init to the report, and what the doctor finds of planted faults."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from results.store.reader import load
from tests.slurm.sweep import ROOT, SMALL
from tests.slurm.testbed import ACCOUNT, Testbed

pytestmark = pytest.mark.long
Edit = Callable[[str], str]
LIMIT_S = 600.0


def called(testbed: Testbed, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of ours, as the user types it at home."""
    environment = testbed.environment | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [testbed.python, "-m", *words], cwd=testbed.home, env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=LIMIT_S, check=False,
    )  # fmt: skip


def set_to(key: str, value: object) -> Edit:
    """Writes a line of the site anew; None takes it out."""
    line = "" if value is None else f"{key} = {json.dumps(value)}\n"

    def edit(text: str) -> str:
        # The first: the controller's table has some of the same keys.
        edited, times = re.subn(rf"^(# )?{key} = .*\n", lambda _: line, text, count=1, flags=re.MULTILINE)
        assert times == 1, f"{key}: no line in {text}"
        return edited

    return edit


@pytest.fixture(scope="module")
def site(foreign: Testbed) -> str:
    """What `init` wrote, and its user edited: only CPUs, small jobs, their QOS's limit, TLS, workers in a container."""
    done = called(foreign, "transtailor", "init")
    assert done.returncode == 0, done.stdout
    path = foreign.home / ".config" / "transtailor" / "sites" / "testbed.toml"
    assert f"wrote {path}\n" in done.stdout
    text = path.read_text()
    assert "2 x 2 CPUs, 4000 MB, 2 x gpu:a100" in text
    for edit in (
        set_to("account", ACCOUNT), set_to("cpus_per_node", 1), set_to("memory_gb", 1.2), set_to("gpus_per_node", None),
        set_to("gres", None), set_to("container", foreign.container), set_to("max_jobs", 4),
        set_to("memory", "per_cpu"), set_to("walltime_min", 40),
    ):  # fmt: skip
        text = edit(text)
    text = re.sub(r"\[controller\].*?(?=\[limits\])", "", text, flags=re.DOTALL)  # it goes last: see `in_container`
    text = "tls = true\ndrain_before_s = 20\nidle_s = 10\n" + text + "[controller]\nmemory_gb = 1.2\n"
    path.write_text(text)
    return text


@pytest.mark.usefixtures("site")
def test_doctor_sweep_and_report(foreign: Testbed) -> None:
    done = called(foreign, "transtailor", "doctor", "--site", "testbed")
    assert done.returncode == 0, done.stdout
    unchecked = set(re.findall(r"^– ([^:]*):", done.stdout, flags=re.MULTILINE))
    assert unchecked == {"GPUs of the partition", "jobs submitted by nodes"}, done.stdout
    (foreign.home / "small.toml").write_text(f'name = "small"\n{SMALL}')
    done = called(foreign, "transtailor", "run", "small.toml", "--site", "testbed")
    assert done.returncode == 0, done.stdout
    assert done.stdout.rstrip().endswith("report.html")
    run = foreign.home / "runs" / "small"
    assert (run / "report.html").exists()
    assert (run / "cluster" / "ca.pem").exists()  # head, workers and driver refuse to start where TLS does not hold
    with load(run) as tables:
        assert tables.rows("SELECT status, count(*) AS n FROM trials GROUP BY ALL") == [{"status": "finished", "n": 3}]
    texts = [path.read_text() for path in (run / "cluster" / "logs").glob("*.sh")]
    assert {("IN_CONTAINER" in text, "hpc.cluster.worker" in text) for text in texts} == {(True, True), (False, False)}


def in_container(testbed: Testbed, *more: str) -> Edit:
    """All jobs, the controller's among them, in the container."""
    words = json.dumps([*testbed.container, *more])
    return lambda text: set_to("container", [*testbed.container, *more])(text) + f"container = {words}\n"


FAULTS: dict[str, tuple[Callable[[Testbed], Edit], str, str]] = {
    "account": (
        lambda _: set_to("account", "nobody"),
        "a worker's job",
        "account is missing or wrong: sacctmgr show associations user=$USER",
    ),
    "another account": (lambda _: set_to("account", "root"), "job starts", "QOS not permitted to use this partition"),
    "no account": (lambda _: set_to("account", None), "a worker's job", "please specify an account with --account"),
    "memory": (lambda _: set_to("memory", "per_node"), "a worker's job", "if they are about --mem, set memory"),
    "qos": (lambda _: set_to("qos", "normal"), "a worker's job", "qos is wrong or not open to this account: sacctmgr"),
    "container": (
        in_container,
        "jobs submitted by nodes",
        "a node cannot submit a worker: there is no sbatch on PATH",
    ),
    "files": (
        lambda bed: set_to("container", [*bed.container, "prlimit", "--nofile=120:120"]),
        "limits of processes",
        "120 open files are enough for a head with some 2 workers\n    -> have the limits of jobs raised",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_doctor_finds_what_is_planted(foreign: Testbed, site: str, fault: str) -> None:
    edit, title, words = FAULTS[fault]
    path = foreign.home / f"{fault}.toml"
    path.write_text(edit(foreign)(site))
    done = called(foreign, "transtailor", "doctor", "--site", str(path), "--folder", str(foreign.home))
    assert done.returncode == 1, done.stdout
    assert f"✗ {title}: " in done.stdout, done.stdout
    assert words in done.stdout
    assert not list(foreign.home.glob(".doctor-*"))


def test_doctor_says_that_the_nodes_have_a_tmp_of_their_own(foreign: Testbed, site: str, tmp_path: Path) -> None:
    assert site
    done = called(foreign, "transtailor", "doctor", "--site", "testbed", "--folder", str(tmp_path))
    assert done.returncode == 1, done.stdout
    assert f"do the nodes see {tmp_path}?" in done.stdout
