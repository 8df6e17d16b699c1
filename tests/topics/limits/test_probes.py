"""Invariants: a pair differs in its number, its unit or its negation and in nothing else, in every language; a model that keeps
magnitudes has the correlation -1, one that cannot see numbers has 0; correlations, triplets, AUC and intervals equal plain loops, scipy,
sklearn and the other bootstrap; the same seed gives the same pairs, and a killed stage the same files."""

import json
import re
from collections import Counter
from itertools import combinations, permutations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from conan_lib.data.records import read
from conan_lib.errors import UserError
from conan_lib.evaluation.statistics import ClusterDraws, bootstrap_interval
from conan_lib.params.evaluation import ProbesParams
from conan_lib.topics.limits import measure as probes
from conan_lib.topics.limits.sentences import NUMBERS, RANGES, SENTENCES

LANGUAGES = ("en", "de", "es", "fr", "ru", "zh", "ja", "ko", "ar")
PARAMS = ProbesParams(bootstrap=60)
PAIRS = probes.make_pairs(LANGUAGES, PARAMS)
NUMBER = [pair for pair in PAIRS if pair["family"] == "number"]
MEASURED, COUNTED, FEW = (RANGES[name] for name in ("measured", "counted", "few"))
FIRST = re.compile(r"\[(.*?)\|(.*?)\]")


def measured(cosines, params=PARAMS) -> dict:
    return probes.by_language(PAIRS, list(cosines), params)


def gaps_of(pair) -> dict[str, float]:
    return {name: gap(pair["number_a"], pair["number_b"]) for name, gap in probes.GAPS.items()}


def noise(seed=0):
    return np.round(np.random.default_rng(seed).normal(size=len(PAIRS)), 1)  # one decimal, so that there are ties


def test_sentences_are_whole_and_their_numbers_fit_their_grammar():
    for template, by_language in SENTENCES.items():
        assert tuple(by_language) == LANGUAGES
        for first, other in by_language.values():
            assert first != other and "[" not in other
            assert first.count("{n}") == other.count("{n}") == (template in NUMBERS)
            assert len(FIRST.findall(first)) == first.count("[") == (NUMBERS.get(template, MEASURED) == MEASURED)
            if template in NUMBERS and "[" in first:
                assert FIRST.search(first)[1] in other  # the paraphrase keeps the unit
    assert all(11 <= n <= 99 and (n % 10 in (0, 5, 6, 7, 8, 9) or n < 15) for n in COUNTED)
    assert min(FEW) == 3 and max(FEW) == 10 and min(MEASURED) == 2
    assert {*NUMBERS.values()} == {FEW, COUNTED, MEASURED} and 3 in FEW and 5 in FEW  # the paper's example


def test_there_are_enough_pairs_and_the_same_in_every_language():
    assert len(PAIRS) > 1900 and len(NUMBER) > 500 and set(Counter(p["family"] for p in PAIRS)) == set(probes.FAMILIES)
    shapes = {
        language: [(p["family"], p["template"], p["number_a"], p["number_b"]) for p in PAIRS if p["language"] == language]
        for language in LANGUAGES
    }
    assert all(repr(shape) == repr(shapes["en"]) for shape in shapes.values())
    assert repr(probes.make_pairs(LANGUAGES, PARAMS)) == repr(PAIRS)
    assert repr(probes.make_pairs(LANGUAGES, PARAMS.model_copy(update={"seed": 1}))) != repr(PAIRS)
    assert repr(probes.make_pairs(("xx", "fr"), PARAMS)) == repr([p for p in PAIRS if p["language"] == "fr"])


def test_languages_without_sentences_are_a_clear_error():
    with pytest.raises(UserError, match="the probes have sentences in en, de"):
        probes.make_pairs(("xx",), PARAMS)


@pytest.mark.parametrize("family", probes.CHANGED)
def test_pairs_differ_in_exactly_their_span(family):
    for pair in PAIRS:
        if pair["family"] != family:
            continue
        sentence = SENTENCES[pair["template"]][pair["language"]][0]
        if family == "number":
            before, after = FIRST.sub(r"\1", sentence).split("{n}")
            spans = [f"{pair[f'number_{side}']:g}" for side in "ab"]
            assert pair["number_a"] < pair["number_b"]
        else:
            before, _, _, after = FIRST.split(sentence.replace("{n}", f"{pair['number_a']:g}"))
            spans = list(FIRST.search(sentence).groups())
        assert [pair["a"], pair["b"]] == [before + span + after for span in spans] and pair["a"] != pair["b"]


