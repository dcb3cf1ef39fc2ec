"""A saved sub-model's card: how it was made, its scores and its cost; for people and for programs.

`card.md` is written from `model.json` only, so both agree.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tailor.common.errors import ConfigError
from tailor.common.plugin_digests import digests_in, plugin_of
from tailor.config.trial import TrialConfig, settings_read
from tailor.data.objective import r_squared
from tailor.deploy.speed import Speed
from tailor.execution.dry_run import dry_run
from tailor.execution.runner import StageEvent
from tailor.facts.networks import NETWORKS
from tailor.facts.preprocess import Step
from tailor.model.state import DESCRIPTION_FILE, MODEL_FILE, ModelState, save_model, saved_in
from tailor.stage_execution.tuning import cost_of
from transtailor.documents import read_json
from transtailor.files import refuse_unwritable, write_file

CARD_FILE = "card.md"
OF_FILES = ("preprocess", "class_names")  # what exported files have, too, as JSON
LOADING_THE_NETWORK = ("from pathlib import Path", "from tailor.execution import plugins", "plugins.load(Path({}))")
SPEEDS = ("speed", "speed_of_files")  # of the sub-model as it is saved; of files of ONNX beside it, by their names
SPEED_UNKNOWN = "not measured; `transtailor model export` and `transtailor model time` measure it and write it here"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a sub-model in addition to its weights; JSON values."""

    trial_id: str
    point: int  # number of the operating point on the trial's path
    stage_key: str  # of the operating point in the cache
    method: str
    settings: dict[str, object]  # those that count in the trial's id, without what the trial does not read
    imports: dict[str, str]  # what the user's modules registered of it -> the module's SHA-256
    data: str
    data_sha256: str
    decides_on: str  # the split that the trial's decisions read
    metric: str
    scores: dict[str, float]  # by split, those that were measured
    preprocess: list[Step] | None  # from an image file to the network's input; None: the data are no image files
    class_names: list[str] | None  # of the outputs, in their order; None: not known
    command: str  # that made it
    licence: str | None  # as its user gave it


def facts_of(config: TrialConfig, point: Mapping[str, Any], *, command: str, licence: str | None) -> Facts:
    """Return the facts of an operating point.

    Args:
        point: a row of `measured_points`, or a mapping with these of its columns: point, stage_key, metric,
            validation_score, deciding_score, test_score (None: not measured).
        command: what was typed to make it.
        licence: the user's line on the licence; None: not given.
    """
    decides_on = "train" if config.protocol == "paper" else "validation"
    scores = {"validation": point["validation_score"], "test": point["test_score"]}
    if decides_on == "train":
        scores = {"train": point["deciding_score"]} | scores
    return Facts(
        trial_id=dry_run(config).trial_id,
        point=point["point"],
        stage_key=point["stage_key"],
        method=config.method.name,
        settings=settings_read(config.identity(), config.unread),
        imports=digests_in(config.identity()),
        data=config.data.name,
        data_sha256=config.data.samples_sha256,
        decides_on=decides_on,
        metric=point["metric"],
        scores={split: float(score) for split, score in scores.items() if score is not None},
        preprocess=config.data.preprocess,
        class_names=list(config.data.info.class_names) or None,
        command=command,
        licence=licence,
    )


def score_on_test(measured: Mapping[str, Tensor], metric: str) -> float | None:
    """Return the score on the test split by what an operating point stored; None: it does not exist.

    Args:
        measured: the operating point's tensors.
        metric: of the score. An operating point of classes that was cached before scores were stored has accuracy.
    """
    if f"scores/test_{metric}" in measured:
        return float(measured[f"scores/test_{metric}"])
    labels = measured["test/label"]
    predictions = measured["test/prediction"]
    if labels.is_floating_point():
        return r_squared(predictions, labels)
    return (predictions == labels).sum().item() / len(labels)


