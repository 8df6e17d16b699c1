"""The claims ledger: what the paper says, what would test it here, the rule decided beforehand, and the verdict of a run.

Rules and arms are part of the source, so they are older than any number that they judge. Which seeds allow which verdict: findings.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

from conan_lib.report import findings, findings_grid
from conan_lib.report.findings import Finding
from conan_lib.report.paper import CONTRADICTIONS
from conan_lib.report.run import Run

SEEDS = "Below three seeds: at most directional."


@dataclass(frozen=True)
class Claim:
    """One claim of the paper.

    Attributes:
        id: C1 to C14.
        name: a few words for the first screen.
        statement: the claim in a sentence.
        paper: the paper's figures with their place.
        cells: the arms and measures of ours that test it.
        rule: how a verdict follows, written before the runs.
        contradictions: points of CONTRADICTIONS that touch it.
        evaluate: from a run to a Finding.
    """

    id: str
    name: str
    statement: str
    paper: str
    cells: str
    rule: str
    evaluate: Callable[[Run], Finding]
    contradictions: tuple[int, ...] = ()

    def __post_init__(self):
        unknown = set(self.contradictions) - set(CONTRADICTIONS)
        if unknown or not all((self.statement, self.paper, self.cells, self.rule)):
            raise ValueError(f"{self.id}: every field is filled, and contradictions are of the list; unknown: {sorted(unknown)}")


def judge(run: Run) -> list[tuple[Claim, Finding]]:
    """The verdict of one run on each claim; a claim whose input is missing says so."""
    return [(claim, claim.evaluate(run)) for claim in CLAIMS]


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "C1",
        "The soft mask helps",
        "Opening the causal mask gradually gives better embeddings than not doing so.",
        "Table 4: over DHNM alone, adding SM gives +1.28 en, +0.35 zh, +1.22 multilingual. Table 6, full fine-tuning: 71.50 to 73.52 en.",
        "weak.soft_mask.attention: soft, causal, bidirectional; else one run; mean main metric of all local tasks.",
        f"Reproduced if soft minus the better of the other two is above 0 with its 95 % interval over seeds and queries. {SEEDS}",
        findings_grid.soft_mask_helps,
        (1, 8),
    ),
    Claim(
        "C2",
        "CLR merges the languages",
        "Cross-lingual retrieval training turns clusters by language into one shared space.",
        "UMAP figure of review embeddings in several languages: apart without CLR, merged with it; no number is published.",
        "supervised with and without clr in its mix, the same steps; entropy of language among nearest neighbours; purity beside it.",
        f"Reproduced if neighbour entropy with CLR minus without is above 0 with its 95 % interval. {SEEDS}",
        findings.languages_merge,
        (7,),
    ),
    Claim(
        "C3",
        "CLR lifts cross-lingual retrieval",
        "Cross-lingual retrieval training improves multilingual results.",
        "Table 4, multilingual: SM 61.73, SM + CLR 64.45 (+2.72). MKQA R@20: 72.5 against 68.8 of M3 (hybrid).",
        "supervised with and without clr in its mix, the same steps; mean R@1 over all pairs of languages of held-out aligned texts.",
        f"Reproduced if mean R@1 with CLR minus without is above 0 with its 95 % interval. {SEEDS}",
        findings.clr_lifts_crosslingual,
        (2, 3, 7, 9),
    ),
    Claim(
        "C4",
        "DHNM keeps negatives hard",
        "Swapping negatives that have become easy keeps their scores up and lifts retrieval.",
        "Figure of negatives' scores over steps; Table 4: SM 61.73, 70.41 en; SM + DHNM 63.03, 72.78 en (+1.30, +2.37).",
        "supervised.dhnm.rule: v2, v1, static, random; mean cosine of the negatives in use over steps, retrieval nDCG@10.",
        "Reproduced if the last quarter's mean score and nDCG@10 under v2 are above those under static, intervals apart from 0. "
        f"{SEEDS} Without a static arm: not testable.",
        findings_grid.negatives_stay_hard_and_help,
        (1,),
    ),
    Claim(
        "C5",
        "All three parts together are best",
        "Soft mask, CLR and DHNM add up.",
        "Table 4, all three: 65.17 multilingual, 73.52 en, 74.24 zh, the best of every column; best pair 64.45 / 72.78 / 72.44.",
        "The 2 x 2 x 2 grid of soft mask, clr, dhnm, with the two rows that the paper leaves out.",
        f"Reproduced if all three are above each of the seven other cells with a 95 % interval, corrected for seven comparisons. {SEEDS}",
        findings_grid.all_three_are_best,
        (1, 3),
    ),
    Claim(
        "C6",
        "Full fine-tuning needs the soft mask",
        "With the soft mask full fine-tuning beats LoRA; without it LoRA is ahead.",
        "Table 6, en, without and with SM: LoRA r16 72.18, 72.12; r32 72.08, 72.23; r64 71.83, 72.40; full 71.50, 73.52.",
        "LoRA ranks and full fine-tuning, each with and without the soft mask.",
        "Reproduced if the interaction (full minus LoRA, with minus without), full minus LoRA with the mask and LoRA minus full without it "
        f"are all above 0 with their 95 % intervals; contradicted if one is below. {SEEDS}",
        findings_grid.full_needs_the_mask,
        (1,),
    ),
    Claim(
        "C7",
        "A linear alpha is best",
        "alpha(t) = t/tau beats (t/tau)^2 and 1 - (1 - t/tau)^2.",
        "Table 12, multilingual / en / zh: linear 61.73 / 70.41 / 70.99; quadratic 61.50 / 70.51 / 70.81; inverse 61.43 / 70.01 / 70.37. "
        "Quadratic is ahead in English.",
        "weak.soft_mask.schedule: linear, quadratic, inverse_quadratic; mean main metric of all local tasks.",
        f"Reproduced if linear is above both others with a 95 % interval, corrected for two comparisons. {SEEDS}",
        findings_grid.linear_is_best,
        (8,),
    ),
    Claim(
        "C8",
        "Small dims keep quality (MRL)",
        "Matryoshka training lets a prefix of the vector serve in its place.",
        "Table 5 lists MRL as supported; dims 256 to 3584 are trained; no score by dim is published.",
        "R@10 at each of efficiency.dims over R@10 at full width, by task; the same trained without MRL (params/ablations/no_mrl.yaml).",
        "Reproduced if a quarter of the width keeps 90 % of the score and more than an arm without MRL keeps, both with their 95 % "
        f"intervals; contradicted if an interval lies below. {SEEDS}",
        findings.small_dims_keep_quality,
    ),
    Claim(
        "C9",
        "Faster than larger models",
        "A 1.5B model encodes several times faster than 7B embedders.",
        "Table 5, minutes: Conan-v2 (1503M) 5.14, stella-1.5B 5.54, gte-Qwen2-7B 31.78, NV-Embed-v2 33.58.",
        "Texts per second of our model and of larger peers on the same texts and machine.",
        "Reproduced at the paper's sizes only: six times a 7B model's rate. Below: directional if above the fastest larger network.",
        findings.faster_than_larger,
        (4,),
    ),
    Claim(
        "C10",
        "Numbers are badly told apart",
        "Quantities are only tokens to the model: texts that differ in a number get similarities out of step with it.",
        'Limitations: "3 fairy tales" and "5 fairy tales" get a low similarity although close in meaning; no number is published.',
        "Templated sentence pairs that differ in a number, a unit or a negation; similarity against the numeric gap. The "
        "gap is a difference or a ratio, the correlation within a sentence or over all: the one farthest from zero decides.",
        "Reproduced if the rank correlation of similarity and numeric gap is within 0.3 of zero, interval included; contradicted if the "
        f"interval lies below -0.3: similarity then falls with the gap. {SEEDS}",
        findings.numbers_badly_told_apart,
    ),
    Claim(
        "C11",
        "Distant languages are weaker",
        "Languages far from English score below its relatives.",
        "Limitations, MKQA R@20: Slavic 75.5, Germanic 74.6, Romance 73.9, Chinese 70.4, others 67.7, Korean 67.5, Arabic 65.2.",
        "Cross-lingual R@10 by query language, related to English or not; each language's share of the training text beside it.",
        f"Reproduced if related minus others is above 0 with its 95 % interval over queries. {SEEDS}",
        findings.distant_languages_weaker,
        (11,),
    ),
    Claim(
        "C12",
        "1,499,205,120 parameters",
        "The published sizes make a model of this many parameters.",
        '"1.4B" in the text; 1503M in Table 5; 1,499,205,120 on the public leaderboard.',
        "A Llama of 8 layers, hidden 3584, 32 heads, 8 KV heads, FFN 8192, 150,000 tied embeddings, built on the meta device.",
        "Reproduced if equal to the unit; contradicted if not.",
        findings.parameters_exact,
        (4,),
    ),
    Claim(
        "C13",
        "News and parallel text help",
        "News and multilingual pairs in pretraining make a better embedder.",
        "Section on pretraining data: stated; no ablation is published.",
        "pretrain.news and pretrain.parallel on and off; everything after is the same.",
        f"Reproduced if on minus off of the final mean main metric is above 0 with its 95 % interval. {SEEDS}",
        findings_grid.news_and_pairs_help,
    ),
    Claim(
        "C14",
        "Filtering weak pairs helps",
        "Dropping title-content pairs that a teacher scores low makes a better embedder.",
        "gte-Qwen2-7B-instruct scores below 0.4 are dropped; 1,766M pairs stay; no ablation is published.",
        "weak.drop_percentile: 0 and the tier's; everything else is the same.",
        f"Reproduced if filtered minus unfiltered of the final mean main metric is above 0 with its 95 % interval. {SEEDS}",
        findings_grid.filter_helps,
    ),
)
