"""Models timed in turns: by a clock that goes on only while a model runs."""

from collections.abc import Callable, Iterator

import pytest

from tailor.model import timing
from tailor.model.timing import PASSES_OF_A_TURN, WARM_UP_PASSES, is_steady, time_in_turns


class Clock:
    """A clock that a pass moves on, and the order in which the passes ran."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.ran: list[str] = []

    def model(self, name: str, seconds: Callable[[int], float]) -> Callable[[], None]:
        """A pass that takes `seconds(n)`, where n counts the passes of all models so far."""

        def run() -> None:
            self.now_s += seconds(len(self.ran))
            self.ran.append(name)

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(timing, "perf_counter", lambda: clock.now_s)
    return clock


def test_models_take_turns_and_the_order_changes_with_the_round(clock: Clock) -> None:
    times = time_in_turns({"a": clock.model("a", lambda _: 2.0), "b": clock.model("b", lambda _: 0.5)}, rounds=2)
    turn = 1 + PASSES_OF_A_TURN
    assert clock.ran == [*"a" * WARM_UP_PASSES, *"b" * WARM_UP_PASSES, *("a" * turn + "b" * turn * 2 + "a" * turn)]
    assert (times["a"].median_ms, times["b"].median_ms) == (2000.0, 500.0)
    assert (times["a"].speed, times["b"].speed) == (1.0, 4.0)
    assert times["a"].is_steady and times["b"].is_steady


def test_a_machine_that_becomes_slower_for_all_changes_no_ratio(clock: Clock) -> None:
    models = {"a": clock.model("a", lambda n: 2.0 + n // 100), "b": clock.model("b", lambda n: 1.0 + n // 100 / 2)}
    times = time_in_turns(models, rounds=30)
    assert times["b"].speed == pytest.approx(2.0)
    assert times["b"].is_steady
    assert not times["a"].is_steady


def test_what_is_not_steady_is_timed_again_at_the_end(clock: Clock) -> None:
    """The second half of the first rounds disturbs b alone; later it is undisturbed."""
    rounds = 8
    passes = 3 * WARM_UP_PASSES + rounds * 3 * (1 + PASSES_OF_A_TURN)
    disturbed = range(passes // 2, passes)
    models = {
        "a": clock.model("a", lambda _: 2.0),
        "b": clock.model("b", lambda n: 9.0 if n in disturbed else 1.0),
        "c": clock.model("c", lambda _: 4.0),
    }
    times = time_in_turns(models, rounds=rounds)
    assert (times["b"].median_ms, times["b"].speed, times["b"].is_steady) == (1000.0, 2.0, True)
    assert set(clock.ran[passes:]) == {"a", "b"}


def test_time_and_speed_of_a_model_agree_whatever_the_others_took_in_other_rounds(clock: Clock) -> None:
    """The machine is three times as slow when b is timed again."""
    rounds = 8
    passes = 2 * WARM_UP_PASSES + rounds * 2 * (1 + PASSES_OF_A_TURN)
    models = {
        "a": clock.model("a", lambda n: 6.0 if n >= passes else 2.0),
        "b": clock.model("b", lambda n: 3.0 if n >= passes else 9.0 if n > passes // 2 else 1.0),
    }
    b = time_in_turns(models, rounds=rounds)["b"]
    assert (b.median_ms, b.speed, b.first_ms) == (3000.0, 2.0, 6000.0)


def test_what_stays_unsteady_says_so(clock: Clock) -> None:
    times = time_in_turns({"a": clock.model("a", lambda n: 1.0 + n)}, rounds=4)
    assert not times["a"].is_steady


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0, 1.05], True), ([1.0, 1.06], False), ([1.06, 1.0], False), ([1.0, 9.0, 1.0, 1.0, 9.0, 1.0], True)],
)
def test_halves_are_compared_by_their_medians(values: list[float], expected: bool) -> None:
    assert is_steady(values) == expected
