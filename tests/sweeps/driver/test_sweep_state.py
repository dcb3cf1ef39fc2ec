"""What a sweep makes of reports: how far stages are."""

import errno
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from results.store.reader import load
from results.store.writer import Writer
from sweeps.driver import quota
from sweeps.driver.display import SweepProgress
from sweeps.driver.driver import sweep_state
from sweeps.driver.progress_file import ProgressFile, Seen, read_progress
from sweeps.planning.plan import Plan, PlannedTrial
from sweeps.run.run_lock import RunLock
from sweeps.scheduling.trial_queue import TrialQueue
from sweeps.spec.json_settings import JsonSettings
from tailor.execution.cache import Cache
from tests.sweeps.fake_plan import PROGRESS, Recorder, make_run, plan_of, sweep_of_fakes, trial


class Stopper(Recorder):
    """Asks for a stop once a running trial says these words."""

    def __init__(self, stop: Path, words: str) -> None:
        super().__init__()
        self._stop, self._words = stop, words

    def show(self, progress: SweepProgress) -> None:
        super().show(progress)
        if any(trial.words == self._words for trial in progress.running):
            self._stop.touch()


def elsewhere(of: PlannedTrial, network: str, dataset: str, seed: int) -> PlannedTrial:
    values = of.settings.values | {"network": network, "data": {"name": dataset}, "seed": seed}
    return replace(of, settings=JsonSettings(values))


def scored(name: str, accuracy: float, *where: Any) -> PlannedTrial:
    return elsewhere(trial(name, [{"name": name, "accuracy": accuracy}], label="arm"), *where)


def swept(plan: Plan, folder: Path, stop_at: str = "never", producer: Any = None) -> list[SweepProgress]:
    """What the display is shown of a sweep, which is stopped at these words."""
    run, stop = make_run(plan, folder), folder / "stop"
    display = Stopper(stop, stop_at)
    with RunLock(run.lock) as lock:
        told = ProgressFile(lock.tell, display)
        sweep_of_fakes(plan, run, folder / "cache", display=told, stop_file=stop, producer=producer)
    return display.states


def test_a_message_is_in_the_file_at_once_also_where_no_state_follows(tmp_path: Path) -> None:
    written: list[str] = []
    told = ProgressFile(written.append, Stopper(tmp_path / "stop", "never"))
    told.note("before the first state")
    told.show(swept(plan_of([scored("a", 0.5, "net", "digits", 0)]), tmp_path)[0])
    told.note("paused: the disk is full")
    (tmp_path / "progress").write_text(written[-1])
    seen = read_progress(tmp_path / "progress")
    assert seen is not None and seen.notes == ("before the first state", "paused: the disk is full")


def test_a_state_that_a_full_disk_refuses_is_in_the_next_one() -> None:
    written: list[str] = []

    def write(text: str) -> None:
        if not written:
            written.append("refused")
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(text)

    told = ProgressFile(write, Recorder())
    told.show(PROGRESS)
    told.note("paused: the disk is full")
    assert Seen.from_json(written[-1].encode()) == Seen(progress=PROGRESS, notes=("paused: the disk is full",), noted=1)


def test_a_controller_that_runs_again_goes_on_with_the_work_the_time_and_the_messages_of_its_launch() -> None:
    """The one before had done 2.5 of 8 units of work: two stages, and a half, which is left again."""
    before = Seen(progress=replace(PROGRESS, work_done=2.5, work_left=5.5), notes=("waiting",), noted=7)
    written: list[str] = []
    display = Recorder()
    told = ProgressFile(written.append, display, before)
    told.show(replace(PROGRESS, work_done=0.0, work_left=6.0, elapsed_s=0.0))
    told.note("refused")
    told.close(replace(PROGRESS, work_done=3.0, work_left=3.0, elapsed_s=20.0))
    assert [(shown.work_done, shown.work_left, shown.elapsed_s) for shown in display.states] == [
        (2.0, 6.0, 10.0), (5.0, 3.0, 30.0),
    ]  # fmt: skip
    assert Seen.from_json(written[-1].encode()) == Seen(
        progress=display.states[-1], notes=("waiting", "refused"), noted=8
    )


