"""What tools/golden.py runs: specs cut short, the pictures that they need, and what is asked of each run."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

ANSWERS = {
    "plan": "run SPEC --plan",
    "status": "status RUN",
    "front": "front RUN",
    "front --cost": "front RUN --cost params",
    "compare": "compare RUN --against CONTROL",
    "compare --anytime": "compare RUN --against CONTROL --anytime",
    "compare --across": "compare RUN --against CONTROL --across datasets",
    "compare --donors": "compare RUN --donors",
    "compare --stops": "compare RUN --stops",
    "effects": "effects RUN",
    "table": "table RUN",
    "images": "images RUN OTHER CONTROL",
    "power": "power RUN --against CONTROL",
    "best": "best RUN",
    "best --under": "best RUN --under macs=0.8",
    "printed": "printed RUN",
    "settled": "settled RUN",
}
"""Answers by name, as cb2cae13 types them; --format json comes after each."""


@dataclass(frozen=True)
class Part:
    """A spec of golden_specs, or the made-up trials, and what is asked of its run.

    Attributes:
        name: of part, spec and run.
        asked: names of ANSWERS, in which CONTROL and OTHER are these.
        launches: how it is launched; the first one is compared with cb2cae13's, the others with the first one.
        prepare: words after `data prepare`, each before the launch.
    """

    name: str
    asked: tuple[str, ...]
    control: str = ""
    other: str = ""
    launches: tuple[str, ...] = ("serial",)
    prepare: tuple[str, ...] = ()

    @property
    def spec(self) -> Path:
        """Its file, which the made-up trials do not have."""
        return SPECS / f"{self.name}.toml"


SPECS = Path(__file__).with_name("golden_specs")
DISTURBED = ("serial", "ray", "killed")
PREPARED = "--to datasets --image-px 32"
OF_PLAIN = f"{PREPARED} --source-from pictures/plain"
DONORS = ("plain", "inverted", "turned")
OF_ANY_RUN = (
    "front", "front --cost", "compare", "compare --anytime", "compare --stops", "effects", "table", "power", "best",
    "best --under", "printed",
)  # fmt: skip
PARTS = (
    Part("demo", ("plan", "status", "images", *OF_ANY_RUN), "fine_tune", "head_only", (*DISTURBED, "slurm")),
    Part("tour", ("plan", "status", "front", "compare", "effects", "table"), "full fine-tuning"),
    Part("halving", ("plan", "status", "front", "table", "best", "effects"), launches=DISTURBED),
    Part("settle", ("plan", "status", "settled", "compare", "table"), "fine_tune", launches=DISTURBED),
    Part(
        "donors", ("compare --donors", "compare --across", "compare", "table"), "prune random",
        prepare=tuple(f"{name} --from pictures/{name} {PREPARED} --source-classes 0,1,2,3,4" for name in DONORS),
    ),
    Part(
        "prepared", ("front", "table"),
        prepare=(
            f"classes --from pictures/plain {PREPARED} --source-classes 0,1,2",
            f"splits --from pictures/splits {OF_PLAIN}",
            f"table --from pictures/table --labels pictures/table.csv {OF_PLAIN}",
            f"photographs --from pictures/photographs {OF_PLAIN} --test-fraction 0.4",
            f"birds --layout cub200 --unofficial --from pictures/birds {OF_PLAIN}",
        ),
    ),
    Part("tuning", ("plan", "front", "compare", "table", "images"), "fine_tune", "head_only"),
    Part("transformer", ("front", "compare", "effects"), "prune random tune_first"),
    Part("two_ranks", ("status", "front", "compare"), "fine_tune"),
    Part("made_up", OF_ANY_RUN, "fine_tune", launches=("read", "written")),
)  # fmt: skip


def make_pictures(root: Path) -> None:
    """Make the folders that `data prepare` reads: digits, and photographs of many kinds; the same at each call."""
    digits = load_digits()
    pixels = np.kron((digits.images * 15.9).astype(np.uint8), np.ones((1, 2, 2), np.uint8))
    numbers = [number for label in range(10) for number in np.flatnonzero(digits.target == label)[:16]]
    for number in numbers:
        label, name = digits.target[number], f"{number}.png"
        _save(pixels[number], root / "plain" / str(label) / name)
        _save(255 - pixels[number], root / "inverted" / str(label) / name)
        _save(np.rot90(pixels[number]), root / "turned" / str(label) / name)
    few = [number for number in numbers if digits.target[number] < 4]
    split_of = {number: ("train", "train", "test", "val")[place % 4] for place, number in enumerate(few)}
    for number in few:
        _save(pixels[number], root / "splits" / split_of[number] / f"digit {digits.target[number]}" / f"{number}.png")
        _save(pixels[number], root / "table" / f"{number}.png")
    lines = [f"{number}.png,digit {digits.target[number]},{split_of[number]}" for number in few]
    (root / "table.csv").write_text("\n".join(["image,class,split", *lines, ""]))
    _make_birds(root / "birds" / "CUB_200_2011", pixels, {number: digits.target[number] for number in few})
    _make_photographs(root / "photographs")


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _make_birds(root: Path, pixels: np.ndarray, labels: dict[int, int]) -> None:
    """A set by name, in the layout of CUB-200-2011 with made-up images: the published ones are too large to carry."""
    names = [f"{label + 1:03d}.Digit_{label}/digit_{number}.jpg" for number, label in labels.items()]
    for number, name in zip(labels, names, strict=True):
        _save(pixels[number], root / "images" / name)
    (root / "images.txt").write_text("".join(f"{place} {name}\n" for place, name in enumerate(names, 1)))
    (root / "train_test_split.txt").write_text(
        "".join(f"{place} {int(place % 3 > 0)}\n" for place in range(1, len(names) + 1))
    )


def _make_photographs(root: Path) -> None:
    """Waves in mixed sizes: JPEG with each EXIF orientation, in CMYK, grey; PNG with transparency; GIF, TIFF, WebP."""
    kinds = [("RGB", "jpg", orientation) for orientation in range(1, 9)]
    kinds += [
        ("CMYK", "jpg", 1),
        ("L", "jpg", 1),
        ("RGBA", "png", 1),
        ("P", "gif", 1),
        ("RGB", "tif", 1),
        ("RGB", "webp", 1),
    ]
    for place in range(4 * len(kinds)):
        label, (mode, suffix, orientation) = f"wave {place % 4}", kinds[place // 4]
        draw = np.random.default_rng(place)
        width, height = (int(side) for side in draw.integers(24, 90, 2))
        across, down = np.meshgrid(np.linspace(0, 6, width), np.linspace(0, 6, height))
        waves = [
            np.sin((place % 4 + 1) * across * draw.uniform(0.8, 1.2) + draw.uniform(0, 3) * down) for _ in range(3)
        ]
        image = Image.fromarray((127.5 + 127.5 * np.stack(waves, axis=2)).astype(np.uint8)).convert(mode)
        if mode == "RGBA":
            image.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))))
        exif = image.getexif()
        exif[0x0112] = orientation
        path = root / label / f"{place}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, exif=exif) if suffix in ("jpg", "webp") else image.save(path)
