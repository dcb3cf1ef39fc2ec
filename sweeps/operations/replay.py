"""`transtailor replay RUN`: makes every decision of a search, or every look, again from the rows that it read."""

from collections.abc import Iterator

from results.arms.looks import recorded_looks
from results.questions.search import rung_predictions
from results.store.reader import Run, load
from sweeps.errors import RunFolderError
from sweeps.run.run_folder import RunFolder, modules_of, open_run
from sweeps.search import run_search
from sweeps.search.halving import BY_ORDER
from sweeps.search.records import Proposal
from sweeps.search.run_search import read_proposals
from sweeps.settle import run_settle
from sweeps.settle.outcome import outcome_lines, verdict_text
from sweeps.spec.spec import Spec, load_spec
from sweeps.spec.toml_text import toml_value
from tailor.execution.plugins import load_copy

SHOWN = 8  # of the proposals that differ


def replay_lines(run: RunFolder) -> Iterator[str]:
    """Say that all decisions are made alike; of a search also how well each rung predicted the end. Writes nothing.

    Raises:
        RunFolderError: the sweep makes no decisions, or one differs; the text names those that do.
    """
    record = open_run(run)
    spec = load_spec(run.spec)
    if not spec.adds_trials:
        raise RunFolderError(
            f"{run.path}: its spec has no [search] and no [settle], so it has no decisions to make again"
        )
    for module in modules_of(run, record.imports):
        load_copy(module)
    with load(run.path) as tables:
        lines = _looks_again(run, spec, tables) if spec.settle is not None else _search_again(run, spec, tables)
        yield from lines


def _search_again(run: RunFolder, spec: Spec, tables: Run) -> Iterator[str]:
    assert spec.search is not None
    proposals = read_proposals(tables)
    differing = run_search.replay(spec, tables)
    if not differing:
        batches = len({proposal.batch for proposal in proposals})
        yield f"{run.path}: all {len(proposals)} proposals in {batches} batches come out the same"
        if not spec.search.is_replayable:
            yield f"but settings were proposed by {spec.search.sampler}, whose state is not kept: these were not tried"
        if spec.search.is_asynchronous:
            yield BY_ORDER
        yield from map(str, rung_predictions(tables))
        return
    lines = [f"  proposal {old.number} was {_text_of(old)}, now {_text_of(new)}" for old, new in differing[:SHOWN]]
    raise RunFolderError(
        f"{run.path}: {len(differing)} of {len(proposals)} proposals come out differently, so rows, code or Optuna "
        "have changed since:\n" + "\n".join(lines)
    )


def _looks_again(run: RunFolder, spec: Spec, tables: Run) -> Iterator[str]:
    looks = recorded_looks(tables)
    differing = run_settle.replay(spec, tables)
    if not differing:
        comparisons = len({look.comparison for look in looks})
        times = len({look.look for look in looks})
        yield f"{run.path}: {comparisons} comparisons in {times} looks come out the same"
        yield from outcome_lines(looks)
        return
    lines = []
    for old, new in differing[:SHOWN]:
        now = "not looked at" if new is None else verdict_text(new)
        lines.append(f"  look {old.look}, {old.comparison}: was {verdict_text(old)}; now {now}")
    raise RunFolderError(
        f"{run.path}: {len(differing)} of {len(looks)} decisions at looks come out differently, so rows or code have "
        "changed since:\n" + "\n".join(lines)
    )


def _text_of(proposal: Proposal | None) -> str:
    return "none" if proposal is None else toml_value(dict(proposal.candidate.values))
