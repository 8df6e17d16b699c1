"""The Hugging Face hub: whether it is in reach, which commit a revision stands for, and the records of a data set, streamed.

Only data is read: `datasets` runs no code of a data set.
"""

import os
from collections.abc import Iterator
from functools import cache

from huggingface_hub import HfApi, constants, errors, get_session

from conan_lib.data.declared.retry import retried
from conan_lib.errors import UserError
from conan_lib.params.sets import DeclaredSet

SWITCHES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
HUB_ERRORS = (OSError, errors.HTTPError)
"""What the hub's clients raise where they get no answer: HfHubHTTPError, OfflineModeIsEnabled, LocalEntryNotFoundError and `datasets`'
ConnectionError and DatasetNotFoundError are OSErrors; HTTPError is the base of whatever the transport of the installed version raises."""
SHUFFLED = 1000
"""Records in the buffer of the seeded shuffle: the head of a stream may be sorted."""


def reach(wanted: str, otherwise: str) -> None:
    """One request with a short limit: the clients of the hub retry for minutes.

    Args:
        wanted: the parameter that asks for the hub, "mkqa.source: hub".
        otherwise: what to do without it, "use mkqa.source: embedded".

    Raises:
        UserError: the hub is switched off or cannot be reached.
    """
    offline = next((name for name in SWITCHES if os.environ.get(name, "").lower() in ("1", "true", "yes", "on")), "")
    if offline:
        raise UserError(f"{wanted}, but {offline} is set: unset it, or {otherwise}")
    try:
        get_session().head(constants.ENDPOINT, timeout=5).raise_for_status()
    except HUB_ERRORS as error:
        raise UserError(f"{wanted}, but {constants.ENDPOINT} cannot be reached ({type(error).__name__}): connect, or {otherwise}") from None


def resolved(declared: DeclaredSet) -> str:
    """The commit that a hub set's revision stands for: itself where it is one, else what the hub says when a process asks first.

    Raises:
        UserError: the hub does not know the set or the revision, or gives no answer.
    """
    if declared.pinned:
        return declared.hub["revision"]
    try:
        return _commit(declared.hub["path"], declared.hub["revision"] or None)
    except (*HUB_ERRORS, ValueError) as error:
        raise UserError(f"{declared.from_}: {_short(error)}: correct its name or revision, or save it as files") from None


@cache
def _commit(path: str, revision: str | None) -> str:
    """Asked once: what is recorded must be what was read, though a branch moves on."""
    return HfApi().dataset_info(path, revision=revision, timeout=10).sha


def stream(declared: DeclaredSet, lang: str, commit: str, seed: int) -> Iterator[tuple[str, dict]]:
    """(place, fields) of a data set's records, in a seeded, buffered shuffle; only what is taken is fetched, and asked for again where the
    hub gives no answer.

    Raises:
        UserError: package datasets is missing, or the set, its config or its split cannot be read.
    """
    try:
        from datasets import load_dataset
    except ImportError:
        raise UserError(f"{declared.from_}: sets of the hub need the package datasets: pip install datasets") from None
    hub = declared.hub
    config = hub["config"].replace("{lang}", lang) or None
    where = f"{hub['path']}@{commit[:12]}" + (f"#{config}" if config else "")

    def shuffled() -> Iterator[dict]:
        rows = load_dataset(hub["path"], config, split=declared.split, streaming=True, revision=commit)
        yield from rows.shuffle(seed=seed, buffer_size=SHUFFLED)

    try:
        for number, row in enumerate(retried(shuffled, where), 1):
            yield f"{where}, record {number}", row
    except (*HUB_ERRORS, ValueError, KeyError) as error:
        raise UserError(f"{where}: {_short(error)}: correct its name, config or split, or save it as files") from None


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
