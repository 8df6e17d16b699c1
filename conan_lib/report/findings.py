"""From finished stages to a verdict: one evaluator for each claim that a single run can speak to.

Seeds decide how far a verdict may go. Below `MIN_SEEDS` seeds a claim is at most `directional`, and a difference against it is `not
testable at this scale` with its sign in the note: neither confirmation nor refutation rests on one run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from statistics import fmean
from typing import Literal

from scipy.stats import spearmanr

from conan_lib.evaluation.metrics import MAIN_METRIC, MEAN
from conan_lib.evaluation.scores import read_items
from conan_lib.evaluation.statistics import ClusterDraws
from conan_lib.report.figures import series
from conan_lib.report.intervals import Interval, combine_seeds, difference_of, mean_of
from conan_lib.report.paper import PARAMETERS
from conan_lib.report.practical import arm_without_mrl
from conan_lib.report.run import Run
from conan_lib.stages import Stage

Verdict = Literal["reproduced", "directional", "contradicted", "not testable at this scale", "under-specified", "not run"]
MIN_SEEDS = 3
CROSSLINGUAL = "bible-clr"
STATIC = frozenset(("wordllama",))
"""Peers that look vectors up and run no network: not what the paper's larger models are."""
RECALL = MAIN_METRIC["crosslingual"]
INDO_EUROPEAN = frozenset(
    ("bg", "bn", "ca", "cs", "da", "de", "es", "fa", "fr", "hi", "it", "nl", "no", "pl", "pt", "ro", "ru", "sv", "uk")
)
"""Languages related to English, for claim C11."""


@dataclass(frozen=True)
class Finding:
    """What our run says about a claim. `keys` are the artefacts that hold the numbers."""

    verdict: Verdict
    note: str
    effect: float | None = None
    unit: str = ""
    interval: Interval | None = None
    seeds: int = 0
    keys: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """The note's first part: why there is no number."""
        return self.note.partition(";")[0]

    def __post_init__(self):
        if self.effect is not None and not (self.keys and isfinite(self.effect)):
            raise ValueError(f"a finite number with an artefact key is needed, not {self.effect} from {self.keys}")
        if not self.note:
            raise ValueError("a verdict says why")


def difference(effect: float, interval: Interval, seeds: int) -> Verdict:
    """Verdict on `effect` > 0 by the rule above: the 95 % interval must leave zero out."""
    low, high = interval
    if low > 0:
        return "reproduced" if seeds >= MIN_SEEDS else "directional"
    return "contradicted" if high < 0 and seeds >= MIN_SEEDS else "not testable at this scale"


