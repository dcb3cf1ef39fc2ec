"""A search by this product and one by stock Ray Tune, on the real clock: the same space, rungs and slots.

python benchmarks/search_clock.py                             # six minutes on two cores
python benchmarks/search_clock.py --settings 6 --searches 1   # fewer
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
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import results
from benchmarks.record import RESULTS, Cell, Measured, show_to_ranks, write
from sweeps.planning.plan import make_plan
from sweeps.run.relaunch import start
from sweeps.run.run_folder import RunFolder
from sweeps.search.run_search import RunSearch
from sweeps.search.space import SearchCandidate, Space, space_of
from sweeps.search.study import VARIANT
from sweeps.spec.expand import expand_one
from sweeps.spec.search_settings import HalvingSettings, SearchSettings
from sweeps.spec.spec import SPECS, Spec, load_spec

SLOTS, ETA, RUNGS = 2, 4, (1, 4)  # rungs in epochs: where ASHAScheduler has them with grace_period = 1
SETTINGS, SEARCHES = 32, 3
CONFIRMING = range(1, 11)  # seeds; the searches use seed 0
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


def search_spec(settings: int, seed: int) -> Spec:
    """The space of the grid, searched."""
    halving = HalvingSettings(eta=ETA, epochs=RUNGS, asynchronous=True)
    search = SearchSettings(sampler="tpe", trials=settings, batch=SLOTS, seed=seed, halving=halving)
    return load_spec(SPECS / "search_grid.toml").model_copy(update={"search": search, "confirm": None})


def ours(spec: Spec, cache: Path, folder: Path) -> Clocked:
    """Run it as `transtailor run` does on the site local, but with SLOTS slots on any machine."""
    from sweeps.driver.display import display_for_terminal
    from sweeps.driver.driver import TRIAL_TARGET
    from tests.sweeps.other_ranks import sweep_with_ranks

    start_s = time.monotonic()
    run = RunFolder(folder / spec.name)
    search = RunSearch(spec, run)
    run, held, _ = start(search.plan, folder, extend=True, update_code=False)
    with held:
        search.save()
        sweep_with_ranks(
            TRIAL_TARGET, search.plan, run, cache,
            display=display_for_terminal(), site="local", slots=SLOTS, search=search,
        )  # fmt: skip
    wall_s = time.monotonic() - start_s
    with results.load(run.path) as tables:
        ends = tables.rows(BEST)
        (spent,) = tables.rows(SECONDS)
    best = SearchCandidate(variant=ends[0]["variant"], values=json.loads(ends[0]["values_json"]))
    return Clocked(wall_s=wall_s, stage_s=spent["s"], ended=len(ends), best=best, score=ends[0]["score"])


def stock(spec: Spec, cache: Path, folder: Path) -> Clocked:
    """Run Tune's OptunaSearch and ASHAScheduler; a trial has its own stages, but finds the source network."""
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    assert spec.search is not None
    start_s = time.monotonic()
    ray.init(num_cpus=SLOTS, include_dashboard=False, log_to_driver=False, configure_logging=False)
    own = {"cache": str(cache), "folder": str(folder), "spec": str(SPECS / "search_grid.toml")}
    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            num_samples=spec.search.trials or 1,
            search_alg=OptunaSearch(Suggest(space_of(spec), own), metric="score", mode="max", seed=spec.search.seed),
            scheduler=ASHAScheduler(
                time_attr="epochs", metric="score", mode="max", grace_period=RUNGS[0], reduction_factor=ETA,
                max_t=ETA * RUNGS[-1] + 1,
            ),
        ),
        run_config=tune.RunConfig(storage_path=str(folder), verbose=0),
    )  # fmt: skip
    found = [(one.metrics, one.config) for one in tuner.fit() if one.metrics and one.config]
    wall_s = time.monotonic() - start_s
    ray.shutdown()
    ended = [(one["score"], config) for one, config in found if one["ended"]]
    score, config = max(ended, key=lambda one: one[0])
    stage_s, best = sum(one["stage_s"] for one, _ in found), candidate_of(space_of(spec), config)
    return Clocked(wall_s=wall_s, stage_s=stage_s, ended=len(ended), best=best, score=score)


@dataclass(frozen=True)
class Suggest:
    """The space of our search as a user of Optuna writes it; OptunaSearch saves this function."""

    space: Space
    own: dict[str, str]  # what each trial gets besides

    def __call__(self, trial: Any) -> dict[str, str]:
        """Choose a variant and the places of the values of its axes: in a range if they ascend, as in our samplers.

        An axis of several variants is one parameter; ours is one only if all variants have it.
        """
        variant = trial.suggest_categorical(VARIANT, range(len(self.space.dimensions)))
        for axis in self.space.dimensions[variant]:
            places = range(len(axis.values))
            if axis.is_ordered:
                trial.suggest_int(axis.key, places[0], places[-1])
            else:
                trial.suggest_categorical(axis.key, places)
        return self.own


