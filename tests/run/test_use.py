"""Search, mine and evaluate take any sentence-transformers model and the user's own files; a mistake is one line and nothing is written;
mined negatives are ranked, never a positive of the same anchor, never above the margin; scores are those of a plain matrix product."""

import io
import json
import sys
from types import SimpleNamespace

import huggingface_hub
import mteb
import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from tiny_starts import save_start
from transformers import AutoTokenizer

from conan_lib.errors import UserError
from conan_lib.evaluation import suites
from conan_lib.files import check_output
from conan_lib.model.backbone import export
from conan_lib.run.use import models
from conan_lib.run.use.evaluating import own_tables, own_task
from tests.small_corpus import sentence
from tests.small_pairs import small_encoder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of an untrained encoder."""
    folder = tmp_path_factory.mktemp("encoder")
    export(small_encoder(folder / "made"), folder / "small")
    return folder / "small"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A working directory with pairs.jsonl (a query with two positives among them) and docs.txt."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)  # the variable is read once, at import
    generator = np.random.default_rng(0)
    said = [sentence("en", generator) for _ in range(40)]
    rows = [{"query": f"what of {said[n][:20]}", "pos": [said[n]] if n else said[38:]} for n in range(12)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "docs.txt").write_text("\n".join(said[12:38]) + "\n\n")
    return tmp_path


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_search_shows_the_nearest_texts_by_the_cosine(own, model, conan, monkeypatch):
    texts = (own / "docs.txt").read_text().splitlines()[:-1]
    loaded = SentenceTransformer(str(model))
    cosine = loaded.encode([texts[4]], normalize_embeddings=True) @ loaded.encode(texts, normalize_embeddings=True).T
    code, out, _ = conan("search", model, "docs.txt", texts[4], "--top", "3")
    shown = [line.split() for line in out.strip().splitlines()[1:]]
    assert code == 0 and [int(line[1]) - 1 for line in shown] == np.argsort(-cosine[0])[:3].tolist() and shown[0][:2] == ["1.000", "5"]
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{texts[4]}\n\n{texts[5]}\n"))
    code, out, _ = conan("search", model, "docs.txt", "--top", "1")
    assert code == 0 and out.count("1.000") == 2, "queries are read line by line where none is given"


def test_mined_negatives_are_ranked_below_the_margin_and_no_positives(own, model, conan):
    code, out, _ = conan("mine", "pairs.jsonl", "--model", model, "--corpus", "docs.txt", "-o", "mined.jsonl", "--negatives", "4")
    rows = read(own / "mined.jsonl")
    positives = {row["query"]: row["pos"] for row in read(own / "pairs.jsonl")}
    assert code == 0 and f"{len(rows)} of 13 pairs" in out and rows
    loaded = SentenceTransformer(str(model))
    for row in rows:
        assert row["neg_scores"] == sorted(row["neg_scores"], reverse=True) and len(row["neg"]) <= 4
        assert max(row["neg_scores"]) <= 0.95 * row["pos_scores"][0] and not set(row["neg"]) & set(positives[row["query"]])
        cosine = loaded.encode(row["neg"], normalize_embeddings=True) @ loaded.encode(row["query"], normalize_embeddings=True)
        assert np.allclose(cosine, row["neg_scores"], atol=1e-4)


@pytest.mark.parametrize("skip", [5, 8, 11])
def test_where_fewer_negatives_are_left_than_asked_for_they_are_taken(own, model, conan, skip):
    """13 passages, of which a pair's own and the skipped ones are none."""
    code, _, err = conan("mine", "pairs.jsonl", "--model", model, "-o", "mined.jsonl", "--skip", str(skip), "--margin", "0")
    lengths = {len(row["neg"]) for row in read(own / "mined.jsonl")} if code == 0 else set()
    assert (code == 0 and max(lengths) <= 12 - skip) or (code == 2 and "no pair has enough negatives" in err)


