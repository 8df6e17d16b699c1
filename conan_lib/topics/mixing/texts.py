"""The texts that the mixing of languages is measured on: MultiEmo reviews in 11 languages, or held-out verses.

MultiEmo is read out of BIG-bench's source archive; its files carry a canary and are for evaluation only, never for training.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from conan_lib.data.records import read
from conan_lib.errors import UserError
from conan_lib.evaluation.bigbench import align, find_archive, members
from conan_lib.params.evaluation import MixingParams

MEMBER = re.compile(r"/multiemo/all_text_([a-z]{2})/task\.json$")
LANGUAGES = 11


@dataclass(frozen=True)
class Sample:
    """Aligned texts: each group has one text in every language."""

    source: str
    """What the texts are, for the figure."""
    texts: list[str]
    langs: list[str]
    groups: list[str]

    @property
    def languages(self) -> list[str]:
        return sorted(set(self.langs))


def mixing_texts(params: MixingParams, heldout: Path) -> Sample:
    """Choose `texts_per_language` groups, by seed.

    Args:
        params: which texts, how many, where the archive is.
        heldout: the artefact of stage `heldout`.

    Raises:
        UserError: multiemo is asked for and its archive is not there, or there are no four groups with a text in every language.
    """
    if params.texts == "multiemo":
        archive = find_archive(params.multiemo_archive, "mixing.multiemo_archive", ", or set mixing.texts to heldout")
        rows, source = read_multiemo(archive), "MultiEmo reviews"
    else:
        rows = read(heldout / "mixing.parquet")
        verses = all(row["group"].startswith("bible/") for row in rows)
        source = "held-out Bible verses" if verses else "held-out queries and passages"
    return choose(rows, source, params.texts_per_language, params.seed)


def choose(rows: list[dict], source: str, count: int, seed: int) -> Sample:
    """A seeded choice of groups that have exactly one text in every language."""
    languages = {row["lang"] for row in rows}
    groups: dict[str, dict[str, str]] = {}
    for row in rows:
        groups.setdefault(row["group"], {})[row["lang"]] = row["text"]
    whole = sorted(group for group, texts in groups.items() if set(texts) == languages)
    if len(whole) < 4:
        raise UserError(f"mixing.texts: {source}: {len(whole)} groups have a text in all of {', '.join(sorted(languages))}; 4 are needed")
    chosen = np.random.default_rng(seed).permutation(len(whole))[:count]
    picked = [(groups[whole[i]][language], language, whole[i]) for language in sorted(languages) for i in sorted(chosen)]
    texts, langs, names = (list(column) for column in zip(*picked, strict=True))
    return Sample(source, texts, langs, names)


def read_multiemo(archive: Path) -> list[dict]:
    """All reviews as rows {text, lang, group, sentiment}. About ten seconds.

    Raises:
        UserError: not a gzipped tar, no MultiEmo in it, or its languages are not aligned row by row.
    """
    found = members(archive, MEMBER, LANGUAGES, "mixing.multiemo_archive")
    return align({language: file["examples"] for language, file in found.items()}, f"mixing.multiemo_archive: {archive}")
