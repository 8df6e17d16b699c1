"""Commands about a model: what is done with one that has been trained."""

from pathlib import Path
from typing import Annotated

import typer

from conan_lib.run.cli.app import File, app, say


@app.command()
def export(
    file: File,
    folder: Annotated[Path, typer.Argument(help="A new or an empty folder.", show_default=False)],
    onnx: Annotated[bool, typer.Option("--onnx", help="Also write onnx/model.onnx, for onnxruntime.")] = False,
):
    """Write the last checkpoint as a sentence-transformers folder with its model card, ready for the hub (docs/export.md)."""
    from conan_lib.params import load_params
    from conan_lib.stages import resolve

    load_params(resolve(file))  # a mistake in the file comes before a missing package
    from conan_lib.run.export import export_model

    export_model(resolve(file), folder, onnx)
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    say(f"{folder}: {len(files)} files, {size / 1e6:.1f} MB")
