"""A search by this product and one by stock Ray Tune, on the real clock: the same space, rungs and slots.

python benchmarks/search_clock.py                  # a quarter of an hour on two cores
python benchmarks/search_clock.py --settings 6     # fewer settings each
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import argparse
import json
import multiprocessing
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import results
from benchmarks.record import RESULTS, Cell, Measured, show_to_ranks, write
from benchmarks.search_table import Table, load_table
from sweeps.planning.plan import make_plan
from sweeps.run.relaunch import start
from sweeps.run.run_folder import RunFolder
from sweeps.search.run_search import RunSearch
from sweeps.search.space import SearchCandidate, Space, space_of
from sweeps.spec.expand import expand_one
from sweeps.spec.search_settings import HalvingSettings, SearchSettings
from sweeps.spec.spec import SPECS, Spec, load_spec

SLOTS, ETA, RUNGS = 2, 4, (1, 4)  # rungs in epochs: where ASHAScheduler has them with grace_period = 1
SETTINGS = 32
BEST = """
SELECT proposals.variant, values_json, arg_max(validation_score, point) AS score FROM operating_points
JOIN trials USING (trial_id) JOIN (SELECT * EXCLUDE (trial_ids), unnest(trial_ids) AS trial_id FROM proposals
WHERE purpose = 'search') AS proposals USING (trial_id) WHERE status = 'finished' GROUP BY ALL ORDER BY score DESC
"""
SECONDS = """
SELECT sum(s) AS s FROM (
    SELECT compute_s AS s FROM stages WHERE NOT cached AND kind <> 'fine_tune_part'
    UNION ALL SELECT max(compute_s) FROM stages JOIN trials USING (trial_id)
    WHERE kind = 'fine_tune_part' AND status = 'stopped' GROUP BY trial_id
)
"""
"""Of stages that this run computed; the seconds of a part are those of all epochs until there."""


@dataclass(frozen=True, kw_only=True)
class Clocked:
    """A search that ran."""

    wall_s: float
    stage_s: float
    ended: int  # settings that reached their end
    best: SearchCandidate
    score: float  # its validation score


def searching(settings: int) -> Spec:
    """The space of the grid, searched."""
    halving = HalvingSettings(eta=ETA, epochs=RUNGS, asynchronous=True)
    search = SearchSettings(sampler="tpe", trials=settings, batch=SLOTS, halving=halving)
    return load_spec(SPECS / "search_grid.toml").model_copy(update={"search": search, "confirm": None})


def ours(spec: Spec, cache: Path, folder: Path) -> Clocked:
    """Run it as `transtailor run` does, on the site local."""
    from sweeps.driver.driver import SweepSite, run_sweep

    start_s = time.monotonic()
    run = RunFolder(folder / spec.name)
    search = RunSearch(spec, run)
    run, held, _ = start(search.plan, folder, extend=True, update_code=False)
    with held:
        search.save()
        run_sweep(search.plan, run, cache, SweepSite("local", slots=SLOTS), search=search)
    wall_s = time.monotonic() - start_s
    with results.load(run.path) as tables:
        ends = tables.rows(BEST)
        (spent,) = tables.rows(SECONDS)
    best = SearchCandidate(variant=ends[0]["variant"], values=json.loads(ends[0]["values_json"]))
    return Clocked(wall_s=wall_s, stage_s=spent["s"], ended=len(ends), best=best, score=ends[0]["score"])


def stock(spec: Spec, cache: Path, folder: Path, settings: int) -> Clocked:
    """Run Tune's OptunaSearch and ASHAScheduler; a trial has its own stages, but finds the source network."""
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    start_s = time.monotonic()
    ray.init(num_cpus=SLOTS, include_dashboard=False, log_to_driver=False, configure_logging=False)
    own = {"cache": str(cache), "folder": str(folder), "spec": str(SPECS / "search_grid.toml")}
    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            num_samples=settings,
            search_alg=OptunaSearch(Suggest(space_of(spec), own), metric="score", mode="max", seed=0),
            scheduler=ASHAScheduler(
                time_attr="epochs", metric="score", mode="max", grace_period=RUNGS[0], reduction_factor=ETA,
                max_t=ETA * RUNGS[-1] + 1,
            ),
        ),
        run_config=tune.RunConfig(storage_path=str(folder), verbose=0),
    )  # fmt: skip
    found = [one.metrics for one in tuner.fit() if one.metrics]
    wall_s = time.monotonic() - start_s
    ray.shutdown()
    ended = [one for one in found if one["ended"]]
    best = max(ended, key=lambda one: one["score"])
    candidate = SearchCandidate(variant=best["variant"], values=json.loads(best["values"]))
    stage_s = sum(one["stage_s"] for one in found)
    return Clocked(wall_s=wall_s, stage_s=stage_s, ended=len(ended), best=candidate, score=best["score"])


@dataclass(frozen=True)
class Suggest:
    """Names a trial's values for OptunaSearch, which saves this function."""

    space: Space
    own: dict[str, str]  # what each trial gets besides

    def __call__(self, trial: Any) -> dict[str, str]:
        """Choose the places of the values of one variant."""
        variant = trial.suggest_categorical("variant", list(range(len(self.space.dimensions))))
        for axis in self.space.dimensions[variant]:
            trial.suggest_categorical(f"{variant}:{axis.key}", list(range(len(axis.values))))
        return self.own


