"""docs/notebook.ipynb runs from top to bottom, in a Jupyter kernel, and is committed without outputs."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from transtailor.sources import ROOT

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


@pytest.mark.check
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=550, startup_timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "\n".join(str(output.get("text", "")) + str(output.get("data", "")) for output in shown)
    assert re.search(r"\(5\d\.\d% removed\)", text)  # how far beyond half depends on the processor
    assert "notebook: 6 trials" in text and "all trials are finished" in text
    assert "image/svg+xml" in text or "vega" in text  # the figure
    assert (tmp_path / "models" / "best" / "model.safetensors").is_file()


def test_it_is_committed_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code and all(not cell.outputs and cell.execution_count is None for cell in code)
