"""The errors that a user of `tailor` can cause."""

from collections.abc import Iterator
from contextlib import contextmanager

from transtailor.errors import FAILED, ExplainedError, UserError


class ConfigError(UserError, ValueError):
    """The user's mistake in a configuration; its text says what was given, what is valid and what to type next."""


class Paused(Exception):  # an event, not a mistake
    """A trial was asked to pause and did, on all ranks; the same call resumes from this moment."""


class TrainingError(ExplainedError, RuntimeError):
    """Training cannot continue (for example, the loss is no longer finite); the text names stage, epoch and step."""

    exit_code = FAILED


@contextmanager
def explain_errors(what: str, advice: str) -> Iterator[None]:
    """Raise ConfigError for what a user's code raises, with the first line of its message."""
    try:
        yield
    except (ConfigError, TrainingError):
        raise
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ConfigError(f"{what} ({type(error).__name__}: {reason}); {advice}") from error
