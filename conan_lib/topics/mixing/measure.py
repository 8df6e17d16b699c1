"""Stage mix: how well languages share one space, trained with and without CLR: UMAP, and the numbers of the pictures.

Every number is measured on the vectors themselves, never on the UMAP plane. Rows that are translations of each other form a group.
Intervals: where each text or pair has a value of its own (R@1, alignment) groups are resampled; where a value belongs to texts together
(neighbours, all pairs, centroids) groups are left out one after the other.
"""

import warnings
from collections import Counter
from itertools import combinations, permutations

import numpy as np
import pyarrow as pa
from scipy.stats import hypergeom

from conan_lib.data.records import write_table
from conan_lib.errors import UserError
from conan_lib.evaluation.encoder import load_sentence_transformer
from conan_lib.evaluation.statistics import bootstrap_interval, jackknife_interval, paired_difference
from conan_lib.files import write_json
from conan_lib.params.evaluation import MixingParams
from conan_lib.stages import Stage, computes
from conan_lib.topics.mixing.texts import Sample, mixing_texts

MODELS = {"with CLR": "supervised", "without CLR": "supervised_no_clr"}
PAIRED = ("purity", "entropy", "mean_r1")
"""Numbers by which the two models are compared, in pairs."""


@computes
def mix(stage: Stage) -> dict:
    """Embed the same texts with both models; write points.parquet (UMAP coordinates) and mixing.json (the numbers with their intervals).

    Raises:
        UserError: there are too few texts, or the archive that mixing.texts asks for is missing.
    """
    params = stage.mixing
    sample = mixing_texts(params, stage.inputs["heldout"].path)
    numbers, parts, points = {}, {}, []
    for name, source in MODELS.items():
        model = load_sentence_transformer(stage.inputs[source].path / "model", params.max_length, stage.device)
        vectors = model.encode(sample.texts, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False).astype(np.float64)
        numbers[name], parts[name] = measure(vectors, sample, params)
        points.append(_points(name, sample, project(vectors, params)))
    write_table(stage.path / "points.parquet", pa.concat_tables(points))
    differences = compare(numbers, parts, params, sample.groups)
    write_json(stage.path / "mixing.json", {"texts": sample.source, **numbers, "with CLR - without CLR": differences})
    short = {name: {metric: value["value"] for metric, value in n.items() if metric != "r1_matrix"} for name, n in numbers.items()}
    return {"texts": sample.source, "n": len(sample.texts), "languages": sample.languages, **short, "differences": differences}


def compare(numbers: dict, parts: dict, params: MixingParams, groups: list[str]) -> dict[str, dict[str, float]]:
    """{metric: {difference, low, high, ...}} of PAIRED, the first of MODELS minus the second; arguments as `measure` gave them."""
    one, other = MODELS
    found = {"mean_r1": paired_difference(parts[other]["mean_r1"], parts[one]["mean_r1"], params.bootstrap, params.seed, groups)}
    for metric in ("purity", "entropy"):
        difference = numbers[one][metric]["value"] - numbers[other][metric]["value"]
        low, high = jackknife_interval(difference, parts[one][metric] - parts[other][metric])
        found[metric] = {"difference": difference, "low": low, "high": high}
    return {metric: found[metric] for metric in PAIRED}


