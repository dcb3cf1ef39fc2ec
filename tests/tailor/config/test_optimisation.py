"""Settings of the training in whole trials: what is refused, who teaches whom, one rank == two ranks."""

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tailor.common.errors import ConfigError
from tailor.data import task_data
from tailor.execution.cache import Cache
from tailor.execution.dry_run import PlannedOutcome, dry_run
from tailor.execution.runner import StageEvent
from tailor.methods.recipe import Recipe
from tailor.parallel.process_group import ProcessGroup
from tailor.stages import Training
from tailor.training import compilation
from tailor.training.backward import whole_sizes
from tailor.training.compilation import CompiledModel
from tailor.training.distillation import divergence_sum
from tests.tailor.trials import short_trial
from tests.tailor.two_ranks import assert_same, on_one_and_two_ranks

pytestmark = pytest.mark.usefixtures("other_constants")

Run = Callable[..., list[StageEvent]]
SHORT = {"epochs": 2, "head_epochs": 2}
FEW = {"train_images": 33}  # in batches of 8: the last has one image, so one of two ranks gets an empty share of it


# --- refused before anything is trained ---

TRANSTAILOR, SLIM = {"name": "transtailor", "steps": 1}, {"name": "slimming"}
OF_DIGITS = {"5": 1.0, "6": 2.0, "7": 3.0, "8": 4.0, "9": 5.0}
IMPOSSIBLE: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"schedule": "step"}, TRANSTAILOR, r"milestones, such as \[0.5, 0.75\], belong together"),
    ({"milestones": [0.5]}, TRANSTAILOR, "schedule = 'constant' with milestones"),
    ({"schedule": "step", "milestones": [0.8, 0.5]}, TRANSTAILOR, "are not in ascending order; sort them"),
    ({"schedule": "step", "milestones": [1.5]}, TRANSTAILOR, "less than 1"),
    ({"gamma": 0.5}, TRANSTAILOR, "gamma = 0.5 .* read only with schedule = 'step'"),
    ({"warm_up_epochs": 2}, TRANSTAILOR, "leaves no epoch of epochs = 2"),
    ({"batch_size": 32, "accumulation_steps": 3}, TRANSTAILOR, "does not divide batch_size = 32"),
    ({"accumulation_steps": 2, "regulariser": {"name": "bss"}}, TRANSTAILOR, "needs the whole batch at once"),
    ({"distillation_temperature": 2.0}, TRANSTAILOR, "read only with a distillation_weight above 0"),
    ({"distillation_weight": 0.5}, {"name": "head_only"}, "only with a method that fine-tunes a pruned network"),
    ({"distillation_weight": 0.5}, {"name": "fine_tune"}, "give 0.0 for method 'fine_tune'"),
    ({"norm": "frozen"}, {"name": "gbn"}, "'gbn' needs factors of norms that are trained"),
    ({"norm": "frozen", "regulariser": SLIM}, TRANSTAILOR, "'slimming' needs factors of norms that are trained"),
    ({"norm": "frozen"}, {"name": "prune", "order": "tune_first", "first_regulariser": SLIM}, "'slimming' needs"),
    ({"ema_decay": 0.9}, {"name": "sfp"}, "leave ema_decay out"),
    ({"ema_decay": 1.0}, TRANSTAILOR, "less than 1"),
    ({"clip_gradient_norm": 0.0}, TRANSTAILOR, "greater than 0"),
    ({"layer_decay": 0.0}, TRANSTAILOR, "greater than 0"),
    (
        {"class_weights": [1, 2, 3, 4, 5]},
        TRANSTAILOR,
        r"\[1.0, .*type class_weights = { 5 = 1.0, 6 = 2.0, 7 = 3.0, 8 = 4.0, 9 = 5.0 }",
    ),
    ({"class_weights": {"5": 1, "6": 1, "7": 1}}, TRANSTAILOR, "no number for 8, 9 of digits"),
    ({"class_weights": OF_DIGITS | {"nine": 1.0}}, TRANSTAILOR, "digits has no class 'nine'.*5, 6, 7, 8, 9"),
    ({"class_weights": OF_DIGITS | {"6": 0.0}}, TRANSTAILOR, "6 = 0.0 is no number above 0"),
    (
        {"class_weights": OF_DIGITS | {"0": {"5": 1.0}}},
        TRANSTAILOR,
        "quote a class with a dot, .* class_weights = { ",
    ),
    ({"class_weights": "balancd"}, TRANSTAILOR, "'balancd'"),
    ({"class_weights": "balanced", "sampling": "balanced"}, TRANSTAILOR, "leave one of them out"),
    ({"distillation_weight": 0.5, "mixup": 0.8}, TRANSTAILOR, "distillation_weight = 0.5 with mixup .*leave one of"),
    ({"rand_augment": 2}, TRANSTAILOR, "rand_augment = 2 .* only with images of 3 channels"),
    ({"random_erasing": 1.5}, TRANSTAILOR, "less than or equal to 1"),
    ({"precision": "fp16"}, TRANSTAILOR, "'float32' or 'bf16'"),
]