def test_controls_say_the_same_and_something_else():
    for pair in PAIRS:
        digits = [re.findall(r"\d+", pair[side]) for side in "ab"]
        if pair["family"] == "paraphrase":
            assert digits[0] == digits[1] and pair["a"] != pair["b"]
        if pair["family"] == "unrelated":
            own = {probes.fill(s, pair["number_b"]) for t, by in SENTENCES.items() if t != pair["template"] for s, _ in by.values()}
            assert pair["b"] in own


@pytest.mark.parametrize("reading", probes.GAPS)
def test_a_model_that_keeps_magnitudes_has_minus_one(reading):
    found = measured([-gaps_of(pair)[reading] if pair["family"] == "number" else 0 for pair in PAIRS])
    assert found["gap"][reading] == pytest.approx({"value": -1, "low": -1, "high": -1}) and found["constant"] == 0
    assert found["triplets"]["value"] == 1 == found["languages"]["ar"]["triplets"]["value"]


def test_vectors_that_turn_with_the_logarithm_have_minus_one_and_blind_ones_have_nothing():
    texts = sorted({pair[side] for pair in PAIRS for side in "ab"})

    def turning(texts):
        angles = [np.log(float(re.search(r"\d+", text)[0])) / 5 if re.search(r"\d", text) else 0 for text in texts]
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)

    def blind(texts):
        rng = np.random.default_rng(0)
        seen = {key: rng.normal(size=8) for key in sorted({re.sub(r"\d+", "", text) for text in texts})}
        vectors = np.stack([seen[re.sub(r"\d+", "", text)] for text in texts]) + rng.normal(size=(len(texts), 8)) * 1e-8  # float noise
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    found = measured(probes._cosines(turning, texts, PAIRS))
    assert found["gap"]["log ratio"]["value"] == pytest.approx(-1) and found["gap"]["log ratio, pooled"]["value"] == pytest.approx(-1)
    found = measured(probes._cosines(blind, texts, PAIRS))
    assert all(gap == {"value": 0, "low": 0, "high": 0} for gap in found["gap"].values())
    assert found["constant"] == len(NUMBERS) * len(LANGUAGES) and found["triplets"]["value"] == 0.5
    assert found["cosine"]["number"]["value"] == 1 and found["scale"]["number"]["value"] > 1


def test_a_model_without_any_order_has_about_zero():
    found = measured(noise())
    assert all(abs(gap["value"]) < 0.1 and gap["low"] < 0 < gap["high"] for gap in found["gap"].values())
    assert found["triplets"]["value"] == pytest.approx(0.5, abs=0.05)


def test_a_constant_model_has_no_scale_and_tells_nothing_apart():
    found = measured(np.ones(len(PAIRS)))
    assert found["scale"]["number"] == {"value": None, "low": None, "high": None}
    assert all(auc["value"] == 0.5 for auc in found["auc"].values())
    json.dumps(found, allow_nan=False)


def test_correlations_equal_scipys_sentence_by_sentence():
    cosines = noise(1)
    found = measured(cosines)
    for reading in probes.GAPS:
        values = []
        for key in {(p["template"], p["language"]) for p in NUMBER}:
            rows = [i for i, p in enumerate(PAIRS) if p["family"] == "number" and (p["template"], p["language"]) == key]
            values.append(spearmanr([gaps_of(PAIRS[i])[reading] for i in rows], cosines[rows]).statistic)
        assert found["gap"][reading]["value"] == pytest.approx(np.mean(values))
    rows = [i for i, p in enumerate(PAIRS) if p["family"] == "number"]
    pooled = spearmanr([gaps_of(PAIRS[i])["log ratio"] for i in rows], cosines[rows]).statistic
    assert found["gap"]["log ratio, pooled"]["value"] == pytest.approx(pooled)


