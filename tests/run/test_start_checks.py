"""What only a start's configuration knows is checked against the other sections before anything is computed, in one line."""

import pytest
from safetensors.torch import load_file, save_file
from tiny_starts import save_start

from conan_lib.errors import UserError
from conan_lib.model.start import prepare_start
from conan_lib.model.tokenizer import train_tokenizer
from conan_lib.params import Params
from conan_lib.run.checks import check_stages
from conan_lib.stages import open_stage

FITS = {
    "supervised": {"max_length": 32, "matryoshka_dims": [8, 16]}, "efficiency": {"dims": [8]}, "weak": {"max_length": 32},
    "tasks": {"max_length": 32}, "mixing": {"max_length": 32}, "probes": {"max_length": 32},
}  # fmt: skip
WRONG = {
    "a prefix that is too long": ({"efficiency": {"dims": [32]}}, r"efficiency\.dims: 32 is above .*start's hidden_size 16: drop it"),
    "no loss on the whole vector": ({"supervised": {"matryoshka_dims": [8]}}, r"matryoshka_dims: add .*start's hidden_size 16"),
    "a text beyond the window": ({"weak": {"max_length": 65}}, r"weak\.max_length: 65 is above .*start's context_length 64"),
    "too few texts to whiten by": ({"evaluation": {"whitening_texts": 4}, "data": {"languages": ["en", "de"]}}, "too few to whiten 16"),
    "adapters on no layer": ({"weak": {"max_length": 32, "lora": {"rank": 2, "targets": ["no_proj"]}}}, r"weak\.lora\.targets: no_proj"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_start("gemma3", tmp_path_factory.mktemp("starts") / "start")


def params(folder, tmp_path, **over) -> Params:
    return Params.model_validate({"tier": "test", "model": {"start": str(folder)}, "runtime": {"artefacts": str(tmp_path)}} | FITS | over)


@pytest.mark.parametrize("over, message", WRONG.values(), ids=WRONG.keys())
def test_what_does_not_fit_the_start_is_one_line(folder, tmp_path, over, message):
    check_stages([open_stage("weak", params(folder, tmp_path))])
    with pytest.raises(UserError, match=message) as error:
        check_stages([open_stage("weak", params(folder, tmp_path, **over))])
    assert "\n" not in str(error.value)


def test_a_gpu_that_is_not_there_is_one_line(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    run = params(folder, tmp_path, runtime={"artefacts": str(tmp_path), "device": "cuda"})
    with pytest.raises(UserError, match=r"^runtime.device: cuda, but torch finds no GPU: [^\n]*$"):
        check_stages([open_stage("weak", run)])
    (line,) = check_stages([open_stage("weak", run)], here=False)
    assert line.startswith("runtime.device: cuda, but torch finds no GPU"), "a run for another machine is planned, and told"
    assert not check_stages([open_stage("sets", run)]) and not check_stages([open_stage("weak", params(folder, tmp_path))])


def test_weights_that_changed_below_a_finished_start_are_noticed(tmp_path):
    folder = save_start("qwen3", tmp_path / "start")
    run = params(folder, tmp_path / "artefacts")
    prepare_start(open_stage("start", run))
    check_stages([open_stage("weak", run)])
    weights = load_file(folder / "model.safetensors")
    save_file({name: tensor * 2 for name, tensor in weights.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    for alone in (check_stages, lambda stages: train_tokenizer(stages[0]), lambda stages: prepare_start(open_stage("start", run))):
        with pytest.raises(UserError, match=r"holds other weights than those that .*start/[0-9a-f]{16} was made from"):
            alone([open_stage("tokenizer", run)])
    (folder / "model.safetensors").unlink()
    check_stages([open_stage("weak", run)])
