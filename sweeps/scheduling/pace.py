"""How fast a sweep works, and how long the rest of it may take."""

from bisect import bisect_right

KNOWN_AFTER_S, KNOWN_FRACTION = 5.0, 0.02  # of time and work: before that, the pace is not known
MOMENTS = 50  # remembered of the last two thirds of a sweep


class Pace:
    """How much work was done when, and how long the rest may take."""

    def __init__(self) -> None:
        self._at_s = [0.0]
        self._done = [0.0]

    def note(self, at_s: float, done: float) -> None:
        """Note how much work was done at a moment, in seconds since the start; to be called in order."""
        if done <= 0.0:  # processes start
            self._at_s, self._done = [at_s], [0.0]
        elif at_s - self._at_s[-1] >= (at_s - self._at_s[0]) / MOMENTS:
            self._at_s.append(at_s)
            self._done.append(done)

    def left_s(self, at_s: float, done: float, left: float) -> tuple[float, float | None] | None:
        """The least and the most seconds that the rest may take; None: too little is done to know.

        The rest may be as fast as all work so far, as the second half of the time, or as its last quarter. These differ
        where stages are of other kinds, or slots are idle at the end. The less is done, the less is known of the rest:
        at first it may be twice as fast or as slow. The most is None if nothing was done in one of these times.

        Args:
            at_s: now, in seconds since the start.
            done, left: work.
        """
        passed_s = at_s - self._at_s[0]
        if left <= 0.0 or passed_s < KNOWN_AFTER_S or done / (done + left) < KNOWN_FRACTION:
            return None
        moments = (at_s - passed_s * fraction for fraction in (1.0, 0.5, 0.25))
        since = [max(0, bisect_right(self._at_s, moment) - 1) for moment in moments]  # the first may be rounded down
        speeds = [(done - self._done[then]) / (at_s - self._at_s[then]) for then in since]
        known, slowest = done / (done + left), min(speeds)
        return left / max(speeds) * (1 + known) / 2, left / slowest * (2 - known) if slowest > 0.0 else None
