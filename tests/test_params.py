"""Every mistake in a parameter file is one line that names the place; files inherit one level deep; the tree is frozen; ours validate."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from conan_lib.data.languages import ENGLISH_NAMES, UNSPACED
from conan_lib.data.sources.bible import LANGUAGES
from conan_lib.errors import UserError
from conan_lib.options import Options, types
from conan_lib.params import load_params, without_clr
from conan_lib.params.data import PAPER_SHARES, DataParams, TranslateParams
from conan_lib.params.grid import cell_params, load_grid
from conan_lib.params.job import load_job
from conan_lib.params.languages import wrong

ROOT = Path(__file__).parents[1]
FILES = sorted(path for path in (ROOT / "params").rglob("*.yaml") if not {"grids", "jobs", "accelerate"} & set(path.parts))

BAD = {
    "unknown key": ("weak: {temprature: 0.1}", "weak.temprature: unknown key, did you mean temperature?"),
    "unknown section": ("wek: {}", "wek: unknown key, did you mean weak?"),
    "mistyped": ("pretrain: {max_steps: many}", "pretrain.max_steps: Input should be a valid integer"),
    "out of range": ("pretrain: {learning_rate: -1}", "pretrain.learning_rate: Input should be greater than 0 (given: -1)"),
    "a start beside sizes": ("model: {start: 'package:a'}\nbackbone: {layers: 2}", "backbone: stands beside model.start"),
    "a stage left out from scratch": ("sft: null", "sft: null needs a model.start"),
    "a start without its revision": ("model: {start: Qwen/Qwen3-0.6B}", "model.start: Qwen/Qwen3-0.6B: add @ and the revision"),
    "a key of a start": ("model: {start: ./a, layer: 2}", "model.layer: unknown key, did you mean layers?"),
    "no such choice": ("weak: {precision: fp16}", "weak.precision: Input should be 'fp32', 'bf16' or 'auto' (given: 'fp16')"),
    "heads": ("backbone: {hidden_size: 96, heads: 6, kv_heads: 4}", "backbone: heads 6 is not divisible by kv_heads 4"),
    "hidden": ("backbone: {hidden_size: 100, heads: 3}", "backbone: hidden_size 100 is not divisible by heads 3"),
    "Matryoshka above hidden": (
        "backbone: {hidden_size: 64, heads: 4, kv_heads: 2}\nsupervised: {matryoshka_dims: [32, 128]}\nefficiency: {dims: [8]}",
        "supervised.matryoshka_dims: 128 is above backbone.hidden_size 64",
    ),
    "Matryoshka without the whole": (
        "backbone: {hidden_size: 64, heads: 4, kv_heads: 2}\nsupervised: {matryoshka_dims: [16, 32]}\nefficiency: {dims: [8]}",
        "supervised.matryoshka_dims: add backbone.hidden_size 64: no loss would see the whole vector",
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
    "a weak pair alone": (
        "weak: {batch_size: 1}",
        "weak.batch_size: 1 gives a batch no text but the anchor's own positive: its loss is 0 and nothing is learnt: give at least 2",
    ),
    "a pair of STS alone": (
        "supervised: {mix: {sts: 1}, task_batch_size: {sts: 1}}",
        "supervised: task_batch_size.sts: 1 gives a batch no pair to rank against: its loss is 0 and nothing is learnt: give at least 2",
    ),
    "an anchor alone": (
        "supervised: {hard_negatives: 0, mix: {retrieval: 1}, task_batch_size: {retrieval: 1}}",
        "supervised: task_batch_size.retrieval: 1 gives a batch no text but the anchors' own positive: its loss is 0 and nothing is learnt"
        ": give at least 2, or hard_negatives",
    ),
    "queries of one passage alone": (
        "supervised: {hard_negatives: 0, clr_queries: 4, mix: {clr: 1}, task_batch_size: {clr: 4}}",
        "supervised: task_batch_size.clr: 4 gives a batch no text but the anchors' own positive: its loss is 0 and nothing is learnt: "
        "give at least 5, or hard_negatives",
    ),
    "a task that is not registered": ("supervised: {mix: {verses: 1}}", "supervised: mix: no task verses: choose from retrieval, clr, sts"),
    "a prompt for no task": ("weak: {prompts: {verses: {query: q}}}", "weak: prompts: no task verses: choose from retrieval"),
    "a misspelt side of a prompt": ("weak: {prompts: {weak: {qury: q}}}", "weak.prompts.weak.qury: unknown key, did you mean query?"),
    "LoRA without a rank": ("weak: {lora: {alpha: 8}}", "weak.lora.rank: Field required"),
    "one language": ("data: {languages: [en]}", "data: languages: give at least two different codes"),
    "a book held out twice": ("data: {dev_books: [9]}", "test_books and dev_books share [9]"),
    "not YAML": ("data: [1, {", "not readable as YAML"),
    "not a mapping": ("- 1\n- 2", "expected keys and values at the top, found list"),
    "missing base": ("base: none.yaml", "none.yaml: no such parameter file"),
    "a number as base": ("base: 5", "base: 5 is no file name: give a file name"),
    "a list as base": ("base: [tiny.yaml]", "base: ['tiny.yaml'] is no file name"),
    "an empty base": ("base: ''", "is a folder: name a file"),
    "a key twice": ("weak: {seed: 1}\nsft: {seed: 2}\nweak: {seed: 3}", 'not readable as YAML: weak stands twice: keep one in "'),
    "a key twice in a section": ("weak: {seed: 1, seed: 3}", "seed stands twice: keep one"),
    "true as a number": ("weak: {max_steps: true}", "weak.max_steps: True is not a number"),
    "no as a rate": ("weak: {learning_rate: no}", "weak.learning_rate: False is not a number"),
    "true among numbers": ("data: {test_books: [3, yes]}", "data.test_books: True is not a number"),
    "true as a share": ("supervised: {mix: {clr: true}}", "supervised.mix: True is not a number"),
    "an octal number": ("weak: {max_steps: 010}", "010: write a number in decimals"),
    "a number to the base 60": ("weak: {max_steps: 1:30}", "1:30: write a number in decimals"),
    "a rate to the base 60": ("weak: {learning_rate: 1:30.5}", "1:30.5: write a number in decimals"),
    "no such day": ("data: {source: 2026-13-45}", "not readable as YAML: month must be in 1..12"),
    "half a character in a key": (
        'efficiency: {sizes: {"\\ud800": {layers: 1}}}',
        "efficiency.sizes: '\\ud800' holds a character that is not",
    ),
    "brackets without end": ("data: " + "[" * 3000 + "]" * 3000, "not readable as YAML: "),
    "a number of 5001 digits": ("weak: {max_steps: " + "9" * 5001 + "}", "not readable as YAML: "),
    "a number over a base's section": ("base: root.yaml\nweak: 5", "weak: expected a mapping, got 5"),
    "null over a base's section": ("base: root.yaml\nweak:", "weak: expected a mapping, got None"),
    "a number over a part of a section": ("base: root.yaml\nweak: {soft_mask: 5}", "weak.soft_mask: expected a mapping, got 5"),
    "a section over a number": ("base: root.yaml\nsft: {max_steps: {a: 1}}", "sft.max_steps: expected a value, got a mapping"),
    "too many layers": ("backbone: {layers: 99999999999}", "backbone.layers: Input should be less than or equal to 1000"),
    "too wide": ("backbone: {hidden_size: 9223372036854775808}", "backbone.hidden_size: Input should be less than or equal to 1000000"),
    "too many tokens": ("tokenizer: {vocab_size: 10000001}", "tokenizer.vocab_size: Input should be less than or equal to 10000000"),
    "a folder with a null": ('runtime: {artefacts: "a\\0b"}', "runtime.artefacts: 'a\\x00b' holds a character that is not text"),
    "half a character": ('runtime: {artefacts: "a\\ud800"}', "runtime.artefacts: 'a\\ud800' holds a character that is not text"),
    "half a character among prompts": (
        'tasks: {prompts: {query: "\\udfff"}}',
        "tasks.prompts: '\\udfff' holds a character that is not text",
    ),
    "a rate without end": ("weak: {learning_rate: .inf}", "weak.learning_rate: Input should be a finite number"),
    "a seed beyond 32 bits": ("sft: {seed: 4294967296}", "sft.seed: Input should be less than 4294967296"),
    "Norwegian among shares": ("translate: {shares: {no: 1, de: 1}}", 'YAML reads a bare no so: quote it ("no")'),
    "Norwegian in a list": ("data: {languages: [en, no]}", 'YAML reads a bare no so: quote it ("no")'),
}


NO_YAML = {
    "empty": (b"\n# nothing\n", "is empty: begin with `conan-lib new`"),
    "UTF-16": ("tier: test\n".encode("utf-16"), "not UTF-8: save it as UTF-8"),
    "UTF-16 without its mark": ("tier: test\n".encode("utf-16-le"), "not UTF-8: save it as UTF-8"),
    "latin-1": ("tier: test # für\n".encode("latin-1"), "not UTF-8: save it as UTF-8"),
    "a text": (b"Once upon a time\nthere was\n", "is no parameter file: found text where keys and values are needed"),
}


@pytest.mark.parametrize("content, message", NO_YAML.values(), ids=NO_YAML.keys())
def test_what_is_no_parameter_file_says_what_it_is(tmp_path, content, message):
    (tmp_path / "p.yaml").write_bytes(content)
    with pytest.raises(UserError, match=rf"^\S*p\.yaml: {re.escape(message)}[^\n]*$"):
        load_params(tmp_path / "p.yaml")


def write(folder: Path, text: str, name: str = "p.yaml") -> Path:
    path = folder / name
    path.write_text(text if "base:" in text or text.startswith("-") else f"tier: test\n{text}")
    return path


@pytest.mark.parametrize("text, message", BAD.values(), ids=BAD.keys())
def test_a_mistake_is_one_line_that_names_the_place(tmp_path, text, message):
    path = write(tmp_path, text)
    write(tmp_path, "weak: {soft_mask: {reading: logit}}\nsft: {max_steps: 9}", "root.yaml")
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


def test_null_leaves_an_optional_part_of_the_base_out(tmp_path):
    write(tmp_path, "weak: {lora: {rank: 2}}\nsft: {max_steps: 1_000}", "root.yaml")
    over = load_params(write(tmp_path, "base: root.yaml\nweak: {lora: null}\npretrain: {news: no}"))
    assert (over.weak.lora, over.pretrain.news, over.sft.max_steps) == (None, False, 1000)
    write(tmp_path, "weak: {lora: null}", "root.yaml")
    assert load_params(write(tmp_path, "base: root.yaml\nweak: {lora: {rank: 3}}")).weak.lora.rank == 3


GRID = "name: g\ntitle: a grid\ntier: test\nbase: p.yaml\nstages: [weak]\nbaseline: a\n"
CELL_ERRORS = {
    "a number over a base's section": (
        "cells: {a: {weak: {max_steps: 8}}, b: {weak: 5}}",
        "g.yaml: cell b: weak: expected a mapping, got 5",
    ),
    "null over a base's section": (
        "cells: {a: {weak: {max_steps: 8}}, b: {weak: null}}",
        "g.yaml: cell b: weak: expected a mapping, got None",
    ),
    "null where the base has none": (
        "cells: {a: {mkqa: {}}, b: {supervised: null}}",
        "g.yaml: cell b: supervised: expected a mapping, got None",
    ),
    "a number over another axis": (
        "axes: {x: {a: {weak: {seed: 1}}}, y: {none: {weak: 5}}}\ncells: {b: {}}",
        "g.yaml: axes: weak: expected a mapping, got 5",
    ),
    "a seed key over another": (
        "cells: {a: {}, b: {}}\nseed_keys: [weak.seed, weak]",
        "g.yaml: cell a: seed_keys: weak: expected a",
    ),
}


@pytest.mark.parametrize("text, message", CELL_ERRORS.values(), ids=CELL_ERRORS.keys())
def test_a_cell_cannot_put_a_value_in_the_place_of_a_section(tmp_path, text, message):
    write(tmp_path, "weak: {max_steps: 9}")
    path = tmp_path / "g.yaml"
    path.write_text(GRID + text)
    with pytest.raises(UserError, match=re.escape(message)):
        cell_params(path, load_grid(path))


def test_a_jobs_mistakes_are_named_once_and_a_missing_file_by_its_kind(tmp_path):
    path = tmp_path / "j.yaml"
    path.write_text("name: j\nsteps: [{run: a.yaml}]")
    with pytest.raises(UserError, match=r"^[^;]*steps\.0: stages belong to run, and run needs them$"):
        load_job(path)
    path.write_text("name: j\nsteps: []")
    with pytest.raises(UserError, match="steps: Tuple should have at least 1 item"):
        load_job(path)
    for load, kind in ((load_job, "job"), (load_grid, "grid")):
        with pytest.raises(UserError, match=f"none.yaml: no such {kind} file$"):
            load(tmp_path / "none.yaml")


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


def test_of_many_mistakes_one_line_names_the_first_few(tmp_path):
    (tmp_path / "many.yaml").write_text("tier: t\n" + "".join(f"key{number}: 1\n" for number in range(60)))
    with pytest.raises(UserError, match=r"key0: unknown key.*; and 55 more mistakes$"):
        load_params(tmp_path / "many.yaml")


def test_every_parameter_says_what_it_is():
    """Notebooks print it. A section says it in its own docstring."""
    classes = [Options]
    for one in classes:
        classes += one.__subclasses__()
    told = lambda field: field.description or any(isinstance(kind, type) and issubclass(kind, Options) for kind in types(field.annotation))  # noqa: E731
    assert [f"{one.__name__}.{name}" for one in classes for name, field in one.model_fields.items() if not told(field)] == []
    assert [one.__name__ for one in classes if not one.__doc__] == []


@pytest.mark.parametrize(
    "variant, tier, own",
    [
        ("ablations/reviews", "tiny", {"mixing"}),
        ("ablations/gemma3_reviews", "gemma3", {"mixing"}),
        ("ablations/no_mrl", "tiny", {"supervised"}),
        ("ablations/smollm2_no_mrl", "smollm2", {"supervised"}),
    ],
)
def test_a_variant_is_its_tier_but_for_one_section(variant, tier, own):
    """So all that is trained before that section is shared."""
    here, there = (load_params(ROOT / f"params/{name}.yaml").model_dump() for name in (variant, tier))
    assert {name for name in here if here[name] != there[name]} == own | {"tier"}


MEANT = {
    "jp": "ja", "cn": "zh", "zh-CN": "zh", "zh_tw": "zh", "pt-BR": "pt", "english": "en", "Englisch": "en", "EN": "en", "eng": "en",
    "cmn": "zh", "iw": "he", " de": "de", "xx": "", "": "", "klingon": "",
}  # fmt: skip


@pytest.mark.parametrize("code", MEANT)
def test_a_language_has_a_known_code_and_another_says_which_is_meant(code):
    """All that depends on a language goes by its code: an unknown one would switch it off silently."""
    mend = f"did you mean {MEANT[code]}\\?" if MEANT[code] else "give two letters"
    with pytest.raises(UserError, match=f"languages: {code!r} is no language code of ISO 639-1: {mend}"):
        DataParams(languages=("en", code))
    row = {"from": "a/b#x.{lang}", "task": "weak", "lang": ["en", code]}
    with pytest.raises(ValidationError, match=f"sets: b: lang: {code!r} is no language code of ISO 639-1: {mend}"):
        DataParams.model_validate({"languages": ["en"], "sets": [row]})
    with pytest.raises(UserError, match=f"shares: {code!r} is no language code"):
        TranslateParams(shares={"en": 1, code: 1})


def test_codes_that_are_used_are_known():
    assert not [code for code in {*UNSPACED, *ENGLISH_NAMES, *LANGUAGES, *PAPER_SHARES, "haw"} if wrong(code)]
