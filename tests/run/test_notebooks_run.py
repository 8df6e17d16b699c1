"""A run executes what is not done and only that; a failure is one line and leaves what was done; kernels are of this Python and offline.

The notebooks here are small ones that commit a name; those marked with a kernel go through papermill for real.
"""

import asyncio
import gc
import json
import logging
import signal
import subprocess
import sys
import time
import types
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import nbformat
import papermill
import pytest
from rich.console import Console

from conan_lib.errors import RunError, Stopped, UserError
from conan_lib.params import load_params
from conan_lib.params.data import DataParams
from conan_lib.params.evaluation import TasksParams
from conan_lib.params.mkqa import MkqaParams
from conan_lib.params.model import ModelParams
from conan_lib.run.notebooks import NOTEBOOKS, LiveLine, run_notebooks, select, train
from conan_lib.run.worker import environment_of
from conan_lib.stages import open_stage, project_root
from conan_lib.table import RUN, TABLE
from tests.conftest import CELL, SCRATCH, write_notebook

FILE = "params/small.yaml"


@pytest.fixture
def reports(monkeypatch) -> list:
    """The report is replaced by its first line; yields the parameter files that it was built from."""
    built = []

    def build_report(params_file):
        built.append(params_file)
        page = project_root() / "runs/small/report.md"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text("# Report\n")

    monkeypatch.setitem(sys.modules, "conan_lib.report.build", types.SimpleNamespace(build_report=build_report))
    return built


def test_notebooks_cover_the_graph_in_an_order_that_can_run():
    order = [stage for stages in NOTEBOOKS.values() for stage in stages]
    assert sorted(order) == sorted(RUN)
    for position, name in enumerate(order):
        assert set(TABLE[name].inputs) <= set(order[:position])


@pytest.mark.parametrize("name", TABLE)
def test_every_stage_has_its_function(name):
    module, _, function = TABLE[name].function.partition(":")
    assert callable(getattr(import_module(module), function))


def test_a_selection_is_by_number_notebook_or_stage():
    names = list(NOTEBOOKS)
    assert select() == names
    assert select("5", "06_supervised") == select("teacher", "mine") == select("05", "supervised") == names[4:6]
    assert select(only="clr_umap") == select(only="mix") == [names[7]]
    assert select("weak") == names[4:] and select(stop="2") == names[:2]
    with pytest.raises(UserError, match=r"no notebook or stage 9: choose one of 01_data, .*supervised_no_clr"):
        select("9")
    with pytest.raises(UserError, match="--from 5 comes after --to 2"):
        select("5", "2")
    with pytest.raises(UserError, match="leave out --from and --to"):
        select("5", only="6")


def test_a_run_does_everything_once_and_the_report_last(project, kernels, reports):
    run_notebooks(FILE)
    assert kernels == list(NOTEBOOKS) and len(reports) == 1
    assert all(open_stage(name, FILE).results == {"name": name} for name in SCRATCH)
    run_notebooks(FILE)
    assert kernels == list(NOTEBOOKS) and len(reports) == 1


def test_without_a_terminal_a_line_at_each_start_says_which_of_how_many_and_how_long(project, kernels, reports, conan):
    code, out, err = conan("run", FILE)
    starts = [line for line in out.splitlines() if " start " in line]
    assert (code, err) == (0, "") and [line.split()[-1].strip() for line in starts] == [stages[-1] for stages in NOTEBOOKS.values()]
    assert " 1/8  01_data: corpus" in starts[0], "no like stage is known, so nothing is said of the time"
    assert all(f" start {n}/8" in line and f"  {name}: " in line
               for n, (name, line) in enumerate(zip(NOTEBOOKS, starts, strict=True), 1))  # fmt: skip
    assert out.splitlines()[-1].split() == ["page", "runs/small/index.html"]
    (project / FILE).write_text("tier: small\nmixing: {neighbours: 3}\n")
    assert " 1/1, about 0 s left  08_clr_umap: mix" in conan("run", FILE)[1]


