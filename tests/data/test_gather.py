"""Sampling and splitting: chance depends on its arguments alone, samples keep order, groups stay whole, pieces lose nothing; `spread` is
even."""

from hypothesis import given
from hypothesis import strategies as st

from conan_lib.data.gather import split_of
from conan_lib.data.pieces import divide
from conan_lib.data.sampling import by_lang_then_source, chance, even, sample
from conan_lib.data.sets.clr import translated
from conan_lib.data.sources.document import Document, Source
from conan_lib.params.data import DataParams

PARAMS = DataParams(heldout_share=0.1)
SOURCE = Source("wiki", "none", ("en", "fr"), None)


def test_chance_is_uniform_and_stable():
    draws = [chance(0, "split", i) for i in range(4000)]
    assert draws == [chance(0, "split", i) for i in range(4000)]
    assert abs(sum(draws) / 4000 - 0.5) < 0.02
    assert 0.08 < sum(draw < 0.1 for draw in draws) / 4000 < 0.12


def test_a_group_has_one_split_whatever_its_language():
    splits = set()
    for i in range(300):
        found = {split_of(Document(f"{lang}{i}", "", lang, "wiki", "encyclopedia", group=f"g{i}"), SOURCE, PARAMS) for lang in ("en", "fr")}
        assert len(found) == 1
        splits |= found
    assert splits == {"train", "dev", "test"}


def test_official_test_rows_never_train():
    rows = [Document(str(i), "", "en", "newsgroups", "discussion", official="test") for i in range(50)]
    assert {split_of(row, SOURCE, PARAMS) for row in rows} == {"test", "dev"}
    assert split_of(rows[0]._replace(official="train"), SOURCE, PARAMS) == "train"


@given(st.integers(0, 40), st.integers(0, 50), st.booleans())
def test_sample_keeps_order_and_size(count, size, keyed):
    rows = list(range(count))
    found = sample(rows, size, 3, str if keyed else None)
    assert found == sorted(found) and len(found) == min(count, size) and set(found) <= set(rows)


def test_equal_keys_are_sampled_together():
    first, second = ([(lang, i) for i in range(200)] for lang in ("en", "fr"))
    chosen = [{i for _, i in sample(rows, 50, 0, lambda row: f"title {row[1]}")} for rows in (first, second)]
    assert chosen[0] == chosen[1]


@given(st.text("ab. ", max_size=300), st.integers(5, 60))
def test_divide_keeps_every_character_but_spaces(text, longest):
    pieces = list(divide(text, longest))
    assert all(len(piece) <= longest for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    whole = list(divide(text, longest, strip=False))
    assert all(len(piece) <= longest for piece in whole) and "".join(whole) == text


def test_divide_ends_at_a_sentence():
    assert list(divide("One two three. Four five six. Seven.", 30)) == ["One two three. Four five six.", "Seven."]


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 30), min_size=1), st.integers(0, 80))
def test_shares_are_as_even_as_sizes_allow(sizes, total):
    taken = even(sizes, total)
    assert sum(taken.values()) == min(total, sum(sizes.values()))
    for name, size in sizes.items():
        assert taken[name] == size or taken[name] >= max(taken.values()) - 1


def test_languages_are_even_before_sources():
    rows = [{"id": f"{lang}{source}{i}", "lang": lang, "source": source} for lang, source, n in
            (("en", "a", 100), ("en", "b", 5), ("fr", "a", 100)) for i in range(n)]  # fmt: skip
    found = by_lang_then_source(lambda: rows, 40, 0)
    assert [sum(row["lang"] == lang for row in found) for lang in ("en", "fr")] == [20, 20]
    assert sum(row["source"] == "b" for row in found) == 5


def test_clr_rows_share_the_passage_and_skip_what_has_no_translation():
    passages = {"p1": "a passage", "p2": "another"}
    rows = translated(passages, {"fr": {"p1": "bonjour", "p2": "adieu"}, "de": {"p2": "tschüss"}}, "s")
    assert [(row["anchor"], row["positive_id"], row["source_anchor_id"], row["lang"]) for row in rows] == [
        ("bonjour", "p1", "p1", "fr"), ("adieu", "p2", "p2", "fr"), ("tschüss", "p2", "p2", "de"),
    ]  # fmt: skip
    assert {row["positive"] for row in rows} == {"a passage", "another"}
