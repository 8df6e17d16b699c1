"""From the fields that people's tools write to ours: one record in, canonical rows out.

`columns` of a set goes before the names that are known (declared/names.py).
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from conan_lib.data.clean import repair
from conan_lib.data.declared.files import NOT_JSON, Cells, divided, encodable
from conan_lib.data.declared.names import KNOWN
from conan_lib.data.ngrams import normalise
from conan_lib.params.languages import wrong
from conan_lib.params.sets import LABELS, PAIRS, DeclaredSet

_LIST = re.compile(r"\[\s*['\"{].*(['\"}]|None|nan)\s*,?\s*\]", re.DOTALL)
"""A table's cell that was a list of texts or objects, however it is written; [1] and [[a page]] are texts."""
_SCORES = ("score", "negative_scores")
_LISTS = ("anchor", "positive", "negatives", *_SCORES)
"""Fields of pairs that may hold lists."""
_NUMBERED = re.compile(r"neg(ative)?_\d+")
_CHATS = ("messages", "conversations")
_FIRST_SENTENCE = re.compile(r"\s*(.+?(?:[.!?؟](?=\s)|[。！？\n]))\s*(\S.*)", re.DOTALL)


class BadRecord(Exception):
    """A record that cannot be used.

    Args:
        what: is wrong with which field.
        mend: what to do in the record, or in its row of `data.sets`.
        alone: what to do where no row of `data.sets` can say more, as on a command line; by default the same.
    """

    def __init__(self, what: str, mend: str = "", alone: str = ""):
        super().__init__(f"{what}: {mend}" if mend else what)
        self.alone = f"{what}: {alone}" if alone else str(self)