def measure(vectors: np.ndarray, sample: Sample, params: MixingParams) -> tuple[dict, dict[str, np.ndarray]]:
    """All numbers of one model.

    Args:
        vectors: unit vectors, shape (N, D); whatever numpy reads as such.
        sample: language and group of each; every group has one text in every language.

    Returns:
        {metric: {value, low, high, ...}}, and what pairs two models: mean_r1 of each text, shape (N,); purity and entropy without each of
        the groups, shape (G,).

    Raises:
        UserError: vectors of another form, or a sample that is not whole.
    """
    vectors = _unit_vectors(vectors, len(sample.langs))
    _check_whole(sample)
    languages, groups = np.asarray(sample.langs), np.asarray(sample.groups)
    hits = translation_hits(vectors, languages, groups)
    k, largest = params.neighbours, int(np.unique(groups, return_counts=True)[1].max())
    near = nearest(vectors, k + largest)  # enough that k are left, whichever group is left out
    parts = {"mean_r1": _mean_hits(hits, languages), **_neighbours(near, languages, groups, k)}

    def resampled(values, clusters) -> dict:
        low, high = bootstrap_interval(values, params.bootstrap, params.seed, clusters)
        return {"value": float(np.mean(values)), "low": low, "high": high}

    near = near[:, :k]
    numbers: dict = {
        "purity": _left_out(language_purity(near, languages).mean(), parts["purity"]) | {"chance": chance_purity(languages)},
        "entropy": _left_out(language_entropy(near, languages).mean(), parts["entropy"]) | {"chance": chance_entropy(languages, k)},
        "mean_r1": resampled(parts["mean_r1"], groups) | {"chance": 1 / len(np.unique(groups))},
        "r1_matrix": {a: {b: float(np.mean(hits[a, b])) for b in sample.languages if b != a} for a in sample.languages},
        "alignment": resampled(*translation_distances(vectors, groups)),
        "uniformity": _left_out(*uniformity(vectors, groups)),
        "centroid_distance": _centroids(vectors, languages, groups),
    }
    return numbers, parts


def _unit_vectors(vectors, count: int) -> np.ndarray:
    """The vectors as an array (count, D), known to be finite and of unit length."""
    try:
        vectors = np.asarray(vectors)
    except (TypeError, ValueError, RuntimeError):  # rows of unequal length; a torch tensor on a GPU, with a gradient, or in bf16
        raise UserError("mixing: vectors are no numpy array: for a torch tensor give vectors.detach().float().cpu().numpy()") from None
    if vectors.dtype.kind != "f" or vectors.ndim != 2 or len(vectors) != count:
        raise UserError(f"mixing: vectors must be ({count}, D) floats, a row for each text, not {vectors.dtype} of shape {vectors.shape}")
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    if not np.isfinite(lengths).all():
        raise UserError(f"mixing: vector {int(np.argmin(np.isfinite(lengths)))} is not finite: look at its text and the model")
    if (off := np.abs(lengths - 1) > 1e-3).any():
        worst = int(off.argmax())
        raise UserError(f"mixing: vector {worst} has length {lengths[worst]:.4g}, not 1: encode with normalize_embeddings=True")
    return vectors


def _check_whole(sample: Sample) -> None:
    """UserError unless every group has exactly one text in every language, and there are two of both at least."""
    if len(sample.groups) != len(sample.langs):
        raise UserError(f"mixing: the sample has {len(sample.groups)} groups and {len(sample.langs)} langs: give one of both for each text")
    texts, languages, groups = Counter(zip(sample.groups, sample.langs, strict=True)), sample.languages, set(sample.groups)
    if len(languages) < 2 or len(groups) < 2:
        raise UserError(f"mixing: {len(groups)} groups in {len(languages)} languages: give at least two of both")
    (group, language), most = texts.most_common(1)[0]
    if most > 1:
        raise UserError(f"mixing: group {group} has {most} texts in {language}: give one text in each language")
    if len(texts) < len(languages) * len(groups):
        group, language = next((group, language) for group in sample.groups for language in languages if (group, language) not in texts)
        raise UserError(f"mixing: group {group} has no text in {language}: leave the group out")


def _left_out(value: float, without: np.ndarray) -> dict[str, float]:
    low, high = jackknife_interval(value, without)
    return {"value": float(value), "low": low, "high": high}


