"""From a finished grid to a finding: what the claims share that need cells side by side. Cells are those of params/grids/*.yaml.

A claim uses the seeds that all of its cells have.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from math import isfinite

from conan_lib.findings.ablation import ALPHA, Ablation, Estimate
from conan_lib.findings.claim import Finding, Verdict, difference, reading, signed_text, weakest
from conan_lib.findings.over_seeds import detectable
from conan_lib.findings.run import Run
from conan_lib.findings.trained import trained_in

MEAN = "mean"


def from_grid(name: str, *cells: str) -> Callable[[Callable[[Ablation], Finding]], Callable[[Run], Finding]]:
    """Make an evaluator of a function of a grid: without the grid's file or a finished seed in all `cells` the claim is not run."""

    def wrap(evaluate: Callable[[Ablation], Finding]) -> Callable[[Run], Finding]:
        def evaluated(run: Run) -> Finding:
            if missing := lacking(run, name, cells):
                return missing
            ablation = run.ablations[name].among(cells)
            return replace(evaluate(ablation), model=trained_in(ablation))

        evaluated.__doc__ = evaluate.__doc__
        return evaluated

    return wrap


def by_earlier_rule(name: str, *cells: str) -> Callable[[Callable[[Ablation], Verdict]], Callable[[Run, Finding], Verdict]]:
    """Make a rule that a claim had before of a function of a grid; `not run` where the grid cannot be judged."""

    def wrap(judge: Callable[[Ablation], Verdict]) -> Callable[[Run, Finding], Verdict]:
        def judged(run: Run, _: Finding) -> Verdict:
            return "not run" if lacking(run, name, cells) else judge(run.ablations[name].among(cells))

        judged.__doc__ = judge.__doc__
        return judged

    return wrap


def finding(
    one: Estimate,
    reason: str,
    together: list[Estimate] | None = None,
    unit: str = "mean main metric",
    keys: tuple = (),
    details: tuple[str, ...] = (),
) -> Finding:
    """The verdict on one > 0; where several comparisons belong `together`, all must hold, by their corrected p where they have one.

    Where it stays undecided, the details say how large a difference this many seeds and items would have found."""
    corrected = f"p {one.p:.3f}" + (f", corrected {one.corrected:.3f}" if one.corrected is not None else "")
    verdict, interval = weakest([verdict_of(each) for each in together or [one]]), (one.low, one.high)
    details = (*details, corrected, reading(one.value, interval))
    if verdict == "undecided at this scale" and isfinite(one.high - one.low):
        family = sum(each.corrected is not None for each in together or [one])
        found = detectable(one.low, one.high, one.seeds, max(1, family))
        details = (*details, f"power: a true difference of {found:.3f} would be found in four of five such grids")
    return Finding(verdict, reason, details, one.value, unit, interval, one.seeds, one.keys + keys)


def verdict_of(one: Estimate) -> Verdict:
    """The verdict on one > 0, by its corrected p where it belongs to a family."""
    sure = one.corrected is None or one.corrected < ALPHA
    return difference(one.value, (one.low, one.high), one.seeds) if sure else "undecided at this scale"


def turned(one: Estimate) -> Estimate:
    """The difference the other way round."""
    return replace(one, value=-one.value, low=-one.high, high=-one.low)


def text(one: Estimate) -> str:
    """An estimate with its interval, for a sentence."""
    return signed_text(one.value, (one.low, one.high))


def lacking(run: Run, name: str, cells: Iterable[str]) -> Finding | None:
    """Why a grid cannot be judged: no file, no such cell, no finished seed in all of them; None where it can."""
    ablation = run.ablations.get(name)
    if ablation is None:
        why = next((f"{file}: {error}" for file, error in run.broken_grids.items() if file.endswith(f"/{name}.yaml")), None)
        return Finding("not run", why or f"no grid {name} for tier {run.params.tier}")
    if unknown := [cell for cell in cells if cell not in ablation.grid.names]:
        return Finding("not run", f"{ablation.grid.file} has no cell {', '.join(unknown)}")
    if ablation.contrast(dict.fromkeys(cells, 1.0), ablation.grid.params.metrics[0]) is None:
        return Finding("not run", ablation.not_run)
    return None
