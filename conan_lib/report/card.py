"""The card of the exported model: sizes, data, how to load it, measured results, limits."""

from conan_lib.report.render import template
from conan_lib.report.run import Run
from conan_lib.report.tables import crosslingual_table, score_table


def model_card(run: Run) -> str:
    """The README.md that lies beside the model, or one made from the run's numbers."""
    readme = run.stages["supervised"].path / "model" / "README.md"
    if run.finished("supervised") and readme.is_file():
        return readme.read_text(encoding="utf-8")
    rows = [row for row in run.scores if row["model"] == "supervised"]
    settings = run.file("supervised", "model/config_sentence_transformers.json") or {}
    return template("model_card.md.j2", html=False).render(
        params=run.params,
        missing=run.unfinished("supervised"),
        key=run.key("supervised"),
        data_key=run.key("data"),
        evaluate_key=run.key("evaluate"),
        prompts={name: text for name, text in (settings.get("prompts") or {}).items() if text},
        sources=run.file("data", "sources.json") or [],
        scores=score_table(rows).to_dict("records") if rows else [],
        crosslingual=crosslingual_table(rows).to_dict("records") if rows else [],
    )
