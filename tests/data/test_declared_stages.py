"""The stages corpus, sets and heldout on a user's own files alone: no package, no verse; every kind of set is trained and evaluated on."""

from pathlib import Path

import pytest
from small_own_sets import lines, own_sets
from smoke_data import ROOT

from conan_lib.data.build import build_corpus, build_heldout, build_sets
from conan_lib.data.catalogue import check_sets, origins
from conan_lib.data.declared import check
from conan_lib.data.declared.gather import asked
from conan_lib.data.decontaminate import EvaluationIndex
from conan_lib.data.records import read
from conan_lib.data.sampling import drawn_split
from conan_lib.data.sources import packages
from conan_lib.errors import UserError
from conan_lib.evaluation.tasks import load_tasks
from conan_lib.files import read_json
from conan_lib.params import load_params
from conan_lib.params.model import ModelParams
from conan_lib.params.sets import DeclaredSet
from conan_lib.run.checks import check_sources
from conan_lib.stages import compute, open_stage


def params_of(folder: Path, sets: list[dict], **data):
    params = load_params(ROOT / "params" / "smoke.yaml")
    section = type(params.data).model_validate({"languages": ["en", "de"], "heldout_share": 0.1, "sets": sets, **data})
    runtime = params.runtime.model_copy(update={"artefacts": str(folder / "artefacts"), "threads": 1})
    return params.model_copy(update={"data": section, "runtime": runtime})


