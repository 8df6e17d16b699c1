"""A small grid in a project of its own, and an executor that writes scores by hand instead of training."""

import json
from pathlib import Path

import numpy as np

from conan_lib.stages import Stage
from conan_lib.table import SCORED

GRID = """
name: small
title: A small grid
tier: small
base: ../small.yaml
seeds: [0, 1]
stages: [weak, mine, supervised]
cells:
  soft: {}
  causal: {weak: {soft_mask: {attention: causal}}}
baseline: soft
metrics: [mean, crosslingual]
"""
FILE = "params/grids/small.yaml"
QUERIES = 40


def write_grid(project: Path, text: str = GRID, name: str = "small") -> Path:
    """A grid file of a project; its base is params/small.yaml."""
    path = project / "params" / "grids" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def write_scores(stage: Stage, recall: float, seed: int) -> None:
    """scores.json and items/ of four tasks: both kinds of retrieval around `recall`, clustering and STS the same for all."""
    shared, own = np.random.default_rng(0).random(QUERIES), np.random.default_rng(seed).normal(0, 0.01, QUERIES)
    values = {language: np.clip(0.5 * shared + recall + own, 0, 1) for language in ("de", "zh")}
    cross = [("crosslingual", "bible-clr", language, "recall_at_10", float(v.mean())) for language, v in values.items()]
    mean = float(np.mean(list(values.values())))
    pairs = [[a, b] for a in range(8) for b in range(a)]
    gold, noise = np.arange(len(pairs), dtype=float), np.random.default_rng(1).normal(0, 9, len(pairs))
    wiki = float(values["de"].mean())
    rows = [*cross, ("crosslingual", "bible-clr", "mean", "recall_at_10", mean), ("retrieval", "wiki", "default", "ndcg_at_10", wiki),
            ("clustering", "topics", "default", "v_measure", 0.25),
            ("sts", "lee", "default", "cosine_spearman", 0.5)]  # fmt: skip
    named = [dict(zip(("type", "task", "subset", "metric", "value"), row, strict=True)) | {"model": SCORED[stage.name]} for row in rows]
    (stage.path / "scores.json").write_text(json.dumps(named))
    items = {
        f"bible-clr/{language}-en": {"ids": list(range(QUERIES)), "clusters": [f"v{i}" for i in range(QUERIES)], "recall_at_10": v.tolist()}
        for language, v in values.items()
    }
    items["wiki/default"] = items["bible-clr/de-en"] | {"ndcg_at_10": values["de"].tolist()}
    items["topics/default"] = {"ids": list(range(QUERIES)), "clusters": None}
    items["lee/default"] = {"ids": pairs, "clusters": None, "gold": gold.tolist(), "cosine": (gold + noise).tolist()}
    for place, one in items.items():
        path = stage.path / "items" / SCORED[stage.name] / f"{place}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(one))


def commit(stage: Stage, recall: float = 0.3) -> None:
    """Finish one stage, with made-up scores or negatives where it has some."""
    with stage.work() as work:
        if stage.name in SCORED:
            write_scores(stage, recall, stage.params.weak.seed)
        if stage.name in ("weak", "curve"):
            rows = [{"step": s, "loss": 1 / s, "grad_norm": recall + stage.params.weak.seed} for s in range(1, 9)]
            (stage.path / "history.json").write_text(json.dumps(rows))
        if stage.name == "curve":
            rows = [{"step": s, "distance": s / 100, "cosine": 1 - s / 10, "saved": {"a": recall, "b": s / 10}, "scheduled": {"a": 0.5}}
                    for s in (0, 4, 8)]  # fmt: skip
            (stage.path / "curve.json").write_text(json.dumps(rows))
        if stage.name == "supervised":
            rows = [{"step": s, "mean_score": recall + s / 100, "swaps": s, "exhausted": 0.0} for s in range(1, 9)]
            (stage.path / "negatives.json").write_text(json.dumps(rows))
        work.commit({})
