"""docs/own_network.md says what is so: its blocks run, from top to bottom, and print what the page shows."""

import re
from pathlib import Path
from typing import Any

import pytest

from tailor.config.pruning import PruningConfig
from tailor.user_module import prune
from tests.pages import DOCS, blocks, run_block
from transtailor.__main__ import main

PAGE = (DOCS / "own_network.md").read_text()


def test_the_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    found = blocks(DOCS / "own_network.md")
    for block in found:
        if block.kind == "python":
            run_block(block, tmp_path, names)
    (shown,) = (block.text for block in found if block.kind == "text")
    assert capsys.readouterr().out == shown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pruned", "tailored"]


@pytest.mark.check
def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder with the page's class in net.py and its network in pruned/."""
    monkeypatch.chdir(tmp_path)
    found = blocks(DOCS / "own_network.md")
    names: dict[str, Any] = {"__name__": "page"}
    first, second = [block for block in found if block.kind == "python"][:2]
    Path("net.py").write_text(first.text.partition("torch.manual_seed(0)")[0])
    run_block(first, tmp_path, names)
    run_block(second, tmp_path, names)
    lines = [line.split()[1:] for block in found if block.kind == "bash" for line in block.text.splitlines()]
    assert len(lines) == 3
    for line in lines:
        assert main(line) == 0
    assert Path("pruned/model.onnx").exists() and Path("net.table.json").exists()


def test_the_table_has_every_setting_with_its_default() -> None:
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|", PAGE, flags=re.MULTILINE)
    named = {name for names, _ in rows for name in re.findall(r"`(\w+)`", names)}
    assert named == {"criterion", *prune._OF_PRUNE}  # noqa: SLF001
    stated = {name: default for names, default in rows for name in re.findall(r"`(\w+)`", names)}
    fields = PruningConfig.model_fields
    assert stated["minimum_filters_fraction"] == str(fields["minimum_filters_fraction"].default)
    assert stated["width_multiple"] == str(fields["width_multiple"].default)
    for name in ("residual", "linear"):
        assert stated[name].strip("`").strip('"') == str(prune.DEFAULTS[name])
