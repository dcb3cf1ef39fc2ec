"""A saved sub-model's card: how it was made, its scores and its cost; for people and for programs.

`card.md` is written from `model.json` only, so both agree.
"""

import json
import re
from collections.abc import Iterator, Mapping
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
from tailor.model.cost import count_products
from tailor.model.state import DESCRIPTION_FILE, MODEL_FILE, ModelState, save_model, saved_in
from tailor.stage_execution.tuning import cost_of
from transtailor.documents import read_json
from transtailor.files import refuse_unwritable, write_file

CARD_FILE = "card.md"
OF_FILES = ("preprocess", "class_names")  # what exported files have, too, as JSON
LOADING_THE_NETWORK = ("from pathlib import Path", "from tailor.execution import plugins", "plugins.load(Path({}))")
# Speed of the sub-model as it is saved; speeds and number types of files of ONNX beside it, by their names.
OF_EXPORTS = ("speed", "speed_of_files", "types_of_files")
SPEED_UNKNOWN = "not measured; `transtailor model export` and `transtailor model time` measure it and write it here"


def facts_of(config: TrialConfig, point: Mapping[str, Any], *, command: str, licence: str | None) -> dict[str, Any]:
    """Return what is known of an operating point in addition to its weights; JSON values.

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
    return {
        "trial_id": dry_run(config).trial_id,
        "point": point["point"],
        "stage_key": point["stage_key"],
        "method": config.method.name,
        "settings": settings_read(config.identity(), config.unread),
        "imports": digests_in(config.identity()),
        "data": config.data.name,
        "data_sha256": config.data.samples_sha256,
        "decides_on": decides_on,
        "metric": point["metric"],
        "scores": {split: float(score) for split, score in scores.items() if score is not None},
        "preprocess": config.data.preprocess,  # from an image file to the network's input; None: no image files
        "class_names": list(config.data.info.class_names) or None,  # of the outputs, in their order
        "command": command,
        "licence": licence,
    }


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


def save_with_card(state: ModelState, facts: Mapping[str, Any], folder: Path) -> None:
    """Write a model and its card.

    Writes: the files of `save_model`, with `facts`, the model's cost and, of image files, `preprocess` and
    `class_names` added to `model.json`, and `card.md`. Of the same weights that are saved there, the measured speeds
    stay, and so does the licence unless another is given.
    """
    before = saved_in(folder)
    save_model(state, folder)
    description = read_json(folder / DESCRIPTION_FILE)
    known = dict(facts)
    if before.get("sha256") == description["sha256"]:
        description |= {name: before[name] for name in OF_EXPORTS if name in before}
        known["licence"] = known["licence"] or before.get("facts", {}).get("licence")
    for name in OF_FILES:
        value = known.pop(name)
        if value is not None:
            description[name] = value
    uncounted = sorted(count_products(state.network, state.classes, state.input_shape).uncounted)
    description |= {"facts": known, "cost": cost_of(state, state.build()) | {"uncounted": uncounted}}
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


def record(folder: Path, what: str, value: Any, file: Path | None = None) -> None:
    """Write what was measured into the description and the card of a saved model; nothing if it has no card.

    Args:
        what: one of OF_EXPORTS.
        value: None removes it: what was known of a file of this name before is not of the present one.
        file: the program that it is of; the card has those in the model's folder. None: of the sub-model as it is.

    Raises:
        ConfigError: the folder cannot be written to.
    """
    description = read_json(folder / DESCRIPTION_FILE)
    if "facts" not in description or (file is not None and file.parent.resolve() != folder.resolve()):
        return
    values = description if file is None else description.setdefault(what, {})
    values[what if file is None else file.name] = value
    if value is None:
        del values[what if file is None else file.name]
    try:
        write_file(folder / DESCRIPTION_FILE, json.dumps(description, indent=1))
        write_file(folder / CARD_FILE, card(description))
    except OSError as error:
        raise ConfigError(
            f"the card cannot be written: {error}; to go on without it, copy {folder} to a folder of yours"
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
    is_users_network = f"network {description['network']}" in facts["imports"]
    loading = ["\n".join(LOADING_THE_NETWORK).format("FILE_OF_THE_NETWORK")] if is_users_network else []
    load = "model = tailor.load_model(FOLDER_OF_THIS_FILE)"
    rows = _rows(description)
    parts = [
        f"# {escape(description['network'])} for {escape(facts['data'])}",
        f"A sub-model made by {escape(facts['method'])}. Its decisions read the {facts['decides_on']} split; the test "
        "split decided nothing in it. `model.json` has all settings, and the width of each layer.",
        "\n".join(["| what | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)]),
        "## Use",
        fence("\n\n".join([*loading, "import tailor", load]), "python"),
        _inputs(description),
    ]
    if "preprocess" in description:
        parts.append("From an image file to inputs, in this order (`preprocess` in model.json and in exported files):")
        parts.append(fence("\n".join(json.dumps(step) for step in description["preprocess"]), "json"))
    if "class_names" in description:
        parts.append("The outputs are scores of these classes, the largest wins (`class_names`, likewise):")
        parts.append(fence(json.dumps(description["class_names"], ensure_ascii=False), "json"))
    parts += ["## Made by", fence(facts["command"], "text")]
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
    if cost.get("uncounted"):
        yield "not counted in them", escape(", ".join(cost["uncounted"]))
    yield "parameters", f"{cost['params']:,}"
    for split, score in facts["scores"].items():
        yield f"{split} {facts['metric'].replace('_', ' ')}", f"{score:.4f}"
    speeds = {f"speed of {file}": speed for file, speed in description.get("speed_of_files", {}).items()}
    if "speed" in description:
        speeds = {"speed": description["speed"]} | speeds
    for name, speed in speeds.items():
        of_0_3 = {key: value for key, value in speed.items() if key != "widths"}  # 0.2 padded some files
        yield escape(name), escape(str(Speed(**of_0_3)))
    if not speeds:
        yield "speed", SPEED_UNKNOWN
    for file, types in description.get("types_of_files", {}).items():
        yield f"numbers of {escape(file)}", types
    yield "trial", f"{facts['trial_id']}, operating point {facts['point']}, measured by stage {facts['stage_key']}"
    for record, sha256 in facts["imports"].items():
        yield escape(record), f"of a user's module, SHA-256 {sha256}"
    yield "licence", "not given" if facts["licence"] is None else escape(facts["licence"])


def saved_text(folder: Path, network: str) -> str:
    """Return the line that says where a sub-model was saved, and how to load it in Python."""
    plugin = plugin_of(NETWORKS, network)
    loading = (
        [] if plugin is None else ["; ".join(LOADING_THE_NETWORK).format(repr(str(plugin.user_file.path.resolve())))]
    )
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
