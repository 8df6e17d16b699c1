"""Tokens on disk are what the tokenizer says of the documents that were asked for, whatever the number of shards and processes. A whole
shard is used again; one that is damaged, or of other documents, is written anew."""

import numpy as np
import pytest
from small_corpus import documents

from conan_lib.data import records, tokens
from conan_lib.data.language_text import SCHEMA
from conan_lib.data.tokens import measured, tokenised
from conan_lib.model.tokenizer import train_bpe
from conan_lib.params.model import TokenizerParams

DOCUMENTS = [*documents(), {**documents(1)[0], "text": "<s> is plain text </s>", "kind": "news", "split": "train"}]
ROWS = np.array([9, 0, 40, 41, 120, 180, 7])


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe([document["text"] for document in DOCUMENTS], TokenizerParams(vocab_size=320))


@pytest.fixture
def table(tmp_path, monkeypatch):
    """The documents in row groups of 50, each a shard of its own: the third holds none of ROWS."""
    monkeypatch.setattr(records, "AT_ONCE", 50)
    monkeypatch.setattr(tokens, "SHARD", 1)
    path = tmp_path / "documents.parquet"
    records.write(path, DOCUMENTS, SCHEMA)
    return path


@pytest.mark.parametrize("workers", [1, 2])
def test_tokens_are_those_of_the_tokenizer(table, tokenizer, workers):
    found = tokenised(table, ROWS, tokenizer, table.parent / "tokens", workers)
    expected = [tokenizer(DOCUMENTS[row]["text"])["input_ids"] for row in sorted(ROWS)]
    assert [found[number].tolist() for number in range(len(found))] == expected
    assert found.lengths.tolist() == [len(ids) for ids in expected]
    assert isinstance(found[0], np.memmap) and expected[-1].count(tokenizer.bos_token_id) == 1


def test_what_is_whole_is_used_again_and_nothing_else(table, tokenizer, monkeypatch):
    folder, shard, written = table.parent / "tokens", tokens._shard, []

    def noted(*arguments):
        written.append(arguments[-1].name)
        if kill == written[-1]:
            raise KeyboardInterrupt
        shard(*arguments)

    monkeypatch.setattr(tokens, "_shard", noted)

    def again():
        written.clear()
        found = tokenised(table, ROWS, tokenizer, folder, 1)
        assert [found[number].tolist() for number in range(len(found))] == [
            tokenizer(DOCUMENTS[r]["text"])["input_ids"] for r in sorted(ROWS)
        ]
        return written

    kill = "000002"
    with pytest.raises(KeyboardInterrupt):
        again()
    kill = ""
    assert again() == ["000002", "000003"], "those before the kill are there"
    assert again() == []
    with open(folder / "000000.ids", "r+b") as file:
        file.write(b"\xff")
    assert again() == ["000000"], "a changed byte shows"
    (folder / "000003.json").unlink()
    assert again() == ["000003"]
    written.clear()
    assert len(tokenised(table, ROWS[:-1], tokenizer, folder, 1)) == 6 and written == ["000000"]


def test_documents_are_measured_as_python_does(table):
    """Oracle: the rows as dictionaries."""
    rows, languages, sizes = measured(table, "train", ["news"])
    own = [(n, d["lang"], len(d["text"])) for n, d in enumerate(DOCUMENTS) if d["split"] == "train" and d["kind"] != "news"]
    assert list(zip(rows.tolist(), languages.tolist(), sizes.tolist(), strict=True)) == own
    assert [len(part) for part in measured(table, "none")] == [0, 0, 0]
