"""The search is a full sort, whatever the shard size; a killed encoding goes on and ends in the same files; processes share one."""

import json
import multiprocessing

import numpy as np
import pytest

from conan_lib.params.mkqa import MkqaParams
from conan_lib.topics.mkqa.index import WHOLE, encode_shards, matches, search, shard_paths
from conan_lib.topics.mkqa.match import AnswerIndex
from tests.small_mkqa import WORDS, benchmark, encode

ANSWERS = AnswerIndex([("red blue",), ("salt", "snow fire"), ("nothing",)])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_search_is_a_full_sort_whatever_the_shard_size(tmp_path, dtype):
    made, queries = benchmark(), encode([" ".join(WORDS[i : i + 3]) for i in range(8)])
    scores = queries @ encode([passage.text for passage in made.passages()]).T
    expected = np.lexsort((np.arange(57) * np.ones((8, 1)), -scores))[:, :30]
    pairs = None
    for size in (1, 7, 57, 1000):
        folder = tmp_path / str(size)
        encode_shards(folder, made, encode, ANSWERS, MkqaParams(shard_size=size, dtype=dtype))
        assert json.loads((folder / WHOLE).read_text()) == {"passages": 57, "shards": -(-57 // size)}
        found, rows = search(folder, queries, 30, 1)
        np.testing.assert_array_equal(rows, expected)
        np.testing.assert_array_equal(found, np.take_along_axis(scores, expected, 1))
        pairs = matches(folder) if pairs is None else pairs
        np.testing.assert_array_equal(matches(folder), pairs)
        assert np.load(shard_paths(folder)[0]).dtype == dtype
    assert 0 < len(pairs) < 57 and search(tmp_path / "7", queries, 500, 1)[1].shape == (8, 57)


def test_a_killed_encoding_goes_on_with_the_first_missing_shard(tmp_path):
    whole, killed, calls = tmp_path / "whole", tmp_path / "killed", []

    def dies_in_the_third(texts):
        calls.append(len(texts))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(texts)

    params = MkqaParams(shard_size=10)
    encode_shards(whole, benchmark(), encode, ANSWERS, params)
    with pytest.raises(KeyboardInterrupt):
        encode_shards(killed, benchmark(), dies_in_the_third, ANSWERS, params)
    assert [path.name for path in shard_paths(killed)] == ["00000.npy", "00001.npy"] and not (killed / WHOLE).exists()
    (killed / ".00002.npy.123").write_bytes(b"\x93NUMPY half")  # what a kill in the middle of a file leaves behind
    before = {path: path.stat().st_mtime_ns for path in shard_paths(killed)}
    calls.clear()
    encode_shards(killed, benchmark(), lambda texts: calls.append(len(texts)) or encode(texts), ANSWERS, params)
    assert calls == [10, 10, 10, 7] and all(path.stat().st_mtime_ns == at for path, at in before.items())
    for path in shard_paths(whole):
        for name in (path.name, path.with_suffix(".matches.npy").name):
            assert (killed / name).read_bytes() == (whole / name).read_bytes()
    encode_shards(killed, benchmark(), None, ANSWERS, params)  # whole: nothing is encoded


def _work(folder, made):
    def noted(texts):
        made.append(texts[0])
        return encode(texts)

    encode_shards(folder, benchmark(), noted, ANSWERS, MkqaParams(shard_size=5))


def test_processes_share_a_corpus_and_no_shard_is_made_twice(tmp_path):
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        made = manager.list()
        workers = [context.Process(target=_work, args=(tmp_path, made)) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(120)
            worker.terminate()  # nothing, where it has ended
        assert all(worker.exitcode == 0 for worker in workers)
        assert len(made) == 12 and len(shard_paths(tmp_path)) == 12
