"""The index of evaluation texts: what was saved finds what it found before; one that was not carried is named."""

import pytest

from conan_lib.data.decontaminate import EvaluationIndex
from conan_lib.errors import UserError

SHOWN = [("The quick brown fox jumps over the lazy dog", "en"), ("春夏秋冬日月星辰山高水长", "zh"), ("Short one.", "en")]
ASKED = [
    ("He said that the quick, brown FOX jumps over it", "en"),
    ("short one", "en"),
    ("short one more", "en"),
    ("昨天春夏秋冬日月星辰", "zh"),
    ("春夏秋", "zh"),
]


def test_a_saved_index_finds_what_it_found_before(tmp_path):
    index = EvaluationIndex(4)
    for part in (SHOWN[:1], SHOWN[1:]):
        index.add(part)
    index.save(tmp_path / "index.npz")
    again = EvaluationIndex.load(tmp_path / "index.npz")
    assert index.overlaps(ASKED).tolist() == again.overlaps(ASKED).tolist() == [True, True, False, True, False]
    assert again.words == 4


def test_an_index_that_was_not_carried_is_named(tmp_path):
    with pytest.raises(UserError, match=r"index\.npz: not here, parcels leave it out"):
        EvaluationIndex.load(tmp_path / "index.npz")
