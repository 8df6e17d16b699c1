"""A user's mistake is one line on stderr with exit code 2: no traceback, no kernel, nothing written. Status and plan write nothing."""

import builtins
import subprocess
import sys
import types
from pathlib import Path

import pytest

from conan_lib.run import checks, notebooks
from conan_lib.stages import open_stage
from tests.conftest import SCRATCH
from tests.run.test_job import JOB
from tests.small_grid import GRID

FILE = "params/small.yaml"

BAD_FILES = {
    "unknown key": "weak: {temprature: 0.1}",
    "mistyped value": "pretrain: {max_steps: many}",
    "heads and kv_heads": "backbone: {hidden_size: 96, heads: 6, kv_heads: 4}",
    "Matryoshka above hidden": "supervised: {matryoshka_dims: [4096]}",
    "missing base": "base: nothing.yaml",
    "base of a base": "base: based.yaml",
    "not YAML": "a: [1, {",
    "a list": "- 1",
}

BAD_CALLS = {
    "minutes that are none": ("job", "params/jobs/none.yaml", "--minutes", "nan"),
    "no minutes": ("train", "corpus", "params/small.yaml", "--minutes", "0"),
    "missing file": ("run", "params/nothing.yaml"),
    "unknown notebook": ("run", FILE, "--only", "9"),
    "a stage's input is missing": ("run", FILE, "--from", "weak"),
    "only and from": ("run", FILE, "--from", "1", "--only", "2"),
    "backwards": ("run", FILE, "--from", "5", "--to", "2"),
    "from nothing": ("run", FILE, "--from", ""),
    "grid from nothing": ("run", "--grid", "params/grids/dhnm.yaml", "--from", ""),
    "seeds of 5000 digits": ("run", "--grid", "params/grids/dhnm.yaml", "--seeds", "1" * 5000),
    "unknown stage": ("train", "wek", FILE),
    "unknown command": ("walk", FILE),
    "unknown option": ("run", FILE, "--fast"),
    "no file": ("run",),
    "status of a missing file": ("status", "nothing.yaml"),
    "plan of a missing file": ("plan", "nothing.yaml"),
    "report of a missing file": ("report", "nothing.yaml"),
    "export of an unfinished run": ("export", FILE, "new"),
    "export to nowhere": ("export", FILE),
    "report of nothing": ("report", FILE),
    "people and a model": ("translate", "pairs.jsonl", "new", "--translations", "translations.jsonl", "--model", "foo"),
    "people and a backend": ("translate", "pairs.jsonl", "new", "--translations", "translations.jsonl", "--backend", "vllm"),
    "comparison with an unknown tier": ("report", FILE, "nope"),
}


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def assert_one_line(code: int, err: str) -> None:
    assert code == 2
    assert err.startswith("conan-lib: ") and err.count("\n") == 1 and err.endswith("\n") and "Traceback" not in err


@pytest.mark.parametrize("text", BAD_FILES.values(), ids=BAD_FILES.keys())
@pytest.mark.parametrize("command", ["run", "plan", "status"])
def test_a_bad_file_is_one_line(project, kernels, conan, command, text):
    (project / "params/based.yaml").write_text("base: small.yaml\n")
    (project / "params/bad.yaml").write_text(text if text.startswith(("base", "-")) else f"tier: bad\n{text}\n")
    before = files(project)
    code, _, err = conan(command, "params/bad.yaml")
    assert_one_line(code, err)
    assert "bad.yaml" in err or "nothing.yaml" in err
    assert kernels == [] and files(project) == before


@pytest.mark.parametrize("arguments", BAD_CALLS.values(), ids=BAD_CALLS.keys())
def test_a_bad_call_is_one_line(project, kernels, conan, arguments):
    before = files(project)
    code, _, err = conan(*arguments)
    assert_one_line(code, err)
    assert kernels == [] and files(project) == before


