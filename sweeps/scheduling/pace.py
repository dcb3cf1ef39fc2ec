"""How fast a sweep works, and how long the rest of it may take."""

from bisect import bisect_right

# Before so much time has passed, and so much of the work is done, the pace is not known.
KNOWN_AFTER_S = 5.0
KNOWN_FRACTION = 0.02
MOMENTS = 50  # remembered of the last two thirds of a sweep


class Pace:
    """How much work was done when, and how long the rest may take."""

    def __init__(self) -> None:
        self._at_s = [0.0]
        self._done = [0.0]

    def note(self, at_s: float, done: float) -> None:
        """Note how much work was done at a moment, in seconds since the start; to be called in order."""
        if done <= 0.0:  # processes start
            self._at_s = [at_s]
            self._done = [0.0]
        elif at_s > self._at_s[0] and at_s - self._at_s[-1] >= (at_s - self._at_s[0]) / MOMENTS:
            self._at_s.append(at_s)
            self._done.append(done)

    def left_s(self, at_s: float, done: float, left: float) -> tuple[float, float | None] | None:
        """Return the least and the most seconds that the rest may take; None: too little is done to know.

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
        speeds = []
        for fraction in (1.0, 0.5, 0.25):
            since_s = at_s - passed_s * fraction
            index = max(0, bisect_right(self._at_s, since_s) - 1)  # rounding may place it before the first moment
            speeds.append((done - self._done[index]) / (at_s - self._at_s[index]))
        done_fraction = done / (done + left)
        least_s = left / max(speeds) * (1 + done_fraction) / 2
        slowest = min(speeds)
        most_s = left / slowest * (2 - done_fraction) if slowest > 0.0 else None
        return least_s, most_s
