"""The command line. Importing it imports nothing: a command brings along what it needs when it is called, and Ctrl-C meanwhile is heard."""

import sys

INTERRUPTED = 130


def main() -> None:
    """Entry point: 0 done, 1 a stage failed, 2 a user's mistake, 3 time was up, 130 interrupted; run it again to go on after 3 and 130."""
    try:
        code, message = _call()
    except KeyboardInterrupt:  # during the imports, or once more while the run ends
        code, message = INTERRUPTED, ""
    if code == INTERRUPTED:
        message = "interrupted; run it again to go on"
    if message:
        print("conan-lib:", " ".join(message.split()), file=sys.stderr)
    sys.exit(code)


def _call() -> tuple[int, str]:
    """The exit code of the command that was given, and what to say."""
    from conan_lib.run.cli import running  # noqa: F401 -- each adds its commands, in the order of the help

    # isort: split
    from conan_lib.run.cli import data, model  # noqa: F401
    from conan_lib.run.cli.app import app, here
    from conan_lib.run.cli.mistakes import told

    try:
        here()
        return app(standalone_mode=False) or 0, ""
    except Exception as error:
        if (found := told(error)) is None:
            raise
        message, code = found
        return code, message
