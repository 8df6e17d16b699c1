"""Cleaning: repair mends and leaves good text alone; language, quality and duplicates are judged as documented; MinHash agrees with the
true Jaccard similarity; hashed n-grams agree with Python's own sets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conan_lib.data import clean
from conan_lib.data.decontaminate import EvaluationIndex
from conan_lib.data.ngrams import hashed_ngrams, normalise, units, width
from conan_lib.data.ondisk import NearDuplicates
from conan_lib.data.sources.bible import clean_verse
from conan_lib.params.data import DataParams

PARAMS = DataParams()
FOX = (
    "The quick brown fox jumps over the lazy dog and runs away into the forest, where nobody will ever find it again because it is dark "
    "there, and because all of the hunters of the village are fast asleep in their warm beds."
)


@pytest.mark.parametrize(
    "broken, lang, mended",
    [
        ("lâ€™Ã©tÃ© est lÃ ", "fr", "l’été est là"),
        ("Tom &amp; Jerry", "en", "Tom & Jerry"),
        ("\u200eسلام\u200f \ufeffلك", "ar", "سلام لك"),
        ("“ 神爱世人， 甚至把他的独生子赐给他们 。", "zh", "“神爱世人，甚至把他的独生子赐给他们。"),
        ("a \t b\r\n\n\n  c\u00a0d ", "en", "a b\nc d"),
        ("cafe\u0301", "fr", "café"),
    ],
)
def test_repair(broken, lang, mended):
    assert clean.repair(broken, lang) == mended


@pytest.mark.parametrize(
    "text, lang",
    [
        ("Über den Wölken – „ja“", "de"),
        ("五旬节到了，他们都聚集在一起。", "zh"),
        ("При наступлении дня", "ru"),
        ("오순절날이 이미 이르매", "ko"),
    ],
)
def test_repair_leaves_good_text_alone_and_is_idempotent(text, lang):
    assert clean.repair(text, lang) == text
    assert clean.repair(clean.repair(text, lang), lang) == text


def test_verses_lose_what_editions_add():
    assert clean_verse("(69:33)心の貧しい人たちは、見て、喜べ。", "ja") == "心の貧しい人たちは、見て、喜べ。"
    assert clean_verse("they didn`t offer first-[fruits]", "en") == "they didn't offer first-fruits"
    assert clean_verse("回自己的地方去了。（本节在《马索拉抄本》为32:1）", "zh") == "回自己的地方去了。"


def test_quality_rules():
    assert clean.quality(FOX, "en", 40)
    assert not clean.quality("Too short.", "en", 40)
    assert clean.quality("五旬节到了，他们都聚集在一起，同心祷告。", "zh", 40)
    assert not clean.quality("123 456 789 -- 123 456 789 == 42 % 17 # 19 + 23 * 11 ab cd", "en", 20)
    assert not clean.quality("buy now " * 400, "en", 40)
    assert not clean.quality(FOX + "a" * 16, "en", 40)


def test_language_is_identified_on_long_texts_only():
    german = "Denn also hat Gott die Welt geliebt, daß er seinen eingeborenen Sohn gab, auf daß jeder, der an ihn glaubt, lebe."
    assert clean.speaks(german, "de", ("en", "de", "fr"))
    assert not clean.speaks(german, "fr", ("en", "de", "fr"))
    assert clean.speaks("Guten Tag", "fr", ("en", "de", "fr"))


def test_check_names_the_step_that_refused():
    rows = [(FOX, "en"), (FOX, "de"), ("short", "en"), ("", "en")]
    checked = clean.check([(*row, True) for row in rows], ("en", "de"), PARAMS, workers=1)
    assert [found.dropped for found in checked] == ["", "language", "quality", "quality"]
    checked = clean.check([(*row, False) for row in rows], ("en", "de"), PARAMS, workers=1)
    assert [found.dropped for found in checked] == ["", "", "", "quality"]


def duplicates(signatures, params=PARAMS):
    found = NearDuplicates(params)
    return [found.add(signature) for signature in signatures]


def test_near_duplicates_keep_the_first_and_the_different():
    texts = [
        FOX,
        FOX.replace("beds", "huts"),
        FOX[: len(FOX) // 3] + " and then something else altogether happened to all of them, as you know.",
    ]
    signatures = [clean.signature(text, "en", 64) for text in texts]
    assert duplicates(signatures) == [False, True, False]
    assert duplicates([None, None]) == [False, False]
    assert clean.signature("four words are few", "en", 64) is None


def test_minhash_estimates_jaccard():
    """Oracle: Jaccard similarity of the shingle sets themselves; the estimate's standard error at 1,024 permutations is below 0.016."""
    words = [f"word{i}" for i in range(200)]
    a, b = " ".join(words), " ".join(words[:120] + words[140:])
    sets = [set(zip(*(text.split()[k:] for k in range(clean.SHINGLE)), strict=False)) for text in (a, b)]
    jaccard = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
    estimate = np.mean(clean.signature(a, "en", 1024) == clean.signature(b, "en", 1024))
    assert abs(estimate - jaccard) < 0.06


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), max_size=9), max_size=6), st.integers(1, 4), st.sampled_from(("en", "zh")))
def test_hashed_ngrams_agree_with_sets(rows, n, lang):
    texts = [" ".join(row) for row in rows]
    hashes, owners = hashed_ngrams([units(normalise(text), lang) for text in texts], n)
    true = [(tuple(row[i : i + n]), owner) for owner, row in enumerate(rows) for i in range(len(row) - n + 1)]
    assert owners.tolist() == [owner for _, owner in true]
    assert len(set(hashes.tolist())) == len({gram for gram, _ in true})
    assert len(set(zip(hashes.tolist(), (gram for gram, _ in true), strict=True))) == len({gram for gram, _ in true})


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("ab ", max_size=14), max_size=5), st.lists(st.text("ab ", max_size=14), max_size=5), st.sampled_from(("en", "ja")))
def test_decontamination_agrees_with_a_double_loop(held_out, training, lang):
    """Oracle: a training text is contaminated if it equals an evaluation text or shares n units in a row with one, compared one by one."""
    index = EvaluationIndex(2)
    index.add((text, lang) for text in held_out)
    n = width(lang, 2)

    def parts(text: str) -> list[str]:
        return list(normalise(text).replace(" ", "")) if lang == "ja" else normalise(text).split()

    def grams(text: str) -> set[tuple]:
        return {tuple(parts(text)[i : i + n]) for i in range(len(parts(text)) - n + 1)}

    expected = [
        any((normalise(text) and normalise(text) == normalise(other)) or grams(text) & grams(other) for other in held_out)
        for text in training
    ]
    assert index.overlaps([(text, lang) for text in training]).tolist() == [bool(found) for found in expected]


