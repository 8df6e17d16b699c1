"""Local mteb tasks from the held-out sets of stage `heldout`.

Each local task is a subclass of mteb's own task with `load_data` replaced by our files, so that scores, protocols and result files are
mteb's. Beside the scores it writes the value of every query or text (`items`), which intervals and paired differences are made from.
"""

from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict
from mteb._set_seed import _set_seed
from mteb.abstasks import AbsTaskClassification, AbsTaskClustering, AbsTaskRetrieval, AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata

from conan_lib.data.records import read, read_table
from conan_lib.errors import UserError
from conan_lib.evaluation.encoder import iso_code
from conan_lib.evaluation.metrics import METRICS
from conan_lib.evaluation.suites import check_prompts, load_suite
from conan_lib.files import read_json, write_json
from conan_lib.params.evaluation import TasksParams

MTEB_TYPE = {"retrieval": "Retrieval", "crosslingual": "Retrieval", "reranking": "Reranking", "classification": "Classification",
             "clustering": "Clustering", "sts": "STS"}  # fmt: skip


def load_tasks(folder: Path, params: TasksParams, queries_per_language: int | None = None) -> list:
    """The local tasks of a `heldout` artefact, in the order of its tasks.json.

    Args:
        folder: the artefact of stage `heldout`.
        params: split and seed.
        queries_per_language: a smaller limit than the parameters', for a slow model.

    Returns:
        mteb tasks; each has `kind` (retrieval, crosslingual, ...) and `items` (folder of the values of single queries, or None).

    Raises:
        UserError: tasks.json is missing, damaged or empty, or names a type of task that we do not have.
    """
    index = folder / "eval" / params.split / "tasks.json"
    entries = read_json(index)
    if not entries:
        raise UserError(f"{index}: no tasks for split {params.split}: raise data.heldout_share or data.max_documents")
    tasks = []
    for entry in entries:
        if entry["type"] not in CLASSES:
            raise UserError(f"{index}: task {entry['name']}: unknown type {entry['type']!r}; known: {', '.join(CLASSES)}")
        task = CLASSES[entry["type"]](entry, index.parent / entry["name"], params.split, params.seed)
        if entry["type"] == "crosslingual":
            task.queries_per_language = min(params.queries_per_language, queries_per_language or params.queries_per_language)
        elif entry["type"] == "classification":
            task.n_experiments = params.experiments
        elif entry["type"] == "clustering":
            task.n_clusters = params.experiments  # mteb's name for the number of clusterings
        tasks.append(task)
    return tasks


def open_tasks(folder: Path, params: TasksParams, queries_per_language: int | None = None) -> list:
    """What `tasks.suite` names: the local tasks of the artefact `folder`, or one of the paper's suites from the hub.

    Raises:
        UserError: see load_tasks and load_suite; or a prompt is for no task.
    """
    tasks = load_tasks(folder, params, queries_per_language) if params.suite == "embedded" else load_suite(params.suite)
    check_prompts(params.prompts or {}, tasks)
    return tasks


class LocalTask:
    """What our tasks share: metadata from tasks.json, a seed that does not depend on what ran before, and the values of single items."""

    kind: str
    items: Path | None = None

    def __init__(self, entry: dict, folder: Path, split: str, seed: int):
        self.folder, self.split = folder, split
        self.metadata = _metadata(entry, self.kind, folder, split, self._languages(entry))
        super().__init__(seed=seed)

    def _languages(self, entry: dict) -> list[str] | dict[str, list[str]]:
        """mteb's codes of a task in one subset."""
        return _codes(entry.get("languages") or [entry["lang"]])

    def _table(self, name: str, columns: list[str]):
        table = read_table(self.folder / f"{name}.parquet")
        missing = set(columns) - set(table.column_names)
        if missing:
            raise UserError(f"{self.folder / name}.parquet: no column {', '.join(sorted(missing))}; found {', '.join(table.column_names)}")
        return Dataset(table.select(columns))

    def evaluate(self, *args, **kwargs):
        self.rng_state, self.np_rng = _set_seed(self.seed)  # as new: neither the task before nor a resumed run changes the samples
        return super().evaluate(*args, **kwargs)

    def unload_data(self) -> None:
        """Nothing: the next model reads the same data (and mteb's own would drop our metadata)."""

    def _keep(self, subset: str, ids: list, clusters: list | None = None, **values) -> None:
        """Write the values of single items, before mteb caches the score: a cached score always has them."""
        if self.items is not None:
            path = self.items / self.metadata.name / f"{subset}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"ids": ids, "clusters": clusters, **{name: [float(v) for v in row] for name, row in values.items()}})


