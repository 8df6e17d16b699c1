"""The hub's files become questions and passages."""

import json
import zipfile

import pytest

from conan_lib.errors import UserError
from conan_lib.params.mkqa import MkqaParams
from conan_lib.topics.mkqa.data import QUESTIONS, Passage, load_benchmark


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
    assert asked[0] == QUESTIONS and asked[1][:2] == ("mteb/nq", "corpus") and len(asked[1][2]["revision"]) == 40
    with pytest.raises(UserError, match=r"has no km\.jsonl; it has qa_data/th\.jsonl, qa_data/zh_cn\.jsonl"):
        load_benchmark(MkqaParams(source="hub", languages=("km",)), "test", None, tmp_path)
