"""The practical section: how fast ours is beside its peers, and what smaller vectors keep (the paper's Table 5, claims C8 and C9)."""

import json
from collections.abc import Iterable
from dataclasses import replace

import pandas as pd

from conan_lib.errors import UserError
from conan_lib.findings.blocks import Block, Missing, Table, figure, table
from conan_lib.findings.plots import GREY, MARKERS, PALETTE, Drawing, series, style
from conan_lib.findings.published import published
from conan_lib.findings.run import Run
from conan_lib.findings.tables import measured, number, wide
from conan_lib.params import without_mrl
from conan_lib.stages import Stage, below_root, open_stage, project_root

OURS, WEAK, WHOLE = "supervised", "weak", "float32"
ARM = "supervised without MRL"
MINUTES_TEXTS = 100_000
"""Texts whose minutes are stated. The paper does not say how many its minutes are for."""
RATE, RATIO, MINUTES = "texts/s", "times ours", f"minutes for {MINUTES_TEXTS:,} texts"
SIGNIFICANT = (RATE, RATIO, MINUTES)
COLOURS = {"ours": PALETTE[0], "random weights": PALETTE[5], "peer": PALETTE[1]}


def show(run: Run) -> dict:
    """Speed side by side, recall against bytes, and the committed benchmarks up to the paper's size."""
    arm, paper = arm_without_mrl(run), published()["practical"]
    sizes = ("efficiency",)
    return {
        "minutes_texts": f"{MINUTES_TEXTS:,}",
        "paper": Table("paper_practical", paper.caption, paper.frame, ("paper",), "not reported", origin="the paper"),
        "speed": figure(run, "speed", "Encoding speed; dots: median of the rounds, lines: their range.", sizes, speed, ours_and_others,
                        {"speed": {}}),
        "speeds": table(run, "speed", "Size and speed, side by side in one run; in brackets the range of the rounds.", sizes,
                        lambda stage: speed_table(rows(stage)), "not stated", significant=SIGNIFICANT),
        "quality": _with_arm(figure(run, "quality", "R@10 against bytes per passage.", sizes, lambda stage: quality(stage, arm),
                                    smallest_kept, {"kept": {}, "quality": {}}), arm),
        "qualities": table(run, "quality", "R@10 of the supervised model by channels and precision.", sizes, quality_table,
                           differences=("difference",)),
        "kept": _with_arm(
            table(run, "kept", f"Share of the whole vector's R@10 that its first channels keep, {WHOLE}. {_arms(arm)}", sizes,
                  lambda stage: kept_table(stage, arm), "the whole vector finds nothing"), arm
        ),
        "benchmarks": benchmarks(),
    }  # fmt: skip


def arm_without_mrl(run: Run) -> Stage | None:
    """Stage efficiency of the same run trained without prefixes of the vector, where somebody has run it (params/ablations/no_mrl.yaml)."""
    stage = open_stage("efficiency", without_mrl(run.params))
    return stage if stage.finished and stage.key != run.stages["efficiency"].key else None


def rows(stage: Stage, name: str = "speed.json") -> list[dict]:
    """The rows of a result file.

    Raises:
        UserError: there are none.
    """
    if not (found := series(stage, name)):
        raise UserError(f"{stage.path / name}: no rows; smaller vectors are measured on the embedded tasks only")
    return found


