"""A training step on a GPU: ours compared with a bare compiled loop, with and without torchvision's DataLoader.

    python benchmarks/gpu_step.py                               # about seven minutes on a large GPU
    python benchmarks/gpu_step.py --networks resnet50           # one network of the four
    python benchmarks/gpu_step.py --device cpu --quick          # a tiny network: only to check that it runs

Ours reads random photographs from the GPU's memory as uint8, crops, mirrors and normalises each batch, and trains like
a spec with bf16, channels_last and compile. The bare loop takes the same step on finished batches in the GPU's memory.
The two sides run one after the other, each alone on the GPU.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import gc
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks.record import Row, parser_of, spread, table_of, verdict, write
from tailor.data.device_images import DeviceImages
from tailor.data.task_data import Samples, batches
from tailor.facts.networks import NETWORKS
from tailor.model.passes import wait_for
from tailor.networks import building
from tailor.parallel.process_group import ProcessGroup, join
from tailor.stages import Training
from tailor.training.checkpoint import Checkpoint
from tailor.training.loop import group, optimiser_for, train

GOAL, INPUT_GOAL = 0.95, 0.02  # of the bare loop's images per second; of a step
CLASSES, SEED, RATE, MOMENTUM, WEIGHT_DECAY = 100, 0, 0.0005, 0.9, 0.005
READY_BATCHES = 2  # of the bare loop, in turns


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What to measure."""

    networks: tuple[str, ...]
    image_px: int  # stored
    crop_px: int  # seen by the network
    batch: int
    steps: int  # of an epoch
    epochs: int  # timed; one more before them is not
    workers: int  # of the DataLoader


@dataclass(frozen=True, kw_only=True)
class Side:
    """How one side trained."""

    first_step_s: float
    epochs_s: list[float]  # of the timed ones
    peak_mib: float | None  # of the device; None on a CPU