def test_while_a_sweep_is_paused_its_state_says_what_is_left_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "CHECK_EVERY_S", 0.0)
    plan, display = plan_of([trial("t", ["s"])]), Recorder()
    many, some = (Cache(tmp_path / "cache").path(64 * digit) for digit in "01")
    for path, size_bytes in ((many, 2_900_000), (some, 100_000)):
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(size_bytes))
    run = make_run(plan, tmp_path)
    state = sweep_state(
        plan, run, tmp_path / "cache", writer=Writer(run.tables), most_slots=1, display=display, max_disk_gb=0.003
    )
    assert not state.pause_or_resume()
    some.unlink()
    assert not state.pause_or_resume()
    many.unlink()
    assert state.pause_or_resume()
    assert len(display.notes) == 2
    no_room, some_room, resumed = (progress.state for progress in display.states)
    assert no_room.startswith("paused: 0 bytes are left of ") and "kB are left of " in some_room and resumed == ""


def test_how_far_a_stage_is_comes_to_the_display_and_into_the_file(tmp_path: Path) -> None:
    one = elsewhere(trial("t", ["s", {"name": "u", "seconds": 600.0, "words": "epoch 7 of 25"}]), "net", "digits", 3)
    shown = swept(plan_of([one]), tmp_path, "epoch 7 of 25")
    running = [progress.running[0] for progress in shown if progress.running]
    assert [each.words for each in running][0] == "starting"
    last = running[-1]
    assert (last.stage, last.words) == ("fake 2/2", "epoch 7 of 25")
    assert (last.network, last.dataset, last.seed) == ("net", "digits", 3)
    assert last.node == socket.gethostname()
    told = next(progress for progress in shown if progress.running and progress.running[0].words == "epoch 7 of 25")
    assert told.work_done == pytest.approx(0.001 + 0.25 * 600.001)
    assert told.work_left == pytest.approx(0.75 * 600.001)
    seen = read_progress(tmp_path / "runs" / "fake" / "launch.lock")
    assert seen is not None and seen.progress == shown[-1]


class NoMore:
    """A search that proposes nothing; it notes that it was asked."""

    def __init__(self, asked: list[str]) -> None:
        self._asked = asked

    def decides(self, _live: object) -> bool:
        return True

    def more(self, _scores: object, _live: object) -> tuple[()]:
        self._asked.append("more")
        return ()

    def stopped_trials(self) -> tuple[()]:
        return ()


def test_which_trials_are_live_is_asked_once_for_all_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    live: Any = TrialQueue.live
    monkeypatch.setattr(TrialQueue, "live", property(lambda queue: asked.append("live") or live.fget(queue)))
    trials = [scored(str(seed), 0.5, "net", "digits", seed) for seed in range(3)]
    swept(plan_of(trials), tmp_path, producer=NoMore(asked))
    assert asked == ["live", "more"] * 4  # before each trial, and at the end


@pytest.mark.parametrize("content", [b"", b"{}\n", b'{"pid": 1}\n{"progress": {"sweep": "fa', b'\n{"progress": {}}'])
def test_half_a_line_and_that_of_another_version_say_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lock").write_bytes(content)
    assert read_progress(tmp_path / "lock") is None
    assert read_progress(tmp_path / "none") is None


def test_what_has_begun_is_written_as_soon_as_a_stop_is_asked_for(tmp_path: Path) -> None:
    """A cancelled job is killed soon after."""
    plan = plan_of([trial("t", ["s"])])
    run = make_run(plan, tmp_path)
    state = sweep_state(plan, run, tmp_path / "cache", writer=Writer(run.tables), most_slots=1, display=Recorder())
    state.next()
    state.set_stopping("SIGTERM")
    with load(run.path) as tables:
        assert tables.rows("SELECT trial_id, status FROM attempts") == [{"trial_id": "t", "status": "running"}]
