"""The command line, as it is typed."""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.commands import Said

Command = Callable[..., Said]


def test_report_prints_where_it_is(tmp_path: Path, synthetic: Any) -> None:
    """In a process of its own; what follows calls the same function in this one."""
    run = synthetic(seeds=(0,)).write(tmp_path / "my run's")
    words = [sys.executable, "-m", "transtailor", "report", run]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{run / 'report.html'}\n"
    assert (run / "report.html").is_file()


def test_query_prints_markdown_where_it_is_no_terminal(tmp_path: Path, synthetic: Any, command: Command) -> None:
    synthetic(seeds=(0, 1)).write(tmp_path)
    done = command("query", tmp_path, "SELECT label, count(*) AS trials, NULL AS x FROM planned GROUP BY 1 ORDER BY 1")
    assert done.returncode == 0
    assert (
        done.stdout == "| label | trials | x |\n| --- | ---: | ---: |\n| fine_tune | 2 |  |\n| transtailor | 2 |  |\n"
    )


def test_a_query_may_give_its_columns_any_names(tmp_path: Path, synthetic: Any, command: Command) -> None:
    synthetic(seeds=(0,)).write(tmp_path)
    sql = "SELECT 'x' AS metric, 1 AS score, 2 AS score, [3, 'nan'::DOUBLE] AS difference"
    assert "| x | 1 | 2 | \\[3.0, nan\\] |" in command("query", tmp_path, sql).stdout
    said = json.loads(command("query", tmp_path, sql, "--format", "json").stdout)
    assert said["tables"]["query"] == [{"metric": "x", "score": 1, "score_2": 2, "difference": [3.0, None]}]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("report", "RUN/nowhere"), "no folder"),
        (("report", "RUN/empty"), "is no run"),
        (("query", "RUN", "SELECT * FROM trails"), "trials"),
        (("query", "RUN", "SELEC"), "the query failed"),
        (("query", "RUN", ""), "expected one query"),
        (("query", "RUN"), " 'SELECT * FROM trials'"),
        (("repot", "RUN"), "report"),
        (("table", "RUN", "full", "fine-tuning"), "a name with blanks needs quotes"),
    ],
)
def test_mistakes_say_why_exit_2_and_write_nothing(
    tmp_path: Path, words: tuple[str, ...], reason: str, command: Command
) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "empty").mkdir()
    done = command(*(word.replace("RUN", str(tmp_path)) for word in words))
    assert done.returncode == 2
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "tables"]


@pytest.mark.check
def test_a_reader_that_has_had_enough_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    words = [sys.executable, "-m", "transtailor", "query", str(tmp_path), "FROM range(100000)"]
    shell = f"{shlex.join(words)} | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {shell}"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
