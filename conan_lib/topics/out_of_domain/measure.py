"""Stage out_of_domain: our checkpoints and the peers on sets that nothing was trained on. Run: `conan-lib train out_of_domain FILE`."""

from conan_lib.evaluation.bigbench import find_archive
from conan_lib.evaluation.checkpoints import checkpoint_encoder, checkpoints
from conan_lib.evaluation.metrics import is_main
from conan_lib.evaluation.peers import score_peers
from conan_lib.evaluation.scores import provenance, score
from conan_lib.evaluation.tasks import load_tasks
from conan_lib.files import read_json, write_json
from conan_lib.stages import Stage, computes
from conan_lib.topics.out_of_domain.sets import write_sets

BATCH_SIZE = 128
"""Texts that our checkpoints encode at once; changes no result."""


@computes
def evaluate_out_of_domain(stage: Stage) -> dict:
    """Sample the sets out of the archive, then score every checkpoint and peer on them through mteb.

    Writes eval/ (the samples with their relevance judgements), mteb/, items/ and scores.json. Killed and run again, it goes on with the
    first (model, task) that mteb's files lack.

    Raises:
        UserError: the archive is not there, or not bigbench 1.0.0; a model or a peer's package is missing.
    """
    params, index = stage.out_of_domain, stage.path / "eval" / stage.tasks.split / "tasks.json"
    archive = None if index.is_file() else find_archive(params.archive, "out_of_domain.archive", "")
    if not index.is_file():
        write_sets(stage.path, archive, params, stage.tasks.split)

    def load(queries: int | None = None) -> list:
        return load_tasks(stage.path, stage.tasks, queries)

    tasks = load()
    rows = []
    for name in checkpoints(stage):
        encoder = checkpoint_encoder(stage, name, BATCH_SIZE).kept_in(stage.path)
        rows += score(encoder, tasks, stage.path, stage.tasks, BATCH_SIZE)
    rows += score_peers(stage, params.peers, load)
    write_json(stage.path / "scores.json", rows)
    entries = read_json(index)
    main: dict[str, dict] = {}
    for row in rows:
        if is_main(row):
            main.setdefault(row["model"], {})[row["task"]] = row["value"]
    return {"sets": {entry["name"]: entry["rows"] for entry in entries}, "models": provenance(stage.path), "scores": main}
