"""`transtailor replay RUN`: makes every decision of a search again from the rows that it read."""

from collections.abc import Iterator

from results.questions.search import rung_predictions
from results.store.reader import load
from sweeps.errors import RunFolderError
from sweeps.run.run_folder import RunFolder, modules_of, open_run
from sweeps.search.halving import BY_ORDER
from sweeps.search.records import Proposal
from sweeps.search.run_search import read_proposals, replay
from sweeps.spec.spec import load_spec
from sweeps.spec.toml_text import toml_value
from tailor.execution.plugins import load_copy

SHOWN = 8  # of the proposals that differ


def replay_lines(run: RunFolder) -> Iterator[str]:
    """Say that all proposals are decided alike, and how well each rung predicted the end; nothing is written.

    Raises:
        RunFolderError: the sweep does not search, or a decision differs; the text names the proposals.
    """
    record = open_run(run)
    spec = load_spec(run.spec)
    if spec.search is None:
        raise RunFolderError(f"{run.path}: its spec has no [search], so it has no decisions to make again")
    for module in modules_of(run, record.imports):
        load_copy(module)
    with load(run.path) as tables:
        proposals = read_proposals(tables)
        differing = replay(spec, tables)
        rung_lines = [str(prediction) for prediction in rung_predictions(tables)]
    if not differing:
        batches = len({proposal.batch for proposal in proposals})
        yield f"{run.path}: all {len(proposals)} proposals in {batches} batches are decided alike"
        if not spec.search.is_replayable:
            yield f"but settings were proposed by {spec.search.sampler}, whose state is not kept: these were not tried"
        if spec.search.is_asynchronous:
            yield BY_ORDER
        yield from rung_lines
        return
    lines = [f"  proposal {old.number} was {_text_of(old)}, now {_text_of(new)}" for old, new in differing[:SHOWN]]
    raise RunFolderError(
        f"{run.path}: {len(differing)} of {len(proposals)} proposals are decided otherwise, so rows, code or Optuna "
        "have changed since:\n" + "\n".join(lines)
    )


def _text_of(proposal: Proposal | None) -> str:
    return "none" if proposal is None else toml_value(dict(proposal.candidate.values))
