"""The card of the exported model, in the hub's form: what it is and is not, how to load it, what was measured, where its limits are.

Every number in it is read from the run's parameters, manifests and result files.
"""

import re

import pandas as pd
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from conan_lib.attention.stock import FIRST_VERSION
from conan_lib.data.catalogue import origins
from conan_lib.evaluation.metrics import MAIN_METRIC, MEAN
from conan_lib.evaluation.statistics import LEVEL
from conan_lib.findings.blocks import Table
from conan_lib.findings.manifests import environment_table, stages_table, training_text
from conan_lib.findings.run import Run
from conan_lib.findings.scores import crosslingual_table, score_table
from conan_lib.findings.tables import measured, to_markdown
from conan_lib.model.backbone import parameter_audit
from conan_lib.report.render import template
from conan_lib.table import START

MODEL = "supervised"
TASK_TYPES = {"crosslingual": "Retrieval", "sts": "STS"}
"""The hub's name of a task type, where it is not ours with a capital."""
CODE_LICENCE = "apache-2.0"


def model_card(run: Run, folder: str | None = None, onnx: bool = False) -> str:
    """The model's README.md: metadata in YAML, then text; what has not been measured is named.

    Args:
        run: the run whose last checkpoint it is, finished or not.
        folder: where the code that loads it finds the model; the artefact's own folder by default.
        onnx: the folder holds onnx/model.onnx.
    """
    rows = [row for row in run.scores if row["model"] == MODEL]
    stages = run.stages[MODEL].lineage
    manifests = [stage.artefact.manifest for stage in stages.values() if stage.finished]
    text = _training_text(run)
    card = template("model_card.md.j2", html=False).render(
        metadata=_metadata(run, rows).to_yaml(),
        name=_name(run),
        folder=folder or f"artefacts/{run.key(MODEL)}/model",
        onnx=onnx,
        params=run.params,
        parameters=_parameters(run),
        transformers=FIRST_VERSION,
        backbone=run.backbone,
        start=run.results(START) if run.params.model else None,
        missing=run.unfinished(MODEL),
        key=run.key,
        prompts=_prompts(run),
        level=LEVEL,
        recall=MAIN_METRIC["crosslingual"],
        scores=_scores(rows),
        dims=_dims(run),
        peers=_peers(run),
        languages=_languages(run, rows, text),
        domains=_domains(text),
        probes=_probes(run),
        sources=_sources(run),
        tasks=run.results(MODEL),
        stages=_markdown(stages_table(stages)[["stage", "artefact", "status", "seconds", "seed"]], "none"),
        seconds=sum(manifest["seconds"] for manifest in manifests),
        environment=_markdown(environment_table(manifests)),
    )
    return str(ModelCard(card))  # reads the metadata: a card that the hub would refuse is an error here


def _name(run: Run) -> str:
    return f"conan-open-{run.params.tier}"


def _metadata(run: Run, rows: list[dict]) -> ModelCardData:
    """The YAML head: the main metric of every task, cross-lingual tasks also by language."""
    results = [
        EvalResult(
            task_type=TASK_TYPES.get(row["type"], row["type"].capitalize()),
            dataset_type=row["task"],
            dataset_name=row["task"],
            dataset_config=row["subset"],
            dataset_split=run.params.tasks.split,
            dataset_revision=run.key("heldout"),
            metric_type=row["metric"],
            metric_value=row["value"],
        )
        for row in rows
        if row["metric"] == MAIN_METRIC.get(row["type"]) and row["value"] is not None
    ]
    return ModelCardData(
        model_name=_name(run),
        language=list(run.params.data.languages),
        license=_licence(run),
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=["sentence-transformers", "sentence-similarity", "feature-extraction", "cross-lingual", "conan-embedding-v2", "reproduction"],
        eval_results=results or None,
    )


def _licence(run: Run) -> str:
    """The weights' licence by its id at the hub; `other`, which the text of the card explains, where the start's has none."""
    if run.params.model is None:
        return CODE_LICENCE
    stated = str(run.results(START).get("licence", "")).lower()
    return stated if re.fullmatch(r"[a-z][a-z0-9.-]+", stated) else "other"


def _parameters(run: Run) -> int:
    """Weights of the encoder: a head of its own is not exported."""
    parts = parameter_audit(run.backbone)
    return sum(parts.values()) - parts["head"]


