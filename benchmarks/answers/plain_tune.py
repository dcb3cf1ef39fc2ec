"""The question of benchmarks/answer.py, asked with Ray Tune, torch and Torch-Pruning as their documentation teaches.

    python plain_tune.py --tasks tasks.npz --out scores.csv [--asha]

A user of Ray Tune writes such a script: a function trainable, a grid over arms, networks and seeds, a loop in torch,
surgery by Torch-Pruning. A good one does what is done here: each source network is trained once and read by all trials;
a trial fits its head once, on features that are computed once, and then serves all budgets; actors are reused; the
images are one tensor in memory.

tasks.npz has the same images and splits as the other side: for each seed train, validation and test.

Read for fairness before it was measured, as a user of Ray Tune would; what that changed: ASHA's max_t counts the last
report of the longest arm, which it stopped before. Left as the documentation has it: surgery in steps of a hundredth,
with MACs counted after each, which is about a quarter of a trial's time; and the importances' default, which divides
each layer's by their mean.
"""

import argparse
import copy
import sys
from pathlib import Path

import numpy as np
import torch
import torch_pruning as tp
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from torch import nn
from torch.nn import functional

from tailor.networks.embedded import DigitsResNet, DigitsVGG  # two modules of torch, as a user has them in a file

ARMS = ("fine_tune", "taylor", "l1", "random", "taylor after tuning", "transtailor")
NETWORKS = {"digits_vgg": DigitsVGG, "digits_resnet": DigitsResNet}
EXAMPLE = torch.zeros(1, 1, 8, 8)
BUDGETS = (0.2, 0.4)  # shares of the MACs that are removed
HEAD_EPOCHS, EPOCHS, LONG_EPOCHS, ALPHA_EPOCHS, SOURCE_EPOCHS = 40, 25, 70, 10, 12


def train(model, images, labels, epochs, seed, groups, decay=0.005, cosine=False, after_backward=None):
    optimiser = torch.optim.SGD(groups, momentum=0.9, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs) if cosine else None
    draw = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels), generator=draw).split(32):
            optimiser.zero_grad()
            functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            if after_backward is not None:
                after_backward()
            optimiser.step()
        if schedule is not None:
            schedule.step()
        yield


def tune_all(model, task, epochs, seed, after_backward=None):
    head = head_of(model)
    of_head = {id(parameter) for parameter in head.parameters()}
    groups = [
        {"params": head.parameters(), "lr": 0.005},
        {"params": [p for p in model.parameters() if id(p) not in of_head], "lr": 0.0005},
    ]
    model.train()
    yield from train(model, *task["train"], epochs, seed, groups, after_backward=after_backward)


def head_of(model):
    return model.classifier[-1] if isinstance(model, DigitsVGG) else model.head


def fit_head(model, task, seed):
    """Train a new head on features, which do not change meanwhile."""
    head = head_of(model)
    head.reset_parameters()
    features = []
    hook = head.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0].detach()))
    accuracy(model, *task["train"])
    hook.remove()
    group = {"params": head.parameters(), "lr": 0.005}
    for _ in train(head, torch.cat(features), task["train"][1], HEAD_EPOCHS, seed, [group]):
        pass


@torch.no_grad()
def accuracy(model, images, labels):
    model.eval()
    return (model(images).argmax(1) == labels).float().mean().item()


class Factors(tp.importance.Importance):
    """TransTailor: a factor behind each filter is trained, all else is frozen; |gradient x factor| counts."""

    def __init__(self, model, task, seed):
        convs = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
        behind = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)] or convs
        factors = [nn.Parameter(torch.ones(conv.out_channels)) for conv in convs]
        hooks = [
            module.register_forward_hook(lambda _, __, out, factor=factor: out * factor[:, None, None])
            for module, factor in zip(behind, factors, strict=True)
        ]
        model.eval()
        for _ in train(model, *task["train"], ALPHA_EPOCHS, seed, [{"params": factors, "lr": 0.01}], decay=0.0):
            pass
        scores = [torch.zeros(len(factor)) for factor in factors]
        for images, labels in zip(*(part.split(32) for part in task["train"]), strict=True):
            gradients = torch.autograd.grad(functional.cross_entropy(model(images), labels), factors)
            for score, factor, gradient in zip(scores, factors, gradients, strict=True):
                score += (gradient * factor).detach().abs()
        self.scores = dict(zip(convs, scores, strict=True))
        for hook in hooks:
            hook.remove()

    def __call__(self, group):
        found = [self.scores[dep.layer][idxs] for dep, idxs in group if is_filters(dep)]
        return torch.stack(found).sum(0) if found else None

    def forget(self, group):
        """Drop the scores of the filters that the group is about to remove."""
        for dep, idxs in group:
            if is_filters(dep):
                gone = set(idxs)
                kept = [place for place in range(len(self.scores[dep.layer])) if place not in gone]
                self.scores[dep.layer] = self.scores[dep.layer][kept]

    def scale_gradients(self):
        """Let each filter learn as fast as its importance says, relative to its layer's mean."""
        for conv, score in self.scores.items():
            conv.weight.grad *= (score / score.mean()).clamp(0.1, 10)[:, None, None, None]


