"""Invariants: mixed languages give chance purity and even entropy, languages apart give 1 and 0; R@1, alignment, uniformity and neighbours
equal double loops; vectors or samples of another form are one line; MultiEmo is read from the archive's real layout and only where its rows
are aligned; the stage writes points and numbers of both models."""

import io
import json
import math
import tarfile

import numpy as np
import pyarrow as pa
import pytest
import torch

from conan_lib.data.records import read, write
from conan_lib.errors import UserError
from conan_lib.params.evaluation import MixingParams
from conan_lib.stages import open_stage
from conan_lib.topics.mixing import measure as mixing
from conan_lib.topics.mixing.texts import Sample, choose, mixing_texts, read_multiemo

PARAMS = MixingParams(neighbours=5, bootstrap=30, umap_neighbours=5)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def layout(count=40, languages=("de", "en", "zh")):
    """Languages one after the other, groups in order."""
    langs = np.repeat(languages, count)
    groups = np.tile([f"g{i:02d}" for i in range(count)], len(languages))
    return langs, groups, Sample("made up", [f"{a} {b}" for a, b in zip(langs, groups, strict=True)], langs.tolist(), groups.tolist())


def test_mixed_languages_have_chance_purity_and_full_entropy():
    langs, _, _ = layout(200)
    vectors = unit(np.random.default_rng(0).normal(size=(len(langs), 8)))  # the language plays no part
    near = mixing.nearest(vectors, 12)
    assert mixing.language_purity(near, langs).mean() == pytest.approx(mixing.chance_purity(langs), abs=0.03)
    assert mixing.chance_purity(langs) == pytest.approx(199 / 599)
    assert mixing.language_entropy(near, langs).mean() > 0.85


def test_languages_apart_have_purity_one_and_entropy_zero():
    langs, _, _ = layout()
    vectors = unit(np.eye(3).repeat(40, axis=0) + 0.01 * np.random.default_rng(1).normal(size=(120, 3)))
    near = mixing.nearest(vectors, 5)
    assert mixing.language_purity(near, langs) == pytest.approx(np.ones(120))
    assert mixing.language_entropy(near, langs) == pytest.approx(np.zeros(120))


def test_evenly_spread_neighbours_have_entropy_one():
    langs = np.array(["de", "en", "zh"] * 2)
    assert mixing.language_entropy(np.array([[0, 1, 2], [3, 4, 5]]), langs) == pytest.approx([1, 1])
    # k = 2 neighbours can show two languages at most
    assert mixing.language_entropy(np.array([[0, 1]]), langs) == pytest.approx([1])


def test_neighbours_leave_the_text_itself_out_and_equal_a_sort():
    vectors = unit(np.random.default_rng(2).normal(size=(30, 6)))
    for row, near in enumerate(mixing.nearest(vectors, 4)):
        order = sorted((i for i in range(30) if i != row), key=lambda i, row=row: -vectors[i] @ vectors[row])
        assert set(near) == set(order[:4])


def test_translation_hits_equal_a_double_loop():
    langs, groups, _ = layout(12)
    vectors = unit(np.random.default_rng(3).normal(size=(36, 5)) + np.tile(np.random.default_rng(4).normal(size=(12, 5)), (3, 1)))
    hits = mixing.translation_hits(vectors, langs, groups)
    assert len(hits) == 6
    for (a, b), found in hits.items():
        sources, targets = (np.flatnonzero(langs == x) for x in (a, b))
        loop = [groups[max(targets, key=lambda t, s=s: vectors[s] @ vectors[t])] == groups[s] for s in sources]
        assert found.tolist() == loop


def test_same_vectors_in_every_language_are_perfect_and_shifted_groups_are_not():
    langs, _, sample = layout(20)
    one = unit(np.random.default_rng(5).normal(size=(20, 16)))
    numbers, parts = mixing.measure(np.tile(one, (3, 1)), sample, PARAMS)
    assert numbers["mean_r1"]["value"] == 1 and numbers["alignment"]["value"] == pytest.approx(0)
    assert numbers["centroid_distance"]["value"] == pytest.approx(0, abs=1e-9)
    shifted, _ = mixing.measure(np.concatenate([one, np.roll(one, 1, axis=0), np.roll(one, 2, axis=0)]), sample, PARAMS)
    assert shifted["mean_r1"]["value"] == 0 and shifted["alignment"]["value"] > 0.5
    assert shifted["r1_matrix"]["de"]["zh"] == 0 and "de" not in shifted["r1_matrix"]["de"]
    assert {metric: len(part) for metric, part in parts.items()} == {"mean_r1": len(langs), "purity": 20, "entropy": 20}


