"""A question about a whole run, as a command and as a method of the run."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from results.arms.averaging import NAMED, average_over, notes_on_runs
from results.command_output import prints_page
from results.store.completeness import refuse_gaps
from results.store.reader import Run, load
from results.text.formats import TEXTS, answer_of, frame_of
from results.text.page import Note, Part
from transtailor import cli
from transtailor.shell import command as to_type

if TYPE_CHECKING:
    import pandas

Answer = Callable[..., Iterator[Part]]
"""From a run and options to a page."""


class Question(cli.Command):
    """The command of a question.

    Attributes:
        answer: the function that it was made of, from an open run to a page.
    """

    answer: Answer

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words that were typed; of several runs, say what takes them together."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            if "unexpected extra argument" not in error.message:
                raise
            raise click.UsageError(
                f"{error.message}; {ctx.command_path} reads one run, and a name with blanks needs quotes. For several"
                f" runs, type {to_type('report', 'RUN', 'RUN', '--out', 'FILE')}, or in Python"
                " results.load([RUN, RUN])",
                ctx,
            ) from error


def question(*, example: str) -> Callable[[Answer], Question]:
    """Decorate a function that answers a question about an open run: it becomes a command that takes the run's folder.

    Its docstring is the command's help. Before it is called, a run of which rows are lost is refused, since means would
    be of fewer trials, and the settings named by `--over` are averaged.
    """

    def decorate(answer: Answer) -> Question:
        @wraps(answer)
        def page(run: Path, over: Sequence[str] = (), **options: Any) -> Iterator[Part]:
            with load(run) as tables:
                refuse_gaps(tables)
                yield from averaged(tables, over)
                yield from answer(tables, **options)

        command = cli.command(example=example, cls=Question)(cli.run_argument(prints_page(page)))
        assert isinstance(command, Question)
        command.answer = answer
        return command

    return decorate


@dataclass(frozen=True, repr=False)
class AnswerPage:
    """What a question answers, as a method of a run returns it: a notebook shows it, `tables` are for programs.

    Example:
        print(run.effects())
        run.front(cost="params").tables["front"]
    """

    parts: tuple[Part, ...]

    @cached_property
    def tables(self) -> "dict[str, pandas.DataFrame]":
        """The tables by name, with the columns of docs/columns.md."""
        return {name: frame_of(table) for name, table in answer_of(self.parts).tables.items()}

    @property
    def notes(self) -> Sequence[str]:
        """The sentences to be read with the tables."""
        return answer_of(self.parts).notes

    def __str__(self) -> str:
        return "\n".join(TEXTS["markdown"](self.parts))

    __repr__ = __str__  # for a prompt; a dataclass's is of its parts

    def _repr_markdown_(self) -> str:
        return str(self)


def ask(run: Run, name: str, *arguments: Any, over: Sequence[str] = (), **options: Any) -> AnswerPage:
    """Return what a question answers; `arguments` and `options` are those of its command, such as `at=0.2`.

    Raises:
        ResultsError: rows of the run are lost, or the question cannot be answered.
    """
    refuse_gaps(run)
    answer = question_named(name).answer
    about_runs: list[Part] = [Note(text) for text in notes_on_runs(run)]
    if not over:
        with run.counted_once() as counted:
            return AnswerPage((*about_runs, *answer(counted, *arguments, **options)))
    # Loaded again, since the arms of this run keep their names in its other answers.
    folders = list(run.paths.values()) if len(run.paths) > 1 else run.path
    with load(folders) as reloaded:
        reloaded.count_once()
        return AnswerPage((*about_runs, *averaged(reloaded, over), *answer(reloaded, *arguments, **options)))


def question_named(name: str) -> Question:
    """Return the question of this name. Raises LookupError: there is none."""
    module = f"results.questions.{name}"
    if not name.isidentifier() or find_spec(module) is None:
        raise LookupError(name)
    command = getattr(import_module(module), name, None)
    if not isinstance(command, Question):
        raise LookupError(name)
    return command


def averaged(run: Run, over: Sequence[str]) -> Iterator[Part]:
    """Average over these settings in what follows, and yield the sentences that say so."""
    if over:
        run.hold(*NAMED)
        yield from map(Note, average_over(run, over))
        yield ""
