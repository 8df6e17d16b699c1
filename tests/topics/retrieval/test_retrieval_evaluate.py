"""Invariants: every (model, task) has a row with its interval, computed once; a run that was stopped goes on; the
models attend as they were trained."""

import json
import shutil

import mteb
import numpy as np
import pytest
from sklearn.preprocessing import normalize

from conan_lib.errors import UserError
from conan_lib.evaluation.checkpoints import MODELS, checkpoint_encoder
from conan_lib.evaluation.encoder import load_sentence_transformer
from conan_lib.params.evaluation import EvaluationParams
from conan_lib.topics.retrieval.measure import evaluate


@pytest.fixture(scope="module")
def stage(ready):
    return evaluate(ready("evaluate"))


@pytest.fixture(scope="module")
def rows(stage):
    return json.loads((stage.path / "scores.json").read_text())


@pytest.fixture
def two(monkeypatch) -> list[str]:
    """The stage scores two checkpoints alone."""
    names = ["weak", "supervised"]
    monkeypatch.setattr("conan_lib.topics.retrieval.measure.checkpoints", lambda _: {name: MODELS[name] for name in names})
    return names


def test_every_model_and_task_has_a_row(rows):
    tasks = {"bible-clr", "wiki-retrieval", "wiki-reranking", "topics", "topics-clusters", "lee"}
    assert {(row["model"], row["task"]) for row in rows} == {(model, task) for model in MODELS for task in tasks}
    languages = {row["subset"] for row in rows if row["task"] == "bible-clr"}
    assert languages == {"de", "fr", "zh", "mean"}
    for row in rows:
        assert row["value"] is not None and row["n"] > 0, row
        if row["type"] != "clustering":
            assert row["low"] <= row["value"] + 1e-5 and row["value"] <= row["high"] + 1e-5, row


def test_mean_is_that_of_the_languages(rows):
    picked = [r for r in rows if r["model"] == "weak" and r["metric"] == "recall_at_10"]
    by_subset = {r["subset"]: r for r in picked if r["task"] == "bible-clr"}
    assert by_subset["mean"]["value"] == pytest.approx(np.mean([by_subset[s]["value"] for s in ("de", "fr", "zh")]))
    assert by_subset["mean"]["n"] == 72


def test_mteb_reads_its_own_result_files(stage):
    results = mteb.ResultCache(stage.path / "mteb").load_results(load_experiments="match_name")
    assert {r.model_name.split("/")[1].split(" ")[0] for r in results.model_results} == set(MODELS)


def test_every_result_says_how_it_was_made(stage, params):
    models = stage.results["models"]
    assert set(models) == set(MODELS)
    for name, said in models.items():
        assert said["revision"] == stage.inputs[MODELS[name][0]].key and said["max_length"] == params.tasks.max_length
        assert said["dtype"] == "float32" and said["seed"] == params.tasks.seed and said["prompts"] is None


def test_no_field_of_our_models_openness_is_empty(stage):
    meta = checkpoint_encoder(stage, "supervised", 8).mteb_model_meta
    assert all(meta.openness.values()) and meta.openness_score == 6, meta.openness
    fields = ("revision", "release_date", "languages", "n_parameters", "n_embedding_parameters", "memory_usage_mb", "max_tokens",
              "embed_dim", "license", "open_weights", "public_training_code", "public_training_data", "framework", "similarity_fn_name",
              "use_instructions", "training_datasets", "citation", "reference")  # fmt: skip
    assert not [field for field in fields if getattr(meta, field) is None]


