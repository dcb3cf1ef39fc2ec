"""How long stages take, by earlier runs or by committed steps on a GPU, and the hours of a plan between two bounds.

Without a run, seconds on a GPU are scaled by planned work (MACs, images and pixels) from a few measured training steps,
as a wide range. Three things widen it (C):

- For equal MACs the measured networks differ, and others are taken to be among them.
- A network with fewer MACs than all measured ones is bound by memory, and may take as long for an image as the one with
  the fewest.
- float32, without TF32, takes at least twice as long as bf16, as it moves twice the bytes, and at most 15 times, which
  is the ratio of the peaks on the card (989 and 67 TFLOP/s in NVIDIA's data sheet of the H200).
"""

import json
import math
import statistics
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sweeps.planning.plan import Plan
from sweeps.spec.resources import Resources
from tailor.config.trial import TrialConfig
from tailor.execution.dry_run import PlannedStage, dry_run
from tailor.facts.networks import NETWORKS
from tailor.stages import BACKWARD_WORK
from transtailor.documents import DocumentError, read_json

RUNS_READ = 8  # the last ones
TRIALS_READ = 5  # of each arm, network and data set of a run: enough to know the planned work of its stages
OTHER_NETWORK = 20.0
"""How many times as long as in another network a stage may take for equal MACs (C): on a CPU MobileNetV2, with its
depthwise convolutions, took about 20 times as long as a ResNet-18."""
STAGE_COLUMNS = ("trial_id", "stage_key", "order", "kind", "cached", "compute_s", "device", "ranks")
ARM_COLUMNS = ("label", "network", "dataset")
TABLE_FILE = Path(__file__).parent / "measured_steps.json"  # compared with its evidence by a test
FLOAT32_LEAST, FLOAT32_MOST = 2.0, 15.0


class Durations(ABC):
    """Expected seconds of stages."""

    device: str

    @abstractmethod
    def range_s(self, stage: PlannedStage, network: str) -> tuple[float, float]:
        """Return the least and the most seconds of a planned stage of a trial with this network: equal if known."""

    def seconds(self, stage: PlannedStage, network: str) -> float:
        """Return the middle of the range, as a factor from both ends."""
        least_s, most_s = self.range_s(stage, network)
        return least_s if least_s == most_s else math.sqrt(least_s * most_s)


@dataclass(frozen=True, kw_only=True)
class MeasuredStage:
    """A stage that an earlier run computed."""

    run: str  # its name
    key: str
    kind: str
    network: str | None  # None where its trial was not read
    work: float | None  # as planned; None likewise
    seconds: float
    device: str
    ranks: int


@dataclass(frozen=True, kw_only=True)
class MeasuredStages(Durations):
    """Seconds by the stages of earlier runs."""

    measured_s: Mapping[str, float]  # stage key -> seconds
    s_per_work: Mapping[tuple[str, str | None], float]  # (kind, network) -> seconds per unit of planned work
    s_of_kind: Mapping[str, float]  # kind of stages without planned work -> mean seconds
    runs: tuple[str, ...]
    device: str

    def range_s(self, stage: PlannedStage, network: str) -> tuple[float, float]:
        """Return the seconds of the same stage if it was measured, or by planned work those of its kind and network.

        Else a range around those of its kind, or of all stages: networks differ by OTHER_NETWORK at most.
        """
        known_s = self.measured_s.get(stage.key)
        if known_s is None and not stage.work:
            known_s = self.s_of_kind.get(stage.kind, 0.0)
        if known_s is None and (stage.kind, network) in self.s_per_work:
            known_s = self.s_per_work[stage.kind, network] * stage.work
        if known_s is not None:
            return known_s, known_s
        s_per_work = self.s_per_work.get((stage.kind, None), self.s_per_work.get(("", None), 0.0))
        return s_per_work * stage.work / OTHER_NETWORK, s_per_work * stage.work * OTHER_NETWORK