def test_a_first_run_takes_its_estimate_from_the_committed_report_of_its_tier(project, kernels, reports, conan):
    tables = project / "reports/small/tables"
    tables.mkdir(parents=True)
    (tables / "stages.csv").write_text("stage,seconds\ncorpus,100\ntokenizer,50\npretrain,\n")
    out = conan("run", FILE)[1]
    assert " 1/8, about 2 min left, " in next(line for line in out.splitlines() if " start " in line)


def test_a_changed_parameter_runs_what_depends_on_it(project, kernels, reports):
    run_notebooks(FILE)
    kernels.clear()
    (project / FILE).write_text("tier: small\nmixing: {neighbours: 3}\n")
    run_notebooks(FILE)
    assert kernels == ["08_clr_umap"] and len(reports) == 2


def test_an_edited_or_lost_notebook_is_drawn_again_without_computing(project, kernels, reports):
    run_notebooks(FILE)
    before = open_stage("weak", FILE).artefact.manifest
    kernels.clear()
    write_notebook(project / "notebooks/05_weak.ipynb", CELL.format(stages=("teacher", "weak")), "'a new figure'")
    (project / "artefacts/notebooks/small/03_pretrain.ipynb").unlink()
    run_notebooks(FILE)
    assert kernels == ["03_pretrain", "05_weak"] and len(reports) == 2
    assert open_stage("weak", FILE).artefact.manifest == before


@pytest.mark.parametrize("content", ["{", "", "[]"])
def test_a_broken_record_is_drawn_again(project, kernels, reports, content):
    run_notebooks(FILE)
    kernels.clear()
    for name in ("02_tokenizer", "report"):
        (project / f"artefacts/notebooks/small/{name}.json").write_text(content)
    run_notebooks(FILE, only="1")
    run_notebooks(FILE)
    assert kernels == ["02_tokenizer"] and len(reports) == 2


def test_a_selection_needs_its_inputs_and_leaves_the_report(project, kernels, reports):
    with pytest.raises(UserError, match=r"04_sft: stage sft needs sets \([0-9a-f]{16}\), which has not been computed yet: open"):
        run_notebooks(FILE, only="sft")
    assert kernels == [] and not (project / "artefacts").exists()
    run_notebooks(FILE, stop="3")
    run_notebooks(FILE, start="4", stop="4")
    assert kernels == list(NOTEBOOKS)[:4] and reports == []
    run_notebooks(FILE)
    assert kernels == list(NOTEBOOKS) and len(reports) == 1


def test_the_data_is_checked_before_anything_starts(project, kernels):
    (project / "requirements-data.txt").write_text("sonofman-not-there==1.0  # text\npytest==0.1\n")
    with pytest.raises(UserError, match=r"missing sonofman-not-there, pytest \(found .*, need ==0.1\): run `make data`"):
        run_notebooks(FILE)
    assert kernels == [] and not (project / "artefacts").exists()


@pytest.mark.parametrize(
    "text", ["data: {languages: [en], sets: [{from: owner/name, task: weak, lang: en}]}", "tasks: {suite: MKQARetrieval}"]
)
def test_a_hub_without_a_network_is_found_before_anything_starts(project, kernels, monkeypatch, text):
    from conan_lib.data.declared import hub

    def refuse():
        raise OSError("no route\nto host")

    for switch in hub.SWITCHES:
        monkeypatch.delenv(switch, raising=False)
    monkeypatch.setattr(hub, "get_session", refuse)
    (project / FILE).write_text(f"tier: small\n{text}\n")
    with pytest.raises(
        UserError, match=r"(data.sets: owner/name|tasks.suite: MKQARetrieval), but http.* cannot be reached \(OSError\): connect, or"
    ):
        run_notebooks(FILE)
    assert kernels == [] and not (project / "artefacts").exists()


def test_a_missing_notebook_is_found_before_anything_starts(project, kernels):
    (project / "notebooks/07_eval.ipynb").unlink()
    with pytest.raises(UserError, match=r"07_eval\.ipynb: no such notebook"):
        run_notebooks(FILE)
    assert kernels == []


