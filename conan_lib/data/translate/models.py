"""Instruction models as translators: through transformers, or through vLLM where it is installed. Both greedy, with the same prompt."""

import hashlib
import re
from functools import cached_property
from pathlib import Path

from conan_lib.data.languages import english_name
from conan_lib.data.translate import Query, Translation
from conan_lib.errors import UserError
from conan_lib.params.data import TranslateParams


def pinned(model: str, revision: str) -> str:
    """The commit that a branch or tag of a model stands for now; `local` for a folder.

    Raises:
        UserError: there is no such model or revision, or the hub is out of reach.
    """
    if Path(model).is_dir():
        return "local"
    from huggingface_hub import HfApi, try_to_load_from_cache

    try:
        cached = try_to_load_from_cache(model, "config.json", revision=revision)
        if isinstance(cached, str):
            return Path(cached).parent.name  # .../snapshots/<commit>/config.json
        return HfApi().model_info(model, revision=revision, timeout=10).sha
    except Exception as error:  # no such name or model, or no network: an error of the HTTP library, which changes with the hub's client
        raise UserError(
            f"translate.model: {model} ({revision}) is no folder, not in the cache, and the hub does not give it "
            f"({type(error).__name__}): name a folder or another model, or connect"
        ) from None


THOUGHT = re.compile(r"^\s*<think>.*?</think>\s*", re.DOTALL)
"""What a model that thinks says before its answer; where it is cut off while it thinks, nothing is left to keep."""


def said(text: str, finished: bool) -> Translation:
    """What a model answered, without what it thought."""
    answer = THOUGHT.sub("", text).strip()
    return Translation("", False) if answer.startswith("<think>") else Translation(answer, finished)


class _ChatTranslator:
    """What both have in common: the prompt and the provenance.

    Args:
        params: model, revision, prompt, max_new_tokens, precision.
    """

    name = ""

    def __init__(self, params: TranslateParams):
        self.params = params

    @cached_property
    def commit(self) -> str:
        return pinned(self.params.model, self.params.revision)

    @property
    def revision(self) -> str | None:
        """What the loaders are asked for."""
        return None if self.commit == "local" else self.commit

    @property
    def provenance(self) -> dict[str, str]:
        return {
            "translator": self.name,
            "model": self.params.model,
            "revision": self.commit,
            "prompt_hash": hashlib.sha256(self.params.prompt.encode()).hexdigest()[:16],
        }

    def messages(self, query: Query, lang: str) -> list[dict[str, str]]:
        """The chat that asks for a translation: one turn of the user."""
        languages = {"source": english_name(query.lang), "target": english_name(lang)}
        return [{"role": "user", "content": self.params.prompt.format(query=query.text, **languages)}]


class TransformersTranslator(_ChatTranslator):
    """An instruction model through transformers' generate: batches of prompts of similar length, padded on the left.

    Args:
        params: see TranslateParams.
        device: auto, cpu or cuda.

    Raises:
        UserError: the model cannot be loaded, or has no chat template.
    """

    name = "transformers"

    def __init__(self, params: TranslateParams, device: str = "auto"):
        super().__init__(params)
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        if device == "cuda" and not torch.cuda.is_available():
            raise UserError("runtime.device: cuda, but torch finds no GPU: use auto or cpu")
        self.device = "cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu")
        half = params.precision == "bf16" or (params.precision == "auto" and self.device == "cuda")
        dtype = torch.bfloat16 if half else torch.float32
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(params.model, revision=self.revision, padding_side="left")
            if self.tokenizer.chat_template is None:
                raise UserError(f"translate.model: {params.model} has no chat template: name an instruction model")
            self.model = AutoModelForCausalLM.from_pretrained(params.model, revision=self.revision, dtype=dtype)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"translate.model: {params.model} cannot be loaded ({' '.join(str(error).split())[:200]})") from None
        self.model.to(self.device).eval()
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    def translate(self, queries: list[Query], lang: str) -> list[Translation]:
        prompts = [
            self.tokenizer.apply_chat_template(
                self.messages(query, lang), add_generation_prompt=True, tokenize=False, enable_thinking=self.params.thinking
            )
            for query in queries
        ]
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        found: dict[int, Translation] = {}
        for start in range(0, len(order), self.params.batch_size):
            batch = order[start : start + self.params.batch_size]
            found.update(zip(batch, self._generate([prompts[i] for i in batch]), strict=True))
        return [found[i] for i in range(len(prompts))]

    def _generate(self, prompts: list[str]) -> list[Translation]:
        import torch

        # the template wrote the special tokens already
        inputs = self.tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False).to(self.device)
        with torch.inference_mode():
            # a model brings its own sampling and a penalty on repetition: greedy means neither
            tokens = self.model.generate(
                **inputs, max_new_tokens=self.params.max_new_tokens, do_sample=False, num_beams=1, repetition_penalty=1.0,
                temperature=None, top_p=None, top_k=None, pad_token_id=self.tokenizer.pad_token_id,
            )  # fmt: skip
        written = tokens[:, inputs["input_ids"].shape[1] :]
        texts = self.tokenizer.batch_decode(written, skip_special_tokens=True)
        ends = torch.as_tensor(self.ends, device=written.device)
        return [said(text, bool(torch.isin(row, ends).any())) for text, row in zip(texts, written, strict=True)]

    @cached_property
    def ends(self) -> list[int]:
        """Token ids that end a turn."""
        ends = self.model.generation_config.eos_token_id
        ends = self.tokenizer.eos_token_id if ends is None else ends
        return [ends] if isinstance(ends, int) else list(ends or [])


class VllmTranslator(_ChatTranslator):
    """The same through vLLM, which batches a whole call by itself.

    Raises:
        UserError: vLLM is not installed, or cannot load the model.
    """

    name = "vllm"

    def __init__(self, params: TranslateParams):
        super().__init__(params)
        try:
            from vllm import LLM, SamplingParams
        except ImportError:
            raise UserError("translate.translator: package vllm is not installed: pip install vllm, or use transformers") from None
        # whether there is a GPU is vLLM's to find out: asking CUDA here would spoil the processes that it forks
        dtype = "float32" if params.precision == "fp32" else "bfloat16"
        try:
            self.model = LLM(model=params.model, revision=self.revision, tokenizer_revision=self.revision, dtype=dtype, seed=params.seed)
        except (OSError, ValueError) as error:
            raise UserError(f"translate.model: vllm cannot load {params.model} ({' '.join(str(error).split())[:200]})") from None
        self.sampling = SamplingParams(temperature=0.0, max_tokens=params.max_new_tokens)

    def translate(self, queries: list[Query], lang: str) -> list[Translation]:
        chats = [self.messages(query, lang) for query in queries]
        switches = {"enable_thinking": self.params.thinking}  # a template that has no such switch passes over it
        requests = self.model.chat(chats, self.sampling, use_tqdm=False, chat_template_kwargs=switches)
        outputs = (request.outputs[0] for request in requests)
        return [said(output.text, output.finish_reason == "stop") for output in outputs]
