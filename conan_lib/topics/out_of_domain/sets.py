"""Samples of SQuADShifts and MultiEmo as held-out sets in the layout of stage `heldout`, so that tasks.py reads them like any other.

squad-shifts        a question must find its paragraph among those of five domains (New York Times, Reddit, Amazon, two of Wikipedia)
multiemo-clr        a review in one of ten languages must find its English translation
multiemo-domain     is an English review about hotels, medicine, products or university courses?
multiemo-sentiment  is an English review positive, negative, neutral or ambivalent?
"""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa

from conan_lib.data.records import write_table
from conan_lib.errors import UserError
from conan_lib.evaluation.bigbench import align, members
from conan_lib.files import write_json
from conan_lib.params.evaluation import OutOfDomainParams

SHIFTS = {"amazon_reviews_v1.0": "amazon", "new_wiki_v1.0": "new-wiki", "nyt_v1.0": "nyt", "reddit_v1.0": "reddit",
          "squaddev_v1.1": "squad-dev"}  # fmt: skip
"""File -> domain. The last one is SQuAD's own, the others are the shifts."""
DOMAINS = {"hotels": "hotels", "medicine": "medicine", "products": "products", "reviews": "courses"}
"""Folder of MultiEmo -> what its reviews are about."""
MEMBER = re.compile(rf"/multiemo/(all)_text_([a-z]{{2}})/task\.json$|/multiemo/({'|'.join(DOMAINS)})_text_en/task\.json$"
                    rf"|/squad_shifts/({'|'.join(map(re.escape, SHIFTS))})\.json$")  # fmt: skip
MEMBERS = 11 + len(DOMAINS) + len(SHIFTS)
PIVOT = "en"


def write_sets(folder: Path, archive: Path, params: OutOfDomainParams, split: str) -> None:
    """Write eval/<split>/<task>/*.parquet and, last, eval/<split>/tasks.json below `folder`.

    Raises:
        UserError: the archive is not bigbench 1.0.0.
    """
    found = members(archive, MEMBER, MEMBERS, "out_of_domain.archive")
    missing = sorted({*SHIFTS, *DOMAINS} - set(found))
    if missing:
        raise UserError(f"out_of_domain.archive: {archive}: no {', '.join(missing)} in it: give the sdist of bigbench 1.0.0")
    rng = np.random.default_rng(params.seed)
    rows = align({name.removeprefix("all/"): file["examples"] for name, file in found.items() if name.startswith("all/")},
                 f"out_of_domain.archive: {archive}")  # fmt: skip
    domains = {example["input"]: label for name, label in DOMAINS.items() for example in found[name]["examples"]}
    sets = {
        "squad-shifts": squad_shifts({label: found[name] for name, label in SHIFTS.items()}, params, rng),
        **multiemo(rows, domains, params, rng),
    }
    entries = []
    for name, (entry, tables) in sets.items():
        for table, content in tables.items():
            write_table(folder / "eval" / split / name / f"{table}.parquet", pa.Table.from_pylist(content))
        entries.append(
            {"name": name, "licence": "Apache-2.0 as part of BIG-bench", **entry, "rows": {t: len(c) for t, c in tables.items()}}
        )
    write_json(folder / "eval" / split / "tasks.json", entries)


def squad_shifts(files: dict[str, dict], params: OutOfDomainParams, rng: np.random.Generator) -> tuple[dict, dict]:
    """Entry and tables of the retrieval set. A paragraph that stands in a file twice is one paragraph.

    Args:
        files: domain -> SQuAD's format, {data: [{paragraphs: [{context, qas: [{question}]}]}]}.
    """
    queries, corpus, qrels = [], [], []
    for domain, file in files.items():
        asked: dict[str, list[str]] = {}
        for paragraph in (paragraph for article in file["data"] for paragraph in article["paragraphs"]):
            asked.setdefault(paragraph["context"], []).extend(qa["question"] for qa in paragraph["qas"])
        texts = list(asked)
        chosen = sorted(rng.permutation(len(texts))[: params.paragraphs // len(files)].tolist())
        corpus += [{"id": f"{domain}/{number}", "text": texts[number]} for number in chosen]
        pairs = [(number, place, question) for number in chosen for place, question in enumerate(asked[texts[number]])]
        for pick in sorted(rng.permutation(len(pairs))[: params.questions // len(files)].tolist()):
            number, place, question = pairs[pick]
            queries.append({"id": f"{domain}/{number}/{place}", "text": question, "lang": PIVOT})
            qrels.append({"query_id": queries[-1]["id"], "corpus_id": f"{domain}/{number}", "score": 1})
    note = f"question -> paragraph; a sample of {', '.join(files)}"
    return {"type": "retrieval", "lang": PIVOT, "source": "SQuADShifts", "note": note}, {
        "queries": queries,
        "corpus": corpus,
        "qrels": qrels,
    }


def multiemo(
    rows: list[dict], domains: dict[str, str], params: OutOfDomainParams, rng: np.random.Generator
) -> dict[str, tuple[dict, dict]]:
    """Entries and tables of the three sets of reviews.

    Args:
        rows: of `align`: {text, lang, group, sentiment}.
        domains: English review -> what it is about.
    """
    english = {row["group"]: row | {"domain": domains.get(row["text"])} for row in rows if row["lang"] == PIVOT}
    known = [group for group, row in english.items() if row["domain"]]
    order = [known[i] for i in rng.permutation(len(known))]
    chosen, rest = sorted(order[: params.reviews]), order[params.reviews :]
    keep = set(chosen)
    others = [row for row in rows if row["lang"] != PIVOT and row["group"] in keep]
    queries = [{"id": f"{row['group']}/{row['lang']}", "text": row["text"], "lang": row["lang"]} for row in others]
    tables = {
        "corpus": [{"id": group, "text": english[group]["text"]} for group in chosen],
        "queries": queries,
        "qrels": [{"query_id": query["id"], "corpus_id": row["group"], "score": 1} for query, row in zip(queries, others, strict=True)],
    }
    source = {"lang": PIVOT, "source": "MultiEmo"}
    languages = sorted({row["lang"] for row in others})
    sets = {
        "multiemo-clr": ({**source, "type": "crosslingual", "languages": languages, "note": "a review -> its English translation"}, tables)
    }
    for label in ("domain", "sentiment"):
        train = []
        for value in sorted({english[group][label] for group in known}):
            train += [group for group in rest if english[group][label] == value][: params.train_per_label]
        parts = {part: [{"text": english[group]["text"], "label": english[group][label]} for group in groups]
                 for part, groups in (("train", train), ("test", chosen))}  # fmt: skip
        sets[f"multiemo-{label}"] = ({**source, "type": "classification", "note": f"{label} of English reviews"}, parts)
    return sets
