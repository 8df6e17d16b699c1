"""The same texts embedded without and with CLR: measures, R@1 between languages, UMAP."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from conan_lib.data.records import read
from conan_lib.findings.blocks import Table, figure, table
from conan_lib.findings.claim import seeds_text
from conan_lib.findings.intervals import combine_seeds
from conan_lib.findings.plots import INK, MARKERS, PAPER, Drawing, language_colours, series, style
from conan_lib.findings.run import Run
from conan_lib.findings.tables import measured
from conan_lib.params import on_reviews
from conan_lib.stages import Stage
from conan_lib.topics.mixing.page import with_points

ARMS = ("without CLR", "with CLR")


def show(run: Run) -> dict:
    how = "Cross-lingual R@1 {}, from the row's language to the column's."
    return {
        "umap": with_points(run, figure(run, "umap", "The same texts embedded without and with CLR, projected by UMAP.", ("mix",), umap,
                                       neighbours, {"mixing": {"measure": "entropy"}})),
        "measures": table(run, "mixing", "How well the languages share one space.", ("mix",), mixing_table,
                          {"difference": "not paired"}, differences=("difference",)),
        "matrix": figure(run, "r1_matrix", "Cross-lingual R@1 without and with CLR.", ("mix",), r1_matrix, weakest_pair,
                         {"r1_with": {}, "r1_without": {}}),
        "r1": [
            table(run, f"r1_{arm.split()[0]}", how.format(arm), ("mix",), lambda stage, arm=arm: r1_table(stage, arm), "same", folded=True)
            for arm in reversed(ARMS)
        ],
        "reviews": reviews(run),
    }  # fmt: skip


def reviews(run: Run) -> list[Table]:
    """The same measures on MultiEmo's reviews, over the seeds with which somebody has run them (params/ablations/*reviews.yaml)."""
    if not (runs := on_reviews_of(run)):
        return []
    found = [series(one.stages["mix"], "mixing.json") for one in runs]
    frame = pd.DataFrame(
        {"measure": measure.replace("r1", "R@1").replace("_", " ")}
        | measured("with CLR", _over_seeds([one["with CLR"][measure] for one in found]))
        | measured("without CLR", _over_seeds([one["without CLR"][measure] for one in found]))
        | measured("difference", _over_seeds([one["with CLR - without CLR"][measure] for one in found], "difference"))
        for measure in found[0]["with CLR - without CLR"]
    )
    caption = f"The same on {found[0]['texts']}, which nothing is trained on: {seeds_text(len(runs))}; 95 % intervals over texts and seeds."
    sources = tuple(one.key("mix") for one in runs)
    return [Table("mixing_reviews", caption, frame, sources, differences=("difference",))]


def on_reviews_of(run: Run) -> list[Run]:
    """The run and its other seeds with stage mix on reviews, those that have finished; none where the run itself mixes reviews."""
    return [] if run.params.mixing.texts == "multiemo" else Run.of(on_reviews(run.params), run.params_file).with_seeds("mix")


def _over_seeds(found: list[dict], value: str = "value") -> dict[str, float]:
    mean, (low, high) = combine_seeds([one[value] for one in found], [(one["low"], one["high"]) for one in found])
    return {"value": mean, "low": low, "high": high}


def mixing_table(stage: Stage) -> pd.DataFrame:
    """Measures of how well languages share one space: rows measures, columns with and without CLR and their paired difference."""
    mixing = series(stage, "mixing.json")
    paired = mixing["with CLR - without CLR"]
    return pd.DataFrame(
        {"measure": measure.replace("_", " ").replace("r1", "R@1")}
        | measured("with CLR", found)
        | measured("without CLR", mixing["without CLR"][measure])
        | measured("difference", paired.get(measure), value="difference")
        | {"chance": found.get("chance")}
        for measure, found in mixing["with CLR"].items()
        if measure != "r1_matrix"
    )


def r1_table(stage: Stage, arm: str = "with CLR") -> pd.DataFrame:
    """Cross-lingual R@1 from the language of the row to that of the column."""
    table = pd.DataFrame(series(stage, "mixing.json")[arm]["r1_matrix"]).T
    return table[table.index].rename_axis("from").reset_index()


