"""Our training loops beside plain ones, taking turns: the same model, data, batch size and optimiser.

`pretrain`: lm.fit beside transformers' Trainer with the stock model, on the same packed blocks. `weak`: train_embedder with the soft mask
beside sentence-transformers' trainer with MultipleNegativesRankingLoss and bidirectional SDPA, on the same pairs. A round is a run of
each, in an order drawn anew; its figure is the time from the end of the first step to the end of the last.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

from benchmarks.results import quartiles
from conan_lib.data.packing import Blocks
from conan_lib.model.backbone import build, configuration, save, to_sentence_transformer
from conan_lib.model.tokenizer import train_bpe
from conan_lib.params import Params, Runtime
from conan_lib.params.model import TokenizerParams
from conan_lib.params.training import PretrainParams, WeakParams
from conan_lib.training.arguments import training_arguments
from conan_lib.training.embedder import train_embedder
from conan_lib.training.lm import fit, stack
from conan_lib.training.recorder import Recorder

ROOT = Path(__file__).parents[1]
STEPS = 8


class Clock(TrainerCallback):
    """When each step ended."""

    def __init__(self):
        self.ends: list[float] = []

    def on_step_end(self, *_, **__):
        self.ends.append(time.perf_counter())


@contextmanager
def clocked(clock: Clock) -> Iterator[None]:
    """Our trainers make their callbacks themselves: their recorder also tells the clock."""
    ended = Recorder.on_step_end

    def both(self, args, state, control, **rest):
        ended(self, args, state, control, **rest)
        clock.on_step_end()

    Recorder.on_step_end = both
    try:
        yield
    finally:
        Recorder.on_step_end = ended


def side_by_side(ours: Callable[[Clock, Path], None], plain: Callable[[Clock, Path], None], rounds: int, what: str) -> dict:
    """Seconds of each in every round, and the median and quartiles of ours / plain within a round."""
    seconds, order, shuffle = {"ours": [], "plain": []}, [("ours", ours), ("plain", plain)], random.Random(0)
    for _ in range(rounds):
        shuffle.shuffle(order)
        for name, run in order:
            with TemporaryDirectory() as folder:
                run(clock := Clock(), Path(folder))
            seconds[name].append(clock.ends[-1] - clock.ends[0])
    ratios = [one / other for one, other in zip(seconds["ours"], seconds["plain"], strict=True)]
    q1, ratio, q3 = quartiles(ratios)
    return {"what": what, "rounds": rounds, "ratio": ratio, "q1": q1, "q3": q3, "seconds": seconds}


def compare_pretraining(params: Params, chosen: argparse.Namespace) -> dict:
    """Stage 1 beside transformers' Trainer."""
    length, batch, vocabulary = chosen.lengths[0], max(1, chosen.tokens // chosen.lengths[0]), params.tokenizer.vocab_size
    runtime = Runtime(device=chosen.device, threads=chosen.threads, save_steps=10_000)
    section = PretrainParams(batch_size=batch, max_length=length, max_steps=STEPS, document_mask=False)
    ids = np.random.default_rng(0).integers(3, vocabulary, (STEPS * batch, length)).tolist()
    blocks = Blocks(ids, length, document_mask=False)

    def ours(clock: Clock, folder: Path) -> None:
        with clocked(clock):
            fit(
                build(params.backbone, vocabulary, 0),
                blocks,
                stack,
                section,
                SimpleNamespace(path=folder, runtime=runtime),
                lambda item: [],
            )

    def plain(clock: Clock, folder: Path) -> None:
        model = AutoModelForCausalLM.from_config(configuration(params.backbone, vocabulary))
        arguments = training_arguments(section, runtime, folder) | {"per_device_train_batch_size": batch, "save_strategy": "no"}
        Trainer(
            model, TrainingArguments(**arguments, disable_tqdm=True), train_dataset=blocks, data_collator=stack, callbacks=[clock]
        ).train()

    what = f"{batch} sequences of {length} tokens, {STEPS - 1} steps"
    return side_by_side(ours, plain, chosen.rounds, what)


def read_pairs(path: Path | None) -> list[dict[str, str]]:
    """anchor and positive of each line; by default the paragraphs of LOG.md below their headings."""
    if path is not None:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    rows, heading = [], ""
    for paragraph in (ROOT / "LOG.md").read_text(encoding="utf-8").split("\n\n"):
        text = " ".join(paragraph.split())
        if text.startswith("#"):
            heading = text.lstrip("# ")
        elif heading and text:
            rows += [{"anchor": heading, "positive": part.strip()} for part in text.split(" - **") if part.strip()]
    return rows


def compare_pairs(params: Params, chosen: argparse.Namespace) -> dict:
    """Stage 3 beside sentence-transformers' trainer."""
    from datasets import Dataset  # a GPU machine may lack it

    pairs = read_pairs(chosen.pairs)
    batch = min(params.weak.batch_size, len(pairs) // 2)
    rows = [{"anchor": row["anchor"], "positive": row["positive"]} for row in pairs[: STEPS * batch]]
    tokenizer = train_bpe([text for row in rows for text in row.values()], TokenizerParams(vocab_size=params.tokenizer.vocab_size))
    runtime = Runtime(device=chosen.device, threads=chosen.threads, save_steps=10_000)
    options = WeakParams(batch_size=batch, max_length=params.weak.max_length, max_steps=STEPS, batch_languages="mixed")
    home = TemporaryDirectory()
    save(build(params.backbone, len(tokenizer), 0), tokenizer, Path(home.name))

    def encoder(attention: str) -> SentenceTransformer:
        return to_sentence_transformer(Path(home.name), "mean", options.max_length, attention=attention, device=chosen.device)

    def ours(clock: Clock, folder: Path) -> None:
        with clocked(clock):
            train_embedder(encoder("soft_mask"), {"weak": rows}, options, folder, runtime=runtime)

    def plain(clock: Clock, folder: Path) -> None:
        model = encoder("sdpa")
        arguments = training_arguments(options, runtime, folder) | {"per_device_train_batch_size": batch, "save_strategy": "no"}
        SentenceTransformerTrainer(
            model=model,
            args=SentenceTransformerTrainingArguments(**arguments, disable_tqdm=True, dataloader_drop_last=True),
            train_dataset=Dataset.from_list(rows),
            loss=MultipleNegativesRankingLoss(model),
            callbacks=[clock],
        ).train()

    with home:
        what = f"{batch} pairs a step of at most {options.max_length} tokens, from {chosen.pairs.name if chosen.pairs else 'LOG.md'}"
        return side_by_side(ours, plain, chosen.rounds, f"{what}, {STEPS - 1} steps")


LOOPS = {"pretrain": compare_pretraining, "weak": compare_pairs}
