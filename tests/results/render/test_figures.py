"""The scripts of a report are made once, and nobody else decides what they are."""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from results.render.figures import bundle

pytestmark = pytest.mark.check
KEPT = "const kept = true;"


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's cache folder, and this process as if it had made no report yet."""
    bundle.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    yield tmp_path / "caches"
    bundle.cache_clear()


def test_the_scripts_are_kept_for_the_next_report(caches: Path) -> None:
    made = bundle()
    (kept,) = caches.glob("transtailor/*")
    assert len(made) > kept.stat().st_size > 500_000
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    kept.write_text(KEPT)
    bundle.cache_clear()
    assert bundle().endswith(f"*/\n{KEPT}")
    for place, mode in ((kept, 0o620), (kept.parent, 0o702)):
        before = stat.S_IMODE(place.stat().st_mode)
        place.chmod(mode)
        bundle.cache_clear()
        assert bundle() == made, "others could have written it"
        place.chmod(before)


def test_without_a_cache_folder_they_are_made_each_time(caches: Path) -> None:
    caches.touch()
    assert "window.vegaEmbed" in bundle()
    assert caches.read_bytes() == b""
