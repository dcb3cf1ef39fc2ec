"""A user's network is tried before its trial computes anything, and what it does not train stays as it is."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tailor.common.errors import ConfigError
from tailor.common.seeds import stream
from tailor.config.trial import METHODS, TrialConfig
from tailor.execution.cache import Cache
from tailor.execution.dry_run import dry_run
from tailor.execution.network_check import refuse_unfit
from tailor.execution.runner import StageEvent, run_trial
from tailor.facts.networks import NETWORKS
from tailor.facts.weights import sha256_of
from tailor.networks import building
from tailor.parallel.process_group import join, leave
from tailor.training.layer_order import layer_numbers
from tests.tailor.execution.users_networks import load_networks, trial_of
from tests.tailor.two_ranks import on_two_ranks

Run = Callable[..., list[StageEvent]]
PRUNE: dict[str, Any] = {"name": "prune", "asked_removed_macs_fraction": 0.25}
TAILOR: dict[str, Any] = {"name": "transtailor", "steps": 1, "step_removed_macs_fraction": 0.25, "alpha_epochs": 1}
FROZEN = ("0.weight", "0.bias", "1.weight", "3.weight")


@pytest.fixture(scope="module", autouse=True)
def networks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder, before = tmp_path_factory.mktemp("networks"), set(NETWORKS)
    load_networks(folder)
    yield folder
    for name in set(NETWORKS) - before:
        NETWORKS.remove(name)


@pytest.mark.parametrize(
    ("network", "method", "ranks", "words"),
    [
        (
            "mixed",
            PRUNE,
            1,
            "network 'mixed': no filter can be removed: .*3: .*output",
        ),
        ("branching", PRUNE, 1, "its code cannot be followed .*without `if` on a tensor"),
        ("without_classes", PRUNE, 1, "cannot be built with num_classes = 5 .*unexpected keyword argument"),
        ("with_classes_last", {"name": "fine_tune"}, 1, "second has an entry for each class along another axis"),
        ("no_module", {"name": "fine_tune"}, 1, "its builder returns a OrderedDict; expected a torch.nn.Module"),
        ("pair", {"name": "fine_tune"}, 1, r"2 images .* in training mode it makes a tuple; .* expects .*\(2, 5\)"),
        ("softmaxed", {"name": "fine_tune"}, 1, "it ends in a softmax, .*; leave the softmax out of it"),
        ("sigmoid", {"name": "fine_tune"}, 1, "it ends in a sigmoid, .*; leave the sigmoid out of it"),
        (
            "scripted",
            {"name": "fine_tune"},
            1,
            "its builder returns a RecursiveScriptModule; .* neither compiled nor scripted",
        ),
        ("half", {"name": "fine_tune"}, 1, "scores are too coarse; give model.float.*0.weight"),
        ("infinite", {"name": "fine_tune"}, 1, "has numbers that are not finite.*3.weight"),
        ("detached", {"name": "fine_tune"}, 1, r"its outputs have no gradient; leave \.detach\(\), .* out of its code"),
        (
            "held",
            {"name": "fine_tune"},
            1,
            r"only its head, 8, gets gradients, and none of 0\.weight, .*torch\.no_grad",
        ),
        ("broken", {"name": "fine_tune"}, 1, "does not run on 1 image .*, in 6, a Linear: .*mat1"),
        ("headless", PRUNE, 1, r": network: .*head = '9' .* no layer with 5 outputs.* it has 8$"),
        (
            "of_other_inputs",
            PRUNE,
            1,
            r"in 0, a Conv2d: .*; mend its code, which gets float32, or give its NetworkInfo another input_shape",
        ),
        ("frozen_head", {"name": "fine_tune"}, 1, "8, its head, is not trained"),
        ("plain_norm", PRUNE, 2, "6, a .*BatchNorm2d, cannot compute over several ranks.*resources.ranks = 1"),
        ("unused", {"name": "fine_tune"}, 2, "no output depends on 9.spare.weight, 9.spare.bias.*resources.ranks = 1"),
    ],
)
def test_what_would_fail_is_refused_before_anything_is_computed(
    network: str, method: dict[str, Any], ranks: int, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        refuse_unfit(trial_of(network, method), ranks)


def test_facts_of_a_network_are_those_of_its_code() -> None:
    """Its record says 1 MAC and no norm."""
    info = NETWORKS["plain"]
    model = building.build("plain", 5, seed=0)
    assert (info.has_norm, info.activation) == (True, "ReLU")
    assert info.params_count == sum(parameter.numel() for parameter in model.parameters())
    assert info.head_params_count == model[8].weight.numel() + 5
    assert info.macs == 64 * (model[0].weight.numel() + model[3].weight.numel()) + model[8].weight.numel()


@pytest.mark.parametrize("classes", [5, 7])
def test_all_heads_are_the_targets(classes: int, run: Run, tmp_path: Path) -> None:
    """With weights of as many classes as the target has, and of others; no tensor of a head is the file's."""
    weights = building.build("with_two_heads", classes, seed=3).state_dict()
    torch.save(weights, tmp_path / "net.pth")
    source = {"weights": str(tmp_path / "net.pth"), "weights_sha256": sha256_of(tmp_path / "net.pth")}
    tuning = {"epochs": 1, "head_epochs": 1, "layer_decay": 0.5}
    config = trial_of("with_two_heads", {"name": "head_only"}, source=source, optimisation=tuning)
    tensors = run(config, Cache(tmp_path / "cache"))[-1].result.model_state().tensors
    untrained = building.build("with_two_heads", 5, seed=stream(0, "head")).state_dict()
    for head in ("first.weight", "first.bias", "second.weight", "second.bias"):
        assert len(tensors[head]) == 5
        assert not torch.equal(tensors[head], weights[head])
        assert not torch.equal(tensors[head], untrained[head])  # it is trained
    assert torch.equal(tensors["body.3.weight"], weights["body.3.weight"])
    assert {number for name, number in layer_numbers("with_two_heads", 5, (1, 8, 8)).items() if "body" not in name} == {
        max(layer_numbers("with_two_heads", 5, (1, 8, 8)).values())
    }
    assert NETWORKS["with_two_heads"].head_params_count == 2 * (24 * 5 + 5)


