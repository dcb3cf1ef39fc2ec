"""Errors of the user of `sweeps`; the command line prints only their text and exits with 2."""

from transtailor.errors import UserError


class SpecError(UserError, ValueError):
    """A spec, or a `--set`, that does not describe a sweep; the text names file, key, value and what to type."""


class RunFolderError(UserError, ValueError):
    """A run folder that cannot be made, read or resumed; the text names the folder and what to type."""


class LaunchError(UserError):
    """A launch that was refused; the text is what the command has printed."""