def speed(stage: Stage) -> Drawing:
    """Texts per second of every system, the slowest at the bottom; parameters and width beside the name."""
    found = sorted(rows(stage), key=lambda row: row["rate"])
    labels = [f"{row['model']}\n{_short(row['parameters'])} parameters, {row['dim']} dims" for row in found]
    values = [row["rate"] for row in found]
    with style():
        drawn = Drawing(figsize=(6.8, 0.5 * len(found) + 1.0))
        axis = drawn.subplots()
        axis.hlines(range(len(found)), [row["low"] for row in found], [row["high"] for row in found], color=GREY, linewidth=2)
        dots = [axis.plot(row["rate"], place, "o", markersize=8, color=COLOURS[row["kind"]])[0] for place, row in enumerate(found)]
        for place, value in enumerate(values):
            axis.annotate(number(value, decimals=int(value < 10)), (found[place]["high"] or value, place), xytext=(9, 0),
                          textcoords="offset points", va="center")  # fmt: skip
        axis.set_yticks(range(len(found)), labels)
        axis.set_xscale("log")
        where = f"{found[0]['threads']} CPU threads" if found[0].get("device", "cpu") == "cpu" else "one GPU"
        axis.set(xlabel=f"texts per second, {where} (logarithmic)", title="encoding speed: ours and peers")
        axis.tick_params(axis="y", labelsize=8)
        axis.margins(x=0.15)
        axis.grid(axis="y", visible=False)
        kinds = [kind for kind in COLOURS if any(row["kind"] == kind for row in found)]
        drawn.legend([dots[[row["kind"] for row in found].index(kind)] for kind in kinds], kinds, loc="outside upper right", ncols=3)
        return drawn


def ours_and_others(stage: Stage) -> str:
    """How fast ours is, and how much faster or slower the others are."""
    found = rows(stage)
    ours, *others = found
    times = ", ".join(
        f"{row['model']} ({number(row['ratio'], decimals=2 if row['ratio'] < 0.95 else int(row['ratio'] < 10))})" for row in others
    )
    rate = (
        f"Ours ({_short(ours['parameters'])} parameters) encodes {number(ours['rate'], decimals=int(ours['rate'] < 10))} texts per second."
    )
    return f"{rate} The others, as multiples of it: {times}." if times else rate


def smallest_kept(stage: Stage) -> str:
    """What the shortest vector and the binary one keep, mean over tasks."""
    found = [row for row in rows(stage, "quality.json") if row["model"] == OURS]
    dims, widest = (pick(row["dim"] for row in found) for pick in (min, max))
    kept = [row["kept"] for row in found if (row["dim"], row["precision"]) == (dims, WHOLE) and row["kept"] is not None]
    return (
        f"The first {dims} of {widest} channels keep {100 * sum(kept) / len(kept):.0f} % of the whole vector's R@10, mean over tasks."
        if kept
        else ""
    )


def speed_table(found: Iterable[dict]) -> pd.DataFrame:
    """The paper's Table 5 for our systems: size, width, rate and ratio to the first system of the run with their range, minutes."""
    table = []
    for row in found:
        embedding = row["embedding_parameters"]
        sizes = {"parameters": row["parameters"], "without embeddings": None if embedding is None else row["parameters"] - embedding}
        line = {"model": row["model"], "what": row["kind"]} | sizes | {"dim": row["dim"], "max tokens": row["max_tokens"]}
        line |= measured(RATE, row, value="rate") | measured(RATIO, _part(row, "ratio"))
        line |= {MINUTES: MINUTES_TEXTS / row["rate"] / 60, "MRL": {None: "untrained", True: "yes", False: "no"}[row["mrl"]]}
        table.append(line | {"texts per call": row["texts"]})
    return pd.DataFrame(table, dtype=object)  # whole numbers stay whole beside empty cells


