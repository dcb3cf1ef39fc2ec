"""The data that the trials of a plan read."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from sweeps.spec.json_settings import JsonSettings
from tailor.config.data import DataConfig
from tailor.execution.untrained import limited_images, missed_text, split_images
from tailor.facts import datasets
from tailor.stages import canonical_json
from transtailor.plural import counted, first_few


def warnings_of_data(trials: Iterable[JsonSettings]) -> Iterator[str]:
    """Yield a warning if data sets are not as expected, and if draws miss classes.

    It describes the first of these draws. Results of other numbers of training images are another problem's.
    """
    draws = _data_of(trials)
    missed_texts = [partial(missed_text, split) for split in ("train", "validation")]
    texts_of: list[Callable[[DataConfig], str]] = [DataConfig.unexpected_text, *missed_texts]
    for text_of in texts_of:
        texts = [text for data in draws if (text := text_of(data))]
        if texts:
            yield texts[0] + (f"; {counted(len(texts) - 1, 'other draw')} of this sweep likewise" if texts[1:] else "")
    images_of = defaultdict[DataConfig, set[int]](set)
    for data in draws:
        images_of[data.model_copy(update={"split_seed": 0})].add(sum(limited_images(data)))
    for images in images_of.values():
        if len(images) > 1:
            yield (
                f"by data.split_seed, trials of data.images_per_class have {min(images)} to {max(images)} training "
                "images: results of each number stand apart, and are not averaged; lower data.images_per_class"
            )


def splits_text(trials: Iterable[JsonSettings]) -> str:
    """Return how many images each split of the data has, in words: validation may be left few, which decides."""
    texts = []
    for data in _data_of(trials):
        train, validation, test = split_images(data)
        texts.append(f"{data.name}: {train} for training, {validation} for validation, {test} for testing")
    return first_few([*dict.fromkeys(texts)], between="; ")  # each once: several split seeds have the same numbers


def verify_data(trials: Iterable[JsonSettings]) -> None:
    """Read the prepared data sets, of those without a digest in the spec all but the images.

    Raises:
        ConfigError: a file has changed.
    """
    from tailor.data import arrays
    from tailor.prepare import check

    prepared = {(data.root, data.name, data.sha256 is not None) for data in _data_of(trials) if data.root is not None}
    for root, name, has_digest in sorted(prepared):
        read = check.verify if has_digest else arrays.load
        read(Path(root), name)


def digests_of_data(trials: Iterable[JsonSettings]) -> dict[str, str]:
    """Return folder -> digest of the prepared data sets that trials read."""
    return {str(Path(data.root, data.name)): data.samples_sha256 for data in _data_of(trials) if data.root is not None}


def files_digest_of(name: str, root: str | None) -> str | None:
    """Return the digest of files of a data set; None if it is no prepared one, without a root, or has none."""
    return None if root is None else datasets.info(name, root).files_sha256 or None


def files_digests_of(trials: Iterable[JsonSettings]) -> dict[str, str | None]:
    """Return folder -> digest of files of the prepared data sets that trials read."""
    prepared = [data for data in _data_of(trials) if data.root is not None]
    return {str(Path(str(data.root), data.name)): files_digest_of(data.name, data.root) for data in prepared}


def _data_of(trials: Iterable[JsonSettings]) -> list[DataConfig]:
    """Return the data of trials, each once."""
    distinct = {canonical_json(settings.values["data"]): settings.values["data"] for settings in trials}
    return [DataConfig.model_validate(data) for data in distinct.values()]
