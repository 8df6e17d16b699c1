"""Pins: passages stay and every record says where it comes from; shards are written once and whole, so a build that is killed anywhere, or
shared by two processes, ends in the same bytes; what fails a check is counted and kept apart, and where all fails nothing is left;
`datasets` reads the folder; a user's mistake is one line and writes nothing; the guide's commands work."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from small_chat import chat_model
from small_phrases import ENGLISH, FRENCH, GERMAN, PARAMS, Phrases, write_lines, write_pairs

from conan_lib.data import records
from conan_lib.data.clean import Funnel
from conan_lib.data.declared import read
from conan_lib.data.translate import build, output
from conan_lib.data.translate.build import build_clr
from conan_lib.data.translate.inputs import read_pairs
from conan_lib.errors import UserError
from conan_lib.findings.translations import translation_checks
from conan_lib.params.sets import DeclaredSet

ROOT = Path(__file__).parents[2]


@pytest.fixture
def pairs(tmp_path) -> Path:
    return write_pairs(tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def in_a_child(function, *arguments) -> int:
    """Exit code of a forked process that runs the function."""
    child = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    child.start()
    child.join(180)
    return child.exitcode


def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_passages_stay_and_records_say_where_they_come_from(pairs, tmp_path):
    results = build_clr(pairs, tmp_path / "out", PARAMS, translator=Phrases())
    assert results == {"kept": 16, "refused": {"copy": 6}, "languages": {"de": 8, "fr": 8}, "passage_languages": ["en"]}
    rows = records.read(tmp_path / "out" / output.DATA)
    originals = {query.id: query for query in read_pairs(pairs)}
    for row in rows:
        original = originals[row["source_id"]]
        assert (row["positive"], row["positive_id"], row["positive_lang"]) == (original.positive, original.positive_id, "en")
        assert (row["source_query"], row["source_lang"], row["id"]) == (original.text, "en", f"{original.id}/{row['query_lang']}")
        assert row["query"] == {"de": GERMAN, "fr": FRENCH}[row["query_lang"]].format(original.id[1:])
        assert {name: row[name] for name in Phrases.provenance} == Phrases.provenance
        assert row["identified_lang"] == row["query_lang"] and row["language_probability"] > 0.9 and row["similarity"] is None
    refused = records.read(tmp_path / "out" / output.REFUSED)
    assert {(row["source_id"], row["query_lang"], row["refused"]) for row in refused} == {
        (f"q{i}", lang, "copy") for i in (0, 5, 10) for lang in ("de", "fr")
    }


PLACES = "before the second shard, within the third shard, while a shard is written, while the data is written, before the card, at the end"


@pytest.mark.parametrize("place", PLACES.split(", "))
def test_a_killed_build_ends_in_the_same_bytes(pairs, tmp_path, place):
    build_clr(pairs, tmp_path / "whole", PARAMS, translator=Phrases())
    folder = tmp_path / "killed"

    def attempt():
        calls = {"before the second shard": 2, "within the third shard": 4}.get(place)  # the third shard holds both languages
        if place == "while a shard is written":
            written = records.write
            records.write = lambda path, *rest: killed() if "00001" in str(path) else written(path, *rest)
        elif place == "while the data is written":
            output.replacing = killed
        elif place == "before the card":
            output.write_card = killed
        elif place == "at the end":
            build._tidy = killed
        build_clr(pairs, folder, PARAMS, translator=Phrases(lambda n: killed() if n == calls else None))

    assert in_a_child(attempt) == -signal.SIGKILL
    before = contents(folder)
    assert (build.DONE in before) == (place == "at the end")
    again = Phrases()
    build_clr(pairs, folder, PARAMS, translator=again)
    assert contents(folder) == contents(tmp_path / "whole")
    done = sum(bool(re.fullmatch(r"shards/\d+\.parquet", name)) for name in before)
    assert again.calls == {0: 7, 1: 6, 2: 5}.get(done, 0), "finished shards are not translated again"


def test_two_processes_share_a_build(pairs, tmp_path):
    build_clr(pairs, tmp_path / "one", PARAMS, translator=Phrases())
    shared = tmp_path / "shared"
    context = multiprocessing.get_context("fork")
    calls = context.Value("i", 0)

    def attempt():
        def count(_):
            with calls.get_lock():
                calls.value += 1
            time.sleep(0.15)

        build_clr(pairs, shared, PARAMS, translator=Phrases(count))

    workers = [context.Process(target=attempt) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(180)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert calls.value == 7, "each shard is translated once"
    assert contents(shared) == contents(tmp_path / "one")


def test_a_process_that_comes_late_leaves_a_finished_build_alone(pairs, tmp_path):
    """Another process ends the whole build while this one is at its first shard."""
    folder = tmp_path / "out"

    def other_ends(calls: int) -> None:
        if calls == 1:
            for lock in (folder / "shards").glob("*.lock"):
                lock.unlink()  # as if this process had not come here yet
            build_clr(pairs, folder, PARAMS, translator=Phrases())

    late = Phrases(other_ends)
    assert build_clr(pairs, folder, PARAMS, translator=late)["kept"] == 16
    assert late.calls == 1 and {path.name for path in folder.iterdir()} == {"README.md", "build.json", "checks", "data"}


def test_a_finished_build_is_only_looked_up(pairs, tmp_path):
    first = build_clr(pairs, tmp_path / "out", PARAMS, translator=Phrases())
    again = Phrases()
    assert build_clr(pairs, tmp_path / "out", PARAMS, translator=again) == first and again.calls == 0


def test_another_build_is_not_written_over(pairs, tmp_path):
    folder = tmp_path / "out"
    build_clr(pairs, folder, PARAMS, translator=Phrases())
    before = contents(folder)
    with pytest.raises(UserError, match="holds a build that differs in seed: name another folder"):
        build_clr(pairs, folder, PARAMS.model_copy(update={"seed": 1}), translator=Phrases())
    pairs.write_text(pairs.read_text(encoding="utf-8").replace("Town 3", "City 3"), encoding="utf-8")
    with pytest.raises(UserError, match="differs in the input"):
        build_clr(pairs, folder, PARAMS, translator=Phrases())
    with pytest.raises(UserError, match="is not empty and holds no build"):
        build_clr(pairs, tmp_path, PARAMS, translator=Phrases())
    assert contents(folder) == before


def test_a_moved_revision_is_refused(pairs, tmp_path):
    assert in_a_child(lambda: build_clr(pairs, tmp_path / "out", PARAMS, translator=Phrases(lambda n: killed() if n == 3 else None))) != 0
    moved = Phrases()
    moved.provenance = Phrases.provenance | {"revision": "2"}
    with pytest.raises(UserError, match=r"pin translate\.revision"):
        build_clr(pairs, tmp_path / "out", PARAMS, translator=moved)


def test_datasets_reads_the_folder_and_the_card_says_what_is_in_it(pairs, tmp_path):
    from datasets import load_dataset

    params = PARAMS.model_copy(update={"licence": "cc-by-4.0"})
    build_clr(pairs, tmp_path / "out", params, translator=Phrases())
    dataset = load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert dataset.to_list() == records.read(tmp_path / "out" / output.DATA)
    assert dataset.features["similarity"].dtype == "float64" and dataset.features["query"].dtype == "string"
    _, header, text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    header = yaml.safe_load(header)
    assert (header["language"], header["license"], header["size_categories"]) == (["de", "en", "fr"], "cc-by-4.0", "n<1K")
    assert "16 queries in 2 languages" in text and "| de (German) | 8 | 3 | copy 3 |" in text and "translated by none" in text


def test_the_figure_adds_up_to_the_funnel(pairs, tmp_path):
    build_clr(pairs, tmp_path / "out", PARAMS, translator=Phrases())
    axes = translation_checks(tmp_path / "out").axes
    number, share = ({bars.get_label(): [bar.get_width() for bar in bars] for bars in axis.containers} for axis in axes)
    assert number == {"kept (16)": [8, 8], "refused: copy (6)": [3, 3]}
    assert share == {"refused: copy (6)": [pytest.approx(300 / 11)] * 2}
    with pytest.raises(UserError, match="name the folder of a finished"):
        translation_checks(tmp_path)


def test_a_random_model_runs_through_and_everything_it_writes_is_refused(pairs, tmp_path):
    params = PARAMS.model_copy(update={"model": chat_model(tmp_path / "model"), "max_new_tokens": 4})
    with pytest.raises(UserError, match=r"every one of 22 translations was refused \((.*)\), for example .*: nothing was written") as error:
        build_clr(pairs, tmp_path / "out", params, device="cpu")
    funnel = dict(part.split() for part in re.search(r"\((.*?)\)", str(error.value)).group(1).split(", "))
    assert sum(map(int, funnel.values())) == 22 and int(funnel["unfinished"]) > 0
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_an_interrupted_models_build_goes_on_to_the_same_bytes(pairs, tmp_path, monkeypatch):
    """Every token ends a turn and the checks are wide open, so that the random model's words are kept."""
    model = chat_model(tmp_path / "model", ends=list(range(300)))
    over = {"model": model, "min_language_probability": 0, "min_length_ratio": 0, "translator": "transformers"}
    params = PARAMS.model_copy(update=over)
    whole = build_clr(pairs, tmp_path / "whole", params, device="cpu")
    assert whole["kept"] > 0 and {row["model"] for row in records.read(tmp_path / "whole" / output.DATA)} == {model}
    write = records.write

    def interrupted(path, *rest):
        if path.name == "00002.parquet":
            raise KeyboardInterrupt
        return write(path, *rest)

    monkeypatch.setattr(records, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_clr(pairs, tmp_path / "out", params, device="cpu")
    monkeypatch.undo()
    assert build_clr(pairs, tmp_path / "out", params, device="cpu") == whole
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("teacher_check", ["translation", "round_trip"])
def test_the_teacher_judges_what_passed_the_rest(pairs, tmp_path, monkeypatch, teacher_check):
    seen = []

    def similarities(texts, teacher):
        seen.extend(texts)
        return list(np.linspace(0, 1, len(texts)))

    monkeypatch.setattr(build, "similarities", similarities)
    params = PARAMS.model_copy(update={"teacher_check": teacher_check, "min_similarity": 0.5, "shard_size": 100})
    results = build_clr(pairs, tmp_path / "out", params, translator=Phrases())
    assert results["kept"] == 8 and results["refused"] == {"copy": 6, "similarity": 8}
    number = [int(re.search(r"\d+", source).group()) for source, _ in seen]
    assert all(n % 5 for n in number), "copies are not shown to the teacher"
    there = [GERMAN] * 8 + [FRENCH] * 8
    assert [other for _, other in seen] == [
        (text if teacher_check == "translation" else ENGLISH).format(n) for text, n in zip(there, number, strict=True)
    ]
    assert min(row["similarity"] for row in records.read(tmp_path / "out" / output.DATA)) >= 0.5


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["none.jsonl", "out"], "none.jsonl: no such file"),
        (["pairs.docx", "out"], "pairs.docx: not a kind of file that is read: give .jsonl"),
        (["broken.jsonl", "out"], "broken.jsonl, line 1: not JSON"),
        (["latin.jsonl", "out"], "latin.jsonl, line 1: not UTF-8"),
        (["pairs.jsonl", "out", "--translations", "none.jsonl"], "none.jsonl: no such file"),
        (["pairs.jsonl", "out", "--translations", "twice.jsonl"], "line 2: id q1 has two translations into de"),
        (["pairs.jsonl", "out", "--backend", "aligned"], "aligned needs a file of human translations"),
        (
            ["pairs.jsonl", "out", "--backend", "fast"],
            "translate.translator: Input should be 'aligned', 'transformers' or 'vllm' (given",
        ),
        (["pairs.jsonl", "out", "--backend", "vllm"], "package vllm is not installed"),
        (["pairs.jsonl", "out", "--params", "bad.yaml"], "translate.shres: unknown key, did you mean shares?"),
        (["pairs.jsonl", "out", "--params", "prompt.yaml"], "translate.prompt: needs {target} and {query}"),
    ],
)
def test_a_bad_call_is_one_line_and_writes_nothing(conan, pairs, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "vllm", None)
    Path("pairs.docx").touch()
    Path("broken.jsonl").write_text("{id: 1}\n")
    Path("latin.jsonl").write_bytes(b'{"\xe9": 1}')
    Path("bad.yaml").write_text("tier: t\ntranslate: {shres: {de: 1}}\n")
    Path("prompt.yaml").write_text("tier: t\ntranslate: {prompt: 'translate {query}'}\n")
    write_lines(Path("twice.jsonl"), [{"id": "q1", "lang": "de", "text": "a"}] * 2)
    before = set(tmp_path.iterdir())
    code, _, err = conan("translate", *arguments)
    assert code == 2 and err.startswith("conan-lib: ") and err.count("\n") == 1 and message in err
    assert set(tmp_path.iterdir()) == before


def test_the_guide_runs(tmp_path, monkeypatch, capsys):
    """The first shell block and the Python blocks of docs/clr.md, as a reader would paste them."""
    import datasets

    guide = (ROOT / "docs" / "clr.md").read_text(encoding="utf-8")
    shell = re.search(r"```bash\n(.*?)```", guide, re.DOTALL).group(1)
    python, aligned = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-ec", shell], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "clr: 3 queries in 2 languages kept; refused: copy 1\n"), done.stderr
    assert (tmp_path / "clr" / "checks" / "funnel.png").is_file()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    scope = {}
    exec(python, scope)
    assert "wie hoch ist der Eiffelturm -> The Eiffel Tower in Paris is 330 metres tall." in capsys.readouterr().out
    exec(aligned, {})
    assert "{'kept': 2, 'refused': {}, 'languages': {'de': 2}, 'passage_languages': ['en']}" in capsys.readouterr().out
    row = DeclaredSet.model_validate({"from": str(tmp_path / "clr"), "task": "clr"})
    assert [found["lang"] for found in read(row, ("en", "de", "ja"), Funnel())] == ["de", "de", "ja"]
