"""What one machine makes, another one sees at once, though its client learns nothing by waiting."""

import errno
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hpc.cluster.cluster_folder import ClusterFolder, Head, HeadReader
from hpc.sites.site import Site
from results.errors import ResultsError
from results.store.files import list_files, number_of
from results.store.reader import load
from results.store.writer import TakenOverError, Writer
from sweeps.driver import signals
from sweeps.driver.progress_file import ProgressFile, read_progress
from sweeps.driver.signals import StopSignals
from sweeps.operations import attach
from sweeps.run.run_folder import RunFolder
from sweeps.run.run_lock import RunLock, holder_of
from sweeps.slurm.cluster_run import ClusterRun, RunOutcome
from sweeps.worker.trial import _SyncedLog
from tailor.execution.cache import Cache, DamagedStage, MadeBy, StageDescription
from tests.clients.mounts import Clients
from tests.product import ROOT
from tests.sweeps.driver.test_display import progress
from tests.sweeps.fake_plan import Recorder
from transtailor.files import (
    is_there,
    make_folder,
    read_there,
    remove_there,
    write_file,
    write_folder,
    write_new_file,
)
from transtailor.waiting import wait_for

EVENT = {"driver": "d", "kind": "paused", "happened_at": datetime.now(UTC), "code_digest": "c"}
KEY = "ab" + "1" * 62
HOLDS = """
import sys, time
from pathlib import Path
from sweeps.run.run_lock import RunLock
lock = RunLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def until(condition: Callable[[], object]) -> None:
    wait_for(lambda: bool(condition()), "it", 500.0, tell=None)  # a process begins late on a busy machine


def description(by: str) -> StageDescription:
    made_by = MadeBy(compute_s=1.0, device="cpu", ranks=1, threads=1, torch_version="2")
    return StageDescription(kind="x", version=1, settings={}, parents=(), info={"by": by}, made_by=made_by)


def test_files_and_folders_that_come_and_go_are_seen(clients: Clients) -> None:
    here, there = clients.start("here", "there")
    assert not is_there(here / "a/b/stop")
    make_folder(there / "a/b")
    (there / "a/b/stop").touch()
    assert not (here / "a/b/stop").exists()  # as without asking
    assert is_there(here / "a/b/stop")
    (there / "a/b/stop").unlink()
    assert (here / "a/b/stop").exists()
    assert not is_there(here / "a/b/stop")


def test_contents_that_are_replaced_are_read(clients: Clients) -> None:
    here, there = clients.start("here", "there")
    with pytest.raises(FileNotFoundError):
        read_there(here / "head.json")
    for content in ("first", "a longer second"):
        write_file(there / "head.json", content)
        assert read_there(here / "head.json").decode() == content


def test_what_another_machine_has_made_is_removed(clients: Clients) -> None:
    here, there = clients.start("here", "there")
    assert not (here / "stop").exists()
    (there / "stop").touch()
    (here / "stop").unlink(missing_ok=True)  # as without asking: nothing was removed
    assert is_there(there / "stop")
    remove_there(here / "stop")
    assert not is_there(there / "stop")


@pytest.mark.parametrize("link", [0, 1])
def test_of_two_writers_one_wins(clients: Clients, link: int) -> None:
    """Also where the server's answer to a link is lost and the request is repeated."""
    here, there = clients.start("here", "there", link=link)
    for place in (here, there):
        assert not (place / "file").exists()
        assert not (place / "folder").exists()
    write_new_file(here / "file", "here")
    with pytest.raises(FileExistsError):
        write_new_file(there / "file", "there")
    write_folder(here / "folder", {"file": b"here"})
    with pytest.raises(FileExistsError):
        write_folder(there / "folder", {"file": b"there"})
    contents = {path.name: path.read_text() for path in clients.server.rglob("*") if path.is_file()}
    assert contents == {"file": "here"} and (clients.server / "folder/file").read_text() == "here"
    make_folder(there / "folder/more")


def test_a_folder_is_made_below_one_that_another_machine_has_made(clients: Clients) -> None:
    here, there = clients.start("here", "there")
    assert not (there / "a").is_dir()
    make_folder(here / "a/b")
    make_folder(there / "a/b/c")
    assert (clients.server / "a/b/c").is_dir()


def test_a_stop_is_noticed(clients: Clients) -> None:
    here, there, elsewhere = clients.start("node", "login", "other")
    make_folder(there / "run/cluster")
    other = ClusterRun(RunFolder(elsewhere / "run"))
    for _ in range(2):  # the second time the request of the first was removed elsewhere
        assert not other.is_stop_asked()
        asked: list[str] = []
        with StopSignals(here / "run/cluster/stop", asked.append) as stop:
            time.sleep(3 * signals.LOOK_EVERY_S)
            assert stop.received is None
            (there / "run/cluster/stop").touch()
            until(asked.copy)
        assert asked == ["transtailor stop"]
        assert other.is_stop_asked()
        remove_there(there / "run/cluster/stop")


def test_head_and_releases_are_seen(clients: Clients) -> None:
    node, controller = (ClusterFolder(place / "cluster") for place in clients.start("node", "controller"))
    read_head = HeadReader(node)
    controller.make(Site(cpus_per_node=1, walltime_min=1), "run")
    assert read_head() is None and not node.is_released("7")
    names = node.job_names()
    for number in "12":
        head = Head(address=f"10.0.0.{number}:1", generation=number * 32, job=number)
        controller.set_head(head)
        assert read_head() == head
        names = (*names, node.worker_name(head.generation))
        assert node.job_names() == names  # the jobs that a stop ends
    controller.unset_head("2" * 32)
    assert read_head() is None
    controller.release("7")
    assert node.is_released("7")


