"""Invariants: tasks are mteb's own classes on our files; cross-lingual subsets share one corpus and cut the same passages; scores equal an
independent computation; bad files are one clear line; the paper's suites resolve by name and run by the same code; prompts reach the
encoder; a suite without a hub says so."""

import copy
import json
import shutil

import mteb
import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from conan_lib.data.records import read
from conan_lib.errors import UserError
from conan_lib.evaluation.encoder import Encoder, iso_code, model_meta
from conan_lib.evaluation.metrics import METRICS
from conan_lib.evaluation.scores import provenance, read_items, score
from conan_lib.evaluation.suites import check_prompts, load_suite, suite_tasks
from conan_lib.evaluation.tasks import language_of, load_tasks, open_tasks
from conan_lib.files import first_damaged
from conan_lib.params.evaluation import TasksParams

PARAMS = TasksParams(bootstrap=20, experiments=2)


def words(texts, is_query=False):
    """A bag of words in 64 hashed channels: good enough to be neither right nor wrong everywhere."""
    vectors = np.zeros((len(texts), 64), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in text.split():
            vectors[row, sum(map(ord, word)) % 64] += 1
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def encoder():
    meta = model_meta("test/words", "0", parameters=64, dim=64, max_tokens=None, languages=["en"], licence="mit", framework=["NumPy"])
    return Encoder(words, meta)


def by_name(folder, **changes):
    return {task.metadata.name: task for task in load_tasks(folder, PARAMS, **changes)}


def test_tasks_are_mtebs_with_honest_metadata(heldout_folder):
    tasks = by_name(heldout_folder)
    assert isinstance(tasks["bible-clr"], mteb.abstasks.AbsTaskRetrieval) and isinstance(tasks["lee"], mteb.abstasks.AbsTaskSTS)
    for task in tasks.values():
        assert task.metadata.main_score == METRICS[task.kind][0] and task.metadata.dataset["revision"] == heldout_folder.name
        assert "made up" in task.metadata.description and task.metadata.license == "cc0-1.0"
    assert tasks["bible-clr"].metadata.eval_langs["zh-en"] == ["zho-Hans", "eng-Latn"]
    assert tasks["topics"].n_experiments == tasks["topics-clusters"].n_clusters == 2
    assert iso_code("de") == "deu-Latn" and iso_code("mul") is None and language_of("de-en") == "de"


def test_crosslingual_scores_equal_a_double_loop(heldout_folder, encoder, tmp_path):
    rows = score(encoder, [by_name(heldout_folder)["bible-clr"]], tmp_path, PARAMS, 8)
    folder = heldout_folder / "eval" / "test" / "bible-clr"
    corpus = read(folder / "corpus.parquet")
    right = {row["query_id"]: row["corpus_id"] for row in read(folder / "qrels.parquet")}
    scores = {row["id"]: words([row["text"]])[0] for row in corpus}
    for language in ("de", "fr", "zh"):
        found = []
        for query in read(folder / "queries.parquet"):
            if query["lang"] == language:
                mine = words([query["text"]])[0]
                ranked = sorted(scores, key=lambda passage, mine=mine: -float(mine @ scores[passage]))
                found.append(right[query["id"]] in ranked[:10])
        (value,) = [row["value"] for row in rows if row["subset"] == language and row["metric"] == "recall_at_10"]
        assert value == pytest.approx(np.mean(found), abs=0.06)  # ties at rank 10 may fall either way


def test_no_text_is_encoded_twice(heldout_folder, tmp_path):
    seen = []

    def counting(texts, is_query):
        seen.extend(texts)
        return words(texts)

    meta = model_meta("test/count", "0", parameters=1, dim=64, max_tokens=None, languages=[], licence="mit", framework=["NumPy"])
    score(Encoder(counting, meta), by_name(heldout_folder).values(), tmp_path, PARAMS, 8)
    assert len(seen) == len(set(seen)) > 100


def test_a_model_with_two_sides_gets_queries_and_passages(heldout_folder, tmp_path):
    sides = {True: set(), False: set()}

    def noting(texts, is_query):
        sides[is_query].update(texts)
        return words(texts)

    meta = model_meta("test/sides", "0", parameters=1, dim=64, max_tokens=None, languages=[], licence="mit", framework=["NumPy"])
    tasks = by_name(heldout_folder)
    score(Encoder(noting, meta, asymmetric=True), [tasks["wiki-retrieval"], tasks["lee"]], tmp_path, PARAMS, 8)
    folder = heldout_folder / "eval" / "test" / "wiki-retrieval"
    assert sides[False] == {row["text"] for row in read(folder / "corpus.parquet")}
    assert {row["text"] for row in read(folder / "queries.parquet")} < sides[True]


def test_fewer_queries_keep_all_candidates_and_the_same_passages(heldout_folder):
    task = by_name(heldout_folder, queries_per_language=5)["bible-clr"]
    task.load_data()
    passages = []
    for subset in task.hf_subsets:
        split = task.dataset[subset]["test"]
        assert len(split["queries"]) == 5 and len(split["corpus"]) == 24
        passages.append({passage for found in split["relevant_docs"].values() for passage in found})
    assert passages[0] == passages[1] == passages[2]


def test_items_average_to_the_score(heldout_folder, encoder, tmp_path):
    rows = score(encoder, by_name(heldout_folder).values(), tmp_path, PARAMS, 8)
    for row in rows:
        if row["subset"] == "default" and row["type"] in ("retrieval", "reranking", "classification"):
            items = read_items(tmp_path, "words", row["task"])["default"]
            assert np.mean(items[row["metric"]]) == pytest.approx(row["value"], abs=1e-5) and len(items["ids"]) == row["n"]


@pytest.mark.parametrize("left", [0, 0.5])
def test_results_of_which_a_part_is_written_are_measured_again(heldout_folder, encoder, tmp_path, left):
    """As SIGKILL leaves them while mteb writes."""
    tasks = [by_name(heldout_folder)[name] for name in ("lee", "wiki-retrieval")]
    rows = score(encoder, tasks, tmp_path, PARAMS, 8)
    written = sorted((tmp_path / "mteb").rglob("*.json*"))
    assert {path.name for path in written} == {"lee.json", "wiki-retrieval.json", "model_meta.json", "run_settings.jsonl"}
    for path in written:
        path.write_bytes(path.read_bytes()[: int(left * path.stat().st_size)])
    assert score(encoder, tasks, tmp_path, PARAMS, 8) == rows
    assert sorted((tmp_path / "mteb").rglob("*.json*")) == written and first_damaged(tmp_path) is None


def test_reranking_ranks_its_candidates_alone(heldout_folder, encoder, tmp_path):
    rows = score(encoder, [by_name(heldout_folder)["wiki-reranking"]], tmp_path, PARAMS, 8)
    values = read_items(tmp_path, "words", "wiki-reranking")["default"]["map_at_1000"]
    assert rows[0]["metric"] == "map_at_1000" and min(values) >= 1 / 6  # one of six candidates is right


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "tasks.json").unlink(), "tasks.json: missing: remove "),
        (lambda f: (f / "tasks.json").write_text("{"), "tasks.json: damaged: remove "),
        (lambda f: (f / "tasks.json").write_text("[]"), "no tasks for split test"),
        (lambda f: (f / "tasks.json").write_text(json.dumps([{"name": "x", "type": "riddle", "lang": "en", "source": "s"}])), "riddle"),
        (lambda f: (f / "lee" / "test.parquet").unlink(), "no such table"),
        (lambda f: shutil.copy(f / "topics" / "test.parquet", f / "lee" / "test.parquet"), "no column score, sentence1, sentence2"),
    ],
)
def test_bad_files_are_one_clear_line(heldout_folder, tmp_path, change, message):
    shutil.copytree(heldout_folder / "eval", tmp_path / "eval")
    change(tmp_path / "eval" / "test")
    with pytest.raises(UserError, match=message):
        by_name(tmp_path)["lee"].load_data()


