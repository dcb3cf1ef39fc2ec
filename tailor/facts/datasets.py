"""Data sets by name: those of the catalog, and prepared image folders below a root. Without torch."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from tailor.common.errors import ConfigError
from tailor.common.plugin_digests import digest_of
from tailor.common.registry import Registry
from tailor.facts import manifest
from transtailor.names import nearest
from transtailor.shell import command


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """A data set by name, with a source task and a target task."""

    description: str
    loader: str | Callable[..., Any]  # a function or "module:function"; -> {"source": Samples, "target": Samples}
    sha256: str | None  # of the arrays that the loader must return; None: identified by the user's module
    input_shape: tuple[int, ...]  # of one image, (channels, height, width), or of one row of numbers
    source_classes: int  # 0: no source task; 1: real values, for which a network has one output
    target_classes: int
    source_images: int
    target_images: int
    test_images: int  # of the target, fixed by the split seed and independent of `train_images`
    pool: Mapping[str, int] = field(default_factory=dict)  # of a prepared pool: the target's images of each class
    class_names: tuple[str, ...] = ()  # of the target, in the order of the labels; () if they are not known
    files_sha256: str = ""  # of a prepared one: its digest of files; "" if it has none
    is_there: bool = True  # False: only known from the facts of official data sets, or expected by the user

    def __post_init__(self) -> None:
        for name in ("input_shape", "class_names"):  # a list is as good
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def label_names(self) -> tuple[str, ...]:
        """The target's classes in the order of the labels: names, or numbers where they have none; () if not there."""
        numbers = tuple(map(str, range(self.target_classes if self.is_there else 0)))
        return self.class_names or numbers


DATASETS: Registry[DataInfo] = Registry("data set")

for _name, _facts in json.loads((Path(__file__).parent / "embedded_datasets.json").read_bytes()).items():
    DATASETS.add(_name, DataInfo(**_facts))


def info(name: str, root: str | None = None) -> DataInfo:
    """Return what is known of a data set before its samples are read.

    A user's data set without a pinned digest is identified by the digest of the module that registers it.

    >>> info("digits").target_classes
    5

    Args:
        name: of the catalog, or of a data set that `transtailor data prepare` wrote below `root`.
        root: the folder of prepared data sets; None looks only into the catalog.

    Raises:
        ConfigError: there is no such data set; the text says how to prepare one.
    """
    if root is not None:
        time_ns = _manifest_time_ns(name, root)
        if name in DATASETS and not time_ns:
            raise ConfigError(
                f"no data set {name!r} is prepared in {root}, and the one of the catalogue has no folder; leave "
                "data.root out for it, and set it beside the data sets that are prepared there"
            )
        return _prepared_data(name, root, time_ns)
    if name not in DATASETS:
        raise ConfigError(
            f"no such data set: {name!r}{nearest(name, DATASETS)}; your own images need data.root = ROOT, after: "
            + command("data", "prepare", name, "--from", "FOLDER", "--to", "ROOT")
        )
    data_info = DATASETS[name]
    if data_info.sha256 is None:
        return replace(data_info, sha256=digest_of(DATASETS, name))
    return data_info


def info_or_expected(name: str, root: str, image_px: int, **counts: int) -> DataInfo:
    """Return what is known of a prepared data set, or, if it is not there, what is expected of it.

    Args:
        name: of the data set.
        root: the folder of prepared data sets.
        image_px: side of the prepared images.
        counts: `classes`, `images` and `test_images` of the target, `source_classes` and `source_images`.

    Raises:
        ConfigError: it is there and damaged.
    """
    time_ns = _manifest_time_ns(name, root)
    return _prepared_data(name, root, time_ns) if time_ns else _expected_data(name, image_px, **counts)


@lru_cache(maxsize=16)
def _expected_data(
    name: str,
    image_px: int,
    *,
    classes: int,
    images: int,
    test_images: int = 0,
    source_classes: int = 0,
    source_images: int = 0,
) -> DataInfo:
    return DataInfo(
        description=f"{name}, not prepared yet",
        loader="tailor.data.prepared:load",
        sha256=hashlib.sha256(f"not prepared: {name} {image_px}".encode()).hexdigest(),
        input_shape=(3, image_px, image_px),
        source_classes=source_classes,
        target_classes=classes,
        source_images=source_images,
        target_images=images,
        test_images=test_images,
        is_there=False,
    )


def _manifest_time_ns(name: str, root: str) -> int:
    """Return when the manifest was written, in nanoseconds; 0 if there is none."""
    try:
        return (manifest.folder_of(Path(root), name) / manifest.MANIFEST_FILE).stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=16)
def _prepared_data(name: str, root: str, _time_ns: int) -> DataInfo:
    """Return what the manifest says. With the time of writing as argument, a new manifest is read again."""
    prepared = manifest.read(Path(root), name)
    return DataInfo(
        description=f"prepared images in {prepared.name}",
        loader="tailor.data.prepared:load",
        sha256=prepared.digest,
        input_shape=prepared.input_shape,
        source_classes=prepared.source_classes,
        target_classes=prepared.target_classes,
        source_images=prepared.source_images,
        target_images=prepared.target_images,
        test_images=prepared.test_images,
        pool=prepared.pool,
        class_names=prepared.classes[manifest.TARGET],
        files_sha256=prepared.files_digest,
    )
