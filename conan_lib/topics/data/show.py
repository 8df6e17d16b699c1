"""What cleaning left, where the text comes from, the sets, and what each stage read."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from conan_lib.data.catalogue import origins
from conan_lib.data.gather import STEPS
from conan_lib.data.sources.bible import SCRIPTURE
from conan_lib.findings.blocks import Table, figure, table
from conan_lib.findings.manifests import training_text
from conan_lib.findings.plots import Drawing, language_colours, series, style
from conan_lib.findings.published import published
from conan_lib.findings.run import Run
from conan_lib.stages import Stage


def show(run: Run) -> dict:
    paper, ours = published()["data"], f"Data available to each stage of {run.params.tier}, and data used."
    return {
        "paper": Table("paper_data", paper.caption, paper.frame, ("paper",), origin="the paper"),
        "ours": table(run, "data_ours", ours, ("sets",), lambda _: read_table(run), "not recorded", origin="ours"),
        "kept": figure(run, "kept_text", "Training text by source and language.", ("corpus",), kept_text, most_and_least,
                       {"kept_text": {}}),
        "funnel_table": table(run, "funnel", "What each step of cleaning left, all sources together, held-out text included.", ("corpus",),
                              funnel_table, "first step", decimals=1),
        "kept_table": table(run, "kept_text", "Characters kept by source and language, held-out text included.", ("corpus",),
                            kept_text_table, folded=True),
        "sets": table(run, "sets", "Sets that training and evaluation read.", ("sets", "heldout"), sets_table, folded=True),
        "sources": table(run, "sources", "Every source with its edition and licence.", ("corpus",), sources_table,
                         "not stated by the source", folded=True),
    }  # fmt: skip


def most_and_least(stage: Stage) -> str:
    """Stage `corpus`: which language has the most training text, and which the least."""
    characters = stage.results.get("train_chars") or {}
    if len(characters) < 2:
        return ""
    whole, (most, *_, least) = sum(characters.values()), sorted(characters, key=characters.get, reverse=True)
    scripture = mostly_scripture(stage)
    also = f" At least nine tenths of it is scripture in {', '.join(scripture)}." if scripture else ""
    parts = (
        f"{what} is {name}, {100 * characters[name] / whole:.0f} % of the characters"
        for what, name in (("The language with the most training text", most), ("that with the least", least))
    )
    shares = "; ".join(parts)
    return f"{shares}.{also}"


def funnel(stage: Stage) -> Drawing:
    """Stage `corpus`: left, text that was read, sampled and kept, in million characters; right, documents that each step of cleaning
    dropped. Stacked by language."""
    languages, counts = list(stage.data.languages), Counter()
    for row in series(stage, "funnel.json"):
        for what in ("chars", "documents"):
            counts[what, row["step"], row["lang"]] += row[what]
    ends, cleaning = (STEPS[0], STEPS[1], STEPS[-1]), STEPS[2:]
    dropped = lambda step, lang: counts["documents", STEPS[STEPS.index(step) - 1], lang] - counts["documents", step, lang]  # noqa: E731
    with style():
        drawing = Drawing(figsize=(9.6, 2.6))
        left, right = drawing.subplots(1, 2)
        _stack(left, ("read", "sampled", "kept"), {lang: [counts["chars", step, lang] / 1e6 for step in ends] for lang in languages})
        left.set(xlabel="million characters", title="from packages to clean text")
        for place, step in enumerate(ends):
            documents = sum(counts["documents", step, lang] for lang in languages)
            wide = sum(counts["chars", step, lang] for lang in languages) / 1e6
            left.annotate(f" {documents:,} documents", (wide, place), va="center", fontsize=8.5)
        left.set_xlim(0, 1.6 * left.get_xlim()[1])
        _stack(right, cleaning, {lang: [dropped(step, lang) for step in cleaning] for lang in languages})
        right.set(xlabel="documents", title="what each step dropped of the sample")
        drawing.legend(*left.get_legend_handles_labels(), loc="outside right center", title="language")
        return drawing


def _stack(axis: Axes, rows: Sequence[str], values: dict[str, list[float]]) -> None:
    """Horizontal bars, a row each from the top, stacked by language."""
    start = np.zeros(len(rows))
    for lang, colour in language_colours(list(values)).items():
        axis.barh(rows, values[lang], left=start, color=colour, label=lang, height=0.72)
        start += values[lang]
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)


def kept_text(stage: Stage) -> Drawing:
    """Stage `corpus`: training text by source and language, in thousand characters. A blank means that the source has no such language."""
    found, languages = training_text(stage), list(stage.data.languages)
    sources = list(found.sum(axis=1).sort_values(ascending=False, kind="stable").index)
    table = found.reindex(index=sources, columns=languages).replace(0, np.nan).to_numpy(float) / 1e3
    with style():
        drawing = Drawing(figsize=(0.62 * len(languages) + 3.2, 0.3 * len(sources) + 1.2))
        axis = drawing.subplots()
        image = axis.imshow(np.log10(table), cmap="Blues", aspect="auto")
        for (row, column), value in np.ndenumerate(table):
            if np.isfinite(value):
                dark = image.norm(np.log10(value)) > 0.6
                axis.text(column, row, f"{value:,.0f}", ha="center", va="center", fontsize=8, color="white" if dark else "black")
        axis.set_xticks(range(len(languages)), languages)
        axis.set_yticks(range(len(sources)), sources)
        axis.set(xlabel="language", title="training text, thousand characters")
        axis.grid(visible=False)
        return drawing


def sources_table(stage: Stage) -> pd.DataFrame:
    """Every source of the corpus with its edition, licence and kept documents."""
    columns = ("name", "package", "version", "edition", "licence", "languages", "documents", "chars", "note")
    rows = [{name: row.get(name) for name in columns} for row in origins(stage)]
    for row in rows:
        row["languages"] = " ".join(row["languages"]) if isinstance(row["languages"], list) else row["languages"]
    return pd.DataFrame(rows, columns=list(columns)).rename(columns={"chars": "characters"})


def funnel_table(stage: Stage) -> pd.DataFrame:
    """Documents that each step of cleaning left, over all sources; kept is a share of the step before."""
    rows = pd.DataFrame(series(stage, "funnel.json"))
    table = rows.groupby("step", sort=False)[["documents", "chars"]].sum().reset_index().rename(columns={"chars": "characters"})
    table["kept (%)"] = 100 * table["documents"] / table["documents"].shift()
    return table


def kept_text_table(stage: Stage) -> pd.DataFrame:
    """Characters that were kept by source (rows) and language (columns), from the funnel's last step."""
    rows = pd.DataFrame(series(stage, "funnel.json"))
    last = rows[rows["step"] == list(dict.fromkeys(rows["step"]))[-1]]
    table = last.pivot_table(index="source", columns="lang", values="chars", aggfunc="sum", fill_value=0).astype(int)
    table.insert(0, "all", table.sum(axis=1))
    return table.sort_values("all", ascending=False).rename_axis(columns=None).reset_index()


