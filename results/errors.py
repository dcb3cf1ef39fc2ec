"""The one error of this package whose text is ready to print to whoever typed the command."""

from transtailor.errors import UserError


class ResultsError(UserError):
    """A run cannot be read, or a query cannot be answered; the text says what was given and what to do next."""
