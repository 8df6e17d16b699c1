"""A passage matches an answer by whole tokens: cases by hand in several scripts, and a plain search for each answer."""

import random

import pytest

from conan_lib.topics.mkqa.match import AnswerIndex, tokens
from tests.small_mkqa import WORDS


def holds(passage: str, *answers: str, match: str = "tokens") -> bool:
    return AnswerIndex([answers], match).answered_by(passage) == [0]


@pytest.mark.parametrize(
    ("passage", "answer", "found"),
    [
        ("It was built in Saint-Denis, France.", "saint-denis", True),
        ("He met Denis of France", "Denis France", False),  # in a row
        ("The category of cats", "cat", False),  # whole tokens
        ("Caf\u00e9 de Flore", "cafe\u0301 DE flore", True),  # composed and decomposed
        ("Cafe de Flore", "caf\u00e9", False),  # accents count
        ("O\u2019Brien \u2013 a name", "o'brien - a", True),  # typographic signs
        ("U.S. Army", "US Army", False),  # punctuation is a token
        ("Москва — столица", "МОСКВА", True),
        ("عاصمة فرنسا هي باريس.", "باريس", True),
        ("हिन्दी भाषा", "हिन्दी", True),  # marks belong to the word
        ("首都は東京です。", "東京", False),  # no spaces: the whole sentence is one token
        ("首都：東京。", "東京", True),  # alone between two signs
        ("北京是中国的首都", "北京", False),
        ("กรุงเทพมหานครเป็นเมืองหลวง", "กรุงเทพมหานคร", False),
        ("เมืองหลวง กรุงเทพมหานคร", "กรุงเทพมหานคร", True),
        ("ភ្នំពេញ ជារាជធានី", "ភ្នំពេញ", True),
        ("ភ្នំពេញជារាជធានី", "ភ្នំពេញ", False),
        ("anything", "", False),  # an empty answer is no answer
        ("anything", "   ", False),
    ],
)
def test_a_match_is_a_run_of_whole_tokens(passage, answer, found):
    assert holds(passage, answer) is found


def test_squad_matches_without_punctuation_and_articles():
    assert holds("the U.S. Army", "u s army", match="squad") and not holds("the U.S. Army", "u s army")
    assert holds("Return of the King", "the return of a king", match="squad")
    assert not holds("of the", "the", match="squad")  # nothing is left of it
    assert tokens("The end, a way.", "squad") == ("end", "way")


def test_the_index_finds_what_a_search_for_each_answer_finds():
    rng = random.Random(0)
    answers = [tuple(" ".join(rng.choices(WORDS, k=rng.randint(1, 3))) for _ in range(rng.randint(0, 3))) for _ in range(60)]
    index = AnswerIndex(answers)
    for _ in range(200):
        passage = " ".join(rng.choices(WORDS, k=rng.randint(1, 12)))
        plain = [q for q, accepted in enumerate(answers) if any(f" {answer} " in f" {passage} " for answer in accepted)]
        assert index.answered_by(passage) == plain
