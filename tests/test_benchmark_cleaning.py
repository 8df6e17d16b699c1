"""The comparison counts every text once, and says why we drop what the other keeps."""

from benchmarks.cleaning import compared, ours
from conan_lib.params.data import DataParams

TEXT = " ".join(f"word{n} stands beside thing{n}" for n in range(60)) + "."


def test_a_text_is_dropped_for_its_first_fault():
    texts = [TEXT, TEXT.upper(), TEXT + " Or so.", "short", "buy now " * 200]
    assert ours(texts, "en", DataParams()) == ["", "exact duplicates", "near duplicates", "quality", "quality"]


def test_every_text_is_counted_once():
    found = compared(["", "", "quality", "quality", "near duplicates"], {0, 2, 4})
    assert found == {
        "texts": 5,
        "both": 1,
        "ours alone": 1,
        "theirs alone": {"quality": 1, "near duplicates": 1},
        "none": 1,
        "agreement": 0.4,
    }
