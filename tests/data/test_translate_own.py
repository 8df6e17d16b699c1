"""Pins: a translator of a reader's own need not say where it comes from, and each slip in it is one line; another translator never gets the
old one's data set; how much of a file of human
translations matches is said; what can be known before anything is written is."""

import pytest
from small_phrases import FRENCH, GERMAN, PARAMS, Phrases, write_lines, write_pairs

from conan_lib.data import records
from conan_lib.data.translate import Translation, build, output
from conan_lib.data.translate.build import build_clr
from conan_lib.errors import UserError
from conan_lib.files import held


@pytest.fixture
def pairs(tmp_path):
    return write_pairs(tmp_path)


BAD_TRANSLATORS = {
    "a provenance that is no text": ({"model": 3}, lambda text: Translation(text), r"translator\.provenance: model is 3: give a text"),
    "plain strings": ({}, lambda text: text, r"gave 'wie viele .* for query q0 into de: return Translation\(text\)"),
    "no text": ({}, lambda text: Translation(None), r"gave Translation\(text=None, finished=True\) for query q0 into de"),
    "half a character": ({}, lambda text: Translation("\ud800"), r"for query q0 into de: return Translation\(text\)"),
}


def own(provenance: dict, output) -> Phrases:
    """A translator of a reader's own."""
    translator = Phrases()
    translator.provenance = provenance
    translator.translate = lambda queries, lang: [output({"de": GERMAN, "fr": FRENCH}[lang].format(query.id)) for query in queries]
    return translator


@pytest.mark.parametrize("provenance, output, message", BAD_TRANSLATORS.values(), ids=BAD_TRANSLATORS.keys())
def test_a_slip_in_ones_own_translator_is_one_line(pairs, tmp_path, provenance, output, message):
    with pytest.raises(UserError, match=message) as error:
        build_clr(pairs, tmp_path / "out", PARAMS, translator=own(provenance, output))
    assert "\n" not in str(error.value)
    silent = own({}, Translation)
    silent.translate = lambda queries, lang: None
    with pytest.raises(UserError, match="gave None for 4 queries into de: return a list"):
        build_clr(pairs, tmp_path / "none", PARAMS, translator=silent)


@pytest.mark.parametrize("provenance", [{}, {"translator": "mine"}])
def test_what_a_provenance_leaves_out_is_empty(pairs, tmp_path, provenance):
    build_clr(pairs, tmp_path / "out", PARAMS, translator=own(provenance, Translation))
    row = records.read(tmp_path / "out" / output.DATA)[0]
    assert {name: row[name] for name in build.ORIGIN} == dict.fromkeys(build.ORIGIN, "") | provenance


def test_a_teacher_that_is_not_there_shows_before_anything_is_written(pairs, tmp_path):
    (tmp_path / "empty").mkdir()
    params = PARAMS.model_copy(update={"teacher_check": "translation", "teacher": str(tmp_path / "empty")})
    with pytest.raises(UserError, match=r"translate\.teacher: .*empty cannot be loaded"):
        build_clr(pairs, tmp_path / "out", params, translator=Phrases())
    assert not (tmp_path / "out").exists()


def test_what_matches_of_human_translations_is_said(pairs, tmp_path, capsys):
    params = PARAMS.model_copy(update={"translator": "aligned"})
    rows = [{"id": f"q{i}", "lang": lang, "text": GERMAN.format(i)} for i in (1, 99) for lang in ("de", "it")]
    assert build_clr(pairs, tmp_path / "out", params, write_lines(tmp_path / "some.jsonl", rows))["kept"] == 1
    line = "1 of its 2 ids are in the pairs, 1 of its 2 languages in translate.shares, and 1 of the 22 translations asked for are there"
    assert f"some.jsonl: {line}\n" in capsys.readouterr().err
    for kept, said in ((rows[1::2], "1 of its 2 ids .* 0 of its 1 languages"), (rows[2:3], "0 of its 1 ids .* 1 of its 1 languages")):
        with pytest.raises(
            UserError, match=rf"{said}.* 0 of the 22 .*: compare ids and languages, or set translate\.languages_per_query: 0"
        ):
            build_clr(pairs, tmp_path / "none", params, write_lines(tmp_path / "none.jsonl", kept))
    assert not (tmp_path / "none").exists()


def test_a_slip_in_a_translator_does_not_block_its_folder(pairs, tmp_path):
    """Nothing was translated, so there is nothing to keep; once there is, another translator is refused with a mend that exists."""
    folder = tmp_path / "out"
    with pytest.raises(UserError, match=r"return Translation\(text\)"):
        build_clr(pairs, folder, PARAMS, translator=own({"model": "a"}, lambda text: text))
    later = PARAMS.model_copy(update={"seed": 1})
    assert build_clr(pairs, folder, later, translator=own({"model": "b"}, Translation))["kept"]
    with pytest.raises(UserError, match=r"now \['', 'c', '', ''\]: name another folder, or delete this one$"):
        build_clr(pairs, folder, later, translator=own({"model": "c"}, Translation))


def test_a_build_at_its_first_shard_is_not_begun_afresh(pairs, tmp_path):
    folder = tmp_path / "out"
    with pytest.raises(UserError):
        build_clr(pairs, folder, PARAMS, translator=own({"model": "a"}, lambda text: text))
    with held(folder / "shards" / "00000.lock"), pytest.raises(UserError, match="was begun with"):
        build_clr(pairs, folder, PARAMS, translator=own({"model": "b"}, Translation))


class Unsigned:
    """No provenance."""

    def translate(self, queries, lang):
        return []


NO_TRANSLATORS = {
    "a class": (Phrases, r"Phrases is a class: give an instance, Phrases\(\)"),
    "no provenance": (Unsigned(), r"Unsigned needs translate\(queries, lang\) and a mapping provenance, which may be \{\}"),
    "provenance None": (own(None, Translation), "Phrases needs .* a mapping provenance"),
    "no translate": (type("Mute", (), {"provenance": {}})(), "Mute needs translate"),
}


@pytest.mark.parametrize("translator, message", NO_TRANSLATORS.values(), ids=NO_TRANSLATORS.keys())
def test_what_is_no_translator_is_told_before_anything_is_written(pairs, tmp_path, translator, message):
    with pytest.raises(UserError, match=message):
        build_clr(pairs, tmp_path / "out", PARAMS, translator=translator)
    assert not (tmp_path / "out").exists()


def test_another_translator_does_not_get_the_finished_data_set(pairs, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    with monkeypatch.context() as patch:  # every shard is there, and nothing more
        patch.setattr(build, "assemble", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build_clr(pairs, folder, PARAMS, translator=own({"model": "a"}, Translation))
    for _ in range(2):
        with pytest.raises(UserError, match=r"was begun with \['', 'a', '', ''\], which is now \['', 'b', '', ''\]"):
            build_clr(pairs, folder, PARAMS, translator=own({"model": "b"}, Translation))
        build_clr(pairs, folder, PARAMS, translator=own({"model": "a"}, Translation))
