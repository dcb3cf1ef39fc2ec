"""Hints for error messages about a name that does not exist; names of files for texts of the user."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

NAMES_SHOWN = 12
LONGEST_FILE_NAME = 100  # characters; encrypted home folders (eCryptfs) take 143, and ids and endings are added
LEAST_LIKENESS = 0.5  # difflib's ratio, 1 for the same name
LIKENESS_LISTED = 0.3  # of the names that are listed if there are too many to list all
_BUDGET = ("removed_macs_fraction", "step_macs_fraction", "prune_ratio")
OTHER_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **dict.fromkeys(("pruning_ratio", "prune_rate", "pruning_rate", "sparsity", "amount", "ratio"), _BUDGET),
        **dict.fromkeys(("model", "arch", "architecture", "backbone", "net"), ("network",)),
        **dict.fromkeys(("amp", "fp16", "mixed_precision", "dtype"), ("precision",)),
        **dict.fromkeys(("gpus", "num_gpus", "n_gpus"), ("gpus_per_rank", "gpus_per_node")),
        **dict.fromkeys(("img_size", "image_size", "input_size"), ("crop_px",)),
        **dict.fromkeys(("lr_scheduler", "scheduler"), ("schedule",)),
        "dataset": ("data", "name"),
        "pretrained": ("weights",),
        "workers": ("ranks",),
        "world_size": ("ranks",),
    }
)
"""What other programs of the field call a setting -> our names for it, the most likely first."""


def nearest(given: str, valid: Iterable[str], elsewhere: Mapping[str, str] = MappingProxyType({})) -> str:
    """The end of an error message: the nearest valid name if one is near, and the valid names, or some of many.

    >>> nearest("epoch", ["epochs", "batch_size"])
    "; did you mean 'epochs'? (valid: batch_size, epochs)"

    Args:
        elsewhere: further names, which are valid in other places -> as they are typed here; they are not listed.
    """
    names = sorted(valid)
    others = [name for name in elsewhere if name not in names]
    close = _meant(given, names) or _meant(given, others) or closest(given, [*names, *others])
    hint = "" if close is None else f"; did you mean {close if close in names else elsewhere[close]!r}?"
    if len(names) <= NAMES_SHOWN:
        return f"{hint} (valid: {', '.join(names) or 'none'})"
    listed = _alike(given, names, NAMES_SHOWN, LIKENESS_LISTED) or names[:NAMES_SHOWN]
    if close in names and close not in listed:
        listed = [close, *listed]
    return f"{hint} (valid: {', '.join(listed)}, ... {len(names)} in all)"


def file_name(*words: str) -> str:
    """A name for a file or folder, of words that a user has written: letters, digits, `.`, `_`, with `-` between them.

    A name that would be too long is shortened, and ends with a digest of the words.

    >>> file_name("prune l1 (50%)", "digits_vgg")
    'prune_l1_50_-digits_vgg'

    Returns:
        at most `LONGEST_FILE_NAME` characters, none of which a shell or a file system reads otherwise.
    """
    name = "-".join(re.sub(r"[^A-Za-z0-9._]+", "_", word) for word in words)
    name = re.sub(r"^[.-]+", "_", name) or "_"  # hidden files, options of commands, nothing
    if len(name) <= LONGEST_FILE_NAME:
        return name
    digest = hashlib.sha256("\0".join(words).encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{name[: LONGEST_FILE_NAME - len(digest) - 1]}-{digest}"


def did_you_mean(given: str, valid: Iterable[str]) -> str:
    """The middle of an error message that continues with the valid names; empty if none is near."""
    close = closest(given, valid)
    return "" if close is None else f"did you mean {close!r}? "


def closest(given: str, valid: Iterable[str]) -> str | None:
    """The valid name that means or is most like the given one, ignoring case; None if none is near.

    >>> closest("ADAM", ["sgd", "adam"]), closest("lr", ["momentum", "learning_rate"])
    ('adam', 'learning_rate')
    """
    names = list(valid)
    return _meant(given, names) or next(iter(_alike(given, names, 1, LEAST_LIKENESS)), None)


def _meant(given: str, names: Sequence[str]) -> str | None:
    """The name of which the given word is another word, or the first letters, as `lr` is of `learning_rate`."""
    word = given.casefold().replace("-", "_")
    other_words = [name for name in OTHER_WORDS.get(word, ()) if name in names]
    initials = [name for name in names if "_" in name and "".join(part[:1] for part in name.split("_")) == word]
    return next(iter([*other_words, *initials]), None)


def _alike(given: str, names: list[str], count: int, least: float) -> list[str]:
    """The names that are most like the given one, the best first."""
    import difflib  # here, as a correct command does not need it

    written = {name.casefold(): name for name in names}
    return [written[name] for name in difflib.get_close_matches(given.casefold(), written, n=count, cutoff=least)]
