"""The typer application, and what several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from conan_lib.errors import UserError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Conan-Embedding-v2, reproduced from a parameter file. First `conan-lib plan params/tiny.yaml`, then `conan-lib run` with it.",
)
File = Annotated[Path, typer.Argument(help="A parameter file, for example params/tiny.yaml.", show_default=False)]


def say(*lines: str) -> None:
    """Print lines as they are, neither wrapped nor coloured."""
    from rich.console import Console

    for line in lines:
        Console(highlight=False, soft_wrap=True, markup=False).print(line)


def here() -> None:
    """See that there is a working directory.

    Raises:
        UserError: it has been removed.
    """
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UserError("the working directory is not there any more: cd to another one") from None