def test_with_a_kernel_of_this_python_and_its_environment(project):
    write_notebook(
        project / "notebooks/01_data.ipynb",
        "import os, sys\nprint(sys.executable)\nprint(os.getcwd())\nprint(os.environ['OMP_NUM_THREADS'], os.environ['HF_HUB_OFFLINE'])",
        CELL.format(stages=("corpus",)),
    )
    run_notebooks(FILE, only="1", console=Console(quiet=True))
    copy = nbformat.read(project / "artefacts/notebooks/small/01_data.ipynb", as_version=4)
    text = "".join(output.text for cell in copy.cells for output in cell.outputs)
    assert text.split() == [sys.executable, str(project), "2", "1", "working", "on", "corpus"]
    injected = next(cell for cell in copy.cells if "injected-parameters" in cell.metadata.get("tags", []))
    assert f'params_file = "{FILE}"' in injected.source, "the executed copy must not carry this machine's paths"
    record = json.loads((project / "artefacts/notebooks/small/01_data.json").read_text())
    assert record["keys"] == {name: open_stage(name, FILE).key for name in ("corpus", "sets", "heldout")}


@pytest.mark.parametrize("number", [0, 1])
def test_with_a_kernel_of_this_python_whatever_else_is_called_python3(project, monkeypatch, number):
    stranger = project / "jupyter/kernels/python3/kernel.json"
    stranger.parent.mkdir(parents=True)
    stranger.write_text(json.dumps({"argv": ["false"], "display_name": "a stranger's", "language": "python"}))
    monkeypatch.setenv("JUPYTER_DATA_DIR" if number else "JUPYTER_PATH", str(project / "jupyter"))
    write_notebook(project / "notebooks/01_data.ipynb", CELL.format(stages=("corpus",)))
    run_notebooks(FILE, only="1", console=Console(quiet=True))
    assert open_stage("corpus", FILE).finished


def test_with_a_kernel_that_fails_one_line_names_stage_error_and_copy(project, conan):
    write_notebook(project / "notebooks/01_data.ipynb", "print('so far')", "raise ValueError('loss is\\nnot finite')")
    code, _, err = conan("run", FILE)
    line = "conan-lib: 01_data: stage corpus failed in cell 4: ValueError: loss is (see artefacts/notebooks/small/01_data.ipynb)\n"
    assert (code, err) == (1, line)
    assert "Traceback" in (project / "artefacts/notebooks/small/01_data.ipynb").read_text()
    assert not (project / "artefacts/notebooks/small/01_data.json").exists()


def test_with_a_kernel_a_users_mistake_found_late_is_still_one(project, conan):
    write_notebook(project / "notebooks/01_data.ipynb", "from conan_lib.errors import UserError\nraise UserError('data: no text is left')")
    assert conan("run", FILE)[::2] == (2, "conan-lib: data: no text is left\n")