def test_what_belongs_to_texts_together_is_measured_anew_without_each_group():
    """Leaving a group out is measuring a sample that never had it."""
    langs, groups, sample = layout(8)
    vectors = unit(np.random.default_rng(7).normal(size=(24, 4)))
    _, parts = mixing.measure(vectors, sample, PARAMS)
    _, without = mixing.uniformity(vectors, groups)
    for place, name in enumerate(sorted(set(groups))):
        kept = groups != name
        fewer = Sample("made up", [], langs[kept].tolist(), groups[kept].tolist())
        numbers, _ = mixing.measure(vectors[kept], fewer, PARAMS)
        assert parts["purity"][place] == pytest.approx(numbers["purity"]["value"])
        assert parts["entropy"][place] == pytest.approx(numbers["entropy"]["value"])
        assert without[place] == pytest.approx(numbers["uniformity"]["value"])


def test_intervals_cover_what_they_say():
    """Of the numbers that belong to texts together, over fresh samples of one population. The truth of a centroid is the samples' mean."""
    rng, params = np.random.default_rng(8), PARAMS.model_copy(update={"bootstrap": 10})
    langs, _, sample = layout(40)
    base = np.repeat(0.3 * rng.normal(size=(3, 16)), 40, axis=0)  # what a language's texts share

    def draw() -> dict:
        meaning = np.tile(rng.normal(size=(40, 16)), (3, 1))
        vectors = unit(base + meaning + 0.3 * rng.normal(size=(120, 16)))
        centres.append(np.stack([vectors[langs == name].mean(axis=0) for name in ("de", "en", "zh")]))
        return mixing.measure(vectors, sample, params)[0]

    centres: list = []
    found = [draw() for _ in range(60)]
    for metric in ("purity", "entropy", "uniformity"):
        truth = np.mean([numbers[metric]["value"] for numbers in found])
        assert np.mean([numbers[metric]["low"] <= truth <= numbers[metric]["high"] for numbers in found]) >= 0.85, metric
    de, en, zh = np.mean(centres, axis=0)
    truth = np.mean([np.linalg.norm(de - en), np.linalg.norm(de - zh), np.linalg.norm(en - zh)])
    assert np.mean([numbers["centroid_distance"]["low"] <= truth <= numbers["centroid_distance"]["high"] for numbers in found]) >= 0.85


def test_alignment_and_uniformity_equal_double_loops():
    langs, groups, sample = layout(6)
    vectors = unit(np.random.default_rng(6).normal(size=(18, 4)))
    pairs = [(i, j) for i in range(18) for j in range(i) if groups[i] == groups[j]]
    alignment = np.mean([sum((vectors[i] - vectors[j]) ** 2) for i, j in pairs])
    uniformity = math.log(np.mean([math.exp(-2 * sum((vectors[i] - vectors[j]) ** 2)) for i in range(18) for j in range(18) if i != j]))
    numbers, _ = mixing.measure(vectors, sample, PARAMS)
    assert numbers["alignment"]["value"] == pytest.approx(alignment)
    assert numbers["uniformity"]["value"] == pytest.approx(uniformity)
    centroids = {lang: vectors[langs == lang].mean(axis=0) for lang in ("de", "en", "zh")}
    assert numbers["centroid_distance"]["pairs"]["de-zh"] == pytest.approx(np.linalg.norm(centroids["de"] - centroids["zh"]))
    for metric in ("alignment", "uniformity", "purity", "entropy", "mean_r1", "centroid_distance"):
        assert numbers[metric]["low"] <= numbers[metric]["high"]


SAMPLE = Sample("made up", list("abcd"), ["de", "de", "en", "en"], ["0", "1", "0", "1"])
WRONG_VECTORS = {
    "NaN": (np.array([[1, 0], [np.nan, 0], [0, 1], [0, 1]]), "vector 1 is not finite"),
    "infinity": (np.array([[1, 0], [0, 1], [np.inf, 0], [0, 1]]), "vector 2 is not finite"),
    "no unit length": (np.array([[1, 0], [0, 1], [0, 1], [3.0, 4]]), "vector 3 has length 5, not 1: encode with normalize_embeddings=True"),
    "zeros": (np.zeros((4, 2)), "vector 0 has length 0, not 1"),
    "a row too few": (np.eye(3), r"must be \(4, D\) floats, a row for each text, not float64 of shape \(3, 3\)"),
    "one row": (np.ones(4), r"must be \(4, D\) floats"),
    "whole numbers": (np.eye(4, dtype=int), r"not int64 of shape \(4, 4\)"),
    "unequal rows": ([[1.0], [1.0, 0.0], [1.0], [1.0]], "vectors are no numpy array"),
    "a gradient": (torch.eye(4, requires_grad=True), r"vectors\.detach\(\)\.float\(\)\.cpu\(\)\.numpy\(\)"),
    "bf16": (torch.eye(4).bfloat16(), "vectors are no numpy array"),
}
WRONG_SAMPLES = {
    "a group too few": (["de", "de", "en", "en"], ["0", "1", "0"], "the sample has 3 groups and 4 langs"),
    "one language": (["de"] * 4, ["0", "1", "2", "3"], "4 groups in 1 languages: give at least two of both"),
    "one group": (["de", "en", "fr", "zh"], ["0"] * 4, "1 groups in 4 languages: give at least two of both"),
    "a text twice": (["de", "de", "en", "en"], ["0", "1", "1", "1"], "group 1 has 2 texts in en: give one text in each language"),
    "no translation": (["de", "de", "en", "en"], ["0", "1", "0", "2"], "group 1 has no text in en: leave the group out"),
}


