"""Data of every task and form goes from a file through all stages to the exported model, whatever else there is not."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sentence_transformers import SentenceTransformer
from small_pairs_files import COLOURS, PAIRS, PLACES, THINGS
from tiny_starts import save_start

from conan_lib.data.records import read
from conan_lib.data.translate.build import build_clr
from conan_lib.files import read_json
from conan_lib.params import Params
from conan_lib.params.data import TranslateParams
from conan_lib.run.checks import check_sources
from conan_lib.stages import compute, open_stage

EACH = {"max_length": 24}
STAGES = (
    "corpus",
    "sets",
    "heldout",
    "start",
    "tokenizer",
    "pretrain",
    "sft",
    "teacher",
    "weak",
    "mine",
    "supervised",
    "peers",
    "evaluate",
)
SENTENCES = [f"a {colour} {thing} by the {place}" for colour in COLOURS for thing in THINGS for place in PLACES]
LABELLED = [{"text": text, "label": text.split()[1]} for text in SENTENCES]
SCORED = [
    {"sentence1": one, "sentence2": other, "score": (one.split()[1] == other.split()[1]) / 2 + (one.split()[2] == other.split()[2]) / 2}
    for one, other in zip(SENTENCES, SENTENCES[2:] + SENTENCES[:2], strict=True)
]
WEAK = [{"title": row["query"], "content": row["pos"][0]} for row in PAIRS]


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    return save_start("qwen3", tmp_path_factory.mktemp("start") / "start")


def written(file: Path, rows: list[dict]) -> str:
    """A file of records, in the form that its name says."""
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif file.suffix == ".csv":
        lines = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
        file.write_text("".join(",".join(f'"{value}"' for value in line) + "\n" for line in lines))
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def run(folder: Path, start: Path, sets: list[dict], mix: dict[str, float], languages=("en",), stages=STAGES) -> Params:
    """A run of a few steps from a random start on these sets alone: checked, then computed stage by stage."""
    params = Params.model_validate(
        {
            "tier": "own",
            "data": {"languages": languages, "sets": sets, "heldout_share": 0.15},
            "model": {"start": str(start), "layers": 1},
            "teacher": {"english": "none", "multilingual": "none"},
            "weak": EACH | {"max_steps": 2, "batch_size": 4},
            "mine": {"candidates": 4, "skip_ranks": 1},
            "supervised": EACH
            | {"max_steps": 4, "mix": mix, "task_batch_size": dict.fromkeys(mix, 4), "hard_negatives": 2, "matryoshka_dims": [8, 16]},
            "tasks": EACH | {"bootstrap": 20},
            "evaluation": {"whitening_texts": None},
            "peers": {"models": ["bm25"]},
            "mixing": EACH | {"neighbours": 3, "umap_neighbours": 5, "bootstrap": 20, "texts": "heldout"},
            "runtime": {"artefacts": str(folder / "artefacts"), "threads": 1},
        }
    )
    check_sources(params, {"corpus"})
    for name in stages:
        assert compute(open_stage(name, params)).finished, name
    return params


def scored(params: Params) -> set[str]:
    """The types of task that the last checkpoint has a score in."""
    rows = read_json(open_stage("evaluate", params).path / "scores.json")
    return {row["type"] for row in rows if row["model"] == "supervised" and row["value"] is not None}


def loads(params: Params) -> SentenceTransformer:
    """The exported model; its vectors are of unit length."""
    model = SentenceTransformer(str(open_stage("supervised", params).path / "model"))
    np.testing.assert_allclose(np.linalg.norm(model.encode(SENTENCES[:3]), axis=1), 1, atol=1e-5)
    return model


def test_weak_pairs_and_labels_train_without_retrieval(tmp_path, start):
    sets = [
        {"from": written(tmp_path / "weak.csv", WEAK), "task": "weak", "lang": "en"},
        {"from": written(tmp_path / "colour.parquet", LABELLED), "task": "classification", "lang": "en", "prompt": "Colour: "},
    ]
    params = run(tmp_path, start, sets, {"classification": 1})
    assert scored(params) == {"classification"} and loads(params).prompts["Classification"] == "Colour: "


@pytest.mark.parametrize(
    ("task", "rows", "file"),
    [("sts", SCORED, "s.csv"), ("classification", LABELLED, "c.jsonl"), ("clustering", LABELLED, "t.parquet")],
)
def test_one_task_without_pairs_passes_stage_3_and_trains_stage_4(tmp_path, start, task, rows, file):
    params = run(tmp_path, start, [{"from": written(tmp_path / file, rows), "task": task, "lang": "en"}], {task: 1})
    shown = read(open_stage("corpus", params).path / "documents.parquet")
    assert len(shown) == len({row["text"] for row in shown}) == len(rows), "short texts are measured on too"
    weak, before = open_stage("weak", params), open_stage("sft", params)
    assert weak.results["passed_through"] and read_json(weak.path / "history.json") == []
    texts = SENTENCES[:3]
    passed = SentenceTransformer(str(weak.path / "model"))
    assert passed.transformers_model.config.is_causal is False
    assert before.results["passed_through"] and not np.allclose(passed.encode(texts), loads(params).encode(texts), atol=1e-4)
    assert scored(params) == {task}


def test_rows_that_translate_wrote_and_a_file_of_them_feed_training_and_the_mixing_of_languages(tmp_path, start):
    german = "welches {1} ist {0} und steht am {2}, sagt man in {3}".format
    words = [(*row["query"].split()[1:3], row["query"].split()[-1]) for row in PAIRS]
    pairs = [{"id": str(n), "query": row["query"], "passage": row["pos"][0], "lang": "en"} for n, row in enumerate(PAIRS[:120])]
    human = [{"id": str(n), "lang": lang, "text": german(*words[n], lang)} for n in range(120) for lang in ("de", "fr")]
    aligned = TranslateParams(translator="aligned", shares={"de": 1, "fr": 1, "it": 1}, languages_per_query=2, min_language_probability=0)
    files = written(tmp_path / "pairs.jsonl", pairs), tmp_path / "translated", aligned, written(tmp_path / "human.jsonl", human)
    assert build_clr(*files)["languages"].keys() == {"de", "fr"}
    more = [
        {"query": german(*words[n], "de"), "lang": "de", "pos": [PAIRS[n]["pos"][0]], "source_query": PAIRS[n]["query"]}
        for n in range(120, 200)
    ]
    sets = [
        {"from": str(tmp_path / "translated"), "task": "clr"},
        {"from": written(tmp_path / "more.jsonl", more), "task": "clr"},
        {"from": written(tmp_path / "weak.jsonl", WEAK), "task": "weak", "lang": "en"},
    ]
    stages = (*STAGES, "supervised_no_clr", "mix")
    params = run(tmp_path, start, sets, {"clr": 1, "weak": 1}, ("en", "de", "fr"), stages)
    table = read(open_stage("sets", params).path / "clr.parquet")
    assert {(row["source"], row["lang"]) for row in table} == {("translated", "de"), ("translated", "fr"), ("more", "de")}
    assert scored(params) == {"crosslingual"} and loads(params)
    mixed = open_stage("mix", params)
    assert mixed.results["texts"] == "held-out queries and passages" and set(mixed.results["languages"]) >= {"en", "de"}
    assert mixed.inputs["supervised"].results["rows"]["clr"] > 0 and "clr" not in mixed.inputs["supervised_no_clr"].results["rows"]
