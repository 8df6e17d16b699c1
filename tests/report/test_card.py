"""Pins: every number of the model card is read from the run: what the artefacts say changes the card, its template holds none of its own,
and its metadata carries the scores that were measured, to the digit."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow.parquet as parquet
import pytest
from huggingface_hub import ModelCard
from jinja2 import Environment

import conan_lib.report
from conan_lib.evaluation.metrics import MAIN_METRIC
from conan_lib.findings.run import Run
from conan_lib.report.card import model_card
from conan_lib.stages import open_stage

FILE = "params/tiny.yaml"
TEMPLATE = Path(conan_lib.report.__file__).parent / "templates" / "model_card.md.j2"
NAMES = ("Conan-Embedding-v2", "arxiv.org/abs/2509.12892", "Apache-2.0")


@pytest.fixture
def copied(finished, tmp_path, monkeypatch) -> None:
    """A finished run of the test's own, without writing its artefacts again."""
    shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("runs"))
    monkeypatch.chdir(tmp_path / "run")


def card(**options) -> str:
    return model_card(Run.open(FILE), **options)


def change(stage: str, name: str, edit) -> None:
    """Edit a JSON file of an artefact in place."""
    path = open_stage(stage, FILE).path / name
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


def supervised_row(rows: list[dict], task: str, subset: str = "default") -> dict:
    return next(row for row in rows if (row["model"], row["task"], row["subset"]) == ("supervised", task, subset))


def test_the_template_has_no_number_of_its_own():
    literal = "".join(value for _, kind, value in Environment().lex(TEMPLATE.read_text(encoding="utf-8")) if kind == "data")
    for name in NAMES:
        assert name in literal
        literal = literal.replace(name, "")
    assert len(literal) > 2000 and not re.findall(r".*\d.*", literal)


def test_the_metadata_is_the_scores(report):
    rows = json.loads((open_stage("evaluate", FILE).path / "scores.json").read_text())
    expected = {
        (row["task"], row["subset"], row["metric"]): row["value"]
        for row in rows
        if row["model"] == "supervised" and row["metric"] == MAIN_METRIC[row["type"]]
    }
    data = ModelCard((report / "model_card.md").read_text(encoding="utf-8")).data
    assert {(r.dataset_name, r.dataset_config, r.metric_type): r.metric_value for r in data.eval_results} == expected and len(expected) > 10
    assert {r.dataset_revision for r in data.eval_results} == {f"heldout/{open_stage('heldout', FILE).key}"}
    assert (data.license, data.library_name, data.model_name) == ("apache-2.0", "sentence-transformers", "conan-open-tiny")
    assert data.language == ["en", "de", "es", "fr", "ru", "zh", "ja", "ko", "ar"] and "conan-embedding-v2" in data.tags


def test_every_measured_value_is_in_a_result_file(report):
    text = (report / "model_card.md").read_text(encoding="utf-8")
    measured = re.findall(r"-?\d+\.\d{3}", text[text.index("## Measured") : text.index("## Limits")])
    known = set()
    for stage, file in (("evaluate", "scores.json"), ("peers", "scores.json"), ("efficiency", "quality.json")):
        for row in json.loads((open_stage(stage, FILE).path / file).read_text()):
            known |= {f"{row[name]:.3f}" for name in ("value", "low", "high") if row.get(name) is not None}
    assert len(measured) > 20 and set(measured) <= known


def set_score(rows):
    supervised_row(rows, "wiki-titles")["value"] = 0.123456


def set_interval(rows):
    supervised_row(rows, "bible-clr", "mean")["low"] = 0.4321


def set_language(rows):
    supervised_row(rows, "bible-clr", "de")["value"] = 0.2468


def set_dim(rows):
    next(row for row in rows if row["model"] == "supervised")["value"] = 0.9753


def set_peer(rows):
    next(row for row in rows if row["model"] == "bm25" and row["subset"] == "mean")["value"] = 0.1357


def set_seconds(manifest):
    manifest["seconds"] = 4_000_000  # the others' few seconds are added


def set_machine(manifest):
    manifest["environment"]["machine"] = "Linux riscv64, 64 cores"


def set_steps(manifest):
    manifest["results"] |= {"rows": {"clr": 7654}, "steps": {"clr": 321}}


def set_licence(sources):
    sources[0] |= {"licence": "CC BY-NC 4.0", "documents": 8642}