@pytest.mark.parametrize("vectors, message", WRONG_VECTORS.values(), ids=WRONG_VECTORS.keys())
def test_vectors_of_another_form_are_one_line(vectors, message):
    with pytest.raises(UserError, match=f"^mixing: .*{message}"):
        mixing.measure(vectors, SAMPLE, PARAMS)


@pytest.mark.parametrize("langs, groups, message", WRONG_SAMPLES.values(), ids=WRONG_SAMPLES.keys())
def test_a_sample_that_is_not_whole_is_one_line(langs, groups, message):
    with pytest.raises(UserError, match=f"^mixing: {message}"):
        mixing.measure(np.eye(4), Sample("made up", list("abcd"), langs, groups), PARAMS)


def test_lists_and_tensors_give_the_same_numbers():
    vectors = unit(np.random.default_rng(9).normal(size=(4, 3)))
    numbers, _ = mixing.measure(vectors, SAMPLE, PARAMS)
    assert mixing.measure(vectors.tolist(), SAMPLE, PARAMS)[0] == mixing.measure(torch.from_numpy(vectors), SAMPLE, PARAMS)[0] == numbers


def archive(path, languages=("de", "en", "pl"), rows=5, sentiment=lambda language, row: row % 2):
    """The layout of bigbench-1.0.0.tar.gz around MultiEmo."""
    inside = [f"multiemo/all_{level}_{language}" for level in ("sentence", "text") for language in languages]
    with tarfile.open(path, "w:gz") as tar:
        for name in ("logic_grid_puzzle", *inside, "multiemo/hotels_text_en", "navigate"):
            scores = [sentiment(name[-2:], row) for row in range(rows)]
            examples = [
                {"input": f"{name[-2:]} {row}", "target_scores": {"positive": positive, "negative": 1 - positive}}
                for row, positive in enumerate(scores)
            ]
            content = json.dumps({"canary": "GUID", "name": name, "examples": examples}).encode()
            info = tarfile.TarInfo(f"bigbench-1.0.0/bigbench/benchmark_tasks/{name}/task.json")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_multiemo_is_read_from_the_archive(tmp_path):
    rows = read_multiemo(archive(tmp_path / "a.tar.gz"))
    assert len(rows) == 15 and {row["lang"] for row in rows} == {"de", "en", "pl"}
    assert [row["text"] for row in rows if row["group"] == "multiemo/3"] == ["de 3", "en 3", "pl 3"]
    params = PARAMS.model_copy(update={"texts": "multiemo", "multiemo_archive": str(tmp_path / "a.tar.gz"), "texts_per_language": 4})
    sample = mixing_texts(params, tmp_path)
    assert sample.source == "MultiEmo reviews" and sample.languages == ["de", "en", "pl"] and len(sample.texts) == 12


def test_multiemo_that_is_not_aligned_is_refused(tmp_path):
    path = archive(tmp_path / "a.tar.gz", sentiment=lambda language, row: (row + (language == "pl")) % 2)
    with pytest.raises(UserError, match="rows of pl are not aligned"):
        read_multiemo(path)