@dataclass(frozen=True, kw_only=True)
class MeasuredSteps(Durations):
    """Seconds by training steps that were measured on one GPU."""

    device: str
    page: str  # where the measurement is
    settings: str  # of the measured steps
    images_per_s: Mapping[str, float]  # of training, by network, at the size for which its MACs are known
    precisions: frozenset[str] = frozenset({"bf16"})  # of the planned trials
    ranks: int = 1  # of each trial, which share its images

    def range_s(self, stage: PlannedStage, network: str) -> tuple[float, float]:
        """Return the least and the most seconds that a stage may take on this GPU."""
        macs = {name: NETWORKS[name].macs for name in self.images_per_s}
        s_per_work = [1.0 / (speed * macs[name] * (1.0 + BACKWARD_WORK)) for name, speed in self.images_per_s.items()]
        least_slower = FLOAT32_LEAST if self.precisions.isdisjoint({"bf16"}) else 1.0
        most_slower = 1.0 if self.precisions == {"bf16"} else FLOAT32_MOST
        bound_by_memory = max(1.0, min(macs.values()) / NETWORKS[network].macs)
        work = stage.work / self.ranks
        return work * min(s_per_work) * least_slower, work * max(s_per_work) * most_slower * bound_by_memory


def measured_steps(plan: Plan) -> MeasuredSteps:
    """Return the committed table, for the trials of a plan."""
    facts = json.loads(TABLE_FILE.read_bytes())
    return MeasuredSteps(**facts, precisions=precisions_of(plan), ranks=plan.resources.ranks)


def precisions_of(plan: Plan) -> frozenset[str]:
    """Return the precisions in which the trials of a plan compute."""
    return frozenset(str(trial.settings.values["optimisation"]["precision"]) for trial in plan.trials)


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """The resources of a site for a sweep."""

    max_workers: int
    units_per_worker: int  # GPUs of a worker, or cores where it has none
    unit: str = "core"  # what hours are counted of: "GPU" or "core"
    worker: str = "node"  # what a worker is called there
    slots_per_worker: int = 1
    workers_per_slot: int = 1  # more than 1 for trials that span workers
    start_s: float = 0.0  # from the start of a worker's job to its first trial


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The expected end and cost for a number of workers."""

    workers: int
    earliest_s: float  # when the sweep ends
    latest_s: float
    unit_hours: float  # GPU-hours or core-hours that work, without starts and idle time
    limited_by: str


def durations_in(
    runs: Path, resources: Resources, precisions: frozenset[str] = frozenset({"float32"})
) -> MeasuredStages | None:
    """Read durations from the last runs below a folder; None if no planned work is known.

    It is not of a run that has only loaded weights so far, or whose data are not there any more.

    Only stages that as many ranks computed on GPUs, or without, count; of GPUs those on the kind that was used last, of
    CPUs those with as many threads. Seconds per work are those of trials in the plan's precision, if it has only one.
    """
    on_gpus = resources.gpus_per_rank > 0
    folders = sorted(runs.glob("*/tables/stages"), key=lambda folder: folder.stat().st_mtime)
    stages: list[MeasuredStage] = []
    for folder in folders[-RUNS_READ:]:
        if on_gpus or _threads_of(folder.parent.parent) in (resources.threads_per_rank, None):
            stages += _stages_of(folder.parent.parent, precisions)
    stages = [stage for stage in stages if stage.ranks == resources.ranks and (stage.device != "cpu") == on_gpus]
    durations = fit_durations(stages) if stages else None
    return durations if durations is not None and durations.s_per_work else None


def fit_durations(stages: Sequence[MeasuredStage]) -> MeasuredStages:
    """Fit durations to measured stages (at least one, the newest last)."""
    device = stages[-1].device
    stages = [stage for stage in stages if stage.device == device]
    seconds: dict[tuple[str, str | None], float] = defaultdict(float)
    work: dict[tuple[str, str | None], float] = defaultdict(float)
    without_work: dict[str, list[float]] = defaultdict(list)
    measured_s = {}
    for stage in stages:
        measured_s[stage.key] = stage.seconds
        if stage.work == 0:
            without_work[stage.kind].append(stage.seconds)
        elif stage.work is not None:
            for like in ((stage.kind, stage.network), (stage.kind, None), ("", None)):
                seconds[like] += stage.seconds
                work[like] += stage.work
    return MeasuredStages(
        measured_s=measured_s,
        s_per_work={like: seconds[like] / work[like] for like in seconds},
        s_of_kind={kind: statistics.fmean(taken) for kind, taken in without_work.items()},
        runs=tuple(dict.fromkeys(stage.run for stage in stages)),
        device=device,
    )


def _threads_of(run: Path) -> Any:
    try:
        return read_json(run / "plan.json")["resources"]["threads_per_rank"]
    except (DocumentError, OSError, KeyError, TypeError):
        return None  # not known


def _stages_of(run: Path, precisions: frozenset[str]) -> list[MeasuredStage]:
    """Read the stages that a run computed, each once; of a trial in another precision their work is not known."""
    rows = {row["stage_key"]: row for row in _rows(run, "stages", STAGE_COLUMNS) if not row["cached"]}
    if not rows:
        return []
    trials = _some_trials(run, {row["trial_id"] for row in rows.values()})
    stages_by_order: dict[str, dict[int, PlannedStage]] = {}
    for name, trial in trials.items():
        with suppress(DocumentError, ValidationError):  # this code cannot plan it, or its data are missing
            config = TrialConfig.model_validate(read_json(trial["config_json"]))
            if precisions == {config.optimisation.precision}:
                stages_by_order[name] = dict(enumerate(dry_run(config).stages))
    stages = []
    for key, row in rows.items():
        trial_id = row["trial_id"]
        planned = stages_by_order.get(trial_id, {}).get(row["order"])
        is_known = planned is not None and planned.kind == row["kind"]
        stages.append(
            MeasuredStage(
                run=run.name,
                key=key,
                kind=row["kind"],
                network=trials[trial_id]["network"] if is_known else None,
                work=planned.work if planned is not None and is_known else None,
                seconds=row["compute_s"],
                device=row["device"],
                ranks=row["ranks"],
            )
        )
    return stages


def _some_trials(run: Path, trial_ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """Read the rows of a few of these trials for each arm, network and data set; returns them by trial id."""
    chosen_rows: dict[str, dict[str, Any]] = {}
    trials_of_arm: Counter[tuple[str, ...]] = Counter()
    for row in _rows(run, "planned", ("trial_id", "config_json", *ARM_COLUMNS)):
        trial_id = row["trial_id"]
        arm = tuple(row[column] for column in ARM_COLUMNS)
        if trial_id in trial_ids and trials_of_arm[arm] < TRIALS_READ:
            if trial_id not in chosen_rows:
                trials_of_arm[arm] += 1
            chosen_rows[trial_id] = row
    return chosen_rows


def _rows(run: Path, table: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table's files; missing or damaged files are skipped."""
    import pyarrow as pa  # 0.2 s
    import pyarrow.parquet as pq

    from results.store.files import list_files, tables_folder

    for path in list_files(tables_folder(run) / table):
        try:
            yield from pq.ParquetFile(path).read(columns=list(columns)).to_pylist()
        except (OSError, pa.ArrowInvalid):
            continue  # just removed, or not complete: other files are enough