@pytest.mark.parametrize(
    ("stage", "name", "edit", "words"),
    [
        ("evaluate", "scores.json", set_score, ["| wiki-titles | ndcg_at_10 | 0.123", "value: 0.123456"]),
        ("evaluate", "scores.json", set_interval, ["[0.432, 0.600]"]),
        ("evaluate", "scores.json", set_language, ["0.247 |", "value: 0.2468"]),
        ("efficiency", "quality.json", set_dim, ["0.975"]),
        ("peers", "scores.json", set_peer, ["| bm25 | 0.136"]),
        ("pretrain", "manifest.json", set_seconds, ["4,000,0", "seconds of computing in all"]),
        ("weak", "manifest.json", set_machine, ["Linux riscv64, 64 cores"]),
        ("supervised", "manifest.json", set_steps, ["clr 7,654 examples, 321 steps."]),
        ("corpus", "sources.json", set_licence, ["CC BY-NC 4.0", "8,642"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_changed_artefact_changes_the_card(copied, stage, name, edit, words):
    before = card()
    change(stage, name, edit)
    after = card()
    assert all(word in after for word in words) and not all(word in before for word in words)


def test_the_text_that_was_read_is_counted(fake_run):
    fake_run("corpus")
    file = open_stage("corpus", FILE).path / "documents.parquet"
    rows = pd.DataFrame(
        [("wiki", "en", "x" * 300, "train"), ("bible", "en", "x" * 50, "train"), ("bible, parallel", "en", "x" * 50, "train"),
         ("bible", "ko", "é" * 100, "train"), ("news", "ko", "x" * 9999, "test")],
        columns=["source", "lang", "text", "split"],
    )  # fmt: skip
    rows.to_parquet(file)
    text = card()
    assert "60.0% wiki, 40.0% bible (characters" in text
    assert "| en | 400 | 80 | wiki | 75 |" in text and "| ko | 100 | 20 | bible | 100 |" in text
    assert parquet.read_table(file).num_rows == 5 and "news" not in text


def test_sizes_and_limits_follow_the_parameters(fake_run):
    file = Path(fake_run("corpus"))
    assert "Texts beyond 48 tokens" in card() and "truncate_dim=16" in card()
    text = file.read_text()
    file.write_text(text.replace("matryoshka_dims: [16, 32, 64, 128]", "matryoshka_dims: [24, 128]").replace("layers: 2", "layers: 5"))
    assert "truncate_dim=24" in card() and "layers 5, hidden 128" in card() and "nothing below" not in card()


def test_prompts_are_those_of_the_model_and_onnx_is_named_where_it_is(copied):
    assert "No prompts" in card() and "onnxruntime" not in card()
    settings = open_stage("supervised", FILE).path / "model" / "config_sentence_transformers.json"
    settings.parent.mkdir()
    settings.write_text(json.dumps({"prompts": {"query": "find: ", "document": ""}}))
    text = card(folder="given-away", onnx=True)
    assert '`query` is "find: ".' in text and "No prompts" not in text
    assert 'SentenceTransformer("given-away")' in text and "given-away/onnx/model.onnx" in text


def test_probes_take_the_place_of_a_guess(copied):
    run = Run.open(FILE)
    assert "Likely to be badly told apart" in model_card(replace(run, stages={n: s for n, s in run.stages.items() if n != "probes"}))
    holder = run.stages["teacher"]  # any finished stage can hold the file
    value, chance = {"value": 0.9151, "low": 0.9, "high": 0.93}, {"value": 0.0292, "low": 0.01, "high": 0.05}
    families = ("number", "unit", "negation", "paraphrase", "unrelated")
    own = {"cosine": dict.fromkeys(families, value), "auc": dict.fromkeys(families[:3], chance)}
    (holder.path / "probes.json").write_text(json.dumps({"pairs": dict.fromkeys(families, 1350), "models": {"supervised": own}}))
    text = model_card(replace(run, stages=run.stages | {"probes": holder}))
    assert "| number | 1,350 | 0.915 [0.900, 0.930] | 0.029 [0.010, 0.050] |" in text and "| unrelated | 1,350 | 0.915" in text
    assert "Likely" not in text and holder.key in text


def test_what_is_missing_is_named(fake_run):
    fake_run("corpus", "sets", "heldout", "tokenizer", "pretrain")
    text = card()
    assert "has no finished model: stage supervised has not been computed yet" in text and "Not measured: stage supervised" in text
    assert ModelCard(text).data.eval_results is None
