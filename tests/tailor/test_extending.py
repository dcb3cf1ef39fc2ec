"""The pages on criteria and on extending: their code is run as it stands there, their tables are the registries."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tailor.config.allocations import ALLOCATIONS
from tailor.config.parsing import parse_trial
from tailor.config.trial import METHODS
from tailor.deploy.card import save_point, saved_text
from tailor.execution.cache import Cache
from tailor.execution.dry_run import dry_run
from tailor.execution.plugins import load
from tailor.execution.runner import StageEvent
from tailor.facts.datasets import DATASETS
from tailor.facts.networks import NETWORKS
from tailor.model.cost import original_macs
from tailor.pruning import surgery
from tailor.pruning.criteria import CRITERIA, Criterion
from tests.tailor.trials import SHORT

Run = Callable[..., list[StageEvent]]
DOCS = Path(__file__).resolve().parents[2] / "docs"


def block(part: str, language: str) -> str:
    """Return the one block in this language below a heading of docs/extend.md."""
    _, _, below = (DOCS / "extend.md").read_text().partition(f"\n## {part}\n")
    section = below.partition("\n## ")[0]
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.fixture
def bring(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, str], dict[str, Any]]:
    """Import a part's module as `--import` does and return its trial; the registries are as before after the test."""

    def load_part(part: str, file: str) -> dict[str, Any]:
        for registry in (CRITERIA, METHODS, NETWORKS, DATASETS):
            len(registry)  # imports what is built in
            monkeypatch.setattr(registry, "_records", dict(registry._records))  # type: ignore[attr-defined]
        (tmp_path / file).write_text(block(part, "python"))
        load(tmp_path / file)
        assert f"--import {file}\n" in block(part, "bash")
        return SHORT | tomllib.loads(block(part, "toml"))

    return load_part


def test_the_page_on_criteria_adds_one(
    bring: Callable[[str, str], dict[str, Any]], run: Run, shared_cache: Cache
) -> None:
    events = run(parse_trial(bring("A criterion", "mean_weight.py"), "test"), shared_cache)
    (scored,) = (event.result for event in events if event.result.stage.kind == "score_filters")
    found = surgery.groups(scored.model_state().build(), scored.model_state().input_shape, scored.stage.rule)  # type: ignore[attr-defined]
    assert scored.model_state().scores.keys() == {member.layer for group in found for member in group.members}
    for layer, scores in scored.model_state().scores.items():
        weight = scored.model_state().tensors[f"{layer}.weight"]
        torch.testing.assert_close(scores, torch.stack([filter_.abs().mean() for filter_ in weight]))
    assert events[-1].point == 0


def test_the_page_on_methods_adds_one(
    bring: Callable[[str, str], dict[str, Any]], run: Run, shared_cache: Cache
) -> None:
    config = parse_trial(bring("A method", "gradual.py"), "test")
    events = run(config, shared_cache)
    assert [event.result.key for event in events] == [stage.key for stage in dry_run(config).stages]
    removed = [e.result.removed_macs_fraction for e in events if e.result.stage.kind == "prune"]
    assert removed == pytest.approx([0.3 * 7 / 8, 0.3], abs=0.03)
    assert [event.point for event in events if event.point is not None] == [0, 1]


@pytest.mark.check
def test_the_page_on_networks_adds_one(
    bring: Callable[[str, str], dict[str, Any]], run: Run, shared_cache: Cache, tmp_path: Path
) -> None:
    """Its card's code loads it in another process, and so does the line that says where it was saved."""
    config = parse_trial(bring("A network", "wide_net.py"), "test")
    events = run(config, shared_cache)
    info, point = NETWORKS["wide_net"], events[0]
    state = point.result.model_state()
    assert events[0].result.stage.network_sha256 is not None  # type: ignore[attr-defined]
    assert info.macs == original_macs(state)
    assert info.params_count == sum(tensor.numel() for tensor in state.tensors.values())
    assert info.head_params_count == sum(state.tensors[name].numel() for name in state.head_names())
    assert events[-1].result.info["macs"] <= 0.9 * info.macs

    save_point(config, events[-1], events[-1].result.model_state(), tmp_path / "saved", command="", licence=None)
    (code,) = re.findall(r"^```python\n(.*?)^```", (tmp_path / "saved" / "card.md").read_text(), re.M | re.S)
    line = saved_text(tmp_path / "saved", config.network).partition("to load it: ")[2]
    code = code.replace("FOLDER_OF_THIS_FILE", repr(str(tmp_path / "saved")))
    for pasted in (code.replace("FILE_OF_THE_NETWORK", repr(str(tmp_path / "wide_net.py"))), line):
        subprocess.run([sys.executable, "-c", pasted], cwd=DOCS.parent, check=True)


@pytest.mark.check
def test_the_page_on_data_sets_adds_one(
    bring: Callable[[str, str], dict[str, Any]], run: Run, shared_cache: Cache
) -> None:
    config = parse_trial(bring("A data set", "stripes.py"), "test")
    events = run(config, shared_cache)
    info = events[-1].result.info
    assert info["validation_images"] == 400 - 150 - 100
    assert info["validation_score"] > 0.9  # of two classes
    assert events[1].result.stage.task.sha256 == config.data.info.sha256 is not None  # type: ignore[attr-defined]


def what_it_reads(known: Criterion) -> str:
    if known.reads_data:
        return "images and labels" if known.reads_labels else "images"
    return "nothing" if known.draws else "weights"


def test_the_table_of_criteria_is_the_registry() -> None:
    table, *_ = (DOCS / "criteria.md").read_text().split("\n## ")
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE)
    stated = {name: cells.split(" | ")[1:] for name, cells in rows}
    assert stated == {
        name: [known.source, what_it_reads(known), ", ".join(known.needs) or "nothing"]
        for name, known in CRITERIA.items()
    }


def test_the_tables_of_allocations_are_the_registry() -> None:
    names, settings = (DOCS / "allocations.md").read_text().split("## LeGR")
    assert re.findall(r"^\| `(\w+)` \|", names, re.MULTILINE) == list(ALLOCATIONS)
    stated: dict[str, float | None] = {}
    for left, default in re.findall(r"^\| (`.*`) \| ([^|;:]*).*\|$", settings, re.MULTILINE):
        numbers = re.findall(r"[\d.]+", default) or [None]
        stated |= zip(re.findall(r"`(\w+)`", left), numbers, strict=True)
    legr = ALLOCATIONS["legr"]
    assert legr.model_fields.keys() - stated.keys() == {"name"}
    defaults = {name: getattr(legr(), name) for name in stated}
    assert {name: number and float(number) for name, number in stated.items()} == defaults
