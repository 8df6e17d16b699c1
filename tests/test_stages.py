"""A stage sees the sections that its key hashes and no others.

A key moves with its own sections and its ancestors', never with runtime or with a descendant's. The run without CLR shares everything up to
mining and differs by the mix alone.
"""

import copy
import fcntl
import multiprocessing
import os
import pickle
from pathlib import Path

import pytest
import torch

from conan_lib import artefacts
from conan_lib.errors import RunError, UserError
from conan_lib.files import lock
from conan_lib.params import Params, Runtime
from conan_lib.stages import computes, open_stage
from conan_lib.table import TABLE

PARAMS = Params(tier="test")
SECTIONS = [name for name in Params.model_fields if name not in ("tier", "runtime")]


def changed(section: str) -> Params:
    """PARAMS with another value somewhere in `section`."""
    over = {
        "data": {"max_documents": 7},
        "model": {"start": "package:some-model"},
        "sets": {"sts_pairs": 7},
        "heldout": {"texts": 77},
        "tokenizer": {"vocab_size": 999},
        "backbone": {"layers": 3},
        "teacher": {"budget": 3},
        "mine": {"candidates": 99},
        "tasks": {"split": "dev"},
        "peers": {"models": ("bm25",)},
        "evaluation": {"batch_size": 7},
        "efficiency": {"dims": (8,)},
        "mkqa": {"match": "squad"},
        "mixing": {"neighbours": 3},
        "probes": {"seed": 3},
        "translate": {"seed": 3},
        "out_of_domain": {"questions": 7},
        "curve": {"queries": 7},
        "plain": {"rate": 2.0},
    }.get(section, {"learning_rate": 0.123})
    return Params(tier="test", **{section: over})


def ancestors(name: str) -> set[str]:
    return {name}.union(*(ancestors(other) for other in TABLE[name].inputs))


@pytest.mark.parametrize("section", SECTIONS)
def test_a_key_moves_exactly_with_its_own_and_its_ancestors_sections(section):
    over = changed(section)
    for name in TABLE:
        holds = any(section in TABLE[other].sections for other in ancestors(name))
        assert (open_stage(name, over).key != open_stage(name, PARAMS).key) == holds, name


def test_runtime_and_tier_enter_no_key(tmp_path):
    other = PARAMS.model_copy(update={"tier": "x", "runtime": Runtime(threads=7, save_steps=3, artefacts=str(tmp_path), device="cpu")})
    for name in TABLE:
        assert open_stage(name, other).key == open_stage(name, PARAMS).key
    assert open_stage("corpus", other).path.is_relative_to(tmp_path)


def test_every_section_serves_a_stage_or_a_command_of_its_own():
    assert set(SECTIONS) == {section for spec in TABLE.values() for section in spec.sections} | {"translate"}


def test_a_stage_refuses_sections_that_its_key_does_not_hold():
    weak = open_stage("weak", PARAMS)
    assert weak.weak == PARAMS.weak and weak.runtime == PARAMS.runtime
    with pytest.raises(AttributeError, match="stage weak has no section or attribute 'pretrain'"):
        _ = weak.pretrain


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda stage: pickle.loads(pickle.dumps(stage))])
def test_a_stage_is_copied_and_pickled_like_any_value(again):
    stage = open_stage("weak", PARAMS)
    other = again(stage)
    assert other == stage and other.key == stage.key and other.weak == stage.weak
    with pytest.raises(AttributeError, match="stage weak has no section or attribute 'pretrain'"):
        _ = other.pretrain


def test_without_clr_is_the_same_run_but_for_the_mix():
    with_clr, without = open_stage("supervised", PARAMS), open_stage("supervised_no_clr", PARAMS)
    assert with_clr.artefact.inputs == without.artefact.inputs and with_clr.key != without.key
    assert without.path.parent == with_clr.path.parent and TABLE["supervised_no_clr"].like == "supervised"
    assert "clr" not in without.supervised.mix
    assert without.supervised.model_copy(update={"mix": with_clr.supervised.mix}) == with_clr.supervised


def test_the_graph_has_no_cycle_and_opens_in_its_own_order():
    names = list(TABLE)
    for name, spec in TABLE.items():
        assert all(names.index(other) < names.index(name) for other in spec.inputs)


def test_an_input_that_has_not_finished_is_named_before_its_files_are_asked_for(project):
    stage = open_stage("weak", PARAMS)
    sets = stage.inputs["sets"]
    with pytest.raises(
        UserError, match=rf"needs sets \({sets.key}\), which has not been computed yet: open notebooks/01_data.ipynb, or run "
    ):
        stage.needs("sets")
    for one in (sets.inputs["corpus"], sets):
        with one.work() as work:
            work.commit({})
    assert stage.needs("sets") == sets.path


def test_an_unknown_stage_lists_the_known_ones():
    with pytest.raises(UserError, match="no stage wek: choose one of corpus, sets, heldout, start, tokenizer"):
        open_stage("wek", PARAMS)


def test_a_number_is_no_parameter_file():
    with pytest.raises(UserError, match="params_file: 5 is no file name"):
        open_stage("corpus", 5)