COMMANDS = {"run": ("run",), "plan": ("plan",), "train": ("train", "corpus")}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_missing_data_or_hub_is_one_line(project, kernels, conan, monkeypatch, command):
    (project / "requirements-data.txt").write_text("not-there==1.0\n")
    code, _, err = conan(*command, FILE)
    assert_one_line(code, err)
    assert "not-there" in err and "make data" in err
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(checks, "_check_data_packages", lambda path: None)
    import huggingface_hub

    def refuse():
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "get_session", refuse)
    (project / FILE).write_text("tier: small\ndata: {languages: [en], sets: [{from: owner/name, task: weak, lang: en}]}\n")
    code, _, err = conan(*command, FILE)
    assert_one_line(code, err)
    assert (
        "data.sets: owner/name, but" in err
        and "save it as files and name those" in err
        and kernels == []
        and not (project / "artefacts").exists()
    )


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_a_wrong_lora_target_is_found_before_anything_runs(project, kernels, conan, command):
    (project / FILE).write_text("tier: small\nsupervised: {lora: {rank: 2, targets: [q_proj, query]}}\n")
    code, _, err = conan(*command, FILE)
    assert_one_line(code, err)
    assert "supervised.lora.targets: query: no layer" in err and "choose from q_proj, k_proj" in err and kernels == []
    (project / FILE).write_text("tier: small\nweak: {lora: {rank: 2, targets: [layers.0.self_attn.q_proj, mlp.up_proj, down_proj]}}\n")
    assert conan("plan", FILE)[0] == 0


@pytest.mark.parametrize("command", ["run", "plan"])
def test_what_the_data_needs_is_found_before_anything_runs(project, kernels, conan, command):
    (project / FILE).write_text("tier: small\ndata: {languages: [en, la]}\n")
    code, _, err = conan(command, FILE)
    assert_one_line(code, err)
    assert "data.languages: no embedded text in 'la'; choose from ar, bn" in err and kernels == []
    (project / "requirements-data.txt").unlink()
    code, _, err = conan(command, FILE)
    assert_one_line(code, err)
    assert "requirements-data.txt: no such file; run conan-lib inside a checkout" in err and kernels == []


def test_a_file_where_a_folder_must_go_is_one_line(project, conan):
    with open_stage("corpus", FILE).work() as work:
        work.commit({})
    assert conan("pack", FILE, "parcel", "--stages", "corpus")[0] == 0
    (project / "params/misled.yaml").write_text("tier: misled\nruntime: {artefacts: pyproject.toml}\n")
    (project / "pairs.jsonl").write_text('{"id": 1, "query": "what", "passage": "this", "lang": "en"}\n')
    (project / "human.jsonl").write_text('{"id": 1, "lang": "de", "text": "was"}\n')
    (project / "clr.yaml").write_text("tier: clr\ntranslate: {shares: {en: 1, de: 1}}\n")
    before = files(project)
    for call in (
        ("pack", FILE, "pyproject.toml", "--stages", "corpus"),
        ("unpack", "parcel", "--artefacts", "pyproject.toml"),
        ("train", "corpus", "params/misled.yaml"),
        ("translate", "pairs.jsonl", "pyproject.toml/x", "--params", "clr.yaml", "--translations", "human.jsonl"),
    ):
        code, _, err = conan(*call)
        assert_one_line(code, err[err.index("conan-lib") :])
        assert "pyproject.toml" in err and "a file, where a folder is needed: name another" in err
    assert files(project) == before


def test_pack_knows_a_job_by_its_steps_and_packs_all_that_it_has_finished(project, conan):
    """Wherever the file lies; a parameter file below jobs/ is one still."""
    with open_stage("corpus", FILE).work() as work:
        work.commit({})
    (project / "params/ours.yaml").write_text("name: ours\ngiven: []\nsteps: [{run: small.yaml, stages: [tokenizer]}]\n")
    (project / "params/jobs").mkdir()
    (project / "params/jobs/small.yaml").write_text("base: ../small.yaml\n")
    code, out, err = conan("pack", "params/ours.yaml", "parcel")
    assert (code, err) == (0, "") and out.startswith("parcel: 1 artefacts")
    assert conan("pack", "params/jobs/small.yaml", "other", "--stages", "corpus")[0] == 0
    before = files(project)
    for stages, message in (("tokenizer", "nothing has finished"), ("corpse", "no stage corpse: choose from corpus")):
        code, _, err = conan("pack", "params/ours.yaml", "third", "--stages", stages)
        assert_one_line(code, err)
        assert message in err
    assert_one_line(*conan("pack", "params/none.yaml", "third")[::2])
    assert files(project) == before


