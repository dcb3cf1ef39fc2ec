"""Weights and photographs of real tasks, which are not part of the repository: in `../shared`, or in $TAILOR_SHARED."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("TAILOR_SHARED") or Path(__file__).resolve().parents[2] / "shared") / "data"


def needs_data(name: str) -> pytest.MarkDecorator:
    """Skips a test if this file or folder does not exist."""
    reason = f"{DATA / name} is not there; TAILOR_SHARED may name another folder than ../shared"
    return pytest.mark.skipif(not (DATA / name).exists(), reason=reason)
