"""A full disk, a folder that may not be written and one that vanishes end in one line; what had finished is whole, and after the mend the
same command goes on to the result of a run that nothing disturbed.

A file system of a few hundred kilobytes stands for the full disk: it needs the right to mount.
"""

import os
import shutil
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from conan_lib.errors import UserError
from conan_lib.model.tokenizer import train_tokenizer
from conan_lib.params import Params
from conan_lib.run.cli.mistakes import told
from conan_lib.stages import open_stage
from conan_lib.training.lm import pretrain
from conan_lib.training.recorder import Recorder
from tests.small_corpus import finish_data, small_params

PRETRAIN = {"learning_rate": 1e-2, "batch_size": 4, "max_length": 32, "max_steps": 12, "validation_blocks": 2}


def prepare(root) -> Params:
    """A run whose text and tokenizer are there."""
    params = small_params(root, runtime={"save_steps": 3}, pretrain=PRETRAIN)
    finish_data(params)
    train_tokenizer(open_stage("tokenizer", params))
    return params


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict:
    """The weights of a run that nothing disturbed."""
    return load_file(pretrain(open_stage("pretrain", prepare(tmp_path_factory.mktemp("whole")))).path / "model/model.safetensors")


def assert_goes_on(params: Params, undisturbed: dict) -> None:
    """The stages before are whole, and pretraining ends as if nothing had been."""
    for name in ("corpus", "sets", "tokenizer"):
        open_stage(name, params).artefact.verify()
    weights = load_file(pretrain(open_stage("pretrain", params)).path / "model/model.safetensors")
    assert all(weights[name].equal(undisturbed[name]) for name in undisturbed)


def line_of(error: BaseException) -> str:
    """What the command line prints."""
    found = told(error)
    assert found is not None, repr(error)
    assert found[1] == 2 and "\n" not in found[0]
    return found[0]


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts a file system of so many KiB; a second call makes room."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size: int, *options: str):
        option = ",".join([*options, f"size={size}k"])
        subprocess.run(["mount", "-t", "tmpfs", "-o", option, "tmpfs", folder], check=True, capture_output=True)
        return folder

    try:
        mount(1000)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("may not mount")
    yield lambda size: mount(size, "remount")
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("left", [0, 8, 20, 60, 120, 250])
def test_a_full_disk_is_a_line_and_the_run_goes_on_when_there_is_room(small_disk, undisturbed, left):
    """It fills at several moments: at once, while random/ is written, in the first checkpoint, in a later one."""
    folder = small_disk(4000)
    params = prepare(folder / "artefacts")
    filler = folder / "filler"
    free = shutil.disk_usage(folder).free
    filler.write_bytes(bytes(max(0, free - left * 1024)))
    with pytest.raises(Exception) as error:  # whatever it is, the command line knows it
        pretrain(open_stage("pretrain", params))
    assert "space" in line_of(error.value)
    assert open_stage("pretrain", params).status != "finished"
    filler.unlink()
    assert_goes_on(params, undisturbed)


def test_a_vanished_folder_is_a_line(tmp_path, undisturbed, monkeypatch):
    params = prepare(tmp_path)
    stage, on_step_end = open_stage("pretrain", params), Recorder.on_step_end

    def vanish(self, args, state, control, **rest):
        if state.global_step == 5:
            shutil.rmtree(stage.path)
        on_step_end(self, args, state, control, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "on_step_end", vanish)
        with pytest.raises((UserError, OSError)) as error:
            pretrain(stage)
    assert str(stage.path) in line_of(error.value)
    assert_goes_on(params, undisturbed)


@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="the superuser may write everywhere")
def test_a_folder_that_may_not_be_written_is_a_line(tmp_path, undisturbed):
    params = prepare(tmp_path / "artefacts")
    code = (
        "import sys; from tests.faults.test_disk import *; from conan_lib.run.cli import main\n"
        "params = small_params(sys.argv[1], runtime={'save_steps': 3}, pretrain=PRETRAIN)\n"
        "try: pretrain(open_stage('pretrain', params))\nexcept Exception as error: print(line_of(error))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "artefacts")]
    if os.geteuid() == 0:  # without the right to pass over permissions
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search", *command]
    for folder in (tmp_path / "artefacts").iterdir():
        folder.chmod(0o555)
    (tmp_path / "artefacts").chmod(0o555)
    try:
        said = subprocess.run(command, capture_output=True, text=True)
    finally:
        for folder in (tmp_path / "artefacts", *(tmp_path / "artefacts").iterdir()):
            folder.chmod(0o755)
    assert "may not be read or written: change its permissions" in said.stdout, said.stderr
    assert_goes_on(params, undisturbed)
