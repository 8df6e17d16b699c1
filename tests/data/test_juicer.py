"""A recipe has the operators and parameters that Data-Juicer documents, in an order that runs, and our thresholds in them."""

import subprocess
import sys

import pytest
import yaml
from smoke_data import ROOT

from conan_lib.data.juicer import recipe
from conan_lib.params.data import DataParams

MINHASH = {"tokenization", "window_size", "lowercase", "ignore_pattern", "num_permutations", "jaccard_threshold", "num_bands"}
DOCUMENTED = {
    "fix_unicode_mapper": {"normalization"},
    "whitespace_normalization_mapper": set(),
    "language_id_score_filter": {"lang", "min_score"},
    "text_length_filter": {"min_len", "max_len"},
    "special_characters_filter": {"min_ratio", "max_ratio"},
    "character_repetition_filter": {"rep_len", "min_ratio", "max_ratio"},
    "document_deduplicator": {"lowercase", "ignore_non_character"},
    "document_minhash_deduplicator": MINHASH,
    "ray_document_deduplicator": {"backend", "lowercase", "ignore_non_character"},
    "ray_bts_minhash_deduplicator": MINHASH,
}
"""docs/operators of Data-Juicer at 1dc20a58."""
PARAMS = DataParams(min_chars=50, max_chars=900, near_duplicate_threshold=0.7, minhash_permutations=128)


@pytest.mark.parametrize("lang", ["de", "zh"])
@pytest.mark.parametrize("ray", [False, True])
def test_every_operator_and_parameter_is_documented(lang, ray):
    found = recipe(PARAMS, lang, "in.jsonl", "out.jsonl", ray=ray)
    operators = [next(iter(step.items())) for step in found["process"]]
    assert all(set(given) <= DOCUMENTED[name] for name, given in operators)
    assert [name.startswith("ray_") for name, _ in operators[-2:]] == [ray] * 2 and ("executor_type" in found) == ray
    kinds = [name.rsplit("_", 1)[1] for name, _ in operators]
    assert kinds == sorted(kinds, key=["mapper", "filter", "deduplicator"].index)


def test_thresholds_are_those_of_the_parameters():
    def steps(lang):
        return {name: given for step in recipe(PARAMS, lang, "in", "out")["process"] for name, given in step.items()}

    assert steps("de")["text_length_filter"] == {"min_len": 50, "max_len": 900} and steps("zh")["text_length_filter"]["min_len"] == 25
    near = [steps(lang)["document_minhash_deduplicator"] for lang in ("de", "th")]
    assert [(one["tokenization"], one["window_size"]) for one in near] == [("space", 5), ("character", 10)]
    assert all((one["num_permutations"], one["jaccard_threshold"]) == (128, 0.7) for one in near)
    assert "language_id_score_filter" not in {name for step in recipe(PARAMS, "de", "a", "b", identify=False)["process"] for name in step}


def test_the_command_writes_it():
    command = [sys.executable, "-m", "conan_lib.data.juicer", "params/smoke.yaml", "fr", "in.jsonl", "out.jsonl"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = yaml.safe_load(done.stdout)
    assert found["project_name"] == "conan-fr" and {"text_length_filter": {"min_len": 20, "max_len": 4000}} in found["process"]
