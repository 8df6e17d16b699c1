"""The languages' English names, as prompts and instructions spell them, and how they are written."""

UNSPACED = frozenset({"zh", "ja", "th", "lo", "km", "my", "bo"})
"""Languages written without spaces: a character stands for a word, or for half of one."""

ENGLISH_NAMES = {
    "en": "English", "de": "German", "es": "Spanish", "fr": "French", "ru": "Russian", "zh": "Chinese", "ja": "Japanese", "ko": "Korean",
    "ar": "Arabic", "it": "Italian", "pt": "Portuguese", "hi": "Hindi", "id": "Indonesian", "vi": "Vietnamese", "uk": "Ukrainian",
    "bn": "Bengali", "fa": "Persian", "tr": "Turkish", "ro": "Romanian", "pl": "Polish", "sw": "Swahili", "tl": "Tagalog",
    "da": "Danish", "sv": "Swedish", "th": "Thai", "ms": "Malay", "nl": "Dutch", "km": "Khmer", "fi": "Finnish", "he": "Hebrew",
    "hu": "Hungarian", "no": "Norwegian",
}  # fmt: skip


def english_name(lang: str) -> str:
    """The name of an ISO 639-1 code; the code itself where we know no name."""
    return ENGLISH_NAMES.get(lang, lang)
