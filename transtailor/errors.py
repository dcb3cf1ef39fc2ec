"""What a command line prints without a traceback."""


class UserError(Exception):
    """A mistake that a user can mend; the text says what was given, what is valid and what to type next.

    Command lines print the text alone and end with `exit_codes.MISTAKE`.
    """