def clocked(search: Callable[..., Clocked], *arguments: Any) -> Clocked:
    """Run a search in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(search, *arguments).result()


def train(config: dict[str, Any]) -> None:
    """A trial of stock Tune: trains to each rung, and reports."""
    import torch
    from ray import tune

    from tailor.execution.cache import Cache
    from tailor.execution.dry_run import Rung
    from tailor.execution.runner import run_trial
    from tailor.parallel.process_group import join

    torch.set_num_threads(1)
    spec, variant = load_spec(Path(config["spec"])), config["variant"]
    space = space_of(spec)
    values = {axis.key: axis.values[config[f"{variant}:{axis.key}"]] for axis in space.dimensions[variant]}
    trial = expand_one(spec, variant, {**values, "seed": space.seeds[0]})
    assert trial is not None
    own = Path(tempfile.mkdtemp(dir=config["folder"]))
    shutil.copytree(config["cache"], own / "cache")
    stage_s, ranks = 0.0, join("cpu")
    for number, epochs in enumerate((*RUNGS, None)):
        rung = None if epochs is None else Rung(number=number, epochs=epochs)
        score = part_s = 0.0
        for event in run_trial(
            trial.config, cache=Cache(own / "cache"), ranks=ranks, checkpoint_folder=own / "at", rung=rung
        ):
            result = event.result
            took_s = 0.0 if result.cached else result.description.made_by.compute_s
            if result.stage.kind == "fine_tune_part":
                score, part_s = result.info["validation_score"], took_s
            else:
                stage_s += took_s
            if result.stage.kind == "operating_point":
                score = result.deciding_score
        done = epochs or trial.config.optimisation.epochs
        setting = {"variant": variant, "values": json.dumps(values)}
        tune.report({"score": score, "epochs": done, "stage_s": stage_s + part_s, "ended": rung is None} | setting)


def source_cache(spec: Spec, folder: Path) -> Path:
    """A cache with the source network, which neither search has to train."""
    from tailor.execution.cache import Cache
    from tailor.execution.runner import run_trial
    from tailor.parallel.process_group import join, leave

    plan = make_plan(spec, lambda: [_first(spec)])
    events = run_trial(plan.trials[0].settings.parse(), cache=Cache(folder), ranks=join("cpu"))
    assert next(events).result.stage.kind == "train_source"
    events.close()  # type: ignore[attr-defined]  # a generator
    leave()
    return folder


def _first(spec: Spec) -> Any:
    space = space_of(spec)
    return expand_one(spec, 0, {**space.at(0).values, "seed": space.seeds[0]})


def row(name: str, one: Clocked, settings: int, table: Table) -> tuple[Cell, ...]:
    """A row; the confirmed score is that of the grid's table."""
    confirmed = table.confirmed.get(one.best.key)
    test = None if confirmed is None else 100 * statistics.fmean(score for _, score in confirmed.values())
    at_end = 100 * table.end(one.best.key)
    return (
        name,
        settings,
        one.ended,
        one.processor_s,
        one.stage_s,
        one.wall_s,
        100 * one.score,
        at_end,
        test,
        one.best.key,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run both and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=int, default=SETTINGS, help="of each search")
    parser.add_argument("--out", type=Path, default=RESULTS / "search_clock", help="the table, without its suffix")
    options = parser.parse_args(arguments)
    settings = options.settings
    spec, table = searching(settings), load_table()
    show_to_ranks()
    rows = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        source = source_cache(spec, folder / "source")
        shutil.copytree(source, folder / "ours_cache")
        (folder / "stock").mkdir()
        name = "ours, tpe and asynchronous halving"
        rows.append(row(name, clocked(ours, spec, folder / "ours_cache", folder), settings, table))
        print(*rows[-1], flush=True)
        name = "Tune, OptunaSearch and ASHAScheduler"
        rows.append(row(name, clocked(stock, spec, source, folder / "stock", settings), settings, table))
    columns = (
        "search", "settings", "ended", "stage_s", "wall_s", "validation",
        "validation_in_grid", "test_confirmed", "setting",
    )  # fmt: skip
    notes = (
        f"One run each, {SLOTS} slots, rungs after {RUNGS[0]} and {RUNGS[1]} epochs, one of {ETA} continues; the "
        "source network is there before. Wall time with the start of Ray; other programs had both cores, so seconds "
        "are long, of both. test_confirmed: mean of ten new seeds in the grid's table, - where the setting is not "
        "among those that were confirmed.",
        "In a Tune trial each stage is computed for that trial alone; ours finds those of other trials in the cache. "
        "ASHAScheduler only stops: a trial that is not among the best when it reports never continues.",
    )
    write(Measured(title="A search on the real clock", columns=columns, rows=tuple(rows), notes=notes), options.out)
    return 0


if __name__ == "__main__":
    from benchmarks import search_clock  # whose functions other processes can import

    sys.exit(search_clock.main())
