"""Pins: the exported folder gives a stranger the vectors that training saw, without our code and, by its ONNX graph, without torch; the
code in its card runs as it stands; it is there whole or not at all; what a user can get wrong is one line."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from sentence_transformers import SentenceTransformer
from small_corpus import documents, finish_data, small_params

from conan_lib.attention.register import NAME, set_soft_mask
from conan_lib.errors import UserError
from conan_lib.files import write_json
from conan_lib.model.backbone import build, export, save, to_sentence_transformer
from conan_lib.model.tokenizer import train_bpe
from conan_lib.run import export as exporting
from conan_lib.run.export import export_model
from conan_lib.stages import open_stage

FOLDER = "given-away"
INPUTS = ("corpus", "sets", "heldout", "tokenizer", "pretrain", "sft", "teacher", "weak", "mine")
TEXTS = ["In the beginning", "Am Anfang", "起初", *(document["text"] for document in documents(4)), "stone"]
BLOCKER = """
import importlib, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)
sys.meta_path.insert(0, Blocker())
for name in BLOCKED:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    sys.exit(f"{name} can be imported")
"""
STOCK = """
import json
found = {"card": vectors, "card short": short}
texts = json.loads(sys.argv[1])
for side in ("left", "right"):
    model.tokenizer.padding_side = side
    padding = (model.tokenize(texts)["attention_mask"] == 0).numpy()
    assert padding[:, 0 if side == "left" else -1].any() and not padding[:, -1 if side == "left" else 0].any()
    found |= {f"{side} {size}": model.encode(texts, batch_size=size) for size in (1, 8)}
found["short"] = SentenceTransformer(sys.argv[2], truncate_dim=8).encode(texts, normalize_embeddings=True)
np.savez("stock.npz", **found)
"""
RUNTIME = """
tensors = np.load("tensors.npz")
outputs = {}
for name in {key.partition(" ")[0] for key in tensors}:
    row = {kind: tensors[f"{name} {kind}"] for kind in ("input_ids", "attention_mask")}
    outputs[name] = session.run(["sentence_embedding"], row)[0]
np.savez("runtime.npz", card=vectors, **outputs)
"""
END = "\nassert not BLOCKED & {name.partition('.')[0] for name in sys.modules}\n"


def encoder(folder: Path, seed: int = 0) -> SentenceTransformer:
    """A small random model as stage 4 leaves it in memory: through our attention, at alpha 1."""
    params = small_params(folder, backbone=BACKBONE)
    tokenizer = train_bpe([document["text"] for document in documents()], params.tokenizer)
    save(build(params.backbone, params.tokenizer.vocab_size, seed), tokenizer, folder)
    model = to_sentence_transformer(folder, "mean", max_length=32, attention=NAME, device="cpu")
    set_soft_mask(model, alpha=1.0)
    return model.eval()


BACKBONE = {"layers": 2, "hidden_size": 16, "heads": 4, "kv_heads": 2, "ffn_size": 24, "context_length": 128, "initializer_range": 0.3,
            "residual_init": "normal"}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(root, params file, our model, what was exported) of a run with a finished stage 4 and no evaluation."""
    root = tmp_path_factory.mktemp("run")
    params = small_params(root / "artefacts", backbone=BACKBONE)
    file = root / "small.yaml"
    file.write_text(yaml.safe_dump(params.model_dump(mode="json", exclude_none=True)))
    finish_data(params)
    write_json(open_stage("corpus", params).path / "sources.json", [])  # which the card lists
    ours = encoder(root / "lm")
    for name in (*INPUTS[1:], "supervised"):
        stage = open_stage(name, params)
        with stage.work() as work:
            if name == "supervised":
                export(ours, stage.path / "model")
            work.commit({})
    return SimpleNamespace(root=root, params=params, file=file, ours=ours, stage=stage, folder=export_model(file, root / FOLDER, onnx=True))


