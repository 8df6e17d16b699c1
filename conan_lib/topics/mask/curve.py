"""Stage `curve`: what the weak stage's model is worth along the way, and how far it has moved, at its start, its snapshots and its end."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sklearn.metrics import ndcg_score
from torch import Tensor

from conan_lib.attention import set_soft_mask
from conan_lib.data.records import read
from conan_lib.errors import UserError
from conan_lib.files import read_json, write_json
from conan_lib.model.backbone import to_sentence_transformer, with_weights
from conan_lib.params.evaluation import CurveParams
from conan_lib.stages import Stage, computes
from conan_lib.topics.mask.measure import soft_mask_shift
from conan_lib.training.snapshots import relative_distance, snapshot
from conan_lib.training.softmask_callback import SoftMaskCallback

BATCH_SIZE = 128
"""Texts that are encoded at once; changes no result."""
CAUSAL = {"alpha": 0.0, "reading": "weight", "ratio": "l/i"}


@dataclass(frozen=True)
class DevSet:
    """Q queries among N passages. `relevance` (Q, N) holds the qrels' scores."""

    name: str
    queries: list[str]
    passages: list[str]
    relevance: np.ndarray


@computes
def measure_curve(stage: Stage) -> dict:
    """Writes curve.json, a row for each point {step, share, alpha, distance, shift, cosine, saved, scheduled}, and history.json, the weak
    stage's own: the two say all that is drawn of it.

    alpha: of the schedule at that step. saved, scheduled: set -> nDCG@10, under the attention that the stage's model is saved with, and
    under the mask at alpha. distance: ||W - W_0|| / ||W_0||. shift: `soft_mask_shift` of these weights at alpha. cosine: of token states at
    alpha with those of the causal start, the mean over tokens.

    Raises:
        UserError: the weak stage trained nothing, there is no development set of these kinds, or weights are missing.
    """
    weak = stage.inputs["weak"]
    if weak.results.get("passed_through"):
        raise UserError("stage curve: stage weak had no pairs and trained nothing: give it pairs, or leave this stage out")
    section, mask = weak.weak, SoftMaskCallback(weak.weak.soft_mask, weak.weak.max_steps)
    sets = dev_sets(stage.inputs["heldout"].path / "eval" / "dev", stage.curve)
    model = SentenceTransformer(with_weights(weak.path / "model"), device=stage.device, local_files_only=True).eval()
    model.max_seq_length = section.max_length
    decoder = model.transformers_model
    decoder.set_attn_implementation("soft_mask")
    saved = CAUSAL | {"alpha": float(weak.results["saved_as"] == "bidirectional")}
    batch = _tokens(model, [text for one in sets for text in one.passages], stage.curve)
    history = read_json(weak.path / "history.json")
    moved = {row["step"]: row["distance"] for row in history if "distance" in row}
    rows, causal = [], None
    for step, weights, distance in _along(stage, model):
        decoder.load_state_dict(weights)
        scheduled = {"alpha": mask.alpha(step), "reading": section.soft_mask.reading, "ratio": section.soft_mask.ratio}
        if causal is None:
            causal = _states(model, batch, CAUSAL)
        scores = _scores(model, sets, saved)
        row = {"step": step, "share": step / section.max_steps, "alpha": scheduled["alpha"], "distance": moved.get(step, distance)}
        row["shift"] = soft_mask_shift(decoder, batch, [scheduled["alpha"]], scheduled["reading"], scheduled["ratio"])[0]
        row["cosine"] = torch.cosine_similarity(_states(model, batch, scheduled), causal, dim=-1).mean().item()
        rows.append(row | {"saved": scores, "scheduled": scores if scheduled == saved else _scores(model, sets, scheduled)})
    write_json(stage.path / "curve.json", rows)
    write_json(stage.path / "history.json", history)
    sizes = {one.name: {"queries": len(one.queries), "passages": len(one.passages)} for one in sets}
    return {"points": len(rows), "saved_as": weak.results["saved_as"], "sets": sizes, "tokens": len(causal)}


