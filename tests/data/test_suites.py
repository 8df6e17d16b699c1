"""What a benchmark of mteb asks joins the texts that no training row may overlap."""

import mteb
import pytest
from datasets import Dataset, DatasetDict, config
from small_pairs_files import params_of, write_pairs

from conan_lib.data import suites
from conan_lib.data.build import build_corpus
from conan_lib.data.records import read
from conan_lib.errors import UserError
from conan_lib.stages import open_stage

ASKED = "which of the forty old bridges over the long green river was the first to be built of stone"


def retrieval():
    """NFCorpus with one query and one passage of ours."""
    task = mteb.get_task("NFCorpus")
    tables = {"queries": Dataset.from_list([{"id": "q", "text": ASKED}]), "corpus": Dataset.from_list([{"id": "d", "text": "a passage"}])}
    task.dataset, task.data_loaded = {"default": {"test": {**tables, "relevant_docs": {"q": {"d": 1}}, "top_ranked": None}}}, True
    return task


def similarity():
    task = mteb.get_task("STSBenchmark")
    rows = [{"sentence1": "one side", "sentence2": "the other", "score": 1.0, "label": "x"}]
    task.dataset, task.data_loaded = DatasetDict(test=Dataset.from_list(rows)), True
    return task


def test_queries_and_sentences_are_asked_and_passages_are_not():
    assert [text for text, _ in suites.task_texts(retrieval())] == [ASKED]
    assert [text for text, _ in suites.task_texts(similarity())] == ["one side", "the other"]


def test_a_row_that_a_benchmark_asks_does_not_train(tmp_path, monkeypatch):
    monkeypatch.setattr(suites, "suite_tasks", lambda name: [retrieval()])
    pairs = write_pairs(tmp_path / "pairs.jsonl", more=[{"query": f"Tell me {ASKED}?", "pos": ["The oldest of them all, by the mill."]}])
    counts = [
        len(read(build_corpus(open_stage("corpus", params_of(tmp_path, pairs, decontaminate=names))).path / "rows.parquet"))
        for names in (None, ("MTEB(eng, v2)",))
    ]
    assert counts[0] - counts[1] == 1


def test_a_name_that_mteb_lacks_and_a_hub_out_of_reach_are_one_line(monkeypatch):
    with pytest.raises(
        UserError, match=r"data.decontaminate: MTEB\(eng v2\): mteb has no such benchmark or task, did you mean MTEB\(eng, v"
    ):
        suites.suite_texts(["MTEB(eng v2)"])
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"data\.decontaminate: NFCorpus: the hub gave no mteb/nfcorpus"):
        suites.suite_texts(["NFCorpus"])