USUAL = Setting(
    networks=("resnet50", "resnet101", "vgg16", "vit_b_16"),
    image_px=256,
    crop_px=224,
    batch=64,
    steps=32,
    epochs=6,
    workers=min(12, len(os.sched_getaffinity(0))),
)
QUICK = Setting(networks=("digits_vgg",), image_px=12, crop_px=8, batch=8, steps=3, epochs=2, workers=1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    parser = parser_of(__doc__, "gpu_step", quick="a tiny network and few steps")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu goes with --quick")
    parser.add_argument("--networks", nargs="+", metavar="NAME", help="some networks instead of all")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("torch sees no GPU; to see that this runs: --device cpu --quick", file=sys.stderr)
        return 2
    if options.device == "cpu" and not options.quick:
        print("on a CPU this takes hours; add --quick", file=sys.stderr)
        return 2
    if options.device == "cpu":
        torch.set_num_threads(1)  # two, on cores that do other things, wait for each other: steps of 3 to 80 ms
    setting, ranks, rows = QUICK if options.quick else USUAL, join(options.device), []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder  # each network is compiled for the first time
        for network in options.networks or setting.networks:
            rows.append(measure(network, setting, ranks))
            print(f"{network}: ours / bare = {rows[-1]['ratio']:.3f}", file=sys.stderr, flush=True)
    write(table_of("A step on a GPU", rows, _notes(setting, ranks)), options.out, packages=("torch", "torchvision"))
    return 0


def measure(network: str, setting: Setting, ranks: ProcessGroup) -> Row:
    """A row of the table, of medians over epochs."""
    samples = draw(network, setting)
    warm_up(ranks.device)
    placed = DeviceImages(ranks.device).place(samples)
    few = placed.take(torch.arange(setting.batch, device=placed.labels.device))
    eager = train_ours(network, few, training(setting.batch, 1, compile=False), ranks)
    ours = train_ours(network, placed, training(setting.batch, 1 + setting.epochs, compile=True), ranks)
    input_s = statistics.median(input_seconds(placed, setting, ranks, epoch) for epoch in range(1 + setting.epochs))
    waits = waits_per_step(network, placed, setting, ranks)
    price = price_of_determinism(network, placed, setting, ranks)
    del placed, few
    bare, loader_s = train_bare(network, samples, setting, ranks.device)
    ours_s, bare_s = statistics.median(ours.epochs_s), statistics.median(bare.epochs_s)
    images = setting.batch * setting.steps
    ratio = bare_s / ours_s
    input_share = input_s / ours_s
    is_gpu = ranks.device.type == "cuda"  # the goals are about one
    return {
        "network": network,
        "device": ranks.device.type,
        "ours_images_per_s": images / ours_s,
        "bare_images_per_s": images / bare_s,
        "ratio": ratio,
        "goal": GOAL,
        "verdict": verdict(ratio >= GOAL) if is_gpu else None,
        "ours_epochs_s": spread(ours.epochs_s),
        "bare_epochs_s": spread(bare.epochs_s),
        "loader_images_per_s": images / loader_s,
        "input_share_of_step": input_share,
        "input_goal": INPUT_GOAL,
        "input_verdict": verdict(input_share <= INPUT_GOAL) if is_gpu else None,
        "ours_peak_mib": ours.peak_mib,
        "bare_peak_mib": bare.peak_mib,
        "first_step_compiled_s": ours.first_step_s,
        "first_step_eager_s": eager.first_step_s,
        "waits_per_step": waits,
        "deterministic_over_free": price,
    }


def draw(network: str, setting: Setting) -> Samples:
    """Random photographs for an epoch, on the host."""
    shape = (setting.batch * setting.steps, NETWORKS[network].input_shape[0], setting.image_px, setting.image_px)
    random = torch.Generator().manual_seed(SEED)
    return Samples(
        images=torch.randint(0, 256, shape, generator=random, dtype=torch.uint8),
        labels=torch.randint(0, CLASSES, shape[:1], generator=random),
        ids=torch.arange(shape[0]),
        crop_px=setting.crop_px,
    )


def training(batch: int, epochs: int, *, compile: bool) -> Training:
    """The training of a spec with bf16, channels_last and, optionally, compile."""
    return Training(
        epochs=epochs,
        batch_size=batch,
        learning_rate=RATE,
        head_learning_rate=RATE,
        momentum=MOMENTUM,
        weight_decay=WEIGHT_DECAY,
        schedule="constant",
        seed=SEED,
        precision="bf16",
        memory_format="channels_last",
        compile=compile,
    )


def train_ours(network: str, samples: Samples, training: Training, ranks: ProcessGroup) -> Side:
    """`tailor.training.loop.train`, its epochs as its history has them; the first step ends with the device's."""
    forget(ranks.device)
    model = building.build(network, CLASSES, seed=SEED).to(ranks.device).train()
    optimiser = optimiser_for([group(list(model.parameters()), training.learning_rate)], training)
    stepped_s: list[float] = []

    def note(*_: object) -> None:
        wait_for(ranks.device)
        stepped_s.append(time.perf_counter())
        hook.remove()

    hook = optimiser.register_step_post_hook(note)
    begun_s, keep_none = time.perf_counter(), Checkpoint(None, 30.0, ranks)
    history = train(model, optimiser, samples, training, "crop_flip", keep_none)
    return Side(
        first_step_s=stepped_s[0] - begun_s,
        epochs_s=[epoch["seconds"] for epoch in history[1:]],
        peak_mib=peak_mib(ranks.device),
    )


def waits_per_step(network: str, samples: Samples, setting: Setting, ranks: ProcessGroup) -> float | None:
    """How often the host waits for the GPU from the first step on, agreements included; None on a CPU."""
    if ranks.device.type == "cpu":
        return None

    def count_from_here(*_: object) -> None:  # not before: the model's tensors are moved one by one
        torch.cuda.set_sync_debug_mode("warn")
        hook.remove()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        hook = register_optimizer_step_pre_hook(count_from_here)
        train_ours(network, samples, training(setting.batch, 1, compile=False), ranks)
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(warning.message) for warning in caught) / setting.steps


def price_of_determinism(network: str, samples: Samples, setting: Setting, ranks: ProcessGroup) -> float | None:
    """Seconds of an epoch with torch's deterministic algorithms, by those without; uncompiled, None on a CPU."""
    if ranks.device.type == "cpu":
        return None
    medians_s = []
    for is_asked in (True, False):
        torch.use_deterministic_algorithms(is_asked, warn_only=True)
        trained = train_ours(network, samples, training(setting.batch, 1 + setting.epochs, compile=False), ranks)
        medians_s.append(statistics.median(trained.epochs_s))
    torch.use_deterministic_algorithms(True, warn_only=True)  # as `join` asked for it
    return medians_s[0] / medians_s[1]


def input_seconds(samples: Samples, setting: Setting, ranks: ProcessGroup, epoch: int) -> float:
    """Our batches of an epoch, made one after the other and not used."""
    begun_s = time.perf_counter()
    for _ in batches(samples, setting.batch, SEED, epoch, "crop_flip", ranks):
        pass
    wait_for(ranks.device)
    return time.perf_counter() - begun_s


