"""The paper's suites by their names in mteb, for whoever has a hub, and the prompts of their tasks."""

import mteb
from huggingface_hub import snapshot_download
from mteb.types import PromptType

from conan_lib.data.declared.hub import HUB_ERRORS, SWITCHES
from conan_lib.errors import UserError


def suite_tasks(suite: str) -> list:
    """The tasks of one of the paper's suites, by its name in mteb; nothing is downloaded."""
    tasks = list(mteb.get_tasks(tasks=[suite]) if suite == "MKQARetrieval" else mteb.get_benchmark(suite).tasks)
    for task in tasks:
        task.kind, task.items = None, None
    return tasks


def load_suite(suite: str) -> list:
    """`suite_tasks`, once the hub has answered for the first data set.

    Raises:
        UserError: the hub cannot be reached, or is switched off, and the first data set is not in its local cache.
    """
    tasks = suite_tasks(suite)
    dataset = tasks[0].metadata.dataset
    try:
        snapshot_download(dataset["path"], revision=dataset["revision"], repo_type="dataset", allow_patterns="README.md", etag_timeout=5)
    except HUB_ERRORS as error:
        raise UserError(
            f"tasks.suite: {suite} needs the Hugging Face hub, which gave no {dataset['path']} ({type(error).__name__}): "
            f"connect to it (and unset {' and '.join(SWITCHES)}), or set tasks.suite to embedded"
        ) from None
    return tasks


def check_prompts(prompts: dict[str, str], tasks: list) -> None:
    """Every prompt must be for something: mteb would pass over a misspelt key in silence.

    Raises:
        UserError: a key is not one of mteb's for these tasks.
    """
    sides = [side.value for side in PromptType]
    known = {name for task in tasks for name in (task.metadata.name, task.metadata.type)}
    for key in prompts:
        name, _, side = key.rpartition("-")
        if key not in known and key not in sides and not (name in known and side in sides):
            raise UserError(
                f"tasks.prompts: {key} is no task, no type of task and not one of {', '.join(sides)}: known: {', '.join(sorted(known))}"
            )
