"""Encoding speed of our sizes up to the paper's 1,499,205,120 parameters, beside peers, on a CPU or on CUDA.

    python -m benchmarks.efficiency --budget 180                 # tiny, h100, paper and the peers at hand
    python -m benchmarks.efficiency --sizes tiny,h100 --texts 64 --length 256 --peers none
    python -m benchmarks.efficiency --device cuda --dtype bf16 --texts 512 --batch 64

A size is the backbone of params/<name>.yaml with random weights: the time does not depend on their values. It reads random ids out of its
whole vocabulary, so no tokenizer is in its time; a peer reads as many of the commonest English words, about a token each, and its tokenizer
is in its time. Systems take turns, round by round. Writes efficiency.json and efficiency.md below benchmarks/results/<device>/.
"""

import argparse
import random
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.measure import available_bytes
from benchmarks.results import command, folder_of, where
from conan_lib.environment import peak_memory_mb
from conan_lib.errors import UserError
from conan_lib.files import write_json
from conan_lib.model.backbone import count_parameters, random_encoder
from conan_lib.params import Params, load_params
from conan_lib.topics.speed.timing import fitting, rates, take_turns

ROOT = Path(__file__).parents[1]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
RESERVED = 3
"""Ids 0 to 2 are pad, start and end."""
WORDS = (
    "the of and to in is was he for it with as his on be at by this had not are but from or have an they which one you were all her she "
    "there would their we him been has when who will no more if out so up said what its about than into them can only other time new some"
)
NOTE = (
    "Our sizes have random weights and read random ids out of their whole vocabulary, without a tokenizer; peers read as many of the "
    "commonest English words, about a token each, through theirs."
)


class Size:
    """One of our backbones. Calling it encodes the first n texts: ids (N, L) -> mean token states of length 1, (n, D)."""

    def __init__(self, params: Params, chosen: argparse.Namespace):
        backbone, vocabulary = params.backbone, params.tokenizer.vocab_size
        self.model = random_encoder(backbone, vocabulary, DTYPES[chosen.dtype], chosen.device)
        generator = torch.Generator().manual_seed(chosen.seed)
        self.ids = torch.randint(RESERVED, vocabulary, (chosen.texts, chosen.length), generator=generator)
        self.batch = chosen.batch
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        self.facts = {
            "kind": "random weights", "parameters": parameters, "embedding_parameters": vocabulary * backbone.hidden_size,
            "dim": backbone.hidden_size, "max_tokens": chosen.length, "mrl": None, "weights_mb": weights_mb(parameters, chosen.dtype),
        }  # fmt: skip

    @torch.inference_mode()
    def __call__(self, n: int) -> torch.Tensor:
        parts = [
            self.model(input_ids=part.to(self.model.device), use_cache=False).last_hidden_state.mean(dim=1)
            for part in self.ids[:n].split(self.batch)
        ]
        return torch.nn.functional.normalize(torch.cat(parts).float(), dim=1).cpu()


def weights_mb(parameters: int, dtype: str) -> float:
    return round(parameters * DTYPES[dtype].itemsize / 1e6, 1)


def sizes_of(chosen: argparse.Namespace, skipped: dict[str, str]) -> dict[str, Size]:
    """The sizes that fit into memory; why the others do not goes to `skipped`."""
    made = {}
    for name in chosen.sizes:
        params = load_params(ROOT / "params" / f"{name}.yaml")
        if chosen.length > params.backbone.context_length:
            raise UserError(f"--length: {chosen.length} is above {name}'s backbone.context_length {params.backbone.context_length}")
        need = 1e6 * weights_mb(count_parameters(params.backbone, params.tokenizer.vocab_size), chosen.dtype)
        free = available_bytes(chosen.device)
        if 1.2 * need > free:
            skipped[name] = f"does not fit: its weights take {need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
        else:
            made[name] = Size(params, chosen)
    return made


def peers_of(chosen: argparse.Namespace, skipped: dict[str, str]) -> dict[str, tuple[Callable[[int], object], dict]]:
    """The peers at hand: a call that encodes the first n texts, and their facts."""
    if not chosen.peers:
        return {}
    try:
        from conan_lib.evaluation.peers import PEER_ENCODERS
        from conan_lib.topics.speed.measure import MRL_PEERS, facts_of
    except ModuleNotFoundError as error:  # a GPU machine that only trains may lack mteb
        raise UserError(f"--peers: {error.name} is not installed: install the extra notebooks, or take --peers none") from None
    draw = random.Random(chosen.seed)
    texts = [" ".join(draw.choices(WORDS.split(), k=chosen.length - 2)) for _ in range(chosen.texts)]
    made = {}
    for name in PEER_ENCODERS if chosen.peers == ["all"] else chosen.peers:
        if name not in PEER_ENCODERS:
            raise UserError(f"--peers {name}: choose among {', '.join(PEER_ENCODERS)}, all or none")
        try:
            peer = PEER_ENCODERS[name](chosen.threads)
        except UserError as error:
            skipped[name] = str(error)
        else:
            made[name] = (lambda n, peer=peer: peer.raw(texts[:n])), facts_of(peer, "peer", name in MRL_PEERS) | {"weights_mb": None}
    return made


