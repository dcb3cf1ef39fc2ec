"""Hints for error messages about a name that does not exist."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

NAMES_SHOWN = 12
LEAST_LIKENESS = 0.6  # difflib's ratio and default; at 0.5, `latency_ms` is like `batch_size`
LEAST_WORD = 3  # letters that name what has them as a word
LIKENESS_LISTED = 0.3  # of the names that are listed if there are too many to list all
_BUDGET = ("asked_removed_macs_fraction", "step_removed_macs_fraction", "prune_ratio")
_LATENCY = ("asked_latency_ms", "asked_latency_fraction", "latency_ms")
_GPUS = ("gpus_per_rank", "gpus_per_node")
OTHER_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **dict.fromkeys(
            ("pruning_ratio", "prune_rate", "pruning_rate", "sparsity", "amount", "ratio", "fraction", "budget"),
            _BUDGET,
        ),
        **dict.fromkeys(("latency", "latency_ms", "latency_fraction", "speedup", "speed_up"), _LATENCY),
        "model": ("network",),
        "arch": ("network",),
        "architecture": ("network",),
        "backbone": ("network",),
        "net": ("network",),
        "amp": ("precision",),
        "fp16": ("precision",),
        "mixed_precision": ("precision",),
        "dtype": ("precision",),
        "gpus": _GPUS,
        "num_gpus": _GPUS,
        "n_gpus": _GPUS,
        "img_size": ("crop_px",),
        "image_size": ("crop_px",),
        "input_size": ("crop_px",),
        "head_lr": ("head_learning_rate",),
        "images": ("train_images",),
        "augment": ("augmentation",),
        "lr_scheduler": ("schedule",),
        "scheduler": ("schedule",),
        "dataset": ("data", "name"),
        "pretrained": ("weights",),
        **dict.fromkeys(("removed_macs_fraction", "step_macs_fraction", *_BUDGET), _BUDGET),
        "workers": ("ranks",),
        "world_size": ("ranks",),
        "fine_tune": ("full fine-tuning",),
        "watch": ("status",),
        "list": ("runs",),
        "resume": ("run",),
        **dict.fromkeys(("f1", "f1_score", "f1_macro"), ("macro_f1",)),
        **dict.fromkeys(("acc", "top1", "top_1"), ("accuracy",)),
        **dict.fromkeys(("val_fraction", "val_split", "validation_split", "test_size"), ("train_images",)),
        **dict.fromkeys(
            ("class_weight", "class_weights", "dropout", "early_stopping", "num_workers", "pin_memory"), ()
        ),
        **dict.fromkeys(("betas", "eps", "nesterov", "dampening", "gamma", "milestones", "t_max", "eta_min"), ()),
    }
)
"""What other programs of the field call a setting -> our names for it, the most likely first; none: there is none."""


def nearest(typed: str, valid: Iterable[str], elsewhere: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the end of an error message: the nearest valid name if one is near, and the valid names or some of them.

    >>> nearest("epoch", ["epochs", "batch_size"])
    "; did you mean 'epochs'? (valid: batch_size, epochs)"

    Args:
        elsewhere: further names, which are valid in other places -> as they are typed here. They are suggested, but
            not listed.
    """
    names = sorted(valid)
    other_names = [name for name in elsewhere if name not in names]
    close = _meant(typed, names) or _meant(typed, other_names) or closest(typed, [*names, *other_names])
    hint = ""
    if typed in elsewhere.values():
        hint = f"; quotes make one key of it: type {typed} without them"
    elif close is not None:
        suggestion = close if close in names else elsewhere[close]
        hint = f"; did you mean {suggestion!r}?"
    if len(names) <= NAMES_SHOWN:
        return f"{hint} (valid: {_joined(names) or 'none'})"
    listed = _alike(typed, names, NAMES_SHOWN, LIKENESS_LISTED) or names[:NAMES_SHOWN]
    if close in names and close not in listed:
        listed = [close, *listed]
    return f"{hint} (valid: {_joined(listed)}, ... {len(names)} in all)"


def _joined(names: Sequence[str]) -> str:
    """Return names with commas between them; one that has a comma is in quotes."""
    return ", ".join(repr(name) if "," in name else name for name in names)


def did_you_mean(typed: str, valid: Iterable[str]) -> str:
    """Return "did you mean ...? " with the nearest valid name, for the middle of a message; "" if none is near."""
    close = closest(typed, valid)
    return "" if close is None else f"did you mean {close!r}? "


def nearest_folder(folder: Path) -> str:
    """Return "; did you mean ...?" with the folder of the nearest name beside one that is not there, or in runs/."""
    for parent in (folder.parent / "runs", folder.parent, folder.parent.parent / "runs"):
        names = [path.name for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []
        close = closest(folder.name, names)
        if close is not None:
            return f"; did you mean {str(parent / close)!r}?"
    return ""


def closest(typed: str, valid: Iterable[str]) -> str | None:
    """Return the valid name that means the same, or is most like what was typed, ignoring case; None if none is near.

    >>> closest("ADAM", ["sgd", "adam"]), closest("lr", ["momentum", "learning_rate"])
    ('adam', 'learning_rate')
    """
    names = list(valid)
    meant = _meant(typed, names)
    if meant or OTHER_WORDS.get(_word(typed)) in ((), _BUDGET, _LATENCY):  # no name that only looks like it is meant
        return meant
    alike = _alike(typed, names, 1, LEAST_LIKENESS)
    return alike[0] if alike else None


def _meant(typed: str, names: Sequence[str]) -> str | None:
    """Return the name that other programs call so, or that has these initials (`lr`: `learning_rate`), or these words.

    One name alone among all has them (`test`: `test_score`; `macs_fraction`: `removed_macs_fraction`), or ends with
    what was typed (`rate`: `optimisation.rate`). None if none does.
    """
    word = _word(typed)
    for name in OTHER_WORDS.get(word, ()):
        if name in names:
            return name
    for name in names:
        initials = "".join(part[:1] for part in name.split("_"))
        if "_" in name and initials == word:
            return name
    ends = [name for name in names if name.endswith(f".{typed}")]  # a key without its tables, as names of arms have it
    if len(ends) == 1:
        return ends[0]
    words = set(word.split("_"))
    having = [name for name in names if len(word) >= LEAST_WORD and words <= set(_word(name).split("_"))]
    return having[0] if len(having) == 1 else None


def _word(typed: str) -> str:
    return typed.casefold().replace("-", "_").replace(" ", "_")


def _alike(typed: str, names: list[str], count: int, least: float) -> list[str]:
    """Return up to `count` names that are most like what was typed, ignoring case: the best, of equals the first."""
    import difflib  # here, as a correct command does not need it

    matcher = difflib.SequenceMatcher(b=typed.casefold())
    likeness = {}
    for name in names:
        matcher.set_seq1(name.casefold())
        likeness[name] = matcher.ratio()
    close = [name for name in names if likeness[name] >= least]
    return sorted(close, key=likeness.__getitem__, reverse=True)[:count]
