"""The table of torchvision's classifiers: docs/networks.json, and its page, docs/networks.md, written from it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torchvision

from tailor.deploy.card import escape
from tailor.facts.networks import INPUT_SHAPE, NetworkInfo
from tailor.pruning.network_facts import CLASSES
from tools.networks_saved import YES
from transtailor.files import write_file

REMOVED_MACS_FRACTION = 0.3
TOLERANCE = 1e-5  # masked and slimmed may differ only by rounding
NOT_TRIED = "not tried"
MOST_USED = (  # with these, ONNX and every method are tried, too
    *("vgg16", "vgg16_bn", "resnet18", "resnet50", "resnet101", "mobilenet_v2", "mobilenet_v3_large"),
    *("efficientnet_b0", "densenet121", "regnet_y_400mf", "convnext_tiny", "vit_b_16"),
)
DOCUMENT = Path(__file__).parent.parent / "docs" / "networks.md"
TABLE = DOCUMENT.with_suffix(".json")
COLUMNS = (
    *("network", "head", "parameters", "MACs", "inside", "coupled", "inside + linear", "coupled + linear"),
    *("can go", "passes", "rebuilt", "torch.export", "ONNX", "rule, or why not"),
    "what keeps all its filters under coupled + linear",
)
VERSION = torchvision.__version__.partition("+")[0]
METHODS_HEADING = """## Methods on widely used networks

Made by `python -m tools.methods_table`: each method and criterion trains briefly on random pixels, with the rule of the
table above. *Yes*: it runs to its end. A number: it is refused before anything trains, for the reason below.
"""
HEADING = f"""# Torchvision's classifiers

Made by `python -m tools.networks_table` with torchvision {VERSION}; all networks are without weights. It writes after
each network; after an interruption, resume it with `--untried`.

- Parameters and MACs: for {CLASSES} classes at the size {INPUT_SHAPE[1:]}. A star: the network accepts no other size.
- Number of groups of filters under each rule. *Inside*: layers that can lose filters independently. *Coupled*: also
  layers whose outputs are added to each other, which lose filters together. *+ linear*: also hidden linear layers.
- *Can go*: the largest removable share of the MACs, with one filter left in each group: inside, and coupled + linear.
- *Passes*: random filters with {REMOVED_MACS_FRACTION:.0%} of the MACs are removed under the first rule that allows it;
  forward and backward run; masked equals slimmed to {TOLERANCE:g} of the largest logit, while pruning moves logits at
  least a hundred times as far.
- *Rebuilt*: the pruned network is saved, and `tailor.load_model` in a fresh process, in which nothing may be unpickled,
  gives the same logits, bit for bit.
- *torch.export*, *ONNX*: `transtailor model export` accepts the saved network, with any number of images. It reads the
  program back and compares it with the model before it writes; see [export](export.md) for the tolerance. ONNX is tried
  with twelve widely used networks.

Published weights are loaded by name: [weights](weights.md). timm's networks work in the same way, by names such as
`network = "timm/resnet26"`, if timm is installed (`pip install 'transtailor-sweeps[timm]'`); their facts are measured
when one of them is first named, which takes seconds.
"""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The results of pruning a network, and of using the pruned one: "yes", "not tried" or the error."""

    groups: tuple[int, ...]  # under each of the rules
    can_go: tuple[float, ...]  # under each of the rules, fraction of the MACs
    passes: bool
    note: str  # the rule under which it was pruned, or the error
    whole: str  # why the other layers cannot lose filters
    rebuilt: str = NOT_TRIED
    torch_export: str = NOT_TRIED
    onnx: str = NOT_TRIED


def load_table() -> dict[str, dict[str, Any]]:
    """Network -> its `NetworkInfo` ("info"), its `Checked` ("checked") and the results of methods ("methods")."""
    lines: dict[str, dict[str, Any]] = json.loads(TABLE.read_bytes())
    return lines


def update_table(name: str, line: dict[str, Any]) -> None:
    """Replace these parts of a network's entry, in the file and on the page."""
    lines = load_table()
    lines[name] = lines.get(name, {}) | line
    write_file(TABLE, json.dumps({key: lines[key] for key in sorted(lines)}, indent=1) + "\n")
    write_file(DOCUMENT, page(lines))


def page(lines: dict[str, dict[str, Any]]) -> str:
    """The whole page."""
    checked = {name: Checked(**lines[name]["checked"]) for name in sorted(lines)}
    rows = [row(name, NetworkInfo(**lines[name]["info"]), one) for name, one in checked.items()]
    table = [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}", *rows]
    methods = methods_section({name: lines[name].get("methods", {}) for name in MOST_USED})
    return "\n".join([HEADING, count_sentence(list(checked.values())), "", *table, "", *methods]) + "\n"


def count_sentence(checked: list[Checked]) -> str:
    """A sentence with the numbers of networks that passed each check."""
    exported = sum(one.torch_export == YES for one in checked)
    return (
        f"Of {len(checked)} networks, {sum(one.passes for one in checked)} pass, "
        f"{sum(one.rebuilt == YES for one in checked)} are rebuilt, {exported} exported with torch.export and "
        f"{sum(one.onnx == YES for one in checked)} as ONNX."
    )


def methods_section(outcomes: dict[str, dict[str, str]]) -> list[str]:
    """Lines of the page: methods by networks, and why some are refused.

    Args:
        outcomes: network -> name of each method -> "yes" or why not; a missing method was not tried.
    """
    methods = list(dict.fromkeys(method for found in outcomes.values() for method in found))
    if not methods:
        return [METHODS_HEADING, "Not tried."]
    reasons: dict[str, int] = {}  # -> its number
    lines = [METHODS_HEADING, f"| method | {' | '.join(outcomes)} |", f"|{' --- |' * (len(outcomes) + 1)}"]
    for method in methods:
        cells = []
        for found in outcomes.values():
            said = found.get(method, NOT_TRIED)
            short = said in (YES, NOT_TRIED)
            cells.append(said if short else str(reasons.setdefault(said, len(reasons) + 1)))
        lines.append(f"| {escape(method)} | {' | '.join(cells)} |")
    return [*lines, "", *(f"{number}. {escape(reason)}" for reason, number in reasons.items())]


def summary(checked: Checked) -> str:
    """The results of the checks, in one line."""
    passes = "passes" if checked.passes else "fails"
    home = f"rebuilt: {checked.rebuilt}; torch.export: {checked.torch_export}; ONNX: {checked.onnx}"
    return f"{passes}, {checked.note}; {home}"


def row(name: str, info: NetworkInfo, checked: Checked) -> str:
    """A line of the table."""
    cells = (
        name + ("" if info.any_size else " \\*"),
        f"`{info.head}`",
        f"{info.params_count / 1e6:.1f} M",
        f"{info.macs / 1e9:.2f} G",
        *map(str, checked.groups),
        f"{checked.can_go[0]:.0%}, {checked.can_go[-1]:.0%}",
        YES if checked.passes else "no",
        *map(escape, (checked.rebuilt, checked.torch_export, checked.onnx)),
        checked.note,
        checked.whole,
    )
    return f"| {' | '.join(cells)} |"
