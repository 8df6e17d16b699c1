"""BIG-bench's source archive (the sdist of bigbench 1.0.0): MultiEmo and SQuADShifts. Its files carry a canary: they are for evaluation
only, and nothing that trains reads them."""

import gzip
import re
import tarfile
import zlib
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from conan_lib.errors import UserError
from conan_lib.files import unpacked
from conan_lib.stages import project_root

HOW_TO_GET = "get it with `pip download --no-deps --no-binary :all: bigbench==1.0.0`"
EXTRA_ROW = {"pl": 6428}
"""The Polish file has one review more than the others, at this row; without it the sentiments of all 11 files agree row by row."""


class Example(TypedDict):
    """A review and the scores of its labels."""

    input: str
    target_scores: Annotated[dict[str, float], Field(min_length=1)]


class Examples(TypedDict):
    """task.json of MultiEmo."""

    examples: list[Example]


class Question(TypedDict):
    question: str


class Paragraph(TypedDict):
    context: str
    qas: list[Question]


class Article(TypedDict):
    paragraphs: list[Paragraph]


class Squad(TypedDict):
    """A file of SQuADShifts."""

    data: list[Article]


FILE = TypeAdapter(Examples | Squad)


def find_archive(path: str, field: str, otherwise: str) -> Path:
    """The archive, relative paths below the project root.

    Raises:
        UserError: it is not there; names the parameter `field` and what else to do.
    """
    archive = project_root() / path
    if not archive.is_file():
        raise UserError(f"{field}: no {archive}: {HOW_TO_GET}, name its place in {field}{otherwise}")
    return archive


def members(archive: Path, pattern: re.Pattern, count: int, field: str) -> dict[str, dict]:
    """The JSON files whose names match, by what the pattern's groups caught, joined with "/".

    The archive is streamed: nothing is unpacked, and reading ends at the `count`-th match. Ten to twenty seconds.

    Raises:
        UserError: not a gzipped tar, a file in it is not of its form, or it holds more than an archive of its size may.
    """
    found: dict[str, dict] = {}
    try:
        with unpacked(gzip.open(archive), archive) as file, tarfile.open(fileobj=file, mode="r|") as stream:
            for member in stream:
                if member.isreg() and (match := pattern.search(member.name)):
                    found["/".join(filter(None, match.groups()))] = FILE.validate_json(stream.extractfile(member).read())
                    if len(found) == count:
                        break
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(map(str, wrong["loc"]))
        raise UserError(f"{field}: {archive}, {member.name}: {where}: {wrong['msg']}: download it again") from None
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UserError(f"{field}: {archive}: {type(error).__name__} {error}: download it again") from None
    return found


def align(by_language: dict[str, list[dict]], where: str) -> list[dict]:
    """BIG-bench's examples of each language as rows {text, lang, group, sentiment}; a group is one review in every language.

    Args:
        by_language: the examples of all_text_XX/task.json, in their order.
        where: the parameter and the file, for errors.

    Raises:
        UserError: there are none, or the rows of a language are not those of the others.
    """
    if not by_language:
        raise UserError(f"{where}: no multiemo/all_text_XX/task.json in it: give the sdist of bigbench 1.0.0")
    count = min(map(len, by_language.values()))
    for language, row in EXTRA_ROW.items():
        if len(by_language.get(language, [])) == count + 1:
            del by_language[language][row]
    scores = {language: [example["target_scores"] for example in examples] for language, examples in by_language.items()}
    sentiments = {language: [max(one, key=one.get) for one in own] for language, own in scores.items()}
    odd = [language for language, values in sentiments.items() if values != next(iter(sentiments.values()))]
    if odd:
        raise UserError(f"{where}: the rows of {', '.join(odd)} are not aligned with the others")
    return [
        {"text": example["input"], "lang": language, "group": f"multiemo/{row}", "sentiment": sentiments[language][row]}
        for language, examples in by_language.items()
        for row, example in enumerate(examples)
    ]
