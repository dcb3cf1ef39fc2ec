"""The errors that a user of `tailor` can cause."""

from transtailor.errors import UserError


class ConfigError(UserError, ValueError):
    """The user's mistake in a configuration; its text says what was given, what is valid and what to type next."""


class Paused(Exception):  # an event, not a mistake
    """A trial was asked to pause and did, on all ranks; the same call resumes from this moment."""


class TrainingError(RuntimeError):
    """Training cannot continue (for example, the loss is no longer finite); the text names stage, epoch and step."""
