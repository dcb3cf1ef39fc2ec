"""Shipped specs: each plans with data sets of the official sizes, and each of its methods trains for a moment."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache as cached
from pathlib import Path
from typing import Any

import pytest
import torch

from results.arms.names import LONGEST
from sweeps.planning.plan import Plan, make_plan, refuse_missing_files
from sweeps.spec.expand import expand
from sweeps.spec.spec import SPECS, Spec, load_spec
from tailor.config.parsing import parse_trial
from tailor.config.pruning import OF_TARGETS_DATA
from tailor.config.trial import TrialConfig
from tailor.execution.cache import Cache
from tailor.execution.dry_run import PlannedOutcome, PlannedStages, dry_run, stages_of
from tailor.execution.missing import DataMissing
from tailor.execution.runner import run_trial
from tailor.facts.datasets import DATASETS
from tailor.facts.manifest import ARRAY_FILES, IMAGES_FILE, POOL_FILES, DataManifest, StoredFile, write
from tailor.facts.networks import NETWORKS
from tailor.parallel.process_group import join
from tailor.stages import Stage

# Target images, test images and classes of the complete official data sets; of those without an official size, enough.
OFFICIAL = {
    "caltech256_30": (29_780, 14_420, 256),
    "caltech256_60": (29_780, 14_420, 256),
    "cub200": (11_788, 5_794, 200),
    "stanford_dogs": (20_580, 8_580, 120),
    "indoor67": (6_700, 1_340, 67),
    "flowers102": (8_189, 6_149, 102),
    "stanford40": (9_532, 5_532, 40),
    "celeba": (6_000, 1_000, 4),
    "trashnet": (2_522, 504, 6),
    "trashnet_pool": (2_522, 1_009, 6),
    "trashnet_small": (2_522, 504, 6),
    "trashnet_halves": (1_211, 242, 3),
    "trashnet6": (2_522, 501, 6),
    "clothing10": (1_629, 629, 10),
    "fruit14": (1_460, 689, 14),
    "packages9": (1_010, 456, 9),
}
BETA_MODES = ("fold", "sqrt", "grad", "raw", "off")
TRASHNET = (403, 498, 410, 594, 480, 137)  # images of each class
POOLS = {"trashnet": TRASHNET, "trashnet_pool": TRASHNET, "trashnet_small": TRASHNET, "trashnet_halves": TRASHNET[3:]}
ONE_DRAW = ("demo.toml", "tour.toml", "search.toml")  # they show the program; no claim about a method rests on them
ONE_TEST_SPLIT = "default_photographs.toml"  # that of the publishers: its page claims nothing about other test images
DONORS = "is_it_the_target.toml"  # one label has an arm for each donor; in all others each label is one arm
SOURCE_IMAGES = 50_000
IMAGE_PX = {"celeba": 64} | dict.fromkeys([*POOLS, "trashnet6", "clothing10", "fruit14", "packages9"], 111)  # or 256
SHIPPED = sorted(path.name for path in SPECS.glob("*.toml"))
EXAMPLES = ("pac_net_resnet18.toml", "trashnet_pac_net.toml")  # their source task is another one than that of `root`
BY_TABLE = "faster_photographs.toml"  # its table is of one network at one input, so it cannot be made smaller
PLANNED = [
    pytest.param(name, marks=pytest.mark.check if name.startswith(("trans", "convnext")) else ()) for name in SHIPPED
]
TRAINED_IN_CHECK = (  # one of each kind; each method has tests of its own
    "demo.toml", "tour.toml", "search.toml", "heads_on_digits.toml", "pac_net_few_samples.toml", "trashnet.toml",
    "transformers_deit_s.toml", "transtailor_resnet101.toml", "adaptation_five_sets.toml", "beta_default.toml",
)  # fmt: skip
OF_THE_SOURCE = {"load_weights", "train_source", "find_essential", "allocate"}  # stages that read the source alone
ONE_EPOCH = {"alpha_epochs": 1, "allocate_epochs": 1, "steps": 1}  # of a method's own settings
ONE_EPOCH_IN_GREY = {"epochs": 1, "head_epochs": 1, "warm_up_epochs": 0, "rand_augment": 0}
DRAWS = {"population": 2, "generations": 2, "draws": 2}  # of an allocation that searches


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data sets of the official sizes as a plan sees them, with a source task of ImageNet's 1,000 classes."""
    return pretend(tmp_path_factory.mktemp("official"), source_classes=1_000)


