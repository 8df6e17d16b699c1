"""The benchmark's arms read the same text: as many tokens in each, and a rate for each."""

from small_corpus import documents

from benchmarks.tokens import ARMS, measure
from conan_lib.data import records
from conan_lib.data.language_text import SCHEMA
from conan_lib.model.tokenizer import train_bpe
from conan_lib.params.model import TokenizerParams


def test_every_arm_counts_the_same_tokens(tmp_path):
    rows = [row for row in documents() if row["split"] != "dev"] + [{**documents()[1], "text": "<s> is text"}]
    records.write(tmp_path / "documents.parquet", rows, SCHEMA)
    tokenizer = train_bpe((row["text"] for row in rows), TokenizerParams(vocab_size=320))
    found = measure(tmp_path / "documents.parquet", tokenizer, 1, 2)
    expected = sum(map(len, tokenizer([row["text"] for row in rows])["input_ids"]))
    assert found.keys() == ARMS.keys() and {arm["tokens"] for arm in found.values()} == {expected}
    assert all(0 < arm["q1"] <= arm["tokens_per_second"] <= arm["q3"] for arm in found.values())
