"""Pins: languages get their shares to within one query, exactly by largest remainder; a query never gets its own language and never one
twice; who gets what hangs on the seed and the ids alone; balanced shares are equal."""

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conan_lib.data.clean import identifiable
from conan_lib.data.languages import ENGLISH_NAMES
from conan_lib.data.translate import Query
from conan_lib.data.translate.allocation import allocate, quotas
from conan_lib.params.data import PAPER_SHARES, TranslateParams


def queries(count: int, lang: str = "en") -> list[Query]:
    return [Query(f"{lang}{i}", f"query {i}", "a passage", "p", lang, lang) for i in range(count)]


def counts(tasks) -> Counter:
    return Counter(lang for lang, _ in tasks)


def test_the_papers_languages():
    assert len(PAPER_SHARES) == 26 and sum(PAPER_SHARES.values()) == 106
    assert {lang: PAPER_SHARES[lang] for lang in ("en", "zh", "es", "fr", "ja", "de", "ru", "it", "pt", "ar", "ko")} == {
        "en": 25, "zh": 12, "es": 8, "fr": 6, "ja": 6, "de": 5, "ru": 5, "it": 4, "pt": 4, "ar": 3, "ko": 3,
    }  # fmt: skip
    assert set(PAPER_SHARES) <= identifiable() and set(PAPER_SHARES) <= set(ENGLISH_NAMES)


def test_quotas_by_hand():
    assert quotas({"a": 5, "b": 3, "c": 2}, 10, 10) == {"a": 5, "b": 3, "c": 2}
    assert quotas({"a": 1, "b": 1, "c": 1}, 10, 10) == {"a": 4, "b": 3, "c": 3}
    assert quotas({"a": 8, "b": 1, "c": 1}, 20, 10) == {"a": 10, "b": 5, "c": 5}, "what a cannot take goes to the others"


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 100), min_size=1), st.data())
def test_quotas_add_up_and_keep_their_quota(weights, data):
    most = data.draw(st.integers(1, 40))
    total = data.draw(st.integers(0, most * len(weights)))
    found = quotas(weights, total, most)
    assert sum(found.values()) == total and max(found.values()) <= most and list(found) == list(weights)
    open_ = {lang for lang in weights if found[lang] < most}
    left = total - sum(found[lang] for lang in set(weights) - open_)
    for lang in open_ if left >= 0 else ():
        exact = Fraction(left * weights[lang], sum(weights[other] for other in open_)) if open_ else 0
        assert found[lang] - exact < len(weights)  # languages at their limit by rounding move the others by less than one each


def test_shares_hold_without_the_querys_own_language():
    found = counts(allocate(queries(8100), TranslateParams()))
    assert found == {lang: 100 * share for lang, share in PAPER_SHARES.items() if lang != "en"}, "106 - 25 = 81 parts"


def test_two_source_languages_share_out_apart():
    tasks = allocate(queries(810) + queries(940, "zh"), TranslateParams())
    english = counts((lang, query) for lang, query in tasks if query.lang == "en")
    chinese = counts((lang, query) for lang, query in tasks if query.lang == "zh")
    assert (english["zh"], english["en"], chinese["en"], chinese["zh"]) == (120, 0, 250, 0)


@pytest.mark.parametrize("each", [1, 3, 25])
def test_every_query_gets_that_many_different_languages(each):
    tasks = allocate(queries(50), TranslateParams(languages_per_query=each))
    assert len(set(tasks)) == len(tasks)
    assert set(Counter(query.id for _, query in tasks).values()) == {each}
    assert not any(lang == query.lang for lang, query in tasks)


def test_every_language_and_balanced_shares():
    assert counts(allocate(queries(4), TranslateParams(languages_per_query=0))) == dict.fromkeys(set(PAPER_SHARES) - {"en"}, 4)
    assert counts(allocate(queries(500), TranslateParams(language_balance=0))) == dict.fromkeys(set(PAPER_SHARES) - {"en"}, 20)


def test_it_hangs_on_seed_and_ids_alone():
    rows, params = queries(200), TranslateParams(seed=1)
    assert set(allocate(rows, params)) == set(allocate(rows[::-1], params))
    assert set(allocate(rows, params)) != set(allocate(rows, TranslateParams(seed=2)))
    assert counts(allocate(rows, params)) == counts(allocate(rows, TranslateParams(seed=2)))
