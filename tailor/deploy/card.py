"""A saved sub-model's card: how it was made, its scores and its cost; for people and for programs.

`card.md` is written from `model.json` only, so both agree.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tailor.config.trial import TrialConfig
from tailor.core.errors import ConfigError
from tailor.core.plugin_digests import digests_in
from tailor.data.objective import quality
from tailor.execution.dry_run import dry_run
from tailor.execution.runner import StageEvent
from tailor.model.state import DESCRIPTION_FILE, MODEL_FILE, ModelState, save_model
from tailor.stage_execution.tuning import cost_of
from transtailor.documents import read_json
from transtailor.files import refuse_unwritable, write_file

CARD_FILE = "card.md"
NOT_GIVEN = "not given"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a sub-model in addition to its weights; JSON values."""

    trial_id: str
    point: int  # number of the operating point on the trial's path
    stage_key: str  # of the operating point in the cache
    method: str
    settings: dict[str, object]  # all that count in the trial's id
    imports: dict[str, str]  # what the user's modules registered of it -> the module's SHA-256
    data: str
    data_sha256: str
    decides_on: str  # the split that the trial's decisions read
    metric: str
    scores: dict[str, float]  # by split, those that were measured
    command: str  # that made it
    licence: str | None  # as its user gave it


def facts_of(config: TrialConfig, point: Mapping[str, Any], *, command: str, licence: str | None) -> Facts:
    """The facts of an operating point.

    Args:
        point: a row of `measured_points`, or a mapping with these of its columns: point, stage_key, metric,
            validation_score, deciding_score, test_score (None: not measured).
        command: what was typed to make it.
        licence: the user's line on the licence; None: not given.
    """
    scores = {"validation": point["validation_score"], "test": point["test_score"]}
    if config.protocol == "paper":
        scores = {"train": point["deciding_score"]} | scores
    return Facts(
        trial_id=dry_run(config).trial_id,
        point=point["point"],
        stage_key=point["stage_key"],
        method=config.method.name,
        settings=config.identity(),
        imports=digests_in(config.identity()),
        data=config.data.name,
        data_sha256=config.data.sha256,
        decides_on="train" if config.protocol == "paper" else "validation",
        metric=point["metric"],
        scores={split: float(score) for split, score in scores.items() if score is not None},
        command=command,
        licence=licence,
    )


def score_of(predicted: Mapping[str, Tensor], split: str) -> float:
    """The score on a split, from what an operating point stored of each image: accuracy in [0, 1], or R squared <= 1.

    Args:
        predicted: the operating point's tensors.
        split: "validation" or "test".
    """
    labels, predictions = predicted[f"{split}/label"], predicted[f"{split}/prediction"]
    if labels.is_floating_point():
        return quality(predictions, labels).score
    return (predictions == labels).sum().item() / len(labels)


def save_with_card(state: ModelState, facts: Facts, folder: Path) -> None:
    """Write a model and its card.

    Writes: what `save_model` does, with `facts` and the model's cost in `model.json`, and `card.md`.
    """
    save_model(state, folder)
    description = read_json(folder / DESCRIPTION_FILE)
    description |= {"facts": asdict(facts), "cost": cost_of(state, state.build())}
    write_file(folder / DESCRIPTION_FILE, json.dumps(description, indent=1))
    write_file(folder / CARD_FILE, card(description))


def save_point(
    config: TrialConfig, event: StageEvent, state: ModelState, folder: Path, *, command: str, licence: str | None
) -> None:
    """Write an operating point's sub-model with its card.

    Args: as of `facts_of` and `save_with_card`; `state` is `event.result.model_state()`, which is collective.
    """
    result = event.result
    test_score = score_of(result.read_tensors(), "test")
    point = result.info | {"point": event.point, "stage_key": result.key, "test_score": test_score}
    save_with_card(state, facts_of(config, point, command=command, licence=licence), folder)


def refuse_unsavable(folder: Path | None, licence: str | None) -> None:
    """Raise ConfigError if sub-models cannot be saved as the options say; called before anything is computed.

    Without a folder no models are saved; a licence needs one, because it is written into the card.
    """
    if folder is None:
        if licence is not None:
            raise ConfigError("--licence is written into the card of a saved sub-model; give --save FOLDER, too")
        return
    refuse_unwritable(folder, "--save", ConfigError)


def card(description: Mapping[str, Any]) -> str:
    """The card, as Markdown, of the content of a `model.json` that `save_with_card` wrote."""
    facts = description["facts"]
    parts = [
        f"# {escape(description['network'])} for {escape(facts['data'])}",
        f"A sub-model made by {escape(facts['method'])}.",
        "\n".join(_table(("what", ""), _rows(description))),
        "## Scores",
        f"The trial's decisions read the {facts['decides_on']} split. The test split decided nothing in it.",
        "\n".join(_table(("split", escape(facts["metric"])), ((s, f"{v:.4f}") for s, v in facts["scores"].items()))),
        "## Use",
        fence("import tailor\n\nmodel = tailor.load_model(FOLDER_OF_THIS_FILE)", "python"),
        _inputs(description),
        "## Widths",
        "\n".join(_table(("layer", "width", "original width", "MACs"), _widths(description["cost"]["layers"]))),
        "## Settings",
        fence(json.dumps(facts["settings"], indent=1), "json"),
        "## Made by",
        fence(facts["command"], "text"),
    ]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """A user's text as one line of Markdown that shows it: no character is markup or ends a table's cell.

    >>> print(escape("a|b_c"))
    a\\|b\\_c
    """
    visible = "".join(letter if letter.isprintable() else " " for letter in text)
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&$])", r"\\\1", " ".join(visible.split()))


def fence(text: str, language: str) -> str:
    """A block of code in a fence longer than any in the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _rows(description: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    facts, cost = description["facts"], description["cost"]
    removed_fraction = 1.0 - cost["macs"] / cost["original_macs"]
    yield "network", f"{escape(description['network'])}, {description['classes']} output(s)"
    yield "data set", f"{escape(facts['data'])}, SHA-256 {facts['data_sha256']}"
    yield "weights", f"{MODEL_FILE}, SHA-256 {description['sha256']}"
    yield "multiply-accumulates", f"{cost['macs']:,} of {cost['original_macs']:,}, {removed_fraction:.4f} removed"
    yield "parameters", f"{cost['params']:,}"
    yield "trial", f"{facts['trial_id']}, operating point {facts['point']}, stage {facts['stage_key']}"
    for record, sha256 in facts["imports"].items():
        yield escape(record), f"of a user's module, SHA-256 {sha256}"
    yield "licence", NOT_GIVEN if facts["licence"] is None else escape(facts["licence"])


def _inputs(description: Mapping[str, Any]) -> str:
    shape = tuple(description["input_shape"])
    if len(shape) == 1:
        return f"Inputs are float32 (batch, {shape[0]}), rows as the data set has them."
    mean, std = description["pixel_mean"], description["pixel_std"]
    return (
        f"Inputs are float32 (batch, {', '.join(map(str, shape))}): pixels / 127.5 - 1 of pixels from 0 to 255. The "
        f"model converts them to what its network expects, (pixel - mean) / std of pixels in 0 to 1 with mean {mean} "
        f"and std {std}."
    )


def _widths(layers: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    for one in layers:
        yield escape(one["layer"]), str(one["width"]), str(one["original_width"]), f"{one['macs']:,}"


def _table(heading: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(heading)} |"
    yield "|" + " --- |" * len(heading)
    for row in rows:
        yield f"| {' | '.join(row)} |"
