"""Units of text: marks stay with their letters, so a word is a word in every script; case, width and punctuation tell no texts apart."""

import pytest

from conan_lib.data.ngrams import normalise, units


@pytest.mark.parametrize(
    ("lang", "text", "words"),
    [
        ("hi", "यहोवा ने मूसा से कहा,", ["यहोवा", "ने", "मूसा", "से", "कहा"]),
        ("bn", "ঈশ্বর বললেন।", ["ঈশ্বর", "বললেন"]),
        ("ar", "فِي الْبَدْءِ", ["فِي", "الْبَدْءِ"]),
        ("de", "Am Anfang – schuf: GOTT!", ["am", "anfang", "schuf", "gott"]),
    ],
)
def test_a_word_keeps_its_marks(lang, text, words):
    assert normalise(text).split() == words and len(units(normalise(text), lang)) == len(words)


def test_words_that_differ_in_a_vowel_sign_differ():
    assert normalise("कल") != normalise("काल") and normalise("\uff26\uff35\uff2c\uff2c\u3000width") == "full width"