class Fields:
    """One record under our names.

    Args:
        row: its fields.
        declared: the set that it belongs to.
        lang: the set's language; empty where each record tells its own.
        table: whether it is a table's, whose lists are texts.
    """

    def __init__(self, row: dict, declared: DeclaredSet, lang: str = "", table: bool = False):
        self.row, self.declared, self.known, self.table = row, declared, KNOWN[declared.task], table
        self.lang = lang or self.text("lang")
        if not lang and (bad := wrong(self.lang)):
            raise BadRecord(f"{self.find('lang')[0]}: {bad}")

    def find(self, field: str) -> tuple[str, Any]:
        """(name, value) of one of our fields; the name is empty where the record has none, or null."""
        if own := self.declared.columns.get(field):
            name, value = self._named(field, own.replace("{lang}", getattr(self, "lang", "")))
        else:
            name, value = next(((name, self.row[name]) for name in self.known.get(field, ()) if self.row.get(name) is not None), ("", None))
        return name, self.cell(field, name, value)

    def cell(self, field: str, name: str, value: Any) -> Any:
        """A value, and what a table's cell stands for: its list where it is one in JSON, and no score where it is empty."""
        if not self.table or field not in _LISTS or not isinstance(value, str):
            return value
        if not value.strip() and field in _SCORES:
            return None
        if not value.lstrip().startswith("["):
            return value
        try:
            found = json.loads(value)
        except NOT_JSON:
            if _LIST.fullmatch(value.strip()):
                raise BadRecord(f"{name} looks like a list, but is none in JSON: save the records as .jsonl or .parquet") from None
            return value
        texts = not found or any(isinstance(item, str | dict | list) for item in found)
        return found if texts or field in _SCORES or name.endswith("_ids") else value

    def _named(self, field: str, own: str) -> tuple[str, Any]:
        """(name, value) of the set's own field; a.b is field b inside of a, where no field has that name itself."""
        value, parts = self.row, [own] if own in self.row else own.split(".")
        for part in parts:
            if not isinstance(value, Mapping) or part not in value:
                has = ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
                raise BadRecord(f"no field {own}, which columns.{field} names; it has {has}")
            value = value[part]
        return own, value

    def need(self, field: str) -> tuple[str, Any]:
        """As `find`, but the field must be there."""
        name, value = self.find(field)
        if name and value is None:
            raise BadRecord(f"{name} is empty: fill it")
        if not name:
            what = f"no field {' or '.join(self.known[field])}; it has {', '.join(map(str, self.row))}{divided(self.row)}"
            mend = "give the set's lang" if field == "lang" else f"name its own in columns: {{{field}: ...}}"
            raise BadRecord(what, mend, f"give its name to the field that holds it, for example {self.known[field][0]}")
        return name, value

    def text(self, field: str) -> str:
        """The text of a field that must be there and say something."""
        return self.proper(*self.need(field))

    def optional(self, field: str) -> str:
        """The text of a field, empty where there is none. Numbers are taken for texts: ids are."""
        name, value = self.find(field)
        value = value if isinstance(value, list | dict) else "" if value is None else str(value)
        return self.proper(name, value) if name and value != "" else ""

    def proper(self, name: str, value: Any) -> str:
        """A value as a text, mended where the set is to be cleaned."""
        if not isinstance(value, str):
            raise BadRecord(
                f"{name} is {str(value)[:60]!r}, where a text is needed", "correct it, or name another field in columns", "correct it"
            )
        if not encodable(value):
            raise BadRecord(f"{name} holds half a character (a lone surrogate): correct it")
        value = repair(value, getattr(self, "lang", "")) if self.declared.clean else value
        if not value.strip():
            raise BadRecord(f"{name} is empty: fill it")
        return value

    def finite(self, name: str, value: Any) -> float:
        """A value as a number that is finite."""
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise BadRecord(f"{name} is {repr(value)[:60]}, where a number is needed: correct it")
        return number

    def passages(self, name: str, value: Any, corpus: Mapping[str, str]) -> list[tuple[str, str]]:
        """(id, text) of each passage in a value; the id is empty where it has none.

        Passages are texts, {docid, title, text}, ids of the corpus, GritLM's [instruction, text] or ms-swift's messages, alone or in a
        list.
        """
        found = []
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, list):  # [instruction, text], or messages
                item = item[-1] if item else None
            if isinstance(item, dict):
                key = str(next((item[name] for name in ("docid", "id", "_id") if item.get(name) is not None), ""))
                parts = [part for part in (item.get("title"), item.get("text") or item.get("content")) if part]
                text = " ".join(parts) if all(isinstance(part, str) for part in parts) else parts
                found.append((key, self.proper(name, text or corpus.get(key) or self._lost(name, key, corpus))))
            elif name.endswith("_ids"):
                found.append((str(item), self.proper(name, corpus.get(str(item)) or self._lost(name, item, corpus))))
            else:
                found.append(("", self.proper(name, item)))
        return found

    def _lost(self, name: str, key: Any, corpus: Mapping[str, str]) -> str:
        if corpus:
            raise BadRecord(f"{name}: passage {str(key)!r} is not in {self.declared.corpus}: add it there")
        raise BadRecord(f"{name} holds ids and no texts", "name the file of passages in `corpus`", "write the texts in their place")


def rows(row: dict, declared: DeclaredSet, lang: str, number: int, corpus: Mapping[str, str]) -> Iterator[dict]:
    """The canonical rows of a record; a pair for each of its positives.

    Args:
        row: its fields.
        declared: its set.
        lang: the set's language; empty where each record tells its own.
        number: its place in the set, which is its id where it has none. In an id # marks later parts of a record or document.
        corpus: passages by id.

    Yields:
        id, lang, source, group (what is held out as a whole: one query in all its translations, records with one text), and of
        pairs: prompt, anchor, positive, positive_id, positive_lang, negatives, score, source_anchor_id;
        sts: prompt, anchor, positive, score; labels: prompt, text, label; sft: instruction, input, output; text: title, text.

    Raises:
        BadRecord: a field is missing, empty or of another kind.
    """
    table = declared.task in PAIRS and isinstance(row, Cells)
    if declared.task == "weak" and not declared.columns and (row := _paired(row)) is None:
        return
    fields = Fields(row, declared, lang, table)
    base = {"id": f"{declared.source}/{fields.optional('id').replace('#', '_') or number}", "lang": fields.lang, "source": declared.source}
    if declared.task not in ("sft", "text"):
        base["prompt"] = declared.prompt
    for k, found in enumerate(_MAKERS[declared.task](fields, corpus)):
        own = next(found[name] for name in ("anchor", "input", "text") if name in found)
        yield {"group": text_id(normalise(own)), **base, **found, "id": f"{base['id']}#{k}" if k else base["id"]}


