"""Training speed: tokens a second, MFU and peak memory of a model's steps; and our training loops beside plain ones.

    python -m benchmarks.training                                # the 1.5B model on CUDA, the tiny one on a CPU
    python -m benchmarks.training --budget 60 --parts steps      # the most wanted first, as far as 60 seconds go
    python -m benchmarks.training --parts loops                  # beside the trainers of transformers and sentence-transformers

Writes training.json and training.md below benchmarks/results/<device>/, anew after every measurement: what is cut off keeps what it has.

Steps: forward, backward, AdamW on random tokens and random weights. MFU: three times the operations of a forward pass, whatever is computed
again, over the device's dense peak; where that is not known, over a measured matrix product.
"""

import argparse
import gc
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from benchmarks.results import command, folder_of, quartiles, where
from conan_lib.environment import peak_memory_mb
from conan_lib.errors import UserError
from conan_lib.files import write_json
from conan_lib.model.backbone import build, configuration, flops_per_token
from conan_lib.params import Params, load_params
from conan_lib.params.base import Optimisation
from conan_lib.run.budget import Machine, Work, step_bytes
from conan_lib.run.estimate import matrix_product
from conan_lib.topics.speed.timing import once
from conan_lib.training.arguments import switch
from conan_lib.training.batch_loss import ContrastiveLoss
from conan_lib.training.batches import Task

ROOT = Path(__file__).parents[1]
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bf16 operations a second, by a part of the device's name."""
WARM_UP, STEPS = 2, 5
SWITCHES = {
    "fused": {"fused_loss": True},
    "none": {},
    "checkpointing": {"gradient_checkpointing": True},
    "fused+checkpointing": {"fused_loss": True, "gradient_checkpointing": True},
    "compile": {"compile": True},
    "fused+compile": {"fused_loss": True, "compile": True},
    "all": {"fused_loss": True, "compile": True, "gradient_checkpointing": True},
}
NEGATIVES = 7


@dataclass(frozen=True)
class Arm:
    """One kind of step: `texts` are sequences of pretrain, pairs of weak, anchors with 7 negatives of supervised."""

    stage: str
    length: int
    texts: int
    switches: str


