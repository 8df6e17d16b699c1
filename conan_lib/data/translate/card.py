"""The card of a CLR data set: what the hub shows and reads."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from conan_lib.data.languages import english_name
from conan_lib.params.data import TranslateParams

SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"), (10**8, "10M<n<100M"))
"""The hub's size categories, by their upper ends."""
LIMITS = ("min_language_probability", "min_length_ratio", "max_length_ratio", "max_copied", "max_repetition", "teacher_check")
TEXT = """
# Cross-lingual retrieval pairs

{kept:,} queries in {languages} languages, each with the passage that answers it in its original language. The queries were
translated {how}; the passages were left as they were, as in Conan-Embedding-v2 (arXiv 2509.12892).

{refused:,} further translations were refused by the checks below; they are in `checks/refused.parquet`, and the counts in
`checks/funnel.json`.

## Columns

| column | |
|---|---|
| `query`, `query_lang` | the translated query |
| `positive`, `positive_id`, `positive_lang` | the passage |
| `source_id`, `source_query`, `source_lang` | the query as it was |
| `translator`, `model`, `revision`, `prompt_hash` | where the translation comes from |
| `identified_lang`, `language_probability` | py3langid's language, and its probability of the asked one |
| `length_ratio`, `copied`, `repetition` | measures of the checks |
| `similarity` | the teacher's cosine; null where it was not asked |

## Languages

| language | kept | refused | refused because |
|---|---:|---:|---|
{table}

## Made with

{made}
"""


def write_card(path: Path, results: Mapping, counts: Counter, provenance: Mapping[str, str], params: TranslateParams) -> None:
    """Write README.md with its YAML header.

    Args:
        path: the file.
        results: what build.json holds.
        counts: (language, reason of refusal or "") -> translations.
        provenance: the translator's.
        params: what made it; the prompt and the limits are printed.
    """
    from huggingface_hub import DatasetCardData

    languages = sorted({*results["languages"], *results["passage_languages"]})
    header = DatasetCardData(
        language=languages, license=params.licence, task_categories=["text-retrieval", "sentence-similarity"],
        tags=["cross-lingual-retrieval", "translated-queries"], size_categories=next(name for end, name in SIZES if results["kept"] < end),
        pretty_name="Cross-lingual retrieval pairs", configs=[{"config_name": "default", "data_files": "data/*.parquet"}],
    )  # fmt: skip
    by_model = f"by {provenance['model']}" if provenance["model"] else "by people"
    rows = []
    for lang in dict.fromkeys(lang for lang, _ in sorted(counts)):
        reasons = {why: n for (other, why), n in sorted(counts.items()) if other == lang and why}
        cells = lang, english_name(lang), counts[lang, ""], sum(reasons.values()), ", ".join(f"{why} {n:,}" for why, n in reasons.items())
        rows.append("| {} ({}) | {:,} | {:,} | {} |".format(*cells))
    made = [*(f"- {name}: {value}" for name, value in provenance.items() if value)]
    made += [f"- {name}: {getattr(params, name)}" for name in LIMITS]
    if params.teacher_check != "none":
        made += [f"- teacher: {params.teacher}, min_similarity: {params.min_similarity}"]
    if provenance["prompt_hash"]:
        made += ["- prompt:", "", *(f"      {line}".rstrip() for line in params.prompt.splitlines())]
    kept, refused = results["kept"], sum(results["refused"].values())
    places = {"languages": len(results["languages"]), "how": by_model, "table": "\n".join(rows), "made": "\n".join(made)}
    text = TEXT.format(kept=kept, refused=refused, **places)
    path.write_text(f"---\n{header.to_yaml()}\n---\n{text}", encoding="utf-8")
