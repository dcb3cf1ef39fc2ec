"""Nothing waits for ever, or in silence: `wait_for` itself, and that product code has no other wait without a limit."""

import ast
import re
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from hpc.cluster import cluster_folder, head, needs, sweep_end, worker
from hpc.doctor import login
from hpc.ranks import ranks
from hpc.ray import orphan_cleanup
from hpc.slurm import calls
from sweeps import followed_run
from sweeps.driver import tune_site
from sweeps.driver.slurm_pool import _SlurmPool
from sweeps.operations import attach, control, controller, timed_models
from sweeps.run import run_lock
from sweeps.spec.resources import Resources
from tests.commands import parsed
from tests.product import ROOT, modules
from transtailor.waiting import Unlimited, WaitedTooLong, reap, start_in_thread, telling, wait_for

# Calls that wait, and where their limit is: behind how many arguments, or under which name (None: only there).
LIMIT_AT = {
    "wait": 0, "join": 0, "result": 0, "acquire": 1, "communicate": 1, "select": 0, "select.select": 3,  # of objects
    "recv": None, "accept": None, "readline": None, "serve_forever": None, "ray.get": None, "ray.wait": None,
    "subprocess.run": None, "subprocess.check_output": None, "subprocess.check_call": None, "subprocess.call": None,
    "os.wait": None, "urlopen": 2, "urllib.request.urlopen": 2, "create_connection": 1, "socket.create_connection": 1,
}  # fmt: skip
LIMITS = {"timeout", "timeout_s"}
# At their end they wait for a process, or for threads.
CONTEXTS = {"Popen", "ThreadPoolExecutor", "ProcessPoolExecutor"}
# Waits that end by something other than a limit, as docs/promises.md says.
ENDED_OTHERWISE = {
    ("hpc.ranks.process_ranks", "connection.recv"): "a rank for its driver's next call",
    ("hpc.ray.orphan_cleanup", "sys.stdin.buffer.read"): "a guard for its owner's end",
    ("results.export", "time.sleep"): "`--follow` of `transtailor logs` and `export`",
    ("results.report.command", "time.sleep"): "`--every` of `report`",
    ("tailor.execution.runner", "context.ranks.wait"): "a rank for the others in a collective",
    ("tailor.prepare.preparation", "ThreadPoolExecutor"): "`transtailor data prepare` for the disk",
}
# These do not wait for long, or have a limit that is not in the call.
SHORT = {
    ("hpc.ranks.ray_ranks", "answer.result"): "what is there already, as `wait_for_futures` said",
    ("hpc.ranks.process_ranks", "self.connection.recv"): "what is there already, as `poll` said",
    ("hpc.ranks.process_ranks", "time.sleep"): "a thread shows signs of life as long as its rank lives",
    ("results.render.figures", "sys.stdin.read"): "its parent closes the pipe, and has a limit",
    ("results.report.page", "ThreadPoolExecutor"): "its one call has a limit",
    ("tailor.execution.cache", "file.readline"): "a file on a disk",
    ("tailor.facts.asked", "child.stdout.readline"): "its child counts, and what it is asked was said",
    ("tools.fault_scale", "subprocess.run"): "the program `timeout` ends it",
    ("tools.golden_launch", "ThreadPoolExecutor"): "each of its calls has a limit",
    ("tools.networks_saved", "process.stdout.readline"): "developers run it and watch it",
    ("tools.networks_saved", "subprocess.run"): "developers run it and watch it",
}


def is_limit(value: ast.expr) -> bool:
    """Whether an argument can be a limit: it is not a written None."""
    return not (isinstance(value, ast.Constant) and value.value is None)


def is_endless(loop: ast.AST) -> bool:
    """Whether a loop may have no end: each `while`, and each `for` that is not over a range."""
    return isinstance(loop, ast.While) or (
        isinstance(loop, ast.For) and not ast.unparse(loop.iter).startswith("range(")
    )


def waits_for_ever(call: ast.Call, name: str) -> bool:
    """Whether a call waits and has no limit."""
    last = name.rpartition(".")[2]
    text = ast.unparse(call)
    if last == "flock":
        return "LOCK_NB" not in text
    if name in ("os.waitpid", "os.waitid"):
        return "WNOHANG" not in text
    if name.endswith(("stdin.buffer.read", "stdin.read")):
        return True
    key = next((key for key in (name, last) if key in LIMIT_AT), None)
    if key is None:
        return False
    place = LIMIT_AT[key]
    if key == "wait" and isinstance(call.func, ast.Name):
        place = 1  # of multiprocessing and concurrent.futures: what, how long
    by_place = place is not None and len(call.args) > place and is_limit(call.args[place])
    return not by_place and not any(word.arg in LIMITS and is_limit(word.value) for word in call.keywords)