def _prompts(run: Run) -> dict[str, str]:
    settings = run.file(MODEL, "model/config_sentence_transformers.json") or {}
    return {name: text for name, text in (settings.get("prompts") or {}).items() if text}


def _markdown(frame: pd.DataFrame, missing: str | dict[str, str] = "not measured") -> str:
    """A frame as a Markdown table; empty where it has no rows."""
    return to_markdown(Table("", "", frame, (), missing)) if len(frame) else ""


def _scores(rows: list[dict]) -> str:
    frame = score_table(rows)
    return _markdown(frame.rename(columns=dict(zip(measured(MODEL, None), measured("value", None), strict=True))))


def _dims(run: Run) -> str:
    """A row for each task: its recall by the number of dims kept."""
    table: dict[str, dict] = {}
    for row in run.file("efficiency", "quality.json") or []:
        if (row["model"], row["precision"]) == (MODEL, "float32"):
            table.setdefault(row["task"], {"task": row["task"]})[f"{row['dim']} dims"] = row["value"]
    return _markdown(pd.DataFrame(list(table.values())))


def _peers(run: Run) -> str:
    """Cross-lingual means of models that others made, on the same task."""
    rows = [
        {"model": row["model"], **measured("value", row), "queries": row["n"], "note": row.get("note")}
        for row in run.file("peers", "scores.json") or []
        if row["type"] == "crosslingual" and row["subset"] == MEAN and row["metric"] == MAIN_METRIC["crosslingual"]
    ]
    return _markdown(pd.DataFrame(rows), {"value": "not measured", "queries": "none"})


def _probes(run: Run) -> str:
    """A sentence and the same with another number, unit or a negation: the mean cosine, and how often a paraphrase is nearer."""
    found = run.file("probes", "probes.json") if "probes" in run.stages else None
    if not found:
        return ""
    own = found["models"][MODEL]
    rows = [
        {"pair": pair, "pairs": found["pairs"][pair]}
        | measured("mean cosine", row)
        | measured("probability that a paraphrase is nearer", own["auc"].get(pair))
        for pair, row in own["cosine"].items()
    ]
    return _markdown(pd.DataFrame(rows), "reference")


def _languages(run: Run, rows: list[dict], text: pd.DataFrame) -> str:
    """Each language's training text, its largest source, and how well its queries find their passage."""
    found = crosslingual_table(rows).to_dict("records") if rows else []
    recall = f"{MAIN_METRIC['crosslingual']} of its queries"
    table = [
        {
            "language": language,
            "characters of training text": text[language].sum(),
            "share (%)": 100 * text[language].sum() / text.to_numpy().sum(),
            "largest source": text[language].idxmax(),
            "its share (%)": 100 * text[language].max() / text[language].sum(),
            recall: found[0].get(language) if found else None,
        }
        for language in run.params.data.languages
        if language in text
    ]
    return _markdown(pd.DataFrame(table), {recall: "the passages' language" if found else "not measured"})


def _domains(text: pd.DataFrame) -> dict[str, float]:
    """The share of each source in the training text, largest first."""
    by_source = text.sum(axis=1).sort_values(ascending=False)
    return (by_source / by_source.sum()).to_dict()


def _training_text(run: Run) -> pd.DataFrame:
    """Characters of the documents that pretraining reads, source by language; empty where stage corpus has not finished."""
    if not run.finished("corpus"):
        return pd.DataFrame()
    # "bible, parallel": the same text, verse by verse
    return training_text(run.stages["corpus"]).groupby(lambda source: source.partition(",")[0]).sum()


def _sources(run: Run) -> str:
    """Sources with one package and licence as one row: their languages, documents and characters together."""
    merged: dict[tuple, dict] = {}
    for row in origins(run.stages["corpus"]) if run.finished("corpus") else ():
        package = " ".join(filter(None, (row.get("package"), row.get("version")))) or "no package"
        licence = row.get("licence") or "not stated"
        one = merged.setdefault(
            (row["name"], package, licence),
            {"name": row["name"], "package": package, "licence": licence, "languages": [], "documents": 0, "characters": 0},
        )
        one["languages"] += [language for language in row.get("languages") or [] if language not in one["languages"]]
        one["documents"] += row.get("documents") or 0
        one["characters"] += row.get("chars") or 0
    return _markdown(pd.DataFrame(list(merged.values())))