def pretend(root: Path, source_classes: int) -> Path:
    """Write manifests below `root`, and files of the right lengths that hold nothing; returns `root`."""
    for name, (images, tests, classes) in OFFICIAL.items():
        counts = {"source": SOURCE_IMAGES if source_classes else 0, "target": images}
        pixels = (3, IMAGE_PX.get(name, 256), IMAGE_PX.get(name, 256))
        files = {}
        (root / name).mkdir()
        for file in (*(POOL_FILES if name in POOLS else ARRAY_FILES), IMAGES_FILE):
            count = counts.get(file.partition(".")[0], 0)
            shape = (count, *pixels) if file.endswith("images.npy") else (count,)
            size_bytes = math.prod(shape)
            with (root / name / file).open("wb") as stream:
                stream.truncate(size_bytes)
            files[file] = StoredFile(sha256="0" * 64, size_bytes=size_bytes, shape=shape)
        found = DataManifest(
            name=name,
            digest=f"{images:064d}",
            input_shape=pixels,
            classes={
                "source": tuple(f"source {number}" for number in range(source_classes)),
                "target": tuple(f"class {number}" for number in range(classes)),
            },
            test_images=tests,
            files=files,
            class_images=POOLS.get(name, ()),
        )
        write(root / name, found)
    return root


def needs_data(spec: Spec) -> bool:
    """Whether some of the spec's data sets are prepared ones."""
    named = [spec.trial.get("data", {}).get("name", "digits"), *spec.axes.get("data.name", [])]
    named += [data["name"] for data in spec.axes.get("data", [])]
    return not set(named) <= set(DATASETS)


def given(name: str, root: Path, seeds: Sequence[int] = ()) -> Spec:
    """The spec with its data's folder given as its first lines say, by `--set`; by default one of its seeds."""
    spec = load_spec(SPECS / name)
    root_set = [f"trial.data.root={root}"] if needs_data(spec) else []
    if spec.settle is not None:  # it gives the seeds
        spec = load_spec(SPECS / name, root_set)
        return spec.model_copy(update={"axes": {**spec.axes, "seed": [*seeds] or [0]}, "settle": None})
    return load_spec(SPECS / name, [*root_set, f"axes.seed={[*seeds] or spec.axes['seed'][:1]}"])


@cached
def plan_of(name: str, root: Path) -> Plan:
    """The plan of one of the spec's seeds."""
    return make_plan(given(name, root))


@pytest.mark.parametrize("name", PLANNED)
def test_every_spec_plans_and_its_labels_and_printed_numbers_are_those_of_trials(name: str, root: Path) -> None:
    """A default may change; a label that names a mode of beta may not mean another mode then."""
    spec, plan = given(name, root), plan_of(name, root)
    assert spec.name == Path(name).stem
    assert plan.trials
    arms = {(trial.label, trial.settings.method) for trial in plan.trials}
    places = {(trial.settings.network, trial.settings.dataset) for trial in plan.trials}
    for row in spec.printed:
        assert (row.label, row.method) in arms
        assert (row.network, row.dataset) in places
    for trial in plan.trials:
        assert trial.settings.parse().model_dump(mode="json") == trial.settings.values, "a rank reads another trial"
        named = set(BETA_MODES) & set(trial.label.replace(",", " ").split())
        if named and trial.settings.method == "transtailor":
            assert named == {trial.settings.values["method"]["beta"]}, trial.label
    if name != DONORS:
        assert {trial.arm for trial in plan.trials} == {trial.label for trial in plan.trials}
    assert max(len(trial.arm) for trial in plan.trials) <= LONGEST