@pytest.mark.parametrize(
    ("lang", "passage"),
    [
        ("zh", "起初神创造天地地是空虚混沌渊面黑暗"),
        ("th", "ในปฐมกาลพระเจ้าทรงเนรมิตสร้างฟ้าและแผ่นดิน"),
        ("km", "ដើមដំបូងព្រះបានបង្កើតផ្ទៃមេឃនិងផែនដី"),
    ],
)
def test_a_passage_is_found_inside_a_text_without_spaces(lang, passage):
    """Its script has no words to count: the n-gram is of characters, not of sentences."""
    index = EvaluationIndex(5)
    index.add([(passage, lang)])
    other = passage[::-1]
    assert index.overlaps([(f"{other}{passage[2:]}{other}", lang), (other, lang)]).tolist() == [True, False]


@pytest.mark.parametrize("threshold", [0.81, 0.97, 1.0])
@pytest.mark.parametrize("permutations", [16, 64, 128])
def test_near_duplicates_take_every_threshold_of_the_schema(threshold, permutations):
    params = PARAMS.model_copy(update={"near_duplicate_threshold": threshold, "minhash_permutations": permutations})
    text = "the quick brown fox jumps over the lazy dog and runs away into the deep dark wood again"
    texts = (text, text, "something else entirely that has nothing in common with it at all, ever and ever")
    assert duplicates([clean.signature(one, "en", permutations) for one in texts], params) == [False, True, False]
