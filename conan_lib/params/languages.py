"""Codes of languages, on which all that depends on a language rests."""

import re
from difflib import get_close_matches

_CODES = """
aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo es et eu
fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn
ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os
pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw
ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
CODES = frozenset(_CODES.split())
"""ISO 639-1, and bh, which it had until 2021."""
_ALIASES = {
    "jp": "ja", "cn": "zh", "kr": "ko", "gr": "el", "cz": "cs", "dk": "da", "ua": "uk", "vn": "vi", "iw": "he", "in": "id", "ji": "yi",
    "jw": "jv", "mo": "ro", "arabic": "ar", "bengali": "bn", "chinese": "zh", "czech": "cs", "danish": "da", "deutsch": "de", "dutch": "nl",
    "english": "en", "finnish": "fi", "french": "fr", "german": "de", "greek": "el", "hebrew": "he", "hindi": "hi", "hungarian": "hu",
    "indonesian": "id", "italian": "it", "japanese": "ja", "khmer": "km", "korean": "ko", "malay": "ms", "mandarin": "zh",
    "norwegian": "no", "persian": "fa", "polish": "pl", "portuguese": "pt", "romanian": "ro", "russian": "ru", "spanish": "es",
    "swahili": "sw", "swedish": "sv", "tagalog": "tl", "thai": "th", "turkish": "tr", "ukrainian": "uk", "vietnamese": "vi",
    "ara": "ar", "arb": "ar", "ben": "bn", "bod": "bo", "tib": "bo", "dan": "da", "deu": "de", "ger": "de", "eng": "en", "spa": "es",
    "fas": "fa", "per": "fa", "pes": "fa", "fin": "fi", "fra": "fr", "fre": "fr", "heb": "he", "hin": "hi", "hun": "hu", "ind": "id",
    "ita": "it", "jpn": "ja", "khm": "km", "kor": "ko", "lao": "lo", "msa": "ms", "may": "ms", "zsm": "ms", "mya": "my", "bur": "my",
    "nld": "nl", "dut": "nl", "nor": "no", "nob": "nb", "pol": "pl", "por": "pt", "ron": "ro", "rum": "ro", "rus": "ru", "swe": "sv",
    "swa": "sw", "swh": "sw", "tha": "th", "tgl": "tl", "tur": "tr", "ukr": "uk", "vie": "vi", "zho": "zh", "chi": "zh", "cmn": "zh",
}  # fmt: skip
"""What people write for a code: countries, withdrawn codes, names, three letters."""


def wrong(code: str) -> str:
    """What is wrong with a language code, and which one is meant where that shows. Empty for a code of ISO 639-1, and for three letters
    where no two are known: Hawaiian is haw."""
    if code in CODES or (re.fullmatch("[a-z]{3}", code) and code not in _ALIASES):
        return ""
    low = code.strip().lower()
    head = low.replace("_", "-").partition("-")[0]
    near = [_ALIASES[name] for name in get_close_matches(low, [name for name in _ALIASES if len(name) > 3], 1)]
    meant = next((own for own in (low, head, _ALIASES.get(low), _ALIASES.get(head), *near) if own in CODES), None)
    return f"{code!r} is no language code of ISO 639-1" + (f": did you mean {meant}?" if meant else ": give two letters, as in en, zh, ja")
