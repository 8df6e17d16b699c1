"""Any sentence-transformers model, and the user's own texts and pairs, for the commands that use them."""

import re
from pathlib import Path

from sentence_transformers import SentenceTransformer

import conan_lib.attention  # noqa: F401 -- checkpoints of ours name soft_mask
from conan_lib.data.clean import Funnel
from conan_lib.data.declared import read
from conan_lib.data.declared.files import divided, opened, records
from conan_lib.data.declared.hub import HUB_ERRORS
from conan_lib.errors import UserError
from conan_lib.params.sets import DeclaredSet, Task

LANGUAGE = "en"
"""Stands for whatever language a file is in: nothing here depends on it."""
ON_HUB = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
"""What may be a model's name on the hub; anything else is a path."""


def load_model(name: str) -> SentenceTransformer:
    """A model by its folder or its name on the hub, with its prompts; code that comes with a model is not run. A decoder whose tokenizer
    has no padding token pads with its end of text, as the start of a run does.

    Raises:
        UserError: there is none, it is no embedder, or its tokenizer cannot pad.
    """
    folder = Path(name)
    if folder.exists() and not ((folder / "modules.json").is_file() or (folder / "config.json").is_file()):
        raise UserError(f"{name}: no model here (neither modules.json nor config.json): name a folder that save_pretrained wrote")
    if not folder.exists() and not ON_HUB.fullmatch(name):
        raise UserError(f"{name}: no such folder: name one that save_pretrained wrote, or a model of the hub as OWNER/NAME")
    try:
        model = SentenceTransformer(name).eval()
    except HUB_ERRORS as error:
        raise UserError(
            f"{name}: no such folder, and the hub did not give it ({type(error).__name__}): check the name, or connect"
        ) from None
    except Exception as error:  # a stranger's folder may be wrong in every way; pickled code is one
        line = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"{name}: sentence-transformers cannot load it: {line}") from None
    tokenizer = getattr(model, "tokenizer", None)
    if getattr(tokenizer, "pad_token", "") is None:
        if tokenizer.eos_token is None:
            raise UserError(f"{name}: its tokenizer has neither a padding token nor an end of text: name one in tokenizer_config.json")
        tokenizer.pad_token = tokenizer.eos_token
    return model


def read_texts(path: Path) -> list[str]:
    """The texts of a file: every line of a .txt, else every record's text behind its title.

    Raises:
        UserError: no such file, a record without text, or no text at all.
    """
    if path.name.lower().endswith((".txt", ".txt.gz")) and not path.is_dir():
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        with opened(path) as file:
            found = [line.strip() for line in file if line.strip()]
    else:
        found = [_text(place, record) for place, record in records(path)]
    if not found:
        raise UserError(f"{path}: no text in it")
    return found


def _text(place: str, record: dict) -> str:
    name = next((name for name in ("text", "content", "passage", "document", "contents") if record.get(name)), None)
    if name is None:
        raise UserError(f"{place}: no text: call the field text; it has {', '.join(record)}{divided(record)}")
    for part in ("title", name):
        if isinstance(record.get(part), (list, dict)):
            raise UserError(f"{place}: {part} is {str(record[part])[:60]!r}, where a text is needed: write one text a record")
    return " ".join(str(part) for part in (record.get("title"), record[name]) if part)


def read_pairs(path: Path, every_negative: bool = False) -> list[dict]:
    """The pairs of a file in any form that `data.sets` knows: rows with anchor, positive, negatives, prompt.

    Args:
        every_negative: a pair that comes again with other negatives is another row, as training takes it; else each pair comes once.

    Raises:
        UserError: no such file, or a record that is no pair; the line names file, record and field.
    """
    return read_set(path, "retrieval", LANGUAGE, every_negative)


def read_set(path: Path, task: Task, lang: str | None, every_negative: bool = False, **keys) -> list[dict]:
    """The rows of a file of any task, as a row of `data.sets` with these keys reads them; see `read` for every_negative.

    Raises:
        UserError: as `read_pairs`.
    """
    declared = DeclaredSet.model_validate({"from": str(path.resolve()), "task": task, "lang": lang, **keys})
    if not (found := list(read(declared, None, Funnel(), every_negative=every_negative, alone=True))):
        raise UserError(f"{path}: no record for task {task} in it")
    return found
