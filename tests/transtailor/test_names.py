"""What is said to somebody who typed a name that there is not."""

import re
from pathlib import Path

import pytest

from results.errors import ResultsError
from results.store.files import tables_folder
from sweeps.errors import RunFolderError
from sweeps.run.run_folder import RunFolder, open_run
from transtailor.names import closest, nearest, nearest_folder


@pytest.mark.parametrize(("typed", "close"), [("digts", "digits"), ("circle", None), ("", None)])
def test_the_closest_name_is_found_if_one_is_near(typed: str, close: str | None) -> None:
    assert closest(typed, ["photographs", "digits"]) == close


def test_the_end_of_a_message_has_the_hint_and_all_valid_names() -> None:
    assert nearest("digts", {"photos": 1, "digits": 2}) == "; did you mean 'digits'? (valid: digits, photos)"
    assert nearest("x", ["digits"]) == " (valid: digits)"
    assert nearest("x", []) == " (valid: none)"
    assert nearest("x", ["prune l1, proposal 0", "digits"]) == " (valid: digits, 'prune l1, proposal 0')"


def test_names_of_other_places_are_found_too_and_not_listed() -> None:
    elsewhere = {"learning_rate": "optimisation.learning_rate", "optimiser": "optimisation.optimiser"}
    tables = ["data", "optimisation"]
    assert nearest("learn_rate", tables, elsewhere) == (
        "; did you mean 'optimisation.learning_rate'? (valid: data, optimisation)"
    )
    assert "did you mean 'optimisation.optimiser'" in nearest("optimizer", tables, elsewhere)
    assert "did you mean 'optimisation'" in nearest("optimization", tables, elsewhere)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("runs/dmeo", "; did you mean 'runs/demo'?"),
        ("demo", "; did you mean 'runs/demo'?"),
        ("run/demo", "; did you mean 'runs/demo'?"),
        ("runs/birds", ""),
    ],
)
def test_a_folder_of_a_similar_name_is_suggested(
    typed: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    (tmp_path / "demons").mkdir()  # which is no run
    monkeypatch.chdir(tmp_path)
    assert nearest_folder(Path(typed)) == said
    with pytest.raises(ResultsError, match=re.escape(f"such as runs/demo{said}") + "$"):
        tables_folder(Path(typed))
    with pytest.raises(RunFolderError, match=re.escape(f"such as runs/demo{said}") + "$"):
        open_run(RunFolder(Path(typed)))


def test_of_a_folder_of_runs_one_of_them_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "runs" / "birds").mkdir(parents=True)
    (tmp_path / "runs" / "birds" / "plan.json").touch()
    with pytest.raises(RunFolderError, match=re.escape(f"type one, such as {tmp_path / 'runs' / 'birds'}, or")):
        open_run(RunFolder(tmp_path / "runs"))