def test_a_run_that_is_stopped_thrice_ends_in_the_numbers_of_a_whole_one(ready, params, two, monkeypatch):
    """Amid a model's tasks, before its whitened ones, amid those of the next: bit by bit, though a vector depends on the batch that its
    text is in. No task is computed twice."""
    stage = ready("evaluate", params.model_copy(update={"tasks": params.tasks.model_copy(update={"seed": 7})}))

    def of_the_batch(*args):
        encoder = checkpoint_encoder(*args)
        plain = encoder._encode
        encoder._encode = lambda texts, side: normalize(plain(texts, side) + len(texts) / 1000)  # what is in the last bits, made large
        return encoder

    monkeypatch.setattr("conan_lib.topics.retrieval.measure.checkpoint_encoder", of_the_batch)
    whole = numbers(evaluate(stage))
    assert not (stage.path / "checkpoints").exists()
    shutil.rmtree(stage.path)
    real, done = mteb.evaluate, []

    def dying(model, task, **options):
        name = (model.name, task.metadata.name)
        if not list((stage.path).rglob(f"*{model.name}/**/{task.metadata.name}.json")):
            if len(done) in (2, 6, 10) and done[-1] != "killed":
                done.append("killed")
                raise KeyboardInterrupt
            done.append(name)
        return real(model, task, **options)

    monkeypatch.setattr(mteb, "evaluate", dying)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            evaluate(stage)
        assert not stage.finished
    assert numbers(evaluate(stage)) == whole
    scored = [name for name in done if name != "killed"]
    assert len(done) == len(scored) + 3 and len(scored) == len(set(scored)) == len(two) * (6 + 2)


def numbers(stage) -> dict:
    """All that the stage measured: its results, and scores, differences and values of single items as they are, and whitened."""
    files = [path for folder in ("", "whitened") for path in (stage.path / folder).glob("*.json")] + [*stage.path.rglob("items/*/*/*.json")]
    kept = {str(path.relative_to(stage.path)): json.loads(path.read_text()) for path in files if path.name != "manifest.json"}
    assert {"scores.json", "differences.json", "whitened/scores.json", "items/weak/bible-clr/de-en.json"} <= set(kept)
    return kept | {"results": stage.results}


def test_differences_are_paired(stage, rows):
    (row,) = [
        d
        for d in json.loads((stage.path / "differences.json").read_text())
        if (d["before"], d["after"], d["metric"]) == ("weak", "supervised", "recall_at_10")
    ]
    value = {r["model"]: r["value"] for r in rows if r["subset"] == "mean" and r["metric"] == "recall_at_10"}
    assert row["n"] == 72 and row["difference"] == pytest.approx(value["supervised"] - value["weak"], abs=1e-4)


def test_whitened_checkpoints_are_scored_beside(stage, rows):
    """Only tasks that rank, under the same items; what is measured as it is stays apart."""
    white = json.loads((stage.path / "whitened" / "scores.json").read_text())
    assert {(r["model"], r["task"]) for r in white} == {(f"{m}-whitened", t) for m in MODELS for t in ("bible-clr", "wiki-retrieval")}
    kept = {(r["task"], r["subset"], r["metric"], r["n"]) for r in rows if r["task"] in ("bible-clr", "wiki-retrieval")}
    assert {(r["task"], r["subset"], r["metric"], r["n"]) for r in white} == kept
    found = stage.results["whitened"]
    assert found["texts"] == 96 and found["languages"] == ["de", "en", "fr", "zh"] and set(found["shared_directions"]) == set(MODELS)
    mean = {r["model"]: r["value"] for r in white if r["subset"] == "mean" and r["metric"] == "recall_at_10"}
    assert {name: row["value"] for name, row in found["crosslingual"].items()} == mean
    differences = json.loads((stage.path / "whitened" / "differences.json").read_text())
    assert [d["after"] for d in differences[:4]] == [f"{name}-whitened" for name in list(MODELS)[1:]]


def test_without_whitening_there_is_no_trace_of_it(ready, params, two):
    stage = evaluate(ready("evaluate", params.model_copy(update={"evaluation": EvaluationParams(whitening_texts=None)})))
    assert "whitened" not in stage.results and not (stage.path / "whitened").exists()


def test_language_models_attend_causally_and_embedders_do_not(stage):
    """A change of the last word moves an earlier token's state only where attention is bidirectional."""
    for name, moved in (("random", False), ("weak", True)):
        source, folder = MODELS[name]
        model = load_sentence_transformer(stage.inputs[source].path / folder, 32, "cpu")
        tokens = [model.encode(f"one two {last}", output_value="token_embeddings") for last in ("three", "four")]
        assert bool(abs(tokens[0][1] - tokens[1][1]).max() > 1e-6) is moved, name


def test_missing_model_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="no model here"):
        load_sentence_transformer(tmp_path, 32, "cpu")


def _encoder(stage):
    return checkpoint_encoder(stage, "random", 32)


def _tasks(stage):
    from conan_lib.evaluation.tasks import load_tasks

    return load_tasks(stage.inputs["heldout"].path, stage.tasks)
