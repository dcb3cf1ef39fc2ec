"""docs/notebook.ipynb runs from top to bottom, in a Jupyter kernel, and is committed without outputs."""

import re
from pathlib import Path
from typing import Any

import pytest

from transtailor.sources import ROOT


def read_notebook() -> Any:
    """Return the notebook; nbformat is imported where a notebook is read, because all test processes import this."""
    import nbformat

    return nbformat.read(ROOT / "docs" / "notebook.ipynb", as_version=4)


@pytest.mark.check
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = read_notebook()
    client = NotebookClient(notebook, timeout=550, startup_timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "\n".join(str(output.get("text", "")) + str(output.get("data", "")) for output in shown)
    assert re.search(r"\(5\d\.\d% removed\)", text)  # how far beyond half depends on the processor
    assert "notebook: 6 trials" in text and "all trials are finished" in text
    assert "image/svg+xml" in text or "vega" in text  # the figure
    assert (tmp_path / "models" / "best" / "model.safetensors").is_file()


def test_it_is_committed_without_outputs() -> None:
    import nbformat

    notebook = read_notebook()
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code and all(not cell.outputs and cell.execution_count is None for cell in code)
