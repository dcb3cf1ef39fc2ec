"""docs/python.md says what is so: its blocks run, from top to bottom."""

from pathlib import Path
from typing import Any

import pytest

from tests.pages import DOCS, blocks, run_block


@pytest.mark.check
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks(DOCS / "python.md"):
        run_block(block, tmp_path, names)
    names["tables"].close()
    printed = capsys.readouterr().out
    assert (
        "first: 6 trials" in printed and "finished {'finished': 6, 'running': 0, 'waiting': 0, 'failed': 0}" in printed
    )
    assert len(names["plan"].trials) == 6
    assert set(names["compared"]["label"]) == {"fine-tuning", "l1"} and set(names["means"]["arm"]) == {
        "fine-tuning", "l1", "random",
    }  # fmt: skip
    (best,) = names["best"].itertuples()
    assert best.macs <= 0.8 * best.original_macs
    assert sum(weights.numel() for weights in names["model"].parameters()) == best.params
    assert (tmp_path / "front.svg").stat().st_size > 1000
