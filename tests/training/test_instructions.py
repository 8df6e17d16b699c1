"""The loss of a record covers its output alone, in plain lines or in the turns of a start's chat template as transformers renders it; a
record that is too long loses the end of its input, never a turn's frame."""

import pytest
import torch
from small_corpus import documents, sft_records

from conan_lib.data.packing import IGNORE
from conan_lib.errors import UserError
from conan_lib.model.backbone import build
from conan_lib.model.tokenizer import train_bpe
from conan_lib.params.model import BackboneParams, TokenizerParams
from conan_lib.training.instructions import encode_records, generate, layout, pad, prompt

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
RECORD = {"instruction": "Say it.", "input": "stone", "output": "old bridge"}


@pytest.fixture
def tokenizer():
    return train_bpe([document["text"] for document in documents()], TokenizerParams(vocab_size=320))


@pytest.fixture
def chatting(tokenizer):
    """The same with a chat template, as a start brings one."""
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template, tokenizer.split_special_tokens = CHATML, False
    return tokenizer


@pytest.mark.equation("sft_loss")
def test_labels_cover_the_output_alone(tokenizer):
    (item,) = encode_records([RECORD], tokenizer, 64)
    split = item["labels"].count(IGNORE)
    assert item["labels"][split:] == item["input_ids"][split:]
    assert tokenizer.decode(item["input_ids"][:split]) == "<s>Say it.\nstone\n"
    assert tokenizer.decode(item["input_ids"][split:]) == "old bridge</s>"
    assert prompt({"instruction": "Say it.", "input": ""}) == "Say it.\n"


@pytest.mark.parametrize("sizes", [(200, 3), (3, 200), (200, 200), (3, 3)])
def test_long_records_keep_the_instruction_and_half_the_room_for_the_output(tokenizer, sizes):
    record = {"instruction": "Say.", "input": "x" * sizes[0], "output": "y" * sizes[1]}
    (item,) = encode_records([record], tokenizer, 32)
    labelled = [token for token in item["labels"] if token != IGNORE]
    assert len(item["input_ids"]) == len(item["labels"]) <= 32
    assert item["input_ids"][0] == 1 and item["labels"][0] == IGNORE
    whole = len(tokenizer.encode(record["output"], add_special_tokens=False)) + 1
    assert len(labelled) >= min(whole, 15)
    assert (labelled[-1] == 2) == (len(labelled) == whole)


def test_a_start_with_a_chat_template_is_spoken_to_in_its_turns(chatting):
    user, assistant = {"role": "user", "content": "Say it.\nstone"}, {"role": "assistant", "content": "old bridge"}
    (item,) = encode_records([RECORD], chatting, 64)
    split = item["labels"].count(IGNORE)
    assert chatting.decode(item["input_ids"][:split]) == chatting.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
    assert chatting.decode(item["input_ids"]) == chatting.apply_chat_template([user, assistant], tokenize=False).rstrip()
    assert item["labels"][split:] == item["input_ids"][split:] and item["labels"][-1] == chatting.convert_tokens_to_ids("<|im_end|>")
    (plain,) = encode_records([RECORD], chatting, 64, "plain")
    assert chatting.decode(plain["input_ids"]) == "<s>Say it.\nstone\nold bridge</s>"


def test_a_long_record_keeps_its_turns_and_a_model_answers_in_them(chatting):
    long = RECORD | {"input": "x" * 99}
    (item,) = encode_records([long], chatting, 48)
    form = layout(chatting)
    split = item["labels"].count(IGNORE)
    assert len(item["input_ids"]) == 48 and item["input_ids"][split - len(form.between) : split] == form.between
    model = build(BackboneParams(layers=1, hidden_size=16, heads=4, kv_heads=2, ffn_size=24, context_length=128), len(chatting), 0)
    seen, forward = [], model.forward
    model.forward = lambda input_ids, **inputs: (seen.append(input_ids[0].tolist()), forward(input_ids=input_ids, **inputs))[1]
    assert len(generate(model, chatting, [long], 64)) == 1
    assert seen[0][-len(form.between) :] == form.between and len(seen[0]) == 40


def test_a_length_that_the_template_fills_is_one_line(chatting):
    size = layout(chatting).size
    assert len(encode_records([RECORD], chatting, size + 2)[0]["input_ids"]) == size + 2
    with pytest.raises(UserError, match=rf"sft\.max_length: {size + 1} leaves no room beside {size} tokens .*sft\.template to plain"):
        encode_records([RECORD], chatting, size + 1)


@pytest.mark.parametrize("template", ["{{ messages[0]['role'] }}", "{{ raise_exception('no user') }}"])
def test_a_template_that_takes_no_record_is_one_line(chatting, template):
    chatting.chat_template = template
    with pytest.raises(UserError, match=r"sft\.template: the start's chat template has no place for a record .*: set it to plain"):
        encode_records([RECORD], chatting, 64)


def test_padding_moves_no_loss(tokenizer):
    model = build(BackboneParams(layers=1, hidden_size=16, heads=4, kv_heads=2, ffn_size=24, context_length=64), 320, 0).double()
    items = encode_records(sft_records(2), tokenizer, 48)
    counts = [sum(label != IGNORE for label in item["labels"]) for item in items]
    alone = sum(model(**pad([item], 0)).loss * count for item, count in zip(items, counts, strict=True)) / sum(counts)
    torch.testing.assert_close(model(**pad(items, 0)).loss, alone, rtol=1e-12, atol=0)