def test_trials_have_other_ids_only_where_version_0_2_was_wrong() -> None:
    versions = {name: NETWORKS[name].version for name in ("plain", "with_two_heads", "of_distances")}
    assert versions == {"plain": 1, "with_two_heads": 2, "of_distances": 1}
    stages = {name: dry_run(trial_of(name, {"name": "head_only"})).stages for name in versions}
    assert {name: planned[0].version for name, planned in stages.items()} == versions


def test_what_is_not_counted_is_named() -> None:
    (text,) = trial_of("of_distances", PRUNE).warnings()
    assert "of_distances" in text
    assert "_cdist_forward of centres" in text
    assert trial_of("plain", PRUNE).warnings() == ()


def test_layer_decay_of_layers_without_an_order_is_refused() -> None:
    tuning = {"epochs": 1, "head_epochs": 1, "layer_decay": 0.75}
    refuse_unfit(trial_of("plain", {"name": "fine_tune"}, optimisation=tuning), 1)
    refuse_unfit(trial_of("shared", {"name": "fine_tune"}), 1)
    with pytest.raises(ConfigError, match="network 'shared': .*3 runs again after 4; leave layer_decay out"):
        refuse_unfit(trial_of("shared", {"name": "fine_tune"}, optimisation=tuning), 1)


HARD_CODED = r"second: the network's code does not run with fewer: .*'\[-1, 24\]'.*x\.flatten\(1\) in place of"


