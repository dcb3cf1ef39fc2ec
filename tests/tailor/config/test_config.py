"""Bad input is named: the key, the value, the nearest valid name."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tailor.common.errors import ConfigError
from tailor.common.registry import Registry
from tailor.config.parsing import parse_trial
from tailor.config.trial import TrialConfig
from tailor.execution.dry_run import dry_run
from tailor.facts.datasets import DATASETS
from tests.commands import Said
from tests.tailor.trials import PHOTOGRAPHS

HEAD = {"name": "head_only"}
WEIGHTS = {"weights": "net.safetensors", "weights_sha256": "1" * 64}
ON_PHOTOGRAPHS = {"network": "efficientnet_b0", "data": {"name": "photographs"}, "source": WEIGHTS}
BEHIND_ACTIVATIONS = {"name": "transtailor", "beta": "sqrt", "placement": "after_activation"}
IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    (ON_PHOTOGRAPHS | {"method": HEAD, "source": {}}, r"photographs has no source task to pre-train on; give source"),
    (
        {"method": {"name": "sfp", "asked_removed_macs_fraction": 0.99}},
        r"0.99 of the MACs is more than digits_vgg can lose",
    ),
    (
        {"network": "digits_resnet", "method": {"name": "transtailor", "steps": 9}},
        r"0.9 of the MACs is more than digits_resnet can lose, which is 0\.\d+ with pruning.residual = 'inside'",
    ),
    (
        {"method": {"name": "prune", "criterion": "bn_gamma"}},
        r"'bn_gamma' needs BatchNorm's .* digits_vgg has no norm",
    ),
    ({"method": {"name": "gbn"}}, r"'gbn' needs BatchNorm's .*, and digits_vgg has no norm"),
    (
        {"network": "digits_resnet", "method": {"name": "gbn"}, "optimisation": {"regulariser": "l2_sp"}},
        r"optimisation.regulariser = .*l2_sp.* has no effect: .* a penalty of its own",
    ),
    (
        {"method": {"name": "sfp", "evaluated": "masked"}, "pruning": {"measure_norms": True}},
        r"with evaluated = 'masked' none is; leave one of them out",
    ),
    (
        {"method": {"name": "target_aware_adaptation"}, "pruning": {"width_multiple": 8}},
        r"width_multiple = 8 has no effect: .*target_aware_adaptation",
    ),
    ({"method": HEAD, "optimisation": {"regulariser": "slimming"}}, r"slimming.*digits_vgg.*no norm"),
    (
        ON_PHOTOGRAPHS | {"method": {"name": "prune", "criterion": "apoz"}},
        r"'apoz' needs activations from 0 on, .*efficientnet_b0 has SiLU",
    ),
    (
        ON_PHOTOGRAPHS | {"method": {"name": "transtailor", "beta": "fold", "placement": "after_activation"}},
        r"of efficientnet_b0, which can lose filters, has no activation module .*; choose placement = 'after_norm'",
    ),
    *(
        (
            {
                "network": "digits_vit",
                "pruning": {"linear": True},
                "method": BEHIND_ACTIVATIONS | {"beta": beta, "steps": 2},
            },
            rf"beta = '{beta}' with placement = 'after_activation' and steps = 2: .* GELU of digits_vit .*steps = 1",
        )
        for beta in ("sqrt", "raw")
    ),
    *(
        (
            {"method": {"name": "prune", "weights": "reinitialised"}, "optimisation": {"regulariser": name}},
            rf"'{name}' needs pre-trained weights, .*weights = 'reinitialised' trains from scratch",
        )
        for name in ("l2_sp", "delta")
    ),
    (
        ON_PHOTOGRAPHS | {"network": "mobilenet_v2", "method": BEHIND_ACTIVATIONS},
        r"features\.1\.conv\.1 of mobilenet_v2, .* has no activation module .*choose placement",
    ),
    (
        {"network": "digits_resnet", "method": BEHIND_ACTIVATIONS, "pruning": {"residual": "coupled"}},
        r"\S+ of digits_resnet, which can lose filters, has no activation module",
    ),
    (
        ON_PHOTOGRAPHS | {"method": {"name": "pac_net"}},
        r"pac_net.* needs .* and photographs has no source task",
    ),
    (ON_PHOTOGRAPHS | {"method": {"name": "smaller_dense"}}, r"source.weights only fits the whole network"),
    ({"method": {"name": "pac_net", "prune_ratio": 1.0}}, r"prune_ratio: given 1.0; .*less than 1"),
    (
        {"method": HEAD, "source": {"weights": __file__}},
        r"weights and weights_sha256 belong together.*\(type: sha256sum /.*/test_config.py\)",
    ),
    (
        {"method": HEAD, "network": "digits_vgg", "data": {"name": "digits", "crop_px": 6}},
        r"shape \(1, 8, 8\), and samples of digits are \(1, 8, 8\), cut to \(1, 6, 6\); set data.crop_px = 8",
    ),
    ({"method": HEAD, "data": {"name": "photographs", "root": "nowhere"}}, r"no data set 'photographs' is prepared in"),
    (
        {"method": HEAD, "data": {"name": "mine", "root": "nowhere"}},
        r"nowhere, which is not there; go to the folder that",
    ),
    (
        {"method": HEAD, "optimisation": {"momentum": 0.0}, "pruning": {"optimiser_state": "kept"}},
        r"optimiser_state = 'kept' .* only with optimisation.optimiser = 'sgd' and a momentum",
    ),
]


@pytest.mark.parametrize(("raw", "message"), IMPOSSIBLE, ids=[message for _, message in IMPOSSIBLE])
def test_what_cannot_be_is_refused_before_anything_is_trained(
    raw: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATASETS._records, "photographs", PHOTOGRAPHS)  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=message):
        parse_trial(raw, "test")


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_trial({"method": HEAD, "sed": 1, "optimisation": {"epochs": 0}}, "here")
    assert len(str(caught.value).splitlines()) == 2


def test_a_config_survives_json() -> None:
    config = parse_trial({"method": {"name": "transtailor", "steps": 2}}, "test")
    assert TrialConfig.model_validate(config.model_dump(mode="json")) == config
    assert TrialConfig.model_validate_json(config.model_dump_json()) == config


def test_a_second_record_of_one_name_is_refused() -> None:
    registry: Registry[int] = Registry("number")
    registry.add("one", 1)
    with pytest.raises(ValueError, match="'one' is registered already"):
        registry.add("one", 2)
    with pytest.raises(ConfigError, match=r"no such number: 'on'; did you mean 'one'\? \(valid: one\)"):
        registry["on"]


# --- the command line ---


Command = Callable[..., Said]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file: trial.toml"),
        (b"\xff\xfe", "trial.toml is not valid TOML"),
        (b"# caf\xe9\nmethod = 'prune'", "line 1 has the byte 0xe9; save the file as UTF-8"),
        ("[method]\nname = 'transtailr'".encode("utf-8-sig"), "trial.toml: method: no such method"),
        (b"method = 'prune'\noptimisation.optimiser = 'Adam'", "did you mean 'adam'"),
        (b"method = ", "trial.toml is not valid TOML"),
        (
            b"[method]\nname = 'transtailr'",
            "trial.toml: method: no such method: 'transtailr'; did you mean",
        ),
    ],
)
def test_bad_input_ends_with_2_and_leaves_nothing(
    content: bytes | None, message: str, tmp_path: Path, command: Command
) -> None:
    if content is not None:
        (tmp_path / "trial.toml").write_bytes(content)
    before = sorted(tmp_path.rglob("*"))
    finished = command("trial", "run", "trial.toml", folder=tmp_path)
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: ") and message in finished.stderr
    assert "Traceback" not in finished.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_trial_alone(tmp_path: Path, command: Command) -> None:
    (tmp_path / "trial.toml").write_text(
        'source = { epochs = 1 }\noptimisation = { epochs = 1, head_epochs = 1 }\n[method]\nname = "fine_tune"\n'
    )
    planned = command("trial", "run", "trial.toml", "--plan", folder=tmp_path)
    assert planned.returncode == 0 and "4 stages" in planned.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["trial.toml"]
    finished = command("trial", "run", "trial.toml", "--save", "models", folder=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert re.search(r"point 0: 0.0% of the MACs removed, validation accuracy 0\.\d{4}", finished.stdout)
    assert (tmp_path / "models" / "point_0" / "model.safetensors").exists()
    again = command("trial", "run", "trial.toml", folder=tmp_path)
    assert again.stdout.count("cached") == 4


def test_a_diverging_trial_ends_with_1_and_names_the_stage(tmp_path: Path, command: Command) -> None:
    (tmp_path / "trial.toml").write_text(
        'source = { epochs = 20, learning_rate = 1e6 }\n[method]\nname = "head_only"\n'
    )
    finished = command("trial", "run", "trial.toml", folder=tmp_path)
    assert finished.returncode == 1
    assert re.search(r"error: stage train_source \(.*\): the loss is (nan|inf) in epoch", finished.stderr)


WITHOUT_TORCH = """
import sys
import tailor.facts.manifest, tailor.prepare.prepare, tailor.networks.fetch
from tailor.facts import weights
from tailor.facts.networks import NETWORKS
from tailor.config.parsing import parse_trial
from tailor.execution.dry_run import dry_run

