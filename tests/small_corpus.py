"""A corpus of made-up sentences in three languages, written as finished artefacts of the data, for tests of the stages that read it."""

import numpy as np

from conan_lib.data import language_text, records
from conan_lib.data.sets import SETS
from conan_lib.params import Params
from conan_lib.stages import Stage, open_stage

WORDS = {
    "en": ("the", "river", "runs", "under", "an", "old", "stone", "bridge", "and", "children", "throw", "boats", "into", "slow", "water"),
    "de": ("der", "alte", "Bäcker", "öffnet", "früh", "seine", "Tür", "während", "über", "den", "Dächern", "Nebel", "liegt", "Vögel"),
    "zh": tuple("山高水长天地人和日月星辰春夏秋冬东西南北风雨雷电花鸟鱼虫"),
}


def sentence(language: str, generator: np.random.Generator, words: int = 12) -> str:
    return ("" if language == "zh" else " ").join(generator.choice(WORDS[language], words)) + ("。" if language == "zh" else ".")


def documents(each: int = 60) -> list[dict]:
    """`each` documents a language; one in ten is held out for dev, one in ten is news, one in ten a parallel passage."""
    generator, rows = np.random.default_rng(0), []
    for language in WORDS:
        for i in range(each):
            kind = {1: "news", 2: "parallel"}.get(i % 10, "encyclopedia")
            text = " ".join(sentence(language, generator) for _ in range(3))
            split = "dev" if i % 10 == 0 else "train"
            rows.append(dict(id=f"{language}{i}", text=text, title="", lang=language, source="made up", kind=kind, split=split))
    return rows


def sft_records(each: int = 40) -> list[dict]:
    generator = np.random.default_rng(1)
    return [
        dict(
            instruction="Repeat the words.", input=(text := sentence(language, generator, 5)), output=text, lang=language, source="made up"
        )
        for language in WORDS
        for _ in range(each)
    ]


def finish_data(params: Params, rows: list[dict] | None = None) -> None:
    """Write and commit the documents and the instructions of a run."""
    corpus = open_stage("corpus", params)
    with corpus.work() as work:
        records.write(corpus.path / "documents.parquet", documents() if rows is None else rows, language_text.SCHEMA)
        work.commit({})
    sets = open_stage("sets", params)
    with sets.work() as work:
        write_sets(sets, {"sft": sft_records()})
        work.commit({})


def write_sets(stage: Stage, tables: dict[str, list[dict]]) -> None:
    """Write some tables of stage `sets` as that stage does."""
    for name, rows in tables.items():
        SETS[name].write(stage.path / f"{name}.parquet", rows)


def small_params(root, **sections) -> Params:
    """A run of seconds whose artefacts are below `root`."""
    runtime = {"artefacts": str(root), "threads": 1, "device": "cpu", **sections.pop("runtime", {})}
    return Params.model_validate(
        {
            "tier": "test",
            "tokenizer": {"vocab_size": 320, "sample_texts": 150},
            "backbone": {"layers": 1, "hidden_size": 16, "heads": 4, "kv_heads": 2, "ffn_size": 24, "context_length": 128},
            "pretrain": {"learning_rate": 1e-2, "batch_size": 4, "max_length": 32, "max_steps": 12, "validation_blocks": 2},
            "sft": {"learning_rate": 1e-2, "batch_size": 4, "max_length": 48, "max_steps": 9},
            "weak": {"max_length": 32},
            "supervised": {"max_length": 32, "matryoshka_dims": [8, 16]},
            "tasks": {"max_length": 32},
            "efficiency": {"dims": [8, 16]},
            "runtime": runtime,
            **sections,
        }
    )
