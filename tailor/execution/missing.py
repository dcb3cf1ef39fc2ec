"""What trials lack before they can start, data sets and weights alike, with the commands that bring it, in order."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tailor.common.errors import ConfigError
from tailor.config.trial import TrialConfig
from tailor.facts.official import OFFICIAL
from tailor.facts.weights import FOLDER, is_name
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
    names_of_set: dict[tuple[str, int, str], list[str]] = {}  # layout, pixels, root -> names
    weights: dict[tuple[str, Path], None] = {}  # each once, in the order of the trials
    for trial in trials:
        data = trial.data
        if not data.info.is_there:
            assert data.layout is not None and data.image_px is not None and data.root is not None
            names = names_of_set.setdefault((data.layout, data.image_px, data.root), [])
            if data.name not in names:
                names.append(data.name)
        file = trial.source.weights_file
        if file is not None and trial.source.weights is not None and not is_there(file):
            weights[trial.source.weights, file] = None
    if not names_of_set:
        return
    count = counted(sum(map(len, names_of_set.values())), "data set")
    what = f"{count} and weights are" if weights else f"{count} {'is' if count.startswith('1 ') else 'are'}"
    lines = [*_how_to_get_weights(weights), *_how_to_prepare(names_of_set)]
    raise DataMissing("\n".join([f"{what} not there; to get all, type in this order:", *lines]))


def _how_to_get_weights(weights: Iterable[tuple[str, Path]]) -> Iterator[str]:
    for name, file in weights:
        if is_name(name):
            yield f"# no weights at {file}: on a machine with a network"
            is_usual = file.parent == Path(FOLDER).resolve()
            yield command("fetch", name, *(() if is_usual else ("--to", file.parent)))
        else:
            yield f"# no weights at {file}: give source.weights the path of the file, or one of torchvision's names"


def _how_to_prepare(names_of_set: dict[tuple[str, int, str], list[str]]) -> Iterator[str]:
    for (layout, image_px, root), (name, *others) in names_of_set.items():
        official = OFFICIAL[layout]
        yield f"# {official.title}: {official.images:,} images; download from {official.page}"
        for file in official.files:
            yield f"#   {file.text}"
        also = [word for other in others for word in ("--also", other)]
        yield command(
            "data", "prepare", name, *also, "--layout", layout, "--image-px", image_px,
            "--from", *official.file_names, "--to", _below_here(root),
        )  # fmt: skip


def _below_here(root: str) -> Path:
    """Return a folder as one types it here: relative if it is below the working folder."""
    folder = Path(root)
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