def with_mix(params, *tasks: str):
    """The run with these tasks in stage 4, all but clustering by default."""
    mix = dict.fromkeys(tasks or ("retrieval", "clr", "sts", "classification"), 1.0)
    return params.model_copy(update={"supervised": params.supervised.model_copy(update={"mix": mix})})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The three stages, finished, and their parameters; whatever asks for a package fails."""
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packages, "distribution", lambda name: pytest.fail(f"package {name} was read"))
        params = params_of(folder, own_sets(folder))
        check_sources(with_mix(params), {"corpus"})
        stages = {name: build(open_stage(name, params)) for name, build in
                  (("corpus", build_corpus), ("sets", build_sets), ("heldout", build_heldout))}  # fmt: skip
    return params, stages


def test_every_task_has_its_rows_in_the_tables_that_training_reads(run):
    _, stages = run
    tables = {
        name: read(stages["sets"].path / f"{name}.parquet") for name in ("retrieval", "clr", "weak", "sts", "labels", "sft", "passages")
    }
    assert all(tables.values())
    assert {row["lang"] for row in tables["clr"]} == {"de"} and {row["prompt"] for row in tables["retrieval"]} == {"Find it: "}
    assert all(row["negatives"][-1] == "Another one." for row in tables["retrieval"])
    assert {row["positive_id"] for name in ("retrieval", "clr") for row in tables[name]} <= {row["id"] for row in tables["passages"]}
    assert {row["positive"] for row in tables["labels"]} == {"good", "bad", "neither"}
    assert all(row["positive"] not in row["negatives"] for row in tables["labels"])
    assert {row["score"] for row in tables["sts"]} == {0.0, 0.2, 0.4, 0.6, 0.8, 1.0}
    assert {row["split"] for row in read(stages["corpus"].path / "documents.parquet")} == {"train", "dev", "test"}


def test_nothing_that_is_asked_is_trained_on(run):
    params, stages = run
    rows = read(stages["corpus"].path / "rows.parquet")
    index = EvaluationIndex(params.data.decontamination_ngram)
    index.add(pair for row in rows if row["split"] != "train" for pair in asked(row))
    for name, fields in {
        "retrieval": ("anchor", "positive"),
        "clr": ("anchor",),
        "weak": ("anchor",),
        "sts": ("anchor", "positive"),
    }.items():
        table = read(stages["sets"].path / f"{name}.parquet")
        assert not any(index.overlaps([(row[field], row["lang"]) for row in table for field in fields])), name
    groups = {
        split: {row["group"] for row in rows if row["split"] == split and row["task"] in ("retrieval", "clr")}
        for split in ("train", "test")
    }
    assert groups["test"] and not groups["test"] & groups["train"], "a query and its translation are on one side"


def test_held_out_rows_are_evaluation_sets_that_mteb_reads(run):
    params, stages = run
    for split in ("test", "dev"):
        tasks = {task.metadata.name: task for task in load_tasks(stages["heldout"].path, params.tasks.model_copy(update={"split": split}))}
        assert {"retrieval", "crosslingual", "sts", "classification"} == {task.kind for task in tasks.values()}
    entries = {entry["name"]: entry for entry in read_json(stages["heldout"].path / "eval" / "test" / "tasks.json")}
    assert entries["clr"]["languages"] == ["de"]
    folder = stages["heldout"].path / "eval" / "test" / "pairs-en"
    passages, relevant = {row["id"] for row in read(folder / "corpus.parquet")}, read(folder / "qrels.parquet")
    assert {row["corpus_id"] for row in relevant} < passages
    assert len(relevant) == 2 * len(read(folder / "queries.parquet")), "both positives of a query count"


def test_the_funnel_counts_every_record(run):
    _, stages = run
    counts = {}
    for row in read_json(stages["corpus"].path / "declared.json"):
        counts[row["source"], row["step"]] = counts.get((row["source"], row["step"]), 0) + row["documents"]
    assert counts["pairs", "read"] == counts["pairs", "complete"] == 180 and counts["pairs", "exact duplicates"] == 360
    rows = read(stages["corpus"].path / "rows.parquet")
    for source in ("pairs", "weak", "mood"):
        kept = sum(n for (own, step), n in counts.items() if own == source and step.startswith("decontaminated"))
        assert 0 < kept == sum(row["source"] == source for row in rows) <= counts[source, "exact duplicates"]
    found = {row["name"]: row for row in origins(stages["corpus"])}
    assert found["pairs"]["licence"] == "cc0-1.0" and found["pairs"]["version"] and found["clr"]["languages"] == ["de"]


def test_text_that_is_not_to_be_cleaned_keeps_every_character(tmp_path):
    """Neither mended nor judged: its indentation, signs, few characters and language stay; copies and what is held out still go."""
    words = "Wie viele der alten Brücken über den Fluss wurden vor dem Krieg gebaut? Das weiß heute niemand mehr genau."
    code = [f"def f_{n}(x):\n\tif x > {n}:  # â€™\n\t    return  {'-' * 20}x\n" for n in range(40)]
    texts = [*code, "{}[]();", f"  {words}\n", "".join(f"    row_{n} = [{n},\t{n}]\n" for n in range(60))]
    asked = "which of these many functions gives back its argument without a sign and which of them does not"
    records = [{"text": text} for text in (*texts, code[0], f"# {asked}")]
    pairs = [{"query": asked, "pos": ["\tpass\n    #  it does"]}]
    one = {"lang": "en", "clean": False}
    sets = [
        {"from": lines(tmp_path / "code.jsonl", records), "task": "text", "heldout": 0.0, **one},
        {"from": lines(tmp_path / "p.jsonl", [{"query": "f", "pos": ["g"]}]), "task": "retrieval", **one}
        | {"heldout": lines(tmp_path / "h.jsonl", pairs)},
    ]
    stage = build_corpus(open_stage("corpus", params_of(tmp_path, sets, languages=["en", "de"], max_chars=200)))
    found = {}
    for row in read(stage.path / "documents.parquet"):
        name = row["id"].partition("#")[0]
        found[name] = found.get(name, "") + row["text"]
    assert sorted(found.values()) == sorted(texts)
    (alone,) = read(build_corpus(open_stage("corpus", params_of(tmp_path, [sets[1] | {"from": sets[1]["heldout"], "heldout": 0.0}]))).path
                    / "documents.parquet")  # fmt: skip
    assert alone["text"] == pairs[0]["pos"][0], "and so do passages, where there is no set of text"


def test_a_key_follows_the_content_of_a_file(tmp_path):
    sets = [{"from": lines(tmp_path / "p.jsonl", [{"query": "a", "pos": ["b"]}]), "task": "retrieval", "lang": "en"}]
    params = params_of(tmp_path, sets)
    first = open_stage("sets", params).key
    assert open_stage("sets", params).key == first
    lines(tmp_path / "p.jsonl", [{"query": "a", "pos": ["c"]}])
    assert open_stage("sets", params).key != first


def test_a_share_is_in_the_key_of_the_stage_that_mixes_and_a_licence_or_a_note_in_none(tmp_path):
    row = {"from": lines(tmp_path / "p.jsonl", [{"query": "a", "pos": ["b"]}]), "task": "retrieval", "lang": "en"}

    def keys(**more):
        return [open_stage(name, params_of(tmp_path, [row | more])).key for name in ("corpus", "heldout", "sets")]

    plain = keys()
    assert keys(licence="mit", note="our own") == keys(share=1.0) == plain
    assert keys(share=2.0)[:2] == plain[:2] and keys(share=2.0)[2] != plain[2] != keys(prompt="Find: ")[2]


def test_shares_decide_where_there_are_more_rows_than_asked_for(tmp_path):
    names = {"a": 3.0, "b": 1.0}
    sets = [
        {"from": lines(tmp_path / f"{name}.jsonl", ({"query": f"{name} {n}", "pos": [f"answer {name} {n}"]} for n in range(60))),
         "task": "retrieval", "lang": "en", "share": share, "heldout": 0}
        for name, share in names.items()
    ]  # fmt: skip
    params = params_of(tmp_path, sets)
    params = params.model_copy(update={"sets": params.sets.model_copy(update={"retrieval_pairs": 40})})
    build_corpus(open_stage("corpus", params))
    table = read(build_sets(open_stage("sets", params)).path / "retrieval.parquet")
    assert [sum(row["source"] == name for row in table) for name in names] == [30, 10]


def test_the_passages_that_are_searched_first_are_of_all_sets(tmp_path):
    """Mining takes the first mine.max_corpus. The order is the seed's, whatever that of the sets."""
    names = ("a", "b")
    sets = [
        {"from": lines(tmp_path / f"{name}.jsonl", ({"query": f"{name} {n}", "pos": [f"answer {name} {n}"]} for n in range(60))),
         "task": "retrieval", "lang": "en", "heldout": 0}
        for name in names
    ]  # fmt: skip
    found = {}
    for seed, rows in ((0, sets), (1, sets), (0, sets[::-1])):
        params = params_of(tmp_path, rows, seed=seed)
        build_corpus(open_stage("corpus", params))
        table = read(build_sets(open_stage("sets", params)).path / "passages.parquet")
        assert len(table) == 120 and all(20 < sum(row["source"] == name for row in table[:60]) < 40 for name in names)
        found.setdefault(seed, []).append([row["id"] for row in table])
    assert found[0][0] == found[0][1] != found[1][0]


