"""CLR data from a user's own retrieval pairs: translate shard by shard, check, and leave a folder that is a data set for the hub.

While it works, the folder holds identity.json and shards/; a shard is written atomically and never again, so a killed build goes on and
ends in the same bytes, and several processes may share one build. At the end it holds README.md (the card), data/ and checks/; build.json
is written last and means done.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from conan_lib.data import records
from conan_lib.data.clean import identifiable
from conan_lib.data.declared.files import encodable
from conan_lib.data.translate import AlignedTranslations, Query, Translation, Translator
from conan_lib.data.translate.allocation import allocate
from conan_lib.data.translate.checks import check, encoder, similarities
from conan_lib.data.translate.inputs import Source, named, read_pairs, read_translations
from conan_lib.data.translate.output import SHARD, assemble
from conan_lib.errors import UserError
from conan_lib.files import held, is_held, write_json
from conan_lib.params.data import TranslateParams

VERSION = 1
"""Rises when the same parameters would give other records."""
IDENTITY, DONE = "identity.json", "build.json"
ORIGIN = ("translator", "model", "revision", "prompt_hash")
"""What a record keeps of a translator's provenance."""


def build_clr(
    pairs: Source,
    folder: str | Path,
    params: TranslateParams,
    translations: Source | None = None,
    translator: Translator | None = None,
    device: str = "auto",
) -> dict:
    """Translate the queries of retrieval pairs, check each translation, and write a data set.

    Args:
        pairs: a file or a list of records; see inputs.read_pairs.
        folder: where to write the data set; empty, new, or that of a build, finished or not, with the same input, parameters and
            translator.
        params: see TranslateParams.
        translations: human translations for `translator: aligned`; see inputs.read_translations.
        translator: your own, in place of the one that params name.
        device: auto, cpu or cuda, for transformers.

    Returns:
        kept, refused (by reason), languages (kept, by language) and passage_languages, as build.json holds them; {"waiting": n} where n
        shards are still in the hands of other processes.

    Raises:
        UserError: a mistake in the input or in `translator`, a folder that holds something else, a model that cannot be loaded, or no
            translation that passes. In the last case nothing is left behind.
    """
    folder = Path(folder)
    queries = read_pairs(pairs)
    _languages_can_be_checked(queries, params)
    texts = _human_translations(params, translations, translator)
    tasks = allocate(queries, params)
    if texts:
        _say_what_matches(named(translations, "translations"), texts, queries, tasks, params)
    request = {"version": VERSION, "input": _digest(queries, texts), "params": params.model_dump(mode="json")}
    identity = _opened(folder, request)
    if translator is not None:
        _origin(folder, identity, translator)  # a finished build is another's too where its translator was another
    if (folder / DONE).is_file():
        _tidy(folder)
        return json.loads((folder / DONE).read_text(encoding="utf-8"))["results"]

    size = params.shard_size
    shards = {folder / "shards" / f"{start // size:05}.parquet": tasks[start : start + size] for start in range(0, len(tasks), size)}
    if not all(path.is_file() for path in shards):
        translator = translator or _translator(params, texts, device)
        provenance = _origin(folder, identity, translator)
        if params.teacher_check != "none":
            encoder(params.teacher)  # a teacher that is not there shows before anything is written
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / IDENTITY, {"request": request, "provenance": provenance})
        (folder / "shards").mkdir(exist_ok=True)
        _translate(shards, translator, params)
    waiting = sum(not path.is_file() for path in shards)
    if waiting and not (folder / DONE).is_file():
        return {"waiting": waiting}
    with held(folder / ".lock"):
        if not (folder / DONE).is_file():  # another process may have been quicker
            identity = json.loads((folder / IDENTITY).read_text(encoding="utf-8"))
            results = assemble(folder, list(shards), identity["provenance"], params)
            write_json(folder / DONE, {**identity, "results": results})
    _tidy(folder)
    return json.loads((folder / DONE).read_text(encoding="utf-8"))["results"]


def _languages_can_be_checked(queries: Sequence[Query], params: TranslateParams) -> None:
    if params.min_language_probability > 0 and (unknown := {*params.shares, *(query.lang for query in queries)} - identifiable()):
        raise UserError(
            f"language {', '.join(sorted(unknown))}: py3langid does not know it, so it cannot be checked: use ISO 639-1 codes, "
            "or set translate.min_language_probability: 0"
        )