def is_filters(dep):
    return isinstance(dep.layer, nn.Conv2d) and dep.pruning_fn == tp.prune_conv_out_channels


def importance_of(arm, model, task, seed):
    if arm == "transtailor":
        return Factors(model, task, seed)
    if arm == "l1":
        return tp.importance.GroupMagnitudeImportance(p=1)  # each layer's divided by their mean
    if arm == "random":
        return tp.importance.RandomImportance()
    model.eval()
    model.zero_grad()
    functional.cross_entropy(model(task["train"][0]), task["train"][1]).backward()
    return tp.importance.GroupTaylorImportance()


def prune(model, importance, most_macs):
    """Remove the least important filters of all layers, a few at a time, until the network is small enough."""
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    pruner = tp.pruner.BasePruner(
        model, EXAMPLE, importance, global_pruning=True, pruning_ratio=0.9, max_pruning_ratio=0.9,
        iterative_steps=100, ignored_layers=linear,
    )  # fmt: skip
    while tp.utils.count_ops_and_params(model, EXAMPLE)[0] > most_macs:
        for group in pruner.step(interactive=True):
            if isinstance(importance, Factors):
                importance.forget(group)
            group.prune()


def trial(config):
    """One arm, network and seed: reports the test accuracy at each budget; for ASHA the validation of each epoch."""
    torch.set_num_threads(1)
    arm, seed = config["arm"], config["seed"]
    torch.manual_seed(seed)
    task = task_of(config["tasks"], seed)
    model = NETWORKS[config["network"]](5)
    model.load_state_dict(torch.load(config["sources"][config["network"]], weights_only=True))
    whole_macs = tp.utils.count_ops_and_params(model, EXAMPLE)[0]
    fit_head(model, task, seed)
    if arm == "taylor after tuning":
        for _ in tune_all(model, task, EPOCHS, seed):
            pass
    found = {}
    for budget in (None,) if arm == "fine_tune" else BUDGETS:
        pruned = model if arm == "transtailor" else copy.deepcopy(model)  # TransTailor goes on from its last budget
        slow_down = None
        if budget is not None:
            importance = importance_of(arm, pruned, task, seed)
            prune(pruned, importance, (1 - budget) * whole_macs)
            slow_down = importance.scale_gradients if arm == "transtailor" else None
        for _ in tune_all(pruned, task, LONG_EPOCHS if budget is None else EPOCHS, seed, slow_down):
            if config["asha"]:
                tune.report({**found, "score": accuracy(pruned, *task["validation"])})
        found[f"macs {budget}"] = tp.utils.count_ops_and_params(pruned, EXAMPLE)[0] / whole_macs
        found[f"test {budget}"] = accuracy(pruned, *task["test"])
    tune.report({**found, "score": accuracy(pruned, *task["validation"])})


def task_of(tasks, seed):
    arrays = np.load(tasks)
    return {
        split: (torch.from_numpy(arrays[f"{seed}.{split}.images"]), torch.from_numpy(arrays[f"{seed}.{split}.labels"]))
        for split in ("source", "train", "validation", "test")
    }


def train_source(network, tasks, path):
    torch.manual_seed(0)
    model = NETWORKS[network](5)
    group = {"params": model.parameters(), "lr": 0.05}
    for _ in train(model, *task_of(tasks, 0)["source"], SOURCE_EPOCHS, 0, [group], decay=0.0005, cosine=True):
        pass
    torch.save(model.state_dict(), path)
    return str(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--asha", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    tasks = str(asked.tasks.resolve())
    sources = {name: train_source(name, tasks, asked.out.resolve().with_name(f"{name}.pt")) for name in NETWORKS}
    axes = {"arm": ARMS, "network": list(NETWORKS), "seed": range(asked.seeds)}
    space = {name: tune.grid_search(list(values)) for name, values in axes.items()}
    rule = ASHAScheduler(max_t=LONG_EPOCHS + 1, grace_period=EPOCHS // 3, reduction_factor=3) if asked.asha else None
    tuner = tune.Tuner(
        tune.with_resources(trial, {"cpu": 1}),
        param_space={**space, "tasks": tasks, "sources": sources, "asha": asked.asha},
        tune_config=tune.TuneConfig(metric="score", mode="max", scheduler=rule, reuse_actors=True),
        run_config=tune.RunConfig(storage_path=str(asked.out.resolve().parent), verbose=0),
    )
    tuner.fit().get_dataframe().to_csv(asked.out, index=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
