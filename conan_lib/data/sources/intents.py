"""Commands in many languages: sentences sampled from the templates of home-assistant-intents, parsed by hassil.

hassil's own sampler enumerates a template; one template can have billions of sentences, so here one is drawn at random.
"""

import random
import re
from collections.abc import Iterator

from hassil.expression import Alternative, Expression, Group, ListReference, Permutation, RuleReference, TextChunk
from hassil.intents import Intents, RangeSlotList, TextSlotList
from hassil.parse_expression import parse_sentence

from conan_lib.errors import UserError

TEMPLATES, SENTENCES = 24, 3
"""Templates of an intent in one language that are used, and sentences drawn from each: parsing them is what takes the time."""
_PLACES = {
    "en": ("kitchen", "bedroom", "garage", "office"),
    "de": ("Küche", "Schlafzimmer", "Garage", "Büro"),
    "es": ("cocina", "dormitorio", "garaje", "oficina"),
    "fr": ("cuisine", "chambre", "garage", "bureau"),
    "ru": ("кухня", "спальня", "гараж", "кабинет"),
    "zh": ("厨房", "卧室", "车库", "书房"),
    "ja": ("台所", "寝室", "車庫", "書斎"),
    "ko": ("주방", "침실", "차고", "서재"),
    "ar": ("المطبخ", "غرفة النوم", "المرآب", "المكتب"),
}
"""The templates leave the names of rooms to the household; a language that is not here speaks of the English ones."""


class _OutOfReach(Exception):
    """A template asks for free text, which no list can fill."""


def sampled(data: dict, lang: str, random_: random.Random) -> Iterator[tuple[str, str, str]]:
    """Draw sentences from one language's templates.

    Args:
        data: the package's JSON for the language.
        random_: the source of chance.

    Yields:
        (sentence, intent in words, template). Templates with free text are passed over.

    Raises:
        UserError: the file is not what this hassil reads.
    """
    try:
        intents = Intents.from_dict(data)
    except (KeyError, ValueError) as error:
        raise UserError(f"home-assistant-intents {lang}.json: {error}; install the versions that requirements-data.txt pins") from None
    for name, intent in intents.intents.items():
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.removeprefix("Hass")).lower()
        templates = [(block, text) for block in intent.data for text in block.sentence_texts]
        for block, text in random_.sample(templates, min(TEMPLATES, len(templates))):
            rules = {**intents.expansion_rules, **(block.expansion_rules or {})}
            expression = parse_sentence(text).expression
            for _ in range(SENTENCES):
                try:
                    sentence = _draw(expression, {**intents.slot_lists, **block.slot_lists}, rules, lang, random_)
                except _OutOfReach:
                    break
                yield " ".join(sentence.split()), words, text


def _draw(expression: Expression, lists: dict, rules: dict, lang: str, random_: random.Random) -> str:
    """One sentence of an expression."""

    def draw(part: Expression) -> str:
        return _draw(part, lists, rules, lang, random_)

    if isinstance(expression, TextChunk):
        return expression.original_text
    if isinstance(expression, Alternative):
        return draw(random_.choice(expression.items))
    if isinstance(expression, Permutation):
        return " ".join(draw(part) for part in random_.sample(expression.items, len(expression.items)))
    if isinstance(expression, Group):
        return "".join(draw(part) for part in expression.items)
    if isinstance(expression, RuleReference) and expression.rule_name in rules:
        return draw(rules[expression.rule_name].expression)
    if isinstance(expression, ListReference):
        values = lists.get(expression.list_name)
        if isinstance(values, TextSlotList) and values.values:
            return draw(random_.choice(values.values).text_in)
        if isinstance(values, RangeSlotList):
            return str(random_.randrange(values.start, values.stop + 1, values.step))
        if expression.list_name in ("name", "area", "floor"):
            return random_.choice(_PLACES.get(lang, _PLACES["en"]))
    raise _OutOfReach