@pytest.mark.parametrize("token", ["pad_token", "eos_token"])
def test_a_decoder_that_cannot_pad_pads_with_its_end_of_text(own, conan, tmp_path, token):
    folder = save_start("qwen3", tmp_path / "start")
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({key: value for key, value in config.items() if key not in ("pad_token", token)}))
    assert AutoTokenizer.from_pretrained(folder).pad_token is None
    code, _, err = conan("search", folder, "docs.txt", "a sentence", "--top", "1")
    if token == "eos_token":
        assert code == 2 and "its tokenizer has neither a padding token nor an end of text" in err and err.count("conan-lib: ") == 1
        return
    assert code == 0, err
    assert conan("evaluate", folder, "--data", "pairs.jsonl", "--corpus", "docs.txt", "-o", "made")[0] == 0


def test_mined_pairs_in_the_form_of_sentence_transformers(own, model, conan):
    options = ("--negatives", "2", "--margin", "0", "--form", "sentence-transformers")
    assert conan("mine", "pairs.jsonl", "--model", model, "--corpus", "docs.txt", "-o", "mined.jsonl", *options)[0] == 0
    assert all(list(row) == ["anchor", "positive", "negative_1", "negative_2"] for row in read(own / "mined.jsonl"))


def test_evaluation_of_own_pairs_has_intervals_bm25_and_another_model(own, model, conan, tmp_path):
    other = tmp_path / "other"
    SentenceTransformer(str(model)).save_pretrained(str(other))
    code, out, _ = conan("evaluate", model, "--data", "pairs.jsonl", "--corpus", "docs.txt", "--against", other, "-o", "made")
    (folder,) = (own / "made").iterdir()
    scores = {row["model"]: row for row in json.loads((folder / "scores.json").read_text()) if row["metric"] == "ndcg_at_10"}
    assert code == 0 and set(scores) == {"small", "other", "bm25"} and list((folder / "mteb").rglob("pairs.json"))
    assert scores["small"]["value"] == scores["other"]["value"] and scores["bm25"]["n"] == 12, "the same weights"
    assert all(row["low"] <= row["value"] <= row["high"] for row in scores.values())
    assert "small - other, ndcg_at_10: +0.000 [+0.000, +0.000]" in out and "small - bm25" in out


