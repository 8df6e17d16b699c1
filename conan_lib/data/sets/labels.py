"""Labelled texts of stage 4: a text, its label as the positive, and another label of the same set as the negative."""

from conan_lib.data import records
from conan_lib.data.corpus import EXCERPT, LABEL_TASKS, Corpus
from conan_lib.data.sampling import another, by_lang_then_source
from conan_lib.data.sets.base import TrainingSet
from conan_lib.params.data import SetsParams


def build(corpus: Corpus, params: SetsParams) -> list[dict]:
    """At most `label_texts`, evenly over languages and their sources."""
    rows, seed = [], corpus.params.seed
    for name, documents in corpus.labelled("train").items():
        labels = sorted({d.label for d in documents})
        if len(labels) < 2:
            continue
        for d in documents:
            negative = another(labels, d.label, seed, d.id)
            rows.append(
                {"id": d.id, "anchor": d.text[:EXCERPT], "positive": d.label, "negatives": [negative], "label": d.label, "set": name,
                 "task": LABEL_TASKS[d.source], "lang": d.lang, "source": d.source}
            )  # fmt: skip
    return by_lang_then_source(lambda: rows, params.label_texts, seed)


SCHEMA = records.schema("id anchor positive label set task lang source prompt", lists="negatives")
SET = TrainingSet("labels", SCHEMA, build, tasks=("classification", "clustering"), size="label_texts")
