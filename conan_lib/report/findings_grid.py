"""From finished grids to a verdict: one evaluator for each claim that needs cells side by side. Cells are those of params/grids/*.yaml.

A claim uses the seeds that all of its cells have. Rules are in claims.py; which seeds allow which verdict: findings.py.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from math import inf

import numpy as np

from conan_lib.evaluation.statistics import over_seeds
from conan_lib.report.ablation import ALPHA, Ablation, Estimate
from conan_lib.report.ablation_blocks import negatives_of
from conan_lib.report.findings import Finding, Verdict, difference, negatives_stay_hard, weakest
from conan_lib.report.run import Run

MEAN = "mean"
RANKS = ("LoRA r16", "LoRA r32", "LoRA r64")
ALL_THREE, PAIRS, FEWER = "SM + CLR + DHNM", ("SM + CLR", "SM + DHNM", "CLR + DHNM"), ("SM", "CLR", "DHNM", "none")


def from_grid(name: str, *cells: str) -> Callable[[Callable[[Ablation], Finding]], Callable[[Run], Finding]]:
    """Make an evaluator of a function of a grid: without the grid's file or a finished seed in all `cells` the claim is not run."""

    def wrap(evaluate: Callable[[Ablation], Finding]) -> Callable[[Run], Finding]:
        def evaluated(run: Run) -> Finding:
            return _missing(run, name, cells) or evaluate(run.ablations[name].among(cells))

        evaluated.__doc__ = evaluate.__doc__
        return evaluated

    return wrap


def _missing(run: Run, name: str, cells: Iterable[str]) -> Finding | None:
    ablation = run.ablations.get(name)
    if ablation is None:
        why = next((f"{file}: {error}" for file, error in run.broken_grids.items() if file.endswith(f"/{name}.yaml")), None)
        return Finding("not run", why or f"params/grids/{name}.yaml is missing, or names another tier")
    if unknown := [cell for cell in cells if cell not in ablation.grid.names]:
        return Finding("not run", f"{ablation.grid.file} has no cell {', '.join(unknown)}")
    if ablation.contrast(dict.fromkeys(cells, 1.0), ablation.grid.params.metrics[0]) is None:
        return Finding("not run", f"not run: `{ablation.grid.command}`")
    return None


@from_grid("masks", "weight + l/i", "abrupt", "causal")
def soft_mask_helps(ablation: Ablation) -> Finding:
    """C1: soft minus the better of abrupt and causal."""
    better = max(("abrupt", "causal"), key=lambda name: ablation.mean(name, MEAN).value)
    one = ablation.contrast({"weight + l/i": 1, better: -1}, MEAN)
    return _finding(one, f"soft minus {better}, the better of abrupt and causal")


@from_grid("sm_clr_dhnm", ALL_THREE, *PAIRS, *FEWER)
def all_three_are_best(ablation: Ablation) -> Finding:
    """C5: all three parts minus the best of the seven other cells; all seven comparisons must hold, corrected together."""
    others = {name: _turned(one) for name, one in ablation.against(MEAN, ALL_THREE).items()}
    best, pair = (min(names, key=lambda name: others[name].value) for names in (others, PAIRS))
    return _finding(others[best], f"all three minus {best}, the best other cell (minus {pair}, the best pair: {_text(others[pair])})",
                    list(others.values()))  # fmt: skip


@from_grid("lora", "full + SM", "full", *RANKS, *(f"{rank} + SM" for rank in RANKS))
def full_needs_the_mask(ablation: Ablation) -> Finding:
    """C6: the interaction (full minus the mean of the LoRA ranks, with minus without the soft mask), and the sign of both differences."""
    share = 1 / len(RANKS)
    weights = {"full + SM": 1, "full": -1} | {f"{rank} + SM": -share for rank in RANKS} | dict.fromkeys(RANKS, share)
    sides = [ablation.contrast({f"full{end}": 1} | {f"{rank}{end}": -share for rank in RANKS}, MEAN) for end in (" + SM", "")]
    parts = {"the interaction": ablation.contrast(weights, MEAN), "full minus LoRA with the mask": sides[0],
             "LoRA minus full without the mask": _turned(sides[1])}  # fmt: skip
    weak = weakest([_verdict(one) for one in parts.values()])
    name, one = next((name, one) for name, one in parts.items() if _verdict(one) == weak)
    others = ", ".join(f"{other} {_text(parts[other])}" for other in parts if other != name)
    return _finding(one, f"{name} (mean of three ranks) decides; beside it {others}", list(parts.values()))