SUITES = {"MTEB(eng, v2)": 41, "MTEB(eng, v1)": 56, "MTEB(cmn, v1)": 31, "MKQARetrieval": 1}
"""Tasks of each suite in mteb; the Chinese one has 35 in the paper, of which mteb's has 31."""


@pytest.mark.parametrize(("suite", "count"), SUITES.items())
def test_the_papers_suites_resolve_by_name_without_a_network(suite, count):
    tasks = suite_tasks(suite)
    assert len({task.metadata.name for task in tasks}) == len(tasks) == count
    assert all(task.kind is None and task.metadata.dataset["revision"] for task in tasks)


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_without_a_hub_is_one_clear_line(suite, monkeypatch):
    """Everything but the download is real: the name resolves in mteb, its first data set is asked for."""
    asked = []

    def offline(repository, **kwargs):
        asked.append((repository, kwargs["revision"]))
        raise ConnectionError

    monkeypatch.setattr("conan_lib.evaluation.suites.snapshot_download", offline)
    with pytest.raises(UserError, match="needs the Hugging Face hub") as raised:
        open_tasks(None, TasksParams(suite=suite))
    assert suite in str(raised.value) and asked[0][0] in str(raised.value) and "\n" not in str(raised.value)
    assert len(asked) == 1 and "/" in asked[0][0] and asked[0][1]