@pytest.mark.check
@pytest.mark.parametrize("name", [name for name in SHIPPED if name not in (*ONE_DRAW, ONE_TEST_SPLIT)])
def test_each_seed_draws_its_own_source_and_splits(name: str, root: Path) -> None:
    """What is drawn once for all seeds is in no interval over seeds: only weights of a file may be the same."""
    has_weights = "source.weights" in (SPECS / name).read_text()  # of a file, or given as its first lines say
    spec = given(name, root, seeds=[3, 5])
    assert spec.tied_to_seed == (["data.split_seed"] if has_weights else ["source.seed", "data.split_seed"])
    kinds: dict[int, dict[str, str]] = {3: {}, 5: {}}
    planned: PlannedStages = {}
    for trial in expand(spec):
        stages = dry_run(trial.config, planned).stages
        kinds[trial.config.seed] |= {stage.key: stage.kind for stage in stages}
    shared = {kinds[3][key] for key in kinds[3].keys() & kinds[5].keys()}
    assert shared <= (OF_THE_SOURCE if has_weights else set())


def test_rates_of_the_bench_are_chosen_on_other_seeds_and_can_be_fixed(root: Path, tmp_path: Path) -> None:
    """As the bench's first lines say: the grid as an axis, and for each arm all but the chosen rate excluded."""
    rates, bench = (load_spec(SPECS / f"transfer_pruning_{name}.toml") for name in ("rates", "bench"))
    assert not set(rates.axes["seed"]) & set(bench.axes["seed"]) and not bench.tuning
    grid = rates.tuning["rate"]
    trials = list(expand(given("transfer_pruning_rates.toml", root)))
    labels = sorted({trial.label for trial in trials})
    others = {"head_only": "optimisation.head_learning_rate", "pac_net": "method.calibrate_learning_rate"}
    lines = [f'name = "fixed"\nextends = "{SPECS}/transfer_pruning_bench.toml"\n[axes]\nrate = {grid}']
    lines += ['[[exclude]]\nmethod.name = "smaller_dense"']
    for number, label in enumerate(labels):
        left = [rate for rate in grid if rate != grid[number % len(grid)]]
        lines += [f'[[exclude]]\nlabel = "{label}"\n{others.get(label, "optimisation.learning_rate")} = {left}']
    (tmp_path / "fixed.toml").write_text("\n".join(lines))
    one_set = ["axes.seed=[0]", f"trial.data.root={root}", 'axes.data=[{ name = "cub200", train_images = 5394 }]']
    fixed = list(expand(load_spec(tmp_path / "fixed.toml", one_set)))
    assert {trial.label for trial in fixed} == set(labels)
    assert len(fixed) == len(list(expand(load_spec(SPECS / "transfer_pruning_bench.toml", one_set))))


def test_the_arms_of_the_photographs_study_train_for_as_many_epochs(root: Path) -> None:
    """28 after the head's, in the order of the plan; the loop counts the epochs of its factors."""
    epochs = {}
    for trial in expand(given("photographs_study.toml", root)):
        recipe = [
            getattr(s, "training", None)
            for s in planned_stages(trial.config)
            if s.kind not in ("train_source", "fit_head")
        ]
        epochs[trial.label] = sum(training.epochs for training in recipe if training is not None)
    assert len(epochs) == 5 and {*epochs.values()} == {28}


def planned_stages(config: TrialConfig) -> Iterator[Stage]:
    steps, outcome = stages_of(config), None
    while True:
        try:
            stage = steps.send(outcome)  # type: ignore[arg-type]  # None starts a generator
        except StopIteration:
            return
        yield stage
        outcome = PlannedOutcome(stage.key())


def test_what_a_paper_prints_twice_is_the_same_number() -> None:
    """Tables and figures were typed in one by one; where they say the same, they must agree."""
    found: dict[tuple[object, ...], set[float]] = {}
    places: dict[tuple[object, ...], set[str]] = {}
    for name in SHIPPED:
        for row in (row for row in load_spec(SPECS / name).printed if row.value is not None):
            what = (row.paper, row.label, row.network, row.dataset, row.asked_removed_macs_fraction, row.metric)
            found.setdefault(what, set()).add(row.value)
            places.setdefault(what, set()).add(row.place)
    assert {what: values for what, values in found.items() if len(values) > 1} == {}
    assert sum(len(where) > 1 for where in places.values()) == 13  # the check has something to check


