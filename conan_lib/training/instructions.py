"""Instructions as a language model reads them: plain text, or one turn of the start's own chat template."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jinja2 import TemplateError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from conan_lib.data.packing import IGNORE
from conan_lib.errors import UserError
from conan_lib.model.tokenizer import frame

NEW_TOKENS = 24
QUESTION, ANSWER = "QUESTION", "ANSWER"
Template = Literal["plain"] | None


@dataclass(frozen=True)
class Layout:
    """Token ids before a question, between it and its answer, and after the answer. Plain: <s> QUESTION ANSWER </s>, where <s> stands for
    what the tokenizer opens a text with, which may be nothing, and </s> for its end of text."""

    before: list[int]
    between: list[int]
    after: list[int]

    @property
    def size(self) -> int:
        """Tokens beside the question and its answer."""
        return len(self.before) + len(self.between)


def layout(tokenizer: PreTrainedTokenizerBase, template: Template = None) -> Layout:
    """The layout of the tokenizer's chat template, or the plain one where it has none or `template` is plain.

    Raises:
        UserError: the chat template takes no user and assistant, or changes what they say.
    """
    if template == "plain" or not tokenizer.chat_template:
        return Layout(frame(tokenizer)[0], [], [tokenizer.eos_token_id])
    try:
        chat = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
        before, rest = tokenizer.apply_chat_template(chat, tokenize=False).split(QUESTION)
        between, after = rest.split(ANSWER)
    except (TemplateError, ValueError) as error:
        raise UserError(f"sft.template: the start's chat template has no place for a record ({error}): set it to plain") from None
    pieces = before, between, after.rstrip()
    return Layout(*(tokenizer(piece, add_special_tokens=False)["input_ids"] if piece else [] for piece in pieces))


def prompt(record: dict) -> str:
    """What the model reads before it answers: the instruction, a line break, the input and a line break; no line for an empty input."""
    return "".join(f"{part}\n" for part in (record["instruction"], record["input"]) if part)


def _questions(records: Sequence[dict], tokenizer: PreTrainedTokenizerBase, form: Layout) -> list[list[int]]:
    said = [prompt(record).removesuffix("\n" if form.between else "") for record in records]  # a template ends the turn itself
    return tokenizer(said, add_special_tokens=False)["input_ids"]


def encode_records(
    records: Sequence[dict], tokenizer: PreTrainedTokenizerBase, max_length: int, template: Template = None
) -> list[dict[str, list[int]]]:
    """Records in their `layout`, labelled on the output and what ends it alone (sft_loss): input_ids and labels, lists of equal length.

    Where a record is too long, the output keeps at least half of the room and the end of the input is cut; a cut output has no end.

    Raises:
        UserError: see `layout`; or it leaves no room for a record.
    """
    if not records:
        return []
    form, items = layout(tokenizer, template), []
    answers = tokenizer([record["output"] for record in records], add_special_tokens=False)["input_ids"]
    if (room := max_length - form.size) < 2:
        raise UserError(
            f"sft.max_length: {max_length} leaves no room beside {form.size} tokens of the start's chat template: raise it, or set "
            "sft.template to plain"
        )
    for question, answer in zip(_questions(records, tokenizer, form), answers, strict=True):
        answer = [*answer, *form.after][: max(room // 2, room - len(question))]
        question = [*form.before, *question[: room - len(answer)], *form.between]
        items.append({"input_ids": question + answer, "labels": [IGNORE] * len(question) + answer})
    return items


def pad(items: Sequence[dict[str, list[int]]], padding: int) -> dict[str, torch.Tensor]:
    """Collate records, padded on the right to the longest. No attention mask is needed: a causal token never sees the padding after it."""
    length = max(len(item["input_ids"]) for item in items)
    fill = {"input_ids": padding, "labels": IGNORE}
    return {name: torch.tensor([item[name] + [value] * (length - len(item[name])) for item in items]) for name, value in fill.items()}


@torch.no_grad()
def generate(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, records: Sequence[dict], max_length: int, template: Template = None
) -> list[str]:
    """Greedy outputs for the prompts of records."""
    form, said = layout(tokenizer, template), []
    room = max_length - NEW_TOKENS - form.size
    room = room if room > 0 else max_length // 2
    model.eval()
    for question in _questions(records, tokenizer, form) if records else ():
        ids = torch.tensor([[*form.before, *question[:room], *form.between]], device=model.device)
        settings = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "pad_token_id": tokenizer.pad_token_id}
        output = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
        said.append(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True))
    return said
