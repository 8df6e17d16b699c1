"""The exceptions that the command line knows: a user's mistake, and a stage that stopped because its time was up."""


class UserError(Exception):
    """A mistake in a parameter file, a data source or a command line.

    The message is one line: what is wrong, where (field, file or record), and what to do. The command line prints it without a traceback
    and exits with code 2; a notebook shows it as one line.
    """

    def _render_traceback_(self) -> list[str]:
        """What IPython prints in the place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class Stopped(Exception):
    """Training reached runtime.deadline: its checkpoint is complete, and the same command goes on from it."""


class RunError(Exception):
    """Something failed for a reason that is not the user's: one line with the stage, the error and where its output is."""
