"""The paper's two limits in numbers: what a vector keeps of a number (C10), and languages beside their share of the training text (C11)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator
from scipy.stats import spearmanr

from conan_lib.data.records import read
from conan_lib.findings.blocks import figure, table
from conan_lib.findings.plots import INK, PALETTE, Drawing, series, style
from conan_lib.findings.published import published
from conan_lib.findings.run import Run
from conan_lib.findings.scores import best_and_worst, crosslingual
from conan_lib.findings.tables import wide
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
UNDEFINED = "undefined"
"""The place on a scale whose two ends are equal."""
CONTROLS = {"paraphrase": PALETTE[2], "unrelated": PALETTE[1]}


def show(run: Run) -> dict:
    scored = ("corpus", "evaluate")
    return {
        "gap": figure(
            run,
            "probe_gap",
            "Cosine of two sentences that differ in a number, by the gap of the numbers: means and quartiles of equally many pairs, each "
            "sentence's own level taken out. Bands: quartiles of the controls. rho is the mean rank correlation within a sentence.",
            ("probes",),
            gap_figure,
            how_cosines_follow,
            {"probe_order": {}},
        ),
        "tables": [
            table(
                run,
                "probe_example",
                "The paper's own example, a book with 3 or 5 fairy tales: the supervised model's cosine of the two sentences, of one of "
                "them and the same in other words, and of one of them and other sentences.",
                ("probes",),
                example_table,
            ),
            table(run, "probe_cosines", "Mean cosine by what differs, with its 95 % interval over templates.", ("probes",), cosine_table),
            table(
                run,
                "probe_order",
                "Does the cosine follow the number? Rank correlation of cosine and gap (-1: it does, 0: it does not); share of triplets in "
                "which the nearer number is nearer; AUC: probability that other words for the same are nearer than the changed sentence "
                "(0.5: no difference, below: the change is seen less than the wording).",
                ("probes",),
                order_table,
                UNDEFINED,
            ),
        ],
        "share": figure(
            run,
            "language_share",
            "R@10 by query language and its share of the training text.",
            scored,
            lambda *_: share_figure(run),
            lambda *_: best_and_worst({lang: row["value"] for lang, row in crosslingual(run, LAST).items()}, "R@10"),
            {"crosslingual": {"model": LAST}},
        ),
        "families": table(
            run,
            "family_gaps",
            "By family as in the paper's limitations: R@10 of our queries, and the paper's MKQA R@20, another "
            "task; each beside the best family of the same task.",
            scored,
            lambda *_: family_gaps(run),
            "no such language in this run",
            decimals=2,
        ),
        "again": len(run.with_seeds("evaluate")),
        "scripture": mostly_scripture(run.stages["corpus"]) if run.finished("corpus") else [],
    }


def how_cosines_follow(stage: Stage, reading: str = "log ratio") -> str:
    """The rank correlation of cosine and gap, first checkpoint and last."""
    models = series(stage, "probes.json")["models"]
    said = ", ".join(f"{name} {models[name]['gap'][reading]['value']:+.2f}" for name in models if name in ("random", "start", LAST))
    return f"Rank correlation of cosine and gap (as a ratio): {said}; -1 would follow the numbers, 0 does not see them."


def gap_figure(stage: Stage) -> Drawing:
    """Similarity against the numeric gap, as a ratio and as a difference, for random weights, the last checkpoint and the peers."""
    pairs, models = pd.DataFrame(read(stage.path / "pairs.parquet")), series(stage, "probes.json")["models"]
    names = [name for name in models if name in ("random", "start", LAST) or name in stage.probes.peers]
    numbers = pairs[pairs["family"] == "number"]
    gaps = {"log ratio": numbers["number_b"] / numbers["number_a"], "difference": numbers["number_b"] - numbers["number_a"]}
    labels = {"log ratio": "larger number over smaller", "difference": "larger number minus smaller"}
    with style():
        drawn = Drawing(figsize=(3.2 * len(names) + 0.4, 5.4))
        grid = drawn.subplots(len(gaps), len(names), sharex="row", sharey=True, squeeze=False)
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
    return wide(({"model": name}, family, value) for name, found in models.items() for family, value in found["cosine"].items())


def order_table(stage: Stage) -> pd.DataFrame:
    """Model by rank correlations, triplets and AUC."""
    models = series(stage, "probes.json")["models"]
    return wide(({"model": name}, *number) for name, found in models.items() for number in _order(found))


def _order(found: dict) -> list[tuple[str, dict]]:
    """Name and number of what tells whether a model's cosines follow the change."""
    return [
        *((f"rho: {reading}", value) for reading, value in found["gap"].items()),
        ("triplets", found["triplets"]),
        *((f"AUC: {family}", value) for family, value in found["auc"].items()),
    ]


def training_share(run: Run) -> dict[str, float]:
    """Language -> share of the characters that training text has; empty where stage corpus does not say."""
    characters = run.results("corpus").get("train_chars") or {}
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
        if len(rows) > 2 and len({row["value"] for row in rows.values()}) > 1:
            rho = spearmanr([shares.get(language, 0) for language in rows], [row["value"] for row in rows.values()]).statistic
            axis.set_title(f"{len(rows)} languages: rank correlation of share and R@10 {rho:+.2f}")
        axis.set(xlabel=f"{SHARE}, characters", ylabel=f"R@10, to {run.pivot}", xlim=(0, None), ylim=(0, 1))
        drawn.legend(loc="outside right upper", title="family")
        return drawn


def family_gaps(run: Run) -> pd.DataFrame:
    """By the paper's families: our languages, the sum of their shares of the training text, their mean R@10, the paper's figure on its own
    task, and each side's distance to its own best."""
    rows, shares = crosslingual(run, LAST), training_share(run)
    if not rows:
        return pd.DataFrame()
    own = [(FAMILY.get(lang, "others"), lang, 100 * shares.get(lang, 0), 100 * row["value"]) for lang, row in rows.items()]
    frame = pd.DataFrame(own, columns=["family", "language", SHARE, OURS])
    paper = pd.DataFrame(published()["families"].rows, columns=["family", "paper: MKQA R@20"]).set_index("family")
    ours = frame.groupby("family").agg(**{"our languages": ("language", tuple), SHARE: (SHARE, "sum"), OURS: (OURS, "mean")})
    ours["to our best"] = ours[OURS] - ours[OURS].max()
    paper["to the paper's best"] = paper - paper.max()
    return paper.join(ours)[[*ours, *paper]].reset_index()
