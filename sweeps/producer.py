"""What adds trials to the run of a spec."""

from sweeps.run.run_folder import RunFolder
from sweeps.run.trial_producer import TrialProducer
from sweeps.spec.spec import Spec


def producer_of(spec: Spec, run: RunFolder, *, extend: bool = False) -> TrialProducer | None:
    """Return what adds trials to the run of a spec; None: its plan has all trials. Raises as `TrialProducer`."""
    if spec.search is not None:
        from sweeps.search.run_search import RunSearch

        return RunSearch(spec, run, extend=extend)
    if spec.settle is not None:
        from sweeps.settle.run_settle import RunSettle  # scipy takes 0.3 s

        return RunSettle(spec, run)
    return None