@pytest.mark.parametrize("excluded", [[], ["head"]], ids=["by its trial", "by its settings"])
def test_a_budget_out_of_reach_by_a_shape_in_the_code_names_the_layer(excluded: list[str]) -> None:
    def try_fraction(fraction: float) -> None:
        pruning = {"residual": "coupled", "linear": True, "exclude": excluded}
        refuse_unfit(trial_of("fixed", PRUNE | {"asked_removed_macs_fraction": fraction}, pruning=pruning), 1)

    try_fraction(0.5)
    with pytest.raises(ConfigError, match=f"0.98 .* more than fixed can lose, .*{HARD_CODED}.*; or choose a smaller"):
        try_fraction(0.98)


def test_where_nothing_can_go_no_smaller_budget_is_proposed() -> None:
    pruning = {"residual": "coupled", "linear": True, "exclude": ["first"]}
    with pytest.raises(
        ConfigError, match=rf"lose, which is 0\.000 .*{HARD_CODED}.*'head_only', which remove none"
    ) as caught:
        trial_of("fixed", PRUNE, pruning=pruning)
    assert "smaller" not in str(caught.value)


def test_the_layer_by_whose_number_of_filters_the_code_computes_is_named_with_what_to_type() -> None:
    with pytest.raises(
        ConfigError, match=r'computes something else .*; mend it, or set pruning\.exclude = \["second"\]$'
    ):
        refuse_unfit(trial_of("scaled", PRUNE), 1)
    pruning = {"residual": "coupled", "linear": True, "exclude": ["second"]}
    refuse_unfit(trial_of("scaled", PRUNE, pruning=pruning), 1)


def test_what_is_fine_is_not_refused() -> None:
    for network in ("plain", "frozen", "norm_of_vectors"):
        refuse_unfit(trial_of(network, PRUNE), 2)
    refuse_unfit(trial_of("unused", {"name": "fine_tune"}), 1)
    refuse_unfit(trial_of("mixed", {"name": "fine_tune"}), 1)


@pytest.mark.parametrize(
    ("images", "settings", "ranks"),
    [
        (33, {}, 1),
        (65, {}, 1),
        (33, {}, 2),  # the norms compute over both ranks
        (34, {"norm": "local"}, 2),  # each rank gets one
        (36, {"accumulation_steps": 4}, 1),  # four parts of one
    ],
)
def test_a_last_batch_of_one_image(images: int, settings: dict[str, Any], ranks: int) -> None:
    def trial(network: str, train_images: int = images) -> TrialConfig:
        tuning = {"epochs": 1, "head_epochs": 1, "batch_size": 32} | settings
        data = {"name": "digits", "train_images": train_images}
        return trial_of(network, {"name": "fine_tune"}, optimisation=tuning, data=data)

    words = f"{images} images in batches of 32 leave a last batch in which 7, a BatchNorm2d.*optimisation.batch_size"
    with pytest.raises(ConfigError, match=words):
        refuse_unfit(trial("norm_of_vectors"), ranks)
    refuse_unfit(trial("norm_of_vectors", train_images=64), ranks)
    refuse_unfit(trial("plain"), ranks)  # whose norms get 64 values of each image


def test_norms_are_measured_on_no_last_batch_of_one_image() -> None:
    def trial(images: int) -> TrialConfig:
        tuning = {"epochs": 1, "head_epochs": 1, "batch_size": 32, "norm": "frozen"}
        data = {"name": "digits", "train_images": images}
        return trial_of("norm_of_vectors", PRUNE, optimisation=tuning, data=data, pruning={"measure_norms": True})

    refuse_unfit(trial(34), 1)
    with pytest.raises(ConfigError, match="33 images in batches of 32 leave a last batch in which 7, a BatchNorm2d"):
        refuse_unfit(trial(33), 1)


