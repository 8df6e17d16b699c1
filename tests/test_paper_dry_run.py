"""params/paper.yaml with shrunken sizes over local shards of every task: two processes with FSDP2 train all four stages, are killed on the
way, go on from their shares, and leave a model that plain sentence-transformers loads."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from sentence_transformers import SentenceTransformer
from small_own_sets import own_sets
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from conan_lib.params import load_params
from conan_lib.stages import compute, open_stage
from conan_lib.training.recorder import last_checkpoint
from tests.training.launched import DIED, launch

ROOT = Path(__file__).parents[1]
EACH = {"max_length": 32, "batch_size": 8, "max_steps": 4}
SHRUNKEN = {
    "tier": "paper-dry",
    "tokenizer": {"vocab_size": 320, "sample_texts": 200},
    "backbone": {"layers": 1, "hidden_size": 32, "heads": 4, "kv_heads": 1, "ffn_size": 48, "context_length": 64},
    "pretrain": {**EACH, "validation_blocks": 1},
    "sft": EACH,
    "teacher": {"multilingual": "none", "english": "none"},
    "weak": EACH,
    "mine": {"candidates": 9, "max_corpus": 200},
    "supervised": {
        "max_length": 32, "max_steps": 6, "matryoshka_dims": [8, 16, 32],
        "task_batch_size": {"retrieval": 4, "clr": 4, "sts": 8, "classification": 4, "clustering": 4},
    },
    "tasks": {"suite": "embedded", "max_length": 32},
    "mkqa": {"source": "embedded"},
    "efficiency": {"dims": [8, 32]},
    "mixing": {"max_length": 32},
    "probes": {"max_length": 32},
}  # fmt: skip


def in_shards(row: dict, parquet: bool) -> dict:
    """The set of a row as a folder of three shards, of parquet or of JSON lines."""
    file = Path(row["from"])
    if file.suffix != ".jsonl":
        return row
    records, folder = [json.loads(line) for line in file.read_text().splitlines()], file.with_suffix("")
    folder.mkdir()
    for number in range(3):
        if parquet:
            pq.write_table(pa.Table.from_pylist(records[number::3]), folder / f"{number}.parquet")
        else:
            (folder / f"{number}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records[number::3]))
    return row | {"from": str(folder)}


@pytest.mark.slow
def test_the_papers_run_in_two_processes_killed_and_resumed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    sets = [in_shards(row, bool(number % 2)) for number, row in enumerate(own_sets(tmp_path))]
    labels = next(row for row in sets if row["task"] == "classification")
    sets.append(labels | {"task": "clustering", "name": "clusters"})
    data = {"languages": ["en", "de"], "heldout_share": 0.1, "max_documents": 200, "sets": sets}
    runtime = {"device": "cpu", "threads": 1, "save_steps": 2, "artefacts": "artefacts"}
    tree = {"base": str(ROOT / "params" / "paper.yaml"), **SHRUNKEN, "data": data, "runtime": runtime}
    (tmp_path / "dry.yaml").write_text(yaml.safe_dump(tree))
    params = load_params("dry.yaml")
    assert params.pretrain.gradient_checkpointing and params.pretrain.fused_loss and params.weak.precision == "bf16"
    for name in ("corpus", "sets", "tokenizer", "teacher"):
        compute(open_stage(name, params))

    with pytest.raises(ChildFailedError, match=DIED):
        launch("dry.yaml", "fsdp", "pretrain", "3")
    pretrain = open_stage("pretrain", params)
    assert pretrain.status == "partial"
    assert (last_checkpoint(pretrain.path / "checkpoints") / "pytorch_model_fsdp_0").is_dir()
    launch("dry.yaml", "fsdp", "pretrain,sft,weak,mine,supervised")

    history = json.loads((pretrain.path / "history.json").read_text())
    assert [row["step"] for row in history] == [1, 2, 3, 4] and np.isfinite([row["loss"] for row in history]).all()
    supervised = open_stage("supervised", params)
    assert set(supervised.results["rows"]) == set(params.supervised.mix)
    vectors = SentenceTransformer(str(supervised.path / "model"), device="cpu").encode(["the red house", "das rote Haus"])
    assert vectors.shape == (2, 32) and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
