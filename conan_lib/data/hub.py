"""Readers of the public data sets that the paper names, streamed from the Hugging Face hub (`data.source: hub`).

Each set is a Source like an embedded one, so cleaning, decontamination, splits and pairing are the same code. Scripture stays: CLR's
aligned translations and the held-out sets come from it. Streaming reads only as many rows as the run's sizes ask for.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Literal

from huggingface_hub import constants, errors, get_session

from conan_lib.data.sources.document import Document, Source
from conan_lib.errors import UserError
from conan_lib.params.data import DataParams

Kind = Literal["encyclopedia", "web", "news", "question", "discussion", "review", "command"]


@dataclass(frozen=True)
class HubSet:
    """One data set. `text`, `title`, `summary` and `label` name its fields; an empty name means that it has none."""

    name: str
    path: str
    config: str
    """Configuration; {lang} stands for the language's code."""
    kind: Kind
    languages: tuple[str, ...]
    text: str
    title: str = ""
    summary: str = ""
    label: str = ""
    split: str = "train"
    stage: str = ""
    """What the paper uses it for."""


_MANY = ("en", "de", "es", "fr", "ru", "zh", "ja", "ko", "ar", "it", "pt", "hi", "id", "vi", "uk", "bn", "fa", "tr", "ro", "pl", "sw")
HUB_SETS = (
    HubSet("wikipedia", "wikimedia/wikipedia", "20231101.{lang}", "encyclopedia", _MANY, "text", "title", stage="pretrain, weak"),
    HubSet("mc4", "allenai/c4", "{lang}", "web", _MANY, "text", stage="pretrain"),
    HubSet("cc-news", "vblagoje/cc_news", "plain_text", "news", ("en",), "text", "title", "description", stage="pretrain, weak"),
    HubSet("msmarco", "sentence-transformers/msmarco-bm25", "triplet", "question", ("en",), "positive", "query", stage="retrieval"),
    HubSet(
        "natural-questions", "sentence-transformers/natural-questions", "pair", "question", ("en",), "answer", "query", stage="retrieval"
    ),
    HubSet("squad", "sentence-transformers/squad", "pair", "question", ("en",), "answer", "question", stage="retrieval"),
    HubSet("banking77", "mteb/banking77", "default", "command", ("en",), "text", label="label_text", stage="classification"),
    HubSet("emotion", "mteb/emotion", "default", "review", ("en",), "text", label="label_text", stage="classification"),
    HubSet("imdb", "mteb/imdb", "default", "review", ("en",), "text", label="label_text", stage="classification"),
    HubSet("toxic", "mteb/toxic_conversations_50k", "default", "review", ("en",), "text", label="label_text", stage="classification"),
)
"""Sets whose hub ids we know. Named by the paper and not here: HotpotQA, PubMedQA, DuReader, FEVER, T2Ranking, CMedQAv2, CCI, Mr.TyDi,
MIRACL, STS sets and the Chinese classification sets; each is one more row once its id and fields have been read."""
SWITCHES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
HUB_ERRORS = (OSError, errors.HTTPError)
"""What the hub's clients raise where they get no answer: HfHubHTTPError, OfflineModeIsEnabled, LocalEntryNotFoundError and `datasets`'
ConnectionError and DatasetNotFoundError are OSErrors; HTTPError is the base of whatever the transport of the installed version raises."""


def hub_sources(params: DataParams) -> list[Source]:
    """The hub's sets as sources; the network is tried before anything is written.

    Raises:
        UserError: the hub is out of reach or switched off, or the package datasets is missing.
    """
    reach("data.source: hub", "use data.source: embedded")
    try:
        import datasets  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"data.source: hub needs the package {error.name}: pip install {error.name}, or use data.source: embedded"
        ) from None
    return declared(params)


def declared(params: DataParams) -> list[Source]:
    """The hub's sets as sources, without asking whether the hub is in reach."""
    return [_source(found, 2 * (params.most_documents(found.name) + 2 * params.heldout_documents)) for found in HUB_SETS]


def _source(found: HubSet, rows: int) -> Source:
    role = "record" if found.kind in ("question", "command") else "prose"
    edition = f"{found.path} ({found.config}), split {found.split}"
    return Source(found.name, "datasets", found.languages, partial(_read, found, rows), role, edition=edition, note=f"hub; {found.stage}")


def reach(wanted: str, otherwise: str) -> None:
    """One request with a short limit: the clients of the hub retry for minutes.

    Args:
        wanted: the parameter that asks for the hub, "data.source: hub".
        otherwise: what to do without it, "use data.source: embedded".

    Raises:
        UserError: the hub is switched off or cannot be reached.
    """
    offline = next((name for name in SWITCHES if os.environ.get(name, "").lower() in ("1", "true", "yes", "on")), "")
    if offline:
        raise UserError(f"{wanted}, but {offline} is set: unset it, or {otherwise}")
    try:
        get_session().head(constants.ENDPOINT, timeout=5).raise_for_status()
    except HUB_ERRORS as error:
        raise UserError(f"{wanted}, but {constants.ENDPOINT} cannot be reached ({type(error).__name__}): connect, or {otherwise}") from None


def _read(found: HubSet, rows: int, lang: str, seed: int) -> Iterator[Document]:
    """The first `rows` rows of a seeded, buffered shuffle of the stream."""
    from datasets import load_dataset

    try:
        stream = load_dataset(found.path, found.config.format(lang=lang), split=found.split, streaming=True).shuffle(
            seed=seed, buffer_size=1000
        )
        for number, row in enumerate(islice(stream, rows)):
            yield document(found, row, lang, number)
    except (*HUB_ERRORS, ValueError) as error:
        raise UserError(f"hub set {found.path} ({found.config.format(lang=lang)}): {' '.join(str(error).split())[:200]}") from None


def document(found: HubSet, row: dict, lang: str, number: int) -> Document:
    """One row of a set as a Document.

    Raises:
        UserError: the row lacks a field that the table names.
    """
    wanted = {"text": found.text, "title": found.title, "summary": found.summary, "label": found.label}
    missing = [name for name in wanted.values() if name and name not in row]
    if missing:
        raise UserError(f"hub set {found.path}: no field {', '.join(missing)} in its rows; they have {', '.join(row)}: mend HUB_SETS")
    fields = {key: str(row[name] or "") for key, name in wanted.items() if name}
    group = f"{found.name}/{(fields.get('title') or str(number)).casefold()}"
    return Document(f"{found.name}/{lang}/{number}", lang=lang, source=found.name, kind=found.kind, group=group, **fields)