@pytest.mark.parametrize(("optimisation", "method", "text"), IMPOSSIBLE)
def test_impossible_combinations_are_refused(optimisation: dict[str, Any], method: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        short_trial(method, network="digits_vgg_bn", optimisation=SHORT | optimisation)


@pytest.mark.parametrize("method", ["head_only", "pac_net"])
def test_a_way_of_norms_that_other_arms_read_is_possible_beside_them(method: str) -> None:
    frozen = short_trial({"name": method}, network="digits_vgg_bn", optimisation=SHORT | {"norm": "frozen"})
    assert "optimisation.norm" in frozen.unread


@pytest.mark.parametrize("norm", ["local", "frozen"])
def test_norms_of_a_network_without_norms_are_refused(norm: str) -> None:
    with pytest.raises(ConfigError, match=f"norm = '{norm}' .* only with a network with BatchNorm"):
        short_trial({"name": "fine_tune"}, network="digits_vgg", optimisation=SHORT | {"norm": norm})


@pytest.mark.parametrize(
    "optimisation",
    [
        {"label_smoothing": 0.1},
        {"distillation_weight": 0.5},
        {"memory_format": "channels_last"},
        {"class_weights": {"0": 1.0}},
        {"sampling": "balanced"},
        {"mixup": 0.8},
        {"cutmix": 1.0},
        {"random_erasing": 0.25},
    ],
)
def test_what_is_about_classes_or_images_is_refused_for_rows_and_real_values(optimisation: dict[str, Any]) -> None:
    settings = {"network": "friedman_mlp", "data": {"name": "friedman1"}, "pruning": {"linear": True}}
    with pytest.raises(ConfigError, match="not (real values|rows of numbers)"):
        short_trial({"name": "prune"}, **settings, optimisation=SHORT | optimisation)


def test_weights_by_name_are_refused_where_a_donor_has_other_classes() -> None:
    named = SHORT | {"class_weights": OF_DIGITS}
    short_trial({"name": "prune"}, optimisation=named, pruning={"scores_from": "shuffled"})
    with pytest.raises(ConfigError, match="other classes than those .*set class_weights = 'balanced'"):
        short_trial({"name": "prune"}, optimisation=named, pruning={"scores_from": "source"})


def test_each_class_gets_the_number_of_its_name() -> None:
    """A stage has them in the order of the labels, whatever order they are typed in."""
    typed = {"9": 9.0, "5": 5.0, "7": 7.0, "6": 6.0, "8": 8.0}
    trial = short_trial({"name": "fine_tune"}, optimisation=SHORT | {"class_weights": typed})
    assert Recipe(trial).tuning(1).class_weights == (5.0, 6.0, 7.0, 8.0, 9.0)
    ascending = short_trial({"name": "fine_tune"}, optimisation=SHORT | {"class_weights": dict(sorted(typed.items()))})
    assert dry_run(trial).trial_id == dry_run(ascending).trial_id


# --- keys ---


def test_only_what_trains_reads_a_setting() -> None:
    """A setting of the loss, the schedule or the average changes the head and the tunings; factors train as printed."""
    before = dry_run(short_trial(TRANSTAILOR, network="digits_resnet"))
    for setting in ({"label_smoothing": 0.1}, {"ema_decay": 0.9}, {"clip_gradient_norm": 1.0}, {"warm_up_epochs": 1}):
        optimisation = short_trial(TRANSTAILOR, network="digits_resnet", optimisation=SHORT | setting)
        kinds = [s.kind for s, t in zip(dry_run(optimisation).stages, before.stages, strict=True) if s.key == t.key]
        assert kinds == ["train_source"]
    frozen = dry_run(short_trial(TRANSTAILOR, network="digits_resnet", optimisation=SHORT | {"norm": "frozen"}))
    same = [s.kind for s, t in zip(frozen.stages, before.stages, strict=True) if s.key == t.key]
    assert same[-1] == "attach_importance"  # the head and the factors were trained with frozen norms before, too
    stages = Recipe(short_trial(TRANSTAILOR, optimisation=SHORT | {"label_smoothing": 0.1, "precision": "bf16"}))
    factors = stages.train_factors(PlannedOutcome("0" * 64), 1, epochs=1, learning_rate=0.1).training
    assert (factors.label_smoothing, factors.precision) == (0.0, "bf16")


OF_TODAY: dict[str, Any] = {
    "optimiser": "adamw", "layer_decay": 0.7, "class_weights": "balanced", "mixup": 0.8, "cutmix": 1.0,
    "random_erasing": 0.5, "batch_size": 8,
}  # fmt: skip


@pytest.mark.check
def test_the_recipe_on_one_and_two_ranks(tmp_path: Path) -> None:
    trial = short_trial({"name": "fine_tune"}, network="digits_resnet", data=FEW, optimisation=SHORT | OF_TODAY)
    ((alone, together),) = on_one_and_two_ranks([trial], tmp_path)
    assert_same(alone, together)


# --- distillation ---


def test_the_divergence_by_hand() -> None:
    outputs, taught = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 3.0]]), torch.tensor([[0.0, 2.0, 1.0], [1.0, 0.5, 0.0]])
    total = 0.0
    for student, teacher in zip(outputs / 2.0, taught / 2.0, strict=True):
        p, q = teacher.exp() / teacher.exp().sum(), student.exp() / student.exp().sum()
        total += sum(float(a * (a.log() - b.log())) for a, b in zip(p, q, strict=True))
    assert float(divergence_sum(outputs, taught, 2.0)) == pytest.approx(total, rel=1e-5)
    assert float(divergence_sum(taught, taught, 2.0)) == pytest.approx(0.0, abs=1e-6)


