"""Every mistake in a parameter file is one line that names the place; files inherit one level deep; the tree is frozen; ours validate."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from conan_lib.errors import UserError
from conan_lib.params import load_params, without_clr

ROOT = Path(__file__).parents[1]
FILES = sorted(path for path in (ROOT / "params").rglob("*.yaml") if not {"grids", "jobs"} & set(path.parts))

BAD = {
    "unknown key": ("weak: {temprature: 0.1}", "weak.temprature: unknown key, did you mean temperature?"),
    "unknown section": ("wek: {}", "wek: unknown key, did you mean weak?"),
    "mistyped": ("pretrain: {max_steps: many}", "pretrain.max_steps: Input should be a valid integer"),
    "out of range": ("pretrain: {learning_rate: -1}", "pretrain.learning_rate: Input should be greater than 0 (given: -1)"),
    "no such choice": ("weak: {precision: fp16}", "weak.precision: Input should be 'fp32' or 'bf16' (given: 'fp16')"),
    "heads": ("backbone: {hidden_size: 96, heads: 6, kv_heads: 4}", "backbone: heads 6 is not divisible by kv_heads 4"),
    "hidden": ("backbone: {hidden_size: 100, heads: 3}", "backbone: hidden_size 100 is not divisible by heads 3"),
    "Matryoshka above hidden": (
        "backbone: {hidden_size: 64, heads: 4, kv_heads: 2}\nsupervised: {matryoshka_dims: [32, 128]}\nefficiency: {dims: [8]}",
        "supervised.matryoshka_dims: 128 is above backbone.hidden_size 64",
    ),
    "dim of the curve above hidden": ("efficiency: {dims: [4096]}", "efficiency.dims: 4096 is above backbone.hidden_size 3584"),
    "a size with fewer entries than the tokenizer": (
        "efficiency: {sizes: {small: {vocab_size: 500}}}",
        "efficiency.sizes.small.vocab_size: 500 is below tokenizer.vocab_size 150000: raise it",
    ),
    "length above context": ("backbone: {context_length: 64}", "max_length: 128 is above backbone.context_length 64"),
    "more negatives than candidates": ("mine: {candidates: 3}", "supervised.hard_negatives: 7 is above mine.candidates 3"),
    "re-mining never": ("supervised: {dhnm: {rule: remined}}", "supervised.dhnm: remine_interval: give the steps between two searches"),
    "an interval without re-mining": ("supervised: {dhnm: {remine_interval: 9}}", "supervised.dhnm: remine_interval: give the steps"),
    "balance without STS": ("supervised: {balance: 0.8, mix: {clr: 1}}", "supervised: balance: needs sts and another task in mix"),
    "LoRA without a rank": ("weak: {lora: {alpha: 8}}", "weak.lora.rank: Field required"),
    "one language": ("data: {languages: [en]}", "data: languages: give at least two different codes"),
    "a book held out twice": ("data: {dev_books: [9]}", "test_books and dev_books share [9]"),
    "not YAML": ("data: [1, {", "not readable as YAML"),
    "not a mapping": ("- 1\n- 2", "expected keys and values at the top, found list"),
    "missing base": ("base: none.yaml", "none.yaml: no such parameter file"),
    "a number as base": ("base: 5", "base: 5 is no file name: give a file name"),
    "a list as base": ("base: [tiny.yaml]", "base: ['tiny.yaml'] is no file name"),
    "a rate without end": ("weak: {learning_rate: .inf}", "weak.learning_rate: Input should be a finite number"),
    "a seed beyond 32 bits": ("sft: {seed: 4294967296}", "sft.seed: Input should be less than 4294967296"),
    "Norwegian among shares": ("translate: {shares: {no: 1, de: 1}}", 'YAML reads a bare no so: quote it ("no")'),
    "Norwegian in a list": ("data: {languages: [en, no]}", 'YAML reads a bare no so: quote it ("no")'),
}


def write(folder: Path, text: str, name: str = "p.yaml") -> Path:
    path = folder / name
    path.write_text(text if "base:" in text or text.startswith("-") else f"tier: test\n{text}")
    return path


@pytest.mark.parametrize("text, message", BAD.values(), ids=BAD.keys())
def test_a_mistake_is_one_line_that_names_the_place(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(UserError) as error:
        load_params(path)
    assert message in str(error.value) and str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value) and "pydantic" not in str(error.value)


def test_every_mistake_of_a_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"pretrain\.max_steps: .*; weak\.nothing: unknown key"):
        load_params(write(tmp_path, "pretrain: {max_steps: 0}\nweak: {nothing: 1}"))


def test_overrides_merge_key_by_key_and_a_base_has_no_base(tmp_path):
    write(tmp_path, "weak: {seed: 3, soft_mask: {reading: logit}}\nsft: {seed: 5}", "root.yaml")
    over = load_params(write(tmp_path, "base: root.yaml\nweak: {soft_mask: {attention: causal}}\nsft: {seed: 6}", "over.yaml"))
    assert (over.weak.seed, over.weak.soft_mask.reading, over.weak.soft_mask.attention, over.sft.seed) == (3, "logit", "causal", 6)
    with pytest.raises(UserError, match="inheritance is one level deep"):
        load_params(write(tmp_path, "base: over.yaml", "deep.yaml"))


def test_the_tree_is_frozen():
    params = load_params(ROOT / "params/tiny.yaml")
    with pytest.raises(ValidationError):
        params.weak.seed = 3


def test_nothing_is_left_without_clr(tmp_path):
    with pytest.raises(UserError, match="only clr has a share"):
        without_clr(load_params(write(tmp_path, "supervised: {mix: {clr: 1}}")))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "params")))
def test_every_parameter_file_validates_and_names_its_own_tier(path):
    params = load_params(path)
    without_clr(params)
    same = [load_params(other) for other in FILES if load_params(other).tier == params.tier]
    assert all(one.model_copy(update={"runtime": params.runtime}) == params for one in same), "two results would share a report folder"


def test_the_paper_file_holds_the_published_values():
    p = load_params(ROOT / "params/paper.yaml")
    b = p.backbone
    assert (b.layers, b.hidden_size, b.heads, b.kv_heads, b.ffn_size, b.context_length) == (8, 3584, 32, 8, 8192, 32_768)
    assert (p.tokenizer.vocab_size, p.tokenizer.sample_texts, len(p.data.languages)) == (150_000, 400_000, 26)
    assert (p.pretrain.learning_rate, p.pretrain.warmup_ratio, p.pretrain.weight_decay, p.pretrain.batch_size) == (1e-4, 0.05, 1e-3, 256)
    assert (p.sft.learning_rate, p.sft.warmup_ratio, p.weak.learning_rate) == (2e-5, 0.02, 1e-4)
    assert p.pretrain.batch_size * p.pretrain.max_length * p.pretrain.max_steps == pytest.approx(3e12, rel=1e-5)
    assert p.supervised.hard_negatives == 7 and p.supervised.matryoshka_dims == (256, 512, 1024, 1536, 2048, 3072, 3584)
    d = p.supervised.dhnm
    assert (d.rule, d.floor, d.ratio, d.ceiling) == ("v2", 0.4, 1.2, 0.7)
