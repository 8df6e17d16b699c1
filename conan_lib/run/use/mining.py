"""Hard negatives for one's own pairs, as other trainers read them. The search is sentence-transformers' own."""

import json
from itertools import groupby
from pathlib import Path
from typing import Literal

from datasets import Dataset
from sentence_transformers.util import mine_hard_negatives

from conan_lib.errors import UserError
from conan_lib.files import check_output, replacing
from conan_lib.run.use.models import load_model, read_pairs, read_texts


def mine_pairs(
    pairs: Path,
    output: Path,
    model: str,
    corpus: Path | None = None,
    negatives: int = 7,
    margin: float = 0.05,
    skip: int = 0,
    form: Literal["flagembedding", "sentence-transformers"] = "flagembedding",
) -> dict[str, int]:
    """Write each pair with its hardest negatives, best first; the file is there whole or not at all.

    Args:
        pairs: in any form that `data.sets` knows.
        output: .jsonl to write.
        model: folder or name of a sentence-transformers model.
        corpus: texts to search beside the pairs' own positives.
        negatives: most of one pair.
        margin: what scores above (1 - margin) times the positive is left out: it may be an unlabelled positive.
        skip: best-ranked candidates that are passed over.
        form: flagembedding (query, pos, neg, pos_scores, neg_scores), or sentence-transformers (anchor, positive, negative_1, ...), without
            scores and with only the pairs that have as many negatives as asked for.

    Returns:
        Counts: pairs that were read, pairs that were written, negatives.

    Raises:
        UserError: the output cannot be written or is an input, a file or the model cannot be read, or no pair has a negative.
    """
    check_output(output, ".jsonl", filter(None, (pairs, corpus)))
    rows = read_pairs(pairs)
    texts = read_texts(corpus) if corpus else None
    loaded = load_model(model)
    prompt = {name: name for name in ("query", "document") if (loaded.prompts or {}).get(name)}
    positives = [row["positive"] for row in rows]
    searched = list(dict.fromkeys([*(texts or []), *positives]))
    if len(searched) < 2:
        raise UserError(f"{pairs}: one passage in all, so there is nothing to choose a negative from: give a corpus with --corpus")
    most = min(negatives, len(searched) - 1 - skip)
    if most < 1:
        raise UserError(
            f"--skip {skip}: there are {len(searched)} passages in all, a pair's own among them: lower it, or give a corpus with --corpus"
        )
    mined = mine_hard_negatives(
        Dataset.from_dict({"anchor": [row["anchor"] for row in rows], "positive": positives}),
        loaded,
        corpus=searched,
        range_min=skip,
        range_max=min(len(searched), skip + 10 * negatives),
        relative_margin=margin,
        num_negatives=most,
        query_prompt_name=prompt.get("query"),
        corpus_prompt_name=prompt.get("document"),
        output_format="triplet",
        output_scores=True,
        verbose=False,
    )
    written = total = 0
    with replacing(output) as new, open(new, "w", encoding="utf-8") as file:
        for (anchor, positive), group in groupby(mined, key=lambda row: (row["anchor"], row["positive"])):
            found = list(group)
            if form == "sentence-transformers" and len(found) < negatives:
                continue
            own, others = found[0]["scores"][0], [row["scores"][1] for row in found]
            texts = [row["negative"] for row in found]
            record = {"query": anchor, "pos": [positive], "neg": texts, "pos_scores": [own], "neg_scores": others}
            if form == "sentence-transformers":
                named = {f"negative_{number}": text for number, text in enumerate(texts, 1)}
                record = {"anchor": anchor, "positive": positive, **named}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            written, total = written + 1, total + len(found)
        if not written:
            raise UserError(f"{pairs}: no pair has enough negatives: lower --margin or --negatives, or give a corpus with --corpus")
    return {"read": len(rows), "written": written, "negatives": total}
