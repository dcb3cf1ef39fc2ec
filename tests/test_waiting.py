"""Nothing waits for ever, or in silence: `wait_for` itself, and that product code has no other wait without a limit."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.import_graph import ROOT, modules
from transtailor.waiting import Unlimited, WaitedTooLong, in_thread, reap, wait_for

# Calls that wait, and where their limit is: behind how many arguments, or under which name.
LIMIT_AT = {
    "wait": 0, "join": 0, "result": 0, "recv": 0, "accept": 0, "acquire": 1, "communicate": 1,  # of objects
    "subprocess.run": None, "subprocess.check_output": None, "subprocess.check_call": None, "subprocess.call": None,
    "ray.get": None, "ray.wait": None, "urlopen": 2, "urllib.request.urlopen": 2, "create_connection": 1,
    "socket.create_connection": 1,
}  # fmt: skip
# Waits that end by something other than a limit; docs/promises.md has them, too.
ENDED_OTHERWISE = {
    ("hpc.ranks.process_ranks", "connection.recv"): "a rank waits for its driver's next call; it ends with the driver",
    ("hpc.ranks.process_ranks", "time.sleep"): "a thread shows signs of life as long as its rank lives",
    ("hpc.ranks.process_ranks", "self.connection.recv"): "what is there already, as `poll` said",
    ("hpc.ranks.warm_process", "self._listener.accept"): "what is there already, as `select` said",
    ("hpc.folders.orphan_cleanup", "sys.stdin.buffer.read"): "a guard waits for its owner's end",
    ("hpc.doctor.job", "listening.accept"): "its socket has a timeout",
    ("results.export.command", "time.sleep"): "--follow goes on until the sweep has ended, or Ctrl-C",
    ("results.plot.render", "sys.stdin.read"): "its parent closes the pipe, and has a limit",
    ("results.report.watch", "wait"): "--watch goes on until the sweep has ended, or Ctrl-C",
    ("tools.networks_saved", "subprocess.run"): "developers run it and watch it",
    ("tailor.execution.runner", "context.ranks.wait"): "a collective; the driver's watchdog has its limit",
}


def unbounded(text: str) -> Iterator[tuple[int, str]]:
    """Line and name of each wait without a limit in a module."""
    tree = ast.parse(text)
    loops = [loop for loop in ast.walk(tree) if isinstance(loop, ast.While)]
    in_loops = {id(node) for loop in loops for node in ast.walk(loop)}
    for call in [node for node in ast.walk(tree) if isinstance(node, ast.Call)]:
        name = ast.unparse(call.func)
        last = name.rpartition(".")[2]
        keywords = {word.arg for word in call.keywords}
        is_sleep = name == "time.sleep" and id(call) in in_loops
        is_lock = last == "flock" and "LOCK_NB" not in ast.unparse(call)
        is_read = name.endswith("stdin.buffer.read") or name.endswith("stdin.read")
        is_wait = False
        if key := next((key for key in (name, last) if key in LIMIT_AT), None):
            place = LIMIT_AT[key]
            by_place = place is not None and len(call.args) > place
            if key == "wait" and isinstance(call.func, ast.Name):
                by_place = len(call.args) > 1  # of multiprocessing and concurrent.futures: what, how long
            is_wait = not by_place and not keywords & {"timeout", "timeout_s"}
        if is_sleep or is_lock or is_read or is_wait:
            yield call.lineno, name


def test_product_code_waits_through_one_function() -> None:
    found = {
        (module, name): line
        for module, path in modules().items()
        if module != "transtailor.waiting"
        for line, name in unbounded(path.read_text())
    }
    assert {place: line for place, line in found.items() if place not in ENDED_OTHERWISE} == {}
    assert set(ENDED_OTHERWISE) <= set(found)  # an exception that is no longer needed must be removed


@pytest.mark.parametrize(
    "planted",
    [
        "import time\nwhile not done():\n    time.sleep(1)",
        "event.wait()",
        "ray.get(answer)",
        "import subprocess\nsubprocess.run(['x'], check=True)",
        "process.communicate(b'x')",
        "thread.join()",
        "fcntl.flock(handle, fcntl.LOCK_EX)",
        "wait([future])",
    ],
)
def test_a_planted_wait_is_found(planted: str) -> None:
    assert list(unbounded(planted))


def test_every_wait_without_a_limit_is_promised() -> None:
    reasons = {
        word.value
        for path in modules().values()
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "Unlimited"
        for word in call.args
        if isinstance(word, ast.Constant)
    }
    page = " ".join((ROOT / "docs" / "promises.md").read_text().split())
    assert reasons
    assert {reason for reason in reasons if reason not in page} == set()


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
    program = "import time; from transtailor.waiting import in_thread; in_thread(lambda: time.sleep(600))"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=300).returncode == 0
    assert in_thread(lambda: 7).result(60.0) == 7
    with pytest.raises(KeyError):
        in_thread(lambda: {}["x"]).result(60.0)
