"""What is remembered on disk answers as it would from memory: keys as a dictionary, near duplicates as datasketch's own index, and past
the cache as before it."""

import numpy as np
import pytest
from datasketch import MinHash, MinHashLSH

from conan_lib.data import ondisk
from conan_lib.data.clean import signature
from conan_lib.data.ondisk import NearDuplicates, OnDisk
from conan_lib.data.places import digest
from conan_lib.params.data import DataParams


@pytest.fixture(params=[64, 1], ids=["in memory", "on disk"])
def cache(request, monkeypatch):
    monkeypatch.setattr(ondisk, "CACHE", request.param)


def test_keys_are_those_of_a_dictionary(cache):
    """Oracle: a dictionary. Known keys keep their place, whether their value changes or not."""
    found, oracle = OnDisk([("a", "0")]), {"a": "0"}
    for number in np.random.default_rng(0).integers(0, 30_000, 60_000).tolist():
        key, value = f"{number}" * 20, f"value {number}"
        assert found.add(key, value) == (key not in oracle)
        oracle.setdefault(key, value)
    found["a"] = oracle["a"] = "1"
    assert list(found) == list(oracle.items()) and found.get("a") == "1" and found.get("b") is None


def test_digests_of_texts_tell_where_one_ends():
    assert digest("ab", "c") != digest("a", "bc") and len(digest("x")) == 12


def test_near_duplicates_are_those_of_datasketch(cache):
    """Oracle: datasketch's index in memory, asked and filled one by one."""
    params, rng = DataParams(minhash_permutations=64), np.random.default_rng(0)
    words = [f"w{number}" for number in range(200)]
    texts = [" ".join(rng.choice(words, 40)) for _ in range(150)]
    texts += [text.replace("w1", "x", int(rng.integers(0, 4))) for text in texts]
    signatures = [signature(text, "en", 64) for text in texts]
    index, kept, oracle = MinHashLSH(threshold=0.8, num_perm=64), {}, []
    for number, values in enumerate(signatures):
        sketch = MinHash(64, hashvalues=values, scheme="affine32")
        oracle.append(any(np.mean(kept[other] == values) >= 0.8 for other in index.query(sketch)))
        if not oracle[-1]:
            index.insert(number, sketch)
            kept[number] = values
    found = NearDuplicates(params)
    assert [found.add(values) for values in signatures] == oracle and 20 < sum(oracle) < 280