def _human_translations(params: TranslateParams, given: Source | None, translator: Translator | None) -> dict[str, dict[str, str]]:
    if params.translator != "aligned" or translator:
        if given is not None:
            raise UserError(
                f"{named(given, 'translations')}: translations are read by translator aligned alone: set translate.translator: aligned"
            )
        return {}
    if given is None:
        raise UserError("translate.translator: aligned needs a file of human translations (id, lang, text): give --translations")
    if params.teacher_check == "round_trip":
        raise UserError("translate.teacher_check: round_trip needs a translator that can translate back: use translation, or none")
    return read_translations(given)


def _say_what_matches(
    source: str, texts: Mapping[str, Mapping], queries: Sequence[Query], tasks: Sequence[tuple[str, Query]], params: TranslateParams
) -> None:
    """One line on stderr: how much of a file of human translations serves; a mistake where nothing does."""
    ids, asked = {name for known in texts.values() for name in known}, {query.id for query in queries}
    found = sum(query.id in texts.get(lang, {}) for lang, query in tasks)
    line = (
        f"{source}: {len(ids & asked):,} of its {len(ids):,} ids are in the pairs, {len(texts.keys() & params.shares.keys()):,} of its "
        f"{len(texts):,} languages in translate.shares, and {found:,} of the {len(tasks):,} translations asked for are there"
    )
    if not found:
        raise UserError(f"{line}: compare ids and languages, or set translate.languages_per_query: 0 to ask for every language")
    print(line, file=sys.stderr)


def _translator(params: TranslateParams, texts: dict[str, dict[str, str]], device: str) -> Translator:
    if params.translator == "aligned":
        return AlignedTranslations(texts)
    from conan_lib.data.translate.models import TransformersTranslator, VllmTranslator

    return VllmTranslator(params) if params.translator == "vllm" else TransformersTranslator(params, device)


def _digest(queries: Sequence[Query], texts: dict) -> str:
    """What was read, whatever the file format."""
    digest = hashlib.sha256(json.dumps(texts, sort_keys=True).encode())
    for query in queries:
        digest.update(json.dumps(query).encode())
    return digest.hexdigest()[:16]


def _provenance(translator: Translator) -> dict[str, str]:
    """What it says of its origin, empty where it says nothing."""
    if isinstance(translator, type):
        raise UserError(f"translator: {translator.__name__} is a class: give an instance, {translator.__name__}()")
    if not isinstance(getattr(translator, "provenance", None), Mapping) or not callable(getattr(translator, "translate", None)):
        raise UserError(
            f"translator: {type(translator).__name__} needs translate(queries, lang) and a mapping provenance, which may be {{}}"
        )
    found = {name: translator.provenance.get(name, "") for name in ORIGIN}
    if wrong := [name for name, value in found.items() if not isinstance(value, str)]:
        raise UserError(f"translator.provenance: {wrong[0]} is {found[wrong[0]]!r}: give a text, or leave it out")
    return found


def _origin(folder: Path, identity: dict | None, translator: Translator) -> dict[str, str]:
    """The translator's provenance, known to be that of an earlier attempt at the same build."""
    provenance = _provenance(translator)
    if identity and identity["provenance"] != provenance:
        was, now = (list(found.values()) for found in (identity["provenance"], provenance))
        pin = "pin translate.revision, " if provenance["revision"] else ""
        raise UserError(f"{folder}: was begun with {was}, which is now {now}: {pin}name another folder, or delete this one")
    return provenance


def _outputs(translator: Translator, queries: list[Query], lang: str) -> list[Translation]:
    """What it makes of queries, known to be one Translation each."""
    outputs = translator.translate(queries, lang)
    if not isinstance(outputs, Sequence) or len(outputs) != len(queries):
        what = f"{len(outputs)} outputs" if isinstance(outputs, Sequence) else repr(outputs)
        raise UserError(f"translator: gave {what} for {len(queries)} queries into {lang}: return a list, one Translation a query")
    for query, output in zip(queries, outputs, strict=True):
        if not (isinstance(output, Translation) and isinstance(output.text, str) and encodable(output.text)):
            raise UserError(
                f"translator: gave {output!r:.80} for query {query.id} into {lang}: return Translation(text), empty where there is none"
            )
    return list(outputs)


