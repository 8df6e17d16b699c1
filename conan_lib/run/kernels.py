"""Kernels that start warm: one process imports what the notebooks import, once, and every kernel is a fork of it; so is the report's build.

torch, transformers and mteb take ten seconds to import, and there are eight notebooks. A fork has the imported modules and nothing else:
its own memory, environment and folder, no state of another notebook. The first kernel starts in the ordinary way and computes while that
process imports. Where forking is not sound (anything but Linux) all do, with the same results.
"""

import ast
import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from typing import Any


def imports_of(notebooks: Iterable[Path]) -> list[str]:
    """What the notebooks import, as "module" or "module:name", each once, in order."""
    import nbformat

    found = []
    for path in notebooks:
        for cell in nbformat.read(path, as_version=4).cells:
            with suppress(SyntaxError):  # the notebook's own run says so
                body = ast.parse(cell.source).body if cell.cell_type == "code" else []
                for node in body:
                    if isinstance(node, ast.Import):
                        found += [alias.name for alias in node.names]
                    elif isinstance(node, ast.ImportFrom):
                        found += [f"{node.module}:{alias.name}" for alias in node.names]
    return list(dict.fromkeys(found))


@contextmanager
def kernel_manager(environment: dict[str, str], imports: list[str], warm: bool = True) -> Iterator[type]:
    """A kernel manager class for papermill whose kernels get `environment` (papermill has no argument for it) and, where `warm`, are from
    the second on forks of one process that has made `imports`. That process ends with the block; it is the class' `nursery`, None where all
    kernels start in the ordinary way."""
    from jupyter_client.manager import AsyncKernelManager

    nursery = Nursery(imports, environment) if warm and sys.platform == "linux" else None
    first = True

    class KernelManager(AsyncKernelManager):
        async def start_kernel(self, **options):
            nonlocal first
            if nursery and self.provisioner is None and not first:
                self.provisioner = _warm_provisioner(self, nursery)
            first = False
            await super().start_kernel(**options, env=environment, transport_encryption="auto")

    KernelManager.nursery = nursery
    try:
        yield KernelManager
    finally:
        if nursery:
            nursery.close()


class Nursery:
    """The process that imports and forks, seen from the pipeline: one JSON line to it, one back. It ends when the pipeline does."""

    def __init__(self, imports: list[str], environment: dict[str, str]):
        self.channel, theirs = socket.socketpair()
        serving = f"from conan_lib.run.kernels import serve; serve({theirs.fileno()}, {imports!r})"
        self.process = subprocess.Popen(
            # -c and not -m: its sys.path is then that of a kernel
            [sys.executable, "-Xfrozen_modules=off", "-c", serving],
            env={**environment, "MPLBACKEND": "module://matplotlib_inline.backend_inline"},
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C goes to the pipeline, which ends its kernels
        )
        theirs.close()
        self.lines = self.channel.makefile("r", encoding="utf-8")

    def start(self, arguments: list[str], environment: dict[str, str], folder: str) -> "Fork":
        """A kernel with the arguments of `python -m ipykernel_launcher`, once the imports are made."""
        return Fork(self, self.ask(arguments=arguments, environment=environment, folder=str(folder)))

    def call(self, function: str, *arguments: str) -> bool:
        """Call `module:name` silently in a fork; False where it raised or the process is gone: call it here, then, and see why."""
        try:
            pid = self.ask(call=function, arguments=arguments, folder=os.getcwd())
            while (code := self.ask(poll=pid)) is None:
                time.sleep(0.05)
        except (OSError, ValueError):
            return False
        return code == 0

    def ask(self, **request: Any) -> Any:
        """Raises OSError or ValueError where the process is gone."""
        self.channel.sendall(json.dumps(request).encode() + b"\n")
        return json.loads(self.lines.readline())

    def close(self) -> None:
        self.lines.close()
        self.channel.close()
        self.process.terminate()  # it may still be importing
        self.process.wait()


class Fork:
    """A kernel's process, with the part of subprocess.Popen that jupyter_client uses."""

    stdin = stdout = stderr = None

    def __init__(self, nursery: Nursery, pid: int):
        self.nursery, self.pid, self.returncode = nursery, pid, None

    def poll(self) -> int | None:
        if self.returncode is None:
            try:
                self.returncode = self.nursery.ask(poll=self.pid)
            except (OSError, ValueError):  # the nursery died, and its kernels with it
                self.returncode = -signal.SIGKILL
        return self.returncode

    def wait(self) -> int:
        """jupyter_client waits only for a process that `poll` has seen end."""
        return self.poll()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def _warm_provisioner(manager, nursery: Nursery):
    from jupyter_client.provisioning import LocalProvisioner

    class WarmProvisioner(LocalProvisioner):
        async def launch_kernel(self, cmd: list[str], **options: Any):
            arguments = cmd[cmd.index("ipykernel_launcher") + 1 :]
            self.process = nursery.start(arguments, options["env"], options.get("cwd") or os.getcwd())
            self.pid = self.pgid = self.process.pid
            return self.connection_info

    return WarmProvisioner(kernel_id=manager.kernel_id, kernel_spec=manager.kernel_spec, parent=manager)


def serve(descriptor: int, imports: list[str]) -> None:
    """The nursery itself: import, then fork a kernel or a call or tell an exit code for each line, until the pipeline is gone."""
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        for name in ("ipykernel.kernelapp", *imports):
            module, _, attribute = name.partition(":")
            with suppress(Exception):  # a notebook that cannot import says so itself, in its cell
                getattr(import_module(module), attribute or "__name__")
    channel = socket.socket(fileno=descriptor)
    requests = _requests(channel)
    for request in requests:
        if "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        elif answer := os.fork():
            with suppress(ProcessLookupError, PermissionError):  # signals go to the group, so it must be there before the answer is
                os.setpgid(answer, answer)
        else:
            requests.close()
            channel.close()
            return _call(**request) if "call" in request else _become_kernel(**request)
        with suppress(ConnectionError):  # the pipeline is gone, and there is no next request
            channel.sendall(json.dumps(answer).encode() + b"\n")


def _requests(channel: socket.socket) -> Iterator[dict]:
    """What the pipeline asks, until it is gone."""
    with suppress(ConnectionError), channel.makefile("r", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _call(call: str, arguments: list[str], folder: str) -> None:
    """Call a function and leave; leave too when the nursery does, which ends with the pipeline."""
    nursery = os.getppid()

    def watch() -> None:
        while os.getppid() == nursery:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    os.chdir(folder)
    module, _, name = call.partition(":")
    code = 1
    try:
        with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere), redirect_stdout(nowhere):
            getattr(import_module(module), name)(*arguments)
        code = 0
    finally:
        os._exit(code)


def _become_kernel(arguments: list[str], environment: dict[str, str], folder: str) -> None:
    from ipykernel.kernelapp import launch_new_instance

    with suppress(PermissionError):
        os.setpgid(0, 0)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    # the kernel ends by itself when its parent does; ipykernel read the parent from the environment when it was imported
    launch_new_instance(argv=[*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"])
    # Python would now take apart every module, on pages that a fork must copy for it: seconds, after which jupyter_client loses patience.
    # Forks of multiprocessing leave in this way too.
    atexit._run_exitfuncs()
    os._exit(0)
