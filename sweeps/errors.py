"""The mistakes that a user of `sweeps` can make; the command line prints their text alone and ends with 2."""

from transtailor.errors import UserError


class SpecError(UserError, ValueError):
    """A spec, or a `--set`, that does not describe a sweep; the text names file, key, value and what to type."""


class RunFolderError(UserError, ValueError):
    """A run folder that cannot be made, read or gone on with; the text names the folder and what to type."""