def test_another_answer_is_another_task(own):
    """The same queries and passages in the same order: what mteb has scored of one must not be read for the other."""
    folders = set()
    for queries in ("aab", "abb"):
        rows = [{"query": query, "pos": [passage]} for query, passage in zip(queries, "xyz", strict=True)]
        (own / "few.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        folders.add(own_task("few.jsonl", own_tables(own / "few.jsonl", None), own / "made")[1])
    assert len(folders) == 2


def test_every_negative_of_triplets_is_searched(own):
    rows = [{"anchor": "a", "positive": "b", "negative": text} for text in ("c", "d", "c", "e")]
    (own / "triplets.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tables = own_tables(own / "triplets.jsonl", None)
    assert [row["text"] for row in tables["corpus"]] == ["b", "c", "d", "e"]
    assert len(tables["queries"]) == len(tables["qrels"]) == 1


def of_mteb(name, dataset):
    """A task of mteb with few texts of ours in the place of its data set, which is on the hub."""
    task = mteb.get_task(name)

    def load_data(**options):
        task.dataset, task.data_loaded = dataset, True

    task.load_data = load_data
    return task


def test_a_suite_is_scored_by_mteb_with_bm25_where_it_retrieves(own, model, conan, monkeypatch):
    texts = (own / "docs.txt").read_text().splitlines()[:-1]
    first, second, gold = texts[:8], texts[8:16], [float(n) for n in range(8)]
    queries, passages = ([{"id": f"{kind}{n}", "text": text} for n, text in enumerate(texts[:16])] for kind in "qd")
    split = {"relevant_docs": {f"q{n}": {f"d{n}": 1} for n in range(16)}, "top_ranked": None}
    split |= {"queries": Dataset.from_list(queries), "corpus": Dataset.from_list(passages)}
    sts = Dataset.from_dict({"sentence1": first, "sentence2": second, "score": gold})
    tasks = [of_mteb("NFCorpus", {"default": {"test": split}}), of_mteb("STSBenchmark", DatasetDict(test=sts))]
    monkeypatch.setattr(suites.mteb, "get_benchmark", lambda name: SimpleNamespace(tasks=tasks))
    monkeypatch.setattr(suites, "snapshot_download", lambda *args, **options: None)
    code, out, err = conan("evaluate", model, "--suite", "MTEB(eng, v2)", "-o", "made")
    assert code == 0 and "NFCorpus" in out, err
    scores = {(row["model"], row["task"]): row for row in json.loads((own / "made/scores.json").read_text())}
    assert set(scores) == {("small", "NFCorpus"), ("small", "STSBenchmark"), ("bm25", "NFCorpus")}
    assert scores["bm25", "NFCorpus"]["value"] == scores["small", "NFCorpus"]["value"] == 1, "every text finds itself"
    a, b = (SentenceTransformer(str(model)).encode(side, normalize_embeddings=True) for side in (first, second))
    assert scores["small", "STSBenchmark"]["value"] == pytest.approx(spearmanr((a * b).sum(1), gold).statistic, abs=1e-4)
    assert sorted({path.stem for path in (own / "made/mteb").rglob("*.json")} & {"NFCorpus", "STSBenchmark"}) == [
        "NFCorpus",
        "STSBenchmark",
    ]


def mining(output, pairs="pairs.jsonl", *more):
    return ("mine", pairs, "--model", "no/such", "-o", output, *more)


OUTPUTS = {
    "the pairs": (mining("pairs.jsonl"), "pairs.jsonl: would change pairs.jsonl, which is read: name another output"),
    "a link to the pairs": (mining("link.jsonl"), "link.jsonl: would change pairs.jsonl"),
    "the corpus": (mining("docs.jsonl", "pairs.jsonl", "--corpus", "docs.jsonl"), "docs.jsonl: would change docs.jsonl"),
    "a file of the folder of pairs": (mining("shards/new.jsonl", "shards"), "shards/new.jsonl: would change shards"),
    "a folder": (mining("."), ".: is a folder: name a file in it"),
    "below a file": (mining("docs.txt/new/a.jsonl"), "docs.txt is a file, where a folder is needed: name another output"),
    "another suffix": (mining("new.csv"), "new.csv: the output is .jsonl: give it a name that ends so"),
    "of evaluate below a file": (("evaluate", "no/such", "--data", "pairs.jsonl", "-o", "docs.txt"), "docs.txt is a file, where"),
    "of new below a file": (("new", "docs.txt/a.yaml", "--start", "no/such", "--data", "pairs.jsonl"), "docs.txt is a file, where"),
}


@pytest.mark.parametrize(("arguments", "said"), OUTPUTS.values(), ids=OUTPUTS.keys())
def test_an_output_that_cannot_be_written_is_told_before_anything_is_read(own, conan, arguments, said):
    """The model is not there either, which would be said if it were looked for."""
    (own / "shards").mkdir()
    (own / "docs.jsonl").write_text('{"text": "a"}\n')
    (own / "link.jsonl").symlink_to("pairs.jsonl")
    before = {path: path.read_bytes() for path in own.rglob("*") if path.is_file()}
    code, _, err = conan(*arguments)
    assert code == 2 and said in err and err.count("\n") == 1
    assert {path: path.read_bytes() for path in own.rglob("*") if path.is_file()} == before


def test_a_folder_that_may_not_be_written_is_told(own, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(UserError, match=r"may not be written: change its permissions"):
        check_output(own / "new" / "a.jsonl")


@pytest.mark.parametrize("name", ["./nomodel", "/nomodel", "a/b/c"])
def test_a_path_is_not_asked_of_the_hub(own, conan, monkeypatch, name):
    monkeypatch.setattr(models, "SentenceTransformer", lambda name: 1 / 0)
    code, _, err = conan("evaluate", name, "--data", "pairs.jsonl", "-o", "made")
    assert (code, err.count("\n")) == (2, 1) and f"{name}: no such folder: name one that save_pretrained wrote" in err
    assert not (own / "made").exists()


BAD = {
    "no such model": (("search", "no/such", "docs.txt", "hello"), "no/such: no such folder, and the hub did not give it"),
    "no model in the folder": (("search", ".", "docs.txt", "hello"), "no model here (neither modules.json nor config.json)"),
    "no such texts": (("search", "{model}", "none.txt", "hello"), "none.txt: no such file"),
    "no texts": (("search", "{model}", "empty.txt", "hello"), "empty.txt: no text in it"),
    "no such pairs": (("mine", "none.jsonl", "--model", "{model}", "-o", "new.jsonl"), "none.jsonl"),
    "no pairs": (("mine", "docs.jsonl", "--model", "{model}", "-o", "new.jsonl"), "docs.jsonl, line 1"),
    "one passage": (("mine", "one.jsonl", "--model", "{model}", "-o", "new.jsonl"), "one passage in all"),
    "all ranks skipped": (
        ("mine", "pairs.jsonl", "--model", "{model}", "-o", "new.jsonl", "--skip", "13"),
        "--skip 13: there are 13 passages in all",
    ),
    "all but a pair's own skipped": (
        ("mine", "pairs.jsonl", "--model", "{model}", "-o", "new.jsonl", "--skip", "12"),
        "--skip 12: there are 13 passages in all",
    ),
    "a margin of all": (("mine", "pairs.jsonl", "--model", "{model}", "-o", "new.jsonl", "--margin", "1"), "--margin 1: give a share"),
    "neither suite nor data": (("evaluate", "{model}"), "give either --suite or --data"),
    "no such suite": (("evaluate", "{model}", "--suite", "MTEB"), "--suite MTEB: choose one of MTEB(eng, v2)"),
    "a suite without a hub": (("evaluate", "{model}", "--suite", "MTEB(eng, v2)"), "needs the Hugging Face hub"),
    "a list as a text": (("search", "{model}", "lists.jsonl", "hello"), "lists.jsonl, line 1: text is \"['a', 'b']\", where a text is"),
    "an empty sentence": (("search", "{model}", "docs.txt", "  "), "a sentence is empty: give words"),
    "a field of another name": (
        ("mine", "own.jsonl", "--model", "{model}", "-o", "new.jsonl"),
        "it has Frage, pos: give its name to the field that holds it, for example anchor",
    ),
    "columns divided otherwise": (("evaluate", "{model}", "--data", "own.csv"), "it has query;pos; its columns seem to be divided by ';'"),
    "no such model to evaluate": (("evaluate", "no/such", "--data", "pairs.jsonl"), "no/such: no such folder, and the hub"),
    "one passage to find": (("evaluate", "{model}", "--data", "one.jsonl"), "one passage in all"),
}


@pytest.mark.parametrize(("arguments", "said"), BAD.values(), ids=BAD.keys())
def test_a_mistake_is_one_line_and_nothing_is_written(own, model, conan, arguments, said):
    (own / "empty.txt").write_text("\n")
    (own / "one.jsonl").write_text('{"query": "a", "pos": ["b"]}\n')
    (own / "docs.jsonl").write_text('{"text": "no pair"}\n')
    (own / "lists.jsonl").write_text('{"text": ["a", "b"]}\n')
    (own / "own.jsonl").write_text('{"Frage": "a", "pos": ["b"]}\n')
    (own / "own.csv").write_text("query;pos\na;b\n")
    before = sorted(own.rglob("*"))
    code, _, err = conan(*(argument.format(model=model) for argument in arguments))
    line = err.strip().splitlines()[-1]
    assert code == 2 and line.startswith("conan-lib: ") and said in line and "Traceback" not in err
    assert "columns:" not in line and "bad_records" not in line, "keys of data.sets, which these commands have not"
    assert sorted(own.rglob("*")) == before
