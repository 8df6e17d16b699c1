"""Sections on what was trained, stage by stage, and on the run itself."""

import pandas as pd

from conan_lib.report import beside, figures, figures_eval, figures_lm, seeds, tables, whitening
from conan_lib.report.blocks import Block, Figure, Missing, Section, Table, Text, evaluated, figure, scored, table
from conan_lib.report.run import Run


def training_sections(run: Run) -> list[Section]:
    """What it learned, then each stage."""
    return [
        Section("learned", "What it learned, stage by stage", tuple(_learned(run)), "07_eval", "Learned"),
        Section("recipe", "Training recipe", tuple(beside.recipe(run)), None, "Recipe"),
        Section("tokenizer", "Tokenizer", tuple(_tokenizer(run)), "02_tokenizer", "Tokenizer"),
        Section("pretrain", "Stage 1: pretraining", tuple(_pretrain(run)), "03_pretrain", "Stage 1", ("C13",)),
        Section("sft", "Stage 2: instruction tuning", tuple(_sft(run)), "04_sft", "Stage 2"),
        Section("weak", "Stage 3: weakly supervised", tuple(_weak(run)), "05_weak", "Stage 3"),
        Section("supervised", "Stage 4: supervised", tuple(_supervised(run)), "06_supervised", "Stage 4"),
    ]


def run_section(run: Run) -> Section:
    """Stages, artefacts, environment and parameters: where every key leads."""
    environment = tables.environment_table(run.manifests.values())
    parameters = pd.concat([tables.parameters_table(run.stages[name]) for name in run.stages]).drop_duplicates("parameter")
    keys, stages = tuple(run.key(name) for name in run.manifests), tables.stages_table(run.stages)
    blocks: list[Block] = [
        Figure("pipeline", "The stages, and what feeds them.", figures.pipeline(), ("conan_lib.stages",)),
        figure(run, "budget", "Wall-clock seconds by stage.", (), lambda: figures.budget(run.stages)),
        Table("stages", "Stages, artefacts, seconds, seeds.", stages, ("manifests",), "not recorded", anchors=("artefact",)),
        _cells(run),
        Table("environment", "Where the stages ran; several values where they differ.", environment, keys, folded=True)
        if len(environment)
        else Missing("Environment", "no stage has finished"),
        Table("parameters", f"Parameters as run, from {run.params_file}.", parameters, (run.params_file,), "none", folded=True),
    ]
    return Section("run", "This run: budget, artefacts, environment, parameters", tuple(blocks), None, "This run")


def _cells(run: Run) -> Block:
    rows = [
        (ablation.grid.params.name, name, seed, *(f"{s.artefact.stage}/{s.key}" for s in (cell.stages["supervised"], cell.score)))
        for ablation in run.ablations.values()
        for name, runs in ablation.finished.items()
        for seed, cell in runs.items()
    ]
    if not rows:
        return Missing("Artefacts of the grids", "no cell of a grid of this tier has finished; the sections above have the commands")
    frame = pd.DataFrame(rows, columns=["grid", "cell", "seed", "supervised", "score"])
    return Table("cells", "Finished cells of the grids and their artefacts.", frame, ("manifests",), anchors=("supervised", "score"))


def _learned(run: Run) -> list[Block]:
    candidates, languages = run.params.data.eval_candidates, len(run.params.data.languages) - 1
    return [
        Text(
            f"Held-out cross-lingual retrieval: a verse in one of {languages} languages must find its {run.pivot} translation among "
            f"{candidates:,} verses of books that no stage trained on. R@10 is the share of queries whose translation is among the ten "
            "nearest."
        ),
        evaluated(
            run,
            "checkpoints",
            "Cross-lingual R@10 of each checkpoint, as it is and whitened; lines: peers, as they are.",
            figures_eval.checkpoints,
        ),
        evaluated(run, "languages", "Cross-lingual R@10 by language of the query.", figures_eval.languages),
        scored(
            run, "crosslingual", "Cross-lingual R@10 by query language, mean with its 95 % bootstrap interval.", tables.crosslingual_table
        ),
        table(
            run,
            "differences",
            "Each checkpoint against the one before it on the same queries, paired.",
            ("evaluate",),
            tables.differences_table,
        ),
        *whitening.blocks(run),
        *seeds.blocks(run),
        table(run, "bits_per_byte", "Held-out bits per byte by language, before and after pretraining.", ("pretrain",), tables.bits_table),
    ]


