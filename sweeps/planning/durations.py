"""Expected durations of stages: measured in earlier runs, or estimated from other stages by planned work."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sweeps.planning.plan import PlannedTrial
from tailor.config.trial import TrialConfig
from tailor.execution.dry_run import PlannedStage, dry_run
from transtailor.documents import DocumentError, read_json

RUNS_READ = 8  # the last ones
TRIALS_READ = 5  # of each arm, network and data set of a run: enough to know the planned work of its stages
OTHER_NETWORK = 20.0
"""How many times as long as in another network a stage may take for equal MACs (C): on a CPU MobileNetV2, with its
depthwise convolutions, took about 20 times as long as a ResNet-18."""
STAGE_COLUMNS = ("trial_id", "stage_key", "order", "kind", "cached", "compute_s", "device", "ranks")
ARM_COLUMNS = ("label", "network", "dataset")


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
class Durations:
    """Expected seconds of stages, and the runs that they come from."""

    measured_s: Mapping[str, float]  # stage key -> seconds
    s_per_work: Mapping[tuple[str, str | None], float]  # (kind, network) -> seconds per unit of planned work
    s_of_kind: Mapping[str, float]  # kind of stages without planned work -> mean seconds
    runs: tuple[str, ...]
    device: str

    def seconds(self, stage: PlannedStage, network: str) -> float:
        """Return the expected seconds of a planned stage of a trial with this network.

        From the same stage if it was measured; else from stages of its kind and network, of its kind, or all stages.
        """
        if stage.key in self.measured_s:
            return self.measured_s[stage.key]
        if not stage.work:
            return self.s_of_kind.get(stage.kind, 0.0)
        for like in ((stage.kind, network), (stage.kind, None)):
            if like in self.s_per_work:
                return self.s_per_work[like] * stage.work
        return self.s_per_work.get(("", None), 0.0) * stage.work

    def is_scaled(self, stage: PlannedStage, network: str) -> bool:
        """Whether the seconds of a stage are those of other networks or kinds, scaled by planned work."""
        return bool(stage.work) and stage.key not in self.measured_s and (stage.kind, network) not in self.s_per_work

    def least_s(self, stage: PlannedStage, network: str) -> float:
        """Return the least seconds that a stage may take, if networks differ by OTHER_NETWORK at most."""
        if not self.is_scaled(stage, network):
            return self.seconds(stage, network)
        speeds = self._speeds_of(stage.kind)
        return stage.work * min([*speeds, max(speeds, default=0.0) / OTHER_NETWORK])

    def most_s(self, stage: PlannedStage, network: str) -> float:
        """Return the most seconds that a stage may take, likewise."""
        if not self.is_scaled(stage, network):
            return self.seconds(stage, network)
        speeds = self._speeds_of(stage.kind)
        return stage.work * max([*speeds, min(speeds, default=0.0) * OTHER_NETWORK])

    def _speeds_of(self, kind: str) -> list[float]:
        """The seconds per unit of planned work of each network, of this kind or, if it was not measured, of all."""
        by_network = {like: speed for like, speed in self.s_per_work.items() if like[1] is not None}
        of_kind = [speed for (kind_of_network, _), speed in by_network.items() if kind_of_network == kind]
        return of_kind or list(by_network.values())

    def others(self, kind: str, network: str) -> set[str]:
        """The other networks whose seconds stand for stages of this kind; none if only this one was measured."""
        like = kind if (kind, None) in self.s_per_work else None  # None: all kinds stand for it
        measured = {of for of_kind, of in self.s_per_work if of is not None and like in (None, of_kind)}
        return measured - {network}

    def kinds_not_measured(self, trials: Iterable[PlannedTrial]) -> list[str]:
        """Return the kinds of stages with planned work that no run computed; they get the mean over all others."""
        kinds = {stage.kind for trial in trials for stage in trial.stages if stage.work}
        return sorted(kind for kind in kinds if (kind, None) not in self.s_per_work)


def durations_in(runs: Path, ranks: int) -> Durations | None:
    """Read durations for trials with `ranks` ranks from the last runs below a folder; None if no planned work is known.

    It is not of a run that has only loaded weights so far, or whose data are not there any more.

    Only stages on the device that was used last, with `ranks` ranks, count; if there are none, other stages on that
    device, scaled as if their ranks had shared the work evenly.
    """
    folders = sorted(runs.glob("*/tables/stages"), key=lambda folder: folder.stat().st_mtime)
    stages: list[MeasuredStage] = []
    for folder in folders[-RUNS_READ:]:
        stages += _stages_of(folder.parent.parent)
    durations = fit_durations(stages, ranks) if stages else None
    return durations if durations is not None and durations.s_per_work else None


def fit_durations(stages: Sequence[MeasuredStage], ranks: int) -> Durations:
    """Fit durations to measured stages (at least one, the newest last)."""
    device = stages[-1].device
    stages = [stage for stage in stages if stage.device == device]
    stages = [stage for stage in stages if stage.ranks == ranks] or stages
    seconds: dict[tuple[str, str | None], float] = defaultdict(float)
    work: dict[tuple[str, str | None], float] = defaultdict(float)
    without_work: dict[str, list[float]] = defaultdict(list)
    measured_s = {}
    for stage in stages:
        took_s = stage.seconds * stage.ranks / ranks
        measured_s[stage.key] = took_s
        if stage.work == 0:
            without_work[stage.kind].append(took_s)
        elif stage.work is not None:
            for like in ((stage.kind, stage.network), (stage.kind, None), ("", None)):
                seconds[like] += took_s
                work[like] += stage.work
    return Durations(
        measured_s=measured_s,
        s_per_work={like: seconds[like] / work[like] for like in seconds},
        s_of_kind={kind: statistics.fmean(taken) for kind, taken in without_work.items()},
        runs=tuple(dict.fromkeys(stage.run for stage in stages)),
        device=device,
    )


def _stages_of(run: Path) -> list[MeasuredStage]:
    """Read the stages that a run computed, each once."""
    rows = {row["stage_key"]: row for row in _rows(run, "stages", STAGE_COLUMNS) if not row["cached"]}
    if not rows:
        return []
    trials = _some_trials(run, {row["trial_id"] for row in rows.values()})
    stages_by_order = {name: dict(enumerate(_planned_stages(trial["config_json"]))) for name, trial in trials.items()}
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


def _planned_stages(config_json: str) -> tuple[PlannedStage, ...]:
    """Return the stages of a trial of an earlier run; none if this code cannot plan it, or its data are missing."""
    try:
        return dry_run(TrialConfig.model_validate(read_json(config_json))).stages
    except (DocumentError, ValidationError):
        return ()