def test_the_switched_off_hub_is_one_clear_line(monkeypatch, tmp_path):
    """The real client, told to stay offline, with an empty cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        UserError, match=r"^tasks.suite: MTEB\(eng, v2\) needs the Hugging Face hub, which gave no mteb/.* unset HF_HUB_OFFLINE"
    ):
        load_suite("MTEB(eng, v2)")


def named(suite: str, name: str):
    """A copy: mteb gives everybody the same object."""
    return copy.copy(next(task for task in suite_tasks(suite) if task.metadata.name == name))


def banking(rows: int = 24):
    """A task of the paper's English suite, as if the hub had sent a few rows."""
    task = named("MTEB(eng, v2)", "Banking77Classification")
    texts = {"text": [f"{'card' if i % 2 else 'transfer'} {i}" for i in range(rows)], "label": [i % 2 for i in range(rows)]}
    task.dataset, task.data_loaded = DatasetDict({"train": Dataset.from_dict(texts), "test": Dataset.from_dict(texts)}), True
    return task


def prompted(prompts):
    """A bag of words that notes what it is given."""
    seen: list[str] = []

    def encode(texts, is_query):
        seen.extend(texts)
        return words(texts)

    experiment = {"max_length": 32, "dtype": "float32", "prompts": prompts}
    meta = model_meta("test/prompted", "r1", parameters=1, dim=64, max_tokens=32, languages=["en"], licence="mit", framework=["NumPy"],
                      experiment=experiment)  # fmt: skip
    return Encoder(encode, meta, prompts=prompts), seen


def test_a_task_of_a_suite_runs_with_its_prompt_and_says_how_in_mtebs_files(tmp_path):
    prompts = {"Classification": "Classify the intent: "}
    encoder, seen = prompted(prompts)
    (row,) = score(encoder, [banking()], tmp_path, PARAMS, 8)
    assert row["task"] == "Banking77Classification" and row["value"] > 0.9 and row["subset"] == "default"
    assert seen and all(text.startswith("Classify the intent: ") for text in seen)
    assert provenance(tmp_path)["prompted"] == {"name": "test/prompted", "revision": "r1", "seed": 0, "prompts": prompts, "max_length": 32,
                                                "dtype": "float32"}  # fmt: skip
    (written,) = (tmp_path / "mteb").rglob("model_meta.json")
    assert json.loads(written.read_text())["experiment_kwargs"] == {"max_length": 32, "dtype": "float32", "prompts": prompts}
    (result,) = (tmp_path / "mteb").rglob("Banking77Classification.json")
    assert json.loads(result.read_text())["dataset_revision"] == banking().metadata.dataset["revision"]


def test_an_instruction_task_gets_prompt_query_and_instruction(tmp_path):
    task = mteb.get_task("Core17InstructionRetrieval")
    task.kind, task.items = None, None
    corpus = Dataset.from_dict({"id": ["d0", "d1"], "text": ["apples are red", "bananas are yellow"]})
    queries = Dataset.from_dict({"id": ["q0"], "text": ["fruit"], "instruction": ["only apples"]})
    split = {"queries": queries, "corpus": corpus, "relevant_docs": {"q0": {"d0": 1, "d1": 0}}, "top_ranked": {"q0": ["d0", "d1"]}}
    (subset,), (name,) = task.hf_subsets, task.eval_splits
    task.dataset, task.data_loaded = {subset: {name: split}}, True
    task.task_specific_scores = lambda *args, **kwargs: {"p-MRR": 0.0}  # it compares with the queries whose instruction was changed
    encoder, seen = prompted({"Core17InstructionRetrieval-query": "Find: ", "document": "Text: "})
    score(encoder, [task], tmp_path, PARAMS, 8)
    assert set(seen) == {"Find: fruit only apples", "Text: apples are red", "Text: bananas are yellow"}


def test_a_data_set_that_does_not_come_is_one_clear_line(tmp_path, encoder, monkeypatch):
    task = named("MTEB(eng, v2)", "Banking77Classification")

    def fail(*args, **kwargs):
        raise ConnectionError("Couldn't reach the hub")

    monkeypatch.setattr(task, "load_data", fail)
    with pytest.raises(
        UserError, match=r"tasks.suite: Banking77Classification: the hub gave no mteb/banking77 \(ConnectionError\): connect and"
    ):
        score(encoder, [task], tmp_path, PARAMS, 8)


def test_a_prompt_for_nothing_is_named(heldout_folder):
    good = {"bible-clr": "a", "bible-clr-query": "b", "Retrieval-document": "c", "STS": "d", "query": "e"}
    tasks = open_tasks(heldout_folder, TasksParams(prompts=good))
    for key in ("bible", "bible-clr-passage", "passage"):
        with pytest.raises(UserError, match=f"tasks.prompts: {key} is no task"):
            check_prompts({key: "x"}, tasks)
