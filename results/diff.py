"""The differences of two runs: specs, code, trials, results."""

import difflib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from results.arms.same_data import data_digests
from results.errors import ResultsError
from results.store.reader import Run, load
from transtailor.documents import read_json
from transtailor.lines import lines_of

SHOWN = 12
"""At most this many lines of one kind are printed; the rest is counted."""

IN_BOTH = """
SELECT a.trial_id, a.point, a.arm, a.seed, a.macs AS a_macs, b.macs AS b_macs,
    a.validation_score AS a_score, b.validation_score AS b_score
FROM operating_points AS a JOIN operating_points AS b USING (trial_id, point)
WHERE a.run = ? AND b.run = ?
ORDER BY abs(a.validation_score - b.validation_score) DESC, trial_id, point
"""
ENVIRONMENTS = "SELECT DISTINCT device, ranks, torch_version FROM stages WHERE run = ? ORDER BY ALL"
LOOKS_IN_BOTH = """
SELECT a.arm, a.asked_removed_macs_fraction AS asked, a.seeds, a.verdict AS a_verdict, b.verdict AS b_verdict,
    (a.verdict, a.seeds, a.mean) IS NOT DISTINCT FROM (b.verdict, b.seeds, b.mean) AS is_equal
FROM looks AS a JOIN looks AS b USING (look, network, dataset, arm)
WHERE a.run = ? AND b.run = ?
    AND (a.train_images, a.asked_removed_macs_fraction)
        IS NOT DISTINCT FROM (b.train_images, b.asked_removed_macs_fraction)
ORDER BY look, arm, asked
"""
ENDS = """
SELECT trial_id, arm, coalesce(status, 'not over') AS status
FROM planned LEFT JOIN trials USING (run, trial_id) WHERE run = ? ORDER BY trial_id
"""


def run_lines(first: Path, second: Path) -> Iterator[str]:
    """Yield the lines to print on two runs: specs, code, environments, trials, and the points that both have.

    Raises:
        ResultsError: one of them is no run, or both are the same.
    """
    with load([first, second]) as both:
        a, b = both.paths
        yield from _specs(first, second)
        yield from _codes(first, second)
        yield from _data(data_digests(first), data_digests(second))
        yield from _same_or_both("computed on", _environments(both, a), _environments(both, b))
        first_ends = {row["trial_id"]: row for row in both.rows(ENDS, [a])}
        second_ends = {row["trial_id"]: row for row in both.rows(ENDS, [b])}
        yield from _trials(first_ends, second_ends, a, b)
        yield from _results(both.rows(IN_BOTH, [a, b]), a, b)
        yield from _looks(both.rows(LOOKS_IN_BOTH, [a, b]), a, b)


def _specs(first: Path, second: Path) -> Iterator[str]:
    old_spec = first / "spec.toml"
    new_spec = second / "spec.toml"
    missing = [path for path in (old_spec, new_spec) if not path.is_file()]
    if missing:
        yield f"specs: not compared, no {' and no '.join(map(str, missing))}"
        return
    old = lines_of(old_spec.read_text(encoding="utf-8"))
    new = lines_of(new_spec.read_text(encoding="utf-8"))
    lines = list(difflib.unified_diff(old, new, str(old_spec), str(new_spec), n=0, lineterm=""))
    yield f"specs: {'different' if lines else 'the same'}"
    for line in lines:
        yield f"  {line}"


def _codes(first: Path, second: Path) -> Iterator[str]:
    a = _digest(first)
    b = _digest(second)
    if a is None or b is None:
        yield "code: not compared, because one of them has no provenance.json"
        return
    yield from _same_or_both("code", a[:12], b[:12])
    if a != b:
        yield f"  to compare: diff -r {first / 'code' / a[:12]} {second / 'code' / b[:12]}"


def _data(first: dict[str, str], second: dict[str, str]) -> Iterator[str]:
    for name in sorted(first.keys() & second.keys()):
        if first[name] != second[name]:
            yield f"data set {name}: other images, {first[name][:12]}  |  {second[name][:12]}"


def _digest(run: Path) -> str | None:
    """Read the digest of the code that may continue a run; None if the run has no provenance.

    Raises:
        ResultsError: its provenance is damaged.
    """
    path = run / "provenance.json"
    try:
        return str(read_json(path)["code_digest"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResultsError(f"{str(path)!r} is damaged: {error!r}; put it back from a copy") from error


def _environments(both: Run, name: str) -> str:
    rows = both.rows(ENVIRONMENTS, [name])
    return "; ".join(f"{row['device']}, {row['ranks']} ranks, torch {row['torch_version']}" for row in rows) or "-"


def _same_or_both(what: str, first: str, second: str) -> Iterator[str]:
    yield f"{what}: the same, {first}" if first == second else f"{what}: {first}  |  {second}"


def _trials(first: dict[str, dict[str, Any]], second: dict[str, dict[str, Any]], a: str, b: str) -> Iterator[str]:
    common = [trial_id for trial_id in first if trial_id in second]
    only_first = len(first) - len(common)
    only_second = len(second) - len(common)
    yield f"trials: {len(common)} in both, {only_first} only in {a}, {only_second} only in {b}"
    for name, own, other in ((a, first, second), (b, second, first)):
        arms: dict[str, int] = {}
        for trial_id, row in own.items():
            if trial_id not in other:
                arms[row["arm"]] = arms.get(row["arm"], 0) + 1
        yield from _some([f"  only in {name}: {arm} ({count})" for arm, count in sorted(arms.items())])
    differences = []
    for column in ("arm", "status"):
        for trial_id in common:
            old = first[trial_id][column]
            new = second[trial_id][column]
            if old != new:
                differences.append(f"  {trial_id}: {old}  |  {new}")
    yield from _some(differences)


def _results(rows: list[dict[str, Any]], a: str, b: str) -> Iterator[str]:
    different = [row for row in rows if not _equal(row)]
    yield f"results: of {len(rows)} operating points in both, {len(different)} differ"
    lines = []
    for row in different:
        lines.append(
            f"  {row['trial_id']} point {row['point']} ({row['arm']}, seed {row['seed']}): validation"
            f" {row['a_score']:.6f} in {a}, {row['b_score']:.6f} in {b}; MACs {row['a_macs']:,}, {row['b_macs']:,}"
        )
    yield from _some(lines)


def _looks(rows: list[dict[str, Any]], a: str, b: str) -> Iterator[str]:
    """Yield the looks of [settle] that decided otherwise, or by other numbers; nothing if no comparison is in both."""
    if not rows:
        return
    different = [row for row in rows if not row["is_equal"]]
    yield f"looks: of {len(rows)} decisions in both, {len(different)} differ"
    lines = []
    for row in different:
        budget = f" at {100 * row['asked']:g}% fewer MACs" if row["asked"] else ""
        lines.append(
            f"  {row['arm']}{budget}, {row['seeds']} seeds: {row['a_verdict']} in {a}, {row['b_verdict']} in {b}"
        )
    yield from _some(lines)


def _equal(row: dict[str, Any]) -> bool:
    both_unknown = math.isnan(row["a_score"]) and math.isnan(row["b_score"])
    return row["a_macs"] == row["b_macs"] and (both_unknown or row["a_score"] == row["b_score"])


def _some(lines: Sequence[str]) -> Iterator[str]:
    yield from lines[:SHOWN]
    if len(lines) > SHOWN:
        yield f"  ... and {len(lines) - SHOWN} more"
