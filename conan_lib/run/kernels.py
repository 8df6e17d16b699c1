"""Kernels that start warm: one process imports what the notebooks import, once, and every kernel is a fork of it; so is the report's build.

torch, transformers, sentence-transformers and mteb take many seconds to import, and there are eight notebooks. The process is
multiprocessing's fork server: a fork has the imported modules and nothing else, no state of another notebook. The first kernel starts in
the ordinary way and computes while that process imports. Where forking is not sound (anything but Linux) all do, with the same results.
"""

import atexit
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any

from conan_lib.errors import RunError
from conan_lib.run.worker import end_with_parent, environment

REPORT = "conan_lib.report.build"
RETRIES = 5


class WarmStart:
    """The process that imports and forks; none where there are no notebooks. It ends with this process."""

    def __init__(self, notebooks: list[Path], values: dict[str, str]):
        self.context, self.first = None, True
        # as a kernel's; and frozen modules would make its debugger complain
        self._values = values | {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        if notebooks and sys.platform == "linux":
            text = "".join(path.read_text(encoding="utf-8") for path in notebooks)
            modules = ["ipykernel.kernelapp", *re.findall(r"from (conan_lib[\w.]*) import", text)]
            self.context = multiprocessing.get_context("forkserver")
            self.context.set_forkserver_preload(list(dict.fromkeys(modules)))
            self._ensure_running()

    def _ensure_running(self) -> None:
        """Start the process, or another one where it has died."""
        with environment(self._values), open(os.devnull, "w") as nowhere:
            stderr = os.dup(2)
            os.dup2(nowhere.fileno(), 2)  # what imports complain about is not the run's to say; a kernel opens its own
            ensure_running()
            os.dup2(stderr, 2)
            os.close(stderr)

    def fork(self, function: Callable[..., None], *arguments: Any) -> multiprocessing.Process:
        """A process that has the imports and calls a function."""
        for _ in range(RETRIES):
            self._ensure_running()
            process = self.context.Process(target=function, args=arguments)
            try:
                with environment(self._values):  # it makes sure once more, and starts another one where this one has died just now
                    process.start()
            except (EOFError, ConnectionError):  # the process that forks has just died, which the system may not know yet
                time.sleep(0.1)
            else:
                return process
        raise RunError("the process that starts kernels dies again and again, perhaps out of memory; run it again to go on")

    def call(self, function: Callable[[], None]) -> None:
        """Call a function in a fork, which need not import again; here, where that fails or this process has the imports already."""
        if self.context and REPORT not in sys.modules:
            process = self.fork(_call, function, os.getcwd())
            process.join()
            if process.exitcode == 0:
                return
        function()


def kernel_manager(values: dict[str, str], warm: WarmStart) -> type:
    """A kernel manager class for papermill whose kernels get `values` in their environment, for which papermill has no argument."""
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_client.provisioning import LocalProvisioner

    class WarmProvisioner(LocalProvisioner):
        async def launch_kernel(self, cmd: list[str], **options: Any):
            arguments = cmd[cmd.index("ipykernel_launcher") + 1 :]
            process = warm.fork(_become_kernel, arguments, options["env"], str(options.get("cwd") or os.getcwd()))
            self.process, self.pid = _Popen(process), process.pid
            return self.connection_info

    class KernelManager(AsyncKernelManager):
        kernel_spec = KernelSpec(**get_kernel_dict())  # of this Python, whoever else has put a "python3" where jupyter looks

        async def start_kernel(self, **options):
            if warm.context and not warm.first and self.provisioner is None:
                self.provisioner = WarmProvisioner(kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self)
            warm.first = False
            await super().start_kernel(**options, env=os.environ | values, transport_encryption="auto")

    return KernelManager


class _Popen:
    """The part of subprocess.Popen that jupyter_client uses."""

    stdin = stdout = stderr = None

    def __init__(self, process: multiprocessing.Process):
        self._process, self.pid = process, process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int:
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def _call(function: Callable[[], None], folder: str) -> None:
    end_with_parent()
    os.chdir(folder)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        function()
        os._exit(0)


def _become_kernel(arguments: list[str], values: dict[str, str], folder: str) -> None:
    from ipykernel.kernelapp import launch_new_instance

    end_with_parent()
    os.setpgid(0, 0)  # Ctrl-C goes to the run, which ends its kernels
    os.environ.clear()
    os.environ.update(values)
    os.chdir(folder)
    launch_new_instance(argv=[*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"])
    # Python would now take apart every module, on pages that a fork must copy for it: seconds, after which jupyter_client loses patience
    atexit._run_exitfuncs()
    os._exit(0)