def frozen_rows(state_tensors: dict[str, torch.Tensor], kept: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What is left of the frozen parameters without the filters that were removed."""
    first, second = (kept.get(layer, torch.arange(24)) for layer in ("0", "3"))
    whole = {name: state_tensors[name] for name in FROZEN}
    left = {name: whole[name][first] for name in FROZEN[:3]}
    return left | {"3.weight": whole["3.weight"][second][:, first]}


# What each method does with frozen layers; docs/extend.md has the same.
VERDICTS: dict[str, tuple[dict[str, Any], bool]] = {
    "head_only": ({}, False),
    "fine_tune": ({}, False),
    "prune": ({"asked_removed_macs_fraction": 0.25}, False),
    "target_aware_adaptation": ({"iterations": 1}, False),
    "transtailor": (TAILOR, True),
    "sfp": ({"asked_removed_macs_fraction": 0.25}, True),
    "gbn": ({"steps": 1}, True),
    "pac_net": ({}, True),
    "smaller_dense": ({"asked_removed_macs_fraction": 0.25}, True),
}
OTHERS = sorted(VERDICTS.keys() - {"prune", "transtailor"})


def test_each_method_has_a_verdict() -> None:
    assert {name for name in METHODS if METHODS[name].__module__.startswith("tailor.methods.")} == VERDICTS.keys()


@pytest.mark.parametrize(
    "name", [n if n in ("prune", "transtailor") else pytest.param(n, marks=pytest.mark.check) for n in VERDICTS]
)
def test_what_is_frozen_stays_to_the_bit_or_is_refused(name: str, run: Run, tmp_path: Path) -> None:
    settings, is_refused = VERDICTS[name]
    config = trial_of("frozen", {"name": name} | settings)
    if is_refused:
        with pytest.raises(ConfigError, match=rf"does not train .*requires_grad = False.*{name!r} writes into them"):
            run(config, Cache(tmp_path))
        return
    states = [event.result.model_state() for event in run(config, Cache(tmp_path))]
    expected = frozen_rows(states[0].tensors, states[-1].kept or {})
    assert all(torch.equal(states[-1].tensors[part], tensor) for part, tensor in expected.items())
    if name != "head_only":
        assert not torch.equal(
            states[-1].tensors["4.weight"], states[0].tensors["4.weight"][: len(states[-1].tensors["4.weight"])]
        )


@pytest.mark.parametrize("mode", ["grad", "off"])
def test_transtailor_without_factors_in_weights_keeps_them(mode: str, run: Run, tmp_path: Path) -> None:
    states = [e.result.model_state() for e in run(trial_of("frozen", TAILOR | {"beta": mode}), Cache(tmp_path))]
    expected = frozen_rows(states[0].tensors, states[-1].kept or {})
    assert states[-1].kept
    assert all(torch.equal(states[-1].tensors[part], tensor) for part, tensor in expected.items())


def test_weights_that_are_drawn_again_are_refused() -> None:
    with pytest.raises(ConfigError, match="method 'prune' writes into them in its stage 'reinitialise'"):
        refuse_unfit(trial_of("frozen", PRUNE | {"weights": "reinitialised"}), 1)


def run_frozen(folder: Path, cache: Path, text: str) -> None:
    """Runs a trial of the frozen network, in a rank."""
    load_networks(folder)
    ranks = join("cpu")
    states = [
        event.result.model_state()
        for event in run_trial(TrialConfig.model_validate_json(text), cache=Cache(cache), ranks=ranks)
    ]
    expected = frozen_rows(states[0].tensors, states[-1].kept or {})
    assert all(torch.equal(states[-1].tensors[part], tensor) for part, tensor in expected.items())
    assert ranks.world_size == 2
    leave()


@pytest.mark.check
def test_what_is_frozen_stays_on_two_ranks(networks: Path, tmp_path: Path) -> None:
    text = trial_of("frozen", PRUNE).model_dump_json()
    on_two_ranks(run_frozen, networks, tmp_path / "cache", text, folder=tmp_path)
