"""The one table of stages: what computes each, what its key hashes, what it is made from, and which notebook shows it.

corpus text -> tokenizer -> language model -> embedder -> numbers. Everything that walks over stages reads this table: the runners, the
checks, the command line, the report and its drawing. A new stage is a function and a row.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Spec:
    """One stage.

    Attributes:
        function: `module:name` of the one call that computes it; imported when it is needed, so that a machine which only trains can do
            without the rest.
        version: rises when the meaning of the stage's code changes, so that old artefacts are not taken for new ones.
        sections: the sections of the parameters that its key hashes, and that it may read.
        inputs: the stages that it is made from.
        notebook: the notebook that runs it; None: no notebook does, it is asked for by name or by a grid.
        like: another stage whose code, folder and version it has, under changed parameters.
    """

    function: str
    version: int
    sections: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    notebook: str | None = None
    like: str | None = None


CHECKPOINTS = ("pretrain", "sft", "weak", "supervised")
"""Stages whose models are compared, in the order of training."""
START = "start"
"""The stage of a language model that others made. It is an input only where the parameters name one: from scratch it holds nothing."""
SCORED = {"score": "supervised", "score_weak": "weak", "score_plain": "plain"}
"""Stage that scores one checkpoint -> the checkpoint. A grid ends in one of them."""
SUPERVISED = Spec(
    "conan_lib.training.contrastive:train_supervised", 1, ("supervised",), ("sets", "weak", "mine"), "06_supervised"
)  # fmt: skip

TABLE: dict[str, Spec] = {
    "corpus": Spec("conan_lib.data.build:build_corpus", 1, ("data",), (), "01_data"),
    "sets": Spec("conan_lib.data.build:build_sets", 1, ("sets",), ("corpus",), "01_data"),
    "heldout": Spec("conan_lib.data.build:build_heldout", 1, ("heldout",), ("corpus",), "01_data"),
    START: Spec("conan_lib.model.start:prepare_start", 2, ("model",), (), "02_tokenizer"),
    "tokenizer": Spec("conan_lib.model.tokenizer:train_tokenizer", 1, ("tokenizer",), ("corpus", START), "02_tokenizer"),
    "pretrain": Spec("conan_lib.training.lm:pretrain", 1, ("backbone", "pretrain"), ("corpus", START, "tokenizer"), "03_pretrain"),
    "sft": Spec("conan_lib.training.lm:finetune", 1, ("sft",), ("sets", "pretrain"), "04_sft"),
    "teacher": Spec("conan_lib.data.teacher:score_pairs", 1, ("teacher",), ("sets",), "05_weak"),
    "weak": Spec("conan_lib.training.contrastive:train_weak", 1, ("weak",), ("sets", "sft", "teacher"), "05_weak"),
    "mine": Spec("conan_lib.training.mine:mine_negatives", 1, ("mine",), ("sets", "weak"), "06_supervised"),
    "supervised": SUPERVISED,
    "peers": Spec("conan_lib.topics.retrieval.measure:evaluate_peers", 1, ("tasks", "peers"), ("heldout",), "07_eval"),
    "evaluate": Spec(
        "conan_lib.topics.retrieval.measure:evaluate", 2, ("tasks", "evaluation"), ("corpus", "heldout", START, *CHECKPOINTS), "07_eval"
    ),
    "efficiency": Spec(
        "conan_lib.topics.speed.measure:measure_efficiency",
        2,
        ("tasks", "efficiency"),
        ("corpus", "heldout", "weak", "supervised"),
        "07_eval",
    ),
    "mkqa": Spec("conan_lib.topics.mkqa.measure:evaluate_mkqa", 1, ("tasks", "mkqa"), ("corpus", "supervised"), "07_eval"),
    "probes": Spec("conan_lib.topics.limits.measure:probe", 1, ("probes",), ("corpus", START, *CHECKPOINTS), "07_eval"),
    "supervised_no_clr": Spec(**vars(SUPERVISED) | {"notebook": "08_clr_umap", "like": "supervised"}),
    "mix": Spec("conan_lib.topics.mixing.measure:mix", 2, ("mixing",), ("heldout", "supervised", "supervised_no_clr"), "08_clr_umap"),
    "plain": Spec("conan_lib.training.plain:train_plain", 1, ("weak", "supervised", "plain"), ("sets", "sft", "teacher", "mine")),
    **{
        name: Spec("conan_lib.topics.retrieval.measure:score_checkpoint", 1, ("tasks",), ("corpus", "heldout", checkpoint))
        for name, checkpoint in SCORED.items()
    },
    "curve": Spec("conan_lib.topics.mask.curve:measure_curve", 2, ("curve",), ("heldout", "sft", "weak")),
    "out_of_domain": Spec(
        "conan_lib.topics.out_of_domain.measure:evaluate_out_of_domain", 1, ("tasks", "out_of_domain"), ("corpus", START, *CHECKPOINTS)
    ),
}
"""Stage -> its row, in an order that can run."""

RUN = tuple(name for name, spec in TABLE.items() if spec.notebook)
"""The stages of a whole run. The others: a grid scores one checkpoint of each of its cells and may follow its weak stage; `plain` trains a
second time, to compare with; and out-of-domain sets need an archive that is not there everywhere."""


def notebooks() -> dict[str, tuple[str, ...]]:
    """Notebook -> the stages that it runs, in order."""
    names = dict.fromkeys(TABLE[name].notebook for name in RUN)
    return {notebook: tuple(name for name in RUN if TABLE[name].notebook == notebook) for notebook in names}