def _paired(row: dict) -> dict | None:
    """A record for weak pairs: as it is, or of what holds none an instruction and its answer, the last turns of a chat, or the first
    sentence of a text and the rest, as a title and its content; None of a text of one sentence."""
    chat = next((name for name in _CHATS if row.get(name) and "positive_messages" not in row), None)
    if chat:
        system, turns = _chat(chat, row[chat])
        if len(turns) < 2:
            raise BadRecord(f"{chat} holds no answer: complete it, or leave the record out")
        return row | {"anchor": turns[-2][1], "positive": turns[-1][1], "prompt": system}
    if row.get("instruction") and row.get("output"):
        for name, kind in (("instruction", str), ("input", str), ("output", str | list)):
            if row.get(name) and not isinstance(row[name], kind):
                raise BadRecord(f"{name} is {str(row[name])[:60]!r}, where a text is needed: correct it")
        return row | {"anchor": "\n".join(filter(None, (row["instruction"], row.get("input")))), "positive": row["output"]}
    if isinstance(text := row.get("text"), str) and not any(row.get(name) for name in KNOWN["weak"]["anchor"]):
        found = _FIRST_SENTENCE.fullmatch(text)
        return found and row | {"anchor": found[1].strip(), "positive": found[2]}
    return row


def _pairs(fields: Fields, corpus: Mapping[str, str]) -> Iterator[dict]:
    declared = fields.declared
    prompt, anchor = _anchor(fields)
    name, value = fields.need("positive")
    positives = fields.passages(name, value, corpus)
    if not positives:
        raise BadRecord(f"{name} is an empty list: every record needs a positive")
    score_name, scores = fields.find("score") if declared.min_positive_score is None else fields.need("score")
    scores = _aligned(fields, score_name, scores, len(positives))
    own = {text for _, text in positives} | {anchor}
    negatives = [text for text in _negatives(fields, corpus) if text not in own]
    source_anchor, source_text = fields.optional("source_anchor_id"), fields.optional("source_anchor")
    shared = {
        "anchor": anchor,
        "negatives": list(dict.fromkeys(negatives)),
        "prompt": prompt or declared.prompt,
        "positive_lang": fields.optional("positive_lang"),
        "source_anchor_id": f"{declared.source}/{source_anchor}" if source_anchor else text_id(anchor),
    }
    if source_text or source_anchor:
        shared["group"] = text_id(normalise(source_text)) if source_text else shared["source_anchor_id"]
    if (own_lang := shared["positive_lang"]) and (bad := wrong(own_lang)):
        raise BadRecord(f"{fields.find('positive_lang')[0]}: {bad}")
    given = fields.optional("positive_id") if len(positives) == 1 else ""
    for (key, text), score in zip(positives, scores, strict=True):
        key = given or key
        yield {**shared, "positive": text, "positive_id": f"{declared.source}/{key}" if key else text_id(text), "score": score}


def _anchor(fields: Fields) -> tuple[str, str]:
    """(prompt, anchor); GritLM writes them as one list, ms-swift as system and user of a chat."""
    name, value = fields.need("anchor")
    _, own = fields.find("prompt")
    prompt = own if isinstance(own, str) else ""
    if isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value):
        return value[0], fields.proper(name, value[1])
    if isinstance(value, list) and value and all(isinstance(turn, dict) for turn in value):
        system, turns = _chat(name, value)
        return system or prompt, fields.proper(name, turns[-1][1])
    return prompt, fields.proper(name, value)


def _negatives(fields: Fields, corpus: Mapping[str, str]) -> list[str]:
    """All that a record gives, without those whose score is above max_negative_score."""
    name, value = fields.find("negatives")
    found = [text for _, text in fields.passages(name, value, corpus)] if name and value not in (None, "") else []  # "": an empty cell
    if "negatives" not in fields.declared.columns:
        numbered = ((own, fields.cell("negatives", own, fields.row[own])) for own in fields.row if _NUMBERED.fullmatch(own))
        found += [fields.proper(own, text) for own, text in numbered if text]
    highest = fields.declared.max_negative_score
    if highest is None or not found:
        return found
    name, value = fields.need("negative_scores")
    return [text for text, score in zip(found, _aligned(fields, name, value, len(found)), strict=True) if score <= highest]


