"""`new` writes a file that `plan` takes: a start's own sizes, the machine's room, the pairs' lengths; what is there stays."""

import json

import pytest
from tiny_starts import save_start

from conan_lib.params import load_params


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return save_start("qwen3", tmp_path_factory.mktemp("starts") / "start")


@pytest.fixture
def own(project):
    rows = [{"query": f"question {n}", "pos": [f"the answer to question {n}, said at length"]} for n in range(40)]
    (project / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return project


def test_a_new_file_is_one_that_plan_takes(own, start, conan):
    code, out, err = conan("new", "my.yaml", "--start", start, "--data", "pairs.jsonl")
    assert code == 0, err
    params = load_params("my.yaml")
    assert (
        params.weak.max_steps == 3
        and params.supervised.matryoshka_dims[-1] == 16
        and "Next: conan-lib plan my.yaml" in " ".join(out.split())
    )
    code, out, err = conan("plan", "my.yaml")
    assert code == 0, err
    assert conan("new", "my.yaml", "--start", start, "--data", "pairs.jsonl")[::2] == (
        2,
        "conan-lib: my.yaml: exists: choose another name, or remove it\n",
    )


RECORDS = {
    "weak": {"title": "note {}", "content": "what note {} says"},
    "clr": {"query": "Frage {}", "query_lang": "de", "positive": "the answer to question {}"},
    "sts": {"sentence1": "sentence {}", "sentence2": "sentence {} again", "score": 4},
    "classification": {"text": "a text, {}", "label": 1},
    "clustering": {"text": "a text, {}", "label": 1},
    "sft": {"instruction": "Say {}.", "input": "", "output": "{}, as you wish."},
    "text": {"text": "Sentence {0} stands alone. The second of {0} says more."},
}


@pytest.mark.parametrize("task", RECORDS)
def test_a_new_file_for_any_task_is_one_that_plan_takes(project, start, conan, task):
    def record(n: int) -> dict:
        return {name: value.format(n) if isinstance(value, str) else n % 5 for name, value in RECORDS[task].items()}

    (project / "own.jsonl").write_text("".join(json.dumps(record(n)) + "\n" for n in range(80)))
    code, _, err = conan("new", "my.yaml", "--start", start, "--data", "own.jsonl", "--task", task)
    assert code == 0, err
    params = load_params("my.yaml")
    assert {row.task for row in params.data.sets} == {task} | ({"weak"} if task in ("clr", "sft", "text") else set())
    assert params.data.languages == (("en", "de") if task == "clr" else ("en",))
    assert (params.pretrain is not None, params.sft is not None) == (task == "text", task == "sft")
    assert params.data.sets[0].score_range == ((0, 5) if task == "sts" else None)
    code, out, err = conan("plan", "my.yaml")
    assert code == 0, err
    (weak,) = [line for line in out.splitlines() if line.split()[1:2] == ["weak"]]
    assert weak.endswith("passes the model through") == (task in ("sts", "classification", "clustering"))


def test_languages_and_folders_are_written_so_that_they_are_read_as_they_are(own, start, conan):
    """YAML takes a bare `no` for false, and a folder below another may look like a set of the hub."""
    folder = own / "my" / "pairs"
    folder.mkdir(parents=True)
    (own / "pairs.jsonl").rename(folder / "a.jsonl")
    code, _, err = conan("new", "my.yaml", "--start", start, "--data", "my/pairs", "--lang", "no")
    assert code == 0, err
    data = load_params("my.yaml").data
    assert data.languages == ("no",) and {(row.lang, row.from_, row.hub) for row in data.sets} == {("no", "./my/pairs", None)}


def test_few_pairs_fill_a_batch_also_when_the_teacher_has_dropped_some(own, start, conan):
    few = (own / "pairs.jsonl").read_text().splitlines(keepends=True)[:10]
    (own / "few.jsonl").write_text("".join(few))
    assert conan("new", "few.yaml", "--start", start, "--data", "few.jsonl")[0] == 0
    params = load_params("few.yaml")
    assert params.weak.batch_size <= 10 * (1 - params.weak.drop_percentile / 100) - 1


@pytest.mark.parametrize(
    ("option", "said"), [(("--start", "no-such"), "--start no-such: no such folder"), (("--data", "none.jsonl"), "none.jsonl")]
)
def test_a_mistake_is_one_line_and_nothing_is_written(own, start, conan, option, said):
    options = {"--start": start, "--data": "pairs.jsonl"} | dict([option])
    code, _, err = conan("new", "my.yaml", *(part for pair in options.items() for part in pair))
    assert code == 2 and said in err and err.count("\n") == 1 and not (own / "my.yaml").exists()
