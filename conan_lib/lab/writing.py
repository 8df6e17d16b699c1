"""What the language models write: a continuation of your own text, an answer to your own instruction."""

from functools import lru_cache
from pathlib import Path

import pandas as pd
import torch
from pandas.io.formats.style import Styler
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from conan_lib.lab.finished import finished
from conan_lib.lab.tables import texts
from conan_lib.model.backbone import load
from conan_lib.model.tokenizer import frame, load_tokenizer, token_bytes
from conan_lib.stages import Stage
from conan_lib.training.instructions import generate
from conan_lib.training.lm import MEASURE, bits_per_byte


def continuation(pretrain: Stage, text: str, tokens: int = 30) -> Styler:
    """A text's bits per byte and its greedy continuation, before pretraining (random weights) and after.

    Raises:
        UserError: pretraining has not finished.
    """
    folder = finished(pretrain)
    before = folder / "random" if (folder / "random").is_dir() else pretrain.needs("start") / "model"
    rows = [{"model": name, **_continued(place, folder / "model", text, tokens)} for name, place in
            (("before", before), ("after", folder / "model"))]  # fmt: skip
    return texts(pd.DataFrame(rows), "nothing")


def answer(sft: Stage, instruction: str, text: str = "") -> Styler:
    """Greedy answers to an instruction and its input, before fine-tuning and after.

    Raises:
        UserError: fine-tuning has not finished.
    """
    folders = {"before": sft.needs("pretrain") / "model", "after": finished(sft) / "model"}
    record, section = {"instruction": instruction, "input": text}, sft.sft or MEASURE
    rows = []
    for name, folder in folders.items():
        model, tokenizer = _loaded(folder, folder)
        said = generate(model, tokenizer, [record], max(section.max_length, 64), sft.sft and sft.sft.template)
        rows.append({"model": name, "answer": said[0].strip()})
    return texts(pd.DataFrame(rows), "nothing but spaces")


@lru_cache(maxsize=4)
def _loaded(folder: Path, tokenizer: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    return load(folder).eval(), load_tokenizer(tokenizer)


@torch.inference_mode()
def _continued(folder: Path, tokenizer_folder: Path, text: str, tokens: int) -> dict[str, object]:
    model, tokenizer = _loaded(folder, tokenizer_folder)
    ids = torch.tensor([[*frame(tokenizer)[0], *tokenizer.encode(text, add_special_tokens=False)]])
    bits = bits_per_byte(model, {"text": [{"input_ids": ids, "labels": ids}]}, token_bytes(tokenizer)) if ids.shape[1] > 1 else {}
    output = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
    )
    said = tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)
    return {"bits per byte": bits.get("text"), "continuation": said.strip()}
