"""The error of this package whose text is printed to the user as it is."""

from transtailor.errors import UserError


class ResultsError(UserError):
    """A run cannot be read, or a query cannot be answered. The text says what was given and what to do next."""