def mostly_scripture(stage: Stage, share: float = 0.9) -> list[str]:
    """Languages of whose kept characters at least `share` are scripture."""
    found = []
    for language, column in kept_text_table(stage).set_index("source").drop(columns="all").items():
        if column.sum() and column.reindex(list(SCRIPTURE), fill_value=0).sum() >= share * column.sum():
            found.append(str(language))
    return sorted(found)


def sets_table(*stages: Stage) -> pd.DataFrame:
    """Every set that these stages wrote and its number of records."""
    return pd.DataFrame([row for stage in stages for row in sorted(stage.results.get("rows", {}).items())], columns=["set", "records"])


def read_table(run: Run) -> pd.DataFrame:
    """Stage, kind of data, what there was of it, and what its steps read: steps x batch, a text that is met twice counted twice."""
    p, done = run.params, {name: run.results(name) for name in ("pretrain", "sft", "weak", "supervised")}
    parts, steps = done["supervised"].get("rows") or {}, done["supervised"].get("steps") or {}
    pairs = f" of {done['weak']['pairs']:,}" if "pairs" in done["weak"] else ""

    def trained(stage: str) -> bool:
        return bool(done[stage]) and not done[stage].get("passed_through")

    rows = [
        ("1 pretraining", "books, encyclopedia articles, news and scripture from packages", "tokens", done["pretrain"].get("block_tokens"),
         p.pretrain.max_steps * p.pretrain.batch_size * p.pretrain.max_length if trained("pretrain") else None),
        ("2 instruction tuning", "instruction, input, output from packages", "records", done["sft"].get("records"),
         p.sft.max_steps * p.sft.batch_size if trained("sft") else None),
        ("3 weakly supervised", f"title-content pairs{pairs}, the lowest {p.weak.drop_percentile:g} % by the teachers' scores dropped",
         "pairs",
         done["weak"].get("pairs_kept"), p.weak.max_steps * p.weak.batch_size if trained("weak") else None),
        ("4 supervised", ", ".join(f"{task} {n:,}" for task, n in parts.items()) or "five tasks", "records, each an anchor",
         sum(parts.values()) or None, sum(n * p.supervised.task_batch_size[task] for task, n in steps.items()) or None),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["stage", "data", "unit", "available", "used"], dtype=object)