def test_with_a_kernel_that_dies(project):
    write_notebook(project / "notebooks/01_data.ipynb", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(RunError, match="01_data: stage corpus: the kernel died, perhaps out of memory"):
        run_notebooks(FILE, console=Console(quiet=True))


@pytest.mark.parametrize("how, code", [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_with_a_kernel_that_ends_with_its_pipeline(project, how, code):
    cell = "import os, time, pathlib\npathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(900)"
    write_notebook(project / "notebooks/01_data.ipynb", cell)
    pipeline = subprocess.Popen([Path(sys.executable).with_name("conan-lib"), "run", FILE], stderr=subprocess.PIPE, text=True)
    pid = project / "pid"
    while not (pid.is_file() and pid.read_text()):
        assert pipeline.poll() is None
        time.sleep(0.05)
    pipeline.send_signal(how)
    assert pipeline.wait(120) == code
    assert code < 0 or pipeline.stderr.read().splitlines()[-1] == "conan-lib: interrupted; run it again to go on"
    deadline = time.monotonic() + 120
    while Path(f"/proc/{pid.read_text()}").exists() and "zombie" not in Path(f"/proc/{pid.read_text()}/status").read_text():
        assert time.monotonic() < deadline, "the kernel outlives its pipeline"
        time.sleep(0.1)


HUB = {
    "a start": {"model": ModelParams(start=f"owner/name@{'0' * 40}")},
    "a declared set": {"data": DataParams(sets=({"from": "owner/name", "task": "weak", "lang": "en"},))},
    "what it is decontaminated against": {"data": DataParams(decontaminate=("STSBenchmark",))},
    "a suite": {"tasks": TasksParams(suite="MTEB(eng, v2)")},
    "the paper's MKQA": {"mkqa": MkqaParams(source="hub")},
}


@pytest.mark.parametrize("over", HUB.values(), ids=HUB.keys())
def test_kernels_are_offline_only_where_nothing_is_read_from_the_hub(project, over):
    params = load_params(FILE)
    assert environment_of(params)["HF_HUB_OFFLINE"] == "1"
    local = params.model_copy(update={"model": ModelParams(start="./folder")})
    assert environment_of(local)["HF_HUB_OFFLINE"] == "1"
    assert not {"HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"} & set(environment_of(params.model_copy(update=over)))


def test_nothing_is_said_after_the_line_of_an_interrupted_run(project, conan, monkeypatch, caplog):
    """Though the kernel's end, which was awaited, comes when nobody awaits it any more."""
    monkeypatch.setattr(logging.getLogger("asyncio"), "disabled", False)

    async def end():
        raise RuntimeError("Kernel died")

    def interrupted(*_, **__):
        loop = asyncio.new_event_loop()
        task = loop.create_task(end())  # it lives as long as this frame, which the exception keeps
        loop.run_until_complete(asyncio.wait([task]))
        loop.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(papermill, "execute_notebook", interrupted)
    code, _, err = conan("run", "params/small.yaml", "--only", "1")
    gc.collect()
    assert code == 130 and err == "conan-lib: interrupted; run it again to go on\n" and not caplog.records


def test_the_live_line_is_the_last_one_written():
    lines, told = [], []
    live = LiveLine(lines.append, told.append)
    for text in ("one\ntwo\n", "\r 10%\r 20%\r", "\n\n", "conan-lib: stage x: waits\nthree\n"):
        live.write(text)
    live.flush()
    assert lines == ["two", "20%", "three"] and told == ["conan-lib: stage x: waits"]


def test_train_is_the_notebooks_call_in_this_process(project, monkeypatch):
    monkeypatch.setitem(sys.modules, "fake_room", types.SimpleNamespace(compute=lambda stage: (stage, "computed")))
    monkeypatch.setitem(TABLE, "corpus", replace(TABLE["corpus"], function="fake_room:compute"))
    stage, word = train("corpus", FILE)
    assert (stage.key, word) == (open_stage("corpus", FILE).key, "computed")
    with pytest.raises(UserError, match="no stage wek: choose one of"):
        train("wek", FILE)


@pytest.mark.parametrize(
    ("error", "code"),
    [(Stopped("stopped at step 3 of 9"), 3), (UserError("a typo"), 2), (RunError("a loss that is not finite"), 1), (None, 0)],
)
def test_only_a_train_that_stopped_in_order_leaves_its_mark(project, conan, monkeypatch, error, code):
    """A batch system begins again what is marked, and nothing else; a mark of the time before does not count."""

    def compute(stage):
        assert not mark.exists()
        if error is not None:
            raise error
        return stage

    mark = project / "stopped"
    mark.touch()
    monkeypatch.setitem(sys.modules, "fake_room", types.SimpleNamespace(compute=compute))
    monkeypatch.setitem(TABLE, "corpus", replace(TABLE["corpus"], function="fake_room:compute"))
    assert conan("train", "corpus", FILE, "--stopped", mark)[0] == code
    assert mark.exists() == isinstance(error, Stopped)
    assert conan("train", "corpus", FILE, "--stopped", "none/stopped")[::2] == (
        2,
        "conan-lib: --stopped none/stopped: its folder is not there: make it, or name another\n",
    )
    mark.touch()
    assert conan("train", "corpus", "no.yaml", "--stopped", mark)[0] == 2 and not mark.exists()
