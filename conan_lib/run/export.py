"""The last checkpoint of a run as a folder to give away: the encoder in safetensors, its card, and an ONNX graph where asked for."""

import shutil
from pathlib import Path

from conan_lib.errors import UserError
from conan_lib.files import again, read_json, scratch, write_json
from conan_lib.findings.run import Run
from conan_lib.model.onnx import export_onnx
from conan_lib.report.card import MODEL, model_card

NEEDED = ("config.json", "config_sentence_transformers.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
OF_THIS_MACHINE = ("is_local", "local_files_only")
"""What transformers notes of where a tokenizer was loaded from; no part of the model."""


def export_model(params_file: str | Path, folder: Path, onnx: bool = False) -> Path:
    """Write `folder`, ready for sentence-transformers and for the hub; it is there whole or not at all.

    Args:
        params_file: a tier's YAML file.
        folder: a new or an empty folder.
        onnx: also write onnx/model.onnx.

    Returns:
        `folder`.

    Raises:
        UserError: the run has no finished model or a damaged one, `folder` holds something, or ONNX packages are missing.
    """
    run = Run.open(params_file)
    model = run.stages[MODEL].path / "model"
    if missing := run.unfinished(MODEL):
        raise UserError(f"{params_file}: {missing}: run `conan-lib run {params_file} --to {MODEL}` first")
    if not (model / "modules.json").is_file():
        raise UserError(f"{model}: no model here (modules.json is missing): remove {model.parent} and run the stage again")
    if missing := [name for name in NEEDED if not (model / name).is_file()]:
        raise UserError(f"{model / missing[0]}: missing: {again(model)}")
    run.stages[MODEL].artefact.verify()
    target = folder.resolve()
    if target == Path.cwd():
        raise UserError(f"{folder}: is the working directory, which cannot be replaced: name a folder in it")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder}: exists and is not an empty folder: choose another, or remove it")
    with scratch(target.with_name(f".{target.name}.making")) as workplace:
        made = workplace / target.name
        shutil.copytree(model, made)
        settings = made / "tokenizer_config.json"
        kept = {name: value for name, value in read_json(settings).items() if name not in OF_THIS_MACHINE}
        write_json(settings, kept)
        if onnx:
            export_onnx(made, made / "onnx" / "model.onnx")
        (made / "README.md").write_text(model_card(run, target.name, onnx), encoding="utf-8")
        made.replace(target)
    return folder
