"""Our cleaning as a recipe of Data-Juicer, for a corpus that one machine does not clean in time.

    python -m conan_lib.data.juicer my.yaml de raw/de.jsonl clean/de.jsonl > de.yaml
    dj-process --config de.yaml          # in an environment of its own: its packages do not go with ours

What it keeps is then a row of data.sets. A recipe serves one language. docs/corpora.md says where its rules differ from data/clean.py.
"""

import sys

import yaml

from conan_lib.data.languages import UNSPACED
from conan_lib.params.data import DataParams

SPACES = 0.17
"""Share of spaces in text of spaced scripts: its operator counts them among the special characters, our rule leaves them out."""
SPECIAL = 0.4
"""Largest share of digits and symbols, as in clean.quality."""


def recipe(params: DataParams, lang: str, dataset: str, export: str, identify: bool = True, ray: bool = False, processes: int = 1) -> dict:
    """The configuration of `dj-process`, to be written as YAML.

    Args:
        params: the thresholds.
        lang: of the texts, ISO 639-1.
        dataset: a .jsonl or .parquet file, or a folder, with the field `text`.
        export: the file to write.
        identify: whether languages are identified, for which it downloads a fastText model.
        ray: run on a Ray cluster, with the duplicates' operators that are made for it.
        processes: on one machine.
    """
    unspaced = lang in UNSPACED
    short = params.min_chars // 2 if lang in ("zh", "ja", "ko") else params.min_chars
    special = SPECIAL if unspaced else SPACES + (1 - SPACES) * SPECIAL
    process = [
        {"fix_unicode_mapper": {"normalization": "NFC"}},
        {"whitespace_normalization_mapper": {}},
        *([{"language_id_score_filter": {"lang": lang, "min_score": 0.1}}] if identify else []),  # ours: no other has 0.9
        {"text_length_filter": {"min_len": short, "max_len": params.max_chars}},
        {"special_characters_filter": {"min_ratio": 0.0, "max_ratio": round(special, 3)}},
        {"character_repetition_filter": {"rep_len": 10, "min_ratio": 0.0, "max_ratio": 0.5}},
        {f"{'ray_' * ray}document_deduplicator": {"lowercase": True, "ignore_non_character": True}},
        {
            "ray_bts_minhash_deduplicator" if ray else "document_minhash_deduplicator": {
                "tokenization": "character" if unspaced else "space",
                "window_size": 10 if unspaced else 5,
                "lowercase": True,
                "ignore_pattern": r"\p{P}",
                "num_permutations": params.minhash_permutations,
                "jaccard_threshold": params.near_duplicate_threshold,
            }
        },
    ]
    found = {"project_name": f"conan-{lang}", "dataset_path": dataset, "export_path": export, "text_keys": "text", "np": processes}
    return found | ({"executor_type": "ray"} if ray else {}) | {"process": process}


if __name__ == "__main__":
    from conan_lib.params import load_params

    file, *where = sys.argv[1:]
    yaml.safe_dump(recipe(load_params(file).data, *where), sys.stdout, sort_keys=False, allow_unicode=True)