def python(run, blocked: set[str], *blocks: str, arguments: tuple[str, ...] = ()) -> None:
    """Run code in a Python of its own that sees no variable of this one and refuses some packages, beside the exported folder."""
    code = "\n".join([f"BLOCKED = {blocked!r}", BLOCKER, "import numpy as np", *blocks, END])
    subprocess.run([sys.executable, "-I", "-c", code, *arguments], check=True, cwd=run.root)


def snippets(run) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (run.folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def test_a_clean_environment_gives_the_vectors_of_training(run):
    python(run, {"conan_lib"}, snippets(run)[0], STOCK, arguments=(json.dumps(TEXTS), FOLDER))
    found = np.load(run.root / "stock.npz")
    ours = run.ours.encode(TEXTS, batch_size=1)
    for way in ("left 1", "left 8", "right 1", "right 8"):
        np.testing.assert_allclose(found[way], ours, rtol=0, atol=1e-6, err_msg=way)
    cut = ours[:, :8] / np.linalg.norm(ours[:, :8], axis=1, keepdims=True)
    np.testing.assert_allclose(found["short"], cut, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found["card"], ours[:3], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found["card short"], cut[:1], rtol=0, atol=1e-6)


def test_onnxruntime_gives_the_same_vectors_without_torch(run):
    generator, tensors = np.random.default_rng(0), {}
    for length in range(1, 65):
        for rows in (1, 3):
            mask = np.ones((rows, length), dtype=np.int64)
            mask[1:, (length + 1) // 2 :] = 0  # two shorter texts
            mask[2:, 1:] = 0
            for side, own in (("right", mask), ("left", mask[:, ::-1])):
                name = f"{rows}x{length}{side}"
                tensors[f"{name} input_ids"] = np.where(own == 1, generator.integers(3, 320, mask.shape), 0)
                tensors[f"{name} attention_mask"] = own
    np.savez(run.root / "tensors.npz", **tensors)
    python(run, {"conan_lib", "torch", "transformers", "sentence_transformers"}, snippets(run)[1], RUNTIME)
    found = np.load(run.root / "runtime.npz")
    np.testing.assert_allclose(found["card"], run.ours.encode(TEXTS[:3]), rtol=0, atol=1e-5)
    assert len(found) == 1 + 64 * 2 * 2
    for name in set(found) - {"card"}:
        row = {kind: torch.from_numpy(tensors[f"{name} {kind}"].copy()) for kind in ("input_ids", "attention_mask")}
        with torch.no_grad():
            expected = run.ours(row)["sentence_embedding"].numpy()
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-5, err_msg=name)


def test_the_folder_is_ready_for_the_hub(run):
    def read(name: str) -> dict:
        return json.loads((run.folder / name).read_text(encoding="utf-8"))

    config, settings = read("config.json"), read("config_sentence_transformers.json")
    assert config["is_causal"] is False and config["architectures"] == ["LlamaModel"]
    assert settings["similarity_fn_name"] == "cosine" and set(settings["prompts"].values()) == {""}
    assert SentenceTransformer(str(run.folder), device="cpu").max_seq_length == 32
    assert (run.folder / "model.safetensors").read_bytes() == (run.stage.path / "model" / "model.safetensors").read_bytes()
    for path in (path for path in run.folder.rglob("*") if path.suffix in (".json", ".md")):
        text = path.read_text(encoding="utf-8")
        assert str(run.root) not in text and "soft_mask" not in text and "local_files_only" not in text, path.name
    card = ModelCard.load(run.folder / "README.md")
    assert card.data.library_name == "sentence-transformers" and not card.data.eval_results
    assert "Not measured: stage evaluate" in card.text and "none was used in training" in card.text


def test_a_graph_with_other_vectors_is_refused(run, tmp_path, monkeypatch):
    export(encoder(tmp_path / "lm", seed=1), tmp_path / "other")
    graph = run.folder / "onnx" / "model.onnx"
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: SimpleNamespace(save=lambda file: shutil.copy(graph, file)))
    with pytest.raises(RuntimeError, match="onnxruntime's vectors differ from the model's by"):
        exporting.export_onnx(tmp_path / "other", tmp_path / "model.onnx")