def save_with_card(state: ModelState, facts: Facts, folder: Path) -> None:
    """Write a model and its card.

    Writes: the files of `save_model`, with `facts`, the model's cost and, of image files, `preprocess` and
    `class_names` added to `model.json`, and `card.md`. Of the same weights that are saved there, the measured speeds
    stay, and so does the licence unless another is given.
    """
    before = saved_in(folder)
    save_model(state, folder)
    description = read_json(folder / DESCRIPTION_FILE)
    known = asdict(facts)
    if before.get("sha256") == description["sha256"]:
        description |= {name: before[name] for name in SPEEDS if name in before}
        known["licence"] = known["licence"] or before.get("facts", {}).get("licence")
    for name in OF_FILES:
        value = known.pop(name)
        if value is not None:
            description[name] = value
    description |= {"facts": known, "cost": cost_of(state, state.build())}
    write_file(folder / DESCRIPTION_FILE, json.dumps(description, indent=1))
    write_file(folder / CARD_FILE, card(description))


def save_point(
    config: TrialConfig, event: StageEvent, state: ModelState, folder: Path, *, command: str, licence: str | None
) -> None:
    """Write an operating point's sub-model with its card.

    The arguments are those of `facts_of` and `save_with_card`. `state` is `event.result.model_state()`, which the
    caller asks for because it is collective.

    Raises:
        ConfigError: the folder has another sub-model.
    """
    refuse_other_model(folder, dry_run(config).trial_id, event.point)
    result = event.result
    test_score = score_on_test(result.read_tensors(), result.info["metric"])
    point = result.info | {"point": event.point, "stage_key": result.key, "test_score": test_score}
    save_with_card(state, facts_of(config, point, command=command, licence=licence), folder)


def record_speed(folder: Path, speed: Speed | None, file: Path | None = None) -> None:
    """Write a measured speed into the description and the card of a saved model; nothing if it has no card.

    Args:
        speed: None says that `file` was written and not timed: the speed of one of this name before is not its own.
        file: the program that was timed; the card has those in the model's folder. None: the sub-model as it is saved.

    Raises:
        ConfigError: the folder cannot be written to.
    """
    description = read_json(folder / DESCRIPTION_FILE)
    if "facts" not in description or (file is not None and file.parent.resolve() != folder.resolve()):
        return
    speeds = description if file is None else description.setdefault("speed_of_files", {})
    name = "speed" if file is None else file.name
    if speed is None:
        speeds.pop(name, None)
    else:
        speeds[name] = asdict(speed)
    try:
        write_file(folder / DESCRIPTION_FILE, json.dumps(description, indent=1))
        write_file(folder / CARD_FILE, card(description))
    except OSError as error:
        raise ConfigError(
            f"the speed cannot be written into the card: {error}; to measure without it, copy {folder} to a folder of "
            "yours"
        ) from error


def refuse_unsavable(folder: Path | None, licence: str | None) -> None:
    """Raise ConfigError if sub-models cannot be saved as the options say; called before anything is computed.

    Without a folder no models are saved; a licence needs one, because it is written into the card.
    """
    if folder is None:
        if licence is not None:
            raise ConfigError("--licence is written into the card of a saved sub-model; give --save FOLDER, too")
        return
    refuse_unwritable(folder, "--save", ConfigError)


def refuse_other_model(folder: Path, trial_id: str, point: int | None) -> None:
    """Raise ConfigError if a folder has something else than this operating point's model, which would be lost."""
    saved_model = saved_in(folder, CARD_FILE)
    facts = saved_model.get("facts", {})
    if saved_model and (facts.get("trial_id"), facts.get("point")) != (trial_id, point):
        saved = f"point {facts['point']} of trial {facts['trial_id']}" if facts else "a model of your own"
        raise ConfigError(f"{folder} has {saved}; type --save with another folder, or remove this one")


