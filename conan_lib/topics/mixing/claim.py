"""C2 and C3: CLR merges the languages, and lifts cross-lingual retrieval."""

from dataclasses import replace
from statistics import fmean

from conan_lib.findings.claim import FEW_SEEDS, Claim, Finding, difference, keys_of, reading, seeds_text, signed_text
from conan_lib.findings.intervals import Interval, combine_seeds
from conan_lib.findings.run import Run
from conan_lib.topics.mixing.show import on_reviews_of


def languages_merge(run: Run) -> Finding:
    """C2: neighbours of other languages are nearer with CLR than without."""
    return _mixing(run, "entropy", "gain in neighbour entropy")


def clr_lifts_crosslingual(run: Run) -> Finding:
    """C3: cross-lingual R@1 with CLR minus without; then the paper's own measure, the mean metric of all tasks, where it was run."""
    found, grid = _mixing(run, "mean_r1", "gain in R@1"), run.ablations.get("sm_clr_dhnm")
    cells = grid and {"SM + CLR", "SM"} <= set(grid.grid.names)
    one = grid.contrast({"SM + CLR": 1, "SM": -1}, "mean") if cells else None
    if found.effect is None:
        return found
    own = (
        f"by the paper's own measure, SM + CLR minus SM of the mean of all tasks (Table 4): {signed_text(one.value, (one.low, one.high))}"
        if one
        else "the paper's own measure, the mean of all tasks (Table 4), was not run"
    )
    return replace(found, caveat=f"{found.caveat}; {own}")


def _mixing(run: Run, measure: str, unit: str) -> Finding:
    """A measure of the stage mix on the same texts, with CLR minus without, by its paired interval."""
    mixing = run.file("mix", "mixing.json")
    if not mixing:
        return Finding("not run", run.unfinished("supervised", "supervised_no_clr", "mix") or "stage mix left no mixing.json")
    runs = run.with_seeds("mix")
    found = [one.file("mix", "mixing.json") for one in runs]
    effect, interval = _gain(runs, measure)
    arms = [fmean(one[arm][measure]["value"] for one in found) for arm in ("with CLR", "without CLR")]
    return Finding(
        difference(effect, interval, len(runs)),
        f"with CLR {arms[0]:.3f}, without {arms[1]:.3f}",
        (reading(effect, interval), f"{seeds_text(len(runs))}, paired interval over texts of {mixing['texts']}"),
        effect,
        unit,
        interval,
        len(runs),
        keys_of(runs, "mix"),
        caveat=_elsewhere(run, measure),
    )


def _elsewhere(run: Run, measure: str) -> str:
    """What the same difference is on reviews, which nothing is trained on, where it was measured."""
    runs = on_reviews_of(run)
    if not runs:
        return f"on {run.file('mix', 'mixing.json')['texts']} alone"
    return f"on reviews, which nothing is trained on: {signed_text(*_gain(runs, measure))}, {seeds_text(len(runs))}"


def _gain(runs: list[Run], measure: str) -> tuple[float, Interval]:
    """A measure with CLR minus without, over seeds, and its 95 % interval."""
    paired = [run.file("mix", "mixing.json")["with CLR - without CLR"][measure] for run in runs]
    return combine_seeds([one["difference"] for one in paired], [(one["low"], one["high"]) for one in paired])


CLAIMS = (
    Claim(
        "C2",
        name="CLR merges the languages",
        statement="Cross-lingual retrieval training turns clusters by language into one shared space.",
        paper="UMAP figure of review embeddings in several languages: apart without CLR, merged with it; no number is published.",
        published="UMAP figure, no number",
        arms="supervised with and without clr among its tasks, the same steps; entropy of language among nearest neighbours, and purity.",
        rule=f"Reproduced if neighbour entropy with CLR minus without is above 0 with its 95 % interval. {FEW_SEEDS}",
        evaluate=languages_merge,
        inconsistencies=(7,),
        caveat="one effect with C3, seen twice",
    ),
    Claim(
        "C3",
        name="CLR lifts cross-lingual retrieval",
        statement="Cross-lingual retrieval training improves multilingual results.",
        paper="Table 4, multilingual: SM 61.73, SM + CLR 64.45 (+2.72). MKQA R@20: 72.5 against 68.8 of M3 (hybrid).",
        published="Table 4: +2.72 multilingual",
        arms="supervised with and without clr among its tasks, the same steps; mean R@1 over all pairs of languages of held-out texts.",
        rule=f"Reproduced if mean R@1 with CLR minus without is above 0 with its 95 % interval. {FEW_SEEDS}",
        evaluate=clr_lifts_crosslingual,
        inconsistencies=(2, 3, 7, 9),
        caveat="one effect with C2, seen twice",
    ),
)