def test_a_failure_leaves_nothing_behind(run, tmp_path, monkeypatch):
    def fail(folder: Path, file: Path) -> None:
        assert (folder / "model.safetensors").is_file() and folder.parent.parent == tmp_path
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(exporting, "export_onnx", fail)
    with pytest.raises(RuntimeError, match="disk"):
        export_model(run.file, tmp_path / "model", onnx=True)
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_is_taken_and_a_missing_one_made(run, tmp_path, conan, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    code, out, err = conan("export", run.file, "model")
    assert code == 0 and "conan-lib" not in err
    code, out, _ = conan("export", run.file, tmp_path / "other" / "model")
    assert code == 0 and re.search(r"model: 12 files, \d+\.\d MB", out)
    assert {path.name for path in (tmp_path / "model").iterdir()} == {path.name for path in (tmp_path / "other" / "model").iterdir()}
    assert not (tmp_path / "model" / "onnx").exists() and "onnx" not in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert {path.name for path in tmp_path.iterdir()} == {"model", "other"}


def test_mistakes_are_one_line_and_write_nothing(run, tmp_path, conan, monkeypatch):
    full, plain = tmp_path / "full", tmp_path / "file"
    full.mkdir()
    (full / "notes.txt").write_text("mine")
    plain.write_text("mine")
    fresh = tmp_path / "fresh.yaml"
    fresh.write_text(run.file.read_text().replace("max_length: 32", "max_length: 31"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setitem(sys.modules, "onnxscript", None)  # as if it were not installed
    before = set(tmp_path.rglob("*"))
    for arguments, words in (
        ((run.file, full), "full: exists and is not an empty folder"),
        ((run.file, "."), ".: is the working directory"),
        ((run.file, plain), "file: exists and is not an empty folder"),
        ((fresh, tmp_path / "new"), "stage supervised has not been computed yet"),
        ((run.file, tmp_path / "new", "--onnx"), "package onnxscript is not installed: pip install -e '.[onnx]' in the checkout"),
        ((tmp_path / "none.yaml", tmp_path / "new"), "none.yaml"),
    ):
        code, _, err = conan("export", *arguments)
        assert code == 2 and err.startswith("conan-lib: ") and err.count("\n") == 1 and words in err, err
    assert set(tmp_path.rglob("*")) == before


NEEDED = ("model.safetensors", "tokenizer_config.json", "config.json")


@pytest.mark.parametrize(
    ("name", "what"), [*((name, "missing") for name in NEEDED), *((name, "damaged") for name in (*NEEDED, "1_Pooling/config.json"))]
)
def test_a_damaged_model_is_not_given_away(run, tmp_path, name, what):
    file = run.stage.path / "model" / name
    whole = file.read_bytes()
    try:
        file.unlink()
        if what == "damaged":
            file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(UserError, match=f"^{file}: {what}: remove {run.stage.path} and run its stage again$"):
            export_model(run.file, tmp_path / "new")
        assert not list(tmp_path.iterdir())
    finally:
        file.write_bytes(whole)


def test_damaged_scores_are_named(run, tmp_path):
    stage = open_stage("evaluate", run.params)
    with stage.work() as work:
        (work.path / "scores.json").write_text("{")
        work.commit({})
    try:
        with pytest.raises(UserError, match=f"^{stage.path}/scores.json: damaged: remove {stage.path} and run its stage again$"):
            export_model(run.file, tmp_path / "new")
    finally:
        shutil.rmtree(stage.path)


def test_a_model_folder_that_was_emptied_is_one_line(run, tmp_path):
    model = run.stage.path / "model"
    model.rename(tmp_path / "aside")
    try:
        with pytest.raises(UserError, match="no model here"):
            export_model(run.file, tmp_path / "new")
    finally:
        (tmp_path / "aside").rename(model)