def test_a_language_that_no_set_feeds_is_one_line(tmp_path):
    sets = [{"from": lines(tmp_path / "p.jsonl", [{"query": "a", "pos": ["b"]}]), "task": "retrieval", "lang": "en"}]
    with pytest.raises(UserError, match=r"data.languages: no set feeds de, sv: add a row with its lang to data.sets, or take it out"):
        check_sources(params_of(tmp_path, sets, languages=["en", "de", "sv"]), {"corpus"})


def test_a_stage_without_a_set_is_one_line_with_the_mend(tmp_path):
    sets = own_sets(tmp_path)
    for task, message in {
        "text": "pretrain: no set of data.sets has task text: add one, or begin with model.start",
        "sft": "sft: no set of data.sets has task sft: add one",
        "weak": "weak: no set of data.sets has task weak: add one, or name your pairs a second time",
    }.items():
        with pytest.raises(UserError, match=message):
            check_sources(with_mix(params_of(tmp_path, [row for row in sets if row["task"] != task])), {"corpus"})
    with pytest.raises(UserError, match=r"has task clustering: add one, or name those you have: \{retrieval: 1\}"):
        check_sources(with_mix(params_of(tmp_path, sets), "retrieval", "clustering"), {"corpus"})


def test_a_task_with_fewer_rows_than_its_batch_is_one_line(tmp_path):
    """Counted without what is held out, and of weak pairs by language."""
    sets = own_sets(tmp_path)
    params = with_mix(params_of(tmp_path, sets))
    train = sum(drawn_split(row["group"], 0.1, params.data.seed) == "train" for row in check(params.data.declared[0], ("en", "de")))
    assert 0.6 * 360 < train < 360
    for name, least, fits, message in (
        ("supervised", {"task_batch_size": {**params.supervised.task_batch_size, "retrieval": train + 1}},
         {"task_batch_size": {**params.supervised.task_batch_size, "retrieval": train}},
         rf"supervised.task_batch_size.retrieval: {train + 1} is more than the {train} rows that train: lower it, or add data"),
        ("sft", {"batch_size": 58}, {"batch_size": 57}, "^sft.batch_size: 58 is more than the 57 records that train: lower it"),
        ("weak", {"batch_size": 181}, {"batch_size": 180}, "weak.batch_size: 181 is more than the 180 pairs of a language that train"),
    ):  # fmt: skip
        section = getattr(params, name)
        check_sources(params.model_copy(update={name: section.model_copy(update=fits)}), {"corpus"})
        with pytest.raises(UserError, match=message):
            check_sources(params.model_copy(update={name: section.model_copy(update=least)}), {"corpus"})