NEED_DATA = [
    pytest.param(name, marks=pytest.mark.check if name.startswith(("trans", "convnext")) else ())
    for name in SHIPPED
    if needs_data(load_spec(SPECS / name))
]


@pytest.mark.parametrize("name", NEED_DATA)
def test_the_plan_before_the_data_is_that_with_them_but_for_the_ids(
    name: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known facts or expected counts, or what a manifest says: the same trials, stages, work and bytes."""
    monkeypatch.chdir(tmp_path)
    plans = [
        make_plan(load_spec(SPECS / name, [f"trial.data.root={where}", "axes.seed=[0]"]))
        for where in (root, tmp_path / "datasets")
    ]
    with pytest.raises(DataMissing, match=r"(?s)data sets? (and weights are|is) not there.*data prepare") as missing:
        refuse_missing_files(plans[1])
    for data_set in {trial.settings.dataset for trial in plans[1].trials}:
        assert re.search(rf"data prepare (\S+ --also )?{data_set} ", str(missing.value)), data_set
    ids = [{trial.trial_id for trial in plan.trials} for plan in plans]
    assert not ids[0] & ids[1] and len(ids[0]) == len(ids[1])
    if name in EXAMPLES:
        return
    shapes = [
        [(t.label, t.arm, t.train_images, [(s.kind, s.work, s.stored_bytes) for s in t.stages]) for t in plan.trials]
        for plan in plans
    ]
    assert shapes[0] == shapes[1]


def shrunk(settings: Mapping[str, Any]) -> TrialConfig:
    """The same method on embedded data and an embedded network, an epoch and a step of everything."""
    network = settings["network"]
    is_whole = settings["pruning"]["heads"] or settings["pruning"]["stream"]
    if not network.startswith(("digits_", "friedman_", "oscillator_")):
        network = "digits_vit" if is_whole else "digits_resnet" if NETWORKS[network].has_norm else "digits_vgg"
    method = dict(settings["method"])
    donor = settings["pruning"]["scores_from"]
    donor = donor if donor in ("target", *OF_TARGETS_DATA) else "source"
    method |= {key: min(value, method[key]) for key, value in ONE_EPOCH.items() if key in method}
    if "allocation" in method:
        method["allocation"] |= {key: value for key, value in DRAWS.items() if key in method["allocation"]}
    return parse_trial(
        {
            "network": network,
            "data": {
                "name": {"friedman_mlp": "friedman1", "oscillator_mlp": "oscillator"}.get(network, "digits"),
                "train_images": 40,
            },
            "source": {"epochs": 1},
            "method": method,
            "optimisation": settings["optimisation"] | ONE_EPOCH_IN_GREY,
            "pruning": {**settings["pruning"], "scores_from": donor} | ({"width_multiple": 1} if is_whole else {}),
            "protocol": settings["protocol"],
        },
        "shrunk",
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cache]:
    """One for all specs, so that what two of them have in common is run once; on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Cache(tmp_path_factory.mktemp("cache"))
    torch.set_num_threads(before)


@pytest.mark.check
@pytest.mark.parametrize(
    "name",
    [
        name if name in TRAINED_IN_CHECK else pytest.param(name, marks=pytest.mark.long)
        for name in SHIPPED
        if name != BY_TABLE
    ],
)
def test_each_distinct_method_of_a_spec_trains(name: str, root: Path, cache: Cache) -> None:
    ranks = join("cpu")
    shrunken = [shrunk(trial.settings.values) for trial in plan_of(name, root).trials]
    distinct = {config.model_dump_json(): config for config in shrunken}
    for config in distinct.values():
        events = list(run_trial(config, cache=cache, ranks=ranks, checkpoint_folder=None))
        points = [event.result.info for event in events if event.point is not None]
        assert points, config.method
        assert all(math.isfinite(point["validation_score"]) for point in points)
