"""Imports without a search for garbage."""

import gc
import sys
from pathlib import Path

import pytest

from hpc.ranks.ranks import RankHost
from transtailor.garbage import import_uncollected


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for modules."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_no_garbage_is_searched_while_a_module_is_imported(folder: Path) -> None:
    (folder / "looks_at_the_collector.py").write_text("import gc\nwas_on = gc.isenabled()\n")
    before = gc.get_freeze_count()
    assert not import_uncollected("looks_at_the_collector").was_on
    assert gc.isenabled()
    frozen = gc.get_freeze_count()
    assert frozen > before
    assert import_uncollected("looks_at_the_collector") is sys.modules["looks_at_the_collector"]
    assert gc.get_freeze_count() <= frozen, "only a first import leaves something out of later searches"


def test_after_an_import_that_fails_garbage_is_searched_again(folder: Path) -> None:
    (folder / "cannot_be_imported.py").write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        import_uncollected("cannot_be_imported")
    assert gc.isenabled()


def test_where_it_was_off_it_stays_off(folder: Path) -> None:
    (folder / "of_a_process_without.py").touch()
    gc.disable()
    try:
        import_uncollected("of_a_process_without")
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_rank_imports_its_class_so(folder: Path) -> None:
    (folder / "of_a_rank.py").write_text("import gc\nwas_on = gc.isenabled()\nclass Target: pass\n")
    RankHost().load("of_a_rank:Target")
    assert not sys.modules["of_a_rank"].was_on
