"""The three stages of the data: `corpus`, the clean text; `sets`, what is trained on; `heldout`, what is evaluated on.

Nothing of an evaluation set is in a training file: books, titles, answers and templates are split whole, and what overlaps an evaluation
text by an n-gram is removed. So what decides which text is held out belongs to the corpus; how much of it an evaluation set shows, to
`heldout`. No result depends on the number of processes.

Sets that a user declares (`data.sets`) are read by `corpus`: language-model text becomes documents and is cleaned like the others; other
rows are split, decontaminated and kept for `sets` and `heldout`. Without an embedded row no package is read and no verse needed: what is
made of them stays empty.
"""

from collections import Counter

from conan_lib.data import heldout, language_text, records
from conan_lib.data.catalogue import open_sources
from conan_lib.data.clean import Funnel
from conan_lib.data.corpus import HELDOUT, read_corpus
from conan_lib.data.declared import size
from conan_lib.data.declared.mix import Mix
from conan_lib.data.gather import STEPS, gather
from conan_lib.data.sets import SETS
from conan_lib.data.sources.bible import Scripture, check_languages
from conan_lib.data.sources.embedded import lee50
from conan_lib.data.suites import suite_texts
from conan_lib.files import write_json
from conan_lib.stages import Stage, computes


@computes
def build_corpus(stage: Stage) -> dict:
    """Read, clean, split and decontaminate the text of a run.

    Writes documents.parquet (what language models read), funnel.json, sources.json, and what `read_corpus` reads.

    Raises:
        UserError: a data package is missing, a language is unknown, no text is left, or the hub is out of reach.
    """
    params = stage.data
    sources = open_sources(params)
    check_languages(params)  # an unknown one shows before anything is written
    workers = stage.runtime.threads
    external = [(text, "en") for pair in (lee50() if params.embedded else ()) for text in pair[:2]]
    counts = Funnel()
    external += suite_texts(params.decontaminate or ())
    corpus, funnel, origins = gather(params, Scripture(params, workers), sources, dict.fromkeys(external), workers, stage.path, counts)
    kept = Counter()
    for row in corpus.rows:
        kept["rows"] += 1
        counts.add(row["source"], row["lang"], f"decontaminated, {row['split']}", 1, size(row))
    rows = records.write(stage.path / "documents.parquet", language_text.language_text(corpus), language_text.SCHEMA)
    write_json(stage.path / "training_text.json", language_text.training_text(stage.path / "documents.parquet"))
    write_json(stage.path / "funnel.json", sorted(funnel.rows(), key=lambda row: max(STEPS.index("sampled"), STEPS.index(row["step"]))))
    write_json(stage.path / "declared.json", counts.rows())
    write_json(stage.path / "sources.json", origins)
    chars = Counter()
    for document in corpus.documents("train"):
        kept["documents"] += 1
        chars[document.lang] += len(document.text)
    return {
        "rows": {"documents": rows, "declared": kept["rows"]},
        "train_documents": kept["documents"],
        "train_chars": dict(chars),
        "languages": list(chars),
        "verses_removed": len(corpus.scripture.tainted),
    }


@computes
def build_sets(stage: Stage) -> dict:
    """Make every set of SETS, a table each, from training text alone.

    Raises:
        UserError: the corpus has not finished, or the package of the verses is missing.
    """
    corpus, counts = read_corpus(stage, "train"), {}
    mix = Mix(corpus)
    for name, found in SETS.items():
        rows = found.build(corpus, stage.sets, *(records.Rows(stage.path / f"{other}.parquet") for other in found.needs))
        counts[name] = found.write(stage.path / f"{name}.parquet", mix.mixed(found, rows, stage.sets))
    return {"rows": counts}


@computes
def build_heldout(stage: Stage) -> dict:
    """Make the evaluation sets, eval/test (reported) and eval/dev (tuning), and mixing.parquet.

    Raises:
        UserError: the corpus has not finished, or the held-out books hold fewer distinct verses than heldout.candidates.
    """
    corpus = read_corpus(stage, *HELDOUT)
    for split in HELDOUT:
        heldout.candidates(corpus, stage.heldout, split)  # books that are too small show before anything is written
    tasks = {split: heldout.write_sets(corpus, stage.heldout, split, stage.path / "eval" / split) for split in HELDOUT}
    mixing = heldout.mixing_texts(corpus, stage.heldout)
    return {
        "rows": {"mixing": records.write(stage.path / "mixing.parquet", mixing, heldout.MIXING)},
        "evaluation_sets": {split: [task["name"] for task in found] for split, found in tasks.items()},
    }