def card(description: Mapping[str, Any]) -> str:
    """Return the card, as Markdown, from the content of a `model.json` that `save_with_card` wrote."""
    facts = description["facts"]
    scores = [(split, f"{score:.4f}") for split, score in facts["scores"].items()]
    widths = _widths(description["cost"]["layers"])
    is_users_network = f"network {description['network']}" in facts["imports"]
    loading = ["\n".join(LOADING_THE_NETWORK).format("FILE_OF_THE_NETWORK")] if is_users_network else []
    before = "\n\n".join([*loading, "import tailor", ""])
    parts = [
        f"# {escape(description['network'])} for {escape(facts['data'])}",
        f"A sub-model made by {escape(facts['method'])}.",
        _table(("what", ""), _rows(description)),
        "## Scores",
        f"The trial's decisions read the {facts['decides_on']} split. The test split decided nothing in it.",
        _table(("split", facts["metric"].replace("_", " ")), scores),
        "## Use",
        fence(f"{before}model = tailor.load_model(FOLDER_OF_THIS_FILE)", "python"),
        _inputs(description),
        *_of_files(description),
        "## Widths",
        _table(("layer", "width", "original width", "MACs"), widths),
        "## Settings",
        fence(json.dumps(facts["settings"], indent=1), "json"),
        "## Made by",
        fence(facts["command"], "text"),
    ]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Return a user's text as one line of Markdown that shows it: no character is markup or ends a table's cell.

    >>> print(escape("a|b_c"))
    a\\|b\\_c
    """
    visible = "".join(letter if letter.isprintable() else " " for letter in text)
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&$])", r"\\\1", " ".join(visible.split()))


def fence(text: str, language: str) -> str:
    """Return a block of code, in a fence that is longer than any in the text."""
    longest = max((len(backticks) for backticks in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _rows(description: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    facts = description["facts"]
    cost = description["cost"]
    removed_fraction = 1.0 - cost["macs"] / cost["original_macs"]
    yield "network", f"{escape(description['network'])}, {description['classes']} output(s)"
    yield "data set", f"{escape(facts['data'])}, SHA-256 of its pixels {facts['data_sha256']}"
    yield "weights", f"{MODEL_FILE}, SHA-256 {description['sha256']}"
    yield "multiply-accumulates", f"{cost['macs']:,} of {cost['original_macs']:,}, {removed_fraction:.4f} removed"
    yield "parameters", f"{cost['params']:,}"
    speeds = {f"speed of {file}": speed for file, speed in description.get("speed_of_files", {}).items()}
    if "speed" in description:
        speeds = {"speed": description["speed"]} | speeds
    for name, speed in speeds.items():
        yield escape(name), escape(str(Speed(**speed)))
    if not speeds:
        yield "speed", SPEED_UNKNOWN
    yield "trial", f"{facts['trial_id']}, operating point {facts['point']}, measured by stage {facts['stage_key']}"
    for record, sha256 in facts["imports"].items():
        yield escape(record), f"of a user's module, SHA-256 {sha256}"
    yield "licence", "not given" if facts["licence"] is None else escape(facts["licence"])


def saved_text(folder: Path, network: str) -> str:
    """Return the line that says where a sub-model was saved, and how to load it in Python."""
    plugin = plugin_of(NETWORKS, network)
    loading = [] if plugin is None else ["; ".join(LOADING_THE_NETWORK).format(repr(str(plugin.file)))]
    statements = [*loading, "import tailor", f"tailor.load_model({str(folder)!r})"]
    return f"saved in {folder}; to load it: {'; '.join(statements)}"


def _inputs(description: Mapping[str, Any]) -> str:
    shape = tuple(description["input_shape"])
    if len(shape) == 1:
        return f"Inputs are float32 (batch, {shape[0]}), rows as the data set has them."
    sides = ", ".join(str(side) for side in shape)
    return (
        f"Inputs are float32 (batch, {sides}): pixels / 127.5 - 1 of pixels from 0 to 255. The "
        f"model converts them to what its network expects, (pixel - mean) / std of pixels in 0 to 1 with mean "
        f"{description['pixel_mean']} and std {description['pixel_std']}."
    )


def _of_files(description: Mapping[str, Any]) -> Iterator[str]:
    if "preprocess" in description:
        yield "From an image file to inputs, in this order (`preprocess` in model.json and in exported files):"
        yield fence("\n".join(json.dumps(step) for step in description["preprocess"]), "json")
    if "class_names" in description:
        yield "The outputs are scores of these classes, the largest wins (`class_names`, likewise):"
        yield fence(json.dumps(description["class_names"], ensure_ascii=False), "json")


def _widths(layers: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    for layer in layers:
        yield escape(layer["layer"]), str(layer["width"]), str(layer["original_width"]), f"{layer['macs']:,}"


def _table(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    lines = [f"| {' | '.join(heading)} |", "|" + " --- |" * len(heading)]
    for row in rows:
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)
