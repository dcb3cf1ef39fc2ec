"""What trials lack before they can start, data sets and weights alike, with the commands that bring it, in order."""

import itertools
import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tailor.common.errors import ConfigError
from tailor.config.data import DataConfig
from tailor.config.trial import TrialConfig
from tailor.facts.official import OFFICIAL
from tailor.facts.weights import FOLDER, is_name, what_to_give
from transtailor.files import is_there
from transtailor.plural import counted
from transtailor.shell import command


class DataMissing(ConfigError):
    """Data sets are not there; the text lists these, and weights that are not there either."""


def refuse_missing_data(trials: Sequence[TrialConfig]) -> None:
    """Raise DataMissing unless all data sets of trials are there.

    Its text has a heading, and for each data set and each file of weights what is known of it, in lines that begin with
    `#`, and the command that brings it: all lines but the first can be pasted together.
    """
    absent: dict[tuple[str | None, str], DataConfig] = {}  # by root and name
    # Targets first: a set that is a target and a donor, too, has its own layout and expectations as a target alone.
    for data in itertools.chain((trial.data for trial in trials), (trial.donor for trial in trials)):
        if data is not None and not data.info.is_there:
            absent.setdefault((data.root, data.name), data)
    network_of: dict[tuple[str, Path], str] = {}  # by weights, in the order of the trials
    for trial in trials:
        file = trial.source.weights_file
        if file is not None and trial.source.weights is not None and not is_there(file):
            network_of[trial.source.weights, file] = trial.network
    if not absent:
        return
    alike: dict[tuple[object, ...], list[DataConfig]] = defaultdict(list)  # those that one command prepares
    for data in absent.values():
        alike[data.layout or data.name, data.image_px, data.root, data.expected].append(data)
    count = counted(len(absent), "data set")
    what = f"{count} and weights are" if network_of else f"{count} {'is' if count.startswith('1 ') else 'are'}"
    lines = [
        *_how_to_get_weights(network_of),
        *itertools.chain.from_iterable(map(_how_to_prepare, alike.values())),
    ]
    raise DataMissing("\n".join([f"{what} not there; to get all, type in this order:", *lines]))


def _how_to_get_weights(network_of: Mapping[tuple[str, Path], str]) -> Iterator[str]:
    for (name, file), network in network_of.items():
        if is_name(name):
            yield f"# no weights at {file}: on a machine with a network"
            is_usual = file.parent == Path(FOLDER).resolve()
            yield command("fetch", name, *(() if is_usual else ("--to", file.parent)))
        else:
            yield f"# no weights at {file}: {what_to_give(network)}"


def _how_to_prepare(sets: Sequence[DataConfig]) -> Iterator[str]:
    data, *others = sets
    assert data.image_px is not None and data.root is not None
    pixels = ("--image-px", data.image_px)
    words: list[object] = [*shlex.split(data.expected.prepare)] if data.expected is not None else []
    if data.layout is not None:
        official = OFFICIAL[data.layout]
        yield f"# {official.title}: {official.images:,} images; download from {official.page}"
        for file in official.files:
            yield f"#   {file.text}"
        words = ["--layout", data.layout, *pixels, "--from", *official.file_names, *words]
    else:
        yield f"# {data.name}: {data.info.target_images:,} images of {data.info.target_classes:,} classes, your own"
        words = [*pixels, *(words if "--from" in words else ["--from", "FOLDER", *words])]
    also = [word for other in others for word in ("--also", other.name)]
    yield command("data", "prepare", data.name, *also, *words, "--to", _below_here(data.root))


def _below_here(root: str) -> Path:
    """Return a folder as one types it here: relative if it is below the working folder."""
    folder = Path(root)
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
