"""MKQA by the paper's protocol.

Held: tokens and matches against cases by hand in several scripts, and against a plain search for each answer; success, nDCG and the chance
level against trec_eval (pytrec_eval) and against simulation, ties included; the search against a full sort, whatever the shard size; a
killed encoding goes on and ends in the same files, and several processes share one; a user's mistakes are one line. (That the
embedded questions and passages are held out: tests/data/test_mkqa_heldout.py.)
"""

import json
import multiprocessing
import random
import zipfile

import numpy as np
import pytest
import pytrec_eval

from conan_lib.data.records import read
from conan_lib.errors import UserError
from conan_lib.params.mkqa import MkqaParams
from conan_lib.topics.mkqa import data as mkqa_data
from conan_lib.topics.mkqa.data import Benchmark, Passage, load_benchmark
from conan_lib.topics.mkqa.index import WHOLE, blocks, encode_shards, matches, search, shard_paths
from conan_lib.topics.mkqa.match import AnswerIndex, tokens
from conan_lib.topics.mkqa.measure import evaluate_mkqa
from conan_lib.topics.mkqa.metrics import METRICS, chance_success_at, judge, ndcg_at, success_at, summarise

WORDS = ["red", "blue", "green", "gold", "iron", "wood", "stone", "salt", "fire", "snow"]


def holds(passage: str, *answers: str, match: str = "tokens") -> bool:
    return AnswerIndex([answers], match).answered_by(passage) == [0]


@pytest.mark.parametrize(
    ("passage", "answer", "found"),
    [
        ("It was built in Saint-Denis, France.", "saint-denis", True),
        ("He met Denis of France", "Denis France", False),  # in a row
        ("The category of cats", "cat", False),  # whole tokens
        ("Caf\u00e9 de Flore", "cafe\u0301 DE flore", True),  # composed and decomposed
        ("Cafe de Flore", "caf\u00e9", False),  # accents count
        ("O\u2019Brien \u2013 a name", "o'brien - a", True),  # typographic signs
        ("U.S. Army", "US Army", False),  # punctuation is a token
        ("Москва — столица", "МОСКВА", True),
        ("عاصمة فرنسا هي باريس.", "باريس", True),
        ("हिन्दी भाषा", "हिन्दी", True),  # marks belong to the word
        ("首都は東京です。", "東京", False),  # no spaces: the whole sentence is one token
        ("首都：東京。", "東京", True),  # alone between two signs
        ("北京是中国的首都", "北京", False),
        ("กรุงเทพมหานครเป็นเมืองหลวง", "กรุงเทพมหานคร", False),
        ("เมืองหลวง กรุงเทพมหานคร", "กรุงเทพมหานคร", True),
        ("ភ្នំពេញ ជារាជធានី", "ភ្នំពេញ", True),
        ("ភ្នំពេញជារាជធានី", "ភ្នំពេញ", False),
        ("anything", "", False),  # an empty answer is no answer
        ("anything", "   ", False),
    ],
)
def test_a_match_is_a_run_of_whole_tokens(passage, answer, found):
    assert holds(passage, answer) is found


def test_squad_matches_without_punctuation_and_articles():
    assert holds("the U.S. Army", "u s army", match="squad") and not holds("the U.S. Army", "u s army")
    assert holds("Return of the King", "the return of a king", match="squad")
    assert not holds("of the", "the", match="squad")  # nothing is left of it
    assert tokens("The end, a way.", "squad") == ("end", "way")


def test_the_index_finds_what_a_search_for_each_answer_finds():
    rng = random.Random(0)
    answers = [tuple(" ".join(rng.choices(WORDS, k=rng.randint(1, 3))) for _ in range(rng.randint(0, 3))) for _ in range(60)]
    index = AnswerIndex(answers)
    for _ in range(200):
        passage = " ".join(rng.choices(WORDS, k=rng.randint(1, 12)))
        plain = [q for q, accepted in enumerate(answers) if any(f" {answer} " in f" {passage} " for answer in accepted)]
        assert index.answered_by(passage) == plain


def trec(rows: np.ndarray, scores: np.ndarray, relevant: list[set[int]], passages: int) -> dict[str, np.ndarray]:
    """The three metrics by trec_eval, which breaks ties by the larger name: names fall with the row."""

    def name(row) -> str:
        return f"{passages - int(row):09}"

    run = {str(q): {name(row): float(s) for row, s in zip(rows[q], scores[q], strict=True)} for q in range(len(rows))}
    qrels = {str(q): {name(row): 1 for row in found} or {"none": 0} for q, found in enumerate(relevant)}
    found = pytrec_eval.RelevanceEvaluator(qrels, {"success.20,100", "ndcg_cut.10"}).evaluate(run)
    return {metric: np.array([found[str(q)][metric] for q in range(len(rows))]) for metric in ("success_20", "success_100", "ndcg_cut_10")}


