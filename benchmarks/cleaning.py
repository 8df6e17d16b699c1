"""Our cleaning beside Data-Juicer's on the same texts: which each keeps, where they differ, and how fast they are.

    python -m benchmarks.cleaning en --juicer other-environment/bin/dj-process

The texts are at most 500 of each packaged source of prose, and among them planted: of each twentieth a copy and a copy with a changed word,
and 60 texts each of digits, of one phrase again and again, and of two words. data/clean.py cleans them, and the recipe of data/juicer.py.
Languages are identified by neither: Data-Juicer would download a model for it. Its seconds have its start in them. Writes
cleaning_<language>.json below benchmarks/results/cpu/.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import yaml

from conan_lib.data.clean import quality, repair, signature
from conan_lib.data.declared.files import json_lines
from conan_lib.data.juicer import recipe
from conan_lib.data.ngrams import normalise
from conan_lib.data.ondisk import NearDuplicates, OnDisk
from conan_lib.data.places import digest
from conan_lib.data.sampling import sample
from conan_lib.data.sources.embedded import SOURCES
from conan_lib.environment import environment
from conan_lib.files import write_json
from conan_lib.params.data import DataParams

RESULTS = Path(__file__).parent / "results" / "cpu"
EACH = 500
"""Texts of a source."""


def packaged(lang: str, params: DataParams) -> list[str]:
    """The texts, the planted ones last."""
    own = [source for source in SOURCES if lang in source.languages and source.role == "prose"]
    texts = [d.text[: params.max_chars] for source in own for d in sample(source.reader(lang, 0), EACH, 0)]
    planted = []
    for text in texts[::20]:
        words = text.split(" ")
        planted += [text, " ".join([*words[: len(words) // 2], "changed", *words[len(words) // 2 + 1 :]])]
    junk = (text for n in range(60) for text in ("1234 " * (20 + n), "buy now " * (30 + n), f"short {n}"))
    return [*texts, *planted, *junk]


def ours(texts: list[str], lang: str, params: DataParams) -> list[str]:
    """The step that drops each text, as in data/gather.py; empty where it stays."""
    seen, near, dropped = OnDisk(), NearDuplicates(params), []
    for text in texts:
        text = repair(text, lang)
        if not quality(text, lang, params.min_chars):
            dropped.append("quality")
        elif not seen.add(digest(normalise(text) or text)):
            dropped.append("exact duplicates")
        else:
            dropped.append("near duplicates" if near.add(signature(text, lang, params.minhash_permutations)) else "")
    return dropped


def theirs(texts: list[str], lang: str, params: DataParams, command: str) -> set[int]:
    """The same of Data-Juicer; the command runs in its own environment.

    Raises:
        CalledProcessError: it failed; what it said is on standard error.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with open(folder / "in.jsonl", "w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text, "place": place}) + "\n" for place, text in enumerate(texts))
        given = recipe(params, lang, str(folder / "in.jsonl"), str(folder / "out.jsonl"), identify=False)
        (folder / "recipe.yaml").write_text(yaml.safe_dump(given, sort_keys=False), encoding="utf-8")
        subprocess.run([command, "--config", folder / "recipe.yaml"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return {row["place"] for row in json_lines(folder / "out.jsonl")}


def compared(dropped: list[str], theirs: set[int]) -> dict:
    """How many texts both keep, one alone, and none; the share on which they agree; our reason for what they alone keep."""
    own = {place for place, step in enumerate(dropped) if not step}
    both, none = len(own & theirs), len(dropped) - len(own | theirs)
    return {
        "texts": len(dropped),
        "both": both,
        "ours alone": len(own - theirs),
        "theirs alone": dict(Counter(dropped[place] for place in sorted(theirs - own))),
        "none": none,
        "agreement": round((both + none) / len(dropped), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lang")
    parser.add_argument("--juicer", required=True)
    given = parser.parse_args()
    params = DataParams()
    texts = packaged(given.lang, params)
    begun = time.perf_counter()
    dropped = ours(texts, given.lang, params)
    between = time.perf_counter()
    other = theirs(texts, given.lang, params, given.juicer)
    seconds = {"ours": round(between - begun, 2), "theirs": round(time.perf_counter() - between, 2)}
    facts = environment()
    result = {
        **compared(dropped, other),
        "seconds": seconds,
        "lang": given.lang,
        "load": round(os.getloadavg()[0], 1),
        "date": datetime.now(UTC).date().isoformat(),
    }
    write_json(RESULTS / f"cleaning_{given.lang}.json", result | {name: facts[name] for name in ("machine", "revision")})
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
