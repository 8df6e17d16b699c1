"""The folder of a stage that must have finished."""

from pathlib import Path

from conan_lib.stages import Stage


def finished(stage: Stage) -> Path:
    """Where a finished stage's files are.

    Raises:
        UserError: it has not finished; the line says what to open or run.
    """
    _ = stage.artefact.manifest  # raises
    return stage.path
