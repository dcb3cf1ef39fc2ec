"""Sweeps whose launches, drivers and readers see the shared folder each through a client of its own."""

import errno
import shutil
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest

from results.store.reader import load
from sweeps.planning.plan import make_plan
from sweeps.run.run_folder import RunFolder, open_run
from sweeps.run.run_lock import holder_of
from sweeps.spec.spec import load_spec
from tailor.execution.cache import Cache
from tests.clients.mounts import Clients
from tests.clients.reading import one_round
from tests.clients.test_primitives import until
from tests.faults.invariants import differences, violations
from tests.faults.tiny_sweep import TinySweep, warm_up

ERRORS = (errno.EIO, errno.EDQUOT, errno.ENOSPC, errno.ESTALE)
LAUNCHES = 8  # until a disturbed sweep has ended


@pytest.fixture(scope="module")
def forking(program: Path) -> Iterator[Executor]:  # noqa: ARG001  # not where no client can be mounted
    """A process that has imported what launches need; they are its forks."""
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=warm_up) as process:
        yield process


def at(sweep: TinySweep, client: Path) -> TinySweep:
    """The same sweep as another client sees it."""
    return replace(sweep, folder=client / sweep.folder.name)


def launch(forking: Executor, sweep: TinySweep, number: int, *words: str) -> tuple[int, str]:
    """Launches a sweep; its exit code and what it said."""
    ended = forking.submit(sweep.launch, number, None, words).result()
    return ended.code, ended.said


@pytest.fixture(scope="module")
def undisturbed(forking: Executor, tmp_path_factory: pytest.TempPathFactory) -> TinySweep:
    """The sweep on a local disk, left alone."""
    sweep = TinySweep.below(tmp_path_factory.mktemp("undisturbed"))
    assert launch(forking, sweep, 0)[0] == 0
    return sweep


def test_readers_elsewhere_see_each_row_once(clients: Clients) -> None:
    """Of pandas, pyarrow, polars, DuckDB and `results.load`, on three clients, beside the one writer."""
    writes, *elsewhere = clients.start("writer", "first", "second", "third")
    (writes / "run").mkdir()
    seen, _ = one_round(writes / "run", seconds=8.0, readers=6, elsewhere=[place / "run" for place in elsewhere])
    assert seen.is_right, seen


def test_launches_by_alternating_clients_are_one_sweep(clients: Clients, forking: Executor, tmp_path: Path) -> None:
    here, there = clients.start("here", "there")
    sweep = TinySweep.below(tmp_path)
    (here / sweep.folder.name).mkdir()
    for number, client in enumerate((here, there, here)):
        seeds = ("--set", f"axes.seed={[*range(number + 1)]}")
        code, said = launch(forking, at(sweep, client), number, *seeds, *(("--extend",) if number else ()))
        assert code == 0, said
    whole = TinySweep.below(tmp_path / "at once")
    assert launch(forking, whole, 0, "--set", "axes.seed=[0, 1, 2]")[0] == 0
    ours = at(sweep, clients.server)
    assert [*violations(ours.run, ours.cache, ended=True), *differences(ours.run, whole.run)] == []


def test_no_stage_is_computed_twice_by_sweeps_with_one_cache(
    clients: Clients, forking: Executor, tmp_path: Path
) -> None:
    here, there = clients.start("here", "there")
    sweep = TinySweep.below(tmp_path)
    (here / sweep.folder.name).mkdir()
    plan = make_plan(load_spec(sweep.notes / "spec.toml"))
    keys = {stage.key for trial in plan.trials for stage in trial.stages}
    assert not any(Cache(at(sweep, there).cache).has(key) for key in keys)
    for number, client in enumerate((here, there)):
        code, said = launch(forking, at(sweep, client), number, "--name", f"run{number}")
        assert code == 0, said
    for number, computed in enumerate((len(keys), 0)):
        with load(clients.server / sweep.folder.name / "runs" / f"run{number}") as tables:
            assert len(tables.rows("SELECT DISTINCT stage_key FROM stages WHERE NOT cached")) == computed


def test_a_launch_beside_one_whose_client_hangs_says_who_runs_it(
    clients: Clients, forking: Executor, tmp_path: Path
) -> None:
    here, there = clients.start("here", "there")
    sweep = TinySweep.below(tmp_path)
    (here / sweep.folder.name).mkdir()
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=warm_up) as other:
        first = other.submit(at(sweep, here).launch, 0)
        until(lambda: first.done() or holder_of(at(sweep, there).run / "launch.lock"))
        clients.stop("here")
        code, said = launch(forking, at(sweep, there), 1)
        assert code == 2 and "is being run already, by process" in said
        clients.stop("here", hangs=False)
        assert first.result().code == 0, first.result().said
    ours = at(sweep, clients.server)
    assert violations(ours.run, ours.cache, ended=True) == []


def test_a_run_whose_server_fails_is_not_called_damaged(clients: Clients, undisturbed: TinySweep) -> None:
    (here,) = clients.start("here")
    run = RunFolder(here / "run")
    shutil.copytree(undisturbed.run, run.path)
    clients.fail("here", 0, times=0)
    expected = open_run(run).trials.keys()
    for before in range(clients.calls("here")):
        clients.fail("here", errno.EIO, before=before)
        try:
            assert open_run(run).trials.keys() == expected
        except OSError as error:
            assert error.errno == errno.EIO


@pytest.mark.parametrize("faults", [4, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
def test_a_server_that_fails_at_any_call_breaks_no_promise(
    clients: Clients, forking: Executor, undisturbed: TinySweep, tmp_path: Path, faults: int
) -> None:
    (here,) = clients.start("here")
    sweep = at(TinySweep.below(tmp_path), here)
    clients.fail("here", 0, times=0)
    sweep.folder.mkdir()
    assert launch(forking, sweep, 0)[0] == 0
    calls = clients.calls("here")
    for number in range(faults):
        shutil.rmtree(sweep.folder)
        sweep.folder.mkdir()
        clients.fail("here", ERRORS[number % len(ERRORS)], before=calls * number // faults)
        for launched in range(LAUNCHES):
            code, said = launch(forking, sweep, launched)
            assert code in (0, 1, 2) and "Traceback" not in said, said
            clients.fail("here", 0, times=0)
            if code == 0:
                break
        ours = at(sweep, clients.server)
        broken = [*violations(ours.run, ours.cache, ended=True), *differences(ours.run, undisturbed.run)]
        assert (code, broken) == (0, []), (number, said)
