"""Pins: a notebook's table shows a text as it is, its tags too; whole numbers stay whole; texts are cut."""

import pandas as pd

from conan_lib.lab.tables import LONGEST, texts


def test_tags_are_text_whole_numbers_stay_whole_and_texts_are_cut():
    html = texts(pd.DataFrame([("<s> a", 519), ("b" * 200, 0.5)], columns=["text", "value"], dtype=object)).to_html()
    assert "&lt;s&gt; a" in html and "<s>" not in html
    assert ">519<" in html and ">0.5<" in html and f">{'b' * (LONGEST - 1)}…<" in html
