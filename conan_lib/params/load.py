"""YAML file -> Params, with one clear line for every mistake."""

import difflib
from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError

from conan_lib.errors import UserError
from conan_lib.params.tree import Params

SEEDED = {"all": ("pretrain", "sft", "weak", "supervised"), "contrastive": ("weak", "supervised")}
"""Where another seed may go: all stages that train, or those that train an embedder, which then share one language model."""


def load_params(path: str | Path) -> Params:
    """Read and validate a parameter file.

    A file may name another one under `base:` (relative to itself) and override some of its keys; a base has no base of its own.

    Args:
        path: YAML file.

    Returns:
        The frozen tree.

    Raises:
        UserError: the file is missing, is not YAML, or a key is unknown, mistyped or impossible; one line names each.
    """
    return validate(read_tree(path), str(path))


def read_tree(path: str | Path) -> dict:
    """The keys and values of a parameter file over those of its base; not validated yet.

    Raises:
        UserError: the file or its base is missing or not YAML, `base` is no file name, or the base has a base.
    """
    path = Path(path)
    raw = read_yaml(path)
    base = raw.pop("base", None)
    if base is None:
        return raw
    if not isinstance(base, str):
        raise UserError(f"{path}: base: {base!r} is no file name: give a file name, relative to this file")
    base_raw = read_yaml(path.parent / base)
    if "base" in base_raw:
        raise UserError(f"{path}: base: {base} has a base itself; inheritance is one level deep, name the root file instead")
    return merge(base_raw, raw)


def validate(raw: dict, place: str) -> Params:
    """The frozen tree of keys and values; `place` opens the line of a mistake.

    Raises:
        UserError: a key is unknown, mistyped or impossible; one line names each.
    """
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{place}: " + "; ".join(mistake(e) for e in error.errors())) from None


def without_clr(params: Params) -> Params:
    """The same run with cross-lingual retrieval taken out: as many steps, the other tasks keep their proportions (claims C2, C3)."""
    mix = {task: share for task, share in params.supervised.mix.items() if task != "clr"}
    if not any(mix.values()):
        raise UserError("supervised.mix: only clr has a share, so nothing is left to train without it: add another task")
    return params.model_copy(update={"supervised": params.supervised.model_copy(update={"mix": mix})})


def with_seed(params: Params, seed: int, where: str = "all") -> Params:
    """The same run with another seed in the stages of SEEDED[where]; data, tokenizer, teacher and tasks stay."""
    return params.model_copy(update={name: getattr(params, name).model_copy(update={"seed": seed}) for name in SEEDED[where]})


def without_mrl(params: Params) -> Params:
    """The same run with the loss on the whole vector alone, no prefix of it trained (claim C8)."""
    section = params.supervised.model_copy(update={"matryoshka_dims": (params.backbone.hidden_size,)})
    return params.model_copy(update={"supervised": section})


def read_yaml(path: Path) -> dict:
    """The mapping in a YAML file."""
    if not path.is_file():
        raise UserError(f"{path}: no such parameter file; the tiers are params/smoke.yaml, tiny.yaml, h100.yaml, paper.yaml")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path}: expected keys and values at the top, found {type(raw).__name__}")
    return raw


def merge(base: dict, over: dict) -> dict:
    """`over` wins; dictionaries merge key by key."""
    both = dict(base)
    for key, value in over.items():
        both[key] = merge(both[key], value) if isinstance(value, dict) and isinstance(both.get(key), dict) else value
    return both


def mistake(error: dict, tree: type[BaseModel] = Params) -> str:
    """One of pydantic's errors as `section.key: what, and the mend`."""
    place = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = _known_keys(error["loc"][:-1], tree)
        close = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        return f"{place}: unknown key" + (f", did you mean {close[0]}?" if close else f"; known here: {', '.join(known)}")
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{place}: {message}" if place else message
    line = f"{place}: {message} (given: {error['input']!r})"
    if error["type"] == "string_type" and isinstance(error["input"], bool):  # Norwegian's code
        line += f': YAML reads a bare {"yes" if error["input"] else "no"} so: quote it ("{"yes" if error["input"] else "no"}")'
    return line


def _known_keys(loc: tuple, section: type[BaseModel]) -> list[str]:
    for part in loc:
        field = section.model_fields.get(part)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        section = field.annotation
    return list(section.model_fields)
