"""The launches of a run, as its provenance.json has them."""

from pathlib import Path
from typing import Any

from transtailor.documents import read_json


def launches_of(run: Path) -> list[dict[str, Any]]:
    """Return what is recorded of each launch, the newest last; none if provenance.json is not there or damaged."""
    try:
        history = read_json(run / "provenance.json")["history"]
        return [launch for launch in history if isinstance(launch, dict)]
    except (OSError, ValueError, LookupError, TypeError):
        return []
