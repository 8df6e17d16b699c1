"""What is reported of each type of task, and which rows of scores.json stand for a task; free of mteb, for the report reads it too."""

METRICS = {
    "retrieval": ("ndcg_at_10", "recall_at_10"),
    "crosslingual": ("recall_at_10", "recall_at_1", "ndcg_at_10"),
    "reranking": ("map_at_1000",),
    "classification": ("accuracy",),
    "clustering": ("v_measure",),
    "sts": ("cosine_spearman",),
}
"""What is reported of each type of task, the main score first."""
MAIN_METRIC = {kind: metrics[0] for kind, metrics in METRICS.items()}
"""Type of task -> the metric that stands for it."""
MEAN = "mean"
"""The subset of a cross-lingual task that averages its languages."""


def is_whole(row: dict) -> bool:
    """A row of scores.json is of its task as a whole, not of one language."""
    return row["subset"] in ("default", MEAN)


def is_main(row: dict) -> bool:
    """It is the one row that stands for its model on its task: the main metric of the whole."""
    return is_whole(row) and row["metric"] == MAIN_METRIC.get(row["type"])
