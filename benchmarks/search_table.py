"""A grid that ran once with all its rungs, as three files: what benchmarks/search.py replays searches on.

    python benchmarks/search_table.py runs/search_grid

The files need neither the run nor this version's trial ids: a setting is found by its values. A stage's seconds are its
planned work times the median seconds per work of its kind, because single stages were measured on a busy machine.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import argparse
import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.record import EVIDENCE
from results.sharing import SOURCE_KIND, Baselines, StageUse, baselines_of
from sweeps.planning.plan import PlannedTrial, trial_to_rung
from sweeps.run.run_folder import RunFolder
from sweeps.search.halving import ladder
from sweeps.search.proposals import trials_of
from sweeps.search.run_search import read_proposals, read_scores
from sweeps.search.space import SearchCandidate
from sweeps.spec.spec import load_spec
from tailor.execution.dry_run import PlannedStage

FOLDER = EVIDENCE / "search"
SETTINGS, STAGES, CONFIRMED = "settings.parquet", "stages.parquet", "confirmed.parquet"
COMPUTED = "SELECT stage_key, any_value(compute_s) AS compute_s FROM stages GROUP BY stage_key"  # also when cached
CONFIRMING = """
SELECT confirms AS setting, seed, validation_score, test_score FROM measured_points
JOIN (SELECT confirms, unnest(trial_ids) AS trial_id FROM proposals WHERE purpose = 'confirm') USING (trial_id)
JOIN (SELECT trial_id FROM trials WHERE status = 'finished') USING (trial_id)
QUALIFY row_number() OVER (PARTITION BY trial_id ORDER BY point DESC) = 1 ORDER BY ALL
"""


@dataclass(frozen=True, kw_only=True)
class Reached:
    """A setting at a rung or at its end."""

    epochs: int | None  # of its last fine-tuning; None: at its end
    validation_score: float
    macs: int
    stages: tuple[str, ...]  # computed since the rung before


@dataclass(frozen=True, kw_only=True)
class Table:
    """A grid, measured."""

    settings: dict[str, list[Reached]]  # by the candidate's key, in the order of the grid; its rungs, then its end
    seconds: dict[str, float]  # of each stage
    sources: frozenset[str]  # the stages that train a source
    confirmed: dict[str, dict[int, tuple[float, float]]]  # candidate's key -> seed -> validation and test score

    def end(self, key: str) -> float:
        """The validation score of a setting at its end."""
        return self.settings[key][-1].validation_score

    def validation(self, key: str) -> float:
        """The mean confirmed validation score of a setting."""
        return statistics.fmean(score for score, _ in self.confirmed[key].values())

    def grid(self) -> Baselines:
        """Stage-seconds of all settings, each of which is a trial."""
        trials = Counter(stage for reached in self.settings.values() for at_rung in reached for stage in at_rung.stages)
        return baselines_of(
            StageUse(cost=self.seconds[key], trials=count, trains_source=key in self.sources)
            for key, count in trials.items()
        )


def load_table(folder: Path = FOLDER) -> Table:
    """Read the three files."""
    import pyarrow.parquet as pq

    settings, stages, confirmed = (pq.read_table(folder / name).to_pylist() for name in (SETTINGS, STAGES, CONFIRMED))
    by_number = {row["setting"]: _key(row) for row in settings}
    table = Table(
        settings=defaultdict(list),
        seconds={row["stage_key"]: row["seconds"] for row in stages},
        sources=frozenset(row["stage_key"] for row in stages if row["kind"] == SOURCE_KIND),
        confirmed={},
    )
    for row in settings:
        kept = {name: row[name] for name in ("epochs", "validation_score", "macs")}
        table.settings[_key(row)].append(Reached(**kept, stages=tuple(row["stages"])))
    for row in confirmed:
        of = table.confirmed.setdefault(by_number[row["setting"]], {})
        of[row["seed"]] = row["validation_score"], row["test_score"]
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files of a run."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    import results

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run with the sampler grid and eta = 1")
    parser.add_argument("--to", type=Path, default=FOLDER, help="the folder of the three files")
    options = parser.parse_args(arguments)
    options.to.mkdir(parents=True, exist_ok=True)
    with results.load(options.run) as tables:
        stages: dict[str, tuple[str, float]] = {}  # key -> kind and work since the rung before
        settings = [*_settings(RunFolder(options.run), tables, stages)]
        measured = {row["stage_key"]: row["compute_s"] for row in tables.rows(COMPUTED)}
        confirmed = tables.arrow(CONFIRMING)
    pq.write_table(pa.Table.from_pylist(settings), options.to / SETTINGS)
    pq.write_table(pa.Table.from_pylist([*_stages(stages, measured)]), options.to / STAGES)
    pq.write_table(confirmed, options.to / CONFIRMED)
    print(f"{options.to}: {len({row['setting'] for row in settings})} settings, {len(confirmed)} confirming trials")
    return 0


def _settings(run: RunFolder, tables: Any, stages: dict[str, tuple[str, float]]) -> Iterator[dict[str, Any]]:
    from sweeps.planning.plan import plan_trial

    spec, scores = load_spec(run.spec), read_scores(tables)
    assert spec.search is not None
    rungs = ladder(spec.search)
    for proposal in read_proposals(tables):
        if proposal.purpose != "search" or proposal.refusal is not None:
            continue
        (trial,) = (plan_trial(expanded) for expanded in trials_of(spec, proposal))
        done: set[str] = set()
        tuned = 0.0
        for rung in (*rungs, None):
            number = None if rung is None else rung.number
            there: PlannedTrial = trial_to_rung(trial, rung)
            new = [stage for stage in there.stages if stage.key not in done]
            for stage in new:
                stages[stage.key] = stage.kind, stage.work - (tuned if _is_last_tuning(stage, there) else 0.0)
            tuned = next((stage.work for stage in reversed(there.stages) if _is_last_tuning(stage, there)), tuned)
            done |= {stage.key for stage in new}
            score = scores[trial.trial_id, number]
            yield {
                "setting": proposal.number,
                "variant": proposal.candidate.variant,
                "values_json": json.dumps(dict(proposal.candidate.values)),
                "epochs": None if rung is None else rung.epochs,
                "validation_score": score.validation_score,
                "macs": score.macs,
                "stages": [stage.key for stage in new],
            }


def _is_last_tuning(stage: PlannedStage, trial: PlannedTrial) -> bool:
    tunings = [tuning.key for tuning in trial.stages if tuning.kind in ("fine_tune", "fine_tune_part")]
    return stage.key == tunings[-1]


def _stages(stages: dict[str, tuple[str, float]], measured: dict[str, float]) -> Iterator[dict[str, Any]]:
    """The stages with their modelled and their measured seconds."""
    paces: dict[tuple[str, bool], list[float]] = defaultdict(list)  # of stages without counted work: their seconds
    for key, (kind, work) in stages.items():
        if key in measured:
            paces[kind, work > 0].append(measured[key] / (work or 1.0))
    for key, (kind, work) in stages.items():
        seconds = statistics.median(paces[kind, work > 0]) * (work or 1.0)
        yield {"stage_key": key, "kind": kind, "seconds": seconds, "measured_s": measured.get(key)}


def _key(row: dict[str, Any]) -> str:
    return SearchCandidate(variant=row["variant"], values=json.loads(row["values_json"])).key


if __name__ == "__main__":
    sys.exit(main())
