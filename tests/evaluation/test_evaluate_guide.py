"""Invariant: the code of docs/evaluate.md runs as it stands, on small data and a random model."""

import re
from pathlib import Path

GUIDE = (Path(__file__).parents[2] / "docs" / "evaluate.md").read_text(encoding="utf-8")


def test_the_guide_runs(ready, tmp_path, monkeypatch, capsys):
    inputs = ready("evaluate").inputs
    (tmp_path / "artefacts").mkdir()
    (tmp_path / "artefacts" / "heldout").symlink_to(inputs["heldout"].path.parent)
    (tmp_path / "my-model").symlink_to(inputs["supervised"].path / "model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL):
        exec(compile(block, "docs/evaluate.md", "exec"), names)
    tasks = {result.task_name for result in names["results"].task_results}
    assert tasks == {"bible-clr", "wiki-retrieval", "wiki-reranking", "topics", "topics-clusters", "lee"}
    assert names["numbers"]["purity"]["low"] <= names["numbers"]["purity"]["value"]
    out = capsys.readouterr().out
    assert "purity {'value': " in out and "\nlee " in out