def _opened(folder: Path, request: dict) -> dict | None:
    """The identity of an earlier attempt at the same build; None where there was none, or none that translated anything.

    Raises:
        UserError: the folder holds something else.
    """
    if _nothing_made(folder):
        return None
    path = next((folder / name for name in (DONE, IDENTITY) if (folder / name).is_file()), None)
    if path:
        identity = json.loads(path.read_text(encoding="utf-8"))
        if identity["request"] != request:
            differ = [name for name, value in request["params"].items() if identity["request"]["params"].get(name) != value]
            what = ", ".join(differ) or ("the input" if identity["request"]["input"] != request["input"] else "the version")
            raise UserError(f"{folder}: holds a build that differs in {what}: name another folder, or delete this one")
        return identity
    if folder.exists() and (not folder.is_dir() or any(not entry.name.startswith(f".{IDENTITY}") for entry in folder.iterdir())):
        raise UserError(f"{folder}: is not empty and holds no build: name another folder")
    return None


def _nothing_made(folder: Path) -> bool:
    """Whether an attempt ended before its first shard, as one with a mistake in the translator does, and none is at work."""
    shards, locks = list(folder.glob("shards/*.parquet")), folder.glob("shards/*.lock")
    return (folder / IDENTITY).is_file() and not (folder / DONE).is_file() and not shards and not any(map(is_held, locks))


def _translate(shards: dict[Path, list[tuple[str, Query]]], translator: Translator, params: TranslateParams) -> None:
    """Write the shards that are missing and that no other process works on."""
    with tqdm(total=sum(map(len, shards.values())), desc="translate", unit="query") as progress:
        for path, tasks in shards.items():
            if path.is_file() or (path.parents[1] / DONE).is_file():
                progress.update(len(tasks))
                progress.initial += len(tasks)  # the rate counts what this attempt does
                continue
            with held(path.with_suffix(".lock"), wait=False) as ours:
                if ours and not path.is_file():
                    records.write(path, translated(tasks, translator, params), SHARD)
            progress.update(len(tasks))


def translated(tasks: Sequence[tuple[str, Query]], translator: Translator, params: TranslateParams) -> list[dict]:
    """Rows of SHARD, kept and refused, for (language, query) in order."""
    rows, compared, provenance = [], [], _provenance(translator)
    for lang in dict.fromkeys(lang for lang, _ in tasks):
        queries = [query for other, query in tasks if other == lang]
        outputs = _outputs(translator, queries, lang)
        checks = [check(query, output, lang, params) for query, output in zip(queries, outputs, strict=True)]
        for query, output, found in zip(queries, outputs, checks, strict=True):
            rows.append({
                "id": f"{query.id}/{lang}", "query": output.text, "query_lang": lang, "positive": query.positive,
                "positive_id": query.positive_id, "positive_lang": query.positive_lang, "source_id": query.id, "source_query": query.text,
                "source_lang": query.lang, **provenance, **found._asdict(), "similarity": None,
            })  # fmt: skip
            if params.teacher_check != "none" and not found.refused:
                compared.append((rows[-1], query))
    _compare(compared, translator, params)
    return rows


def _compare(compared: Sequence[tuple[dict, Query]], translator: Translator, params: TranslateParams) -> None:
    """The teacher's verdict on what passed everything else: the source beside its translation, or beside the translation put back."""
    texts = {row["id"]: row["query"] for row, _ in compared}
    if params.teacher_check == "round_trip":
        for source, lang in dict.fromkeys((row["source_lang"], row["query_lang"]) for row, _ in compared):
            chosen = [(row, query) for row, query in compared if (row["source_lang"], row["query_lang"]) == (source, lang)]
            back = _outputs(translator, [query._replace(text=row["query"], lang=lang) for row, query in chosen], source)
            texts |= {row["id"]: output.text for (row, _), output in zip(chosen, back, strict=True)}
    found = similarities([(query.text, texts[row["id"]]) for row, query in compared], params.teacher)
    for (row, _), similarity in zip(compared, found, strict=True):
        row["similarity"] = similarity
        row["refused"] = "" if similarity >= params.min_similarity else "similarity"


def _tidy(folder: Path) -> None:
    """Remove what only an unfinished build needs; a kill before this is made good by the next call."""
    shutil.rmtree(folder / "shards", ignore_errors=True)
    for name in (IDENTITY, ".lock"):
        (folder / name).unlink(missing_ok=True)
