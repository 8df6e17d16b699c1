"""The tokenizer gives back any text exactly, has exactly as many entries as asked or refuses, frames a text with <s> and </s> also after
AutoTokenizer has loaded it, and its fertility counts what it says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_corpus import documents, finish_data, small_params
from transformers import AutoTokenizer

from conan_lib.data import records
from conan_lib.data.packing import balanced_order
from conan_lib.errors import UserError
from conan_lib.model.tokenizer import fertility, token_bytes, train_bpe, train_tokenizer
from conan_lib.params.model import TokenizerParams
from conan_lib.stages import open_stage

TEXTS = [document["text"] for document in documents()]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """Trained, saved, and loaded by AutoTokenizer."""
    folder = tmp_path_factory.mktemp("tokenizer")
    train_bpe(TEXTS, TokenizerParams(vocab_size=320)).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(str(folder))


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text_comes_back_exactly(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  two  spaces \n\n\ttab\r\n",
        "<s> is </s> plain <pad> text",
        "e\u0301 vs \u00e9",
        "हिन्दी भाषा",
        "👩‍👩‍👧 ok",
        "don't 12345,67",
        "\x00\ufeff",
    ],
)
def test_awkward_texts_come_back_exactly_and_hold_no_special_tokens(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids) == text
    assert not set(ids) & {0, 1, 2}


@given(st.text())
@settings(max_examples=100, deadline=None)
def test_bytes_of_the_tokens_are_the_bytes_of_the_text(tokenizer, text):
    assert token_bytes(tokenizer)[tokenizer.encode(text)].sum() == len(text.encode())


def test_a_text_is_framed_and_padded_on_the_right(tokenizer):
    batch = tokenizer(["the river", "the river runs under"], padding=True)
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert set(batch) == {"input_ids", "attention_mask"}
    for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
        own = ids[: sum(mask)]
        assert own[0] == 1 and own[-1] == 2 and set(ids[sum(mask) :]) <= {0}
    cut = tokenizer(TEXTS[0], truncation=True, max_length=5)["input_ids"]
    assert len(cut) == 5 and cut[0] == 1 and cut[-1] == 2


def test_the_vocabulary_is_exact_or_refused():
    assert len(train_bpe(TEXTS, TokenizerParams(vocab_size=333))) == 333
    with pytest.raises(UserError, match=r"tokenizer.vocab_size: 50000 asked for, but the sampled texts give only"):
        train_bpe(TEXTS, TokenizerParams(vocab_size=50_000))


def test_balance_follows_the_exponent():
    languages = np.repeat(["en", "de", "zh"], [8000, 4000, 2000])
    sizes = np.where(languages == "zh", 30, 90)  # characters: 720,000, 360,000, 60,000
    for exponent in (0.0, 0.5, 1.0):
        chosen = balanced_order(languages, sizes, exponent, seed=1)[:1200]
        got = np.array([sizes[chosen][languages[chosen] == name].sum() for name in ("en", "de", "zh")], dtype=float)
        wanted = np.array([720.0, 360.0, 60.0]) ** exponent
        np.testing.assert_allclose(got / got.sum(), wanted / wanted.sum(), atol=0.05)
    order = balanced_order(languages, sizes, 0.3, seed=1)
    assert sorted(order) == list(range(len(languages)))
    assert (order == balanced_order(languages, sizes, 0.3, seed=1)).all()


def test_fertility_counts_words_characters_and_bytes():
    rows = fertility({"en": ["ab cd ef"], "zh": ["山 高水"]}, {"bytes": lambda text: len(text.encode()), "one": lambda text: 1})
    table = {(row["lang"], row["tokenizer"]): (row["tokens_per_word"], row["bytes_per_token"]) for row in rows}
    assert table == {("en", "bytes"): (8 / 3, 1), ("en", "one"): (1 / 3, 8), ("zh", "bytes"): (10 / 3, 1), ("zh", "one"): (1 / 3, 10)}


def test_the_stage_trains_on_train_documents_alone(tmp_path):
    rows = documents()
    for row in rows:
        row["text"] += " ξξξξ" if row["split"] == "dev" else ""
    params = small_params(tmp_path)
    finish_data(params, rows)
    stage = train_tokenizer(open_stage("tokenizer", params))
    assert stage.finished and stage.results["vocab_size"] == 320 and stage.results["sampled_texts"] == 150
    tokenizer = AutoTokenizer.from_pretrained(str(stage.path / "tokenizer"))
    assert tokenizer.tokenize("ξξ") == ["Î", "¾", "Î", "¾"]  # no merge was learnt from held-out text
    assert train_tokenizer(stage).results == stage.results


def test_no_training_documents_is_one_clear_line(tmp_path):
    params = small_params(tmp_path)
    finish_data(params, [row for row in documents() if row["split"] == "dev"])
    with pytest.raises(UserError, match=r"documents.parquet: no document has split train"):
        train_tokenizer(open_stage("tokenizer", params))
    assert records.read(open_stage("corpus", params).path / "documents.parquet")
