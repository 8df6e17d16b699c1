"""The sentences of the probes and their numbers, read from sentences.yaml, which says what its signs mean."""

from importlib.resources import files

import yaml

_FILE = yaml.safe_load(files(__package__).joinpath("sentences.yaml").read_text(encoding="utf-8"))

RANGES: dict[str, tuple[int, ...]] = {name: tuple(numbers) for name, numbers in _FILE["ranges"].items()}
"""Numbers that inflect no other word of a sentence, by how it uses them."""
NUMBERS: dict[str, tuple[int, ...]] = {
    template: RANGES[entry["numbers"]] for template, entry in _FILE["templates"].items() if "numbers" in entry
}
"""Template -> the numbers that may stand in it. The templates without are the negations."""
SENTENCES: dict[str, dict[str, tuple[str, str]]] = {
    template: {language: tuple(pair) for language, pair in entry.items() if language != "numbers"}
    for template, entry in _FILE["templates"].items()
}
"""Template -> language -> (sentence, the same in other words)."""
