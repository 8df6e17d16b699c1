"""The command line. Importing it imports typer alone: a command brings along what it needs when it is called."""

import sys

from conan_lib.run.cli import running  # noqa: F401 -- each adds its commands, in the order of the help

# isort: split
from conan_lib.run.cli import data, model  # noqa: F401
from conan_lib.run.cli.app import app, here
from conan_lib.run.cli.mistakes import told


def main() -> None:
    """Entry point: 0 done, 1 a stage failed, 2 a user's mistake, 3 time was up, 130 interrupted; run it again to go on after 3 and 130."""
    try:
        here()
        code = app(standalone_mode=False)
        message = "interrupted; run it again to go on" if code == 130 else None
    except Exception as error:
        if (found := told(error)) is None:
            raise
        message, code = found
    if message:
        print("conan-lib:", " ".join(message.split()), file=sys.stderr)
    sys.exit(code or 0)
