"""A setting that is given trains another model: none is lost on its way from the parameter file to the step."""

import pytest
import torch
from safetensors.torch import load_file

from conan_lib.model.tokenizer import train_tokenizer
from conan_lib.stages import open_stage
from conan_lib.training.contrastive import train_supervised, train_weak
from conan_lib.training.lm import pretrain
from conan_lib.training.mine import mine_negatives
from tests.small_corpus import finish_data, small_params
from tests.small_pairs import finish_inputs, pair_params

pytestmark = pytest.mark.usefixtures("one_environment")
TRAIN = {"weak": train_weak, "supervised": train_supervised}
OPTIMISER = [{"weight_decay": 0.9}, {"max_grad_norm": 1e-4}]  # rates and their schedule: test_arguments.py
CASES = [
    *(("weak", setting) for setting in [*OPTIMISER, {"precision": "bf16"}, {"pooling": "lasttoken"}, {"temperature": 0.5}]),
    *(("supervised", setting) for setting in [{"share_temperature": 0.1}, {"temperature": 0.5}, {"cosent_temperature": 0.5}, {"pools": 12},
                                              {"hard_negatives": 2}, {"clr_queries": 1}, {"matryoshka_dims": [16]}]),
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Trains a stage for a few steps with some settings, inputs shared, and gives the weights."""
    root, weights = tmp_path_factory.mktemp("settings") / "artefacts", {}
    finish_inputs(pair_params(root))

    def train(name: str, **settings) -> dict[str, torch.Tensor]:
        short = {"weak": {"max_steps": 4}, "supervised": {"max_steps": 7}}
        params = pair_params(root, **short | {name: short[name] | settings})
        stage = open_stage(name, params)
        if stage.key not in weights:
            if name == "supervised":
                train("weak")
                mine_negatives(open_stage("mine", params))
            TRAIN[name](stage)
            weights[stage.key] = load_file(stage.path / "model" / "model.safetensors")
        return weights[stage.key]

    return train


def differ(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return any(not torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(("name", "setting"), CASES, ids=[f"{name} {next(iter(setting))}" for name, setting in CASES])
def test_a_setting_of_a_contrastive_stage_reaches_its_weights(trained, name, setting):
    assert differ(trained(name), trained(name, **setting))


def test_a_setting_of_pretraining_reaches_its_weights(tmp_path):
    found = []
    for setting in ({}, {"language_balance": 0.0}, *OPTIMISER):
        few = {"learning_rate": 1e-2, "batch_size": 4, "max_length": 32, "max_steps": 3, "validation_blocks": 2}
        params = small_params(tmp_path / "artefacts", pretrain=few | setting)
        if not open_stage("corpus", params).finished:
            finish_data(params)
            train_tokenizer(open_stage("tokenizer", params))
        found.append(load_file(pretrain(open_stage("pretrain", params)).path / "model" / "model.safetensors"))
    assert all(differ(found[0], other) for other in found[1:])
