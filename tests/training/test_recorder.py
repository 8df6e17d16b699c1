"""A checkpoint is resumed whole or refused in one line that names the folder to remove; training that ends before its last step failed."""

from types import SimpleNamespace

import pytest
import torch

from conan_lib.errors import RunError, UserError
from conan_lib.training.recorder import STATE, Recorder, finish


@pytest.mark.parametrize("name", [STATE, "optimizer.pt", "rng_state.pth", "trainer_state.json", "model.safetensors"])
def test_a_damaged_checkpoint_is_named(tmp_path, name):
    folder = tmp_path / "checkpoint-10"
    folder.mkdir()
    for file in (STATE, "optimizer.pt"):
        torch.save({"rows": [1], "others": {}}, folder / file)
    recorder = Recorder(dict)
    recorder.resume(folder)
    assert recorder.rows == [1]
    (folder / name).write_bytes((folder / STATE).read_bytes()[:-100])
    with pytest.raises(UserError, match=f"^{folder / name}: damaged: remove {folder}, and training goes on from the checkpoint before it"):
        recorder.resume(folder)


@pytest.mark.parametrize("done", [0, 4, 5])
def test_a_trainer_that_ends_before_its_last_step_has_failed(done):
    """As transformers' does, with a warning, where its data fill no batch."""
    args = SimpleNamespace(max_steps=5, output_dir="checkpoints")
    trainer = SimpleNamespace(model="model", is_fsdp_enabled=False, args=args, state=SimpleNamespace(global_step=0))
    trainer.train = lambda **_: setattr(trainer.state, "global_step", done)
    if done == 5:
        assert finish(trainer, Recorder(dict), None) == "model"
    else:
        with pytest.raises(RunError, match=f"^checkpoints: training ended at step {done} of 5: its data gave no further batch$"):
            finish(trainer, Recorder(dict), None)
