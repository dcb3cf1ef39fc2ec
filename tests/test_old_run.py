"""A run of version 0.1.0 stays readable and can be continued: see tests/fixtures/run_0_1/README.md."""

import tarfile
from pathlib import Path

import pytest

from results.store.reader import load
from tests.commands import launch, results_command, sweeps_command

ROOT = Path(__file__).parents[1]
ARCHIVE = ROOT / "tests" / "fixtures" / "run_0_1" / "run.tar.xz"
FINISHED = {
    "63d400a6a52b6ad4", "49da9f77fa7381bb", "132a3ae54df95bab", "3d2d00592be470a6", "8bf82739f8b22ca1",
    "101315567d7ce08a", "bb393bc59887d647",
}  # fmt: skip
FAILED, INTERRUPTED = "9eec299e74ef692f", "ed68f38fb547ad96"
pytestmark = pytest.mark.check
POINTS = 11  # operating points of the finished trials


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the archive is unpacked: `kept.toml`, `runs/kept` and `cache` are in it."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def test_its_tables_are_read(folder: Path) -> None:
    with load(folder / "runs" / "kept") as tables:
        ends = {str(row["trial_id"]): row["status"] for row in tables.rows("SELECT * FROM trials")}
        attempts = tables.rows("SELECT * FROM attempts WHERE status = 'interrupted'")
        planned = {str(row["trial_id"]) for row in tables.rows("SELECT * FROM planned")}
        points = tables.rows("SELECT * FROM operating_points")
    assert ends == dict.fromkeys(FINISHED, "finished") | {FAILED: "failed"}
    assert [row["trial_id"] for row in attempts] == [INTERRUPTED]
    assert planned == FINISHED | {FAILED, INTERRUPTED}
    assert len(points) == POINTS


def test_it_is_reported_and_queried(folder: Path) -> None:
    assert results_command("report", "runs/kept", folder=folder).returncode == 0
    page = (folder / "runs" / "kept" / "report.html").read_text()
    assert "TransTailor, digits" in page and FAILED in page
    query = "SELECT count(*) AS n FROM operating_points"
    assert str(POINTS) in results_command("query", "runs/kept", query, folder=folder).stdout
    status = sweeps_command("status", "runs/kept", folder=folder)
    assert "| 9 | 7 | 0 | 1 | 1 |" in status.stdout


@pytest.mark.check
def test_it_is_continued_under_another_name(folder: Path) -> None:
    """Two of its trials have new ids, so it is not extended; a run of another name computes nothing again."""
    spec = folder / "kept.toml"
    text = spec.read_text()
    spec.write_text(text.replace("seed = [0, 1]", "seed = [0, 1, 2]").replace("seed = 1\n", "seed = [1, 2]\n"))
    stages = {path.parent.name for path in (folder / "cache").glob("??/[!.]*/stage.json")}
    with load(folder / "runs" / "kept") as tables:
        before = tables.rows("SELECT * EXCLUDE (written_at) FROM operating_points ORDER BY ALL")
    refused = launch("kept.toml", "--site", "serial", "--extend", "--update-code", folder=folder)
    assert refused.returncode == 2 and "type --name NAME for a new run" in refused.stderr
    with load(folder / "runs" / "kept") as tables:
        assert tables.rows("SELECT * EXCLUDE (written_at) FROM operating_points ORDER BY ALL") == before
    done = launch("kept.toml", "--site", "serial", "--name", "kept_on", folder=folder)
    assert done.returncode == 1, done.stdout + done.stderr  # the arm that diverges fails again
    with load(folder / "runs" / "kept_on") as tables:
        ends = {str(row["trial_id"]): row["status"] for row in tables.rows("SELECT * FROM trials")}
        computed = {str(row["stage_key"]) for row in tables.rows("SELECT stage_key FROM stages WHERE NOT cached")}
        after = tables.rows("SELECT * FROM operating_points")
    renamed = FINISHED - set(ends)
    assert len(ends) == 13 and [trial for trial, end in ends.items() if end == "failed"] == [FAILED]
    assert len(renamed) == 2 and not computed & stages
    scores = {(row["trial_id"], row["point"]): row["validation_score"] for row in after}
    kept = [row for row in before if row["trial_id"] not in renamed]
    closely = {"abs": 0.01}  # their heads are fitted anew, by a key of today; another processor rounds differently
    assert kept and all(
        scores[row["trial_id"], row["point"]] == pytest.approx(row["validation_score"], **closely) for row in kept
    )
