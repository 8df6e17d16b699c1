"""Figures of the data: what cleaning left, where the text comes from, the teacher's scores with their cut, and checked translations."""

import json
from collections import Counter
from itertools import cycle
from pathlib import Path

import numpy as np

from conan_lib.data import records
from conan_lib.data.corpus import STEPS
from conan_lib.data.teacher import cuts
from conan_lib.data.translate.checks import REASONS
from conan_lib.data.translate.output import FUNNEL
from conan_lib.errors import UserError
from conan_lib.report.figures import GREY, PALETTE, Figure, language_colours, series, style
from conan_lib.stages import Stage


def funnel(stage: Stage) -> Figure:
    """Stage `data`: text that each step of cleaning left, in million characters, by language; the number of documents beside each bar."""
    rows = series(stage, "funnel.json")
    languages = list(stage.data.languages)
    colours = language_colours(languages)
    chars, documents = Counter(), Counter()
    for row in rows:
        chars[row["step"], row["lang"]] += row["chars"]
        documents[row["step"]] += row["documents"]
    with style():
        figure = Figure(figsize=(8.4, 3.3))
        axis = figure.subplots()
        left = np.zeros(len(STEPS))
        for lang in languages:
            values = np.array([chars[step, lang] / 1e6 for step in STEPS])
            axis.barh(STEPS, values, left=left, color=colours[lang], label=lang, height=0.72)
            left += values
        for place, step in enumerate(STEPS):
            axis.annotate(f" {documents[step]:,} documents", (left[place], place), va="center", fontsize=8.5)
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        axis.set(xlabel="million characters left after the step", title="from packages to clean text", xlim=(0, 1.3 * left.max()))
        figure.legend(*axis.get_legend_handles_labels(), loc="outside right center", title="language")
        return figure


def kept_text(stage: Stage) -> Figure:
    """Stage `data`: training text by source and language, in thousand characters. A blank means that the source has no such language."""
    documents = records.read_table(stage.path / "documents.parquet").select(["text", "lang", "source", "split"]).to_pylist()
    chars = Counter()
    for row in documents:
        if row["split"] == "train":
            chars[row["source"], row["lang"]] += len(row["text"])
    sources = sorted({source for source, _ in chars}, key=lambda source: -sum(n for (own, _), n in chars.items() if own == source))
    languages = list(stage.data.languages)
    table = np.array([[chars[source, lang] / 1e3 or np.nan for lang in languages] for source in sources])
    with style():
        figure = Figure(figsize=(0.62 * len(languages) + 3.2, 0.3 * len(sources) + 1.2))
        axis = figure.subplots()
        image = axis.imshow(np.log10(table), cmap="Blues", aspect="auto")
        for (row, column), value in np.ndenumerate(table):
            if np.isfinite(value):
                dark = image.norm(np.log10(value)) > 0.6
                axis.text(column, row, f"{value:,.0f}", ha="center", va="center", fontsize=8, color="white" if dark else "black")
        axis.set_xticks(range(len(languages)), languages)
        axis.set_yticks(range(len(sources)), sources)
        axis.set(xlabel="language", title="training text, thousand characters")
        axis.grid(visible=False)
        return figure


def teacher_scores(stage: Stage) -> Figure:
    """Stage `weak`: the distribution of each teacher's scores, with the cut below which pairs are dropped.

    Raises:
        UserError: no pair was scored.
    """
    rows = records.read(stage.inputs["teacher"].path / "scores.parquet")
    percentile = stage.weak.drop_percentile
    cut = cuts(rows, percentile)
    if not cut:
        raise UserError("teacher: no pair was scored, so there is no distribution to draw: raise teacher.budget or name a teacher")
    with style():
        figure = Figure(figsize=(4.3 * len(cut), 2.9))
        for axis, (teacher, threshold), colour in zip(figure.subplots(1, len(cut), squeeze=False).flat, cut.items(), PALETTE, strict=False):
            scores = np.array([row["score"] for row in rows if row["teacher"] == teacher])
            bins = np.linspace(scores.min(), scores.max(), 31)
            axis.hist(scores[scores < threshold], bins, color=GREY, label=f"dropped ({np.sum(scores < threshold):,})")
            axis.hist(scores[scores >= threshold], bins, color=colour, label=f"kept ({np.sum(scores >= threshold):,})")
            axis.axvline(threshold, color=PALETTE[1], linestyle="--", label=f"{percentile:g}th percentile: {threshold:.3f}")
            axis.set(title=teacher, xlabel="cosine of title and content", ylabel="pairs")
            axis.legend(fontsize=8)
        return figure


def translation_checks(folder: Path) -> Figure:
    """A data set of translated queries (`conan-lib translate`): kept and refused by language, and the share that each check refused.

    Raises:
        UserError: the folder holds no finished data set.
    """
    if not (folder / FUNNEL).is_file():
        raise UserError(f"{folder}: no {FUNNEL} in it: name the folder of a finished `conan-lib translate`")
    rows = json.loads((folder / FUNNEL).read_text(encoding="utf-8"))
    counts = {(row["lang"], row["refused"]): row["queries"] for row in rows}
    languages = sorted({lang for lang, _ in counts}, key=lambda lang: (-sum(n for (own, _), n in counts.items() if own == lang), lang))
    colours = {"": PALETTE[0]} | dict(zip(REASONS, cycle((GREY, *PALETTE[1:])), strict=False))
    values = {result: np.array([counts.get((lang, result), 0) for lang in languages]) for result in colours}
    total = sum(values.values())
    with style():
        figure = Figure(figsize=(8.6, 0.24 * len(languages) + 2))
        number, share = figure.subplots(1, 2, sharey=True)
        left = {number: np.zeros(len(languages)), share: np.zeros(len(languages))}
        for result, found in values.items():
            if not found.any():
                continue
            label = f"{f'refused: {result}' if result else 'kept'} ({found.sum():,})"
            for axis, width in ((number, found), (share, 100 * found / total)) if result else ((number, found),):
                axis.barh(languages, width, left=left[axis], color=colours[result], label=label, height=0.75)
                left[axis] += width
        number.invert_yaxis()
        number.set(xlabel="translated queries", ylabel="language", title="kept and refused")
        share.set(xlabel="percent of the language's queries", title="refused")
        for axis in (number, share):
            axis.grid(axis="y", visible=False)
        figure.legend(*number.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        return figure
