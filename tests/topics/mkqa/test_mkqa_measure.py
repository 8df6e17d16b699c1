"""The stage scores own files as trec_eval does; files that changed are noticed; a user's mistake is one line.

That the embedded questions and passages are held out: tests/data/test_mkqa_heldout.py.
"""

import json

import numpy as np
import pytest

from conan_lib.data.records import read
from conan_lib.errors import UserError
from conan_lib.params.mkqa import MkqaParams
from conan_lib.topics.mkqa.measure import evaluate_mkqa
from conan_lib.topics.mkqa.metrics import METRICS
from tests.small_mkqa import WORDS, benchmark, trec


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


def test_parameters_that_do_not_fit_are_refused():
    for wrong in ({"source": "files"}, {"folder": "x"}, {"languages": ("th", "th")}, {"top_k": 50}):
        with pytest.raises(ValueError):
            MkqaParams(**wrong)