class Retrieval(LocalTask, AbsTaskRetrieval):
    """queries.parquet, corpus.parquet, qrels.parquet."""

    kind = "retrieval"
    k_values = (1, 10)  # each further depth costs mteb a tenth of a second a subset

    def load_data(self, num_proc=None, **kwargs) -> None:
        if self.data_loaded:
            return
        self.dataset = {"default": {self.split: self._split(self._table("queries", ["id", "text"]), self._relevant())}}
        self.data_loaded = True

    def _relevant(self) -> dict[str, dict[str, int]]:
        relevant: dict[str, dict[str, int]] = {}
        for row in read(self.folder / "qrels.parquet"):
            relevant.setdefault(row["query_id"], {})[row["corpus_id"]] = int(row["score"])
        return relevant

    def _split(self, queries: Dataset, relevant: dict, top_ranked: dict | None = None, corpus: Dataset | None = None) -> dict:
        corpus = corpus if corpus is not None else self._table("corpus", ["id", "text"])
        keep = set(queries["id"][:])
        return {
            "queries": queries,
            "corpus": corpus,
            "relevant_docs": {query: docs for query, docs in relevant.items() if query in keep},
            "top_ranked": top_ranked,
        }

    def task_specific_scores(self, scores, qrels, results, hf_split, hf_subset) -> dict[str, float]:
        """mteb's hook after scoring: `scores` has every metric of every query. Queries with the same relevant passage are one cluster."""
        ids = sorted(scores)
        values = {metric: [scores[query][_trec(metric)] for query in ids] for metric in METRICS[self.kind]}
        self._keep(hf_subset, ids, [min(qrels[query]) for query in ids], **values)
        return {}


class CrossLingual(Retrieval):
    """Queries in many languages, one pivot corpus. A subset for each pair of languages, "de-en"."""

    kind = "crosslingual"
    queries_per_language: int | None = None

    def _languages(self, entry):
        pivot = entry["lang"]
        queries = sorted(set(read_table(self.folder / "queries.parquet").column("lang").to_pylist()))
        return {f"{language}-{pivot}": _codes([language, pivot]) for language in queries}

    def load_data(self, num_proc=None, **kwargs) -> None:
        if self.data_loaded:
            return
        relevant = self._relevant()
        queries = self._table("queries", ["id", "text", "lang"])
        keep = self._chosen(relevant)
        corpus = self._table("corpus", ["id", "text"])
        rows = {subset: [] for subset in self.hf_subsets}
        subsets = {language_of(subset): subset for subset in rows}
        for number, (query, language) in enumerate(zip(queries["id"][:], queries["lang"][:], strict=True)):
            if language in subsets and query in relevant and keep.intersection(relevant[query]):
                rows[subsets[language]].append(number)
        queries = queries.remove_columns("lang")
        table = queries.data.table  # Dataset.select would leave a view, which is read row by row each time
        chosen = {subset: Dataset(table.take(n)) for subset, n in rows.items()}
        self.dataset = {s: {self.split: self._split(q, relevant, corpus=corpus)} for s, q in chosen.items()}
        self.data_loaded = True

    def _chosen(self, relevant: dict) -> set[str]:
        """Passages whose queries are asked: all, or as many as asked for, spread evenly."""
        passages = sorted({passage for passages in relevant.values() for passage in passages})
        n = min(self.queries_per_language or len(passages), len(passages))
        return {passages[int(i)] for i in np.linspace(0, len(passages) - 1, n)}


class Reranking(Retrieval):
    """Retrieval among the candidates of top_ranked.parquet (mteb 2 has no class of its own for it)."""

    kind = "reranking"
    k_values = (1, 10, 1000)  # mteb always reports recall at 1

    def load_data(self, num_proc=None, **kwargs) -> None:
        if self.data_loaded:
            return
        top_ranked = {row["query_id"]: list(row["corpus_ids"]) for row in read(self.folder / "top_ranked.parquet")}
        split = self._split(self._table("queries", ["id", "text"]), self._relevant(), top_ranked)
        self._top_k = max(self._top_k, len(split["corpus"]))  # a ranker of the whole corpus (BM25) must reach every candidate
        self.dataset = {"default": {self.split: split}}
        self.data_loaded = True


class Classification(LocalTask, AbsTaskClassification):
    """train.parquet and test.parquet with text and label. mteb's protocol: logistic regression on 8 texts of each label, several times."""

    kind = "classification"

    def load_data(self, num_proc=None, **kwargs) -> None:
        if self.data_loaded:
            return
        train, test = (self._table(name, ["text", "label"]) for name in ("train", "test"))
        labels = [d["label"][:] for d in (train, test)]
        numbers = {label: number for number, label in enumerate(sorted(set(labels[0]) | set(labels[1]), key=str))}
        numbered = [
            Dataset.from_dict({"text": d["text"][:], "label": [numbers[label] for label in own]})
            for d, own in zip((train, test), labels, strict=True)
        ]
        self.dataset = DatasetDict({"train": numbered[0], self.split: numbered[1]})
        self.data_loaded = True

    def _evaluate_subset(self, model, data_split, *, hf_subset, **kwargs):
        self._correct: list[np.ndarray] = []
        scores = super()._evaluate_subset(model, data_split, hf_subset=hf_subset, **kwargs)
        correct = np.mean(self._correct, axis=0)  # of each text, over the experiments
        self._keep(hf_subset, list(range(len(correct))), accuracy=correct)
        return scores

    def _calculate_scores(self, y_test, y_pred):
        y_test = np.asarray(y_test[:])  # a lazy column, which each of a dozen metrics would read row by row
        self._correct.append(y_test == y_pred)
        return super()._calculate_scores(y_test, y_pred)


