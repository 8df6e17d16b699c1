"""`new` writes a file that `plan` takes: a start's own sizes, the machine's room, the pairs' lengths; what is there stays."""

import json
import shutil

import pytest
import torch
import yaml
from tiny_starts import save_start
from transformers import AutoTokenizer

from conan_lib.data.sampling import drawn_split
from conan_lib.params import load_params
from conan_lib.run.use import new
from conan_lib.run.use.models import read_pairs


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
    train = sum(drawn_split(row["group"], params.data.heldout_share, 0) == "train" for row in read_pairs(own / "pairs.jsonl"))
    assert params.weak.batch_size < train <= params.weak.batch_size * params.weak.max_steps < train + params.weak.batch_size
    assert params.supervised.matryoshka_dims[-1] == 16 and "Next: conan-lib plan my.yaml" in " ".join(out.split())
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


def test_batches_hold_two_rows_and_more(own, start, conan):
    """One row has no negative in its batch."""
    (own / "few.jsonl").write_text("".join((own / "pairs.jsonl").read_text().splitlines(keepends=True)[:3]))
    assert conan("new", "few.yaml", "--start", start, "--data", "few.jsonl")[0] == 0
    params = load_params("few.yaml")
    assert min(params.weak.batch_size, params.supervised.task_batch_size["retrieval"]) == 2


def test_every_pair_can_have_the_hard_negatives_that_are_written(own, start, conan):
    """Many questions, four answers: but the own one and the two that mining passes over there is one."""
    rows = [{"query": f"question {n}", "pos": [f"answer {n % 4}"]} for n in range(200)]
    (own / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert conan("new", "my.yaml", "--start", start, "--data", "pairs.jsonl")[0] == 0
    assert load_params("my.yaml").supervised.hard_negatives == 1 and conan("plan", "my.yaml")[0] == 0
    text = (own / "my.yaml").read_text()
    (own / "more.yaml").write_text(text.replace("hard_negatives: 1", "hard_negatives: 2"))
    code, _, err = conan("plan", "more.yaml")
    said = "supervised.hard_negatives: 2 are more than a pair of task retrieval can have: 4 passages in en, but its own and the 2"
    assert code == 2 and said in err and err.count("\n") == 1


def test_a_new_file_lets_every_row_train():
    """Whatever a set takes where the file says nothing; what is enough is not written."""
    lines = (
        new._caps({"retrieval": 50_000, "weak": 50_000}),
        new._caps({"clr": 10**6, "weak": 40_000, "sts": 5_000}),
        new._caps({"sft": 20_001}),
    )
    found = [yaml.safe_load(line) for line in lines]
    assert found == [{"sets": {"retrieval_pairs": 50_000, "weak_pairs": 50_000}}, None, {"sets": {"sft_records": 20_001}}]
    texts = [{"text": "a" * 9_000}] * 1_000
    assert yaml.safe_load(new._documents(texts)) == {"max_documents": 5_000} and new._documents(texts[:300]) == ""


def test_plan_says_what_a_file_keeps_from_training(own, start, conan):
    assert conan("new", "my.yaml", "--start", start, "--data", "pairs.jsonl")[0] == 0
    params = load_params("my.yaml")
    train = sum(drawn_split(row["group"], params.data.heldout_share, 0) == "train" for row in read_pairs(own / "pairs.jsonl"))
    assert " rows train" not in conan("plan", "my.yaml")[1]
    (own / "my.yaml").write_text((own / "my.yaml").read_text() + "sets: {retrieval_pairs: 9, weak_pairs: 39}\n")
    code, out, err = conan("plan", "my.yaml")
    assert code == 0, err
    said = [line for line in out.splitlines() if " rows train" in line]
    assert said == ["weak: 39 of 40 rows train (sets.weak_pairs)", f"retrieval: 9 of {train} rows train (sets.retrieval_pairs)"]


@pytest.mark.parametrize("prompt", ["", "Find what answers this: ", "寻找回答：那个城市的历史"])
def test_max_length_holds_nine_of_ten_texts_in_the_starts_own_tokens_prompt_included(own, start, conan, prompt):
    rows = [{"query": "a question" + " and more" * (n % 20 == 0) + f" {n:02}", "pos": [f"{n:02}"], "prompt": prompt} for n in range(40)]
    (own / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert conan("new", "long.yaml", "--start", start, "--data", "long.jsonl")[0] == 0
    tokenizer = AutoTokenizer.from_pretrained(start)
    usual = max(len(tokenizer(prompt + row["query"])["input_ids"]) for row in rows if "more" not in row["query"])
    assert load_params("long.yaml").supervised.max_length == 16 * -(-usual // 16)


@pytest.mark.parametrize("file", ["my.yaml", "../my.yaml", "../../elsewhere.yaml"])
def test_names_are_those_that_are_read_wherever_the_command_is_given(own, start, conan, monkeypatch, file):
    """A parameter file's names start at the project's root, not at the working directory."""
    below = own / "below"
    below.mkdir()
    (own / "pairs.jsonl").rename(below / "pairs.jsonl")
    shutil.copytree(start, below / "start")
    monkeypatch.chdir(below)
    assert conan("new", file, "--start", "start", "--data", "pairs.jsonl")[0] == 0
    for folder in (below, own):
        monkeypatch.chdir(folder)
        code, _, err = conan("plan", str((below / file).resolve()))
        assert code == 0, err
    named = {row.from_ for row in load_params(below / file).data.sets} | {load_params(below / file).model.start}
    assert named == ({"below/pairs.jsonl", "./below/start"} if "elsewhere" not in file else {f"{below}/pairs.jsonl", f"{below}/start"})


@pytest.mark.parametrize(("name", "tier"), [("größe", "grosse"), ("My notes 2", "my-notes-2"), ("データ", "own"), ("a_b", "a_b")])
def test_any_name_of_a_file_makes_a_tier(own, start, conan, name, tier):
    assert conan("new", f"{name}.yaml", "--start", start, "--data", "pairs.jsonl")[0] == 0
    assert load_params(f"{name}.yaml").tier == tier


@pytest.mark.parametrize("limit", ["memory.max", "memory/memory.limit_in_bytes"])
def test_the_room_is_what_this_process_may_use(own, start, conan, monkeypatch, limit):
    monkeypatch.setattr(new, "CGROUPS", own)
    monkeypatch.setattr(new.os, "sched_getaffinity", lambda _: {3})
    whole = new.memory()
    (own / limit).parent.mkdir(exist_ok=True)
    (own / limit).write_text("max\n")
    assert new.memory() == whole
    (own / limit).write_text("10000\n")
    assert new.memory() == 10_000
    assert conan("new", "my.yaml", "--start", start, "--data", "pairs.jsonl")[0] == 0
    params = load_params("my.yaml")
    assert params.runtime.threads == 1 and (params.weak.lora is not None or torch.cuda.is_available()), "the weights do not fit"


@pytest.mark.parametrize(
    ("option", "said"), [(("--start", "no-such"), "--start no-such: no such folder"), (("--data", "none.jsonl"), "none.jsonl")]
)
def test_a_mistake_is_one_line_and_nothing_is_written(own, start, conan, option, said):
    options = {"--start": start, "--data": "pairs.jsonl"} | dict([option])
    code, _, err = conan("new", "my.yaml", *(part for pair in options.items() for part in pair))
    assert code == 2 and said in err and err.count("\n") == 1 and not (own / "my.yaml").exists()