def measure(chosen: argparse.Namespace) -> dict:
    """Time all systems, side by side.

    Returns:
        {baseline, skipped, peak_memory_mb, systems: rows of the facts of each, how many texts a call had, and `rates`}.

    Raises:
        UserError: an unknown size or peer, or none of the sizes fits.
    """
    skipped: dict[str, str] = {}
    sizes = sizes_of(chosen, skipped)
    if not sizes:
        raise UserError("; ".join(f"--sizes {name}: {why}" for name, why in skipped.items()))
    systems = {name: (size, size.facts) for name, size in sizes.items()} | peers_of(chosen, skipped)
    start, n = time.monotonic(), {}
    for name, (call, _) in systems.items():
        if chosen.budget:
            n[name] = fitting(call, chosen.texts, chosen.budget / len(systems) / (chosen.repeats + 2), chosen.device)
        else:
            call(1)
            n[name] = chosen.texts
    calls = {name: lambda name=name, call=call: call(n[name]) for name, (call, _) in systems.items()}
    deadline = start + (chosen.budget or float("inf"))
    *_, baseline = sizes
    found = rates(take_turns(calls, chosen.repeats, chosen.device, chosen.seed, deadline), n, baseline)
    rows = [
        {"model": name, **facts, "texts": n[name], **found[name], "tokens_per_second": chosen.length * found[name]["rate"]}
        for name, (_, facts) in systems.items()
    ]
    peak = torch.cuda.max_memory_allocated() / 1e6 if chosen.device == "cuda" else peak_memory_mb()
    return {"baseline": baseline, "skipped": skipped, "peak_memory_mb": round(peak, 1), "systems": rows}


def facts(chosen: argparse.Namespace) -> dict:
    """Where and how the numbers were made."""
    return {
        **where(chosen.device, chosen.threads),
        "packages": {name: version(name) for name in ("torch", "transformers", "sentence-transformers")},
        **{name: getattr(chosen, name) for name in ("dtype", "length", "texts", "batch", "repeats", "budget", "seed")},
        "note": NOTE,
    }


def markdown(results: dict) -> str:
    """A line for each system, the facts above."""
    packages = [f"- {name}: {version}" for name, version in results["packages"].items()]
    told = ("device", "machine", "python", "revision", "date", "dtype", "length", "texts", "batch", "repeats", "budget", "seed")
    text = ["# Encoding speed: our sizes and peers", "", *(f"- {name}: {results[name]}" for name in told), *packages]
    text += [f"- peak memory of the whole run: {results['peak_memory_mb']:,.0f} MB", "", results["note"]]
    text += [f"Medians over the rounds, in brackets their range; ratios are to {results['baseline']} in the same round.", ""]
    text += [f"| model | what | parameters (M) | dim | weights (MB) | texts per call | texts/s | tokens/s | times {results['baseline']} |"]
    text += ["|---|---|" + "---:|" * 7]
    for row in results["systems"]:
        weights = "not counted" if row["weights_mb"] is None else f"{row['weights_mb']:,.1f}"
        cells = [row["model"], row["kind"], f"{row['parameters'] / 1e6:,.2f}", f"{row['dim']:,}", weights, f"{row['texts']:,}",
                 f"{row['rate']:.3g} [{row['low']:.3g}–{row['high']:.3g}]", f"{row['tokens_per_second']:,.0f}",
                 f"**{row['ratio']:.3g}** [{row['ratio_low']:.3g}–{row['ratio_high']:.3g}]"]  # fmt: skip
        text.append("| " + " | ".join(cells) + " |")
    text += [f"| {name} | {why} |" + " - |" * 7 for name, why in results["skipped"].items()]
    return "\n".join(text) + "\n"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    def names(text: str) -> list[str]:
        return [] if text == "none" else text.split(",")

    parser = argparse.ArgumentParser(prog="python -m benchmarks.efficiency", description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=names, default=["tiny", "h100", "paper"], help="files of params/; ratios are to the last")
    parser.add_argument("--peers", type=names, default=["all"], help="names, all or none")
    parser.add_argument("--texts", type=int, default=16, help="of a call, at most")
    parser.add_argument("--length", type=int, default=128, help="tokens of a text")
    parser.add_argument("--batch", type=int, default=8, help="texts that our sizes encode at once")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="fp32", help="of our sizes; peers run as they are made")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--budget", type=float, help="seconds for all calls: a slow system gets fewer texts; loading comes on top")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads of torch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder of the results; by default benchmarks/results/<device>")
    chosen = parser.parse_args(arguments)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA device here: take --device cpu")
    for name in ("texts", "batch", "repeats", "threads", "budget"):
        if getattr(chosen, name) is not None and getattr(chosen, name) <= 0:
            raise UserError(f"--{name}: give a number above 0")
    if chosen.length < 4:
        raise UserError("--length: give at least 4 tokens")
    return chosen


def main(arguments: list[str] | None = None) -> Path:
    """Measure, write, and return the folder of the results.

    Raises:
        UserError: an option that makes no sense, or a size that does not fit.
    """
    chosen = parse(arguments)
    torch.set_num_threads(chosen.threads)
    results = facts(chosen) | measure(chosen)
    folder = folder_of(results["device"], chosen.out)
    write_json(folder / "efficiency.json", results)
    (folder / "efficiency.md").write_text(markdown(results), encoding="utf-8")
    return folder


if __name__ == "__main__":
    command(main)