def test_the_first_outcome_stays(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    node, login = (ClusterRun(RunFolder(place / "run")) for place in clients.start("node", "login"))
    make_folder(node.run.cluster)
    assert login.outcome is None
    finished = RunOutcome(code=0, text="9 of 9 trials finished, 0 failed")
    node.set_outcome(finished)
    assert login.outcome == finished
    login.set_outcome(RunOutcome(code=130, text="it was ended before its driver had an outcome"))
    assert node.outcome == login.outcome == finished
    monkeypatch.setattr(ClusterRun, "controller", lambda _self: None)  # it has left SLURM's queue
    attach._check_controller(login, display=None, last_note="", is_silent=True)  # type: ignore[arg-type]


def test_the_last_launch_is_known(clients: Clients) -> None:
    node, login = (ClusterRun(RunFolder(place / "run")) for place in clients.start("node", "login"))
    make_folder(node.run.cluster)
    assert not login.exists
    write_file(node.run.provenance, "1")
    write_file(node.run.submission, "1")
    assert login.is_last_launch
    time.sleep(0.01)
    write_file(node.run.provenance, "2")  # by a launch on one machine
    assert not login.is_last_launch


def test_the_holder_of_a_lock_is_named_and_no_second_one_is_admitted(clients: Clients) -> None:
    here, there = clients.start("here", "there")
    assert holder_of(there / "lock") is None
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(here / "lock")], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        assert (holder_of(there / "lock") or {}).get("pid") == holder.pid
        with pytest.raises(Exception, match=f"by process {holder.pid} on "):
            RunLock(there / "lock", patience_s=0.1)
        holder.kill()
    until(lambda: holder_of(there / "lock") is None)
    RunLock(there / "lock").release()


def test_progress_is_seen(clients: Clients) -> None:
    node, login = (place / "progress.json" for place in clients.start("node", "login"))
    assert read_progress(login) is None
    ProgressFile(lambda text: write_file(node, text), Recorder()).close(progress(1.0, 2.0, 3.0))
    assert read_progress(login) is not None


def test_no_stage_is_computed_twice_and_a_good_one_is_never_set_aside(clients: Clients) -> None:
    here, there, reader = (Cache(place / "cache") for place in clients.start("here", "there", "reader"))
    assert not there.has(KEY) and reader.read(KEY) is None
    here.write(KEY, description("here"), b"tensors")
    assert there.has(KEY) and there.read_tensors(KEY) == b"tensors" and reader.read(KEY) is not None
    there.path(KEY).write_bytes(b"damaged")
    with pytest.raises(DamagedStage) as damage:
        there.read(KEY)
    with pytest.raises(DamagedStage) as same_damage:
        here.read(KEY)
    assert here.set_aside(KEY, same_damage.value) is not None
    here.write(KEY, description("here"), b"tensors")
    assert there.set_aside(KEY, damage.value) is None
    assert there.read(KEY) is not None and here.read(KEY) is not None


def test_lines_of_logs_are_seen_and_none_is_overwritten(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.worker.trial.SYNC_EVERY_S", 0.0)
    node, other, login = (RunFolder(place / "run") for place in clients.start("node", "other", "login"))
    assert login.logs("t") == []
    loggers = []
    for rank in (node, other):  # one was cut off, and the other follows it
        log = _SyncedLog(rank.begin_log("t"))
        loggers.append(logging.Logger(rank.path.parent.name))
        loggers[-1].addHandler(log)
    for number in range(3):
        for logger in loggers:
            logger.warning("%s %d", logger.name, number)
    expected = [f"{logger.name} {number}" for logger in loggers for number in range(3)]
    until(lambda: [line for path in login.logs("t") for line in path.read_text().splitlines()] == expected)
    for logger in loggers:
        logger.handlers[0].close()


def test_a_fenced_writer_ends_and_its_rows_stay_out(clients: Clients) -> None:
    """The driver of one machine was taken for dead; another one writes the run now."""
    here, there, login = clients.start("here", "there", "login")
    first = Writer(here / "run/tables")
    first.write("events", [EVENT | {"number": 1}])
    second = Writer(there / "run/tables")
    second.write("events", [EVENT | {"number": 2}])
    with pytest.raises(TakenOverError):
        first.write("events", [EVENT | {"number": 3}])
    for place in (here, there, login):
        files = list_files(place / "run/tables/events")
        assert [number_of(path) for path in files] == [1, 2]


def test_a_reader_whose_server_fails_says_so(clients: Clients) -> None:
    (here,) = clients.start("here")
    for number in (1, 2):  # each writer begins a file; DuckDB opens the first one itself
        Writer(here / "run/tables").write("events", [EVENT | {"number": number}])

    def count_events() -> int:
        with load(here / "run") as run:
            run.hold("events")
            return len(run.rows("SELECT * FROM events"))

    clients.fail("here", 0, times=0)
    assert count_events() == 2
    for before in range(clients.calls("here")):
        clients.fail("here", errno.EIO, before=before)
        try:
            assert count_events() == 2
        except ResultsError as error:
            assert "/run" in str(error) and "put it back" not in str(error)
        except OSError as error:
            assert error.errno == errno.EIO


@pytest.mark.parametrize("error", [errno.EIO, errno.EDQUOT, errno.ENOSPC, errno.ESTALE])
def test_a_server_that_fails_once_leaves_a_file_whole_or_absent(clients: Clients, error: int) -> None:
    here, there = clients.start("here", "there")
    for before in range(12):
        path = Path(f"file{before}")
        clients.fail("here", error, before=before)
        try:
            write_new_file(here / path, "whole")
        except OSError as refused:
            assert refused.errno == error or isinstance(refused, FileExistsError)
        clients.fail("here", 0, times=0)
        assert not is_there(there / path) or read_there(there / path) == b"whole"