def distilled(method: dict[str, Any], **settings: Any) -> Any:
    teaching = {"distillation_weight": 0.7, "distillation_temperature": 2.0}
    return short_trial(method, **({"optimisation": SHORT | teaching, "network": "digits_resnet"} | settings))


def test_the_teacher_is_the_unpruned_network_fine_tuned() -> None:
    """Its stage is that of `fine_tune` without distillation, so all methods and budgets share it."""
    plain = dry_run(short_trial({"name": "fine_tune"}, network="digits_resnet", optimisation=SHORT))
    (expected,) = (stage for stage in plain.stages if stage.kind == "fine_tune")
    methods = [TRANSTAILOR, {"name": "prune"}, {"name": "gbn_of_two_ticks", "steps": 1}, {"name": "smaller_dense"}]
    for method in [*methods, {"name": "target_aware_adaptation", "iterations": 1}]:
        stages = dry_run(distilled(method)).stages
        tunings = [stage for stage in stages if stage.kind == "fine_tune"]
        first, *others = dict.fromkeys(tunings)
        assert (first.key, first.parents) == (expected.key, expected.parents), method
        assert others
        assert all(stage.parents[1:] == (expected.key,) for stage in others), method


def test_tuning_first_is_the_teacher_itself() -> None:
    stages = dry_run(distilled({"name": "prune", "order": "tune_first"})).stages
    tunings = [stage for stage in stages if stage.kind == "fine_tune"]
    assert tunings[0].key == tunings[1].key
    assert tunings[2].parents[1:] == (tunings[0].key,)


