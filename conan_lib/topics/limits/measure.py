"""Stage probes: what a vector keeps of a number, a unit, a negation. The paper's limits, made measurable (claim C10).

Pairs of texts in one language:

    number      the same sentence with another number; its gap is known, as a difference and as a ratio (its logarithm)
    unit        the same sentence and number, another unit
    negation    the same sentence, negated
    paraphrase  the same said in other words: how near "the same" is
    unrelated   two different sentences: how far "nothing in common" is

The last two give the cosine a scale. A template is one sentence in all languages; intervals resample templates.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations, permutations
from math import log, nan

import numpy as np
from transformers import AutoTokenizer

from conan_lib.data.records import schema, write
from conan_lib.errors import UserError
from conan_lib.evaluation.checkpoints import checkpoints
from conan_lib.evaluation.encoder import load_sentence_transformer
from conan_lib.evaluation.peers import PEER_ENCODERS
from conan_lib.evaluation.statistics import ClusterDraws, spearman
from conan_lib.files import write_json
from conan_lib.params.evaluation import ProbesParams
from conan_lib.stages import Stage, computes
from conan_lib.topics.limits.sentences import NUMBERS, SENTENCES

CHANGED = ("number", "unit", "negation")
FAMILIES = (*CHANGED, "paraphrase", "unrelated")
GAPS = {"difference": lambda a, b: abs(a - b), "log ratio": lambda a, b: abs(log(a / b))}
"""The gap between two numbers."""
BATCH = 128
"""Texts that are encoded at once; all are short."""
DECIMALS = 6
"""Cosines are rounded to so many before they are ranked: below lies float32's noise, and a constant must stay a constant."""


@computes
def probe(stage: Stage) -> dict:
    """Embed the pairs with every checkpoint and the peers; write pairs.parquet (a column of cosines for each model) and probes.json.

    Raises:
        UserError: no language of data.languages has sentences, or a peer's package is missing.
    """
    params = stage.probes
    pairs = make_pairs(stage.inputs["corpus"].data.languages, params)
    texts = sorted({pair[side] for pair in pairs for side in "ab"})
    cosines = {name: _cosines(encode, texts, pairs) for name, encode in _encoders(stage)}
    columns = schema("family language template a b", " ".join(("number_a", "number_b", *cosines)))
    rows = [pair | dict(zip(cosines, values, strict=True)) for pair, *values in zip(pairs, *cosines.values(), strict=True)]
    write(stage.path / "pairs.parquet", rows, columns)
    numbers = {name: by_language(pairs, values, params) for name, values in cosines.items()}
    counts = {family: sum(pair["family"] == family for pair in pairs) for family in FAMILIES}
    write_json(stage.path / "probes.json", {"pairs": counts, "templates": len(SENTENCES), "models": numbers})
    short = {name: {reading: gap["value"] for reading, gap in found["gap"].items()} for name, found in numbers.items()}
    languages = sorted({pair["language"] for pair in pairs})
    return {"pairs": counts, "texts": len(texts), "texts_cut": _cut(stage, texts), "languages": languages, "rank_correlation": short}


def make_pairs(languages: tuple[str, ...], params: ProbesParams) -> list[dict]:
    """All pairs in those of `languages` that have sentences. The numbers and the partners of a template are the same in each language.

    Returns:
        Rows {family, language, template, a, b, number_a, number_b}; the texts are a and b. Where there is no number it is nan; number_a is
        below number_b in the family `number`.

    Raises:
        UserError: no such language.
    """
    known = [language for language in languages if language in SENTENCES["road"]]
    if not known:
        raise UserError(f"data.languages: the probes have sentences in {', '.join(SENTENCES['road'])} only: add one of them")
    rng = np.random.default_rng(params.seed)
    # in random order: the first `controls` numbers are those of the controls
    numbers = {name: rng.permutation(range_)[: params.numbers].tolist() for name, range_ in NUMBERS.items()}
    circle = rng.permutation(list(SENTENCES)).tolist()
    return [
        {"family": family, "language": language, "template": template, "a": a, "b": b, "number_a": number_a, "number_b": number_b}
        for language in known
        for place, template in enumerate(circle)
        for family, a, b, number_a, number_b in _compare(template, circle[place + 1 :] + circle[:place], language, numbers, params.controls)
    ]


def _compare(template: str, others: list[str], language: str, numbers: dict[str, list], controls: int) -> Iterator[tuple]:
    """Family, texts and numbers of each pair of one sentence; one without a number meets its controls once."""
    first, reworded = SENTENCES[template][language]
    for a, b in combinations(sorted(numbers.get(template, ())), 2):
        yield "number", fill(first, a), fill(first, b), a, b
    for n, other in zip(numbers.get(template, [nan])[:controls], others, strict=False):
        if "[" in first:
            yield "unit" if template in numbers else "negation", fill(first, n), fill(first, n, changed=True), n, n
        yield "paraphrase", fill(first, n), fill(reworded, n), n, n
        m = numbers.get(other, [nan])[0]
        yield "unrelated", fill(first, n), fill(SENTENCES[other][language][0], m), n, m


def fill(sentence: str, number: float, changed: bool = False) -> str:
    """A template's text: the number in its slot, the first (or, `changed`, the second) of its alternatives."""
    if "[" in sentence:
        before, _, rest = sentence.partition("[")
        inside, _, after = rest.partition("]")
        sentence = before + inside.split("|")[changed] + after
    return sentence.replace("{n}", f"{number:g}")


