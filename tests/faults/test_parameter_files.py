"""Whatever a parameter, grid or job file holds, it is accepted whole or refused by one line that names the file and a field of it.

The files are ours with a few values, keys or lines replaced: by other types, extremes, scripts, and the tricks of YAML. No file reaches a
kernel or a worker by an exception.
"""

import re
from itertools import pairwise

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, seed, settings
from hypothesis import strategies as st

from conan_lib.grids import open_grid
from conan_lib.options import Options
from conan_lib.params import load_params
from conan_lib.run.cli.mistakes import told
from conan_lib.run.job import open_job
from conan_lib.run.notebooks import steps_of
from tests.small_grid import GRID, write_grid

RUN = """
tier: small
data:
  languages: [en, de, zh]
  sets: [{from: mine.jsonl, task: retrieval, lang: en, columns: {anchor: query}, share: 0.5}, {from: embedded/bible}]
  train_books: [1, 40]
sets: {sft_records: 200, weak_openings: null}
backbone: {layers: 1, hidden_size: 32, heads: 4, kv_heads: 2, ffn_size: 64, context_length: 128}
tokenizer: {vocab_size: 1024, sample_texts: 400}
pretrain: {learning_rate: 3.0e-3, batch_size: 8, max_length: 64}
sft: {max_length: 48}
weak: {max_length: 32, soft_mask: {schedule: linear}, lora: {rank: 2, targets: [q_proj]}, prompts: {weak: {query: 'q: '}}}
mine: {candidates: 8}
supervised: {max_length: 32, mix: {retrieval: 1, clr: 2}, task_batch_size: {retrieval: 4, clr: 6}, matryoshka_dims: [8, 32]}
tasks: {max_length: 32}
efficiency: {dims: [8], sizes: {small: {layers: 1, hidden_size: 32, heads: 4, kv_heads: 2, ffn_size: 64, vocab_size: 1024}}}
mixing: {max_length: 32}
probes: {max_length: 32}
translate: {shares: {en: 1, de: 2}, languages_per_query: 1}
runtime: {threads: 1, device: cpu}
"""
JOB = """
name: small
workers: 2
grace: 0
given: [corpus]
steps:
  - {run: ../small.yaml, stages: [supervised], seeds: [0, 1], seeded: all}
  - {grid: ../grids/small.yaml, seeds: [0]}
"""


def open_run(path):
    """Read a parameter file and open every stage of its run."""
    return steps_of(load_params(path))


OPEN = {"run": (RUN, open_run, "params/fuzzed.yaml"), "grid": (GRID, open_grid, "params/grids/fuzzed.yaml"),
        "job": (JOB, open_job, "params/jobs/fuzzed.yaml")}  # fmt: skip
WORDS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", " ", "\0", "\ud800", "\ufeff", "שלום", "a\u0301\u0301", "\u202eabc", "no", "~", "../..", "/", "x" * 5000, "{query}"]
    ),
)
NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([0, -1, 1, 2**31, 2**63, 2**64, 10**30, 1e308, 5e-324, float("nan"), float("inf"), True, 1.5]),
)
LEAVES = st.one_of(st.none(), NUMBERS, WORDS)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.integers(), inner, max_size=4), max_leaves=8
)
TRICKS = [
    "weak: &weak {seed: 1}\nsft: *weak", "a: &a {b: 1}\n<<: *a", "<<: {seed: 1}", "<<: 5", "<<: [1, 2]", "x: *nothing", "a: &a [*a]",
    "weak: &w {soft_mask: *w}", "weak: {<<: {seed: 1}, seed: 2}", "tier: twice\ntier: again", "? [1, 2]\n: 3", "? {a: b}\n: c", "null: 1",
    "1: 2", "2020-01-01: 1", "x: !!python/object/apply:os.system [echo]", "x: !!binary aGk=", "x: !!set {a, b}", "x: !!omap [a: 1]",
    "x: !mine 1", "tier: !!str 5", "weak: !!map {seed: 1}", "x: 2026-11-30", "x: 12:30:45", "x: 0x1F", "x: 0b11", "x: 0o17", "x: 1_000",
    "x: .inf", "x: .nan", "\tx: 1", "%YAML 1.1\n---\nx: 1", "---\na: 1\n---\nb: 2", "...", "x: |\n  a\n  b", "x: 'open", "x: [1, {", "@",
    "`", "\x07", "\x85x: 1", "# just this", "base: fuzzed.yaml", "base: ../params", "base: /dev/null", "like: fuzzed.yaml",
    "weak: &a {seed: *a}", "data: &d {sets: [*d, *d]}", "cells: &c {soft: {}, x: *c}", "axes: &x {x: *x}", "steps: &s [*s]",
    "weak: {seed: " + "[" * 500 + "]" * 500 + "}",
    "x: " + "9" * 6000,
    "a: &a [x, x, x, x, x, x, x, x, x]\n" + "\n".join(f"{b}: &{b} [{', '.join(['*' + a] * 9)}]" for a, b in pairwise("abcdefghi")),
    "a: &a {x: 1}\n" + "\n".join(f"{b}: &{b} {{p: *{a}, q: *{a}}}" for a, b in pairwise("abcdefghijklmnopqrstuv")),
]  # fmt: skip
"""Lines of YAML that are more than they seem."""