def test_a_working_directory_that_is_gone_is_one_line(tmp_path, monkeypatch, conan):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert conan("status", FILE) == (2, "", "conan-lib: the working directory is not there any more: cd to another one\n")


@pytest.mark.parametrize("command", [("job",), ("run", "--grid"), ("run",), ("plan",), ("status",)])
def test_a_file_of_another_kind_is_one_short_line(project, conan, command):
    kinds = {"job": JOB, "grid": GRID, "parameter": (project / FILE).read_text()}
    commands = {"job": "conan-lib job", "grid": "conan-lib run --grid", "parameter": "conan-lib run"}
    wanted = {("job",): "job", ("run", "--grid"): "grid"}.get(command, "parameter")
    files = {(kind, text) for kind, text in {*kinds.items(), ("grid", "like: grids/masks.yaml\ntier: tiny\n")} if kind != wanted}
    for kind, text in files:
        (project / "params/other.yaml").write_text(text)
        code, _, err = conan(*command, "params/other.yaml")
        assert_one_line(code, err)
        assert f"params/other.yaml: is a {kind} file, not a {wanted} file: run it with `{commands[kind]} " in err and len(err) < 200


def test_a_report_says_where_it_is(project, conan, monkeypatch):
    with open_stage("corpus", FILE).work() as work:
        work.commit({})
    module = types.SimpleNamespace(build_report=lambda file: project / "runs/small")
    monkeypatch.setitem(sys.modules, "conan_lib.report.build", module)
    assert conan("report", FILE) == (0, "report: runs/small/report.md\n", "")


def test_a_missing_package_is_named_with_the_mend(project, conan, monkeypatch):
    real = builtins.__import__

    def without_papermill(name, *rest, **options):
        if name == "papermill":
            raise ModuleNotFoundError("No module named 'papermill'", name="papermill")
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without_papermill)
    code, _, err = conan("run", FILE)
    assert_one_line(code, err)
    assert "package papermill is not installed: run make, or pip install" in err


def test_status_shows_every_stage_and_writes_nothing(project, conan):
    before = files(project)
    code, out, _ = conan("status", FILE)
    assert code == 0 and files(project) == before
    for name in SCRATCH:
        assert open_stage(name, FILE).key in out
    with open_stage("corpus", FILE).work() as work:
        assert "partial" in conan("status", FILE)[1]
        work.commit({})
    assert conan("status", FILE)[1].count("finished") == 1


@pytest.mark.parametrize("call", [("status", FILE), ("plan", FILE), ("report", FILE), ("run", FILE), ("train", "corpus", FILE)])
def test_a_damaged_manifest_is_one_line(project, kernels, conan, call):
    stage = open_stage("corpus", FILE)
    with stage.work() as work:
        work.commit({})
    (stage.path / "manifest.json").write_text("{")
    code, _, err = conan(*call)
    assert_one_line(code, err)
    assert f"{stage.path}/manifest.json: damaged: remove {stage.path} and run its stage again" in err and kernels == []


def test_plan_shows_sizes_and_what_would_run(project, conan):
    with open_stage("corpus", FILE).work() as work:
        work.commit({})
    before = files(project)
    code, out, err = conan("plan", FILE)
    assert (code, err) == (0, "") and files(project) == before
    assert "1,499,205,120" in out
    rows = {line.split()[1]: line for line in out.splitlines() if line[:2].isdigit() and line[2] == "_"}
    assert list(rows) == [stage for stages in notebooks.NOTEBOOKS.values() for stage in stages if stage in SCRATCH]
    assert " skip" in rows["corpus"] and " run" in rows["weak"] and "1,000 steps" in rows["pretrain"]


def test_plan_shows_sizes_even_where_a_run_would_be_refused(project, conan):
    (project / "requirements-data.txt").write_text("not-there==1.0\n")
    code, out, err = conan("plan", FILE)
    assert_one_line(code, err)
    assert "1,499,205,120" in out


def test_the_installed_command_starts_and_lists_its_parts():
    command = Path(sys.executable).with_name("conan-lib")
    done = subprocess.run([command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert {"run", "status", "plan", "train", "export", "report"} <= set(done.stdout.split())