def test_triplets_equal_a_triple_loop():
    cosines = noise(2)
    place = {(p["template"], p["language"], frozenset((p["number_a"], p["number_b"]))): c for p, c in zip(PAIRS, cosines, strict=True)
             if p["family"] == "number"}  # fmt: skip
    right = []
    for template, language in {(t, lang) for t, lang, _ in place}:
        numbers = {n for t, lang, pair in place if (t, lang) == (template, language) for n in pair}
        for a, near, far in permutations(numbers, 3):
            if abs(near - a) < abs(far - a) and max(near, a) / min(near, a) < max(far, a) / min(far, a) - 1e-12:
                two = [place[template, language, frozenset((a, b))] for b in (near, far)]
                right.append(1 if two[0] > two[1] else 0.5 if two[0] == two[1] else 0)
    found = measured(cosines)["triplets"]
    assert found["n"] == len(right) and found["value"] == pytest.approx(np.mean(right))


def test_auc_is_sklearns_and_over_languages_their_mean():
    cosines = noise(3)
    found = measured(cosines)
    for family in probes.CHANGED:
        own = []
        for language in LANGUAGES:
            rows = [i for i, p in enumerate(PAIRS) if p["language"] == language and p["family"] in (family, "paraphrase")]
            own.append(roc_auc_score([PAIRS[i]["family"] == "paraphrase" for i in rows], cosines[rows]))
            assert found["languages"][language]["auc"][family]["value"] == pytest.approx(own[-1])
        assert found["auc"][family]["value"] == pytest.approx(np.mean(own))


def test_draws_equal_the_other_bootstrap_and_resampled_items():
    rng = np.random.default_rng(4)
    clusters = [f"c{i % 5}" for i in range(40)]
    values, other = rng.normal(size=(2, 40))
    draws = ClusterDraws(clusters, 80, 3)
    found = draws.interval(draws.mean(values, clusters))
    assert (found["low"], found["high"]) == pytest.approx(bootstrap_interval(values, 80, 3, clusters))
    strata = (["s"] * 20, ["s"] * 20)
    auc = draws.auc(values[:20], values[20:], (clusters[:20], clusters[20:]), strata)
    rho = draws.spearman(values, other, clusters)
    for row, counts in enumerate(draws._counts[:30]):
        repeats = np.repeat(np.arange(40), [int(counts[i % 5]) for i in range(40)])
        higher, lower = values[repeats[repeats < 20]], values[repeats[repeats >= 20]]
        labels = [1] * len(higher) + [0] * len(lower)
        assert auc[row] == pytest.approx(roc_auc_score(labels, [*higher, *lower]))
        assert rho[row] == pytest.approx(spearmanr(values[repeats], other[repeats]).statistic)
    assert np.isnan(draws.mean([1.0], ["c0"])[1:]).any() == (draws._counts[:, 0] == 0).any()


def test_all_pairs_of_the_chosen_numbers_are_compared():
    for template in NUMBERS:
        found = {(p["number_a"], p["number_b"]) for p in NUMBER if (p["template"], p["language"]) == (template, "ja")}
        numbers = sorted({n for pair in found for n in pair})
        assert len(numbers) == PARAMS.numbers and found == set(combinations(numbers, 2)) and set(numbers) <= set(NUMBERS[template])


def test_a_killed_stage_gives_the_same_files(ready, params, monkeypatch):
    other = params.model_copy(update={"probes": params.probes.model_copy(update={"bootstrap": 51, "peers": ("wordllama",)})})
    stage = ready("probes", other)
    with monkeypatch.context() as patch:
        patch.setattr(probes, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            probes.probe(stage)
    assert stage.status == "partial"
    before = (stage.path / "pairs.parquet").read_bytes()
    probes.probe(stage)
    assert stage.finished and (stage.path / "pairs.parquet").read_bytes() == before
    rows, numbers = read(stage.path / "pairs.parquet"), json.loads((stage.path / "probes.json").read_text())
    assert [{k: row[k] for k in ("a", "b", "family")} for row in rows] == [{k: p[k] for k in ("a", "b", "family")} for p in PAIRS]
    assert list(numbers["models"]) == ["random", "pretrained", "sft", "weak", "supervised", "wordllama"]
    again = probes.by_language(rows, [row["supervised"] for row in rows], stage.probes)
    assert numbers["models"]["supervised"] == again and stage.results["texts_cut"] > 0
    assert probes.probe(stage).results["pairs"] == dict(Counter(p["family"] for p in PAIRS))