def _neighbours(near: np.ndarray, languages: np.ndarray, groups: np.ndarray, k: int) -> dict[str, np.ndarray]:
    """Purity and entropy without each of the groups, shape (G,): its texts are neither asked nor neighbours; `near` as of `nearest`."""
    found: dict[str, list[float]] = {"purity": [], "entropy": []}
    for name in np.unique(groups):
        rows = np.flatnonzero(groups != name)
        first = np.argsort(groups[near[rows]] == name, axis=1, kind="stable")[:, : min(k, len(rows) - 1)]  # those that stay, nearest first
        left = np.take_along_axis(near[rows], first, axis=1)
        found["purity"].append(language_purity(left, languages, rows).mean())
        found["entropy"].append(language_entropy(left, languages).mean())
    return {metric: np.array(values) for metric, values in found.items()}


def nearest(vectors: np.ndarray, k: int) -> np.ndarray:
    """Rows of the k nearest neighbours by cosine, the nearest first, the text itself excluded. (N, D) -> (N, min(k, N - 1))."""
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    k = min(k, len(vectors) - 1)
    near = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    return np.take_along_axis(near, np.argsort(-np.take_along_axis(scores, near, axis=1), axis=1, kind="stable"), axis=1)


def language_purity(near: np.ndarray, languages: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Share of a text's neighbours in its own language: 1 where languages are apart, chance_purity where they are mixed.

    `near` has a row for each text, or for each of `rows`."""
    return (languages[near] == languages[rows, None]).mean(axis=1)


def chance_purity(languages: np.ndarray) -> float:
    """Expected purity of neighbours drawn at random."""
    _, counts = np.unique(languages, return_counts=True)
    return float((counts * (counts - 1)).sum() / (len(languages) * (len(languages) - 1)))


def language_entropy(near: np.ndarray, languages: np.ndarray) -> np.ndarray:
    """Entropy of the languages among a text's neighbours over its largest possible value, log min(k, languages), shape (N,).

    0 where all neighbours are of one language, 1 where they are evenly spread."""
    names, codes = np.unique(languages, return_inverse=True)
    counts = np.stack([(codes[near] == code).sum(axis=1) for code in range(len(names))], axis=1)
    shares = counts / counts.sum(axis=1, keepdims=True)
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=1)
    return entropy / np.log(max(2, min(near.shape[1], len(names))))


def chance_entropy(languages: np.ndarray, k: int) -> float:
    """Expected entropy of k neighbours drawn at random: below 1, since a few draws are never evenly spread."""
    _, counts = np.unique(languages, return_counts=True)
    others, k = len(languages) - 1, min(k, len(languages) - 1)
    drawn = np.arange(1, k + 1)
    terms = -drawn / k * np.log(drawn / k)

    def expected(count: int) -> float:
        return float(hypergeom.pmf(drawn, others, count, k) @ terms)

    totals = [sum(map(expected, counts - (np.arange(len(counts)) == own))) for own in range(len(counts))]  # a text is not its own neighbour
    return float(counts @ totals / counts.sum() / np.log(max(2, min(k, len(counts)))))


def translation_hits(vectors: np.ndarray, languages: np.ndarray, groups: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
    """R@1 between each ordered pair of languages: is the nearest text of language b a translation? (a, b) -> shape (texts of a,)."""
    rows = {language: np.flatnonzero(languages == language) for language in np.unique(languages)}
    return {(a, b): groups[rows[b]][(vectors[rows[a]] @ vectors[rows[b]].T).argmax(axis=1)] == groups[rows[a]]
            for a, b in permutations(rows, 2)}  # fmt: skip


def translation_distances(vectors: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Alignment (Wang and Isola 2020): squared distance of each pair of translations, and the pair's group. Smaller is better aligned."""
    distances, owners = [], []
    for group in np.unique(groups):
        members = vectors[groups == group]
        for a, b in combinations(range(len(members)), 2):
            distances.append(float(((members[a] - members[b]) ** 2).sum()))
            owners.append(group)
    return np.array(distances), np.array(owners)


def uniformity(vectors: np.ndarray, groups: np.ndarray) -> tuple[float, np.ndarray]:
    """Uniformity (Wang and Isola 2020), log of the mean of exp(-2 |x - y|^2) over all pairs of texts, and the same without each of the
    groups, shape (G,). Smaller is more evenly spread."""
    potentials = np.exp(-2 * np.clip(2 - 2 * vectors @ vectors.T, 0, None))
    np.fill_diagonal(potentials, 0)
    _, group, size = np.unique(groups, return_inverse=True, return_counts=True)
    own = np.equal.outer(np.arange(len(size)), group).astype(float)  # (G, N)
    of_group, inside = own @ potentials.sum(axis=1), np.einsum("gn,gn->g", own @ potentials, own)
    total, left = potentials.sum(), len(vectors) - size
    without = np.log((total - 2 * of_group + inside) / (left * (left - 1)))
    return float(np.log(total / (len(vectors) * (len(vectors) - 1)))), without


def project(vectors: np.ndarray, params: MixingParams) -> np.ndarray:
    """UMAP, (N, D) -> (N, 2); seeded, so one process alone."""
    from umap import UMAP

    k = min(params.umap_neighbours, len(vectors) - 1)
    reducer = UMAP(n_neighbors=k, min_dist=params.umap_min_dist, metric="cosine", random_state=params.seed, n_jobs=1,
                   precomputed_knn=_umap_neighbours(vectors, k))  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "precomputed_knn", UserWarning)  # no search index: points could not be added later
        return reducer.fit_transform(vectors)


