"""The finished data set: one table of what was kept, one of what was refused, the counts, and the card."""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from conan_lib.data import records
from conan_lib.data.translate.card import write_card
from conan_lib.data.translate.checks import REASONS
from conan_lib.errors import UserError
from conan_lib.files import replacing, write_json
from conan_lib.params.data import TranslateParams

TEXTS = (
    "id query query_lang positive positive_id positive_lang source_id source_query source_lang translator model revision prompt_hash "
    "identified_lang"
)
MEASURES = "language_probability length_ratio copied repetition similarity"
SHARD = records.schema(f"{TEXTS} refused", MEASURES)
DATA, REFUSED, FUNNEL = "data/train-00000-of-00001.parquet", "checks/refused.parquet", "checks/funnel.json"


def assemble(folder: Path, shards: Sequence[Path], provenance: Mapping[str, str], params: TranslateParams) -> dict:
    """Shards -> data, refused rows, counts and card.

    Returns:
        kept, refused (by reason), languages (kept, by language), passage_languages.

    Raises:
        UserError: every translation was refused; the folder is emptied.
    """
    counts: Counter[tuple[str, str]] = Counter()
    passages: set[str] = set()
    for path in shards:
        table = records.read_table(path)
        passages.update(table["positive_lang"].to_pylist())
        counts.update(zip(table["query_lang"].to_pylist(), table["refused"].to_pylist(), strict=True))
    results = _results(counts) | {"passage_languages": sorted(passages)}
    if not results["kept"]:
        reasons = ", ".join(f"{reason} {count}" for reason, count in results["refused"].items())
        example = next((text for path in shards for text in records.read_table(path)["query"].to_pylist() if text), "")[:60]
        shutil.rmtree(folder)  # it was empty, or not there, when the build began
        raise UserError(f"every one of {counts.total()} translations was refused ({reasons}), for example {example!r}: nothing was written")
    for name in ("data", "checks"):  # of an attempt that was killed here
        shutil.rmtree(folder / name, ignore_errors=True)
    _write_rows(folder / DATA, shards, kept=True)
    _write_rows(folder / REFUSED, shards, kept=False)
    write_json(folder / FUNNEL, [{"lang": lang, "refused": refused, "queries": count} for (lang, refused), count in sorted(counts.items())])
    write_card(folder / "README.md", results, counts, provenance, params)
    return results


def _results(counts: Counter) -> dict:
    """kept, refused by reason (those that occurred, in the order of REASONS), kept by language."""
    refused = {reason: sum(n for (_, why), n in counts.items() if why == reason) for reason in REASONS}
    languages = {lang: counts[lang, ""] for lang in dict.fromkeys(lang for lang, _ in counts) if counts[lang, ""]}
    return {"kept": sum(languages.values()), "refused": {why: n for why, n in refused.items() if n}, "languages": languages}


def _write_rows(path: Path, shards: Sequence[Path], kept: bool) -> None:
    """One parquet file, a row group for each shard, with the types that `datasets` reads back."""
    from datasets import Features, Value

    names = [name for name in SHARD.names if not (kept and name == "refused")]
    schema = Features({name: Value(str(SHARD.field(name).type).replace("double", "float64")) for name in names}).arrow_schema
    with replacing(path) as new, pq.ParquetWriter(new, schema, compression="zstd") as writer:
        for shard in shards:
            table = records.read_table(shard)
            chosen = table.filter(pa.array([(why == "") == kept for why in table["refused"].to_pylist()], pa.bool_())).select(names)
            writer.write_table(chosen.cast(schema))