def places(tree, at=()):
    """The path of every key and item in a tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path for key, value in items for path in [(*at, key), *places(value, (*at, key))]]


@st.composite
def files(draw, text):
    """A file's text after one to three changes."""
    tree = yaml.safe_load(text)
    for _ in range(draw(st.integers(0, 2))):
        *way, last = draw(st.sampled_from(places(tree)))
        inner = tree
        for part in way:
            inner = inner[part]
        match draw(st.sampled_from(["value", "value", "none", "key", "move"])):
            case "value":
                inner[last] = draw(VALUES)
            case "none":
                del inner[last]
            case "key" if isinstance(inner, dict):
                inner[draw(WORDS)] = draw(VALUES)
            case "move" if isinstance(inner, dict):
                inner[f"{last}s"] = inner.pop(last)
        assume(places(tree))
    dumped = yaml.safe_dump(tree, allow_unicode=draw(st.booleans()), sort_keys=False)
    if draw(st.integers(0, 3)) == 0:
        trick = draw(st.sampled_from(TRICKS))
        key = trick.partition(":")[0]
        if key in tree and draw(st.booleans()):
            tree.pop(key)
            dumped = yaml.safe_dump(tree, allow_unicode=True, sort_keys=False)
        dumped = f"{trick}\n{dumped}" if draw(st.booleans()) else f"{dumped}\n{trick}\n"
    return dumped.encode("utf-8", "surrogatepass")


def below(model) -> list:
    """A class and all that are derived from it."""
    return [model, *(one for child in model.__subclasses__() for one in below(child))]


FIELDS = {field.alias or name for section in below(Options) for name, field in section.model_fields.items()} | {"base", "like"}


def refusal(kind: str, path, content: bytes) -> str | None:
    """The line that refuses a file, which fits; None where it is accepted."""
    path.write_bytes(content)
    try:
        OPEN[kind][1](path)
    except Exception as error:
        if (found := told(error)) is None:
            raise
        line, code = found
        assert code == 2 and "\n" not in line and len(line) < 3000, line
        assert ".yaml" in line, line
        named = re.search("not readable as YAML|not UTF-8|found |is a |is empty", line) or set(re.findall(r"[\w-]+", line)) & FIELDS
        assert named, line
        return line
    return None


@pytest.fixture
def small(project):
    """A project with the files that a grid and a job name."""
    (project / "params/small.yaml").write_text(RUN)
    write_grid(project)
    (project / "params/jobs").mkdir()
    return project


def attempt(kind, project, cases) -> dict[str, int]:
    """Try so many changed files; how many were accepted and refused."""
    text, _, name = OPEN[kind]
    counts = {"accepted": 0, "refused": 0}

    @seed(0)
    @settings(max_examples=cases, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(files(text))
    def one(content):
        counts["refused" if refusal(kind, project / name, content) else "accepted"] += 1

    one()
    return counts


@pytest.mark.parametrize("kind", OPEN)
def test_the_file_that_is_changed_is_accepted(small, kind):
    assert refusal(kind, small / OPEN[kind][2], OPEN[kind][0].encode()) is None


@pytest.mark.parametrize("kind, cases", [("run", 50), ("grid", 25), ("job", 25)])
def test_a_changed_file_is_accepted_or_refused_by_a_line(small, kind, cases):
    counts = attempt(kind, small, cases)
    assert min(counts.values()) > 0 and sum(counts.values()) >= cases


@pytest.mark.faults
@pytest.mark.parametrize("kind, cases", [("run", 1200), ("grid", 400), ("job", 400)])
def test_two_thousand_changed_files(small, measured, kind, cases):
    counts = attempt(kind, small, cases)
    accepted, refused = counts["accepted"], counts["refused"]
    assert accepted + refused >= cases and min(accepted, refused) > 20
    found = f"{accepted + refused:,} tried: {accepted:,} accepted, {refused:,} refused by a line, 0 tracebacks"
    measured(f"changed {kind} files", found)
