"""The benchmark of stops makes a stage that does not answer, and a stop ends it."""

from benchmarks.stopping import ENDED_GOAL_S, stop_here


def test_a_stage_that_does_not_answer_is_made_and_stopped() -> None:
    noticed_s, ended_s = stop_here("serial: a stage does not answer")
    assert noticed_s is not None and 0.0 < noticed_s <= ended_s < ENDED_GOAL_S