def _umap_neighbours(vectors: np.ndarray, k: int) -> tuple:
    """The neighbours and distances that UMAP itself finds among few texts, by a search that it compiles anew in every process, six seconds
    long; among many its search is approximate and stays its own."""
    from sklearn.metrics import pairwise_distances
    from umap.distances import cosine

    if len(vectors) >= 4096:
        return None, None, None
    distances = pairwise_distances(vectors.astype(np.float32), metric=cosine)
    near = distances.argsort(axis=1, kind="stable")[:, :k]
    return near.astype(np.int32), np.take_along_axis(distances, near, axis=1)


def _mean_hits(hits: dict, languages: np.ndarray) -> np.ndarray:
    """R@1 of each text over all target languages, shape (N,)."""
    means = np.empty(len(languages))
    for language in np.unique(languages):
        means[languages == language] = np.mean([found for (a, _), found in hits.items() if a == language], axis=0)
    return means


def _centroids(vectors: np.ndarray, languages: np.ndarray, groups: np.ndarray) -> dict:
    """Mean Euclidean distance between the languages' centroids, and each pair's.

    Noise in two centroids drives them apart, so the plain mean is too large: the jackknife takes its bias off the value."""
    names, order = np.unique(languages).tolist(), np.unique(groups)
    cube = np.stack([np.stack([vectors[(languages == name) & (groups == group)][0] for group in order]) for name in names])  # (lang, G, D)
    pairs = list(combinations(range(len(names)), 2))

    def distances(centroids: np.ndarray) -> np.ndarray:
        return np.array([np.linalg.norm(centroids[a] - centroids[b]) for a, b in pairs])

    count, found = len(order), distances(cube.mean(axis=1))
    without = np.array([distances((cube.sum(axis=1) - cube[:, g]) / (count - 1)).mean() for g in range(count)])
    value = count * found.mean() - (count - 1) * without.mean()
    matrix = {f"{names[a]}-{names[b]}": float(distance) for (a, b), distance in zip(pairs, found, strict=True)}
    return _left_out(value, without) | {"pairs": matrix}


def _points(name: str, sample: Sample, plane: np.ndarray) -> pa.Table:
    columns = {"model": [name] * len(sample.texts), "text": sample.texts, "lang": sample.langs, "group": sample.groups}
    return pa.table({**columns, "x": plane[:, 0].astype(np.float64), "y": plane[:, 1].astype(np.float64)})
