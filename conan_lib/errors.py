"""The one exception that a user's mistake raises: a single line that names the place and the mend."""


class UserError(Exception):
    """A mistake in a parameter file, a data source or a command line.

    The message is one line: what is wrong, where (field, file or record), and what to do. The command line prints it without a traceback
    and exits with code 2.
    """
