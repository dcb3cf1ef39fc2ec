"""Data sets by name: those of the catalog, and prepared image folders below a root. Without torch."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from tailor.catalog import DATASETS, DataInfo
from tailor.errors import ConfigError
from tailor.imports import digest_of
from tailor.prepare import manifest
from tailor.registry import nearest


def info(name: str, root: str | None = None) -> DataInfo:
    """What is known of a data set before its samples are read.

    Args:
        name: of the catalog, or of a data set that `python -m tailor data prepare` wrote below `root`.
        root: the folder of prepared data sets; None looks into the catalog alone.

    A user's data set whose samples have no pinned digest is known by that of the module that brought it.

    Raises:
        ConfigError: there is no such data set; the text says how to prepare one.
    """
    if root is not None:
        return _prepared(name, root)
    if name not in DATASETS:
        raise ConfigError(
            f"no such data set: {name!r}{nearest(name, DATASETS)}; a folder of images is prepared with: "
            "python -m tailor data prepare NAME --from FOLDER --to ROOT, and used with data.root"
        )
    found = DATASETS[name]
    return found if found.sha256 is not None else replace(found, sha256=digest_of(DATASETS, name))


@lru_cache(maxsize=16)
def _prepared(name: str, root: str) -> DataInfo:
    found = manifest.read(Path(root), name)
    return DataInfo(
        description=f"prepared images in {found.name}",
        loader="tailor.prepare.samples:load",
        sha256=found.digest,
        input_shape=found.input_shape,
        source_classes=found.source_classes,
        target_classes=found.target_classes,
        source_images=found.source_images,
        target_images=found.target_images,
        test_images=found.test_images,
    )
