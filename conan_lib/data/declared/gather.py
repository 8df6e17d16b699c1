"""Every declared set of a run, read once: documents for the corpus, rows for the training sets, and a record of where they come from."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from conan_lib.data.clean import Funnel
from conan_lib.data.declared import hub, read
from conan_lib.data.decontaminate import EvaluationIndex
from conan_lib.data.sampling import drawn_split
from conan_lib.data.sources.document import Document
from conan_lib.files import fingerprint
from conan_lib.params.data import DataParams
from conan_lib.params.sets import DeclaredSet
from conan_lib.stages import located

SPLITS = ("test", "dev", "train")
BLOCK = 10_000
"""Rows that are compared with the evaluation texts at a time."""
PASSAGE = "passage"
"""Kind of a document that is a passage of a pair, or a labelled text."""
SHOWN = ("anchor", "positive", "input", "output", "text")
"""Fields of a row that training shows."""


@dataclass(frozen=True)
class Declared:
    """What the declared sets hold: documents by split, rows with their task and split, and a record of each set for sources.json."""

    documents: dict[str, list[Document]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    rows: list[dict] = field(default_factory=list)
    records: list[dict] = field(default_factory=list)


def gather_declared(params: DataParams, funnel: Funnel) -> Declared:
    """Read every declared set of a run.

    Args:
        params: the sets, languages, seed and held-out shares.
        funnel: counts records and rows (`declared.STEPS`).

    Raises:
        UserError: a set cannot be read, or a record of it is wrong.
    """
    found = Declared()
    for declared in params.declared:
        splits = divided(declared, params, funnel)
        for split, rows in splits.items():
            if declared.task == "text":
                found.documents[split] += [
                    Document(row["id"], row["text"], row["lang"], row["source"], declared.kind, row["title"], row["group"]) for row in rows
                ]
            else:
                found.rows.extend({**row, "task": declared.task, "split": split} for row in rows)
        found.records.append(_record(declared, splits))
    if not params.embedded and not any(row.task == "text" for row in params.declared):
        _passages(found)
    return found


def _passages(found: Declared) -> None:
    """Without a set of text, what the other rows find or label is what a start's tokenizer and language model are measured on."""
    seen: set[str] = set()
    for row in sorted(found.rows, key=lambda row: SPLITS.index(row["split"])):  # a text is held out if one of its rows is
        text, key = row.get("positive") or row.get("text") or "", row.get("positive_id") or row["id"]
        if row["task"] != "sft" and text and text not in seen:
            seen.add(text)
            lang = row.get("positive_lang") or row["lang"]
            found.documents[row["split"]].append(Document(f"{row['source']}/{key}", text, lang, row["source"], PASSAGE, group=row["group"]))


def divided(declared: DeclaredSet, params: DataParams, funnel: Funnel) -> dict[str, list[dict]]:
    """Rows of a set by split: test, dev and train.

    A group (one query in all its translations, records with one anchor) is held out whole, by a hash of the seed and itself, so that it
    falls the same way in every set and in every order. Rows of a held-out file are test and dev by halves.
    """
    share = declared.heldout_share(params.heldout_share)
    found: dict[str, list[dict]] = {split: [] for split in SPLITS}
    for row in read(declared, params.languages, funnel, params.hub_records if declared.hub else None, params.seed):
        found[drawn_split(row["group"], share, params.seed)].append(row)
    if isinstance(declared.heldout, str):
        for row in read(declared, params.languages, funnel, file=declared.heldout):
            found[drawn_split(row["group"], 0.5, params.seed)].append(row)
    return found


def _record(declared: DeclaredSet, splits: dict[str, list[dict]]) -> dict:
    rows = [row for found in splits.values() for row in found]
    return {
        "name": declared.source,
        "package": declared.from_,
        "version": hub.resolved(declared) if declared.hub else fingerprint(located(declared.from_)),
        "edition": f"task {declared.task}" + (f", split {declared.split}" if declared.hub else ""),
        "homepage": f"https://huggingface.co/datasets/{declared.hub['path']}" if declared.hub else "",
        "languages": sorted({row["lang"] for row in rows}),
        "documents": len(rows),
        "chars": sum(len(row[name]) for row in rows for name in SHOWN if row.get(name)),
    }


def asked(row: dict) -> list[tuple[str, str]]:
    """(text, language) of what an evaluation asks with a held-out row: the query, both sentences of sts, the text. The passages that are
    searched stay in training, as in every search over one's own documents."""
    names = ("anchor", "positive") if row["task"] == "sts" else ("anchor", "input", "text")
    return [(row[name], row["lang"]) for name in names if row.get(name)]


def decontaminated(rows: Iterable[dict], index: EvaluationIndex) -> list[dict]:
    """Held-out rows, and the training rows that share no n-gram with an evaluation text, by anchor, positive, input, output or text."""
    rows, kept = list(rows), []
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        shown = [(k, row[name], row["lang"]) for k, row in enumerate(block) if row["split"] == "train" for name in SHOWN if row.get(name)]
        overlap = index.overlaps([(text, lang) for _, text, lang in shown])
        bad = {k for (k, _, _), found in zip(shown, overlap, strict=True) if found}
        kept += [row for k, row in enumerate(block) if k not in bad]
    return kept
