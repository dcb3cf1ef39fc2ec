"""A slot's process under Ray Tune, whose ranks cannot start."""

import pytest

from hpc.ranks.process_ranks import ProcessRanks
from hpc.ranks.ranks import RankGroup
from sweeps.worker.messages import SlotOrder, TrialReport
from sweeps.worker.tune_slot import TuneSlot, from_tune, to_tune
from tests.sweeps.worker.test_messages import START, TASK


class SlotHere(TuneSlot):
    """Its ranks are processes of this machine."""

    def _make_ranks(self) -> RankGroup:
        return ProcessRanks("tests.no_such_module:Rank", 1)


def test_ranks_that_raise_while_they_start_fail_the_trial_with_their_cause() -> None:
    slot = SlotHere.__new__(SlotHere)  # Tune's own part asks Ray
    slot.setup(to_tune(SlotOrder(work=TASK, start=START, report_every_s=2.0)))
    reports = [from_tune(TrialReport, slot.step())]
    while not reports[-1].ends_attempt:
        reports.append(from_tune(TrialReport, slot.step()))
    assert reports[-1].kind == "failed"
    assert reports[-1].cause == "ModuleNotFoundError: No module named 'tests.no_such_module'"
    assert "ModuleNotFoundError" in (reports[-1].log_tail or "")
    with pytest.raises(Exception, match="no_such_module"):  # so Tune ends the process
        slot.step()
