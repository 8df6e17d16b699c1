"""What computes a task: a process of its own with the environment that its stage asks for, or this process."""

import gc
import io
import multiprocessing
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from conan_lib.errors import Stopped
from conan_lib.files import SAID
from conan_lib.params import Params
from conan_lib.stages import Stage, compute, open_stage


def environment_of(params: Params) -> dict[str, str]:
    """What another process gets beside this one's environment to be quick and to stay offline; none of it changes a result.

    The MALLOC settings keep freed memory in the process instead of giving it back and faulting it in anew: CPU training 1.2 times as fast.
    """
    return {
        "OMP_NUM_THREADS": str(params.runtime.threads),
        # on two cores threads of their own cost more than they save; on many, tokenizing alone would take longer than a GPU's step
        "TOKENIZERS_PARALLELISM": "true" if params.runtime.threads > 2 else "false",
        "RAYON_NUM_THREADS": str(params.runtime.threads),
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": "100000000000",
        "MALLOC_TOP_PAD_": "500000000",
        **({"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"} if not asks_hub(params) else {}),
    }


def asks_hub(params: Params) -> bool:
    """Whether anything of a run is on the hub: its start, a declared set, what it is decontaminated against, a suite, MKQA."""
    data, start = params.data, params.model
    return bool(
        (start is not None and start.kind == "hub")
        or any(row.hub for row in data.declared)
        or data.decontaminate
        or params.tasks.suite != "embedded"
        or params.mkqa.source == "hub"
    )


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """os.environ is `values` within the block: what a process that starts there inherits."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class Worker:
    """A process that computes stages, one after the other; it ends with the process that started it."""

    def __init__(self, params: Params):
        context = multiprocessing.get_context("spawn")
        self.answers, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there,))
        self._environment = environment_of(params)
        with environment(self._environment):
            self._process.start()
        there.close()
        self._busy = False

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def fits(self, params: Params) -> bool:
        """Whether it is there, with the environment that these parameters ask for: threads, and whether the hub may be reached."""
        return self.alive and self._environment == environment_of(params)

    def send(self, stage: Stage, log: Path) -> None:
        """Begin a stage; `answers` becomes readable when it ends."""
        self._busy = True
        with suppress(OSError):  # a dead worker says so in `answer`
            self.answers.send((stage.name, stage.params, log))

    def answer(self) -> str | None:
        """None, or what went wrong in a few words (the log has the rest), once the stage ends or the worker dies; before that, what it
        tells."""
        try:
            answer = self.answers.recv()
            self._busy = isinstance(answer, Told)
            return answer
        except (EOFError, OSError):
            self._process.join()
            return f"the worker died (exit code {self._process.exitcode}), perhaps out of memory"

    def stop(self) -> None:
        """Let an idle worker end by itself, so that it cleans up; stop one at work."""
        self.answers.close()
        if not self._busy:
            self._process.join(30)
        self._process.terminate()
        self._process.join()


class Here:
    """A worker that is this process: `execute` is called at once with what a worker is sent, and returns what a worker answers."""

    alive = True

    def __init__(self, execute: Callable[[Any, Path], str | None]):
        self._execute = execute
        self.answers, self._there = multiprocessing.Pipe()

    def fits(self, params: Params) -> bool:
        return True

    def send(self, what: Any, log: Path) -> None:
        self._there.send(self._execute(what, log))

    def answer(self) -> str | None:
        return self.answers.recv()

    def stop(self) -> None:
        self.answers.close()
        self._there.close()


class Told(str):
    """A line for the user from a stage that is still at work."""


class Log(io.TextIOWrapper):
    """A log of which lines for the user are passed on."""

    def __init__(self, path: Path, tell: Callable[[Told], None]):
        super().__init__(open(path, "ab"), encoding="utf-8", line_buffering=True)  # noqa: SIM115 - closed with this one
        self._tell = tell

    def write(self, text: str) -> int:
        """Write, and tell what begins as a line for the user does."""
        if text.startswith(SAID):
            self._tell(Told(text.strip()))
        return super().write(text)


def compute_logged(stage: Stage, log: Path, tell: Callable[[Told], None] = lambda line: None) -> str | None:
    """Compute a stage here; what it prints goes to the log, and what it tells the user to `tell`, too."""
    with Log(log, tell) as file, redirect_stdout(file), redirect_stderr(file):
        try:
            compute(stage)
        except Stopped as stopped:
            return str(stopped)
        except Exception as error:  # whatever it is, what does not need this stage goes on
            traceback.print_exc()
            return " ".join(f"{type(error).__name__}: {error}".split())
        finally:
            gc.collect()  # a trainer and its model refer to each other
            if "torch" in sys.modules:
                sys.modules["torch"].cuda.empty_cache()  # others may share the GPU
    return None


def _serve(calls: Connection) -> None:
    """The worker's loop; ends with the process that started it."""
    end_with_parent()
    while True:
        try:
            name, params, log = calls.recv()
        except (EOFError, KeyboardInterrupt):
            return
        calls.send(compute_logged(open_stage(name, params), log, calls.send))


def end_with_parent() -> None:
    """In a process of multiprocessing: end it as soon as the process that started it is gone, however that ended."""
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()