def few(tmp_path, count: int, **row):
    """A run on `count` pairs with as many passages, of which hard negatives are asked for."""
    pairs = ({"query": f"question {n}", "pos": [f"answer {n}"]} for n in range(count))
    own = [{"from": lines(tmp_path / "p.jsonl", pairs), "task": "retrieval", "lang": "en"} | row]
    params = with_mix(params_of(tmp_path, [*own, own[0] | {"name": "w", "task": "weak"}], languages=["en"]), "retrieval")
    given = {"model": ModelParams(start="./start"), "pretrain": None, "sft": None, "weak": params.weak.model_copy(update={"batch_size": 2})}
    return params.model_copy(update=given)


def test_a_run_that_nothing_could_be_evaluated_of_is_one_line(tmp_path):
    """It would train for hours first. What does not evaluate, or brings its own sets, is not asked."""
    whole, message = {"corpus", "peers", "evaluate"}, r"^data.heldout_share: nothing could be evaluated: \d queries [^\n]*test, and 10 are"
    params = few(tmp_path, 40, heldout=0.05)
    with pytest.raises(UserError, match=message):
        check_sources(params, whole)
    check_sources(params, {"corpus", "weak"})
    check_sources(few(tmp_path, 80, heldout=0.3), whole)
    held = lines(tmp_path / "held.jsonl", ({"query": f"other {n}", "pos": [f"answer {n}"]} for n in range(60)))
    check_sources(few(tmp_path, 40, heldout=held), whole)
    (tmp_path / "labels").mkdir()
    labels = lines(tmp_path / "labels" / "l.jsonl", ({"text": f"t {n}", "label": n % 2} for n in range(80)))
    own = [{"from": labels, "task": "classification", "lang": "en", "heldout": 0.3}]
    data = params.data.model_copy(update={"sets": params.data.sets + tuple(map(DeclaredSet.model_validate, own))})
    check_sources(params.model_copy(update={"data": data}), whole)


def test_hard_negatives_that_no_pair_can_have_are_one_line(tmp_path):
    params = few(tmp_path, 200, heldout=0.1)
    many = params.model_copy(update={"mine": params.mine.model_copy(update={"skip_ranks": 200})})
    check_sources(params, {"corpus"})
    with pytest.raises(UserError, match=r"^supervised.hard_negatives: \d+ are more than a pair of task retrieval can have: 1\d\d passages"):
        check_sources(many, {"corpus"})
    none = many.model_copy(update={"supervised": many.supervised.model_copy(update={"hard_negatives": 0})})
    check_sources(none, {"corpus"})
    lines(tmp_path / "p.jsonl", ({"query": f"q {n}", "pos": [f"a {n}"], "neg": [f"n {k}" for k in range(8)]} for n in range(200)))
    check_sources(many, {"corpus"})  # its own are enough


def test_what_a_limit_keeps_from_training_is_told(tmp_path):
    """Counted in the files, and once the corpus has finished in it."""
    params = few(tmp_path, 60, heldout=0.0)
    params = params.model_copy(update={"sets": params.sets.model_copy(update={"retrieval_pairs": 40})})
    line = "retrieval: 40 of 60 rows train (sets.retrieval_pairs)"
    assert check_sources(params, {"corpus", "sets"}) == [line]
    build_corpus(open_stage("corpus", params))
    assert check_sources(params, {"sets"}) == [line] and check_sources(params, {"weak"}) == []
    assert len(read(build_sets(open_stage("sets", params)).path / "retrieval.parquet")) == 40


