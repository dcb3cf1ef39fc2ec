"""Plans of made-up trials for `fake_rank.FakeRank`, their run folders, and sweeps of them."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from sweeps.driver.display import SweepProgress
from sweeps.driver.ledger import Counts
from sweeps.planning.plan import Plan, PlannedTrial
from sweeps.run.provenance import provenance
from sweeps.run.run_folder import RunFolder, create_run
from sweeps.spec.json_settings import JsonSettings
from sweeps.spec.resources import Resources
from tailor.execution.dry_run import PlannedStage
from tests.sweeps.other_ranks import sweep_with_ranks

SOURCES = {Path("fake.py"): b""}
PROGRESS = SweepProgress(
    sweep="small", counts=Counts(finished=1, failed=1, running=0, waiting=4), work_done=1.0, work_left=3.0,
    elapsed_s=10.0, left_s=None, running=(),
)  # fmt: skip
sweep_of_fakes = partial(sweep_with_ranks, "tests.sweeps.fake_rank:FakeRank")


def key_of(name: str) -> str:
    """A stage key, as long as a real one."""
    return hashlib.sha256(name.encode()).hexdigest()


def trial(name: str, stages: Iterable[str | Mapping[str, Any]], label: str = "fake") -> PlannedTrial:
    """A trial whose stages run in order: a name, or {"name", "seconds", "until", "words", "tells", "raises", ...}."""
    planned, made = [], []
    for number, stage in enumerate(stages):
        settings: dict[str, Any] = {"name": stage} if isinstance(stage, str) else dict(stage)
        key = key_of(settings.pop("name"))
        point = number if "accuracy" in settings else None
        made.append({"key": key, "point": point, **settings})
        planned.append(
            PlannedStage(
                key=key,
                kind="fake",
                version=1,
                parents=(),
                work=settings.get("seconds", 0.0) + 0.001,
                stored_bytes=2,
                point=point,
            )
        )
    config = {
        "network": "none",
        "data": {"name": "none"},
        "method": {"name": "fake"},
        "seed": 0,
        "fake": {"stages": made},
    }
    return PlannedTrial(trial_id=name, label=label, arm=label, settings=JsonSettings(config), stages=tuple(planned))


def plan_of(trials: Iterable[PlannedTrial], *, ranks: int = 1, private_cache: bool = False) -> Plan:
    """A plan of these trials."""
    return Plan(
        name="fake",
        trials=tuple(trials),
        resources=Resources(ranks=ranks),
        spec_text='name = "fake"\n',
        private_cache=private_cache,
    )


def families(count: int, size: int, seconds: float = 0.0) -> list[PlannedTrial]:
    """`count` families of `size` trials each: a common root, a common second stage for each pair, own ends."""
    made = []
    for family in range(count):
        for member in range(size):
            names = [f"{family}", f"{family}-{member // 2}", f"{family}-{member}-end"]
            stages: list[str | Mapping[str, Any]] = [{"name": name, "seconds": seconds} for name in names]
            made.append(trial(f"trial-{family}-{member}", stages))
    return made


def make_run(plan: Plan, folder: Path) -> RunFolder:
    """A new run folder for the plan."""
    with create_run(plan, folder / "runs", provenance(SOURCES), SOURCES):
        return RunFolder(folder / "runs" / plan.name)


class Recorder:
    """A display that remembers."""

    def __init__(self) -> None:
        self.states: list[SweepProgress] = []
        self.notes: list[str] = []

    def show(self, progress: SweepProgress) -> None:
        self.states.append(progress)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def close(self, progress: SweepProgress) -> None:
        self.show(progress)


def computed(cache: Path) -> list[dict[str, Any]]:
    """What FakeRank computed, in order."""
    log = cache / "computed.log"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