def neighbours(stage: Stage) -> str:
    """The sentence above the UMAP: what a neighbourhood holds, without and with CLR."""
    mixing = series(stage, "mixing.json")
    without, with_ = (mixing[arm]["entropy"]["value"] for arm in ("without CLR", "with CLR"))
    does = "merge" if with_ >= 0.5 > without else "lie apart in both" if with_ < 0.5 else "are mixed in both"
    texts = "scripture, aligned verse by verse" if mixing["texts"] == "heldout" and stage.params.data.scripture else mixing["texts"]
    entropy = f"the entropy of a text's neighbours is {without:.2f} without CLR and {with_:.2f} with it (1 is an even mix)"
    return f"The languages {does}: {entropy}. Texts: {texts}."


def umap(stage: Stage) -> Drawing:
    """The same texts embedded without and with CLR, projected by UMAP, coloured by language; numbers of the vectors above each."""
    points, numbers = read(stage.path / "points.parquet"), series(stage, "mixing.json")
    colours = language_colours(sorted({row["lang"] for row in points}))
    with style():
        drawing = Drawing(figsize=(10.2, 4.9))
        for axis, arm in zip(drawing.subplots(1, 2), ARMS, strict=True):
            for number, (language, colour) in enumerate(colours.items()):
                own = [(row["x"], row["y"]) for row in points if row["model"] == arm and row["lang"] == language]
                axis.scatter(*zip(*own, strict=True), s=11, color=colour, marker=MARKERS[number % len(MARKERS)], label=language, alpha=0.75,
                             linewidths=0)  # fmt: skip
                if arm == ARMS[0]:  # apart without CLR: a cluster is named where it is; with CLR a name would stand nowhere
                    axis.annotate(language, np.median(own, axis=0), weight="bold", ha="center", va="center", color=INK,
                                  bbox={"boxstyle": "round,pad=0.15", "facecolor": PAPER, "edgecolor": colour})  # fmt: skip
            found = {metric: numbers[arm][metric]["value"] for metric in ("purity", "entropy", "mean_r1")}
            chance = numbers[arm]["purity"]["chance"]
            axis.set_title(
                f"{arm}\npurity {found['purity']:.2f} (chance {chance:.2f}), entropy {found['entropy']:.2f}, R@1 {found['mean_r1']:.2f}"
            )
            axis.set(xlabel="UMAP 1", ylabel="UMAP 2", xticks=[], yticks=[])
        drawing.suptitle(f"{numbers['texts']}, {len(points) // 2} texts in {len(colours)} languages", x=0.01, ha="left")
        drawing.legend(*axis.get_legend_handles_labels(), loc="outside right center", title="language", markerscale=1.8)
        return drawing


def weakest_pair(stage: Stage) -> str:
    """R@1 without and with CLR, and the pair of languages that finds its translations least."""
    without, own = (series(stage, "mixing.json")[arm] for arm in ARMS)
    pairs = {(a, b): value for a, row in own["r1_matrix"].items() for b, value in row.items() if a != b}
    worst = min(pairs, key=pairs.get)
    return (
        f"CLR takes mean R@1 from {without['mean_r1']['value']:.2f} to {own['mean_r1']['value']:.2f}; the weakest pair with it is "
        f"{worst[0]} to {worst[1]}, {pairs[worst]:.2f}."
    )


def r1_matrix(stage: Stage) -> Drawing:
    """R@1 between each ordered pair of languages, without and with CLR: from the language of the row to that of the column."""
    numbers = series(stage, "mixing.json")
    names = sorted(numbers[ARMS[0]]["r1_matrix"])
    with style():
        drawing = Drawing(figsize=(10.4, 4.6))
        axes: list[Axes] = list(drawing.subplots(1, 2))
        for axis, arm in zip(axes, ARMS, strict=True):
            matrix = np.array([[numbers[arm]["r1_matrix"][a].get(b, np.nan) for b in names] for a in names])
            image = axis.imshow(matrix, vmin=0, vmax=1, cmap=matplotlib.colormaps["cividis"])
            for (row, column), value in np.ndenumerate(matrix):
                text = "" if np.isnan(value) else f"{value:.2f}".lstrip("0") if value < 1 else "1"
                axis.text(column, row, text, ha="center", va="center", fontsize=7.5, color="white" if value < 0.55 else "black")
            axis.set_xticks(range(len(names)), names)
            axis.set_yticks(range(len(names)), names)
            axis.set(xlabel="to", ylabel="from", title=f"{arm}: mean R@1 {numbers[arm]['mean_r1']['value']:.2f}")
            axis.grid(False)
        drawing.colorbar(image, ax=axes, label="R@1", shrink=0.8)
        return drawing
