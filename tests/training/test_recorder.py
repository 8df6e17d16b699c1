"""A checkpoint is resumed whole or refused in one line that names the folder to remove."""

import pytest
import torch

from conan_lib.errors import UserError
from conan_lib.training.recorder import STATE, Recorder


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