def candidate_of(space: Space, config: Mapping[str, Any]) -> SearchCandidate:
    """Return the setting that `Suggest` has chosen."""
    axes = space.dimensions[config[VARIANT]]
    return SearchCandidate(variant=config[VARIANT], values={axis.key: axis.values[config[axis.key]] for axis in axes})


def clock_search(search: Callable[..., Clocked], *arguments: Any) -> Clocked:
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
    spec = load_spec(Path(config["spec"]))
    space = space_of(spec)
    setting = candidate_of(space, config)
    trial = expand_one(spec, setting.variant, {**setting.values, "seed": space.seeds[0]})
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
        tune.report({"score": score, "epochs": done, "stage_s": stage_s + part_s, "ended": rung is None})


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


def confirm(spec: Spec, best: SearchCandidate, cache: Path) -> list[float]:
    """The test scores of a setting with ten seeds that no search has used."""
    with ProcessPoolExecutor(SLOTS, multiprocessing.get_context("spawn")) as pool:
        return [*pool.map(partial(test_score, spec, best, cache), CONFIRMING)]


def test_score(spec: Spec, setting: SearchCandidate, cache: Path, seed: int) -> float:
    """Run a trial to its end."""
    import torch

    from tailor.execution.cache import Cache
    from tailor.execution.runner import run_trial
    from tailor.parallel.process_group import join

    torch.set_num_threads(1)
    trial = expand_one(spec, setting.variant, {**setting.values, "seed": seed})
    assert trial is not None
    events = [*run_trial(trial.config, cache=Cache(cache), ranks=join("cpu"))]
    last = next(event.result.read_tensors() for event in reversed(events) if event.point is not None)
    return float((last["test/label"] == last["test/prediction"]).double().mean())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run both in turns and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=int, default=SETTINGS, help="of each search")
    parser.add_argument("--searches", type=int, default=SEARCHES, help="of each kind, with seeds from 0")
    parser.add_argument("--out", type=Path, default=RESULTS / "search_clock", help="the table, without its suffix")
    options = parser.parse_args(arguments)
    kinds = {"ours, tpe and asynchronous halving": ours, "Tune, OptunaSearch and ASHAScheduler": stock}
    found: list[tuple[str, int, Clocked, list[float]]] = []
    show_to_ranks()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        source = source_cache(search_spec(1, 0), folder / "source")
        for seed in range(options.searches):
            spec = search_spec(options.settings, seed)
            for name, search in kinds.items():
                own = folder / f"{search.__name__}_{seed}"
                shutil.copytree(source, own / "cache")
                one = clock_search(search, spec, own / "cache", own)
                found.append((name, seed, one, confirm(spec, one.best, folder / "confirming")))
                print(*_row(*found[-1]), flush=True)
    columns = ("search", "seed", "ended", "stage_s", "wall_s", "validation", "test_confirmed", "setting")
    rows = tuple(_row(*one) for one in sorted(found, key=lambda one: (one[0], one[1])))
    write(
        Measured(title="A search on the real clock", columns=columns, rows=rows, notes=notes(found, options)),
        options.out,
    )
    return 0


def _row(name: str, seed: int, one: Clocked, scores: list[float]) -> tuple[Cell, ...]:
    test = 100 * statistics.fmean(scores)
    return (name, seed, one.ended, one.stage_s, one.wall_s, 100 * one.score, test, one.best.key)


def notes(found: Sequence[tuple[str, int, Clocked, list[float]]], options: argparse.Namespace) -> tuple[str, ...]:
    """What the table shows: seconds and confirmed scores of one kind of search against the other."""
    first, second = ([one for one in found if one[0] == name] for name in dict.fromkeys(one[0] for one in found))
    stage, wall = (
        sum(getattr(one[2], name) for one in second) / sum(getattr(one[2], name) for one in first)
        for name in ("stage_s", "wall_s")
    )
    better = 100 * statistics.fmean(
        mine - theirs
        for one, other in zip(first, second, strict=True)
        for mine, theirs in zip(one[3], other[3], strict=True)
    )
    return (
        f"{options.settings} settings each, {SLOTS} slots, rungs after {RUNGS[0]} and {RUNGS[1]} epochs, one of {ETA} "
        "continues; the source network is there before. Wall time has the start of Ray. test_confirmed: mean of "
        f"the best setting's test scores with {len(CONFIRMING)} seeds that no search has used.",
        f"Tune's searches take {stage:.2f} times the stage-seconds of ours and {wall:.2f} times the wall time; the "
        f"settings that ours find are {better:+.2f} points better when they are confirmed (mean over all).",
        "Both choose from the same space with Optuna's TPE: one variant, ascending values of an axis as a range, "
        "others as choices. An axis of several variants is one parameter of Tune's; ours is one if all variants have "
        "it.",
        "In a Tune trial each stage is computed for that trial alone; ours finds those of other trials in the cache. "
        "ASHAScheduler only stops: a trial that is not among the best when it reports never continues.",
    )


if __name__ == "__main__":
    from benchmarks import search_clock  # whose functions other processes can import

    sys.exit(search_clock.main())
