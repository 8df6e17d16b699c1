"""MKQA beside the paper's table. Three things are called so, and never share a column:

paper's protocol, paper's data     a passage that holds an answer string, MKQA's questions over the BEIR NQ passages
paper's protocol, other data       the same over the embedded questions and leads, or over a user's own files
mteb's MKQARetrieval               relevance judgements and passages of its own
"""

import math

import pandas as pd

from conan_lib.findings.blocks import Block, Figure, Missing, Table
from conan_lib.findings.plots import INK, PALETTE, Drawing, series, style
from conan_lib.findings.published import published
from conan_lib.findings.run import Run
from conan_lib.findings.scores import best_and_worst, crosslingual
from conan_lib.findings.tables import measured
from conan_lib.stages import Stage
from conan_lib.topics.mkqa.metrics import MEAN, METRICS

PAPER = "MKQA over NQ, answer match"
"""Header of every column of the paper's protocol on the paper's data."""
MTEB_TASK, MTEB_METRIC = "MKQARetrieval", "ndcg_at_10"
MTEB = "mteb's MKQARetrieval, its own judgements"
NO_HUB = "not run: needs the hub"
HOW = "With a hub: `conan-lib train mkqa params/paper.yaml` for ours by the paper's protocol"
NAMES = dict(zip(METRICS, ("R@20", "R@100", "nDCG@10"), strict=True))


def show(run: Run) -> dict:
    """The paper's table, the paper's languages, and ours by the same protocol on the data that there is."""
    return {"dots": _dots(run), "paper": _paper_table(run), "languages": _languages(run), "other": _other_data(run)}


def scores_table(stage: Stage) -> pd.DataFrame:
    """Stage mkqa by language: the three metrics with their 95 % intervals over questions, and what a random ranking would find."""
    rows = series(stage, "scores.json")
    table = []
    for lang in dict.fromkeys(row["language"] for row in rows):
        own = {NAMES[row["metric"]]: row for row in rows if row["language"] == lang}
        line = {"language": lang, "questions": own["R@20"]["n"]}
        for name, row in own.items():
            line |= measured(name, row)
        table.append(line | {f"{name}, random ranking": row["chance"] for name, row in own.items() if row["chance"] is not None})
    return pd.DataFrame(table[:1] if len(table) == 2 else table)  # one language is its own mean


def _dots(run: Run) -> Figure:
    """R@20 by language: the paper's two systems, and ours by the same protocol, on data of its own in a panel of its own."""
    rows = [row for row in run.file("mkqa", "scores.json") or [] if row["metric"] == METRICS[0] and row["language"] != MEAN]
    paper = published()["mkqa_languages"]
    with style():
        drawing = Drawing(figsize=(9.6, 3.0))
        widths = {"width_ratios": (3, 1)} if rows else {}
        left, *right = drawing.subplots(1, 2 if rows else 1, squeeze=False, **widths)[0]
        languages = [row[0] for row in paper.rows]
        for place, (name, marker) in enumerate(zip(paper.columns[1:], "Do", strict=True), 1):
            left.plot(languages, [row[place] for row in paper.rows], marker, color=PALETTE[2 - place], label=name, markersize=5)
        left.set(title="the paper, MKQA over NQ", ylabel="R@20 (%)")
        left.tick_params(axis="x", labelsize=7, rotation=60)
        left.legend(ncols=2)
        for axis in right:
            places = range(len(rows))
            axis.vlines(places, [100 * row["low"] for row in rows], [100 * row["high"] for row in rows], color=PALETTE[0])
            axis.plot(places, [100 * row["value"] for row in rows], "o", color=PALETTE[0], label="ours")
            axis.plot(places, [100 * (row["chance"] or math.nan) for row in rows], "_", color=INK, markersize=12, label="random ranking")
            axis.set_xticks(places, [row["language"] for row in rows])
            axis.set(
                title="ours, same protocol",
                ylabel="R@20 (%)",
                ylim=(0, 160 * max(row["high"] or row["value"] for row in rows)),
                xlim=(-0.6, len(rows) - 0.4),
            )
            axis.legend(fontsize=8)
    says = best_and_worst({row[0]: row[1] for row in paper.rows}, "The paper's R@20", 1)
    same = run.params.mkqa.source == "hub"
    apart = " The panels have different questions and passages: compare within a panel only." if rows and not same else ""
    caption = f"R@20 by language.{apart}"
    return Figure("mkqa_languages", caption, drawing, ("paper", *((run.key("mkqa"),) if rows else ())),
                  takeaway=f"{says} {'Ours: ' + _against_chance(run.file('mkqa', 'scores.json')) if rows else ''}".strip(),
                  numbers={"paper_mkqa_languages": {}, "mkqa_other_data": {}})  # fmt: skip


