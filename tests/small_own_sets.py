"""Small files of a user, one for each task that a set can have."""

import json
from pathlib import Path

COLOURS = ("red", "green", "blue", "yellow", "black", "white")
THINGS = ("house", "boat", "stone", "field", "tower", "river", "bridge", "garden", "market", "window")


def lines(path: Path, records) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def own_sets(folder: Path) -> list[dict]:
    """One small file of each task."""
    pairs = [
        {
            "id": n, "query": f"which {colour} {thing} is number {n}", "pos": [f"The {colour} {thing} {n}.", f"{thing} {n}, {colour}."],
            "neg": [f"No {thing} of that colour, {n}.", "Another one."], "prompt": "Find it: ",
        }
        for n, (colour, thing) in enumerate((c, t) for c in COLOURS for t in THINGS for _ in range(3))
    ]  # fmt: skip
    clr = [{"query": f"welches {n}", "query_lang": "de", "positive": p["pos"][0], "source_query": p["query"]} for n, p in enumerate(pairs)]
    text = "\n\n".join(f"The {c} {t} stood near the old road, and {n} people walked past the {t} every day until the autumn came."
                       for n, (c, t) in enumerate((c, t) for c in COLOURS for t in THINGS))  # fmt: skip
    (folder / "book.txt").write_text(text)
    return [
        {"from": lines(folder / "pairs.jsonl", pairs), "task": "retrieval", "lang": "en", "licence": "cc0-1.0"},
        {"from": lines(folder / "clr.jsonl", clr), "task": "clr"},
        {"from": lines(folder / "weak.jsonl", ({"title": p["query"] + "?", "content": p["pos"][1]} for p in pairs)), "task": "weak",
         "lang": "en"},
        {"from": lines(folder / "sts.jsonl", ({"sentence1": p["query"], "sentence2": p["pos"][0], "score": n % 6} for n, p in
                                              enumerate(pairs))), "task": "sts", "lang": "en", "score_range": [0, 5], "heldout": 0.1},
        {"from": lines(folder / "mood.jsonl", ({"text": f"note {n} on a {THINGS[n % 10]}", "label": n % 3} for n in range(200))),
         "task": "classification", "lang": "en", "label_names": ["good", "bad", "neither"], "heldout": 0.1},
        {"from": lines(folder / "sft.jsonl", ({"instruction": "Name it.", "input": f"a {c} {t}", "output": t}
                                              for c in COLOURS for t in THINGS)), "task": "sft", "lang": "en"},
        {"from": str(folder / "book.txt"), "task": "text", "lang": "en", "heldout": 0.1},
    ]  # fmt: skip
