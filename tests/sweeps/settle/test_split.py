"""Nothing that decides reads the test split, but the looks of [settle], which choose how many seeds run."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from results.store.files import growing_file
from results.store.reader import load
from sweeps.search.run_search import read_scores
from tests.results.exact_run import Trial, write_run

ROOT = Path(__file__).resolve().parents[3]
READS = re.compile(r"\btest_score\b|split = 'test'|FROM (?:predictions|estimates)\b")
DECIDES = {"sweeps/settle/look_scores.py"}
SHOWS = {
    "sweeps/operations/launch.py",  # a query that it recommends at the end
    "sweeps/search/outcome.py",  # what was confirmed, when the search has ended
    "tailor/deploy/card.py",  # the card of a saved model
}
MAY_IMPORT = {"sweeps/settle/run_settle.py", "sweeps/settle/decisions.py"}


def sources() -> Iterator[tuple[str, str]]:
    for room in ("sweeps", "tailor", "hpc"):
        for path in sorted((ROOT / room).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text()


def test_only_looks_and_what_is_shown_name_the_test_split() -> None:
    found = {path for path, text in sources() if READS.search(text)}
    assert found == DECIDES | SHOWS


def test_only_looks_read_their_scores() -> None:
    importing = set()
    for path, text in sources():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module == "sweeps.settle.look_scores":
                importing.add(path)
    assert importing == MAY_IMPORT


def test_what_a_search_reads_does_not_change_with_the_test_split(tmp_path: Path) -> None:
    trials = [Trial(label="a", seed=seed, right=(80 + seed,), validation=(0.7,)) for seed in range(3)]
    run = write_run(tmp_path / "r", trials)
    with load(run) as tables:
        before = read_scores(tables)
        wrong = tables.arrow("SELECT * REPLACE (9 AS prediction) FROM predictions")
    assert len(before) == 3 and len(wrong) == 300
    file = growing_file(run / "tables", "predictions", 1, 1)
    pq.write_table(wrong.cast(pq.read_schema(file)), file)
    with load(run) as tables:
        assert read_scores(tables) == before
        (score,) = tables.rows("SELECT max(test_score) AS score FROM measured_points")
    assert score == {"score": 0.0}
