"""YAML file -> Params, with one clear line for every mistake."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from yaml.constructor import ConstructorError

from conan_lib.errors import UserError
from conan_lib.options import mistakes, short
from conan_lib.params.tree import Params

SEEDED = {"all": ("pretrain", "sft", "weak", "supervised"), "contrastive": ("weak", "supervised")}
"""Where another seed may go: all stages that train, or those that train an embedder, which then share one language model."""


MOST_VALUES = 100_000
"""Values of one file, each counted as often as its anchor is named."""
KINDS = {"job": ("steps",), "grid": ("baseline", "like"), "parameter": ("tier",)}
"""Kind of file -> keys of which it must have one and no other kind has any, looked for in this order: a grid names a tier too."""
Tree = TypeVar("Tree", bound=BaseModel)
COMMANDS = {"job": "conan-lib job {}", "grid": "conan-lib run --grid {}", "parameter": "conan-lib run {}"}


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
    check_kind(raw, "parameter", str(path))
    base = raw.pop("base", None)
    if base is None:
        return raw
    if not isinstance(base, str):
        raise UserError(f"{path}: base: {short(repr(base))} is no file name: give a file name, relative to this file")
    with named_in(path, "base"):
        base_raw = read_yaml(path.parent / base)
    if "base" in base_raw:
        raise UserError(f"{path}: base: {base} has a base itself; inheritance is one level deep, name the root file instead")
    return merge(base_raw, raw, str(path))


@contextmanager
def named_in(path: str | Path, field: str) -> Iterator[None]:
    """A mistake in a file that another one names: the line opens with where it is named."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {field}: {error}") from None


def validate(raw: dict, place: str, tree: type[Tree] = Params) -> Tree:
    """The frozen tree of keys and values; `place` opens the line of a mistake.

    Raises:
        UserError: a key is unknown, mistyped or impossible; one line names each.
    """
    try:
        return tree.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{place}: {mistakes(error, tree)}") from None


def without_clr(params: Params) -> Params:
    """The same run with cross-lingual retrieval taken out: as many steps, the other tasks keep their proportions (claims C2, C3)."""
    mix = {task: share for task, share in params.supervised.mix.items() if task != "clr"}
    if not any(mix.values()):
        raise UserError("supervised.mix: only clr has a share, so nothing is left to train without it: add another task")
    return params.model_copy(update={"supervised": params.supervised.model_copy(update={"mix": mix})})


def with_seed(params: Params, seed: int, where: str = "all") -> Params:
    """The same run with another seed in the stages of SEEDED[where]; data, tokenizer, teacher and tasks stay."""
    sections = {name: section for name in SEEDED[where] if (section := getattr(params, name)) is not None}
    return params.model_copy(update={name: section.model_copy(update={"seed": seed}) for name, section in sections.items()})


def without_mrl(params: Params) -> Params:
    """The same run with the loss on the whole vector alone, no prefix of it trained (claim C8)."""
    section = params.supervised.model_copy(update={"matryoshka_dims": params.supervised.matryoshka_dims[-1:]})
    return params.model_copy(update={"supervised": section})


def on_reviews(params: Params) -> Params:
    """The same run with the mixing of languages measured on MultiEmo's reviews, which nothing is trained on (claims C2 and C3)."""
    return params.model_copy(update={"mixing": params.mixing.model_copy(update={"texts": "multiemo"})})


class _Loader(yaml.SafeLoader):
    """YAML as it reads to the eye: a key stands once, and a number is decimal (YAML 1.1 takes 010 for 8 and 1:30 for 90)."""

    def construct_mapping(self, node, deep=False):
        """Raises ConstructorError where a key stands twice."""
        seen = set()
        for key_node, _ in node.value:
            key = (key_node.tag, key_node.value) if isinstance(key_node, yaml.ScalarNode) else None
            if key in seen:
                raise ConstructorError(None, None, f"{key_node.value} stands twice: keep one", key_node.start_mark)
            seen |= {key} - {None}
        return super().construct_mapping(node, deep)

    def decimal(self, node):
        """Raises ConstructorError where the number is none to pydantic and the eye alike."""
        if not re.fullmatch(r"[-+]?(0|[1-9][0-9_]*)", node.value):
            raise ConstructorError(None, None, f"{node.value}: write a number in decimals, or text in quotes", node.start_mark)
        return self.construct_yaml_int(node)

    def point(self, node):
        """Raises ConstructorError for a number to the base 60."""
        if ":" in node.value:
            raise ConstructorError(None, None, f"{node.value}: write a number in decimals, or text in quotes", node.start_mark)
        return self.construct_yaml_float(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.decimal)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.point)


def read_yaml(
    path: Path, what: str = "parameter file; the tiers are params/smoke.yaml, tiny.yaml, smollm2.yaml, h100.yaml, paper.yaml"
) -> dict:
    """The mapping in a YAML file.

    Args:
        what: the kind of file that was looked for.

    Raises:
        UserError: no such file, it is empty, not UTF-8 or not YAML, has a key twice or a number that is not decimal, or holds no mapping.
    """
    if not path.is_file():
        raise UserError(f"{path}: is a folder: name a file" if path.is_dir() else f"{path}: no such {what}")
    kind = what.partition(";")[0]
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:  # UTF-16 without its mark is zeros between letters
        raise UserError(f"{path}: not UTF-8: save it as UTF-8")
    try:
        raw = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no such day, a number without end
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if raw is None:
        raise UserError(f"{path}: is empty: {'begin with `conan-lib new`' if kind == 'parameter file' else f'write a {kind}'}")
    if isinstance(raw, str):
        raise UserError(f"{path}: is no {kind}: found text where keys and values are needed: name another")
    if not isinstance(raw, dict):
        raise UserError(f"{path}: expected keys and values at the top, found {type(raw).__name__}")
    _check_size(raw, path)
    return raw


def _check_size(raw: dict, path: Path) -> None:
    """An anchor that names itself has no end, and a few that name each other are a thousand million values."""
    todo, count = [raw], 0
    while todo:
        value = todo.pop()
        inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, (list, tuple, set)) else ()
        todo += inner
        count += len(inner)
        if count > MOST_VALUES:
            raise UserError(f"{path}: not readable as YAML: more than {MOST_VALUES:,} values, or an anchor inside itself: write it out")


def merge(base: dict, over: dict, where: str, inside: str = "") -> dict:
    """`over` wins; dictionaries merge key by key. Below a section null may stand for keys and values: it leaves the part out.

    Raises:
        UserError: a value stands where the other side has keys and values; the line opens with `where`.
    """
    both = dict(base)
    for key, value in over.items():
        sides = [both[key], value] if key in both else []
        plain = [side for side in sides if not isinstance(side, dict)]
        if len(plain) == 1 and not (inside and plain == [None]):
            expected = f"a mapping, got {short(repr(plain[0]))}" if plain in ([value], [None]) else "a value, got a mapping"
            raise UserError(f"{where}: {inside}{short(str(key))}: expected {expected}: correct it, or leave it out")
        both[key] = merge(*sides, where, f"{inside}{key}.") if sides and not plain else value
    return both


def check_kind(raw: dict, wanted: str, place: str) -> None:
    """Whether a mapping may be a file of this kind: parameter, grid or job.

    Raises:
        UserError: it is one of another kind; the line names the command that takes it.
    """
    if (kind := next((kind for kind, keys in KINDS.items() if any(key in raw for key in keys)), wanted)) != wanted:
        raise UserError(f"{place}: is a {kind} file, not a {wanted} file: run it with `{COMMANDS[kind].format(place)}`, or name another")
