"""Invariants: a text is found in all its places and no other; groups come in the order of their first, and rise inside."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from conan_lib.data.places import Places, digests, grouped

TEXTS = st.lists(st.sampled_from(["", "a", "b", "神", "a longer text"]), max_size=30)


@given(TEXTS, TEXTS)
def test_places_are_those_of_a_list(texts, asked):
    places = Places(digests(texts))
    for text in asked:
        own = [place for place, other in enumerate(texts) if other == text]
        assert places[text].tolist() == own and (text in places) == bool(own)
    last = [max((place for place, other in enumerate(texts) if other == text), default=-1) for text in asked]
    assert places.last(digests(asked)).tolist() == last


@given(TEXTS)
def test_groups_are_those_of_a_dictionary(texts):
    groups = {}
    for place, text in enumerate(texts):
        groups.setdefault(text, []).append(place)
    places, bounds = grouped(digests(texts))
    assert [places[start:stop].tolist() for start, stop in itertools.pairwise(bounds)] == list(groups.values())