@pytest.mark.parametrize("ties", [False, True])
def test_metrics_are_trec_evals(ties):
    rng = np.random.default_rng(3)
    passages, questions, k = 400, 50, 120
    scores = rng.integers(0, 12, (questions, passages)).astype(float) if ties else rng.normal(size=(questions, passages))
    rows = np.lexsort((np.arange(passages) * np.ones((questions, 1)), -scores))[:, :k]
    scores = np.take_along_axis(scores, rows, 1)
    relevant = [set(rng.choice(passages, size, replace=False).tolist()) for size in rng.integers(0, 15, questions)]
    pairs = np.array([(q, row) for q, found in enumerate(relevant) for row in found], dtype=np.int32)
    hits, counts = judge(rows, np.arange(questions), pairs, passages)
    assert counts.tolist() == list(map(len, relevant))
    expected = trec(rows, scores, relevant, passages)
    np.testing.assert_allclose(success_at(hits, 20), expected["success_20"])
    np.testing.assert_allclose(success_at(hits, 100), expected["success_100"])
    np.testing.assert_allclose(ndcg_at(hits, counts), expected["ndcg_cut_10"], atol=1e-9)
    assert 0 < success_at(hits, 20).mean() < 1


def test_questions_of_several_languages_share_their_answers():
    pairs = np.array([(0, 5), (1, 2), (1, 5)], dtype=np.int32)
    hits, relevant = judge(np.array([[5, 2], [5, 2], [2, 0]]), np.array([0, 1, 0]), pairs, 6)
    assert hits.tolist() == [[True, False], [True, True], [False, False]] and relevant.tolist() == [1, 2, 1]


def test_chance_is_what_random_rankings_find():
    rng = np.random.default_rng(0)
    relevant = np.array([0, 1, 7, 40])
    found = [[(rng.permutation(60)[:20] < m).any() for _ in range(4000)] for m in relevant]
    np.testing.assert_allclose(chance_success_at(relevant, 60, 20), np.mean(found, 1), atol=0.025)
    assert chance_success_at(np.array([1]), 5, 20) == [1.0]  # k beyond the corpus


def test_the_mean_of_languages_weighs_each_language_alike_and_resamples_questions_together():
    values = {"de": [1, 0, 0, 0], "th": [1, 1]}
    rows = [
        {"id": str(i), "lang": lang, **dict.fromkeys(METRICS, float(v))} | {f"chance {m}": 0.5 for m in METRICS[:2]}
        for lang, found in values.items()
        for i, v in enumerate(found)
    ]
    found = {(row["language"], row["metric"]): row for row in summarise(rows, 200, 0)}
    assert (
        found["de", METRICS[0]]["value"] == 0.25 and found["th", METRICS[0]]["value"] == 1 and found["mean", METRICS[0]]["value"] == 0.625
    )
    assert found["mean", METRICS[0]]["n"] == 6 and found["mean", METRICS[2]]["chance"] is None and found["de", METRICS[1]]["chance"] == 0.5
    assert all(row["low"] <= row["value"] <= row["high"] for row in found.values())


def benchmark(size: int = 57) -> Benchmark:
    rng = random.Random(1)
    passages = [Passage(str(i), " ".join(rng.choices(WORDS, k=6))) for i in range(size)]
    return Benchmark("made up", [], lambda: iter(passages), size)


def encode(texts: list[str]) -> np.ndarray:
    """Counts of words: small whole numbers, so that inner products are exact and tie often."""
    return np.array([[text.split().count(word) for word in WORDS] for text in texts], dtype=np.float32)