def quality(stage: Stage, arm: Stage | None = None) -> Drawing:
    """R@10 against bytes per passage, a panel for each task, a line for each precision; dashed: models trained without prefixes."""
    found = rows(stage, "quality.json")
    tasks, precisions = (list(dict.fromkeys(row[field] for row in found if row["model"] == OURS)) for field in ("task", "precision"))
    others = {f"{WEAK}, {WHOLE}": [row for row in found if row["model"] == WEAK]}
    if arm is not None:
        others[f"{ARM}, {WHOLE}"] = [row for row in rows(arm, "quality.json") if row["model"] == OURS]
    with style():
        drawn = Drawing(figsize=(4.0 * len(tasks) + 2.2, 3.4))
        for axis, task in zip(drawn.subplots(1, len(tasks), squeeze=False).flat, tasks, strict=True):
            lines = {one: [r for r in found if (r["model"], r["task"], r["precision"]) == (OURS, task, one)] for one in precisions}
            for number, (label, own) in enumerate(lines.items()):
                sizes, colour = [row["bytes"] for row in own], PALETTE[number]
                axis.plot(sizes, [row["value"] for row in own], marker=MARKERS[number], color=colour, label=label, markersize=4)
                axis.fill_between(sizes, [row["low"] for row in own], [row["high"] for row in own], color=colour, alpha=0.13, linewidth=0)
            for dashes, (label, all_tasks) in zip(("--", ":"), others.items(), strict=False):
                own = [row for row in all_tasks if (row["task"], row["precision"]) == (task, WHOLE)]
                axis.plot([row["bytes"] for row in own], [row["value"] for row in own], dashes, color=GREY, label=label)
            axis.set_xscale("log", base=2)
            sizes = sorted({row["bytes"] for row in found})
            axis.set_xticks(sizes, sizes)
            axis.minorticks_off()
            axis.set(xlabel="bytes per passage = MB for 1,000,000 passages", ylabel="R@10", ylim=(0, None), title=task)
        drawn.legend(*axis.get_legend_handles_labels(), loc="outside right upper")
        return drawn


def quality_table(stage: Stage) -> pd.DataFrame:
    """Ours by task, channels and precision: size of the index, R@10, and its difference to the whole vector."""
    return pd.DataFrame(
        {name: row[name] for name in ("task", "dim", "precision", "bytes")}
        | {"MB for 1M passages": row["index_mb"]}
        | measured("R@10", row)
        | measured("difference", _part(row, "difference"))
        for row in rows(stage, "quality.json")
        if row["model"] == OURS
    )


def kept_table(stage: Stage, arm: Stage | None = None) -> pd.DataFrame:
    """R@10 of the whole float32 vector, and the share of it that its first channels keep.

    Models: weak (trained on whole vectors), supervised, supervised without MRL where it was run."""
    found = rows(stage, "quality.json")
    if arm is not None:
        found += [row | {"model": ARM} for row in rows(arm, "quality.json") if row["model"] == OURS]
    found = [row for row in found if row["precision"] == WHOLE]
    width = max(row["dim"] for row in found)
    whole = [(row, "R@10, whole vector", row) for row in found if row["dim"] == width]
    kept = [(row, f"{row['dim']} dims", _part(row, "kept")) for row in found]
    return wide(({name: row[name] for name in ("task", "model")}, column, number) for row, column, number in [*whole, *kept])


def _part(row: dict, name: str) -> dict:
    """A number of a row that has several: {value, low, high}."""
    return {"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]}


def benchmarks() -> list[Block]:
    """The committed results of benchmarks/efficiency.py, one table for each device; what to run where there are none."""
    root = project_root()
    found = sorted((root / "benchmarks" / "results").glob("*/efficiency.json"))
    if not found:
        return [Missing("Sizes up to the paper's 1,499,205,120 parameters.", "not run: `python -m benchmarks.efficiency`")]
    made = []
    for path in found:
        results = json.loads(path.read_text(encoding="utf-8"))
        facts = ", ".join(str(results[name]) for name in ("device", "machine", "dtype", "date"))
        caption = f"Benchmark on texts of {results['length']} tokens ({facts}); times {results['baseline']}. {results['note']}"
        frame = speed_table(results["systems"])
        made.append(Table(f"benchmark_{path.parent.name}", caption, frame, (below_root(path),), "not stated", significant=SIGNIFICANT))
    return made


def _arms(arm: Stage | None) -> str:
    if arm is not None:
        return "The arm without MRL differs by its loss alone; weak is another stage."
    return "weak is another stage, so its row is no control; the control, params/ablations/no_mrl.yaml, was not run."


def _with_arm(block: Block, arm: Stage | None) -> Block:
    """The block, citing the arm too where it shows it."""
    if arm is None or isinstance(block, Missing):
        return block
    return replace(block, sources=(*block.sources, f"{arm.artefact.stage}/{arm.key}"))


def _short(number: int | None) -> str:
    if number is None:
        return "?"
    return f"{number / 1e6:.1f} M" if number >= 1e6 else f"{number / 1e3:.0f} k"