def unbounded(text: str) -> Iterator[tuple[int, str]]:
    """Line and name of each wait without a limit in a module."""
    tree = ast.parse(text)
    in_loops = {id(node) for loop in ast.walk(tree) if is_endless(loop) for node in ast.walk(loop)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            is_sleep = name in ("time.sleep", "sleep") and id(node) in in_loops
            if is_sleep or waits_for_ever(node, name):
                yield node.lineno, name
        elif isinstance(node, ast.With | ast.AsyncWith):
            for called in [item.context_expr for item in node.items if isinstance(item.context_expr, ast.Call)]:
                name = ast.unparse(called.func)
                if name.rpartition(".")[2] in CONTEXTS:
                    yield node.lineno, name


def test_product_code_waits_through_one_function() -> None:
    found = {
        (module, name): line
        for module, path in modules().items()
        if module != "transtailor.waiting"
        for line, name in unbounded(path.read_text())
    }
    known = ENDED_OTHERWISE | SHORT
    assert {place: line for place, line in found.items() if place not in known} == {}
    assert set(known) <= set(found)  # an exception that is no longer needed must be removed


@pytest.mark.parametrize(
    "planted",
    [
        "import time\nwhile not done():\n    time.sleep(1)",
        "event.wait()",
        "ray.get(answer)",
        "import subprocess\nsubprocess.run(['x'], check=True)",
        "process.communicate(b'x')",
        "fcntl.flock(handle, fcntl.LOCK_EX)",
        "event.wait(timeout=None)",
        "import time\nfor _ in iter(done, True):\n    time.sleep(1)",
        "select.select([file], [], [])",
        "os.waitpid(number, 0)",
        "process.stdout.readline()",
        "with subprocess.Popen(['x']) as process:\n    pass",
        "with open('x') as file, ThreadPoolExecutor(2) as pool:\n    pass",
    ],
)
def test_a_planted_wait_is_found(planted: str) -> None:
    assert list(unbounded(planted))


@pytest.mark.parametrize(
    "planted",
    [
        "event.wait(limit_s)",
        "ray.get(answer, timeout=limit_s)",
        "import time\nfor attempt in range(3):\n    time.sleep(1)",
        "selector.select(1.0)",
        "os.waitpid(number, os.WNOHANG)",
        "', '.join(words)",
    ],
)
def test_a_wait_with_a_limit_is_allowed(planted: str) -> None:
    assert not list(unbounded(planted))


def test_every_wait_without_a_limit_is_promised() -> None:
    reasons = {
        word.value
        for path in modules().values()
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "Unlimited"
        for word in call.args
        if isinstance(word, ast.Constant)
    }
    reasons |= set(ENDED_OTHERWISE.values())
    page = " ".join((ROOT / "docs" / "promises.md").read_text().split())
    assert {reason for reason in reasons if reason not in page} == set()


def test_the_limits_on_the_page_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "promises.md").read_text()
    table = page.partition("| wait for | limit | then |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()[2:]]
    written = {cells[1]: [float(number) for number in re.findall(r"[\d.]+", cells[2])] for cells in rows}
    from sweeps.driver.tune_site import SILENCE_S  # imports Ray

    default_s = parsed(["doctor", "--site", "x"])["limit_s"]
    assert written == {
        "a trial's first process, with a free slot": [ranks.START_LIMIT_S],
        "a trial's ranks: processes, torch's import, their meeting": [ranks.START_LIMIT_S],
        "a sign of life of a rank that works": [Resources().hang_limit_s],
        "a word of a trial's process under Ray": [SILENCE_S],
        "a stage that another trial computes": [tune_site.FIRST_HOLD_S, tune_site.LONGEST_HOLD_S],
        "Ray's start on this machine": [30.0],  # Ray's own
        "the Ray head, on SLURM": [head.START_LIMIT_S],
        "room in the shared folder, while the head starts": [head.FOLDER_LIMIT_S, head.MAX_RESTARTS, head.WORKED_S],
        "a head, by a worker": [worker.HEAD_LIMIT_S],
        "`head.json`, while it cannot be read": [cluster_folder.FAULT_LIMIT_S],
        "a worker that SLURM has started, by the driver": [needs.START_LIMIT_S],
        "one call of a SLURM command": [calls.LIMIT_S],
        "the process that holds a run": [run_lock.PATIENCE_S, controller.LOCK_LIMIT_S],
        "the start of a launch, by Python (`Sweep.run`)": [followed_run.START_LIMIT_S],
        "the outcome of a controller that is gone from the queue": [attach.GONE_LIMIT_S],
        "a stop, by `transtailor stop`": [control.STOP_LIMIT_S],
        "Ray's word on the node of a trial whose process died, on SLURM": [_SlurmPool.node_death_s],
        "the driver's clean end, by its job": [head.END_LIMIT_S],
        "`on_end`, the site's command for the end of a sweep": [sweep_end.ON_END_LIMIT_S],
        "processes with a folder's mark, at the end": [orphan_cleanup.END_LIMIT_S],
        "one sub-model, by `transtailor time`": [timed_models.MEASURE_LIMIT_S],
        "the doctor's first job in the queue": [default_s],
        "its second one, by the first and the login node": [login.PEER_LIMIT_S],
    }


def test_what_comes_is_returned_and_what_does_not_is_told() -> None:
    answers = iter([None, False, "there"])
    assert wait_for(lambda: next(answers), "it", 60.0, poll_s=0.0) == "there"
    with pytest.raises(WaitedTooLong, match=r"waited 0\.05 s for the head; its log is in x"):
        wait_for(lambda: None, "the head; its log is in x", 0.05, poll_s=0.01)
    with pytest.raises(KeyError, match="for the head"):
        wait_for(lambda: False, "the head", 0.0, error=KeyError)


def test_a_long_wait_says_once_for_what_and_since_when(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transtailor.waiting.TELL_AFTER_S", 0.0)
    for limit_s, limit in ((60.0, "at most 60 s"), (Unlimited("SLURM queue"), "no limit: SLURM queue")):
        said: list[str] = []
        answers = iter([None, None, None, "there"])
        wait_for(answers.__next__, "a worker", limit_s, poll_s=0.0, tell=said.append)
        assert len(said) == 1
        assert re.fullmatch(rf"waiting for a worker since \d\d:\d\d:\d\d \({re.escape(limit)}\)", said[0])


def test_looks_become_rarer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    pauses = []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        pauses.append(seconds)

    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setattr("time.monotonic", lambda: now)
    with pytest.raises(WaitedTooLong):
        wait_for(lambda: None, "a stage", 30.0, poll_s=0.05, poll_to_s=2.0, tell=None)
    assert len(pauses) < 40  # and not 600
    assert pauses[0] == 0.05
    assert max(pauses) == 2.0
    assert now == pytest.approx(30.0)


def test_a_child_that_does_not_end_is_killed() -> None:
    words = [
        sys.executable,
        "-c",
        "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(600)",
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.terminate()
        assert reap(child, 0.1) == -9


def test_a_call_that_hangs_does_not_hold_up_the_end_of_the_process() -> None:
    program = "import time; from transtailor.waiting import start_in_thread; start_in_thread(lambda: time.sleep(600))"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=300).returncode == 0
    assert start_in_thread(lambda: 7).result(60.0) == 7
    with pytest.raises(KeyError):
        start_in_thread(lambda: {}["x"]).result(60.0)


COMES_WITHIN_S = 60.0  # until a line that has to come is missed


def test_a_step_that_goes_on_is_told_until_it_ends() -> None:
    lines: list[str] = []
    is_told_twice = threading.Event()

    def tell(line: str) -> None:
        lines.append(line)
        if len(lines) == 3:
            is_told_twice.set()

    with telling("exporting", first_s=0.01, tell=tell):
        assert is_told_twice.wait(COMES_WITHIN_S)
    assert lines[0] == "exporting ..."
    assert lines[1] == lines[2] == "exporting: 0 s so far"
    assert lines[-1].startswith("exporting: done in ")


def test_a_step_that_fails_is_told_no_more_and_a_short_one_has_one_line() -> None:
    lines: list[str] = []
    before = threading.active_count()
    try:
        with telling("exporting", first_s=COMES_WITHIN_S, tell=lines.append):
            raise ValueError
    except ValueError:
        assert lines == ["exporting ..."]
    assert threading.active_count() == before