def _aligned(fields: Fields, name: str, scores: Any, count: int) -> list[float | None]:
    """One score for each passage: none at all, one number for one passage, or a list."""
    if scores is None:
        return [None] * count
    scores = scores if isinstance(scores, list) else [scores]
    if len(scores) != count:
        raise BadRecord(f"{name} has {len(scores)} scores for {count} passages: give one for each, or leave it out")
    return [fields.finite(name, score) for score in scores]


def _sts(fields: Fields, corpus: Mapping[str, str]) -> Iterator[dict]:
    name, value = fields.need("score")
    score = fields.finite(name, value)
    low, high = fields.declared.score_range or (0.0, 1.0)
    if not low <= score <= high:
        what = f"{name} {score:g} is outside {low:g} to {high:g}"
        raise BadRecord(what, "give the set's score_range: [smallest, largest]", f"give scores from {low:g} to {high:g}")
    yield {"anchor": fields.text("anchor"), "positive": fields.text("positive"), "score": (score - low) / (high - low)}


def _labels(fields: Fields, corpus: Mapping[str, str]) -> Iterator[dict]:
    name, label = fields.need("label")
    if names := fields.declared.label_names:
        place = fields.finite(name, label)
        if place not in range(len(names)):
            raise BadRecord(f"{name} is {label}, and label_names has {len(names)} names, from 0 on: add its name")
        label = names[int(place)]
    yield {"text": fields.text("text"), "label": fields.proper(name, str(label) if type(label) is int else label)}


def _sft(fields: Fields, corpus: Mapping[str, str]) -> Iterator[dict]:
    chat = next((name for name in _CHATS if fields.row.get(name) and not fields.declared.columns), None)
    if chat:
        system, turns = _chat(chat, fields.row[chat])
        *before, (role, answer) = turns
        if role != "assistant" or not before:
            raise BadRecord(f"{chat} does not end with an answer of the assistant to somebody: complete it, or leave the record out")
        said = "\n".join(fields.proper(chat, text) for _, text in before)
        yield {"instruction": system or fields.declared.prompt, "input": said, "output": fields.proper(chat, answer)}
        return
    instruction = fields.optional("instruction")
    asked = fields.optional("input") if instruction else fields.text("input")
    if not asked:  # what is asked is what is held out, and compared with what is
        instruction, asked = "", instruction
    if not instruction and isinstance(own := fields.row.get("prompt"), str) and own != asked:  # FlagEmbedding's prompt
        instruction = own
    name, value = fields.need("output")
    for _, output in fields.passages(name, value, {}):
        yield {"instruction": instruction or fields.declared.prompt, "input": asked, "output": output}


def _text(fields: Fields, corpus: Mapping[str, str]) -> Iterator[dict]:
    yield {"title": fields.optional("title"), "text": fields.text("text")}


_MAKERS = dict.fromkeys(PAIRS, _pairs) | dict.fromkeys(LABELS, _labels) | {"sts": _sts, "sft": _sft, "text": _text}


def _chat(name: str, turns: Any) -> tuple[str, list[tuple[str, str]]]:
    """The system's words and the (role, text) of the other turns; ShareGPT's names are known too."""
    roles = {"human": "user", "gpt": "assistant"}
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise BadRecord(f"{name} is {str(turns)[:60]!r}, where a list of {{role, content}} is needed: correct it")
    said = [(turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))) for turn in turns]
    if not all(isinstance(part, str) for turn in said for part in turn) or not any(role != "system" for role, _ in said):
        raise BadRecord(f"{name} holds a turn without a role or a text, or none: give each turn role and content")
    others = [(roles.get(role, role), text) for role, text in said if role != "system"]
    return "\n".join(text for role, text in said if role == "system"), others


def text_id(text: str) -> str:
    """The id of a text that has none: equal texts are one."""
    return f"text/{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"