dry_run(parse_trial({"method": {"name": "transtailor"}}, "test"))
assert weights.table() and NETWORKS["resnet18"]
heavy = {"torch", "timm", "ray", "sklearn", "numpy", "pandas", "PIL", "rich", "scipy"} & set(sys.modules)
assert not heavy, heavy
"""


def test_planning_and_what_is_known_of_networks_weights_and_data_imports_no_torch() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH], check=True)


@pytest.mark.parametrize(
    ("network", "method", "multiple"),
    [
        ("mobilenet_v2", "prune", 8),
        ("mobilenet_v2", "fine_tune", 1),
        ("mobilenet_v2", "target_aware_adaptation", 1),
        ("digits_vgg", "prune", 1),
        ("digits_vgg", "pac_net", 1),
    ],
)
def test_auto_is_the_number_of_the_network(
    network: str, method: str, multiple: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial that says the number is the same trial, and one that says another is not."""
    monkeypatch.setitem(DATASETS._records, "photographs", PHOTOGRAPHS)  # type: ignore[attr-defined]
    on_data = ON_PHOTOGRAPHS | {"network": network} if network == "mobilenet_v2" else {"network": network}
    raw = on_data | {"method": {"name": method}}
    config = parse_trial(raw, "test")
    assert config.pruning.width_multiple == multiple
    assert config == parse_trial(raw | {"pruning": {"width_multiple": multiple}}, "test")
    if method == "prune":
        other = parse_trial(raw | {"pruning": {"width_multiple": 9 - multiple}}, "test")
        assert dry_run(other).trial_id != dry_run(config).trial_id


def test_the_usual_metric_counts_in_no_id() -> None:
    usual = parse_trial({"method": HEAD}, "test")
    assert dry_run(parse_trial({"method": HEAD, "metric": "accuracy"}, "test")) == dry_run(usual)
    other = dry_run(parse_trial({"method": HEAD, "metric": "macro_f1"}, "test"))
    same = [stage.key for stage in other.stages if stage in dry_run(usual).stages]
    assert other.trial_id != dry_run(usual).trial_id and len(same) == len(other.stages) - 1