class Clustering(LocalTask, AbsTaskClustering):
    """test.parquet with text and label. mteb's protocol: k-means on samples with replacement of the set's size; V-measure."""

    kind = "clustering"
    max_fraction_of_documents_to_embed = None
    input_column_name = "text"
    label_column_name = "label"

    def load_data(self, num_proc=None, **kwargs) -> None:
        if self.data_loaded:
            return
        texts = self._table("test", ["text", "label"])
        self.max_documents_per_cluster = len(texts)
        self.dataset = DatasetDict({self.split: texts})
        self.data_loaded = True

    def _evaluate_subset(self, model, data_split, *, hf_subset, **kwargs):
        self._keep(hf_subset, list(range(len(data_split))))
        return super()._evaluate_subset(model, data_split, hf_subset=hf_subset, **kwargs)


class STS(LocalTask, AbsTaskSTS):
    """test.parquet with sentence1, sentence2 and score in 0..1."""

    kind = "sts"
    max_score = 1

    def load_data(self, num_proc=None, **kwargs) -> None:
        if not self.data_loaded:
            self.dataset = DatasetDict({self.split: self._table("test", ["sentence1", "sentence2", "score"])})
            self.data_loaded = True

    def _evaluate_subset(self, model, data_split, *, hf_subset, **kwargs):
        result = super()._evaluate_subset(model, data_split, hf_subset=hf_subset, **kwargs)
        left, right = data_split["sentence1"][:], data_split["sentence2"][:]
        texts = {text: number for number, text in enumerate(dict.fromkeys([*left, *right]))}
        pairs = [[texts[a], texts[b]] for a, b in zip(left, right, strict=True)]
        self._keep(hf_subset, pairs, gold=data_split["score"], cosine=self._cosine)
        return result

    def _calculate_scores(self, scores, normalized_scores):
        self._cosine = scores["cosine_scores"]
        return super()._calculate_scores(scores, normalized_scores)


CLASSES = {task.kind: task for task in (Retrieval, CrossLingual, Reranking, Classification, Clustering, STS)}


def language_of(subset: str) -> str:
    """ "de-en" -> "de"; "default" stays."""
    return subset.split("-")[0]


def _metadata(entry: dict, kind: str, folder: Path, split: str, languages) -> TaskMetadata:
    licence = entry.get("licence") or "not stated"
    spelling = licence.lower().replace(" ", "-")
    try:
        return TaskMetadata(
            name=entry["name"],
            # the artefact's key names the content; there is no repository on the hub behind this task
            dataset={"path": f"local/{entry['name']}", "revision": folder.parents[2].name},
            description=f"{entry.get('note') or kind}; held-out text of {entry['source']}, licence: {licence}",
            type=MTEB_TYPE[kind],
            category="t2c" if kind in ("classification", "clustering") else "t2t",
            eval_splits=[split],
            eval_langs=languages,
            main_score=METRICS[kind][0],
            license=spelling if spelling in KNOWN_LICENCES else "not specified",
            annotations_creators="human-annotated" if kind == "sts" else "derived",
            sample_creation="human-translated" if kind == "crosslingual" else "found",
            dialect=[],
            bibtex_citation="",
        )
    except ValueError as error:
        raise UserError(f"{folder.parent / 'tasks.json'}: task {entry['name']}: {' '.join(str(error).split())}") from None


KNOWN_LICENCES = {"mit", "apache-2.0", "gpl-3.0", "lgpl-3.0", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0"}
"""Those of mteb's spellings that our sources have; another one stands in the description."""


def _codes(languages: list[str]) -> list[str]:
    """mteb's codes; "mul" (ISO 639-2, multiple languages) where none is named."""
    return list(dict.fromkeys(code for code in map(iso_code, languages) if code)) or ["mul-Zyyy"]


def _trec(metric: str) -> str:
    """mteb's name of a metric to trec_eval's: "ndcg_at_10" -> "ndcg_cut_10", "recall_at_10" -> "recall_10"."""
    name, k = metric.split("_at_")
    return f"{name}_{k}" if name == "recall" else f"{name}_cut_{k}"
