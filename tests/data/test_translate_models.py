"""Pins: a batch of prompts padded on the left gives what greedy decoding gives one prompt at a time, whatever sampling the model's own
configuration asks for; a translation that did not come to its end says so; vLLM gets the same prompts and settings; what is not installed,
not a chat model or out of reach is one line."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from small_chat import chat_model
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from conan_lib.data.translate import Query, Translation
from conan_lib.data.translate.models import TransformersTranslator, VllmTranslator, pinned, said
from conan_lib.errors import UserError
from conan_lib.params.data import TranslateParams

TEXTS = ("how tall is the tower", "who", "what is the capital of the country that lies north of the river and south of the mountains")
QUERIES = [Query(f"q{i}", text, "a passage", "p", "en", "en") for i, text in enumerate(TEXTS)]
NEW = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return chat_model(tmp_path_factory.mktemp("chat"))


def params(folder: str, **over) -> TranslateParams:
    return TranslateParams(**{"model": folder, "max_new_tokens": NEW, "batch_size": 2, **over})


def greedy(folder: str, query: Query, lang: str, ends: set[int]) -> tuple[list[int], str]:
    """The oracle: one prompt without padding, the most probable token each time."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    content = params(folder).prompt.format(source="English", target={"de": "German", "ja": "Japanese"}[lang], query=query.text)
    ids = tokenizer.encode(f"<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n", add_special_tokens=False)
    written = []
    for _ in range(NEW):
        with torch.inference_mode():
            written.append(int(model(torch.tensor([ids + written])).logits[0, -1].argmax()))
        if written[-1] in ends:
            break
    return written, tokenizer.decode(written, skip_special_tokens=True).strip()


@pytest.mark.parametrize("lang", ["de", "ja"])
def test_a_batch_equals_greedy_decoding_one_by_one(folder, lang):
    expected = [Translation(greedy(folder, query, lang, set())[1], False) for query in QUERIES]
    translator = TransformersTranslator(params(folder), "cpu")
    assert translator.translate(QUERIES, lang) == expected
    assert translator.translate(QUERIES[::-1], lang) == expected[::-1]
    assert len({text for text, _ in expected}) > 1, "the model does not read its prompt, so this test would see nothing"


def test_the_end_of_a_turn_is_seen_and_cut_off(folder, tmp_path):
    """The third token that the model writes for the first query is made the one that ends its turns."""
    written, _ = greedy(folder, QUERIES[0], "de", set())
    end = written[2]
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.generation_config = GenerationConfig(eos_token_id=[end, 1])
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    found = TransformersTranslator(params(str(tmp_path)), "cpu").translate(QUERIES, "de")
    for query, (text, finished) in zip(QUERIES, found, strict=True):
        tokens, whole = greedy(str(tmp_path), query, "de", {end, 1})
        assert (text, finished) == (whole, tokens[-1] in {end, 1})
    assert found[0].finished


def test_provenance_names_model_revision_and_prompt(folder):
    found = TransformersTranslator(params(folder), "cpu").provenance
    assert found | {"prompt_hash": ""} == {"translator": "transformers", "model": folder, "revision": "local", "prompt_hash": ""}
    other = TransformersTranslator(params(folder, prompt="{target}: {query}"), "cpu").provenance
    assert other["prompt_hash"] != found["prompt_hash"]


def test_arithmetic_follows_the_device(folder):
    assert TransformersTranslator(params(folder), "cpu").model.dtype == torch.float32
    assert TransformersTranslator(params(folder, precision="bf16"), "cpu").model.dtype == torch.bfloat16


def test_a_missing_gpu_is_one_line(folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"runtime.device: cuda, but torch finds no GPU"):
        TransformersTranslator(params(folder), "cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpu_runs_in_bf16(folder):
    translator = TransformersTranslator(params(folder))
    assert translator.model.dtype == torch.bfloat16 and len(translator.translate(QUERIES, "de")) == len(QUERIES)


def test_a_model_without_a_chat_template_is_one_line(tmp_path):
    with pytest.raises(UserError, match="has no chat template: name an instruction model"):
        TransformersTranslator(params(chat_model(tmp_path, template=None)), "cpu")


def test_a_folder_without_a_model_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"translate\.model: .* cannot be loaded") as error:
        TransformersTranslator(params(str(tmp_path)), "cpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("offline", [True, False])
@pytest.mark.parametrize("name", ["nobody/nothing", "./my-model", "a b"])
def test_a_model_that_cannot_be_had_is_one_line(monkeypatch, name, offline):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"\(main\) is no folder, not in the cache, and the hub does not give it") as error:
        TransformersTranslator(params(name), "cpu")
    assert "\n" not in str(error.value) and name in str(error.value)


