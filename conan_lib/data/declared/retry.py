"""What fails for a while: a network file system or the hub that gives no answer is asked again, with longer and longer pauses."""

import errno
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TypeVar

from huggingface_hub import errors
from tqdm import tqdm

from conan_lib.errors import UserError

TRIES = 6
"""Failures in a row without a new record, after which an error counts."""
WAIT = 1.0
"""Seconds before the second try; each further pause is twice as long."""
PASSING = {errno.EIO, errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH}
T = TypeVar("T")


def passing(error: Exception) -> bool:
    """Whether an error may be gone soon: no answer, an answer of an overloaded server, or a disk of a network that is away."""
    if isinstance(error, (FileNotFoundError, errors.OfflineModeIsEnabled)):
        return False
    if (status := getattr(getattr(error, "response", None), "status_code", None)) is not None:
        return status in (408, 429) or status >= 500
    return isinstance(error, (ConnectionError, TimeoutError, errors.HTTPError)) or getattr(error, "errno", None) in PASSING


def retried(read: Callable[[], Iterator[T]], place: str) -> Iterator[T]:
    """What `read()` yields, each item once, though it may fail on the way: it is begun again and passes over what there was.

    Args:
        read: yields the same items each time.
        place: how a message calls it.

    Raises:
        UserError: an error has come TRIES times in a row.
        Exception: what else `read` raises.
    """
    done = failed = 0
    while True:
        try:
            for item in islice(read(), done, None):
                done, failed = done + 1, 0
                yield item
            return
        except (OSError, errors.HTTPError) as error:
            failed += 1
            if not passing(error):
                raise
            if failed == TRIES:
                why = getattr(error, "strerror", None) or type(error).__name__
                raise UserError(f"{place}: {why} after {TRIES} tries: see that it can be read, and start again") from None
            pause = WAIT * 2 ** (failed - 1)
            tqdm.write(f"{place}: {type(error).__name__}: {error}: trying again in {pause:.0f} s")
            time.sleep(pause)