def seconds_left(
    plan: Plan,
    seconds_of: Callable[[PlannedStage, str], float],
    finished: Collection[str],
    is_cached: Callable[[str], bool],
) -> tuple[float, float]:
    """Return the seconds of all unfinished stages, each once, and of the trial whose unfinished stages take longest.

    Args:
        seconds_of: seconds of a stage, by stage and network.
        finished: ids of trials.
    """
    seconds: dict[str, float] = {}  # of each stage that is left
    longest_s = 0.0
    for trial in plan.trials:
        if trial.trial_id in finished:
            continue
        trial_s = 0.0
        for stage in trial.stages:
            if not plan.private_cache and is_cached(stage.key):
                continue
            key = f"{trial.trial_id}/{stage.key}" if plan.private_cache else stage.key
            if key not in seconds:
                seconds[key] = seconds_of(stage, trial.settings.network)
            trial_s += seconds[key]
        longest_s = max(longest_s, trial_s)
    return sum(seconds.values()), longest_s


def forecasts(work_s: float, longest_s: float, capacity: Capacity) -> Iterator[Forecast]:
    """Forecast 1, 2, 4, ... workers up to the maximum; if a trial spans workers, start with as many as it needs.

    By the bounds of Graham (1966), for trials that only wait for each other.

    Args:
        work_s, longest_s: as of `seconds_left`.
    """
    counts = []
    count = capacity.workers_per_slot
    while count < capacity.max_workers:
        counts.append(count)
        count *= 2
    for count in (*counts, capacity.max_workers):
        slots = count // capacity.workers_per_slot * capacity.slots_per_worker
        shared_evenly_s = work_s / slots
        yield Forecast(
            workers=count,
            earliest_s=capacity.start_s + max(longest_s, shared_evenly_s),
            latest_s=capacity.start_s + shared_evenly_s + longest_s * (1 - 1 / slots),
            unit_hours=shared_evenly_s * count / 3600 * capacity.units_per_worker,
            limited_by="critical path" if longest_s > shared_evenly_s else "slots",
        )
