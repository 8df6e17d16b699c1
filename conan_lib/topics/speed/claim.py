"""C8 and C9: small dims keep quality; ours is faster than larger models."""

from statistics import fmean

from conan_lib.findings.claim import (
    BEFORE_GRIDS,
    FEW_SEEDS,
    FIRST,
    LIKE_WITH_LIKE,
    MIN_SEEDS,
    STRICTER,
    Claim,
    Earlier,
    Finding,
    Verdict,
    difference,
    keys_of,
    seeds_text,
    weakest,
)  # fmt: skip
from conan_lib.findings.intervals import Interval, combine_seeds, difference_of, mean_of
from conan_lib.findings.plots import series
from conan_lib.findings.run import Run
from conan_lib.topics.speed.show import arm_without_mrl

STATIC = frozenset(("wordllama",))
"""Peers that look vectors up and run no network."""


def small_dims_keep_quality(run: Run, share: float = 0.9) -> Finding:
    """C8: share of the whole vector's R@10 that a quarter of it keeps, mean of the tasks; the arm without MRL must keep less. Both with
    their intervals."""
    runs = run.with_seeds("efficiency")
    kept = [_kept_by_a_quarter(one.file("efficiency", "quality.json") or []) for one in runs]
    if not kept or None in kept:
        return Finding("not run", run.unfinished("efficiency") or "quality.json has no truncation to a quarter of the width")
    quarter, full, _ = kept[0]
    ratio, interval = combine_seeds([value for _, _, (value, _) in kept], [bounds for _, _, (_, bounds) in kept])
    unit, keys = f"of R@10 at {quarter} of {full} dims", keys_of(runs, "efficiency")
    reason = f"{quarter} of {full} dims keep {ratio:.0%} of R@10, mean of the tasks"
    rule, seeds = f"the rule asks for {share:.0%}", seeds_text(len(runs))
    if (against := _gain(runs, kept)) is None:
        details = (rule, "no arm without MRL was trained (params/ablations/no_mrl.yaml)", seeds)
        return Finding("undecided at this scale", reason, details, ratio, unit, interval, len(runs), keys)
    theirs, gain, (low, high), others = against
    mrl = f"without MRL {theirs:.0%}, so training prefixes changes it by {gain:+.2f} [{low:+.2f}, {high:+.2f}]"
    # the rule's two halves as differences that must be above zero
    halves = ((ratio - share, (interval[0] - share, interval[1] - share)), (gain, (low, high)))
    verdict = weakest([difference(*half, len(runs)) for half in halves])
    return Finding(verdict, reason, (rule, mrl, seeds), ratio, unit, interval, len(runs), keys + others)


def the_point_alone(run: Run, found: Finding, share: float = 0.9) -> Verdict:
    """C8 before: the share itself, not its interval, against 90 %; no way to be contradicted."""
    if found.effect is None:
        return found.verdict
    runs = run.with_seeds("efficiency")
    against = _gain(runs, [_kept_by_a_quarter(one.file("efficiency", "quality.json") or []) for one in runs])
    if against is None or found.effect < share or against[2][0] <= 0:
        return "undecided at this scale"
    return "reproduced" if len(runs) >= MIN_SEEDS else "directional"


def _gain(runs: list[Run], kept: list[tuple]) -> tuple[float, float, Interval, tuple[str, ...]] | None:
    """(share kept without MRL, gain with it, its interval, artefacts); None where a seed has no arm without MRL."""
    arms = [arm_without_mrl(one) for one in runs]
    without = [_kept_by_a_quarter(series(arm, "quality.json")) for arm in arms if arm is not None]
    if len(without) < len(runs):
        return None
    gains = [difference_of(ours, theirs) for (_, _, ours), (_, _, theirs) in zip(kept, without, strict=True)]
    gain, interval = combine_seeds([value for value, _ in gains], [bounds for _, bounds in gains])
    keys = tuple(f"{arm.artefact.stage}/{arm.key}" for arm in arms)
    return fmean(value for _, _, (value, _) in without), gain, interval, keys


