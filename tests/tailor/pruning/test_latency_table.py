"""Widths chosen by a table of latencies: predictions are sums of cells, and a key has the table's content."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tailor
from tailor.common.errors import ConfigError
from tailor.config.latency_table import LatencyTable, read_table
from tailor.config.trial import TrialConfig
from tailor.data.task_data import generator
from tailor.execution.cache import Cache
from tailor.execution.dry_run import dry_run
from tailor.execution.runner import StageEvent
from tailor.execution.weights_check import refuse_missing
from tailor.pruning import surgery
from tailor.pruning.knapsack_budget import knapsack_by_table
from tailor.pruning.latency_terms import latency_terms, predicted_ms
from tailor.stages import GroupRule, PruneByTable
from tests.tailor.latency_tables import COUPLED, made_up_table, whole, written
from tests.tailor.trials import planned_stages, short_trial

Run = Callable[..., list[StageEvent]]
EMBEDDED = {"digits_vgg": (1, 8, 8), "digits_vgg_bn": (1, 8, 8), "digits_resnet": (1, 8, 8), "friedman_mlp": (10,)}
LARGE = ("vgg11", "vgg16_bn", "resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0",
         "mnasnet1_0", "regnet_y_400mf", "shufflenet_v2_x1_0", "vit_b_16")  # fmt: skip


def prediction_equals_slimmed(network: str, shape: tuple[int, ...]) -> None:
    """Three sets of measured widths: the sum of the parts is the sum of the cells of the network without the others."""
    table = made_up_table(network, shape, COUPLED)
    state, found = whole(network, shape, COUPLED)
    parts, constant_ms = latency_terms(table, state, found)
    draw = generator(0, "test table")
    for _ in range(3):
        widths = {}
        for group in found:
            grid = table.widths[group.name]
            widths[group.name] = grid[int(torch.randint(len(grid), (), generator=draw))]
        of_parts = [float(part.cost(*(np.array([widths[name]]) for name in part.groups)).item()) for part in parts]
        kept = {name: torch.arange(width) for name, width in widths.items()}
        slimmed = surgery.slim(state, kept, found)
        assert sum(of_parts) + constant_ms == pytest.approx(predicted_ms(table, slimmed))


@pytest.mark.parametrize("network", EMBEDDED)
def test_a_prediction_is_the_sum_of_the_cells_of_the_slimmed_network(network: str) -> None:
    prediction_equals_slimmed(network, EMBEDDED[network])


@pytest.mark.check
@pytest.mark.parametrize("network", LARGE)
def test_a_prediction_is_the_sum_of_the_cells_of_torchvisions_networks(network: str) -> None:
    prediction_equals_slimmed(network, (3, 224, 224))


@pytest.fixture(scope="module")
def table() -> LatencyTable:
    return made_up_table("digits_resnet", (1, 8, 8), GroupRule())


def test_what_is_chosen_meets_the_milliseconds_and_has_measured_widths(table: LatencyTable) -> None:
    state, found = whole("digits_resnet", (1, 8, 8), GroupRule())
    draw = generator(3, "test scores")
    ranking = {group.name: torch.rand(group.filters, generator=draw) for group in found}
    minimum = {group.name: 1 for group in found}
    asked_ms = 0.7 * table.whole_ms
    kept, solution = knapsack_by_table(table, state, found, ranking, minimum, asked_ms)
    assert predicted_ms(table, surgery.slim(state, kept, found)) == pytest.approx(solution.cost)
    assert solution.cost <= asked_ms
    assert all(len(kept[name]) in table.widths[name] for name in kept)


def trial(file: Path, sha256: str, **latency: float) -> TrialConfig:
    allocation = {"name": "latency", "table": str(file), "table_sha256": sha256} | (
        latency or {"asked_latency_fraction": 0.7}
    )
    return short_trial({"name": "prune", "criterion": "l1", "allocation": allocation}, network="digits_resnet")


def keys(config: TrialConfig) -> list[str]:
    return [stage.key for stage in dry_run(config).stages]


def test_the_key_has_the_tables_content_and_not_its_path(table: LatencyTable, tmp_path: Path) -> None:
    here = written(table, tmp_path)
    there = written(table, tmp_path, "other.json")
    kind, cells = next(iter(table.cells.items()))
    width, ms = next(iter(cells.items()))
    changed = table.replace(cells=table.cells | {kind: cells | {width: ms + 0.001}})
    other = written(changed, tmp_path, "changed.json")
    assert keys(trial(*here)) == keys(trial(*there)) != keys(trial(*other))
    assert trial(*here).identity() == trial(*there).identity()
    assert keys(trial(*here)) != keys(trial(*here, asked_latency_fraction=0.8))


def test_a_trial_prunes_by_its_table(run: Run, shared_cache: Cache, tmp_path: Path) -> None:
    classes_of_trial = made_up_table("digits_resnet", (1, 8, 8), GroupRule(), classes=trial_classes())
    config = trial(*written(classes_of_trial, tmp_path))
    refuse_missing([config])
    (cut,) = (event.result for event in run(config, shared_cache) if event.result.stage.kind == "prune_by_table")
    assert cut.info["predicted_latency_ms"] <= cut.info["asked_latency_ms"]
    assert cut.info["asked_latency_ms"] == pytest.approx(0.7 * classes_of_trial.whole_ms)
    assert config.method.label().startswith("prune l1 0.7 of the ms by table ")


def trial_classes() -> int:
    return short_trial({"name": "head_only"}).data.info.target_classes


@pytest.mark.parametrize(
    ("latency", "message"),
    [
        ({"asked_latency_fraction": 0.05}, "is less than digits_resnet can reach"),
        ({"asked_latency_ms": 1e9}, "is met already"),
    ],
)
def test_latencies_out_of_reach_are_refused_before_a_start(
    tmp_path: Path, latency: dict[str, float], message: str
) -> None:
    of_trial = made_up_table("digits_resnet", (1, 8, 8), GroupRule(), classes=trial_classes())
    with pytest.raises(ConfigError, match=message):
        refuse_missing([trial(*written(of_trial, tmp_path), **latency)])


def test_a_table_of_something_else_is_refused(tmp_path: Path) -> None:
    other_network = made_up_table("digits_vgg", (1, 8, 8), GroupRule())
    with pytest.raises(
        ConfigError,
        match="is a table of network digits_vgg and not digits_resnet.* type: .*table digits_resnet --image-px",
    ):
        refuse_missing([trial(*written(other_network, tmp_path))])
    state, found = whole("digits_resnet", (1, 8, 8), GroupRule())
    with pytest.raises(ConfigError, match="this network has another layer"):
        latency_terms(other_network, state, found)
    with pytest.raises(ConfigError, match="the table is for inputs"):
        latency_terms(other_network.replace(input_shape=(1, 9, 9)), state, found)
    with pytest.raises(ConfigError, match=r"the table has no widths of .*residual and --linear"):
        table = made_up_table("digits_resnet", (1, 8, 8), GroupRule())
        latency_terms(table.replace(widths={}), state, found)


def test_a_table_of_other_classes_says_how_to_measure_one_for_these() -> None:
    """A module has as many outputs as its task has classes, and `model table` measures 1000 unless told."""
    table = made_up_table("digits_resnet", (1, 8, 8), GroupRule(linear=True), classes=9)
    state, found = whole("digits_resnet", (1, 8, 8), GroupRule(), classes=5)
    again = "model table digits_resnet --image-px 8 --classes 5 --residual inside --threads "
    with pytest.raises(ConfigError, match=rf"with 9 classes, and this network has 5; .* type: .*{again}\d+ --out"):
        latency_terms(table, state, found)
    assert "--no-linear --threads" in table.replace(rule=GroupRule().identity()).how_to_make()


def test_a_missing_cell_is_no_number(table: LatencyTable) -> None:
    state, found = whole("digits_resnet", (1, 8, 8), GroupRule())
    block = table.blocks[1]
    without = table.replace(cells=table.cells | {block.kind: {}})
    with pytest.raises(ConfigError, match=r"no cell \d+x\d+ for .* type: .*transtailor model table digits_resnet"):
        predicted_ms(without, state)


def test_an_edited_file_another_file_and_noise_are_refused(table: LatencyTable, tmp_path: Path) -> None:
    file, sha256 = written(table, tmp_path)
    assert read_table(file, sha256) == table
    with pytest.raises(ConfigError, match="has SHA-256"):
        read_table(file, "0" * 64)
    edited = json.loads(file.read_text())
    edited["table"]["scale"] = 0.5
    file.write_text(json.dumps(edited))
    with pytest.raises(ConfigError, match="was changed after it was measured"):
        read_table(file)
    file.write_text("[]")
    with pytest.raises(ConfigError, match="is no table of latencies"):
        read_table(file)
    with pytest.raises(ConfigError, match="no table at .*absent.json; type: .* model table NETWORK --image-px N"):
        read_table(tmp_path / "absent.json")
    noisy, _ = written(table.replace(held_out_median_error=0.11), tmp_path, "noisy.json")
    with pytest.raises(ConfigError, match=r"median error of 11.0%, more than 10%"):
        read_table(noisy)


def test_steps_share_the_milliseconds_that_are_to_go(table: LatencyTable, tmp_path: Path) -> None:
    file, sha256 = written(table, tmp_path)
    allocation = {"name": "latency", "table": str(file), "table_sha256": sha256, "asked_latency_fraction": 0.6}
    method = {"name": "prune", "criterion": "l1", "allocation": allocation, "steps": 2}
    planned = planned_stages(short_trial(method, network="digits_resnet"))
    surgeries = [stage for stage in planned if isinstance(stage, PruneByTable)]
    assert [stage.asked_latency_fraction for stage in surgeries] == [0.8, 0.6]
    with pytest.raises(ConfigError, match="reaches .* ms by table .* in one step"):
        short_trial(method | {"allocation": allocation | {"asked_latency_fraction": None, "asked_latency_ms": 1.0}})


@pytest.mark.parametrize(
    ("allocation", "message"),
    [
        ({}, "give one of asked_latency_ms and asked_latency_fraction"),
        (
            {"asked_latency_ms": 1.0, "asked_latency_fraction": 0.5},
            "give one of asked_latency_ms and asked_latency_fraction",
        ),
        ({"asked_latency_ms": 1.0, "table": "t.json"}, "table and table_sha256 belong together.* sha256sum /.*/t.json"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(allocation: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        short_trial({"name": "prune", "allocation": {"name": "latency"} | allocation})


def test_a_module_is_pruned_by_a_table(tmp_path: Path) -> None:
    rule = GroupRule(residual="coupled", linear=True)
    table = made_up_table("digits_vgg_bn", (1, 8, 8), rule)
    file, _ = written(table, tmp_path)
    module = network_of("digits_vgg_bn")
    pruned = tailor.prune(module, torch.zeros(1, 1, 8, 8), criterion="l2", asked_latency_fraction=0.5, table=file)
    assert predicted_ms(table, pruned.state) <= 0.5 * table.whole_ms
    with pytest.raises(
        ConfigError, match="give one budget: asked_removed_macs_fraction = ..., or asked_latency_fraction"
    ):
        tailor.prune(module, torch.zeros(1, 1, 8, 8), criterion="l2", asked_latency_fraction=0.5)


def network_of(name: str) -> nn.Module:
    from tailor.networks import building

    return building.build(name, 5, seed=0)


def path(file: Path, sha256: str, **settings: object) -> TrialConfig:
    by_table = {"step_removed_latency_fraction": 0.15, "table": str(file), "table_sha256": sha256}
    method = {"name": "transtailor", "steps": 2, "alpha_epochs": 1} | by_table | settings
    return short_trial(method, network="digits_resnet")


def test_transtailors_path_goes_by_milliseconds(run: Run, shared_cache: Cache, tmp_path: Path) -> None:
    table = made_up_table("digits_resnet", (1, 8, 8), GroupRule(), classes=trial_classes())
    config = path(*written(table, tmp_path))
    refuse_missing([config])
    events = run(config, shared_cache)
    cuts = [event.result.info for event in events if event.result.stage.kind == "prune_by_table"]
    assert [cut["asked_latency_ms"] / table.whole_ms for cut in cuts] == pytest.approx([0.85, 0.7])
    assert all(cut["predicted_latency_ms"] <= cut["asked_latency_ms"] for cut in cuts)
    assert config.method.label() == "transtailor by ms"
    at_random = path(*written(table, tmp_path), prune_by="random")
    steps = [stage.step for stage in planned_stages(at_random) if isinstance(stage, PruneByTable)]
    assert steps == [1, 2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"step_removed_latency_fraction": 0.5}, "leaves no time"),
        ({"step_removed_latency_fraction": None}, "step_removed_latency_fraction and table belong together"),
        ({"table_sha256": None}, "table and table_sha256 belong together"),
    ],
)
def test_a_path_that_is_not_possible_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        path(Path("t.json"), "ab", **settings)