def dev_sets(folder: Path, params: CurveParams) -> list[DevSet]:
    """The retrieval sets below eval/dev, each a seeded choice of its queries and, beside their passages, of the others.

    Raises:
        UserError: there is none of `params.kinds`.
    """
    names = [entry["name"] for entry in read_json(folder / "tasks.json") if entry["type"] in params.kinds]
    if not names:
        raise UserError(f"curve.kinds: the development sets have no {' or '.join(params.kinds)}: name another kind, or hold out more")
    return [
        _dev_set(name, *(read(folder / name / f"{table}.parquet") for table in ("queries", "corpus", "qrels")), params) for name in names
    ]


def _dev_set(name: str, queries: list[dict], corpus: list[dict], qrels: list[dict], params: CurveParams) -> DevSet:
    random = np.random.default_rng(params.seed)
    queries = [queries[i] for i in sorted(random.permutation(len(queries))[: params.queries])]
    rows = {query["id"]: row for row, query in enumerate(queries)}
    relevant = [qrel for qrel in qrels if qrel["query_id"] in rows]
    needed = {qrel["corpus_id"] for qrel in relevant}
    others = [passage["id"] for passage in corpus if passage["id"] not in needed]
    needed |= {others[i] for i in random.permutation(len(others))[: max(0, params.passages - len(needed))]}
    passages = [passage for passage in corpus if passage["id"] in needed]
    columns = {passage["id"]: column for column, passage in enumerate(passages)}
    relevance = np.zeros((len(queries), len(passages)))
    for qrel in relevant:
        relevance[rows[qrel["query_id"]], columns[qrel["corpus_id"]]] = qrel["score"]
    return DevSet(name, [query["text"] for query in queries], [passage["text"] for passage in passages], relevance)


def _along(stage: Stage, model: SentenceTransformer) -> Iterator[tuple[int, dict[str, Tensor], float | None]]:
    """Step, weights of the decoder, distance from the start where no training has noted it."""
    weak, section = stage.inputs["weak"], stage.inputs["weak"].weak
    end = {name: weight.clone() for name, weight in model.transformers_model.state_dict().items()}
    untrained = to_sentence_transformer(stage.inputs["sft"].path / "model", section.pooling, section.max_length, device=stage.device)
    start = untrained.transformers_model.state_dict()
    yield 0, start, 0.0
    for step in section.snapshot_steps:
        yield step, load_file(snapshot(weak.path, step)), None
    yield section.max_steps, end, relative_distance(end, start)


def _scores(model: SentenceTransformer, sets: list[DevSet], mask: dict) -> dict[str, float]:
    """Set -> nDCG@10 under a mask, the mean over queries."""
    set_soft_mask(model, **mask)
    how = {"batch_size": BATCH_SIZE, "show_progress_bar": False}
    cosines = {one.name: model.encode_query(one.queries, **how) @ model.encode_document(one.passages, **how).T for one in sets}
    return {one.name: float(ndcg_score(one.relevance, cosines[one.name], k=10, ignore_ties=True)) for one in sets}


def _tokens(model: SentenceTransformer, passages: list[str], params: CurveParams) -> dict[str, Tensor]:
    """A seeded choice of passages as one padded batch."""
    chosen = np.random.default_rng(params.seed).permutation(len(passages))[: params.texts]
    batch = model.tokenizer(
        [passages[i] for i in chosen], padding=True, truncation=True, max_length=model.max_seq_length, return_tensors="pt"
    )
    return {name: batch[name].to(model.device) for name in ("input_ids", "attention_mask")}


@torch.inference_mode()
def _states(model: SentenceTransformer, batch: dict[str, Tensor], mask: dict) -> Tensor:
    """Last hidden states (T, D) of the batch's T tokens, padding left out."""
    set_soft_mask(model, **mask)
    return model.transformers_model(**batch, use_cache=False).last_hidden_state[batch["attention_mask"].bool()]
