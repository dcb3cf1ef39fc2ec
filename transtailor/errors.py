"""The base class of errors that a command line prints without a traceback."""


class UserError(Exception):
    """A mistake that a user can fix; the text says what was given, what is valid and what to type next.

    Command lines print only the text and end with `exit_codes.MISTAKE`.
    """
