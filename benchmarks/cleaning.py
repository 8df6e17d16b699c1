"""Our cleaning beside Data-Juicer's on the same texts: which documents each keeps, and how fast.

    python -m benchmarks.cleaning raw/en.jsonl en --juicer other-environment/bin/dj-process

Reads a file of records with `text`, cleans them by data/clean.py and by the recipe of data/juicer.py, and writes cleaning.json below
benchmarks/results/cpu/. Languages are not identified by either: Data-Juicer would download a model for it. Its time has its start in it.
"""

import argparse
import json
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import yaml

from conan_lib.data.clean import quality, repair, signature
from conan_lib.data.declared.files import json_lines
from conan_lib.data.juicer import recipe
from conan_lib.data.ngrams import normalise
from conan_lib.data.ondisk import NearDuplicates, OnDisk, digest
from conan_lib.environment import environment
from conan_lib.files import write_json
from conan_lib.params.data import DataParams

RESULTS = Path(__file__).parent / "results" / "cpu"


def ours(texts: list[str], lang: str, params: DataParams) -> set[int]:
    """The places of the texts that are kept, as data/gather.py keeps them, but for the language."""
    seen, near, kept = OnDisk(), NearDuplicates(params), set()
    for place, text in enumerate(texts):
        text = repair(text, lang)
        if len(text) > params.max_chars or not quality(text, lang, params.min_chars):
            continue
        if seen.add(digest(normalise(text) or text)) and not near.add(signature(text, lang, params.minhash_permutations)):
            kept.add(place)
    return kept


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


def compared(texts: list[str], ours: set[int], theirs: set[int]) -> dict[str, float]:
    """How many texts both keep, one alone, and none; the share on which they agree."""
    both, none = len(ours & theirs), len(texts) - len(ours | theirs)
    found = {"texts": len(texts), "both": both, "ours alone": len(ours - theirs), "theirs alone": len(theirs - ours), "none": none}
    return found | {"agreement": round((both + none) / len(texts), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path)
    parser.add_argument("lang")
    parser.add_argument("--juicer", required=True)
    parser.add_argument("--out", type=Path, default=RESULTS / "cleaning.json")
    given = parser.parse_args()
    params, texts = DataParams(), [row["text"] for row in json_lines(given.texts) if row]
    begun = time.perf_counter()
    own = ours(texts, given.lang, params)
    between = time.perf_counter()
    other = theirs(texts, given.lang, params, given.juicer)
    seconds = {"ours": round(between - begun, 2), "theirs": round(time.perf_counter() - between, 2)}
    facts = environment()
    result = {**compared(texts, own, other), "seconds": seconds, "lang": given.lang, "date": datetime.now(UTC).date().isoformat()}
    write_json(given.out, result | {name: facts[name] for name in ("machine", "revision")})
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