def test_a_file_is_found_from_the_notebooks_folder(project, monkeypatch):
    here = open_stage("corpus", "params/small.yaml")
    monkeypatch.chdir(project / "notebooks")
    there = open_stage("corpus", "params/small.yaml")
    assert here.path == there.path == project / "artefacts" / "corpus" / here.key


def test_a_stage_is_computed_once_held_committed_and_cleared_of_checkpoints(project):
    calls = []

    @computes
    def function(stage):
        """What it says."""
        calls.append(stage.name)
        (stage.path / "checkpoints").mkdir()
        return {"value": 1}

    stage = open_stage("corpus", PARAMS)
    assert function(stage) is stage and function(stage).results == {"value": 1} and calls == ["corpus"]
    assert not (stage.path / "checkpoints").exists() and function.__doc__ == "What it says."


def test_a_mistake_before_the_first_file_leaves_no_trace_and_one_after_it_keeps_the_work(project):
    stage = open_stage("corpus", PARAMS)

    def function(write: bool):
        @computes
        def fail(stage):
            if write:
                (stage.path / "half.json").touch()
            raise UserError("languages: none")

        return fail

    with pytest.raises(UserError):
        function(False)(stage)
    assert stage.status == "new"
    with pytest.raises(UserError):
        function(True)(stage)
    assert stage.status == "partial"


def test_only_the_first_process_of_a_launch_writes(project, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    stage = open_stage("corpus", PARAMS)
    assert not computes(lambda stage: None, together=True)(stage).path.exists() and not stage.leads


def _one_of_a_launch(rank: int, done: Path) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE="2")

    @computes
    def function(stage):
        with open(done, "a") as file:
            file.write(f"{rank}\n")
        return {"by": rank}

    assert function(open_stage("corpus", PARAMS)).results == {"by": 0}


def test_the_first_process_of_a_launch_computes_while_the_others_wait(project, monkeypatch):
    """One of the others comes first."""
    monkeypatch.setattr(artefacts, "POLL", 0.05)
    context, done = multiprocessing.get_context("fork"), project / "done-by"
    other, first = (context.Process(target=_one_of_a_launch, args=(rank, done)) for rank in (1, 0))
    other.start()
    other.join(0.5)
    assert other.is_alive() and not done.exists() and open_stage("corpus", PARAMS).status == "new"
    first.start()
    for process in (first, other):
        process.join(60)
    assert (first.exitcode, other.exitcode, done.read_text()) == (0, 0, "0\n")


def test_who_waits_for_a_first_process_that_failed_ends_when_nobody_works_any_more(project, monkeypatch):
    stage, slept = open_stage("corpus", PARAMS), []
    stage.path.mkdir(parents=True)
    holder = open(stage.path / ".lock", "w")  # noqa: SIM115 - closed while the other waits
    lock(holder)

    asker = open(stage.path / ".lock", "r+")  # noqa: SIM115 - another one that waits, and looks at the same moment

    def sleep(_):
        slept.append(len(slept))
        if len(slept) == 3:
            holder.close()
            fcntl.flock(asker, fcntl.LOCK_SH | fcntl.LOCK_NB)
        assert len(slept) < 5

    monkeypatch.setattr(artefacts, "PATIENCE", 0.0)
    monkeypatch.setattr(artefacts.time, "sleep", sleep)
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(RunError, match=rf"^stage corpus {stage.key}: not finished, and nobody has worked at it for 0 s: the first process"):
        computes(lambda stage: pytest.fail("computed"))(stage)
    asker.close()
    assert slept == [0, 1, 2] and stage.status == "new"


@pytest.mark.parametrize("full", [True, False])
def test_torchs_word_for_a_full_disk_is_told_as_one_and_other_errors_are_ours(tmp_path, full):
    @computes
    def fails(stage):
        torch.save(torch.zeros(1000), "/dev/full") if full else torch.zeros(2) @ torch.zeros(3)

    stage = open_stage("corpus", Params(tier="test", runtime=Runtime(artefacts=str(tmp_path))))
    with pytest.raises(UserError if full else RuntimeError, match=f"^{stage.path}: .*is there space left" if full else "size"):
        fails(stage)


def test_a_file_of_a_checkout_is_refused_outside_of_it(tmp_path, monkeypatch):
    """Its stages would be looked for below the working directory."""
    home, other = tmp_path / "checkout", tmp_path / "elsewhere"
    for folder in (home / "notebooks", home / "params", other):
        folder.mkdir(parents=True)
    (home / "pyproject.toml").touch()
    for path in (home / "params/small.yaml", other / "mine.yaml"):
        path.write_text("tier: small\n")
    monkeypatch.chdir(other)
    for file in (home / "params/small.yaml", "../checkout/params/small.yaml"):
        with pytest.raises(UserError, match=f"small.yaml: its results are in {home}: cd there first"):
            open_stage("corpus", file)
    assert open_stage("corpus", "mine.yaml").path.is_relative_to(other / "artefacts")
    monkeypatch.chdir(home / "notebooks")
    assert open_stage("corpus", other / "mine.yaml").path.is_relative_to(home / "artefacts")
    assert open_stage("corpus", "params/small.yaml").path.is_relative_to(home / "artefacts")