@from_grid("alpha", "linear", "quadratic", "inverse quadratic")
def linear_is_best(ablation: Ablation) -> Finding:
    """C7: linear minus the better of the other two; both comparisons corrected together."""
    others = {name: _turned(one) for name, one in ablation.against(MEAN, "linear", ("quadratic", "inverse quadratic")).items()}
    name, one = min(others.items(), key=lambda item: item[1].value)
    return _finding(one, f"linear minus {name}, the better of the other two", list(others.values()))


@from_grid("data", "all", "no news", "no pairs")
def news_and_pairs_help(ablation: Ablation) -> Finding:
    """C13: pretraining with everything minus without news, and minus without pairs; the smaller effect stands, both must hold."""
    found = {name: ablation.contrast({"all": 1, name: -1}, MEAN) for name in ("no news", "no pairs")}
    name, one = min(found.items(), key=lambda item: item[1].value)
    note = "; ".join(f"all minus {other} {_text(estimate)}" for other, estimate in found.items())
    return _finding(one, f"the smaller effect, all minus {name} ({note})", list(found.values()))


@from_grid("data", "all", "no filter")
def filter_helps(ablation: Ablation) -> Finding:
    """C14: filtered minus unfiltered weak pairs."""
    return _finding(ablation.contrast({"all": 1, "no filter": -1}, MEAN), "filtered minus unfiltered")


@from_grid("negatives", "v2", "static")
def _negatives(ablation: Ablation) -> Finding:
    retrieval = ablation.contrast({"v2": 1, "static": -1}, "retrieval")
    runs = [ablation.finished[name] for name in ("v2", "static")]
    seeds = sorted(set(runs[0]) & set(runs[1]))
    last = np.array([[_last_quarter(cells[seed]) for seed in seeds] for cells in runs])
    points = last[0] - last[1]
    harder = Estimate(**over_seeds(points, np.repeat(points[:, None], 1000, axis=1)), keys=())
    if len(seeds) == 1:  # a mean over a run's own steps says nothing of another run
        harder = replace(harder, low=-inf, high=inf)
    note = f"v2 minus static: nDCG@10 {_text(retrieval)}, mean cosine of the negatives in the last quarter {_text(harder)} (over seeds)"
    keys = tuple(f"supervised/{cells[seed].stages['supervised'].key}" for cells in runs for seed in seeds)
    return _finding(retrieval, note, [retrieval, harder], "nDCG@10", keys)


def negatives_stay_hard_and_help(run: Run) -> Finding:
    """C4: from the grid where it was run; else what the single run shows."""
    found = _negatives(run)
    return found if found.verdict != "not run" else negatives_stay_hard(run)


def _last_quarter(cell) -> float:
    scores = list(negatives_of(cell.stages["supervised"]).values())
    return float(np.mean(scores[-max(1, len(scores) // 4) :]))


def _finding(one: Estimate, note: str, together: list[Estimate] | None = None, unit: str = "mean main metric", keys: tuple = ()) -> Finding:
    """The verdict on one > 0; where several comparisons belong `together`, all must hold, by their corrected p where they have one."""
    verdicts = [_verdict(each) for each in together or [one]]
    corrected = f"; p {one.p:.3f}" + (f", corrected {one.corrected:.3f}" if one.corrected is not None else "")
    reading = (
        "the interval holds zero" if one.low <= 0 <= one.high else "points the claim's way" if one.value > 0 else "points against the claim"
    )
    return Finding(weakest(verdicts), f"{note}{corrected}; {reading}", one.value, unit, (one.low, one.high), one.seeds, one.keys + keys)


def _verdict(one: Estimate) -> Verdict:
    sure = one.corrected is None or one.corrected < ALPHA
    return difference(one.value, (one.low, one.high), one.seeds) if sure else "not testable at this scale"


def _turned(one: Estimate) -> Estimate:
    """The difference the other way round."""
    return Estimate(-one.value, -one.high, -one.low, one.p, one.seeds, one.keys, one.corrected)


def _text(one: Estimate) -> str:
    return f"{one.value:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"