def test_a_cached_model_is_pinned_to_its_commit(tmp_path, monkeypatch):
    """The cache's own layout: refs/main names the commit, snapshots/<commit>/ holds the files."""
    repository = tmp_path / "models--some--chat"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c0ffee")
    (repository / "snapshots" / "c0ffee").mkdir(parents=True)
    (repository / "snapshots" / "c0ffee" / "config.json").write_text("{}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert pinned("some/chat", "main") == "c0ffee" and pinned(str(tmp_path), "main") == "local"


class FakeLLM:
    """vllm.LLM as far as it is used: model by name or position, all else by keyword; `chat` is the published signature."""

    def __init__(self, model, *, tokenizer=None, dtype="auto", revision=None, tokenizer_revision=None, seed=0):
        self.given = {"model": model, "dtype": dtype, "revision": revision, "tokenizer_revision": tokenizer_revision, "seed": seed}

    def chat(self, messages, sampling_params=None, use_tqdm=True, chat_template_kwargs=None):
        assert all(isinstance(chat, list) for chat in messages) and not use_tqdm and chat_template_kwargs == {"enable_thinking": False}
        self.sampling = sampling_params
        return [self.answer(chat[-1]["content"]) for chat in messages]

    @staticmethod
    def answer(content: str) -> SimpleNamespace:
        reason = "length" if "capital" in content else "stop"
        return SimpleNamespace(prompt=content, outputs=[SimpleNamespace(index=0, text=f" {content[-3:]}\n", finish_reason=reason)])


class FakeSamplingParams:
    def __init__(self, n=1, temperature=1.0, top_p=1.0, top_k=0, seed=None, stop=None, max_tokens=16, skip_special_tokens=True):
        self.n, self.temperature, self.max_tokens = n, temperature, max_tokens


@pytest.fixture
def vllm(monkeypatch):
    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = FakeLLM, FakeSamplingParams
    monkeypatch.setitem(sys.modules, "vllm", module)


def test_vllm_gets_the_prompts_and_greedy_settings(vllm, folder):
    translator = VllmTranslator(params(folder))
    assert translator.translate(QUERIES, "de") == [Translation("wer"), Translation("who"), Translation("ins", False)]
    assert (translator.model.sampling.temperature, translator.model.sampling.max_tokens, translator.model.sampling.n) == (0.0, NEW, 1)
    assert translator.model.given == {"model": folder, "dtype": "bfloat16", "revision": None, "tokenizer_revision": None, "seed": 0}
    assert translator.messages(QUERIES[0], "de") == TransformersTranslator(params(folder), "cpu").messages(QUERIES[0], "de")
    assert translator.provenance == TransformersTranslator(params(folder), "cpu").provenance | {"translator": "vllm"}


def test_without_vllm_one_line_names_the_mend(monkeypatch, folder):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match="package vllm is not installed: pip install vllm, or use transformers"):
        VllmTranslator(params(folder))


THINKS = (
    "{% for m in messages %}{{ m.content }}{% endfor %}{% if enable_thinking is defined and enable_thinking is false %}"
    "<think></think>{% endif %}"
)


@pytest.mark.parametrize("thinking", [False, True])
def test_a_model_that_can_think_is_told_whether_it_may(tmp_path, thinking):
    folder = chat_model(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = THINKS
    tokenizer.save_pretrained(folder)
    translator, seen = TransformersTranslator(params(folder, thinking=thinking), "cpu"), []
    translator._generate = lambda prompts: [seen.extend(prompts), *[Translation("x")] * len(prompts)][1:]
    translator.translate(QUERIES, "de")
    assert all(prompt.endswith("<think></think>") != thinking for prompt in seen) and len(seen) == len(QUERIES)


def test_what_a_model_thought_is_not_kept():
    assert said("<think>\nGerman: hoch.\n</think>\n\nwie hoch", True) == Translation("wie hoch", True)
    assert said("<think>\n\n</think>\n\nwie hoch", False) == Translation("wie hoch", False)
    assert said("<think>\nOkay, the user wants", False) == Translation("", False), "cut off while it thinks"
    assert said(" wie hoch ", True) == Translation("wie hoch", True)
