"""Instructions and chats of every form become the same rows of stage 2, and weak pairs; a chat that is none is one line."""

import pytest

from conan_lib.errors import UserError
from tests.small_declared import lines, read_all

SFT = ("Translate.", "Hund", "dog")
CHAT = [{"role": "system", "content": SFT[0]}, {"role": "user", "content": SFT[1]}, {"role": "assistant", "content": SFT[2]}]


@pytest.mark.parametrize(
    "record",
    [
        dict(zip(("instruction", "input", "output"), SFT, strict=True)),
        {"messages": CHAT},
        {"conversations": [{"from": "system", "value": SFT[0]}, {"from": "human", "value": SFT[1]}, {"from": "gpt", "value": SFT[2]}]},
        {"query": SFT[1], "pos": [SFT[2]], "neg": [], "prompt": SFT[0]},
    ],
    ids=["Alpaca", "chat", "ShareGPT", "FlagEmbedding"],
)
def test_instructions_of_every_form_are_the_same_rows(tmp_path, record):
    (row,) = read_all(lines(tmp_path / "s.jsonl", record), task="sft")
    assert (row["instruction"], row["input"], row["output"]) == SFT


def test_an_instruction_without_input_is_what_is_asked_and_a_pair_takes_the_prompt_of_its_set(tmp_path):
    alpaca = [{"instruction": f"Say {word}.", "input": "", "output": word} for word in ("hello", "goodbye")]
    found = read_all(lines(tmp_path / "a.jsonl", *alpaca), task="sft")
    assert [(row["instruction"], row["input"]) for row in found] == [("", "Say hello."), ("", "Say goodbye.")]
    assert found[0]["group"] != found[1]["group"], "each is held out by itself"
    pair = read_all(lines(tmp_path / "p.jsonl", {"query": "how tall", "pos": ["330 m"]}), task="sft", prompt="Answer the question.")
    assert (pair[0]["instruction"], pair[0]["input"], pair[0]["output"]) == ("Answer the question.", "how tall", "330 m")


@pytest.mark.parametrize(
    ("record", "pair"),
    [
        (dict(zip(("instruction", "input", "output"), SFT, strict=True)), ("Translate.\nHund", "dog", "")),
        ({"instruction": "Say hello.", "output": "Hello."}, ("Say hello.", "Hello.", "")),
        ({"messages": [*CHAT[:2], {"role": "assistant", "content": "?"}, *CHAT[1:]]}, ("Hund", "dog", "Translate.")),
        ({"text": "The mill burnt. It was old.\nNobody knew why."}, ("The mill burnt.", "It was old.\nNobody knew why.", "")),
        ({"text": "山高水长。天地人和。"}, ("山高水长。", "天地人和。", "")),
        ({"title": "The mill", "text": "It burnt. It was old."}, ("The mill", "It burnt. It was old.", "")),
        ({"text": "One sentence, of version 3.5 alone."}, None),
    ],
    ids=["Alpaca", "instruction", "chat", "text", "Chinese", "title", "one sentence"],
)
def test_weak_pairs_are_made_of_instructions_chats_and_texts(tmp_path, record, pair):
    found = read_all(lines(tmp_path / "w.jsonl", record), task="weak", clean=False)
    assert [(row["anchor"], row["positive"], row["prompt"]) for row in found] == ([pair] if pair else [])
    with pytest.raises(UserError, match="line 1: no field"):
        read_all(lines(tmp_path / "r.jsonl", {"text": "The mill burnt. It was old."}), task="retrieval")


def test_a_chat_without_an_answer_or_a_role_is_refused(tmp_path):
    nobody = [{"from": "human", "value": "x"}, {"from": ["gpt"], "value": "y"}]
    with pytest.raises(UserError, match="line 1: conversations holds a turn without a role or a text"):
        read_all(lines(tmp_path / "c.jsonl", {"conversations": nobody}), task="sft")
    with pytest.raises(UserError, match="line 1: messages does not end with an answer"):
        read_all(lines(tmp_path / "s.jsonl", {"messages": CHAT[:2]}), task="sft")


@pytest.mark.parametrize("task", ["weak", "sft"])
@pytest.mark.parametrize("wrong", [{"input": ["y"]}, {"instruction": {"a": "b"}}, {"output": 3}], ids=str)
def test_a_part_of_an_instruction_that_is_no_text_is_refused_or_skipped(tmp_path, task, wrong):
    whole = {"instruction": "x", "input": "y", "output": "z"}
    path = lines(tmp_path / "a.jsonl", whole, whole | wrong)
    name = next(iter(wrong))
    with pytest.raises(UserError, match=rf"a.jsonl, line 2: {name} is .*, where a text is needed"):
        read_all(path, task=task)
    assert len(read_all(path, task=task, bad_records="skip")) == 1


def test_a_number_is_no_part_of_a_pair(tmp_path):
    with pytest.raises(UserError, match="line 1: input is '3', where a text is needed"):
        read_all(lines(tmp_path / "a.jsonl", {"instruction": "x", "input": 3, "output": "y"}), task="weak")
