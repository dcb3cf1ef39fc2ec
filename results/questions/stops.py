"""What the paper's stop rule would have chosen with a tolerance: every trial ran its whole path, so it is a query."""

from collections.abc import Iterator
from dataclasses import replace

from results.arms.comparison import Point, arm_of, compare, environments_of, points_of
from results.arms.counts import trials_line
from results.arms.flags import Facts, flag_lines, flags_of
from results.arms.problem import Problem
from results.arms.verdict import comparison_record
from results.errors import ResultsError
from results.statistics.paths import stop_rule
from results.store.reader import Run
from results.text.page import Note, Part, answer_table, notes
from results.text.shown import DIFFERENCE_INTERVAL, FLAGS, PROBLEM, SCORE_INTERVAL, VERDICT

SHOWN = (
    PROBLEM, "arm", "seeds", "removed_macs_fraction", "validation_score", "score", SCORE_INTERVAL, "difference",
    DIFFERENCE_INTERVAL, "p", "smallest_p", VERDICT, FLAGS,
)  # fmt: skip


PATHS = "FROM measured_points ORDER BY trial_id, point"


def stop_page(run: Run, tolerance: float) -> Iterator[Part]:
    """Yield a table of the points chosen on each arm's paths, compared with the ends of these paths, seed by seed.

    With [tuning], these are the paths of the best setting: settings are compared at the ends, all as one budget.

    Args:
        tolerance: as for `stop_rule`.

    Raises:
        ResultsError: no trial has several points.
    """
    ends = {point.trial_id: point for point in points_of(run) if point.is_end}
    paths: dict[tuple[Problem, str], dict[str, list[Point]]] = {}
    for row in run.rows(PATHS):
        if row["trial_id"] in ends:
            end = ends[row["trial_id"]]
            point = replace(
                end, point=row["point"], asked=row["asked_removed_macs_fraction"], removed=row["removed_macs_fraction"],
                model_key=row["model_key"], validation=row["validation_score"], test=row["test_score"],
                test_images=row["test_images"], names_one_class=bool(row["names_one_class"]),
                trained_epochs=row["trained_epochs"],
            )  # fmt: skip
            paths.setdefault((end.problem, end.arm), {}).setdefault(end.trial_id, []).append(point)
    environments, facts = environments_of(run), Facts(run)
    records = []
    for _, path_by_trial in sorted(paths.items(), key=lambda item: item[0]):
        if max(map(len, path_by_trial.values())) == 1:
            continue
        stops = [path[stop_rule([point.validation for point in path], tolerance)] for path in path_by_trial.values()]
        chosen = replace(arm_of(stops, environments), asked=None)
        whole = replace(arm_of([path[-1] for path in path_by_trial.values()], environments), asked=None)
        pair = (chosen, whole)
        beside = {"tolerance": tolerance, "flags": flags_of([pair], facts)}
        records.append({**comparison_record(compare([pair])), **chosen.record, **beside})
    if not records:
        raise ResultsError("no trial has several operating points, so there is no path to stop on")
    yield answer_table("compare --stop-at", records, "stops", shown=SHOWN)
    yield Note(
        f"Stopped at the first point more than {tolerance:g} below the one before, by the validation score. Differences"
        " are to the ends of the same paths, paired by seed, and not corrected for their number."
    )
    yield from notes([*flag_lines(records), trials_line(run)])