def arms(lengths: list[int], tokens: int, switches: Iterable[str] = SWITCHES) -> Iterator[Arm]:
    """The most wanted first: pretraining at every length, the contrastive stages, then every switch alone and together."""
    for place, some in enumerate(switches):
        for length in lengths:
            yield Arm("pretrain", length, max(1, tokens // length), some)
        if place == 0:
            short = min(512, *lengths)
            yield Arm("weak", short, max(2, tokens // short // 2), "none")
            yield Arm("supervised", short, max(2, tokens // short // (2 + NEGATIVES)), "none")


class Encoder(nn.Module):
    """Token states, averaged, scaled to length 1: what sentence-transformers does, for token ids alone."""

    def __init__(self, backbone: PreTrainedModel):
        super().__init__()
        self.backbone = backbone

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        states = self.backbone(**features, use_cache=False).last_hidden_state
        return {"sentence_embedding": nn.functional.normalize(states.float().mean(1), dim=-1)}


class Steps:
    """The steps of one model on one device.

    Args:
        params: its backbone and vocabulary.
        device: cpu or cuda.
    """

    def __init__(self, params: Params, device: str):
        self.params, self.device, self.half = params, device, device == "cuda"
        self.vocabulary = params.tokenizer.vocab_size
        self.config = configuration(params.backbone, self.vocabulary)

    def step_of(self, arm: Arm) -> Callable[[], None]:
        """A step of that kind, with a model of its own."""
        with torch.device(self.device):
            model = build(self.params.backbone, self.vocabulary, 0).train()
        section = Optimisation(**{name: on for name, on in SWITCHES[arm.switches].items() if name != "fused_loss"})
        model.fused_loss = "fused_loss" in SWITCHES[arm.switches]
        if arm.stage == "weak":
            model.set_attn_implementation("soft_mask")
            model.config.soft_mask_alpha = 0.5
        elif arm.stage == "supervised":
            model.config.is_causal = False
        switch(model, section)
        loss_of = self._language_model(model, arm) if arm.stage == "pretrain" else self._contrastive(model.model, arm)
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)

        def step() -> None:
            with torch.autocast(self.device, torch.bfloat16, enabled=self.half):
                loss = loss_of()
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()

        return step

    def _ids(self, texts: int, length: int) -> Tensor:
        return torch.randint(3, self.vocabulary, (texts, length), device=self.device)

    def _language_model(self, model: PreTrainedModel, arm: Arm) -> Callable[[], Tensor]:
        ids = self._ids(arm.texts, arm.length)
        return lambda: model(input_ids=ids, labels=ids).loss

    def _contrastive(self, backbone: PreTrainedModel, arm: Arm) -> Callable[[], Tensor]:
        each = 2 + (NEGATIVES if arm.stage == "supervised" else 0)
        place = torch.arange(arm.texts * each, device=self.device).view(each, arm.texts)
        label = {"task": torch.tensor(0), "anchor": place[0], "positive": place[1], "restore": place.flatten()}
        if arm.stage == "supervised":
            label["negatives"] = place[2:].T.contiguous()
        width = backbone.config.hidden_size
        dims = tuple(width * part // 8 for part in (1, 2, 4, 8)) if arm.stage == "supervised" else None
        task = Task(arm.stage, [{"anchor": "", "positive": ""}], 1)
        loss, ids = ContrastiveLoss(Encoder(backbone), [task], 0.05, dims=dims), self._ids(arm.texts * each, arm.length)
        return lambda: loss([{"input_ids": ids, "attention_mask": torch.ones_like(ids)}], label)

    def measure(self, arm: Arm, peak: float) -> dict:
        """What an arm takes, or why it cannot be measured."""
        row = asdict(arm)
        try:
            step = self.step_of(arm)
            if self.device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            for _ in range(WARM_UP):
                once(step, self.device)
            seconds = [once(step, self.device) for _ in range(STEPS)]
        except torch.OutOfMemoryError:
            return row | {"note": "out of memory"}
        finally:
            step = None
            gc.collect()
            torch.cuda.empty_cache()
        q1, median, q3 = quartiles(seconds)
        texts = arm.texts * {"pretrain": 1, "weak": 2, "supervised": 2 + NEGATIVES}[arm.stage]
        flops = texts * arm.length * 3 * flops_per_token(self.config, arm.length)
        row |= {"seconds": median, "q1": q1, "q3": q3, "tokens_per_second": texts * arm.length / median}
        if arm.stage == "pretrain":
            section = self.params.pretrain.model_copy(update={
                "max_length": arm.length, "precision": "bf16" if self.half else "fp32", "gradient_accumulation": None,
                "gradient_checkpointing": None, "fused_loss": None, **SWITCHES[arm.switches]})  # fmt: skip
            planned = step_bytes(Work("pretrain", section, arm.texts), self.config, Machine())
            row |= {"mfu": flops / median / peak, "planned_gb": planned / 1e9}
        else:
            row["pairs_per_second"] = arm.texts / median
        if self.device == "cuda":
            row["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
        return row


def peak_of(device: str, name: str) -> tuple[float, str]:
    """Operations a second that MFU refers to, and where the number is from."""
    for part, peak in PEAKS.items():
        if device == "cuda" and part in name:
            return peak, f"{part}'s dense bf16 peak"
    dtype, width = (torch.bfloat16, 8192) if device == "cuda" else (torch.float32, 1024)
    return matrix_product(device, dtype, width), "a measured matrix product"


def markdown(results: dict) -> str:
    """The facts, a line for each arm, and the loops side by side."""
    lines = ["# Training speed", ""] + [f"- {name}: {value}" for name, value in results["facts"].items()]
    if results["steps"]:
        lines += [
            "",
            "| stage | L | texts | switches | s [quartiles] | tokens/s | pairs/s | MFU | peak GB | planned GB |",
            "|---|" + "---:|" * 9,
        ]
    for row in results["steps"]:
        numbers = [row.get(name) for name in ("tokens_per_second", "pairs_per_second", "mfu", "peak_gb", "planned_gb")]
        forms = ("{:,.0f}", "{:,.1f}", "{:.1%}", "{:.1f}", "{:.1f}")
        shown = ["" if value is None else form.format(value) for value, form in zip(numbers, forms, strict=True)]
        time_ = f"{row['seconds']:.3f} [{row['q1']:.3f}, {row['q3']:.3f}]" if "seconds" in row else row["note"]
        lines.append("| " + " | ".join([row["stage"], f"{row['length']:,}", str(row["texts"]), row["switches"], time_, *shown]) + " |")
    for name, row in results["loops"].items():
        spread = "[{q1:.2f}, {q3:.2f}]".format(**row)
        lines += [
            "",
            f"{name}: our time over the plain loop's {row['ratio']:.2f} {spread}, quartiles of {row['rounds']} rounds; {row['what']}",
        ]
    return "\n".join(lines) + "\n"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__.split("\n")[0])
    cuda = torch.cuda.is_available()
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if cuda else "cpu")
    parser.add_argument("--parts", nargs="+", choices=("steps", "loops"), help="by default steps on CUDA, both on a CPU")
    parser.add_argument("--size", help="a file of params/, whose backbone it is: by default paper on CUDA, tiny on a CPU")
    parser.add_argument("--lengths", type=int, nargs="+", help="of a sequence, in tokens: by default 2048 8192 32768, on a CPU 128 512")
    parser.add_argument("--tokens", type=int, help="of a step: by default 16384, on a CPU 1024; a longer sequence is one")
    parser.add_argument(
        "--switches", nargs="+", choices=tuple(SWITCHES), default=list(SWITCHES), help="by default each, alone and together"
    )
    parser.add_argument("--budget", type=float, default=float("inf"), help="seconds; what does not fit is left out")
    parser.add_argument("--rounds", type=int, default=5, help="of the loops side by side")
    parser.add_argument("--pairs", type=Path, help="JSON lines with anchor and positive, for real lengths; by default of LOG.md")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args(arguments)
    if chosen.device == "cuda" and not cuda:
        raise UserError("--device cuda: torch sees no CUDA device here: take --device cpu")
    small = chosen.device == "cpu"
    chosen.parts = chosen.parts or (["steps", "loops"] if small else ["steps"])
    chosen.size = chosen.size or ("tiny" if small else "paper")
    chosen.lengths = chosen.lengths or ([128, 512] if small else [2048, 8192, 32768])
    chosen.tokens = chosen.tokens or (1024 if small else 16384)
    return chosen


def main(arguments: list[str] | None = None) -> Path:
    """Measure, write, and return the folder of the results.

    Raises:
        UserError: an option that makes no sense.
    """
    chosen, began = parse(arguments), time.monotonic()
    torch.set_num_threads(chosen.threads)
    params, found = load_params(ROOT / "params" / f"{chosen.size}.yaml"), where(chosen.device, chosen.threads)
    peak, whence = peak_of(chosen.device, found["device"])
    facts = {
        **found,
        **{package: version(package) for package in ("torch", "transformers", "sentence-transformers")},
        "size": chosen.size,
        "arithmetic": "bf16 autocast" if chosen.device == "cuda" else "fp32",
        "peak": f"{peak:.3g} operations a second: {whence}",
    }
    results = {"facts": facts, "steps": [], "loops": {}}
    folder = folder_of(found["device"], chosen.out)

    def write() -> None:
        facts["peak memory of the process"] = f"{peak_memory_mb():,.0f} MB"
        write_json(folder / "training.json", results)
        (folder / "training.md").write_text(markdown(results), encoding="utf-8")

    write()
    steps = Steps(params, chosen.device)
    for arm in arms(chosen.lengths, chosen.tokens, chosen.switches) if "steps" in chosen.parts else ():
        if time.monotonic() - began > chosen.budget:
            break
        results["steps"].append(steps.measure(arm, peak))
        write()
    if "loops" in chosen.parts:
        from benchmarks.loops import LOOPS

        for loop, compare in LOOPS.items():
            if time.monotonic() - began < chosen.budget:
                results["loops"][loop] = compare(params, chosen)
                write()
    return folder


if __name__ == "__main__":
    command(main)