def _tokenizer(run: Run) -> list[Block]:
    caption = "Tokens per word and bytes per token by language."
    return [
        figure(run, "fertility", caption, ("tokenizer",), figures_lm.fertility),
        table(run, "fertility", caption, ("tokenizer",), tables.fertility_table, "no words to count"),
    ]


def _first_stage(run: Run) -> str:
    if run.params.pretrain is None:
        return f"The run starts from {run.params.model.start}, which passes through this stage as it is: before and after are the same."
    begins = "A Llama from random weights" if run.params.model is None else f"On from {run.params.model.start}"
    return f"{begins}, next-token loss on packed documents that do not attend to each other."


def _pretrain(run: Run) -> list[Block]:
    return [
        Text(_first_stage(run)),
        figure(run, "packing", "Packed documents do not attend to each other.", ("pretrain",), figures_lm.packed_block),
        figure(run, "pretrain_loss", "Loss and learning rate.", ("pretrain",), figures_lm.training_loss),
        figure(run, "pretrain_bits", "Held-out bits per byte, before and after.", ("pretrain",), figures_lm.bits_per_byte),
        _results(run, "pretrain"),
    ]


def _sft(run: Run) -> list[Block]:
    return [
        Text(
            "Instruction, input, output; the loss counts the output alone." + (" No step was trained here." if not run.params.sft else "")
        ),
        figure(run, "sft_loss", "Loss and learning rate.", ("sft",), figures_lm.training_loss),
        table(run, "sft_bits", "Held-out bits per byte by language, before and after.", ("sft",), tables.bits_table),
        table(run, "generations", "Greedy outputs of held-out records.", ("sft",), tables.generations_table, "empty", folded=True),
        _results(run, "sft"),
    ]


def _weak(run: Run) -> list[Block]:
    return [
        Text(
            "Title-content pairs; InfoNCE with in-batch negatives while the mask opens from causal to bidirectional. One run with one "
            "schedule: it shows the mechanics, and cannot tell their merit."
        ),
        figure(
            run,
            "weak_loss",
            "InfoNCE loss (thin: each row, thick: running mean) and alpha over steps.",
            ("weak",),
            figures.contrastive_loss,
        ),
        table(run, "weak_losses", "First and last loss.", ("weak",), tables.loss_table),
        _results(run, "weak"),
    ]


def _supervised(run: Run) -> list[Block]:
    return [
        Text("Bidirectional; task-homogeneous batches, Matryoshka dims, hard negatives that are swapped once they have become easy."),
        figure(run, "supervised_loss", "Loss by task (thin: each row, thick: running mean).", ("supervised",), figures.contrastive_loss),
        table(run, "supervised_losses", "First and last loss by task.", ("supervised",), tables.loss_table),
        *_rising(run),
        _results(run, "mine"),
        _results(run, "supervised"),
    ]


def _rising(run: Run) -> list[Block]:
    """The tasks that the supervised stage did not learn: their loss is higher at its end."""
    found, steps = run.results("supervised").get("loss") or {}, run.results("supervised").get("steps") or {}
    rising = [
        f"{task} from {loss['first']:.1f} to {loss['last']:.1f} in {steps.get(task, '?')} of {run.params.supervised.max_steps} steps"
        for task, loss in found.items()
        if loss["last"] > loss["first"]
    ]
    return [Text(f"The loss rises: {'; '.join(rising)}. This stage does not learn it beside the others.")] if rising else []


def _results(run: Run, name: str) -> Block:
    return table(run, f"{name}_results", f"Numbers that stage {name} committed.", (name,), tables.results_table, folded=True)