def test_a_wrong_record_stops_a_run_before_it_starts(tmp_path):
    sets = [{"from": lines(tmp_path / "p.jsonl", [{"query": "a", "pos": ["b"]}] * 3 + [{"query": "a"}]), "task": "retrieval", "lang": "en"}]
    params = params_of(tmp_path, sets, languages=["en"])
    with pytest.raises(UserError, match=r"^\S+p.jsonl, line 4: no field positive or [^\n]*; it has query: name its own in columns"):
        check_sources(params, {"corpus"})
    assert not (tmp_path / "artefacts").exists()


@pytest.mark.parametrize(("task", "record", "message"), [
    ("clustering", {"text": "note {}", "label": "one"}, "data.sets: p: every label is one, from which nothing is learnt"),
    ("sts", {"sentence1": "a {}", "sentence2": "b {}", "score": 1}, "data.sets: p: every score is 1.0, from which nothing is learnt"),
])  # fmt: skip
def test_a_set_of_one_label_or_one_score_is_refused_beforehand_and_by_the_stage(tmp_path, capsys, task, record, message):
    records = [{name: value.format(n) if isinstance(value, str) else value for name, value in record.items()} for n in range(90)]
    params = params_of(tmp_path, [{"from": lines(tmp_path / "p.jsonl", records), "task": task, "lang": "en"}], languages=["en"])
    with pytest.raises(UserError, match=message):
        check_sets(params.data)
    build_corpus(open_stage("corpus", params))
    with pytest.raises(UserError, match=message):
        build_sets(open_stage("sets", params))
    assert open_stage("sets", params).status == "new"
    assert not build_heldout(open_stage("heldout", params)).results["evaluation_sets"]["test"]
    assert "p-en: not evaluated on test: of " in capsys.readouterr().out


def test_two_sets_of_one_name_are_refused(tmp_path):
    row = {"from": "a/x.jsonl", "task": "weak", "lang": "en"}
    with pytest.raises(ValueError, match="two rows are called x: give one of them another name"):
        params_of(tmp_path, [row, {**row, "from": "b/x.jsonl"}])


def test_packaged_text_mixes_in_by_a_row_and_without_scripture(tmp_path):
    own = {"from": lines(tmp_path / "p.jsonl", ({"query": f"query {n}", "pos": [f"answer {n}"]} for n in range(60))), "task": "retrieval",
           "lang": "en", "heldout": 0}  # fmt: skip
    params = params_of(tmp_path, [own, {"from": "embedded/wiki"}], languages=["en"], max_documents=200)
    check_sources(params, {"corpus"})
    corpus = build_corpus(open_stage("corpus", params))
    assert {row["name"] for row in read_json(corpus.path / "sources.json")} == {"p", "wiki"} and not corpus.results["verses_removed"]
    table = read(build_sets(open_stage("sets", params)).path / "retrieval.parquet")
    assert {row["source"] for row in table} == {"p", "wiki"} and sum(row["source"] == "p" for row in table) == 60
    with pytest.raises(UserError, match=r"data.sets: from: embedded/wikipedia: no such source: choose from addresses, bible, .*wiki"):
        check_sources(params_of(tmp_path, [{"from": "embedded/wikipedia"}], languages=["en"]), {"corpus"})


@pytest.mark.slow
def test_every_stage_runs_on_own_files_alone(tmp_path):
    """From the corpus to the scores of every model, with negatives, prompts and labels of the files."""
    params = params_of(tmp_path, own_sets(tmp_path))
    update = {
        "teacher": {"multilingual": "none", "english": "none"},
        "tokenizer": {"vocab_size": 330},
        "supervised": {"max_steps": 10},
    }
    params = with_mix(params)
    params = params.model_copy(update={name: getattr(params, name).model_copy(update=values) for name, values in update.items()})
    for name in ("corpus", "sets", "heldout", "tokenizer", "pretrain", "sft", "teacher", "weak", "mine", "supervised", "evaluate"):
        stage = compute(open_stage(name, params))
        assert stage.finished, name
    assert {"pairs-en", "clr", "sts-en", "mood-en"} <= {row["task"] for row in read_json(stage.path / "scores.json")}