def _encoders(stage: Stage) -> Iterator[tuple[str, Callable]]:
    """Name and function from texts to unit vectors of every checkpoint and peer; one is held at a time."""
    for name, (source, folder) in checkpoints(stage).items():
        model = load_sentence_transformer(
            stage.inputs[source].path / folder, stage.probes.max_length, stage.device, stage.params.weak.pooling
        )
        yield name, partial(model.encode, batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False)
    for name in stage.probes.peers:
        yield name, PEER_ENCODERS[name](stage.runtime.threads).vectors


def _cut(stage: Stage, texts: list[str]) -> int:
    """Texts that are longer than the encoder reads: what they differ in may be lost."""
    tokenizer = AutoTokenizer.from_pretrained(stage.inputs["supervised"].path / "model")
    return sum(len(tokens) > stage.probes.max_length for tokens in tokenizer(texts, verbose=False)["input_ids"])


def _cosines(encode: Callable, texts: list[str], pairs: list[dict]) -> list[float]:
    """Cosine of each pair; `encode` gives unit vectors of the texts."""
    vectors = np.asarray(encode(texts), dtype=np.float64)
    place = {text: row for row, text in enumerate(texts)}
    left, right = (vectors[[place[pair[side]] for pair in pairs]] for side in "ab")
    return np.round((left * right).sum(axis=1), DECIMALS).tolist()


def by_language(pairs: list[dict], cosines: list[float], params: ProbesParams) -> dict:
    """`measure` of one model over all pairs, and under "languages" of each language by itself."""
    draws = ClusterDraws(list(SENTENCES), params.bootstrap, params.seed)
    cosines, languages = np.asarray(cosines), np.array([pair["language"] for pair in pairs])
    parts = {name: np.flatnonzero(languages == name) for name in sorted(set(languages.tolist()))}
    own = {name: measure([pairs[i] for i in rows], cosines[rows], draws) for name, rows in parts.items()}
    return measure(pairs, cosines, draws) | {"languages": own}


def measure(pairs: list[dict], cosines: np.ndarray, draws: ClusterDraws) -> dict:
    """What one model's cosines tell of the changes.

    Args:
        pairs: P rows of `make_pairs`, all pairs of a sentence among them.
        cosines: shape (P,).
        draws: resamples of the templates.

    Returns:
        Each number as {value, low, high}:
        cosine[family]: the mean. scale[family]: where that lies between unrelated (0) and paraphrase (1).
        gap[reading]: Spearman's correlation of cosine and numeric gap, -1 where a larger gap always means a smaller cosine. Within each
        sentence (template and language), then the mean: sentences differ in level, which would hide an order in the pairs of all
        sentences together ("pooled"). A constant cosine has no order: 0; `constant` counts such sentences.
        triplets: share of (a, near, far), ordered alike by difference and by ratio, in which near has the higher cosine; a tie counts half.
        auc[family]: probability that a paraphrase has a higher cosine than a changed sentence of the same language; 1/2: not told apart.
    """
    family, template, language = (np.array([pair[column] for pair in pairs]) for column in ("family", "template", "language"))
    rows = {name: np.flatnonzero(family == name) for name in FAMILIES}
    cosine = {name: draws.mean(cosines[rows[name]], template[rows[name]]) for name in FAMILIES}
    same, nothing = cosine["paraphrase"], cosine["unrelated"]
    sentences = _sentences(pairs)
    owners = [name for name, _ in sentences]
    gaps, constant = {}, 0
    for reading, gap in GAPS.items():
        distance = np.array([gap(pair["number_a"], pair["number_b"]) for pair in pairs])
        found = np.array([spearman(distance[own], cosines[own]) for own in sentences.values()])
        gaps[reading], constant = draws.mean(np.nan_to_num(found), owners), int(np.isnan(found).sum())
    number = rows["number"]
    gaps["log ratio, pooled"] = np.nan_to_num(draws.spearman(distance[number], cosines[number], template[number]))
    near, far = _triplets(pairs, sentences)
    right = (cosines[near] > cosines[far]) + (cosines[near] == cosines[far]) / 2
    auc = {
        name: draws.auc(
            cosines[rows["paraphrase"]],
            cosines[rows[name]],
            (template[rows["paraphrase"]], template[rows[name]]),
            (language[rows["paraphrase"]], language[rows[name]]),
        )
        for name in CHANGED
    }
    return {
        "cosine": {name: draws.interval(value) for name, value in cosine.items()},
        "scale": {name: draws.interval(_between(cosine[name], nothing, same)) for name in CHANGED},
        "gap": {name: draws.interval(value) for name, value in gaps.items()},
        "constant": constant,
        "triplets": draws.interval(draws.mean(right, template[near])) | {"n": len(near)},
        "auc": {name: draws.interval(value) for name, value in auc.items()},
    }


def _sentences(pairs: list[dict]) -> dict[tuple[str, str], np.ndarray]:
    """(template, language) -> rows of its number pairs."""
    found: dict[tuple[str, str], list[int]] = {}
    for row, pair in enumerate(pairs):
        if pair["family"] == "number":
            found.setdefault((pair["template"], pair["language"]), []).append(row)
    return {sentence: np.array(rows) for sentence, rows in found.items()}


def _triplets(pairs: list[dict], sentences: dict) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the pairs (a, near) and (a, far) of every triplet that difference and ratio order alike."""
    near, far = [], []
    for rows in sentences.values():
        place = {frozenset((pairs[row]["number_a"], pairs[row]["number_b"])): row for row in rows}
        for a, b, c in permutations(sorted(frozenset().union(*place)), 3):
            if all(gap(a, b) < gap(a, c) for gap in GAPS.values()):
                near.append(place[frozenset((a, b))])
                far.append(place[frozenset((a, c))])
    return np.array(near), np.array(far)


def _between(value: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Place on the scale from `low` (0) to `high` (1); nan where the two are equal."""
    return np.divide(value - low, high - low, out=np.full(len(value), np.nan), where=high != low)
