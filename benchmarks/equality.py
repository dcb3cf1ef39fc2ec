"""Whether two runs reached the same results: operating points matched by the key of their stage."""

from collections.abc import Iterable
from dataclasses import dataclass

from results.store.reader import Run

POINTS = """
SELECT stage_key, trial_id, validation_score, validation_loss, macs, predictions
FROM operating_points LEFT JOIN (
    SELECT trial_id, point, list(sample || ':' || predicted ORDER BY sample) AS predictions
    FROM (
        SELECT trial_id, point, split, image_id AS sample, CAST(prediction AS VARCHAR) AS predicted FROM predictions
        UNION ALL
        SELECT trial_id, point, split, sample_id, CAST(estimate AS VARCHAR) FROM estimates
    ) WHERE split = 'test' GROUP BY trial_id, point
) USING (trial_id, point)
ORDER BY stage_key, trial_id
"""


@dataclass(frozen=True, kw_only=True)
class Point:
    """The results of one trial at one operating point."""

    stage_key: str
    trial_id: str
    validation_score: float
    validation_loss: float
    macs: int
    test_predictions: tuple[str, ...]  # "image:class" or "sample:estimate", in their order

    @property
    def found(self) -> tuple[float, float, int, tuple[str, ...]]:
        """Everything that must be equal."""
        return self.validation_score, self.validation_loss, self.macs, self.test_predictions


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A comparison of the points of one run with those of another."""

    points: int  # distinct ones, of both runs
    pairs: int  # compared: each row of the one with each row of the other that has the same key
    missing: tuple[str, ...]  # stage keys that one of the runs has not
    different: tuple[str, ...]  # stage keys of which some pair differs
    largest_loss_difference: float  # of any pair, in nats

    @property
    def is_equal(self) -> bool:
        """Whether points were compared, and none is missing or differs."""
        return bool(self.pairs) and not self.missing and not self.different

    def __str__(self) -> str:
        if self.is_equal:
            return f"yes: {self.points} points, {self.pairs} pairs"
        return (
            f"no: of {self.points} points {len(self.missing)} are missing and {len(self.different)} differ "
            f"(loss by up to {self.largest_loss_difference:.3g})"
        )


def points_of(run: Run) -> list[Point]:
    """All operating points of a run, one for each trial that reached it.

    Raises:
        ValueError: a point has no test predictions to compare.
    """
    points = []
    for row in run.rows(POINTS):
        if not row["predictions"]:
            raise ValueError(f"{run.path}: trial {row['trial_id']} has a point without test predictions")
        predictions = tuple(row.pop("predictions"))
        points.append(Point(**row, test_predictions=predictions))
    return points


def compare(first: Iterable[Point], second: Iterable[Point]) -> Comparison:
    """Compare every point of one run with the same points of the other; equal means equal to the last bit."""
    ours, theirs = _group_by_key(first), _group_by_key(second)
    different = set()
    pairs, largest = 0, 0.0
    for key in ours.keys() & theirs.keys():
        for a in ours[key]:
            for b in theirs[key]:
                pairs += 1
                largest = max(largest, abs(a.validation_loss - b.validation_loss))
                if a.found != b.found:
                    different.add(key)
    return Comparison(
        points=len(ours.keys() | theirs.keys()),
        pairs=pairs,
        missing=tuple(sorted(ours.keys() ^ theirs.keys())),
        different=tuple(sorted(different)),
        largest_loss_difference=largest,
    )


def _group_by_key(points: Iterable[Point]) -> dict[str, list[Point]]:
    by_key: dict[str, list[Point]] = {}
    for point in points:
        by_key.setdefault(point.stage_key, []).append(point)
    return by_key
