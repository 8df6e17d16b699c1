"""The hub's files become questions and passages; one that is damaged or a bomb is one line."""

import io
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


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as files:
        files.writestr("qa_data/de.jsonl", content)
    return file.getvalue()


ROW = json.dumps({"id": 7, "question": "wer?", "answers": ["1990"]}).encode() + b"\n"
BAD = {
    "no zip": (b"no zip", "after line 0 of de: BadZipFile"),
    "not JSON": (zipped(ROW + b"{"), "after line 2 of de: JSONDecodeError"),
    "no object": (zipped(ROW + b"[1]\n"), "line 2: expected an object"),
    "not UTF-8": (zipped(b"\xff"), "after line 0 of de: UnicodeDecodeError"),
    "damaged": (zipped(ROW * 99)[:60] + b"x" * 9 + zipped(ROW * 99)[69:], "after line 0 of de: "),
    "bomb": (zipped(bytes(2**21)), "holds more than 1,048,576 bytes, 200 times its size"),
}


@pytest.mark.parametrize("content, said", BAD.values(), ids=BAD)
def test_an_archive_that_is_none_is_one_line(monkeypatch, tmp_path, content, said):
    (tmp_path / "a.zip").write_bytes(content)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *args, **_: str(tmp_path / "a.zip"))
    monkeypatch.setattr("datasets.load_dataset", lambda *args, **_: [])
    with pytest.raises(UserError, match=said):
        load_benchmark(MkqaParams(source="hub", languages=("de",)), "test", None, tmp_path)