def _measured(run: Run) -> dict[str, dict[str, float]]:
    """Language -> metric -> percent, where stage mkqa has run on the paper's data."""
    if run.params.mkqa.source != "hub" or not run.finished("mkqa"):
        return {}
    found: dict[str, dict[str, float]] = {}
    for row in run.file("mkqa", "scores.json"):
        found.setdefault(row["language"], {})[row["metric"]] = 100 * row["value"]
    return found


def _why_not(run: Run) -> str:
    if run.params.mkqa.source == "hub":
        return run.unfinished("mkqa") or "not in this run"
    return NO_HUB


def _paper_table(run: Run) -> Table:
    """The paper's systems, and ours below them where it has run on the same data."""
    paper, own = published()["mkqa"], _measured(run).get(MEAN)
    ours = pd.DataFrame([[f"ours, {run.params.tier}", *map(own.get, METRICS)]] if own else [], columns=list(paper.columns), dtype=object)
    caption = paper.caption if own else f"{paper.caption} Ours: {_why_not(run)}. {HOW}."
    return Table(
        "paper_mkqa", caption, pd.concat([paper.frame, ours], ignore_index=True), ("paper", run.key("mkqa")), "not reported", decimals=1
    )


def _languages(run: Run) -> Table:
    """The paper's languages: its figures, ours by its protocol, by mteb's, and on the verses."""
    own, verses = _measured(run), crosslingual(run, "supervised")
    mteb = {
        row["subset"]: row for row in run.scores if (row["model"], row["task"], row["metric"]) == ("supervised", MTEB_TASK, MTEB_METRIC)
    }
    ours, theirs, verse = f"{PAPER}: R@20, ours", f"{MTEB}: nDCG@10, ours", "bible-clr, another task: R@10, ours"
    frame = pd.DataFrame(
        {
            "language": code,
            f"{PAPER}: R@20, Conan-v2": conan,
            f"{PAPER}: R@20, M3": m3,
            ours: own.get(code, {}).get(METRICS[0]),
            theirs: _percent(mteb.get(code)),
            verse: _percent(verses.get("zh" if code == "zh_cn" else code)),
        }
        for code, conan, m3 in published()["mkqa_languages"].rows
    )
    why = {ours: _why_not(run), theirs: NO_HUB, verse: run.unfinished("evaluate") or "not in this run"}
    caption = "MKQA by language, in percent. Other protocols and other tasks have columns of their own: compare columns of one name only. "
    caption += f"{HOW}, tasks.suite: MKQARetrieval for mteb's."
    return Table("paper_mkqa_languages", caption, frame, ("paper", run.key("mkqa"), run.key("evaluate")), why, decimals=1)


def _percent(row: dict | None) -> float | None:
    return 100 * row["value"] if row else None


def _other_data(run: Run) -> Block:
    """The paper's protocol on the embedded questions, or on a user's own files."""
    what = "The paper's protocol on the questions and passages that there are."
    if why := run.unfinished("mkqa"):
        return Missing(what, why)
    found = run.results("mkqa")
    if found["source"] == "hub":
        return Missing(what, "this run has the paper's own data, above")
    caption = (
        f"The paper's protocol on another benchmark, {found['benchmark']}: {found['questions_scored']:,} questions over "
        f"{found['passages']:,} passages. {_against_chance(run.file('mkqa', 'scores.json'))} Texts are "
        f"read up to {found['max_length']} tokens. {_held_out(found)}Shares, not percent. Not to be "
        "compared with the paper's table: in a small corpus a random ranking already finds what the last columns say."
    )
    return Table("mkqa_other_data", caption, scores_table(run.stages["mkqa"]), (run.key("mkqa"),))


def _against_chance(rows: list[dict]) -> str:
    """R@20 beside that of a random ranking, and what that says."""
    one = next((row for row in rows if (row["language"], row["metric"]) == (MEAN, METRICS[0])), None)
    if one is None or one["chance"] is None:
        return ""
    value, low, high, chance = (one[name] for name in ("value", "low", "high", "chance"))
    says = "at the level of chance" if low <= chance <= high else "above chance" if value > chance else "below chance"
    return f"R@20 is {value:.3f} [{low:.3f}, {high:.3f}], a random ranking finds {chance:.3f}: {says}."


def _held_out(found: dict) -> str:
    if found["source"] != "embedded":
        return ""
    questions, passages = found["questions_seen_in_training"], found["passages_seen_in_training"]
    languages = ", ".join(f"{lang} {n:,}" for lang, n in found["passages_by_language"].items())
    return (
        f"English questions whose answers some lead holds, of {found['questions_asked']:,}; leads in {languages}. Seen in training: "
        f"{questions:,} questions, {passages:,} leads. "
    )
