"""Real sweeps with [settle] by the real command: on Ray as serial, launched again, refused options."""

from pathlib import Path
from typing import Any

import pytest

from results.store.reader import load
from tests import commands
from tests.faults.tiny_sweep import NAME, SETTLE

pytestmark = pytest.mark.check
LOOKS = "SELECT * EXCLUDE (code_digest, written_at) FROM looks ORDER BY look, comparison"


def launch(folder: Path, *options: str, code: int = 0) -> str:
    (folder / "spec.toml").write_text(SETTLE)
    done = commands.launch("spec.toml", *options, folder=folder)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def rows(folder: Path, sql: str) -> list[dict[str, Any]]:
    with load(folder / "runs" / NAME) as run:
        return run.rows(sql)


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a finished sweep, and what the command printed."""
    folder = tmp_path_factory.mktemp("serial")
    return folder, launch(folder, "--site", "serial")


def test_it_ends_with_its_verdicts(serial: tuple[Path, str]) -> None:
    folder, said = serial
    looks = rows(folder, LOOKS)
    assert {look["comparison"] for look in looks} == {0, 1} and looks[-1]["seeds"] in (6, 7, 8)
    for name in ("head_only", "fine_tune more"):
        assert f"{name} against fine_tune: " in said


def test_launched_again_nothing_is_left(serial: tuple[Path, str]) -> None:
    folder, _ = serial
    before = {table: rows(folder, f"SELECT * FROM {table} ORDER BY ALL") for table in ("attempts", "looks")}
    assert "and no more are added" in launch(folder, "--site", "serial")
    assert {table: rows(folder, f"SELECT * FROM {table} ORDER BY ALL") for table in before} == before


def test_ray_decides_as_serial(serial: tuple[Path, str], tmp_path: Path) -> None:
    launch(tmp_path, "--site", "local")
    assert rows(tmp_path, LOOKS) == rows(serial[0], LOOKS)
    for sql in (
        "SELECT trial_id, arm, seed FROM planned ORDER BY ALL",
        "SELECT trial_id, status FROM trials ORDER BY ALL",
    ):
        assert rows(tmp_path, sql) == rows(serial[0], sql)


@pytest.mark.parametrize("option", [("--only", "a"), ("--again", "a"), ("--no-sharing",)])
def test_options_that_choose_trials_are_refused(tmp_path: Path, option: tuple[str, ...]) -> None:
    assert "[settle] chooses the trials, so" in launch(tmp_path, "--site", "serial", *option, code=2)


def test_more_looks_are_refused_also_with_extend(serial: tuple[Path, str]) -> None:
    folder, _ = serial
    (folder / "more.toml").write_text(SETTLE.replace("[6, 7, 8]", "[6, 7, 8, 9]"))
    done = commands.launch("more.toml", "--site", "serial", "--extend", folder=folder)
    assert done.returncode == 2 and "--name NAME for a new run" in done.stderr