ANSWERS = AnswerIndex([("red blue",), ("salt", "snow fire"), ("nothing",)])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_search_is_a_full_sort_whatever_the_shard_size(tmp_path, dtype):
    made, queries = benchmark(), encode([" ".join(WORDS[i : i + 3]) for i in range(8)])
    scores = queries @ encode([passage.text for passage in made.passages()]).T
    expected = np.lexsort((np.arange(57) * np.ones((8, 1)), -scores))[:, :30]
    pairs = None
    for size in (1, 7, 57, 1000):
        folder = tmp_path / str(size)
        encode_shards(folder, made, encode, ANSWERS, MkqaParams(shard_size=size, dtype=dtype))
        assert json.loads((folder / WHOLE).read_text()) == {"passages": 57, "shards": -(-57 // size)}
        found, rows = search(folder, queries, 30, 1)
        np.testing.assert_array_equal(rows, expected)
        np.testing.assert_array_equal(found, np.take_along_axis(scores, expected, 1))
        pairs = matches(folder) if pairs is None else pairs
        np.testing.assert_array_equal(matches(folder), pairs)
        assert np.load(shard_paths(folder)[0]).dtype == dtype
    assert 0 < len(pairs) < 57 and search(tmp_path / "7", queries, 500, 1)[1].shape == (8, 57)


def test_the_search_over_vectors_without_ties_agrees_between_shard_sizes(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(900, 32)).astype(np.float32)
    made = Benchmark("made up", [], lambda: (Passage(str(i), str(i)) for i in range(900)), 900)
    found = []
    for size in (900, 128):
        encode_shards(
            tmp_path / str(size), made, lambda texts: vectors[[int(text) for text in texts]], ANSWERS, MkqaParams(shard_size=size)
        )
        found.append(search(tmp_path / str(size), vectors[:50], 100, 1)[1])
    np.testing.assert_array_equal(*found)


def test_a_killed_encoding_goes_on_with_the_first_missing_shard(tmp_path):
    whole, killed, calls = tmp_path / "whole", tmp_path / "killed", []

    def dies_in_the_third(texts):
        calls.append(len(texts))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(texts)

    params = MkqaParams(shard_size=10)
    encode_shards(whole, benchmark(), encode, ANSWERS, params)
    with pytest.raises(KeyboardInterrupt):
        encode_shards(killed, benchmark(), dies_in_the_third, ANSWERS, params)
    assert [path.name for path in shard_paths(killed)] == ["00000.npy", "00001.npy"] and not (killed / WHOLE).exists()
    (killed / ".00002.npy.123").write_bytes(b"\x93NUMPY half")  # what a kill in the middle of a file leaves behind
    before = {path: path.stat().st_mtime_ns for path in shard_paths(killed)}
    calls.clear()
    encode_shards(killed, benchmark(), lambda texts: calls.append(len(texts)) or encode(texts), ANSWERS, params)
    assert calls == [10, 10, 10, 7] and all(path.stat().st_mtime_ns == at for path, at in before.items())
    for path in shard_paths(whole):
        for name in (path.name, path.with_suffix(".matches.npy").name):
            assert (killed / name).read_bytes() == (whole / name).read_bytes()
    encode_shards(killed, benchmark(), None, ANSWERS, params)  # whole: nothing is encoded


def _work(folder, made):
    def noted(texts):
        made.append(texts[0])
        return encode(texts)

    encode_shards(folder, benchmark(), noted, ANSWERS, MkqaParams(shard_size=5))


def test_processes_share_a_corpus_and_no_shard_is_made_twice(tmp_path):
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        made = manager.list()
        workers = [context.Process(target=_work, args=(tmp_path, made)) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(120)
            worker.terminate()  # nothing, where it has ended
        assert all(worker.exitcode == 0 for worker in workers)
        assert len(made) == 12 and len(shard_paths(tmp_path)) == 12


def test_blocks_keep_order_and_size():
    assert [len(block) for block in blocks(benchmark(11).passages(), 4)] == [4, 4, 3]


def write_files(folder, corpus, questions) -> str:
    folder.mkdir(exist_ok=True)
    for name, rows in (("corpus", corpus), ("questions", questions)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(folder)


CORPUS = [{"id": i, "title": f"Title {i}", "text": p.text} for i, p in enumerate(benchmark(130).passages())]
ASKED = [{"id": f"q{i}", "lang": lang, "question": f"which {w}?", "answers": [w, f"{w} {w}"]}
         for lang in ("de", "th") for i, w in enumerate([*WORDS, "absent"])]  # fmt: skip


@pytest.fixture
def opened(params, ready, tmp_path):
    """Stage mkqa over own files, its inputs finished."""

    def open_mkqa(folder, **over):
        section = MkqaParams(source="files", folder=folder, shard_size=40, **over)
        return ready("mkqa", params.model_copy(update={"mkqa": section}))

    return open_mkqa


def test_the_stage_scores_own_files_as_trec_eval_does(opened, tmp_path):
    asked = [*ASKED, {"id": "none", "lang": "de", "question": "?", "answers": []}]
    stage = evaluate_mkqa(opened(write_files(tmp_path / "own", CORPUS, asked)))
    rows, found = read(stage.path / "questions.parquet"), np.load(stage.path / "retrieved.npz")
    assert (
        len(rows) == stage.results["questions_scored"] == 22 and stage.results["questions_asked"] == 23 and found["rows"].shape == (22, 100)
    )
    relevant = [
        {i for i, row in enumerate(CORPUS) if set(question["answers"]) & set(row["text"].split())} for question in rows
    ]  # answers of one word, or that word twice
    expected = trec(found["rows"], found["scores"], relevant, len(CORPUS))
    for metric, name in zip(METRICS, expected, strict=True):
        np.testing.assert_allclose([row[metric] for row in rows], expected[name], atol=1e-9)
    scores = {(row["language"], row["metric"]): row for row in json.loads((stage.path / "scores.json").read_text())}
    de = [value for row, value in zip(rows, expected["ndcg_cut_10"], strict=True) if row["lang"] == "de"]
    assert scores["de", METRICS[2]]["value"] == pytest.approx(np.mean(de)) and scores["de", METRICS[2]]["n"] == 11
    assert stage.results[METRICS[0]]["value"] == scores["mean", METRICS[0]]["value"] == pytest.approx(10 / 11)  # "absent" is a miss

    again = evaluate_mkqa(opened(str(tmp_path / "own"), dtype="float16", ideal="retrieved"))
    assert again.key != stage.key and again.results[METRICS[0]]["value"] == stage.results[METRICS[0]]["value"]
    assert all(b[METRICS[2]] >= a[METRICS[2]] - 1e-3 for a, b in zip(rows, read(again.path / "questions.parquet"), strict=True))


def test_changed_files_are_noticed_before_and_after_the_end(opened, tmp_path):
    folder = write_files(tmp_path / "changing", CORPUS, ASKED)
    evaluate_mkqa(opened(folder))
    assert evaluate_mkqa(opened(folder)).finished
    write_files(tmp_path / "changing", CORPUS[:50], ASKED)
    with pytest.raises(UserError, match="has changed since stage mkqa"):
        evaluate_mkqa(opened(folder))


@pytest.mark.parametrize(
    ("corpus", "questions", "message"),
    [
        (CORPUS, [{"id": "q", "lang": "de", "question": "?"}], "questions.jsonl, line 1: no field answers; it has id, lang, question"),
        (CORPUS, [ASKED[0] | {"answers": "red"}], "answers must be a list of texts, not 'red'"),
        (CORPUS, [], "no questions in it"),
        (CORPUS, [ASKED[0] | {"answers": [" "]}], "none of the 1 questions of own files"),
        ([{"id": 1, "title": "x"}], ASKED, "corpus.jsonl, line 1: no field text; it has id, title"),
        ([], ASKED, "own files .* has no passages"),
        ([{"id": 1, "text": "grey"}], ASKED, "no passage of own files .* holds an answer to any of its 22 questions"),
    ],
)
def test_a_mistake_in_the_files_is_one_line(opened, tmp_path, corpus, questions, message):
    with pytest.raises(UserError, match=message) as caught:
        evaluate_mkqa(opened(write_files(tmp_path / "wrong", corpus, questions)))
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_one_line_and_writes_nothing(opened, tmp_path):
    stage = opened(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"corpus\.jsonl: no such file; mkqa\.folder needs"):
        evaluate_mkqa(stage)
    assert stage.status == "new"


def test_without_a_hub_it_is_one_line_and_nothing_is_written(params, ready, monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("no\nroute")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    stage = ready("mkqa", params.model_copy(update={"mkqa": MkqaParams(source="hub")}))
    with pytest.raises(UserError, match=r"mkqa\.source: hub gave no Shitao/bge-m3-data or mteb/nq \(ConnectionError\): connect") as caught:
        evaluate_mkqa(stage)
    assert "\n" not in str(caught.value) and stage.status == "new"


def test_the_hubs_files_become_questions_and_passages(monkeypatch, tmp_path):
    archive = tmp_path / "MKQA_test-data.zip"
    with zipfile.ZipFile(archive, "w") as files:
        for lang in ("th", "zh_cn"):
            files.writestr(f"qa_data/{lang}.jsonl", json.dumps({"id": 7, "question": f"{lang}?", "answers": ["1990"]}) + "\n")
    asked = []
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *args, **_: asked.append(args) or str(archive))
    rows = [{"_id": "doc0", "title": "Minority", "text": "in 1990"}, {"_id": "doc1", "title": "", "text": "later"}]
    monkeypatch.setattr("datasets.load_dataset", lambda *args, **given: asked.append((*args, given)) or rows)
    found = load_benchmark(MkqaParams(source="hub", languages=("zh_cn", "th")), "test", None, tmp_path)
    assert [(q.id, q.lang, q.text, q.answers) for q in found.questions] == [(("7"), l, f"{l}?", ("1990",)) for l in ("zh_cn", "th")]
    assert list(found.passages()) == list(found.passages()) == [Passage("doc0", "Minority\nin 1990"), Passage("doc1", "later")]
    assert asked[0] == mkqa_data.QUESTIONS and asked[1][:2] == ("mteb/nq", "corpus") and len(asked[1][2]["revision"]) == 40
    with pytest.raises(UserError, match=r"has no km\.jsonl; it has qa_data/th\.jsonl, qa_data/zh_cn\.jsonl"):
        load_benchmark(MkqaParams(source="hub", languages=("km",)), "test", None, tmp_path)


def test_parameters_that_do_not_fit_are_refused():
    for wrong in ({"source": "files"}, {"folder": "x"}, {"languages": ("th", "th")}, {"top_k": 50}):
        with pytest.raises(ValueError):
            MkqaParams(**wrong)