def train_bare(network: str, samples: Samples, setting: Setting, device: torch.device) -> tuple[Side, float]:
    """The bare step on finished batches; then the seconds of an epoch that a DataLoader feeds."""
    forget(device)
    model = building.build(network, CLASSES, seed=SEED).to(device).train()
    model.to(memory_format=torch.channels_last)
    compiled = torch.compile(model)
    optimiser = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)

    def seconds(feed: Iterable[tuple[Tensor, Tensor]]) -> float:
        begun_s = time.perf_counter()
        for images, labels in feed:
            there = images.to(device, non_blocking=True, memory_format=torch.channels_last)
            with torch.autocast(device.type, torch.bfloat16):
                logits = compiled(there)
            loss = F.cross_entropy(logits.float(), labels.to(device, non_blocking=True))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        wait_for(device)
        return time.perf_counter() - begun_s

    shape = (setting.batch, samples.images.shape[1], setting.crop_px, setting.crop_px)
    labels = samples.labels[: setting.batch].to(device)
    drawn = (torch.randn(shape, device=device) for _ in range(READY_BATCHES))
    ready = [(images.to(memory_format=torch.channels_last), labels) for images in drawn]
    first_step_s = seconds(ready[:1])
    epochs_s = [seconds(islice(cycle(ready), setting.steps)) for _ in range(1 + setting.epochs)][1:]
    bare = Side(first_step_s=first_step_s, epochs_s=epochs_s, peak_mib=peak_mib(device))
    loader = loader_of(samples, setting, device)
    return bare, statistics.median([seconds(loader) for _ in range(1 + setting.epochs)][1:])


class Photographs(Dataset[tuple[Tensor, Tensor]]):
    """The images as torchvision's users load them: one after the other, each through the transforms."""

    def __init__(self, samples: Samples, crop_px: int) -> None:
        self._images, self._labels = samples.images, samples.labels
        self._transforms = v2.Compose([
            v2.RandomCrop(crop_px),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5], [0.5]),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self._transforms(self._images[index]), self._labels[index]


def loader_of(samples: Samples, setting: Setting, device: torch.device) -> DataLoader[tuple[Tensor, Tensor]]:
    """A DataLoader of the cut and mirrored images, its workers kept from epoch to epoch."""
    return DataLoader(
        Photographs(samples, setting.crop_px),
        setting.batch,
        shuffle=True,
        num_workers=setting.workers,
        persistent_workers=setting.workers > 0,
        pin_memory=device.type == "cuda",
    )


def warm_up(device: torch.device) -> None:
    """Load the device's libraries, for which the first step of any process waits."""
    images = torch.randn(8, 8, 32, 32, device=device, requires_grad=True)
    weight = torch.randn(8, 8, 3, 3, device=device)
    with torch.autocast(device.type, torch.bfloat16):
        F.linear(F.conv2d(images, weight).flatten(1)[:, :8], weight[:, :, 0, 0]).sum().backward()  # type: ignore[no-untyped-call]
    wait_for(device)


def forget(device: torch.device) -> None:
    """Remove all traces of the previous side: compiled code, memory, its peak."""
    torch.compiler.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_mib(device: torch.device) -> float | None:
    """The most memory that tensors held on a GPU since `forget`."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None


def _notes(setting: Setting, ranks: ProcessGroup) -> tuple[str, ...]:
    is_gpu = ranks.device.type == "cuda"
    name = torch.cuda.get_device_name(ranks.device) if is_gpu else "no GPU, so this says nothing about speed"
    stored_mib = setting.batch * setting.steps * setting.image_px**2 * 3 / 2**20
    return (
        f"{name}. {setting.batch} images in a step, {setting.crop_px} x {setting.crop_px} pixels, bf16 autocast, "
        f"channels_last, torch.compile, SGD; medians over {setting.epochs} epochs of {setting.steps} steps, after one "
        "that is not counted. ratio: ours / bare in images/s. Each side alone on the device, one after the other.",
        f"ours: `tailor.training.loop.train` on {setting.batch * setting.steps} random photographs of "
        f"{setting.image_px} x {setting.image_px} pixels, uint8, resident on the device, cut and mirrored at random; "
        "with its metrics and checks, without checkpoints.",
        f"bare: the same step on {READY_BATCHES} normalised batches in the device's memory. loader: the bare step fed "
        f"by torchvision's transforms in a DataLoader with {setting.workers} workers, from the host's memory.",
        "input_share_of_step: our batches made alone, the device waited for at the end of the epoch, by our epoch: an "
        "upper bound, since the host makes a batch while the device computes.",
        f"Peaks are of tensors; ours holds the photographs, too ({stored_mib:.0f} MiB of 3 channels). First step: from "
        "the call of `train` until the device is done; its libraries are loaded, nothing is in the compiler's cache.",
        "waits_per_step: of the host for the device after the first step, by CUDA's own count. "
        "deterministic_over_free: an epoch with torch's deterministic algorithms by one without. Both uncompiled.",
    )


if __name__ == "__main__":
    sys.exit(main())