def test_a_distilled_step_by_hand(run: Run, shared_cache: Cache, ranks: ProcessGroup) -> None:
    """One step of all images: 0.3 of the labels' loss and 0.7 x 2^2 of the divergence, both on the augmented images."""
    teaching = {"distillation_weight": 0.7, "distillation_temperature": 2.0}
    one_step = {"epochs": 1, "head_epochs": 2, "batch_size": 300, "learning_rate": 0.01, "momentum": 0.0}
    task = {"train_images": 60, "augmentation": "shift"}
    trial = distilled({"name": "prune"}, optimisation=one_step | teaching, data=task)
    events = run(trial, shared_cache)
    teacher, stage = (e.result for e in events if e.result.stage.kind == "fine_tune")
    before = next(e.result.model_state() for e in events if e.result.stage.kind == "prune")
    (batch,) = task_data.batches(
        task_data.splits(Recipe(trial).task).train, 300, stage.stage.training.seed, 0, "shift", ranks
    )
    model, whole = before.build().train(), teacher.model_state().build().eval()
    student, taught = model(batch.images).log_softmax(1), whole(batch.images).detach()
    soft, hot = (model_outputs / 2.0 for model_outputs in (student, taught))
    p = hot.softmax(1)
    divergence = (p * (p.log() - soft.log_softmax(1))).sum(1).mean()
    loss = 0.3 * F.nll_loss(student, batch.labels) + 0.7 * 4.0 * divergence
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    for (name, parameter), gradient in zip(model.named_parameters(), gradients, strict=True):
        rate = 0.005 if name in before.head_names() else 0.01
        expected = parameter.detach() - rate * (gradient + 0.005 * parameter.detach())
        torch.testing.assert_close(stage.model_state().tensors[name], expected, rtol=1e-4, atol=1e-6)
    assert stage.info["epochs"][0]["train_loss"] == pytest.approx(float(loss.detach()), rel=1e-4)
    again = run(trial, shared_cache)
    assert all(event.result.cached for event in again)


# --- one rank == two ranks ---