def weakest(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict of a claim whose parts must all hold."""
    order: tuple[Verdict, ...] = ("contradicted", "not testable at this scale", "directional", "reproduced")
    return min(verdicts, key=order.index)


def crosslingual(run: Run, model: str, metric: str = RECALL) -> dict[str, dict]:
    """Query language -> score row of cross-lingual retrieval of one model, the pivot left out."""
    rows = [row for row in run.scores if (row["model"], row["task"], row["metric"]) == (model, CROSSLINGUAL, metric)]
    return {row["subset"]: row for row in rows if row["subset"] not in ("default", MEAN, run.pivot) and row["value"] is not None}


def languages_merge(run: Run) -> Finding:
    """C2: neighbours of other languages are nearer with CLR than without."""
    return _mixing(run, "entropy", "gain in neighbour entropy")


def clr_lifts_crosslingual(run: Run) -> Finding:
    """C3: cross-lingual R@1 with CLR minus without; beside it the paper's own measure, the mean metric of all tasks, where it was run."""
    found, grid = _mixing(run, "mean_r1", "gain in R@1"), run.ablations.get("sm_clr_dhnm")
    one = grid.contrast({"SM + CLR": 1, "SM": -1}, "mean") if grid else None
    if one is None or found.effect is None:
        return found
    beside = f"as in Table 4, SM + CLR minus SM: {one.value:+.3f} [{one.low:+.3f}, {one.high:+.3f}] of the mean main metric of all tasks"
    return replace(found, note=f"{found.note}; {beside}")


def _mixing(run: Run, measure: str, unit: str) -> Finding:
    """A measure of the stage mix on the same texts, with CLR minus without, by its paired interval."""
    mixing = run.file("mix", "mixing.json")
    if not mixing:
        return Finding("not run", run.unfinished("supervised", "supervised_no_clr", "mix") or "stage mix left no mixing.json")
    files = [(one, one.file("mix", "mixing.json")) for one in run.with_seeds("mix")]
    runs, found = zip(*((one, file) for one, file in files if file["texts"] == mixing["texts"]), strict=True)  # other texts: other items
    paired = [one["with CLR - without CLR"][measure] for one in found]
    effect, interval = combine_seeds([one["difference"] for one in paired], [(one["low"], one["high"]) for one in paired])
    arms = [fmean(one[arm][measure]["value"] for one in found) for arm in ("with CLR", "without CLR")]
    note = (
        f"with CLR {arms[0]:.3f}, without {arms[1]:.3f}; {_reading(effect, interval)}; {_seeds(runs)}, paired interval over texts of "
        f"{mixing['texts']}"
    )
    return Finding(difference(effect, interval, len(runs)), note, effect, unit, interval, len(runs), _keys(runs, "mix"))


def _seeds(runs: Sequence[Run]) -> str:
    return "one seed" if len(runs) == 1 else f"{len(runs)} seeds"


def _keys(runs: Sequence[Run], *stages: str) -> tuple[str, ...]:
    """The artefacts of some stages in all runs, shared ones once."""
    return tuple(dict.fromkeys(run.key(stage) for stage in stages for run in runs))


def _reading(effect: float, interval: Interval) -> str:
    low, high = interval
    if low <= 0 <= high:
        return "the interval holds zero, so the two cannot be told apart"
    return "points the claim's way" if effect > 0 else "points against the claim"


def negatives_stay_hard(run: Run) -> Finding:
    """C4: change of the mean cosine of the negatives in use, last quarter of training minus first."""
    rows = run.file("supervised", "negatives.json")
    if rows is None:
        return Finding("not run", run.unfinished("supervised") or "stage supervised left no negatives.json")
    scores = [row["mean_score"] for row in rows if row.get("mean_score") is not None]
    if len(scores) < 4:
        return Finding("not testable at this scale", f"only {len(scores)} rows of scores were logged", keys=(run.key("supervised"),))
    quarter = len(scores) // 4
    first, last = sum(scores[:quarter]) / quarter, sum(scores[-quarter:]) / quarter
    note = (
        f"mean cosine of the negatives in use went from {first:.3f} to {last:.3f} while {sum(row['swaps'] for row in rows)} were swapped"
        f"{in_use(run)}; "
        "no arm with static negatives was trained, so the curve exists but nothing stands beside it"
    )
    return Finding(
        "not testable at this scale", note, last - first, "mean cosine, last quarter minus first", None, 1, (run.key("supervised"),)
    )


def in_use(run: Run) -> str:
    """What came of the swaps, as the end of a sentence: a swap acts at its pool's next visit, if there is one."""
    count = run.results("supervised").get("swapped_in")
    return "" if count is None else f" and a swapped-in negative was used {count:,} times"


def small_dims_keep_quality(run: Run, share: float = 0.9) -> Finding:
    """C8: share of the whole vector's R@10 that a quarter of it keeps, mean of the tasks; the arm without MRL must keep less. Both with
    their intervals."""
    runs = run.with_seeds("efficiency")
    kept = [_kept_by_a_quarter(one.file("efficiency", "quality.json") or []) for one in runs]
    if not kept or None in kept:
        return Finding("not run", run.unfinished("efficiency") or "quality.json has no truncation to a quarter of the width")
    quarter, full, _ = kept[0]
    ratio, interval = combine_seeds([value for _, _, (value, _) in kept], [bounds for _, _, (_, bounds) in kept])
    unit, keys = f"of R@10 at {quarter} of {full} dims", _keys(runs, "efficiency")
    note = f"{quarter} of {full} dims keep {ratio:.0%} of R@10, mean of the tasks; the rule asks for {share:.0%}"
    arms = [arm_without_mrl(one) for one in runs]
    without = [_kept_by_a_quarter(series(arm, "quality.json")) for arm in arms if arm is not None]
    if len(without) < len(runs):
        note += f"; no arm without MRL was trained (params/ablations/no_mrl.yaml); {_seeds(runs)}"
        return Finding("not testable at this scale", note, ratio, unit, interval, len(runs), keys)
    gains = [difference_of(ours, theirs) for (_, _, ours), (_, _, theirs) in zip(kept, without, strict=True)]
    gain, (low, high) = combine_seeds([value for value, _ in gains], [bounds for _, bounds in gains])
    theirs = fmean(value for _, _, (value, _) in without)
    note += f"; without MRL {theirs:.0%}, so training prefixes changes it by {gain:+.2f} [{low:+.2f}, {high:+.2f}]; {_seeds(runs)}"
    # the rule's two halves as differences that must be above zero
    halves = ((ratio - share, (interval[0] - share, interval[1] - share)), (gain, (low, high)))
    verdict = weakest([difference(*half, len(runs)) for half in halves])
    return Finding(verdict, note, ratio, unit, interval, len(runs), keys + tuple(f"{arm.artefact.stage}/{arm.key}" for arm in arms))


def _kept_by_a_quarter(rows: list[dict]) -> tuple[int, int, tuple[float, Interval]] | None:
    """(channels, of how many, share of R@10 kept with its interval) for the supervised model in float32, mean of the tasks."""
    rows = [row for row in rows if (row["model"], row["precision"]) == ("supervised", "float32") and row["kept"] is not None]
    full = max((row["dim"] for row in rows), default=0)
    shares = [{"value": row["kept"], "low": row["kept_low"], "high": row["kept_high"]} for row in rows if 4 * row["dim"] == full]
    return (full // 4, full, mean_of(shares)) if shares else None


def faster_than_larger(run: Run) -> Finding:
    """C9: texts per second of our model over those of the fastest larger network, in the same rounds on the same machine."""
    rows = {row["model"]: row for row in run.file("efficiency", "speed.json") or []}
    ours = rows.pop("supervised", None)
    if ours is None:
        return Finding("not run", run.unfinished("efficiency") or "speed.json has no row for supervised")
    peers = {name: row for name, row in rows.items() if row["kind"] == "peer" and name not in STATIC}
    larger = {name: row for name, row in peers.items() if (row["parameters"] or 0) > ours["parameters"]}
    keys = (run.key("efficiency"),)
    rate = f"{ours['rate']:.0f} texts/s at {ours['parameters']:,} parameters"
    if not larger:
        return Finding("not testable at this scale", f"{rate}; no larger network was timed beside it", keys=keys)
    name, peer = max(larger.items(), key=lambda item: item[1]["rate"])
    ratio, slowest, fastest = (1 / peer[field] for field in ("ratio", "ratio_high", "ratio_low"))
    note = (
        f"{rate} against {peer['rate']:.0f} of {name} at {peer['parameters']:,}, {slowest:.1f} to {fastest:.1f} times in {peer['repeats']} "
        "rounds; different implementations on one machine, far below the paper's sizes"
    )
    return Finding("directional" if slowest > 1 else "not testable at this scale", note, ratio, f"times {name}'s texts/s", None, 1, keys)


def numbers_badly_told_apart(run: Run, bound: float = 0.3) -> Finding:
    """C10: Spearman's correlation of cosine and numeric gap. Of its readings the one whose interval goes farthest from zero decides."""
    models = (run.file("probes", "probes.json") or {}).get("models", {})
    if "supervised" not in models:
        return Finding("not run", run.unfinished("probes") or "probes.json has no row for supervised")
    runs = run.with_seeds("probes")
    ours, before = ([one.file("probes", "probes.json")["models"][name] for one in runs] for name in ("supervised", run.untrained[0]))
    gaps = {reading: combine_seeds([one["gap"][reading]["value"] for one in ours],
                                   [(one["gap"][reading]["low"], one["gap"][reading]["high"]) for one in ours])
            for reading in ours[0]["gap"]}  # fmt: skip
    reach = {reading: max(map(abs, interval)) for reading, (_, interval) in gaps.items()}
    reading = max(reach, key=reach.get)
    (effect, interval), scales = gaps[reading], [one["scale"]["number"]["value"] for one in ours]
    others = " and ".join(f"{name} {gaps[name][0]:+.2f}" for name in reach if name != reading)
    inside = "inside" if reach[reading] <= bound else "not inside"
    note = (
        f"gap as {reading}, the farthest from zero (others: {others}); its interval is {inside} +/-{bound}; "
        f"{run.untrained[1]} had {fmean(one['gap'][reading]['value'] for one in before):+.2f}; the nearer number is nearer in "
        f"{fmean(one['triplets']['value'] for one in ours):.0%} of triplets"
    )
    if None not in scales:
        scale = fmean(scales)
        where = "above, so not low as in the paper's example" if scale > 1 else "below, as in the paper's example"
        note += f"; where unrelated texts are 0 and a paraphrase is 1, a changed number is at {scale:.2f}: {where}"
    verdict: Verdict = "not testable at this scale"
    if reach[reading] <= bound:
        verdict = "reproduced" if len(runs) >= MIN_SEEDS else "directional"
    elif interval[1] < -bound and len(runs) >= MIN_SEEDS:
        verdict = "contradicted"
    note, unit = f"{note}; {_seeds(runs)}, interval over templates", "rank correlation of cosine and gap"
    return Finding(verdict, note, effect, unit, interval, len(runs), _keys(runs, "probes"))


def distant_languages_weaker(run: Run) -> Finding:
    """C11: mean R@10 of languages related to English minus that of the others, with the share of training text beside it."""
    rows = crosslingual(run, "supervised")
    near = [language for language in rows if language in INDO_EUROPEAN]
    far = [language for language in rows if language not in INDO_EUROPEAN]
    if not rows:
        return Finding("not run", run.unfinished("evaluate") or f"scores.json has no {RECALL} of {CROSSLINGUAL} for supervised")
    if min(len(near), len(far)) < 2:
        why = f"{len(near)} related and {len(far)} other languages: two of each are needed"
        return Finding("not testable at this scale", why, keys=(run.key("evaluate"),))
    runs = run.with_seeds("evaluate")
    keys, by_seed = _keys(runs, "evaluate"), [crosslingual(one, "supervised") for one in runs]
    recall = {language: fmean(found[language]["value"] for found in by_seed) for language in rows}
    sides = [fmean(recall[language] for language in side) for side in (near, far)]
    note = f"related {sides[0]:.3f} ({' '.join(near)}), others {sides[1]:.3f} ({' '.join(far)}); {_seeds(runs)}"
    if all(language in (untrained := crosslingual(run, run.untrained[0])) for language in rows):  # shared script and names need no training
        start = [fmean(untrained[language]["value"] for language in side) for side in (near, far)]
        note += f"; {run.untrained[1]} had {start[0]:.3f} and {start[1]:.3f}"
    shares = training_share(run)
    if len(set(shares.get(language, 0) for language in rows)) > 2:
        rho = spearmanr([shares.get(language, 0) for language in rows], list(recall.values())).statistic
        note += f"; Spearman's rho between a language's share of the training text and its R@10 is {rho:+.2f} over {len(rows)} languages"
        keys += (run.key("data"),)
    gaps = [_gap(one.stages["evaluate"], near, far) for one in runs]
    effect, interval = combine_seeds([gap for gap, _ in gaps], [interval for _, interval in gaps])
    verdict, note = difference(effect, interval, len(runs)), f"{note}; {_reading(effect, interval)}"
    return Finding(verdict, note, effect, "R@10 of relatives over others", interval, len(runs), keys)


def _gap(stage: Stage, near: list[str], far: list[str]) -> tuple[float, Interval]:
    """Mean R@10 of some query languages minus that of others, resampled by verse: all languages ask about the same ones."""
    items = {subset.split("-")[0]: one for subset, one in read_items(stage.path, "supervised", CROSSLINGUAL).items()}
    draws = ClusterDraws([verse for one in items.values() for verse in one["clusters"]], stage.tasks.bootstrap, stage.tasks.seed)
    means = {language: draws.mean(items[language][RECALL], items[language]["clusters"]) for language in (*near, *far)}
    sides = [sum(means[language] for language in side) / len(side) for side in (near, far)]
    found = draws.interval(sides[0] - sides[1])
    return found["value"], (found["low"], found["high"])


def training_share(run: Run) -> dict[str, float]:
    """Language -> share of the characters that training text has; empty where stage data does not say."""
    characters = run.results("data").get("train_chars") or {}
    return {language: count / sum(characters.values()) for language, count in characters.items()}


def parameters_exact(run: Run) -> Finding:
    """C12: the paper's sizes give the leaderboard's parameter count, to the unit; counted on the meta device."""
    from conan_lib.model.backbone import count_parameters
    from conan_lib.params.model import BackboneParams, TokenizerParams

    count = count_parameters(BackboneParams(), TokenizerParams().vocab_size)
    verdict = "reproduced" if count == PARAMETERS else "contradicted"
    return Finding(
        verdict,
        f"{count:,} counted, {PARAMETERS:,} published; exact arithmetic, no seed",
        count,
        "parameters",
        keys=("conan_lib.model.backbone",),
    )
