"""Small real image files, folders and archives of them, and the command as a user types it."""

import io
import tarfile
import zipfile
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from PIL import Image

from tailor.prepare.check import check as data_check
from tailor.prepare.prepare import prepare as data_prepare

BIRDS = """
name = "birds"
[trial]
network = "resnet18"
source.weights = "ResNet18_Weights.IMAGENET1K_V1"
method = "fine_tune"
data = {{ name = "birds", root = {root!r}, train_images = 6 }}
"""
"""A spec of a prepared data set; `root` is where it lies."""


def picture(number: int, size: tuple[int, int] = (40, 32), mode: str = "RGB") -> Image.Image:
    """A smooth picture of its own for each number: a few waves, as photographs are smooth where JPEG expects it."""
    draw = np.random.default_rng(number)
    across, down = np.meshgrid(np.linspace(0, 6, size[0]), np.linspace(0, 6, size[1]))
    waves = [np.sin(draw.uniform(0.5, 2) * across + draw.uniform(0.5, 2) * down + draw.uniform(0, 6)) for _ in range(3)]
    return Image.fromarray((127.5 + 127.5 * np.stack(waves, axis=2)).astype(np.uint8)).convert(mode)


def encoded(number: int, format: str = "JPEG", **settings: int) -> bytes:
    """The bytes of an image file."""
    content = io.BytesIO()
    picture(number).save(content, format, **settings)
    return content.getvalue()


def fill(root: Path, names: Iterable[str], first: int = 0) -> Path:
    """Writes a picture of its own under each name; returns `root`."""
    for number, name in enumerate(names, start=first):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(number))
    return root


def class_folders(
    root: Path, per_class: int = 5, classes: Iterable[str] = ("cat", "dog", "eel"), first: int = 0
) -> Path:
    """root/<class>/<n>.jpg."""
    return fill(root, [f"{name}/{number}.jpg" for name in classes for number in range(per_class)], first)


def pack(folder: Path, archive: Path) -> Path:
    """An archive of all files below `folder`, of the kind that its name says."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
            for path in files:
                zipped.write(path, path.relative_to(folder).as_posix())
        return archive
    with tarfile.open(archive, "w" if archive.suffix == ".tar" else "w:gz") as tar:
        for path in files:
            tar.add(path, path.relative_to(folder).as_posix())
    return archive


def data(name: str, *typed: object) -> str:
    """What `transtailor data NAME ...` writes; raises what it raises."""
    command = {"prepare": data_prepare, "check": data_check}[name]
    out = io.StringIO()
    with redirect_stdout(out), command.make_context(name, [str(word) for word in typed]) as context:
        assert command.callback is not None
        answer = context.invoke(command.callback, **context.params)
        lines = () if answer == 0 else answer
        out.writelines(f"{line}\n" for line in lines)
    return out.getvalue()


def prepare(name: str, origin: Path | list[Path], root: Path, *options: object) -> str:
    """`data prepare` with small images."""
    origins = origin if isinstance(origin, list) else [origin]
    small = () if "--image-px" in options else ("--image-px", 16)
    return data("prepare", name, "--from", *origins, "--to", root, *small, *options)