def _kept_by_a_quarter(rows: list[dict]) -> tuple[int, int, tuple[float, Interval]] | None:
    """(channels, of how many, share of R@10 kept with its interval) for the supervised model in float32, mean of the tasks."""
    rows = [row for row in rows if (row["model"], row["precision"]) == ("supervised", "float32") and row["kept"] is not None]
    full = max((row["dim"] for row in rows), default=0)
    shares = [{"value": row["kept"], "low": row["kept_low"], "high": row["kept_high"]} for row in rows if 4 * row["dim"] == full]
    return (full // 4, full, mean_of(shares)) if shares else None


def faster_than_larger(run: Run) -> Finding:
    """C9: texts per second of our model over those of the fastest larger model, in the same rounds on the same machine."""
    return _speed(run, frozenset())


def networks_alone(run: Run, found: Finding) -> Verdict:
    """C9 before: peers that look vectors up and run no network did not count."""
    return _speed(run, STATIC).verdict


def _speed(run: Run, left_out: frozenset[str]) -> Finding:
    rows = {row["model"]: row for row in run.file("efficiency", "speed.json") or []}
    ours = rows.pop("supervised", None)
    if ours is None:
        return Finding("not run", run.unfinished("efficiency") or "speed.json has no row for supervised")
    peers = {name: row for name, row in rows.items() if row["kind"] == "peer" and name not in left_out}
    larger = {name: row for name, row in peers.items() if (row["parameters"] or 0) > ours["parameters"]}
    keys = (run.key("efficiency"),)
    rate = f"{ours['rate']:.0f} texts/s at {ours['parameters']:,} parameters"
    if not larger:
        return Finding("undecided at this scale", rate, ("no larger model was timed with it",), keys=keys)
    name, peer = max(larger.items(), key=lambda item: item[1]["rate"])
    ratio, slowest, fastest = (1 / peer[field] for field in ("ratio", "ratio_high", "ratio_low"))
    against = f"{peer['rate']:.0f} of {name} at {peer['parameters']:,}{', a table of vectors without a network' if name in STATIC else ''}"
    details = [f"{slowest:.2g} to {fastest:.2g} times in {peer['repeats']} rounds"]
    networks = {other: row["rate"] for other, row in larger.items() if other not in STATIC}
    if name in STATIC and networks:
        network = max(networks, key=networks.get)
        details.append(f"the fastest larger network, {network}, encodes {networks[network]:.0f}")
    details.append("different implementations on one machine, far below the paper's sizes")
    verdict: Verdict = "directional" if slowest > 1 else "undecided at this scale"
    return Finding(verdict, f"{rate} against {against}", tuple(details), ratio, f"times {name}'s texts/s", seeds=1, keys=keys)


CLAIMS = (
    Claim(
        "C8",
        name="Small dims keep quality (MRL)",
        statement="Matryoshka training lets a prefix of the vector serve in its place.",
        paper="Table 5 lists MRL as supported; dims 256 to 3584 are trained; no score by dim is published.",
        published="no number",
        arms="R@10 at each of efficiency.dims over R@10 at full width, by task; the same trained "
        "without MRL (params/ablations/no_mrl.yaml).",
        rule="Reproduced if a quarter of the width keeps 90 % of the score and more than an arm without MRL keeps, both with their 95 % "
        f"intervals; contradicted if an interval lies below. {FEW_SEEDS}",
        evaluate=small_dims_keep_quality,
        decided=STRICTER[0],
        revision=STRICTER[1],
        earlier=(
            Earlier(
                *FIRST,
                "Reproduced if a quarter of the width keeps 90 % of the score and more than an arm without MRL keeps.",
                "it compared the share itself, not its interval, with 90 %, and had no way to be contradicted",
                the_point_alone,
            ),
        ),
    ),
    Claim(
        "C9",
        name="Faster than larger models",
        statement="A 1.5B model encodes several times faster than 7B embedders.",
        paper="Table 5, minutes: Conan-v2 (1503M) 5.14, stella-1.5B 5.54, gte-Qwen2-7B 31.78, NV-Embed-v2 33.58.",
        published="Table 5: 6.2 x a 7B model",
        arms="Texts per second of our model and of larger peers on the same texts and machine.",
        rule="Reproduced at the paper's sizes only: six times a 7B model's rate. Below: directional if above the fastest larger model of "
        "any kind.",
        evaluate=faster_than_larger,
        inconsistencies=(4,),
        decided=LIKE_WITH_LIKE[0],
        revision=LIKE_WITH_LIKE[1],
        earlier=(
            Earlier(
                *BEFORE_GRIDS,
                "Reproduced at the paper's sizes only: six times a 7B model's rate. Below: directional if above the fastest larger "
                "network.",
                "a static table of vectors (wordllama) is larger and faster, and the rule left it out",
                networks_alone,
            ),
        ),
    ),
)