@pytest.mark.check
def test_synchronised_norms_in_bf16(tmp_path: Path) -> None:
    """Two ranks stay as near to one as bf16's three digits let them; norms of one rank's images are further away."""
    bf16 = SHORT | {"batch_size": 8, "precision": "bf16"}
    trial = short_trial({"name": "fine_tune"}, network="digits_resnet", data=FEW, optimisation=bf16)
    ((alone, together),) = on_one_and_two_ranks([trial], tmp_path)
    one, two = (
        next(e.result.model_state() for e in events if e.result.stage.kind == "fine_tune")
        for events in (alone, together)
    )
    for name, tensor in one.tensors.items():
        torch.testing.assert_close(two.tensors[name], tensor, rtol=2e-2, atol=5e-3, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.check
def test_local_norms_see_the_images_of_their_rank(tmp_path: Path) -> None:
    """Two ranks by hand: each share through the network on its own, and the first share's running statistics."""
    local = SHORT | {"epochs": 1, "batch_size": 8, "norm": "local", "momentum": 0.0, "learning_rate": 0.05}
    trial = short_trial({"name": "fine_tune"}, network="digits_resnet", data={"train_images": 32}, optimisation=local)
    ((_, together),) = on_one_and_two_ranks([trial], tmp_path)
    tuned = next(e.result for e in together if e.result.stage.kind == "fine_tune")
    before = next(e.result.model_state() for e in together if e.result.stage.kind == "fit_head")
    model = before.build().train()
    shares = [ProcessGroup(rank=rank, world_size=2, device=torch.device("cpu")) for rank in (0, 1)]
    found = task_data.splits(Recipe(trial).task).train
    for parts in zip(
        *(task_data.batches(found, 8, tuned.stage.training.seed, 0, "none", r) for r in shares), strict=True
    ):
        first, second = parts
        gradients = gradients_of(model, first)
        kept = copy.deepcopy(dict(model.named_buffers()))
        gradients = [mine + other for mine, other in zip(gradients, gradients_of(model, second), strict=True)]
        for name, buffer in model.named_buffers():
            buffer.copy_(kept[name])
        with torch.no_grad():
            for (name, p), gradient in zip(model.named_parameters(), gradients, strict=True):
                p -= (0.005 if name in before.head_names() else 0.05) * (gradient + 0.005 * p)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(
            tuned.model_state().tensors[name], tensor, rtol=2e-3, atol=2e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


def gradients_of(model: nn.Module, part: task_data.Batch) -> list[Tensor]:
    loss = F.cross_entropy(model(part.images), part.labels, reduction="sum") / part.global_count
    return list(torch.autograd.grad(loss, list(model.parameters())))


# --- compilation ---


@pytest.mark.check
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("network", "settings"),
    [
        ("friedman_mlp", {"data": FEW | {"name": "friedman1"}, "pruning": {"linear": True}}),
        pytest.param("digits_vgg_bn", {"data": FEW}, marks=pytest.mark.long),
    ],
    ids=["friedman_mlp", "digits_vgg_bn"],
)
def test_compiled_equals_eager(network: str, settings: dict[str, Any], run: Run, tmp_path: Path) -> None:
    """The head's fit of a whole network, and the tuning of a pruned one."""
    method = {"name": "prune", "asked_removed_macs_fraction": 0.3}
    tunings = []
    for compile_it in (False, True):
        optimisation = {"epochs": 1, "head_epochs": 1, "batch_size": 33, "compile": compile_it}
        trial = short_trial(method, network=network, optimisation=optimisation, **settings)
        events = run(trial, Cache(tmp_path))
        tunings.append(
            [e.result.model_state().tensors for e in events if e.result.stage.kind in ("fit_head", "fine_tune")]
        )
    for eager, fast in zip(*tunings, strict=True):
        assert eager.keys() == fast.keys()
        for name, tensor in eager.items():
            torch.testing.assert_close(fast[name], tensor, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


class Wide(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(4, width)

    def forward(self, rows: Tensor) -> Tensor:
        return self.layer(rows).relu()


@pytest.mark.check
def test_each_width_is_compiled_once_for_whole_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch runs a function as it is once it was compiled too often; here, after two times."""
    import torch._dynamo
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    monkeypatch.setattr(compilation, "MOST_KINDS", 2)
    monkeypatch.setattr(compilation, "_kept_kinds", set())
    compiled = []
    with torch._dynamo.config.patch(recompile_limit=2, fail_on_recompile_limit_hit=True):
        for width in (3, 5, 3, 7, 7):
            module, before = Wide(width), counters["frames"]["ok"]
            fast = CompiledModel(module, {2})
            for images in (2, 1, 2):  # of one image the last batch, which is shorter
                torch.testing.assert_close(fast(torch.ones(images, 4)), module(torch.ones(images, 4)))
            compiled.append(counters["frames"]["ok"] - before)
    assert compiled == [1, 1, 0, 1, 0]
    assert [name for name, _ in fast.named_parameters()] == ["model.layer.weight", "model.layer.bias"]


@pytest.mark.parametrize(
    ("parts", "ranks", "sizes"), [(1, (0, 1), {32}), (1, (0, 3), {11}), (1, (2, 3), {10}), (4, (0, 3), {2, 3})]
)
def test_the_sizes_that_are_compiled_for(parts: int, ranks: tuple[int, int], sizes: set[int]) -> None:
    group = ProcessGroup(rank=ranks[0], world_size=ranks[1], device=torch.device("cpu"))
    assert whole_sizes(Training(epochs=1, batch_size=32, seed=0, accumulation_steps=parts), group) == sizes


@pytest.mark.check
def test_a_missing_compiler_is_named_before_training(tmp_path: Path) -> None:
    (tmp_path / "trial.toml").write_text(
        '[method]\nname = "head_only"\n[optimisation]\ncompile = true\nhead_epochs = 1\n[source]\nepochs = 1\n'
    )
    command = [sys.executable, "-m", "transtailor", "trial", "run", "trial.toml", "--device", "cpu"]
    here = str(Path(__file__).parents[3])
    environment = os.environ | {"CXX": str(tmp_path / "no-such-g++"), "PYTHONPATH": here, "OMP_NUM_THREADS": "1"}
    environment |= {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "compiled")}
    finished = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 2, finished.stderr
    assert "optimisation.compile = true needs a C++ compiler" in finished.stderr
    assert "no-such-g++: not found" in finished.stderr
    assert "train_source" not in finished.stdout
    assert "Traceback" not in finished.stderr


# --- beside the regularisers ---


@pytest.mark.check
@pytest.mark.parametrize("regulariser", ["delta", "slimming"])
def test_regularisers_in_bf16_and_channels_last(regulariser: str, run: Run, shared_cache: Cache) -> None:
    """Near the same training in float32, by the way that the weights went."""
    found, strong = [], {"name": regulariser, "strength": 0.1}
    for other in ({}, {"precision": "bf16", "memory_format": "channels_last"}):
        optimisation = {"epochs": 1, "head_epochs": 2, "batch_size": 33, "learning_rate": 0.02} | other
        trial = short_trial(
            {"name": "fine_tune"},
            network="digits_vgg_bn",
            data=FEW,
            optimisation=optimisation | {"regulariser": strong},
        )
        by_kind = {event.result.stage.kind: event.result.model_state().tensors for event in run(trial, shared_cache)}
        found.append((by_kind["fit_head"], by_kind["fine_tune"]))
    (before, plain), (_, fast) = found
    names = [name for name in plain if name.endswith(("weight", "bias"))]
    way = sum(float((plain[name] - before[name]).double().square().sum()) for name in names)
    apart = sum(float((plain[name] - fast[name]).double().square().sum()) for name in names)
    assert 0.0 < apart < 0.05 * way