def packed(content: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    """An archive whose one file of MultiEmo holds `content`."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        info = tarfile.TarInfo("bigbench-1.0.0/bigbench/benchmark_tasks/multiemo/all_text_en/task.json")
        info.size, info.type = len(content), kind
        tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


BROKEN = {
    "empty": (b"", "no multiemo|download it again"),
    "no archive": (b"no archive", "BadGzipFile .*: download it again"),
    "cut": (packed(b"{}")[:-30], "download it again"),
    "not JSON": (packed(b'{"examples": ['), "task.json: .*: download it again"),
    "another form": (packed(b'{"examples": [{"input": 1, "target_scores": {}}]}'), "task.json: Examples.examples.0.input: "),
    "in itself": (packed(b"[" * 9999), "task.json: .*: download it again"),
    "a folder": (packed(b"", tarfile.DIRTYPE), "no multiemo"),
    "a bomb": (packed(bytes(2**22)), "holds more than 1,048,576 bytes, 200 times its size"),
}


@pytest.mark.parametrize("content, said", BROKEN.values(), ids=BROKEN)
def test_broken_archive_is_one_clear_line(tmp_path, content, said):
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_multiemo(tmp_path / "a.tar.gz")


def test_missing_archive_names_the_package(tmp_path):
    params = PARAMS.model_copy(update={"texts": "multiemo", "multiemo_archive": str(tmp_path / "none.tar.gz")})
    with pytest.raises(UserError, match=r"bigbench==1\.0\.0"):
        mixing_texts(params, tmp_path)


def test_an_archive_that_lies_there_changes_nothing_unless_it_is_asked_for(project):
    """What is measured belongs to the key, and a key hashes no machine."""
    file = "params/small.yaml"
    before = open_stage("mix", file).key
    rows = [{"text": f"{lang}{i}", "lang": lang, "group": f"bible/{i}"} for i in range(5) for lang in ("de", "en")]
    write(project / "mixing.parquet", rows, pa.schema([(name, pa.string()) for name in rows[0]]))
    archive(project / MixingParams().multiemo_archive)
    assert open_stage("mix", file).key == before
    assert mixing_texts(MixingParams(texts_per_language=4), project).source == "held-out Bible verses"
    (project / "params/reviews.yaml").write_text("base: small.yaml\nmixing: {texts: multiemo}\n")
    assert open_stage("mix", "params/reviews.yaml").key != before


def test_choice_is_seeded_and_keeps_whole_groups():
    rows = [{"text": f"{lang}{i}", "lang": lang, "group": str(i)} for i in range(9) for lang in ("de", "en") if (lang, i) != ("en", 3)]
    sample = choose(rows, "made up", 5, 0)
    assert sample == choose(rows, "made up", 5, 0) != choose(rows, "made up", 5, 1)
    assert len(set(sample.groups)) == 5 and "3" not in sample.groups
    assert [sample.groups[i] for i in range(5)] == [sample.groups[i] for i in range(5, 10)]
    with pytest.raises(UserError, match="4 are needed"):
        choose(rows[:3], "made up", 5, 0)


@pytest.mark.parametrize(("sizes", "k"), [((20, 20, 20), 10), ((30, 5, 12), 7), ((3, 2), 10)])
def test_chance_entropy_is_that_of_neighbours_drawn_at_random(sizes, k):
    langs, draw = np.repeat(np.arange(len(sizes)), sizes), np.random.default_rng(0)
    n, k = len(langs), min(k, len(langs) - 1)
    near = [[draw.choice(np.delete(np.arange(n), row), k, replace=False) for row in range(n)] for _ in range(400)]
    drawn = np.mean([mixing.language_entropy(np.array(rows), langs).mean() for rows in near])
    assert mixing.chance_entropy(langs, k) == pytest.approx(drawn, abs=0.004)


@pytest.mark.slow
def test_the_plane_is_umaps_own_although_it_is_given_the_neighbours():
    from umap import UMAP

    vectors = unit(np.random.default_rng(0).normal(size=(60, 16)))
    own = UMAP(n_neighbors=5, min_dist=0.1, metric="cosine", random_state=0, n_jobs=1)
    assert np.array_equal(mixing.project(vectors, PARAMS), own.fit_transform(vectors))
    assert mixing._umap_neighbours(np.ones((4096, 2)), 5) == (None, None, None)


def test_stage_writes_points_and_numbers_of_both_models(ready):
    stage = mixing.mix(ready("mix"))
    points = read(stage.path / "points.parquet")
    numbers = json.loads((stage.path / "mixing.json").read_text())
    assert len(points) == 2 * 8 * 4 and {row["model"] for row in points} == set(mixing.MODELS)
    assert all(math.isfinite(row["x"]) and math.isfinite(row["y"]) for row in points)
    assert numbers["texts"] == "held-out Bible verses"
    assert numbers["with CLR"]["alignment"] != numbers["without CLR"]["alignment"]
    gap = numbers["with CLR"]["mean_r1"]["value"] - numbers["without CLR"]["mean_r1"]["value"]
    assert numbers["with CLR - without CLR"]["mean_r1"]["difference"] == pytest.approx(gap)
